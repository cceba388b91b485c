"""datacachalog, through its public API, with its defaults: `sync` is `Catalog`, `async` and `uvloop` `AsyncCatalog`."""

from __future__ import annotations

import sys

from _job import call, job

from datacachalog import AsyncCatalog, Catalog, Dataset, S3Storage

the_job = job()
datasets = [Dataset(key, f"s3://{the_job.bucket}/{key}") for key in the_job.keys]
storage = S3Storage(endpoint_url=the_job.endpoint)
if the_job.warm:
    datasets.append(Dataset("warm", f"s3://{the_job.bucket}/{the_job.warm}"))
style = sys.argv[2]

if style == "sync":
    with Catalog(datasets, cache_dir=the_job.target, storage=storage, progress=False) as catalog:
        if the_job.warm:
            catalog.is_stale("warm")
        with call():
            catalog.fetch_all(the_job.keys)
else:

    async def main() -> None:
        async with AsyncCatalog(datasets, cache_dir=the_job.target, storage=storage, progress=False) as catalog:
            if the_job.warm:
                await catalog.is_stale("warm")
            with call():
                await catalog.fetch_all(the_job.keys)

    if style == "uvloop":
        import uvloop

        uvloop.run(main())
    else:
        import asyncio

        asyncio.run(main())
