"""Is a copy that was looked up a moment ago found without a thread, and never after anything about it has changed?"""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from datacachalog import FileCache, FileMetadata
from datacachalog._digests import digest_chunks
from datacachalog.cache import _recent
from datacachalog.cache._reads import read_in_thread
from datacachalog.ports import CacheEntry, CacheKey, Verified

KEY = CacheKey("s3://bucket/a.bin")
MOUNTS = (
    "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
    "30 27 0:44 / /home rw,relatime shared:5 - nfs4 server:/home rw,vers=4.2\n"
    "31 27 0:45 / /with\\040space rw - fuse.sshfs host: rw\n"
    "nonsense\n"
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileCache:
    """A cache on what is taken for a local disk, whatever the tests run on."""
    monkeypatch.setattr(_recent, "is_local", lambda device: True)
    monkeypatch.setattr(_recent, "_SETTLED_NS", 1_000_000)
    return FileCache(tmp_path / "cache")


async def publish(cache: FileCache, data: bytes = b"content", key: CacheKey = KEY) -> CacheEntry:
    metadata = FileMetadata(digest_chunks("md5", [data])[4:], None, len(data))
    entry = await cache.publish(Verified(key, metadata, (data,), digest_chunks("sha256", [data]), "md5"))
    await anyio.sleep(0.02)  # the clock of the file system goes on
    return entry


def reads_of(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Count the looks that take a thread."""
    reads: list[object] = []

    async def read(work):
        reads.append(work)
        return await read_in_thread(work)

    monkeypatch.setattr("datacachalog.cache._file_cache.read_in_thread", read)
    return reads


async def reads_of_two_looks(cache: FileCache, monkeypatch: pytest.MonkeyPatch, keys: list[CacheKey]) -> int:
    """Look twice, and count the looks that take a thread."""
    reads = reads_of(monkeypatch)
    await cache.lookup(keys)
    await cache.lookup(keys)
    return len(reads)


def sidecar(cache: FileCache) -> Path:
    return cache.cache_dir / ".datacachalog/meta/bucket/a.bin.json"


async def test_second_look_takes_no_thread(cache, monkeypatch):
    """It gives what the first one gave."""
    await publish(cache)
    reads = reads_of(monkeypatch)
    first, second = await cache.lookup([KEY]), await cache.lookup([KEY])
    assert (1, True, True) == (len(reads), first == second, first[0] is not None)


async def test_what_is_absent_is_looked_for_each_time(cache, monkeypatch):
    """Another process may have published it meanwhile."""
    reads = reads_of(monkeypatch)
    assert [None] == await cache.lookup([KEY])
    await publish(cache)
    [entry] = await cache.lookup([KEY])
    assert (2, b"content") == (len(reads), entry.path.read_bytes())


async def test_new_version_is_seen(cache):
    """Also one of the same size: the sidecar is another file then."""
    await publish(cache)
    [old] = await cache.lookup([KEY])
    await publish(FileCache(cache.cache_dir), b"CONTENT")
    [new] = await cache.lookup([KEY])
    assert (True, b"CONTENT") == (old.metadata.digest != new.metadata.digest, new.path.read_bytes())


async def test_confirmation_is_seen(cache):
    """By another process: its time is the sidecar's."""
    await publish(cache)
    [entry] = await cache.lookup([KEY])
    os.utime(sidecar(cache), (entry.validated_at + 100, entry.validated_at + 100))
    [again] = await cache.lookup([KEY])
    assert pytest.approx(entry.validated_at + 100) == again.validated_at


@pytest.mark.parametrize(
    "change",
    [
        lambda data, sidecar: data.write_bytes(b"CONTENT"),
        lambda data, sidecar: data.write_bytes(b"more content"),
        lambda data, sidecar: data.unlink(),
        lambda data, sidecar: sidecar.unlink(),
        lambda data, sidecar: sidecar.write_bytes(b"{}"),
        lambda data, sidecar: (data.rename(data.with_suffix(".moved")), data.symlink_to(data.with_suffix(".moved"))),
        lambda data, sidecar: (data.unlink(), data.mkdir()),
    ],
    ids=["edited", "longer", "removed", "without sidecar", "sidecar damaged", "link", "directory"],
)
async def test_change_is_seen(cache, change):
    """What is no longer as it was published isn't a copy, however often it was one."""
    entry = await publish(cache)
    assert [None] != await cache.lookup([KEY]) == await cache.lookup([KEY])
    change(entry.path, sidecar(cache))
    assert [None] == await cache.lookup([KEY])


async def test_sidecar_that_was_just_written_is_read_again(cache, monkeypatch):
    """Another one could be written within the same tick of the clock, over the same inode."""
    monkeypatch.setattr(_recent, "_SETTLED_NS", 3600 * 10**9)
    await publish(cache)
    assert 2 == await reads_of_two_looks(cache, monkeypatch, [KEY])


async def test_file_system_that_may_have_to_ask_somebody_takes_a_thread(cache, monkeypatch):
    """One over a network, say: it could keep the event loop waiting."""
    monkeypatch.setattr(_recent, "is_local", lambda device: False)
    await publish(cache)
    assert 2 == await reads_of_two_looks(cache, monkeypatch, [KEY])


async def test_sidecar_behind_a_link_is_read_again(cache, monkeypatch):
    """What the link points at could change, and it wouldn't."""
    await publish(cache)
    sidecar(cache).rename(cache.cache_dir / "elsewhere")
    sidecar(cache).symlink_to(cache.cache_dir / "elsewhere")
    await anyio.sleep(0.02)
    assert 2 == await reads_of_two_looks(cache, monkeypatch, [KEY])


async def test_many_are_looked_up_in_a_thread(cache, monkeypatch):
    """A look at hundreds is no longer short."""
    keys = [CacheKey(f"s3://bucket/{number}") for number in range(_recent.MOST_AT_ONCE + 1)]
    for key in keys:
        await publish(cache, key=key)
    assert 2 == await reads_of_two_looks(cache, monkeypatch, keys)


async def test_copy_at_its_second_place_is_not_remembered(cache, monkeypatch):
    """What comes to its first place later goes before it."""
    (cache.cache_dir / "bucket/a.bin").mkdir(parents=True)  # the place is taken
    (cache.cache_dir / "bucket/a.bin/other").touch()
    entry = await publish(cache)
    assert cache.cache_dir / "bucket/a.bin" != entry.path
    reads = reads_of(monkeypatch)
    assert await cache.lookup([KEY]) == await cache.lookup([KEY]) != [None]
    assert 2 == len(reads)


async def test_no_more_is_remembered_than_fits(cache, monkeypatch):
    """The others are read again."""
    monkeypatch.setattr(_recent, "_MOST_REMEMBERED", 2)
    keys = [CacheKey(f"s3://bucket/{number}") for number in range(3)]
    for key in keys:
        await publish(cache, key=key)
        await cache.lookup([key])
    reads = reads_of(monkeypatch)
    await cache.lookup(keys[2:])
    assert 0 == len(reads)
    await cache.lookup(keys[:1])
    assert 1 == len(reads)


@pytest.mark.parametrize(
    ("number", "is_local"),
    [("254:0", True), ("0:44", False), ("0:45", False), ("7:1", False)],
    ids=["ext4", "nfs", "fuse", "not mounted"],
)
def test_only_kinds_that_are_known_are_local(number, is_local):
    """What the kernel says of a device that it doesn't list, or a kind that is new, is: ask in a thread."""
    assert is_local is _recent.is_local_by(MOUNTS, number)
