"""What `clean` removes, and above all what it leaves: everything that somebody may still want."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from datacachalog import FileCache, FileMetadata
from datacachalog._digests import digest_chunks
from datacachalog._pipeline.pattern import meant_by
from datacachalog.cache import _disk, _partials, _processes, _removal
from datacachalog.cache._processes import Process
from datacachalog.ports import CacheKey, Declaration, Verified

KEY = CacheKey("s3://bucket/a.bin")
STATE = ".datacachalog"
DATA = b"content"
METADATA = FileMetadata(digest_chunks("md5", [DATA])[4:], datetime(2024, 2, 29, tzinfo=UTC), len(DATA))
LONG_AGO = 1e9
DEAD = Process(_processes.this_process().host, 2**22 + 1, 1)
"""Beyond the largest process number that Linux gives."""


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "cache")


async def publish(cache: FileCache, uri: str = KEY.uri) -> Path:
    verified = Verified(CacheKey(uri), METADATA, (DATA,), digest_chunks("sha256", [DATA]), "md5")
    return (await cache.publish(verified)).path


async def clean(cache: FileCache, project: str = "/project", **datasets: str) -> int:
    return await cache.clean(Declaration(project, tuple(datasets.items())), meant_by)


def state(cache: FileCache, place: str) -> Path:
    return cache.cache_dir / STATE / place


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


async def begin_partial(cache: FileCache, uri: str = KEY.uri) -> Path:
    """Leave an unfinished download, let go of."""
    metadata = FileMetadata("etag", None, 100)
    async with cache.stage(CacheKey(uri), metadata, "crc32") as staging, staging.part(0, 100) as part:
        await part.write([b"x" * 60])
    [directory] = state(cache, "partial").iterdir()
    return directory


# -- what processes have left


async def test_an_unfinished_download_that_nobody_works_at_is_removed(cache: FileCache) -> None:
    """The bytes of the data and of the journal are counted."""
    directory = await begin_partial(cache)
    size = sum(path.stat().st_size for path in directory.iterdir())
    assert (size, []) == (await clean(cache), files(state(cache, "partial")))


async def test_a_download_under_way_is_left_alone(cache: FileCache) -> None:
    """A partial that this process is writing goes on as if nothing had happened."""
    metadata = FileMetadata("etag", None, 100)
    async with cache.stage(KEY, metadata, "crc32") as staging:
        async with staging.part(0, 100) as part:
            await part.write([b"x" * 60])
            assert 0 == await clean(cache)
            await part.write([b"x" * 40])
        assert digest_chunks("sha256", [b"x" * 100]) == await staging.digest("sha256", 0, 100)


async def test_a_partial_that_somebody_is_about_to_take_over_is_left_alone(cache: FileCache) -> None:
    """Whoever has claimed the file may be reading what the partial holds."""
    await begin_partial(cache)
    claim = await cache.claim(KEY)
    assert 0 == await clean(cache)
    await cache.release(claim)


@pytest.mark.parametrize(("age", "left"), [(0, 1), (LONG_AGO, 0)], ids=["new", "old"])
async def test_a_partial_without_a_journal_is_removed_when_it_is_old(cache: FileCache, age: float, left: int) -> None:
    """Its process may be about to write the journal; if not, nobody can go on with it."""
    directory = await begin_partial(cache)
    (directory / "journal").unlink()
    busy = directory.with_name(directory.name.replace("free-", ""))
    directory.rename(busy)
    for path in (busy / "data", busy):
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    await clean(cache)
    assert left == len(list(state(cache, "partial").iterdir()))


@pytest.mark.parametrize(("owner", "left"), [("dead", 0), ("this", 1), ("elsewhere", 1)])
async def test_a_partial_goes_with_its_process(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch, owner: str, left: int
) -> None:
    """One of a process that has ended is removed; one of another host's only when it was left alone for a day."""
    processes = {"dead": DEAD, "this": _processes.this_process(), "elsewhere": Process("elsewhere", 1, 1)}
    monkeypatch.setattr(_partials, "this_process", lambda: processes[owner])
    partial = await anyio.to_thread.run_sync(cache._begin, KEY, FileMetadata("etag", None, 10), "crc32")
    partial._journal.close()
    if owner != "this":
        _partials._mine.clear()
    await clean(cache)
    _partials._mine.clear()
    assert left == len(list(state(cache, "partial").iterdir()))


