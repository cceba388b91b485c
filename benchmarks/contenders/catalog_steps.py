"""What a catalog is asked to do besides a first download: one step, named on the command line, in one process.

`plan` and `fetch` and `status` are the calls; `window` is `fetch` within `max_age`, many times over, async and sync.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time

from _job import job

from datacachalog import AsyncCatalog, Catalog, Dataset, S3Storage

the_job = job()
step = sys.argv[2]
CALLS = 2000


def made(kind: type, max_age: float | None = None) -> AsyncCatalog | Catalog:
    datasets = [Dataset(key, f"s3://{the_job.bucket}/{key}", max_age=max_age) for key in the_job.keys]
    return kind(datasets, cache_dir=the_job.target, storage=S3Storage(endpoint_url=the_job.endpoint), progress=False)


def window() -> None:
    name = the_job.keys[0]

    async def in_async() -> list[float]:
        async with made(AsyncCatalog, 3600) as catalog:
            await catalog.fetch(name)
            times = []
            for _ in range(CALLS):
                begin = time.perf_counter()
                await catalog.fetch(name)
                times.append(time.perf_counter() - begin)
            return times

    def in_sync() -> list[float]:
        with made(Catalog, 3600) as catalog:
            catalog.fetch(name)
            times = []
            for _ in range(CALLS):
                begin = time.perf_counter()
                catalog.fetch(name)
                times.append(time.perf_counter() - begin)
            return times

    asynchronous, synchronous = asyncio.run(in_async()), in_sync()
    medians = {"async": statistics.median(asynchronous), "sync": statistics.median(synchronous)}
    print(json.dumps(medians))


def main() -> None:
    begin = time.perf_counter()
    with made(Catalog) as catalog:
        construct = time.perf_counter() - begin
        if the_job.warm:
            catalog.is_stale(the_job.keys[0])
        begin = time.perf_counter()
        if step == "plan":
            requests = catalog.plan().requests
        elif step == "status":
            catalog.status()
            requests = None  # it doesn't say
        else:
            report = catalog.fetch_all()
            requests = report.requests
        seconds = time.perf_counter() - begin
    print(json.dumps({"call_seconds": seconds, "construct_seconds": construct, "requests": requests}))


if step == "window":
    window()
else:
    main()
