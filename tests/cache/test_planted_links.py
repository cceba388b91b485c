"""Links that somebody has planted in the cache: nothing is written, removed or made where they lead (G8)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from datacachalog import AsyncCatalog, CacheError, CatalogConfig, Dataset, FileCache
from datacachalog.ports import CacheKey
from datacachalog.testing import Cut, FaultyStorage, MemoryStorage

URI = "s3://bucket/dir/a.bin"
KEY = CacheKey(URI)
SMALL = b"content"
LARGE = b"".join(number.to_bytes(4, "big") for number in range(1250))
STATE = ".datacachalog"


def tree(directory: Path) -> dict[str, tuple[bytes | None, int]]:
    """What is in a directory: content and modification time of all that is there."""
    return {
        str(path.relative_to(directory)): (path.read_bytes() if path.is_file() else None, path.lstat().st_mtime_ns)
        for path in directory.rglob("*")
    }


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A place of somebody else's."""
    directory = tmp_path / "outside"
    directory.mkdir()
    return directory


def catalog_of(cache_dir: Path, data: bytes, faults: tuple[Cut, ...] = (), **settings: object) -> AsyncCatalog:
    memory = MemoryStorage(chunk_bytes=100)
    memory.put(URI, data)
    config = CatalogConfig(**({"part_bytes": 1024, "retries": 0} | settings))
    storage = FaultyStorage(memory, faults)
    return AsyncCatalog([Dataset("a", URI)], cache_dir=cache_dir, config=config, storage=storage, progress=False)


async def interrupted(cache_dir: Path, data: bytes) -> Path:
    """Leave a partial of these bytes in the cache, and give its directory."""
    async with catalog_of(cache_dir, data, (Cut(nth=3, times=None, after_bytes=300),), max_concurrency=1) as catalog:
        with pytest.raises(Exception, match="bytes before"):
            await catalog.fetch("a")
    [partial] = (cache_dir / STATE / "partial").iterdir()
    return partial


async def fetched(cache_dir: Path, data: bytes) -> bytes | None:
    """Fetch, and give the bytes; None where the cache refuses to be used."""
    async with catalog_of(cache_dir, data) as catalog:
        try:
            return (await catalog.fetch("a")).read_bytes()
        except CacheError:
            return None


@pytest.mark.parametrize("is_dangling", [False, True])
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    "planted",
    ["bucket", "bucket/dir", STATE, *(f"{STATE}/{name}" for name in ("meta", "meta/bucket", "partial", "lease"))],
)
async def test_g8_a_link_in_the_place_of_a_directory_is_not_followed(tmp_path, outside, planted, data, is_dangling):
    """Whatever directory of the cache a link stands for, a fetch makes nothing there, and is right or refuses."""
    link = tmp_path / "cache" / planted
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / "missing" if is_dangling else outside, target_is_directory=True)
    assert await fetched(tmp_path / "cache", data) in (data, None)
    assert {} == tree(outside)


@pytest.mark.parametrize("is_dangling", [False, True])
async def test_g8_a_link_in_the_place_of_the_lock_file_is_not_followed(tmp_path, outside, is_dangling):
    """The cache works without its lock file; the file that the link leads to is neither made nor written."""
    if not is_dangling:
        (outside / "file").write_bytes(b"precious")
    before = tree(outside)
    lease = tmp_path / "cache" / STATE / "lease"
    lease.mkdir(parents=True)
    (lease / "claims").symlink_to(outside / "file")
    assert (LARGE, before) == (await fetched(tmp_path / "cache", LARGE), tree(outside))


@pytest.mark.parametrize("data", [LARGE, LARGE[::-1]], ids=["same version", "another version"])
async def test_g8_a_link_in_the_place_of_a_partial_is_neither_continued_nor_emptied(tmp_path, outside, data):
    """A partial that lies elsewhere is nobody's: its bytes are not taken, its files not written and not removed."""
    cache_dir = tmp_path / "cache"
    partial = await interrupted(cache_dir, LARGE)
    shutil.move(partial, outside / "moved")
    partial.symlink_to(outside / "moved", target_is_directory=True)
    before = tree(outside)
    assert (data, before) == (await fetched(cache_dir, data), tree(outside))


@pytest.mark.parametrize("name", ["data", "journal"])
@pytest.mark.parametrize("data", [LARGE, LARGE[::-1]], ids=["same version", "another version"])
async def test_g8_a_link_in_the_place_of_a_partials_file_is_not_written(tmp_path, outside, name, data):
    """What a download would go on with is a file of the cache, or it begins anew."""
    cache_dir = tmp_path / "cache"
    partial = await interrupted(cache_dir, LARGE)
    shutil.move(partial / name, outside / name)
    (partial / name).symlink_to(outside / name)
    before = tree(outside)
    assert (data, before) == (await fetched(cache_dir, data), tree(outside))


@pytest.mark.parametrize("place", ["bucket", f"{STATE}/meta/bucket", f"{STATE}/meta/bucket/dir/a.bin.json"])
async def test_g8_confirming_a_copy_changes_nothing_where_a_link_leads(tmp_path, outside, place):
    """What is noted about a copy that is still fresh is noted in the cache or nowhere."""
    cache_dir = tmp_path / "cache"
    await fetched(cache_dir, SMALL)
    shutil.move(cache_dir / place, outside / "moved")
    (cache_dir / place).symlink_to(outside / "moved")
    before = tree(outside)
    async with catalog_of(cache_dir, SMALL, max_age_seconds=0.000001) as catalog:
        await catalog.fetch("a")
    assert before == tree(outside)


@pytest.mark.parametrize("act", ["invalidate", "verify", "cache_info"])
@pytest.mark.parametrize("planted", ["bucket", f"{STATE}/meta", f"{STATE}/meta/bucket"])
async def test_g8_nothing_is_removed_where_a_link_leads(tmp_path, outside, planted, act):
    """Dropping and looking at copies leaves alone what lies behind a link."""
    cache_dir = tmp_path / "cache"
    await fetched(cache_dir, SMALL)
    shutil.move(cache_dir / planted, outside / "moved")
    (cache_dir / planted).symlink_to(outside / "moved", target_is_directory=True)
    before = tree(outside)
    async with catalog_of(cache_dir, SMALL) as catalog:
        await (catalog.invalidate("a") if act == "invalidate" else getattr(catalog, act)())
    assert before == tree(outside)


async def test_g8_a_link_planted_while_a_file_is_staged_is_not_written(tmp_path, outside):
    """Also one that comes in the place of the data between two parts."""
    target = outside / "target"
    target.write_bytes(b"precious" * 1000)
    before = tree(outside)
    memory = MemoryStorage(chunk_bytes=100)
    memory.put(URI, LARGE)
    cache = FileCache(tmp_path / "cache")

    async with memory.connect(CatalogConfig()) as session:
        metadata = await session.head(URI)
    async with cache.stage(KEY, metadata, "crc64nvme") as staging:
        async with staging.part(0, 100) as writer:
            await writer.write([LARGE[:100]])
        os.unlink(staging.path)
        os.symlink(target, staging.path)
        async with staging.part(100, 200) as writer:
            with pytest.raises(CacheError):
                await writer.write([LARGE[100:200]])
            with pytest.raises(CacheError):
                writer.write_here(memoryview(LARGE[100:200]))
    assert before == tree(outside)