@pytest.mark.parametrize(
    ("name", "age", "left"),
    [("{dead}.00.tmp", 0, 0), ("{this}.00.tmp", LONG_AGO, 1), ("00.tmp", 0, 1), ("00.tmp", LONG_AGO, 0), ("own", 1, 1)],
)
async def test_a_temporary_file_goes_with_its_process(cache: FileCache, name: str, age: float, left: int) -> None:
    """Of a process that has ended it is removed, of one that can't be asked when it is old."""
    directory = state(cache, "new")
    directory.mkdir(parents=True)
    dead = f"{DEAD.number}-{DEAD.started}-{_processes.tag().rpartition('-')[2]}"
    path = directory / name.format(dead=dead, this=_processes.tag())
    path.write_bytes(b"left")
    os.utime(path, (path.stat().st_mtime - age,) * 2)
    assert (4 * (1 - left), left) == (await clean(cache), len(files(directory)))


async def test_a_publish_that_was_killed_before_its_last_step_is_finished(cache: FileCache) -> None:
    """The data is there and verified: only its sidecar has to be put beside it."""
    path = await publish(cache)
    sidecar = state(cache, "meta") / "bucket" / "a.bin.json"
    left = state(cache, "new") / f"{DEAD.number}-1-{_processes.tag().rpartition('-')[2]}.00.tmp"
    sidecar.rename(left)
    assert [None] == await cache.lookup([KEY])
    await clean(cache)
    [entry] = await cache.lookup([KEY])
    assert entry is not None
    assert (path, []) == (entry.path, files(state(cache, "new")))


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_removal_that_was_killed_in_the_middle_is_finished(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch, *, is_replaced: bool
) -> None:
    """The data that is nobody's is removed, unless a new version has been published in its place."""
    await publish(cache)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_removal, "this_process", lambda: DEAD)
        patch.setattr(_removal, "_remove_data", die)
        with pytest.raises(KeyboardInterrupt):
            await anyio.to_thread.run_sync(_removal.remove_entry, cache._ground, "bucket/a.bin", lambda _: True)
    if is_replaced:
        await publish(cache)
    assert (0 if is_replaced else len(DATA)) == await clean(cache)
    expected = (["a.bin"], ["a.bin.json"]) if is_replaced else ([], [])
    assert expected == (files(cache.cache_dir / "bucket"), files(state(cache, "meta")))


async def test_leases_of_ended_processes_are_removed(cache: FileCache) -> None:
    """Those of running ones stay."""
    lease = await cache.hold(KEY)
    assert lease.token is not None
    ours = Path(lease.token)
    hash_, _, rest = ours.name.split(".", 2)
    ours.with_name(f"{hash_}.{DEAD.number}-1-{_processes.tag().rpartition('-')[2]}.{rest}").touch()
    await clean(cache)
    assert [ours.name] == [name for name in files(state(cache, "lease")) if name.endswith(".held")]
    await cache.let_go(lease)


# -- sidecars without data


async def test_a_sidecar_whose_file_is_gone_is_removed(cache: FileCache) -> None:
    """Its own bytes are what is freed."""
    await publish(cache)
    (cache.cache_dir / "bucket" / "a.bin").unlink()
    size = (state(cache, "meta") / "bucket" / "a.bin.json").stat().st_size
    assert (size, []) == (await clean(cache), files(state(cache, "meta")))


