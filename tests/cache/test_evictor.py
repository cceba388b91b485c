"""What goes when a cache is too large: the least recently used, and never what is in use."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from datacachalog import FileCache, FileMetadata, UnsafePathError
from datacachalog._digests import digest_chunks
from datacachalog.cache import _disk, _evictor, _usage
from datacachalog.ports import Bounds, CacheEntry, CacheKey, Verified

from ..conftest import wait_until

SIZE = 10
STATE = ".datacachalog"


def keep(files: int, *, grace_seconds: float = 0.0) -> Bounds:
    """Bounds for so many files."""
    return Bounds(max_bytes=files * SIZE, grace_seconds=grace_seconds)


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "cache")


@pytest.fixture
def new_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forget what this process knows of the cache, as another one would not know it."""

    def forget() -> None:
        monkeypatch.setattr(_evictor, "_evictors", {})
        monkeypatch.setattr(_usage, "_usages", {})

    return forget


def key(name: str) -> CacheKey:
    return CacheKey(f"s3://bucket/dir/{name}")


async def publish(cache: FileCache, *names: str, size: int = SIZE) -> list[CacheEntry]:
    """Publish files, and give them to a caller, one after the other."""
    entries = []
    for name in names:
        data = name.encode().ljust(size)
        metadata = FileMetadata(digest_chunks("md5", [data])[4:], datetime(2024, 2, 29, tzinfo=UTC), size)
        verified = Verified(key(name), metadata, (data,), digest_chunks("sha256", [data]), "md5")
        entries.append(await cache.publish(verified))
        await cache.use([entries[-1].path])
    return entries


def names(cache: FileCache) -> str:
    """The files that are there."""
    directory = cache.cache_dir / "bucket" / "dir"
    return " ".join(sorted(path.name for path in directory.iterdir())) if directory.exists() else ""


async def found(cache: FileCache, *names: str) -> str:
    """The files that the cache gives."""
    entries = await cache.lookup([key(name) for name in names])
    return " ".join(entry.path.name for entry in entries if entry is not None)


# -- which


async def test_the_least_recently_used_goes_first(cache: FileCache) -> None:
    """What was given to a caller last stays longest, whenever it was published."""
    a, _, _, _ = await publish(cache, "a", "b", "c", "d")
    await cache.use([a.path])
    assert (2 * SIZE, "a d") == (await cache.evict(keep(2)), names(cache))


async def test_times_of_the_file_system_mean_nothing(cache: FileCache) -> None:
    """Reading a file with another program, or a backup, does not make it recently used."""
    for entry in await publish(cache, "a", "b", "c"):
        os.utime(entry.path, ns=(0 if entry.path.name == "c" else 2**62, entry.metadata.mtime_ns))
    await cache.evict(keep(1))
    assert "c" == names(cache)


