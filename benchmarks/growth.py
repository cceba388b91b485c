"""How do the costs grow with the catalog? Catalogs of 100 to 100 000 small datasets: plan, fetch, and warm checks."""

from __future__ import annotations

import shutil
from typing import Any

from _harness import HERE, Run, arguments, python, run_process, save, workplace
from _objects import running_store, write_job
from _report import table

COUNTS = (100, 1_000, 10_000, 100_000)
STEPS = {"cold plan": "plan", "first fetch_all": "fetch", "warm fetch_all": "fetch", "warm status": "status"}
SIZE = 1024


def main() -> None:
    options = arguments(datasets=tuple(map(str, COUNTS)), rounds="(1: a process for each step)")
    counts = [int(count) for count in options.datasets]
    if options.quick:
        counts = [count for count in counts if count <= 1000]
    results: dict[str, Any] = {}
    rows = []
    with workplace() as place, running_store(place, [(max(counts), SIZE)]) as store:
        keys = list(store.objects[max(counts), SIZE].digests)
        for count in counts:
            cache = place / "cache"
            job = write_job(
                place / "job.json",
                endpoint=store.url("http"),
                bucket=store.bucket,
                keys=keys[:count],
                size=SIZE,
                target=str(cache),
                warm=keys[0],
            )
            runs: dict[str, Run] = {}
            for name, step in STEPS.items():
                command = [python(), str(HERE / "contenders" / "catalog_steps.py"), job, step]
                runs[name] = run_process(command, dict(store.environment))
            shutil.rmtree(cache)
            results[str(count)] = {
                name: {"call_seconds": run.call_seconds, "peak_bytes": run.peak_bytes, **run.said}
                for name, run in runs.items()
            }
            rows.append([f"{count}", f"{runs['cold plan'].said['construct_seconds']:.3f}"])
            for run in runs.values():
                rows[-1] += [f"{run.call_seconds:.2f}", f"{run.peak_bytes / 1e6:.0f}"]
            print(f"growth {rows[-1]}", flush=True)
    head = ["datasets", "made, s", *(text for name in STEPS for text in (f"{name}, s", "MB"))]
    printed = table(head, rows)
    print(printed)
    save(options, "growth", results, [printed])


if __name__ == "__main__":
    main()