async def test_g4_a_file_published_while_its_old_sidecar_is_cleaned_is_not_lost(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sidecar is only removed if its data is still missing when nobody can be given the entry any more."""
    path = await publish(cache)
    copy = path.with_name("copy")
    path.rename(copy)
    original = _disk.replace

    def replace(source: str, target: str) -> None:
        original(source, target)
        if target.endswith("~"):
            shutil.move(copy, path)

    monkeypatch.setattr(_disk, "replace", replace)
    await clean(cache)
    assert [path] == [entry.path for entry in await cache.lookup([KEY]) if entry is not None]


async def test_files_that_the_cache_does_not_know_or_that_were_changed_stay(cache: FileCache) -> None:
    """What somebody has put there, or edited, is his."""
    path = await publish(cache)
    path.write_bytes(b"edited")
    (path.parent / "own.bin").write_bytes(b"own")
    assert (0, ["a.bin", "own.bin"]) == (await clean(cache), files(cache.cache_dir / "bucket"))


# -- whose data


OLD, NEW = "s3://bucket/a.bin", "s3://bucket/new.bin"


async def declare(cache: FileCache, project: str = "/project", **datasets: str) -> None:
    await cache.declare(Declaration(project, tuple(datasets.items())))


async def test_data_of_a_dataset_that_was_taken_out_is_removed(cache: FileCache) -> None:
    """The catalog of the same project that has a name in common with the earlier one has taken its place."""
    await publish(cache, OLD)
    await publish(cache, NEW)
    await declare(cache, one=NEW, two=OLD)
    assert (len(DATA), ["new.bin"]) == (await clean(cache, one=NEW), files(cache.cache_dir / "bucket"))


async def test_data_of_a_source_that_was_changed_is_removed(cache: FileCache) -> None:
    """A dataset that is somewhere else now needs its old copy no more; patterns mean what they match."""
    await publish(cache, "s3://bucket/2023/x.bin")
    await publish(cache, "s3://bucket/2024/x.bin")
    await declare(cache, one="s3://bucket/2023/*.bin")
    await clean(cache, one="s3://bucket/2024/")
    assert ["s3://bucket/2024/x.bin"] == [entry.key.uri for entry in await cache.entries()]


async def used_by_another_project(cache: FileCache) -> None:
    await declare(cache, "/elsewhere", one=OLD)


async def used_by_another_catalog_of_the_project(cache: FileCache) -> None:
    await declare(cache, other=OLD)


async def used_since_by_a_catalog_with_the_same_names(cache: FileCache) -> None:
    await declare(cache, one=OLD)
    await declare(cache, one=NEW)
    await declare(cache, one=OLD)


async def used_by_a_catalog_with_the_same_names_in_another_project(cache: FileCache) -> None:
    await declare(cache, "/elsewhere", one=OLD, two=NEW)
    await declare(cache, one=OLD)


async def of_which_no_catalog_has_told(cache: FileCache) -> None:
    await declare(cache, one="s3://bucket/something-else")


async def damaged_declarations(cache: FileCache) -> None:
    await declare(cache, one=OLD)
    [path] = state(cache, "catalogs").iterdir()
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize(
    "before",
    [
        used_by_another_project,
        used_by_another_catalog_of_the_project,
        used_since_by_a_catalog_with_the_same_names,
        used_by_a_catalog_with_the_same_names_in_another_project,
        of_which_no_catalog_has_told,
        damaged_declarations,
    ],
    ids=lambda before: before.__name__.replace("_", " "),
)
async def test_data_that_somebody_else_may_want_stays(cache: FileCache, before: Callable[[FileCache], object]) -> None:
    """Only what an outdated declaration had, and no other one has, is removed."""
    await publish(cache, OLD)
    await before(cache)  # type: ignore[misc]
    assert (0, ["a.bin"]) == (await clean(cache, one=NEW), files(cache.cache_dir / "bucket"))


async def test_data_that_is_open_stays(cache: FileCache) -> None:
    """A lease keeps what nobody declares any more, until it is let go of."""
    await publish(cache, OLD)
    await declare(cache, one=OLD)
    lease = await cache.hold(CacheKey(OLD))
    held = await clean(cache, one=NEW)
    await cache.let_go(lease)
    assert (0, len(DATA)) == (held, await clean(cache, one=NEW))


async def test_many_datasets_are_cleaned_in_one_pass(cache: FileCache) -> None:
    """How many sources there are doesn't multiply with how many files there are."""
    asked: list[Collection[str]] = []

    def count(sources: Collection[str]) -> Callable[[str], bool]:
        asked.append(sources)
        return meant_by(sources)

    await declare(cache, one=OLD, **{f"d{n}": f"s3://bucket/{n}" for n in range(50)})
    await cache.clean(Declaration("/project", (("one", NEW),)), count)
    assert 2 == len(asked)
