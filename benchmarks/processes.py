"""What do 8 processes cost that fetch one object of 1 GiB at once into one cache? Beside a single one.

What went over the wire is what nginx says that it sent.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _harness import HERE, Run, arguments, digest_of, in_turn, python, save, summary, workplace
from _objects import running_store, write_job
from _report import seconds, table

PROCESSES = 8


def at_once(command: list[str], count: int, environment: dict[str, str]) -> Run:
    """Run a program several times at once; the time until the last one has ended, the CPU of all, the largest peak."""
    begin = time.perf_counter()
    children = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(count)]
    cpu, peak, failed = 0.0, 0, 0
    for child in children:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        failed += child.returncode != 0
        cpu += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss * 1024)
    if failed:
        raise RuntimeError(f"{failed} of {count} processes failed; their own words are above")
    return Run(time.perf_counter() - begin, None, cpu, peak)


def main() -> None:
    options = arguments(rounds="(3)")
    size = (64 if options.quick else 1024) << 20
    with workplace() as place, running_store(place, [(1, size)]) as store:
        ((key, digest),) = store.objects[1, size].digests.items()
        log = store.endpoints.access_log if store.endpoints else None
        sent: dict[int, list[int]] = {1: [], PROCESSES: []}

        def fetching(count: int) -> Callable[[], Run]:
            def run() -> Run:
                target = place / "cache"
                job = write_job(
                    place / "job.json",
                    endpoint=store.url("logged"),
                    bucket=store.bucket,
                    keys=[key],
                    size=size,
                    target=str(target),
                    warm=None,
                )
                before = bytes_sent(log)
                command = [python(), str(HERE / "contenders" / "with_datacachalog.py"), job, "sync"]
                result = at_once(command, count, dict(store.environment))
                sent[count].append(bytes_sent(log) - before)
                if digest_of(target / store.bucket / key) != digest:
                    raise RuntimeError("the cached file has not the object's bytes")
                shutil.rmtree(target)
                return result

            return run

        contenders = {f"{count} process{'es' * (count > 1)}": fetching(count) for count in sent}
        runs = in_turn(contenders, options.n or (1 if options.quick else 3), label="processes")
    results: dict[str, Any] = {}
    rows = []
    for (name, values), of_count in zip(runs.items(), sent.values(), strict=True):
        figures = results[name] = {**summary(values), "bytes_sent": max(of_count)}
        peak = figures["peak_bytes"]["median"] / 1e6
        cpu = figures["cpu_seconds"]["median"]
        times = f"{max(of_count) / size:.3f}"
        rows.append([name, seconds(figures["wall_seconds"]), f"{cpu:.2f}", f"{peak:.0f}", times])
    printed = table(
        [f"{size >> 20} MiB at once", "until the last, s", "CPU, s", "peak of one, MB", "times its bytes"], rows
    )
    print(printed)
    save(options, "processes", results, [printed])


def bytes_sent(log: Path | None) -> int:
    """Sum up what the server has sent; 0 where nobody counts."""
    if log is None:
        return 0
    return sum(int(line.split()[2]) for line in log.read_text().splitlines())


if __name__ == "__main__":
    main()
