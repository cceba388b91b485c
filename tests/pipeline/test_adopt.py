"""A version that is cached as the newest is copied within the cache: exactly, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from datacachalog import AsyncCatalog, Dataset, FileCache, IntegrityError
from datacachalog._pipeline.adopt import copied, find_entries
from datacachalog._pipeline.resolve import Target
from datacachalog._pipeline.verify import verify
from datacachalog.ports import CacheEntry, CacheKey
from datacachalog.testing import MemoryStorage

from ..conftest import cached_files, partial_files

URI = "mem://bucket/k"
SIZES = [0, 7, 1024 * 1024, 3 * 1024 * 1024 + 5]


async def cached(cache_dir: Path, size: int) -> tuple[FileCache, CacheEntry, Target, bytes]:
    """Cache an object's newest version, and give its entry and what would be a copy of it."""
    storage = MemoryStorage(is_versioned=True)
    content = os.urandom(size)
    version_id = storage.put(URI, content).version_id
    async with AsyncCatalog([Dataset("k", URI)], cache_dir=cache_dir, storage=storage, progress=False) as catalog:
        await catalog.fetch("k")
    cache = FileCache(cache_dir)
    key = CacheKey(URI, version_id)
    [entry, none] = await find_entries(cache, [key, CacheKey(URI, "other")])
    assert entry is not None
    assert none is None
    return cache, entry, Target("k", key, None, 0.0), content


@pytest.mark.parametrize("size", SIZES)
async def test_g1_a_copy_has_the_bytes_and_is_verified_as_the_original_was(tmp_path: Path, size: int) -> None:
    """Nothing but the place is another one."""
    cache, entry, target, content = await cached(tmp_path, size)
    async with copied(target, entry, cache) as staged:
        published = await cache.publish(await verify(staged, target))
    [found] = await cache.lookup([target.key])
    assert (content, published.metadata) == (published.path.read_bytes(), found and found.metadata)
    old, new = entry.metadata, published.metadata
    assert (old.etag, old.version_id, old.last_modified, old.verified_by) == (
        new.etag,
        new.version_id,
        new.last_modified,
        new.verified_by,
    )
    assert ([], 2) == (partial_files(tmp_path), len(cached_files(tmp_path)))


@pytest.mark.parametrize("damage", ["gone", "short", "other"])
@pytest.mark.parametrize("size", SIZES[1:])
async def test_g6_a_damaged_original_is_not_copied(tmp_path: Path, size: int, damage: str) -> None:
    """What is done to the newest's copy after it was looked up doesn't get into a version's, and leaves nothing."""
    cache, entry, target, content = await cached(tmp_path, size)
    if damage == "gone":
        entry.path.unlink()
    else:
        other = bytes([content[-1] ^ 1])
        entry.path.write_bytes(content[:-1] + (b"" if damage == "short" else other))
    with pytest.raises(IntegrityError):
        async with copied(target, entry, cache) as staged:
            await verify(staged, target)
    assert [] == partial_files(tmp_path)


async def test_g10_a_cancelled_copy_publishes_nothing(tmp_path: Path) -> None:
    """Who is cancelled while a large file is copied leaves the newest's copy, and no other file."""
    cache, entry, target, _ = await cached(tmp_path, SIZES[-1])
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with copied(target, entry, cache):
            pytest.fail("it was cancelled")
    assert (["@mem/bucket/k"], []) == (cached_files(tmp_path), partial_files(tmp_path))