async def test_uses_are_seen_by_another_process(
    cache: FileCache, new_process: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a file was used is known to the processes to come."""
    entries = await publish(cache, "a", "b", "c")
    monkeypatch.setattr(_usage, "GRANULARITY_SECONDS", 0.0)
    await cache.use([entries[0].path])
    new_process()
    await cache.evict(keep(1))
    assert "a" == names(cache)


async def test_a_file_that_is_used_again_and_again_costs_no_write_each_time(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A use that follows another one at once is kept in memory, and known to this process all the same."""
    a, _ = await publish(cache, "a", "b")
    monkeypatch.setattr(_disk, "put_at", lambda *_: pytest.fail("a use was written down at once"))
    await cache.use([a.path])
    monkeypatch.undo()
    await cache.evict(keep(1))
    assert "a" == names(cache)


async def test_an_evicted_file_is_absent_and_leaves_nothing(cache: FileCache) -> None:
    """Data and sidecar are gone, and no temporary file stays."""
    await publish(cache, "a")
    await cache.evict(keep(0))
    state = cache.cache_dir / STATE
    left = [path.name for place in ("meta", "new", "partial") for path in (state / place).rglob("*") if path.is_file()]
    assert ("", "", []) == (await found(cache, "a"), names(cache), left)


async def test_nothing_goes_while_the_bounds_are_kept(cache: FileCache) -> None:
    """A cache of just the size that it may have stays as it is."""
    await publish(cache, "a", "b")
    assert (0, "a b") == (await cache.evict(keep(2)), names(cache))


async def test_eviction_of_a_cache_that_was_never_written_makes_nothing(cache: FileCache) -> None:
    """Where there is no directory, there is nothing to evict, and none is made."""
    assert (0, False) == (await cache.evict(keep(0), is_thorough=True), cache.cache_dir.exists())


async def test_free_space_is_made_to_be_kept_free(cache: FileCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many files go as the file system lacks free bytes."""
    await publish(cache, "a", "b", "c")
    monkeypatch.setattr(_evictor.Evictor, "_free_bytes", lambda _: 100)
    assert (2 * SIZE, "c") == (await cache.evict(Bounds(min_free_bytes=115, grace_seconds=0)), names(cache))


async def test_an_object_larger_than_the_bound_drives_out_all_others_and_stays(cache: FileCache) -> None:
    """What is spared stays although the bound is not kept."""
    await publish(cache, "a", "b")
    [large] = await publish(cache, "large", size=5 * SIZE)
    freed = await cache.evict(keep(3), spared={str(large.path)})
    assert (2 * SIZE, "large") == (freed, names(cache))


# -- what is in use


async def test_what_was_just_given_to_a_caller_stays(cache: FileCache) -> None:
    """Within the grace period a file is not evicted; what is older is."""
    await publish(cache, "a", "b")
    assert (0, "a b") == (await cache.evict(keep(0, grace_seconds=60)), names(cache))


async def test_grace_ends(cache: FileCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the grace period, and the moment by which a use may be written down late, a file may go."""
    await publish(cache, "a", "b")
    later = _evictor.time.time_ns() + int(62e9)
    monkeypatch.setattr(_evictor.time, "time_ns", lambda: later)
    assert 2 * SIZE == await cache.evict(keep(0, grace_seconds=60))


async def test_what_is_held_stays_until_it_is_let_go(cache: FileCache) -> None:
    """A lease keeps a file, in this process as in others."""
    await publish(cache, "a", "b")
    lease = await cache.hold(key("a"))
    await cache.evict(keep(0))
    assert "a" == names(cache)
    await cache.let_go(lease)
    await cache.evict(keep(0), is_thorough=True)
    assert "" == names(cache)


async def test_a_lease_of_another_process_keeps_a_file_until_that_ends(cache: FileCache) -> None:
    """A process that ends without a word holds nothing any more."""
    await publish(cache, "a")
    script = (
        "import anyio, os, sys; from datacachalog import FileCache; from datacachalog.ports import CacheKey\n"
        f"anyio.run(FileCache({str(cache.cache_dir)!r}).hold, CacheKey({key('a').uri!r}))\n"
        "print('held', flush=True); sys.stdin.read(); os._exit(0)"
    )
    process = await anyio.to_thread.run_sync(
        lambda: subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    )
    try:
        assert process.stdout is not None
        await anyio.to_thread.run_sync(process.stdout.readline)
        await cache.evict(keep(0))
        held = names(cache)
    finally:
        await anyio.to_thread.run_sync(process.communicate)
    await cache.evict(keep(0), is_thorough=True)
    assert ("a", "") == (held, names(cache))


async def test_what_is_being_fetched_stays(cache: FileCache) -> None:
    """A file that somebody has claimed is not evicted under his hands."""
    await publish(cache, "a", "b")
    claim = await cache.claim(key("a"))
    await cache.evict(keep(0))
    await cache.release(claim)
    assert "a" == names(cache)


async def test_what_the_cache_does_not_know_stays(cache: FileCache) -> None:
    """A file without a sidecar, or one that was edited, is not the cache's to remove."""
    edited, _ = await publish(cache, "edited", "ours")
    edited.path.write_bytes(b"mine now")
    (edited.path.parent / "own").write_bytes(b"mine")
    await cache.evict(keep(0), is_thorough=True)
    assert "edited own" == names(cache)


async def test_g8_nothing_is_evicted_through_a_planted_link(cache: FileCache, tmp_path: Path) -> None:
    """A link in place of a directory leads no eviction out of the cache."""
    [entry] = await publish(cache, "a")
    outside = tmp_path / "outside"
    entry.path.parent.rename(outside)
    entry.path.parent.symlink_to(outside)
    await cache.evict(keep(0), is_thorough=True)
    assert ["a"] == [path.name for path in outside.iterdir()]


@pytest.mark.parametrize("place", ["usage", "new", "usage/accesses", "usage/bytes"])
async def test_g8_nothing_is_noted_or_moved_through_a_planted_link(
    cache: FileCache, tmp_path: Path, place: str
) -> None:
    """A link in place of the cache's own files gets nothing written or moved to where it leads."""
    [entry] = await publish(cache, "a")
    await cache.evict(keep(9))
    path, outside = cache.cache_dir / STATE / place, tmp_path / "outside"
    path.rename(outside)
    path.symlink_to(outside)

    def content() -> dict[str, bytes]:
        files = outside.iterdir() if outside.is_dir() else [outside]
        return {file.name: file.read_bytes() for file in files}

    before = content()
    for act in (lambda: publish(cache, "b"), lambda: cache.use([entry.path]), lambda: cache.remove([key("a")])):
        try:
            await act()
        except UnsafePathError:
            continue
    assert before == content()


# -- races


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], *, is_late: bool = False) -> None:
    """Do something in the middle of the first eviction: once the sidecar is gone, or just before the data goes."""
    original = _disk.replace
    is_done = False

    def replace(source: str, target: str) -> None:
        nonlocal is_done
        is_here = not is_done and (not target.endswith("~") if is_late else target.endswith("~"))
        is_done = is_done or is_here
        if is_here and is_late:
            act()
        original(source, target)
        if is_here and not is_late:
            act()

    monkeypatch.setattr(_disk, "replace", replace)


