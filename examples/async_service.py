"""How does an asyncio service use a catalog? Its jobs share one, and a signal ends them.

It runs until Ctrl-C, or until it is terminated:

    $ python examples/async_service.py
    ready: 2 datasets, 57 bytes
    the desk costs 400
    there are 3 customers
    the desk costs 400
    ^Cstopped
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable

from _bucket import example_bucket
from datacachalog import AsyncCatalog, Dataset

DATASETS = [
    Dataset("customers", "s3://acme-data/crm/customers.csv"),
    Dataset("prices", "s3://acme-data/prices.json", max_age=60),
]


async def serve(catalog: AsyncCatalog) -> None:
    """Fetch everything, then run the jobs until somebody asks to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))

    async def show_price() -> None:
        # Every second, and yet S3 is asked once a minute: that is its max_age.
        prices = await catalog.load("prices", as_="json")
        say(f"the desk costs {prices['desk']}")

    async def count_customers() -> None:
        path = await catalog.fetch("customers")
        lines = await asyncio.to_thread(path.read_text)
        say(f"there are {len(lines.splitlines()) - 1} customers")

    async def look_for_news() -> None:
        # What fails is tried again in a minute. Until then there is the cached copy.
        report = await catalog.fetch_all(on_error="collect")
        for name, result in report.items():
            if result.action == "downloaded":
                say(f"{name} is new: {result.reason}")
        for name, error in report.errors.items():
            say(f"{name} could not be had: {error}")

    async with catalog:
        report = await catalog.fetch_all()
        say(f"ready: {len(report)} datasets, {report.bytes_downloaded} bytes")
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(every(1, show_price, until=stop))
            jobs.create_task(every(5, count_customers, until=stop))
            jobs.create_task(every(60, look_for_news, until=stop))
    say("stopped")


async def every(
    seconds: float, job: Callable[[], Awaitable[None]], *, until: asyncio.Event
) -> None:
    """Do a job again and again. When it is time to stop, one that has begun is finished."""
    while not until.is_set():
        await job()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(until.wait(), seconds)


def say(text: str) -> None:
    """Print at once, also into a pipe or a log file."""
    print(text, flush=True)


if __name__ == "__main__":
    with example_bucket() as bucket:
        asyncio.run(serve(AsyncCatalog(DATASETS, cache_dir=bucket.cache_dir)))
