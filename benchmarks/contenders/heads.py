"""What revalidation costs by a HEAD each: so many at once, through `obstore` or `aiobotocore`; nothing is compared."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from _job import call, job

the_job = job()
library, at_once = sys.argv[2], int(sys.argv[3])


async def each(head: Callable[[str], Awaitable[Any]]) -> None:
    keys = iter(the_job.keys)

    async def work() -> None:
        for key in keys:
            await head(key)

    await head(the_job.keys[0])  # the client is started
    with call():
        await asyncio.gather(*(work() for _ in range(at_once)))


async def with_obstore() -> None:
    from obstore.store import S3Store

    options = {"allow_http": True, "pool_max_idle_per_host": str(at_once)}
    address = {} if the_job.endpoint is None else {"endpoint": the_job.endpoint, "virtual_hosted_style_request": False}
    await each(S3Store(the_job.bucket, **address, client_options=options).head_async)


async def with_aiobotocore() -> None:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    config = AioConfig(max_pool_connections=at_once)
    async with get_session().create_client("s3", endpoint_url=the_job.endpoint, config=config) as client:
        await each(lambda key: client.head_object(Bucket=the_job.bucket, Key=key))


asyncio.run(with_obstore() if library == "obstore" else with_aiobotocore())
os._exit(0)  # obstore's own threads now and then abort the end of an interpreter that has used it asynchronously
