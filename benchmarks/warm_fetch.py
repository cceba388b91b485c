"""What does a `fetch` inside `max_age` cost, when everything is cached? Async and blocking, and what is below them.

One process; each line is the median of many calls. `process CPU` counts the work of all threads, which is what remains
comparable when other programs are busy.
"""

from __future__ import annotations

import asyncio
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from datacachalog import AsyncCatalog, Catalog, CatalogConfig, Dataset

CALLS = 3000


def row(label: str, seconds: list[float], cpu_seconds: float) -> None:
    ordered = sorted(seconds)
    median, late = statistics.median(ordered), ordered[int(len(ordered) * 0.9)]
    print(f"{label:<28} {median * 1e6:7.0f} {late * 1e6:9.0f} {cpu_seconds / len(seconds) * 1e6:13.0f}")


async def measure_async(label: str, call: Callable[[], Awaitable[object]]) -> None:
    for _ in range(100):
        await call()
    seconds, cpu = [], time.process_time()
    for _ in range(CALLS):
        begin = time.perf_counter()
        await call()
        seconds.append(time.perf_counter() - begin)
    row(label, seconds, time.process_time() - cpu)


def measure(label: str, call: Callable[[], object]) -> None:
    for _ in range(100):
        call()
    seconds, cpu = [], time.process_time()
    for _ in range(CALLS):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    row(label, seconds, time.process_time() - cpu)


async def measure_all_async(catalog: AsyncCatalog, path: Path) -> None:
    async with catalog:
        await measure_async("os.stat in a worker thread", lambda: asyncio.to_thread(path.stat))
        await measure_async("AsyncCatalog.fetch", lambda: catalog.fetch("a"))


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "a.bin")
        source.write_bytes(b"x" * 1000)
        settings = {
            "cache_dir": Path(directory, "cache"),
            "config": CatalogConfig(max_age_seconds=3600),
            "progress": "plain",
        }
        datasets = [Dataset("a", source)]
        print(f"microseconds a call, {CALLS} calls, Python {platform.python_version()}")
        print(f"{'':<28} {'median':>7} {'9 of 10':>9} {'process CPU':>13}")
        with Catalog(datasets, **settings) as catalog:
            path = catalog.fetch("a")
            asyncio.run(measure_all_async(AsyncCatalog(datasets, **settings), path))
            measure("os.stat", path.stat)
            measure("Catalog.fetch", lambda: catalog.fetch("a"))


if __name__ == "__main__":
    main()