def blocking(work: Callable[[], object]) -> None:
    """Run a coroutine to its end from within a worker thread, on a loop of its own thread."""
    thread = threading.Thread(target=lambda: anyio.run(work))
    thread.start()
    thread.join()


async def test_a_use_that_meets_an_eviction_is_seen_by_it(cache: FileCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is given a file while it is being evicted either is told that it is gone, or keeps it."""
    [entry] = await publish(cache, "a")
    gone: list[list[Path]] = []
    monkeypatch.setattr(_usage, "GRANULARITY_SECONDS", 0.0)

    async def use() -> None:
        gone.append(await cache.use([entry.path]))

    meanwhile(monkeypatch, lambda: blocking(use))
    await cache.evict(keep(0))
    assert ([[entry.path]], "a", "a") == (gone, names(cache), await found(cache, "a"))


async def test_a_lease_that_meets_an_eviction_is_seen_by_it(cache: FileCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that is made in the middle of an eviction keeps the file."""
    await publish(cache, "a")

    async def hold() -> None:
        await cache.hold(key("a"))

    meanwhile(monkeypatch, lambda: blocking(hold))
    await cache.evict(keep(0))
    assert "a" == await found(cache, "a")


@pytest.mark.parametrize("is_late", [False, True], ids=["after its sidecar is gone", "before its data is taken"])
async def test_g4_a_version_published_during_an_eviction_is_not_lost(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch, *, is_late: bool
) -> None:
    """What is evicted is the old version; the new one that takes its place meanwhile is whole."""
    await publish(cache, "a")

    async def publish_again() -> None:
        await publish(cache, "a", size=20)

    meanwhile(monkeypatch, lambda: blocking(publish_again), is_late=is_late)
    await cache.evict(keep(0))
    [entry] = await cache.lookup([key("a")])
    assert entry is not None
    assert (20, b"a".ljust(20)) == (entry.metadata.size, entry.path.read_bytes())


async def test_processes_that_evict_at_once_do_not_get_in_each_others_way(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two who evict one file, one succeeds and the other finds nothing to do."""
    await publish(cache, "a")
    freed: list[int] = []

    async def evict_too() -> None:
        monkeypatch.setattr(_evictor, "_evictors", {})
        freed.append(await cache.evict(keep(0), is_thorough=True))

    meanwhile(monkeypatch, lambda: blocking(evict_too))
    freed.append(await cache.evict(keep(0), is_thorough=True))
    assert (SIZE, "") == (sum(freed), names(cache))


# -- the account


async def test_the_account_follows_what_is_published_and_removed(cache: FileCache) -> None:
    """Once it is begun, the total is known without looking at the files."""
    await publish(cache, "a")
    await cache.evict(keep(9))
    await publish(cache, "b", "c")
    await publish(cache, "b", size=25)
    await cache.remove([key("a")])
    assert 25 + SIZE == cache._usage.total_bytes() == (await cache.totals())[0]


async def test_publishing_does_not_look_at_every_file(cache: FileCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publish within the bounds costs the same however many files there are."""
    await publish(cache, "a")
    await cache.evict(keep(9))
    monkeypatch.setattr(_evictor, "files", lambda *_: pytest.fail("every file was looked at"))
    await publish(cache, "b")
    assert 0 == await cache.evict(keep(9))


async def test_a_new_process_goes_on_in_the_order_that_another_has_found(
    cache: FileCache, new_process: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is remembered in the cache; what was used or published since is passed over."""
    a, *_ = await publish(cache, "a", "b", "c", "d")
    await cache.evict(keep(3))
    assert "b c d" == names(cache)
    new_process()
    monkeypatch.setattr(_evictor, "files", lambda *_: pytest.fail("every file was looked at"))
    await publish(cache, "a", "b", size=SIZE + 1)
    await cache.evict(Bounds(max_bytes=3 * SIZE + 2, grace_seconds=0))
    assert "a b d" == names(cache)
    assert a.path.exists()


@pytest.mark.parametrize("damage", [b"", b"x", b"12345678" + b"\xff" * 7, None])
async def test_a_damaged_account_is_made_anew(
    cache: FileCache, new_process: Callable[[], None], damage: bytes | None
) -> None:
    """What can't be an account is none: the files are looked at."""
    await publish(cache, "a", "b")
    await cache.evict(keep(9))
    account = cache.cache_dir / STATE / "usage" / "bytes"
    if damage is None:
        account.unlink()
    else:
        account.write_bytes(damage)
    new_process()
    assert (SIZE, "b") == (await cache.evict(keep(1)), names(cache))


async def test_a_wrong_account_is_put_right_when_the_files_are_looked_at(cache: FileCache) -> None:
    """A process that died between a change and its note costs no file: what is looked at is what counts."""
    await publish(cache, "a", "b")
    await cache.evict(keep(9))
    await anyio.to_thread.run_sync(cache._usage.add, 1000)
    await cache.evict(keep(2), is_thorough=True)
    assert ("a b", 2 * SIZE) == (names(cache), cache._usage.total_bytes())


async def test_a_damaged_order_is_made_anew(cache: FileCache, new_process: Callable[[], None]) -> None:
    """What can't be read of it is not needed."""
    await publish(cache, "a", "b")
    await cache.evict(keep(9))
    (cache.cache_dir / STATE / "usage" / "oldest").write_bytes(b"\xff\nnonsense")
    new_process()
    assert (SIZE, "b") == (await cache.evict(keep(1)), names(cache))


async def test_a_cancelled_eviction_stops_between_two_files(cache: FileCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancellation leaves whole entries, and does not wait until thousands of files are gone."""
    await publish(cache, *"abcdefgh")
    began, is_cancelled = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        is_cancelled.wait()

    meanwhile(monkeypatch, wait)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cache.evict, keep(0))
        await anyio.to_thread.run_sync(began.wait)
        tasks.cancel_scope.cancel()
    is_cancelled.set()
    await anyio.to_thread.run_sync(lambda: wait_until(lambda: len(names(cache).split()) == 7))
    assert "b c d e f g h" == await found(cache, *"abcdefgh")
