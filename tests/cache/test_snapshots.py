"""What does the cache make of a file that is to be pushed? A copy that nobody else can change."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from datacachalog import CacheFullError, FileCache, FileMetadata
from datacachalog.cache import _disk
from datacachalog.ports import CacheKey, LocalFileChangedError, Verified

from ..conftest import partial_files

DATA = hashlib.shake_256(b"data").digest(3_000_000)
KEY = CacheKey("s3://bucket/key")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "cache")


@pytest.fixture(params=["as the file system can", "by the kernel", "by hand"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "as the file system can":
        monkeypatch.setattr(_disk, "clone", lambda *_: False)
    if request.param == "by hand":
        monkeypatch.delattr(os, "copy_file_range", raising=False)


@pytest.mark.usefixtures("_way")
async def test_a_copy_has_the_bytes_of_the_file(cache: FileCache, source: Path) -> None:
    """All of them, or those of a range, and their digests."""
    async with cache.snapshot(str(source)) as copy:
        assert (len(DATA), DATA[5:2_000_000]) == (copy.size, await copy.read(5, 2_000_000))
        expected = f"sha256:{hashlib.sha256(DATA[7:2_000_000]).hexdigest()}"
        assert expected == await copy.digest("sha256", 7, 2_000_000)


@pytest.mark.usefixtures("_way")
async def test_a_copy_does_not_follow_the_file(cache: FileCache, source: Path) -> None:
    """What becomes of the file later is noticed, and changes nothing."""
    async with cache.snapshot(str(source)) as copy:
        assert await copy.is_current()
        with source.open("r+b") as file:
            file.write(b"changed")
        assert (False, DATA) == (await copy.is_current(), await copy.read(0, len(DATA)))
        source.unlink()
        assert not await copy.is_current()


async def test_a_copy_that_is_not_published_is_removed(cache: FileCache, source: Path) -> None:
    """Whatever the reason."""
    found = []

    async def fail() -> None:
        async with cache.snapshot(str(source)):
            found.extend(partial_files(cache.cache_dir))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert (1, []) == (len(found), partial_files(cache.cache_dir))


async def test_a_copy_is_published_as_it_is(cache: FileCache, source: Path) -> None:
    """By renaming it, with the metadata that it is verified with; the file stays."""
    metadata = FileMetadata("etag", None, len(DATA), "version")
    async with cache.snapshot(str(source)) as copy:
        entry = await cache.publish(Verified(KEY, metadata, copy, "crc64nvme:AAAAAAAAAAA=", None))
    assert (DATA, DATA) == (entry.path.read_bytes(), source.read_bytes())
    assert [entry.metadata] == [found.metadata for found in await cache.lookup([KEY]) if found is not None]
    assert ("etag", "version", []) == (entry.metadata.etag, entry.metadata.version_id, partial_files(cache.cache_dir))


async def test_a_file_that_grows_while_it_is_copied_is_noticed(
    cache: FileCache, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of what somebody is writing is no copy."""
    copy_some = _disk.copy_some

    def copy_and_grow(origin, target):
        copied = copy_some(origin, target)
        if not copied:
            with source.open("ab") as file:
                file.write(b"more")
        return copied

    monkeypatch.setattr(_disk, "clone", lambda *_: False)
    monkeypatch.setattr(_disk, "copy_some", copy_and_grow)
    with pytest.raises(LocalFileChangedError):
        async with cache.snapshot(str(source)):
            pass
    assert [] == partial_files(cache.cache_dir)


async def test_a_file_that_is_gone_is_noticed(cache: FileCache, source: Path) -> None:
    """It was there when it was looked at."""
    source.unlink()
    with pytest.raises(LocalFileChangedError):
        async with cache.snapshot(str(source)):
            pass


async def test_a_full_disk_is_told_and_nothing_is_left(
    cache: FileCache, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a download doesn't fit."""

    def no_space(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_disk, "clone", lambda *_: False)
    monkeypatch.setattr(_disk, "copy_some", no_space)
    with pytest.raises(CacheFullError):
        async with cache.snapshot(str(source)):
            pass
    assert [] == partial_files(cache.cache_dir)


async def test_g10_who_is_cancelled_waits_for_one_step_and_not_for_the_copy(
    cache: FileCache, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copying a large file takes as long as its disk does."""
    copied = threading.Semaphore(0)

    def copy_for_ever(*_):
        copied.release()
        return 1

    monkeypatch.setattr(_disk, "clone", lambda *_: False)
    monkeypatch.setattr(_disk, "copy_some", copy_for_ever)

    async def copy() -> None:
        async with cache.snapshot(str(source)):
            pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(copy)
        await anyio.to_thread.run_sync(copied.acquire)
        tasks.cancel_scope.cancel()
    assert [] == partial_files(cache.cache_dir)
