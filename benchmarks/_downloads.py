"""How is a download compared? One work after the other, each contender in turn, in processes of their own.

Two things are measured: `whole` is a process from its start to its end; `call` is the call in it, after the libraries
were imported, the client made, and one other object asked for.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from _contenders import CONTENDERS, MIB, ONLY_IF_NAMED, command_of, downloaded, has_warm_call, takes_part
from _harness import Run, arguments, digest_of, in_turn, run_process, save, summary, workplace
from _objects import Store, running_store, write_job
from _report import downloads_table


@dataclass(frozen=True, slots=True)
class Work:
    """Which objects come from where, and the options that do best there: contender → its arguments."""

    server: str
    count: int
    size: int
    rounds: int
    settings: Mapping[str, Sequence[str]]


def compare(script: str, works: Mapping[str, Work], contenders: Sequence[str] = CONTENDERS) -> None:
    """Measure what the command line chooses, print a table of each work, and keep the figures."""
    options = arguments(
        works=tuple(works), contenders=contenders, measure=("whole", "call"), rounds="(3)", left_out=ONLY_IF_NAMED
    )
    chosen = {name: quick(works[name]) if options.quick else works[name] for name in options.works}
    results: dict[str, dict[str, Any]] = {}
    tables = []
    with workplace() as place, running_store(place, [(work.count, work.size) for work in chosen.values()]) as store:
        for work_name, work in chosen.items():
            if store.endpoints is None and work.server != "http":
                continue  # a real bucket is as far as it is
            results[work_name] = {}
            for measured in options.measure:
                processes = {
                    name: process(name, work, store, place, is_whole=measured == "whole")
                    for name in options.contenders
                    if takes_part(name, work.settings, is_stand_in=store.endpoints is not None)
                    if measured == "whole" or has_warm_call(name)
                }
                runs = in_turn(processes, options.n or work.rounds, label=f"{work_name} {measured}")
                for name, values in runs.items():
                    results[work_name].setdefault(name, {})[measured] = summary(values)
            tables.append(downloads_table(work_name, results[work_name]))
            print(f"{tables[-1]}\n", flush=True)
    save(options, script, results, tables)


def quick(work: Work) -> Work:
    """Give a work of the same kind that takes a moment."""
    size = min(work.size, 32 * MIB)
    return replace(work, count=min(work.count, 100 * MIB // size, 100), size=size, rounds=1)


def process(contender: str, work: Work, store: Store, place: Path, *, is_whole: bool) -> Callable[[], Run]:
    """Give what runs a contender once and checks the files that it has made."""
    objects = store.objects[work.count, work.size]
    url = store.url(work.server)

    # A file system is slow to make files where it has just removed thousands of others; that would measure the round
    # before. So small ones stay until all is over.
    stays = work.size < MIB and work.count > 1

    def run() -> Run:
        target = Path(tempfile.mkdtemp(prefix="target-", dir=place))
        job = write_job(
            place / "job.json",
            endpoint=url,
            bucket=store.bucket,
            keys=list(objects.digests),
            size=work.size,
            target=str(target),
            warm=None if is_whole else next(iter(store.objects[1, 1].digests)),
        )
        command = command_of(contender, work.settings, job=job, objects=objects, store=store, url=url, target=target)
        try:
            result = run_process(command, dict(store.environment))
            for key, digest in objects.digests.items():
                path = downloaded(contender, store, target, key)
                if path.stat().st_size != work.size or digest_of(path) != digest:
                    raise RuntimeError(f"{path} has not the bytes of {key}")
        finally:
            if not stays:
                shutil.rmtree(target)
        return result

    return run
