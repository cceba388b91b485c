"""What does it cost to find 10 000 cached datasets of one prefix fresh? Beside a HEAD each, 32 at once.

The stand-in answers HEAD from nginx and LIST from `_lister.py`, near and 30 ms away.
"""

from __future__ import annotations

import sys

from _harness import HERE, arguments, in_turn, python, run_process, save, summary, workplace
from _objects import running_store, write_job
from _report import seconds, table

HEADS = {"obstore": "a HEAD each, obstore", "aiobotocore": "a HEAD each, aiobotocore"}


def main() -> None:
    options = arguments(rounds="(5)")
    count, size = 1000 if options.quick else 10_000, 1024
    rounds = options.n or (1 if options.quick else 5)
    results = {}
    rows = []
    with workplace() as place, running_store(place, [(count, size)]) as store:
        keys = list(store.objects[count, size].digests)
        steps = [python(), str(HERE / "contenders" / "catalog_steps.py")]
        heads = [sys.executable, str(HERE / "contenders" / "heads.py")]
        environment = dict(store.environment)
        servers = ["http", "latency-30"] if store.endpoints else ["http"]
        for server in servers:
            job = write_job(
                place / f"{server}.json",
                endpoint=store.url(server),
                bucket=store.bucket,
                keys=keys,
                size=size,
                target=str(place / "cache"),
                warm=keys[0],
            )
            run_process([*steps, job, "fetch"], environment)
            contenders = {"fetch_all": lambda job=job: run_process([*steps, job, "fetch"], environment)}
            for library, name in HEADS.items():
                command = [*heads, job, library, "32"]
                contenders[name] = lambda command=command: run_process(command, environment)
            runs = in_turn(contenders, rounds, label=server)
            of_server = {name: summary(values) for name, values in runs.items()}
            of_server["fetch_all"]["requests"] = runs["fetch_all"][-1].said["requests"]
            results[server] = of_server
            for name, figures in of_server.items():
                ratio = of_server["fetch_all"]["call_seconds"]["median"] / figures["call_seconds"]["median"]
                requests = figures.get("requests", count)
                rows.append([f"{server}: {name}", seconds(figures["call_seconds"]), f"{requests}", f"{ratio:.2f}"])
    printed = table([f"revalidate {count}", "call, s", "requests", "fetch_all to it"], rows)
    print(printed)
    save(options, "revalidate", results, [printed])


if __name__ == "__main__":
    main()
