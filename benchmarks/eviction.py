"""What does it cost to keep a cache of 100 000 files within bounds? A publish, an eviction, a look at everything."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from datacachalog import AsyncCatalog, CatalogConfig, Dataset, FileCache, FileMetadata
from datacachalog.cache import _evictor, _usage
from datacachalog.ports import Bounds, CacheKey, Verified
from datacachalog.testing import MemoryStorage

FILES = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
SIZE = 100
PER_DIRECTORY = 1000
PUBLISHES = 300
HITS = 3000
NOBODY = Bounds(max_bytes=1 << 60, grace_seconds=0)


def verified(number: int) -> Verified:
    data = b"%0*d" % (SIZE, number)
    metadata = FileMetadata(etag=f"{number:x}", last_modified=datetime.now(UTC), size=SIZE)
    key = CacheKey(f"s3://bucket/{number // PER_DIRECTORY:04}/{number:07}.bin")
    return Verified(key, metadata, (data,), "crc32:AAAAAA==", None)


async def seconds_of(work: Awaitable[object]) -> float:
    begin = time.perf_counter()
    await work
    return time.perf_counter() - begin


def say(what: str, seconds: float, per: str = "") -> None:
    factor, unit = (1, "s") if seconds >= 1 else (1e3, "ms") if seconds >= 1e-3 else (1e6, "µs")
    print(f"{what:<66} {seconds * factor:8.2f} {unit:<2} {per}")


def forget() -> None:
    """Be a new process: nothing is known of the cache."""
    _evictor._evictors.clear()  # noqa: SLF001  # what a process knows
    _usage._usages.clear()  # noqa: SLF001


async def publishes(cache: FileCache, first: int, then: Callable[[], Awaitable[object]]) -> float:
    times = []
    for number in range(first, first + PUBLISHES):
        one = verified(number)
        begin = time.perf_counter()
        await cache.publish(one)
        await then()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


async def hits(directory: str, config: CatalogConfig) -> float:
    storage = MemoryStorage()
    storage.put("mem://bucket/hit", b"content")
    datasets = [Dataset("hit", "mem://bucket/hit", max_age=1e9)]
    async with AsyncCatalog(datasets, cache_dir=directory, storage=storage, config=config, progress=False) as catalog:
        await catalog.fetch("hit")
        begin = time.perf_counter()
        for _ in range(HITS):
            await catalog.fetch("hit")
        return (time.perf_counter() - begin) / HITS


async def measure(directory: str) -> None:
    cache = FileCache(directory)
    begin = time.perf_counter()
    for start in range(0, FILES, 500):
        await asyncio.gather(*(cache.publish(verified(number)) for number in range(start, min(start + 500, FILES))))
    say(f"making the cache: {FILES:,} files of {SIZE} bytes, no bounds", time.perf_counter() - begin)

    async def nothing() -> None:
        return None

    say("one publish, no bounds", await publishes(cache, FILES, nothing), "median")
    say("the first with bounds adds: everything is looked at once", await seconds_of(cache.evict(NOBODY)))
    say(
        "one publish with bounds, nothing to evict",
        await publishes(cache, FILES + PUBLISHES, lambda: cache.evict(NOBODY)),
        "median",
    )
    forget()
    say("what a new process adds: the account is read", await seconds_of(cache.evict(NOBODY)))
    total, _ = await cache.totals()
    tight = Bounds(max_bytes=total - SIZE, grace_seconds=0)
    say("first eviction of one file in a new process", await seconds_of(cache.evict(tight)))
    say(
        "one publish with bounds, one file evicted each time",
        await publishes(cache, FILES + 2 * PUBLISHES, lambda: cache.evict(tight)),
        "median",
    )
    tenth = Bounds(max_bytes=total - total // 10, grace_seconds=0)
    spent = await seconds_of(cache.evict(tenth, is_thorough=True))
    say(f"evict() of a tenth, {FILES // 10:,} files", spent, f"{spent / (FILES // 10) * 1e6:.0f} µs a file")
    say("a look at everything (cache_info, and what evict() begins with)", await seconds_of(cache.totals()))
    say("the same, with every sidecar read (cache_info with globs)", await seconds_of(cache.entries()))
    os.sync()
    say("fetch inside max_age, no bounds", await hits(directory, CatalogConfig()), "mean")
    say("fetch inside max_age, with bounds", await hits(directory, CatalogConfig(cache_max_bytes=1 << 60)), "mean")


def main() -> None:
    directory = tempfile.mkdtemp(prefix="datacachalog-eviction-")
    try:
        print(f"a cache of {FILES:,} files, Python {platform.python_version()}, {os.cpu_count()} cores")
        asyncio.run(measure(directory))
    finally:
        shutil.rmtree(Path(directory))


if __name__ == "__main__":
    main()
