"""What does `fetch` cost within `max_age`, where no request is sent? Microseconds of one of 2000 calls in a process."""

from __future__ import annotations

from _harness import HERE, arguments, in_turn, python, run_process, save, spread, workplace
from _objects import running_store, write_job
from _report import table


def main() -> None:
    options = arguments(rounds="(5)")
    with workplace() as place, running_store(place, []) as store:
        keys = list(store.objects[1, 1].digests)
        job = write_job(
            place / "job.json",
            endpoint=store.url("http"),
            bucket=store.bucket,
            keys=keys,
            size=1,
            target=str(place / "cache"),
            warm=None,
        )
        command = [python(), str(HERE / "contenders" / "catalog_steps.py"), job, "window"]
        rounds = options.n or (1 if options.quick else 5)
        runs = in_turn({"fetch": lambda: run_process(command, dict(store.environment))}, rounds, label="max_age")
    results = {kind: spread([run.said[kind] for run in runs["fetch"]]) for kind in ("async", "sync")}
    rows = [[kind, *(f"{v * 1e6:.0f}" for v in values.values())] for kind, values in results.items()]
    printed = table(["fetch within max_age", "µs", "least", "most"], rows)
    print(printed)
    save(options, "within_max_age", results, [printed])


if __name__ == "__main__":
    main()
