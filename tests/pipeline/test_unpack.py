"""Datasets that are archives, from the remote to what a caller gets."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from datacachalog import (
    ArchiveError,
    ArchiveTooLargeError,
    AsyncCatalog,
    Catalog,
    CatalogConfig,
    ConfigurationError,
    Dataset,
    FileCache,
    Freshness,
    IntegrityError,
    LockMismatchError,
    StaleDataWarning,
    UnsafePathError,
    _fetching,
)
from datacachalog._pipeline.unpack import unpacked_result
from datacachalog.cache import _extraction
from datacachalog.ports import CacheKey, Event, UnpackStarted
from datacachalog.testing import FaultyStorage, MemoryStorage, Unreachable

from .._archives import tar_bytes, tar_member, zip_bytes

CSV = b"x,y\n1,2\n"
MakeCatalog = Callable[..., AsyncCatalog]


@pytest.fixture
def storage() -> MemoryStorage:
    storage = MemoryStorage()
    storage.put("s3://bucket/data.csv.gz", gzip.compress(CSV))
    storage.put("s3://bucket/tree.zip", zip_bytes({"b.json": b"[2]", "a/1.json": b"[1]"}))
    return storage


@pytest.fixture
async def make_catalog(storage: MemoryStorage, tmp_path: Path) -> AsyncIterator[MakeCatalog]:
    """Make catalogs of archives in the storage, which are closed at the end."""
    made: list[AsyncCatalog] = []

    def make(*datasets: Dataset | str, **arguments: object) -> AsyncCatalog:
        values = [d if isinstance(d, Dataset) else Dataset(d, f"s3://bucket/{d}", unpack="auto") for d in datasets]
        settings = {"cache_dir": tmp_path / "cache", "storage": storage, "progress": False} | arguments
        catalog = AsyncCatalog(values, **settings)
        made.append(catalog)
        return catalog

    yield make
    for catalog in made:
        await catalog.aclose()


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was unpacked, and not found there already."""
    uris: list[str] = []
    run = _extraction.Extraction.run

    def counted(extraction, file):
        uris.append(extraction._uri)
        return run(extraction, file)

    monkeypatch.setattr(_extraction.Extraction, "run", counted)
    return uris


def names(paths: list[Path] | tuple[Path, ...]) -> list[str]:
    return [path.name for path in paths]


# -- what a caller gets


async def test_compressed_file_is_fetched_as_the_file_in_it(make_catalog):
    """`fetch` gives the path of the file in it; `fetch_files` a list of that one."""
    catalog = make_catalog("data.csv.gz")
    path = await catalog.fetch("data.csv.gz")
    assert ("data.csv", CSV, [path]) == (path.name, path.read_bytes(), await catalog.fetch_files("data.csv.gz"))


async def test_archive_is_fetched_as_a_directory(make_catalog):
    """`fetch` gives the directory, `fetch_files` the files in it, a result both."""
    catalog = make_catalog("tree.zip")
    path = await catalog.fetch("tree.zip")
    files = [path / "a" / "1.json", path / "b.json"]
    result = (await catalog.fetch_all())["tree.zip"]
    assert (True, "tree", files) == (path.is_dir(), path.name, await catalog.fetch_files("tree.zip"))
    assert (path, path, tuple(files), os.fspath(path)) == (
        result.path, result.directory, result.paths, os.fspath(result)
    )  # fmt: skip


async def test_archive_of_nothing_is_an_empty_directory(make_catalog, storage):
    """There is a path, and no file."""
    storage.put("s3://bucket/none.tar", tar_bytes())
    catalog = make_catalog("none.tar")
    assert ([], []) == (os.listdir(await catalog.fetch("none.tar")), await catalog.fetch_files("none.tar"))


async def test_each_file_of_a_glob_is_unpacked_by_its_own_suffix(make_catalog, storage):
    """Sorted by their keys; one that is no archive is given as it is."""
    storage.put("s3://bucket/many/2.csv.gz", gzip.compress(b"two"))
    storage.put("s3://bucket/many/1.tar", tar_bytes({"b": b"1b", "a": b"1a"}))
    storage.put("s3://bucket/many/3.csv", b"three")
    catalog = make_catalog(Dataset("many", "s3://bucket/many/*", unpack="auto"))
    paths = await catalog.fetch_files("many")
    assert ["a", "b", "2.csv", "3.csv"] == names(paths)
    assert [b"1a", b"1b", b"two", b"three"] == [path.read_bytes() for path in paths]


async def test_format_can_be_said_where_the_suffix_does_not_tell(make_catalog, storage):
    """An explicit format goes for each file of a prefix."""
    storage.put("s3://bucket/dumps/monday", gzip.compress(CSV))
    catalog = make_catalog(Dataset("dumps", "s3://bucket/dumps/", unpack="gzip"))
    [path] = await catalog.fetch_files("dumps")
    assert ("monday", CSV) == (path.name, path.read_bytes())


async def test_load_of_an_archive_of_nothing_says_so(make_catalog, storage):
    """There is no frame of no file; a reader gets the empty list."""
    storage.put("s3://bucket/none.tar", tar_bytes())
    catalog = make_catalog("none.tar")
    assert [] == await catalog.load("none.tar", reader=list)
    with pytest.raises(ConfigurationError, match="holds no file"):
        await catalog.load("none.tar")


async def test_load_reads_what_is_in_it(make_catalog, storage):
    """A compressed file by its remaining suffix; of many files each one, and a reader gets the list."""
    storage.put("s3://bucket/one.json.gz", gzip.compress(b"[3]"))
    catalog = make_catalog("one.json.gz", "tree.zip")
    assert ([3], [[1], [2]]) == (await catalog.load("one.json.gz"), await catalog.load("tree.zip"))
    assert ["1.json", "b.json"] == await catalog.load("tree.zip", reader=names)


async def test_place_of_its_own_is_the_archives(make_catalog, tmp_path):
    """`cache_path` says where the archive lies; what is in it has the cache's place."""
    catalog = make_catalog(Dataset("data", "s3://bucket/data.csv.gz", unpack="auto", cache_path="mine/data.gz"))
    assert "data.csv" == (await catalog.fetch("data")).name
    assert (tmp_path / "cache" / "mine" / "data.gz").is_file()


def test_blocking_catalog_unpacks_too(storage, tmp_path):
    """A script gets the same."""
    datasets = [Dataset("tree", "s3://bucket/tree.zip", unpack="zip")]
    with Catalog(datasets, cache_dir=tmp_path / "cache", storage=storage, progress=False) as catalog:
        assert ["1.json", "b.json"] == names(catalog.fetch_files("tree"))


# -- settings


@pytest.mark.parametrize("unpack", ["rar", "", "AUTO", True, ["zip"]])
def test_unknown_format_is_refused(unpack):
    """The text has those that there are."""
    with pytest.raises(ConfigurationError, match="'auto', or one of 'gzip', 'bz2', 'xz', 'zstd', 'zip', 'tar'"):
        Dataset("a", "s3://bucket/a.zip", unpack=unpack)


def test_auto_needs_a_suffix_that_tells():
    """For a single file it is known at once that it can't be told."""
    with pytest.raises(ConfigurationError, match=r"a\.csv has none of the suffixes .*\.tar\.gz"):
        Dataset("a", "s3://bucket/a.csv", unpack="auto")


def test_cache_that_cannot_unpack_is_refused(tmp_path):
    """A cache of somebody's own need not be able to; that is said at once."""

    class Plain:
        lookup = stage = publish = touch = remove = None

    with pytest.raises(ConfigurationError, match=r"Plain can't unpack archives: see ports\.UnpackingPort"):
        AsyncCatalog([Dataset("a", "s3://bucket/a.zip", unpack="auto")], cache=Plain())


# -- once a version


async def test_fresh_archive_is_neither_downloaded_nor_unpacked_again(make_catalog, storage, extracted):
    """The archive's ETag tells that nothing has changed."""
    first = (await make_catalog("tree.zip").fetch_all())["tree.zip"]
    second = (await make_catalog("tree.zip").fetch_all())["tree.zip"]
    assert ("downloaded", "revalidated", 0) == (first.action, second.action, second.bytes_downloaded)
    assert (first.paths, ["s3://bucket/tree.zip"]) == (second.paths, extracted)


async def test_g1_new_version_is_a_new_tree(make_catalog, storage):
    """What is in it is of one version, and who reads the old one reads on."""
    catalog = make_catalog("tree.zip")
    old = await catalog.fetch("tree.zip")
    storage.put("s3://bucket/tree.zip", zip_bytes({"b.json": b"[3]"}))
    new = await catalog.fetch("tree.zip")
    assert (["b.json"], b"[3]", b"[2]") == (
        os.listdir(new),
        (new / "b.json").read_bytes(),
        (old / "b.json").read_bytes(),
    )


async def test_g6_changed_file_in_a_tree_is_noticed_by_the_next_fetch(make_catalog, storage):
    """It is unpacked again from the archive that is there, without a download."""
    catalog = make_catalog("tree.zip")
    ((await catalog.fetch("tree.zip")) / "b.json").write_bytes(b"[9]")
    result = (await catalog.fetch_all())["tree.zip"]
    assert (b"[2]", 0) == ((result.path / "b.json").read_bytes(), result.bytes_downloaded)


async def test_g6_archive_that_decayed_is_downloaded_again(make_catalog, tmp_path):
    """A copy that can't be unpacked and isn't what came from the remote is fetched once more."""
    catalog = make_catalog("data.csv.gz")
    shutil.rmtree((await catalog.fetch("data.csv.gz")).parent)
    archive = tmp_path / "cache" / "bucket" / "data.csv.gz"
    found = archive.stat()
    archive.write_bytes(bytes(found.st_size))
    os.utime(archive, ns=(found.st_atime_ns, found.st_mtime_ns))
    result = (await catalog.fetch_all())["data.csv.gz"]
    assert (CSV, found.st_size) == (result.path.read_bytes(), result.bytes_downloaded)


async def test_g7_tasks_that_want_one_archive_unpack_it_once(make_catalog, extracted):
    """One of them does it, the others take what it publishes."""
    catalog = make_catalog("tree.zip")
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(catalog.fetch, "tree.zip")
    assert ["s3://bucket/tree.zip"] == extracted


def test_g7_catalogs_that_want_one_archive_unpack_it_once(storage, tmp_path, extracted):
    """Whoever has the claim on the file unpacks it; the others wait, and take that."""
    paths: list[Path] = []
    together = threading.Barrier(3, timeout=10)

    def one() -> None:
        datasets = [Dataset("tree", "s3://bucket/tree.zip", unpack="zip")]
        with Catalog(datasets, cache_dir=tmp_path / "cache", storage=storage, progress=False) as catalog:
            together.wait()
            paths.append(catalog.fetch("tree"))

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (3, 1, ["s3://bucket/tree.zip"]) == (len(paths), len(set(paths)), extracted)


async def test_observer_is_told_that_it_takes_its_time(make_catalog):
    """Once, when something is unpacked, and not when it is there."""
    events: list[Event] = []
    catalog = make_catalog("tree.zip", progress=events.append)
    await catalog.fetch("tree.zip")
    await catalog.fetch("tree.zip")
    told = [(event.dataset, event.uri) for event in events if isinstance(event, UnpackStarted)]
    assert [("tree.zip", "s3://bucket/tree.zip")] == told


# -- without the remote


async def test_offline_what_is_there_is_served_and_unpacked_if_need_be(make_catalog, storage):
    """No request, whether the tree is there or has to be made again."""
    catalog = make_catalog("tree.zip")
    path = await catalog.fetch("tree.zip")
    storage.clear_requests()
    assert path == await catalog.fetch("tree.zip", offline=True)
    shutil.rmtree(path.parent)
    assert (path, []) == (await catalog.fetch("tree.zip", offline=True), storage.requests)


@pytest.mark.parametrize("source", ["s3://bucket/tree.zip", "s3://bucket/*.zip"])
async def test_g4_without_an_answer_the_unpacked_copy_is_served(make_catalog, storage, source):
    """A stale archive is as good as a stale file, of a glob too."""
    dataset = Dataset("tree", source, unpack="auto")
    files = await make_catalog(dataset).fetch_files("tree")
    config = CatalogConfig(retries=0)
    catalog = make_catalog(
        dataset, storage=FaultyStorage(storage, [Unreachable(method=None, times=None)]), config=config
    )
    with pytest.warns(StaleDataWarning):
        assert files == await catalog.fetch_files("tree")


# -- what goes wrong


async def test_damaged_archive_stays_and_is_not_downloaded_again(make_catalog, storage):
    """Its bytes are the remote's, so they are kept: a later fetch asks, and says the same."""
    storage.put("s3://bucket/data.csv.gz", b"<html>not found</html>")
    catalog = make_catalog("data.csv.gz", "tree.zip")
    for _ in range(2):
        report = await catalog.fetch_all(on_error="collect")
        [error] = report.errors.values()
        assert (["tree.zip"], ArchiveError) == (list(report), type(error))
        assert "s3://bucket/data.csv.gz can't be unpacked: it is no whole gzip archive" in str(error)
    assert 0 == report.bytes_downloaded
    storage.put("s3://bucket/data.csv.gz", gzip.compress(CSV))
    assert CSV == (await catalog.fetch("data.csv.gz")).read_bytes()


async def test_limits_are_settings(make_catalog):
    """The one that was raised lets it through."""
    with pytest.raises(ArchiveTooLargeError, match="unpack_max_files"):
        await make_catalog("tree.zip", config=CatalogConfig(unpack_max_files=2)).fetch("tree.zip")
    with pytest.raises(ArchiveTooLargeError, match="unpack_max_bytes"):
        await make_catalog("tree.zip", config=CatalogConfig(unpack_max_bytes=5)).fetch("tree.zip")
    config = CatalogConfig(unpack_max_files=3, unpack_max_bytes=6)
    assert 2 == len(await make_catalog("tree.zip", config=config).fetch_files("tree.zip"))


async def test_g8_archive_that_would_write_elsewhere_fails_alone(make_catalog, storage, tmp_path):
    """The dataset fails, the others don't, and nothing is there that wasn't."""
    storage.put("s3://bucket/evil.tar", tar_bytes({"../../../evil": b"x"}, tar_member("y", b"2", "/etc")))
    report = await make_catalog("evil.tar", "tree.zip").fetch_all(on_error="collect")
    assert (UnsafePathError, ["tree.zip"]) == (type(report.errors["evil.tar"]), list(report))
    assert [] == list(tmp_path.rglob("evil"))


async def test_pin_is_the_archives(make_catalog, storage):
    """`checksum` pins what comes from the remote."""
    catalog = make_catalog(Dataset("tree", "s3://bucket/tree.zip", unpack="auto", checksum="sha256:" + "0" * 64))
    with pytest.raises(IntegrityError):
        await catalog.fetch("tree")


# -- looking and managing


async def test_status_has_the_path_that_a_fetch_would_give(make_catalog):
    """None where it has to be unpacked first; the archive is as fresh as it is."""
    catalog = make_catalog("tree.zip")
    path = await catalog.fetch("tree.zip")
    [before] = await catalog.status()
    shutil.rmtree(path)
    [after] = await catalog.status()
    assert (path, None, Freshness.FRESH, False) == (
        before.path, after.path, after.freshness, await catalog.is_stale("tree.zip")
    )  # fmt: skip


async def test_cache_info_counts_archives_and_what_is_in_them(make_catalog, tmp_path):
    """Both take space, and belong to the dataset."""
    catalog = make_catalog("tree.zip", "data.csv.gz")
    await catalog.fetch("tree.zip")
    archive = (tmp_path / "cache" / "bucket" / "tree.zip").stat().st_size
    info = await catalog.cache_info()
    assert (3, archive + 6, {"tree.zip": archive + 6, "data.csv.gz": 0}) == (
        info.files, info.total_bytes, dict(info.datasets)
    )  # fmt: skip


async def test_verify_reads_archives_and_what_is_in_them(make_catalog, tmp_path):
    """It reports the archive and the files, of the datasets that are asked for."""
    catalog = make_catalog("tree.zip", "data.csv.gz")
    await catalog.fetch_all()
    changed = [(await catalog.fetch("tree.zip")) / "b.json", tmp_path / "cache" / "bucket" / "tree.zip"]
    other = await catalog.fetch("data.csv.gz")
    assert [] == await catalog.verify()
    for path in (*changed, other):
        path.write_bytes(b"?")
    assert (sorted(changed), [other]) == (await catalog.verify(["tree.zip"]), await catalog.verify(["data.csv.gz"]))


async def test_verify_says_nothing_of_what_was_replaced(make_catalog):
    """A tree that was changed, and unpacked again since, stays for its readers and is no longer served."""
    catalog = make_catalog("tree.zip")
    path = (await catalog.fetch("tree.zip")) / "b.json"
    path.write_bytes(b"?")
    before = await catalog.verify()
    await catalog.fetch("tree.zip")
    assert ([path], [], True) == (before, await catalog.verify(), path.exists())


async def test_invalidate_drops_what_was_unpacked(make_catalog, tmp_path):
    """The archive, and its tree; of a glob all of them."""
    catalog = make_catalog("tree.zip", Dataset("all", "s3://bucket/*", unpack="auto"))
    await catalog.fetch_files("all")
    assert 1 == await catalog.invalidate("tree.zip")
    assert ["data.csv"] == names([unpacked.path for unpacked in await FileCache(tmp_path / "cache").all_unpacked()])
    assert 1 == await catalog.invalidate("all")
    assert [] == await FileCache(tmp_path / "cache").all_unpacked()


async def test_plan_counts_the_archive(make_catalog, storage):
    """Unpacking costs no request and no byte of the network."""
    catalog = make_catalog("tree.zip")
    size = len(zip_bytes({"b.json": b"[2]", "a/1.json": b"[1]"}))
    before = await catalog.plan()
    await catalog.fetch("tree.zip")
    after = await catalog.plan()
    assert (size, "download", 0, "revalidate") == (
        before.bytes, before.steps[0].action, after.bytes, after.steps[0].action
    )  # fmt: skip


# -- bounds


def small(**settings: object) -> CatalogConfig:
    return CatalogConfig(**{"cache_max_bytes": 1, "eviction_grace_seconds": 0.0, **settings})


async def kept(tmp_path: Path) -> tuple[list[str], list[str]]:
    """Name the archives, and what is unpacked, that the cache has."""
    cache = FileCache(tmp_path / "cache")
    unpacked = await cache.all_unpacked()
    return names([entry.path for entry in await cache.entries()]), sorted(names([one.path for one in unpacked]))


async def test_what_is_unpacked_is_evicted_with_its_archive(make_catalog, tmp_path):
    """It makes room for the next one, whole."""
    catalog = make_catalog("tree.zip", "data.csv.gz", config=small())
    await catalog.fetch("tree.zip")
    before = await kept(tmp_path)
    await catalog.fetch("data.csv.gz")
    assert ((["tree.zip"], ["tree"]), (["data.csv.gz"], ["data.csv"])) == (before, await kept(tmp_path))


async def test_what_is_unpacked_counts_for_the_bound(make_catalog, tmp_path, storage):
    """An archive that would fit by itself doesn't if what is in it is large."""
    storage.put("s3://bucket/large.gz", gzip.compress(bytes(1_000_000)))
    catalog = make_catalog("data.csv.gz", "large.gz", config=small(cache_max_bytes=500_000))
    await catalog.fetch("data.csv.gz")
    await catalog.fetch("large.gz")
    assert (["large.gz"], ["large"]) == await kept(tmp_path)


async def test_g4_what_one_call_returns_stays_unpacked(make_catalog):
    """However small the bound is."""
    report = await make_catalog("tree.zip", "data.csv.gz", config=small()).fetch_all()
    assert [b"[1]", b"[2]", CSV] == [path.read_bytes() for result in report.values() for path in result.paths]


async def test_g4_what_was_just_given_unpacked_is_not_evicted(make_catalog, tmp_path):
    """Also if the archive has long been there, and it was only looked up."""
    await make_catalog("tree.zip").fetch("tree.zip")
    os.utime(tmp_path / "cache" / ".datacachalog" / "meta" / "bucket" / "tree.zip.json", (0, 0))
    shutil.rmtree(tmp_path / "cache" / ".datacachalog" / "usage", ignore_errors=True)
    catalog = make_catalog("tree.zip", config=small(cache_max_bytes=None, eviction_grace_seconds=60))
    path = await catalog.fetch("tree.zip", offline=True)
    assert (0, b"[2]") == (await catalog.evict(max_bytes=0), (path / "b.json").read_bytes())


async def test_g4_tree_that_is_open_is_not_evicted(make_catalog):
    """A lease of the archive holds what is in it."""
    catalog = make_catalog("tree.zip", config=small(cache_max_bytes=None))
    async with catalog.open_path("tree.zip") as path:
        assert (0, b"[2]") == (await catalog.evict(max_bytes=0), (path / "b.json").read_bytes())
    assert (True, False) == (await catalog.evict(max_bytes=0) > 6, path.exists())


async def test_g4_archive_that_is_evicted_while_it_is_asked_for_is_fetched_and_unpacked_again(
    make_catalog, monkeypatch
):
    """A path that is returned is there, also if another process evicts the archive while the remote is asked."""
    catalog = make_catalog("tree.zip", config=small(cache_max_bytes=None))
    await catalog.fetch("tree.zip")
    use = FileCache.use

    async def evicted_first(cache: FileCache, paths: list[Path]) -> list[Path]:
        monkeypatch.setattr(FileCache, "use", use)
        monkeypatch.setattr("datacachalog.cache._usage.GRANULARITY_SECONDS", 0.0)
        assert await catalog.evict(max_bytes=0) > 0
        return await use(cache, paths)

    monkeypatch.setattr(FileCache, "use", evicted_first)
    path = await catalog.fetch("tree.zip")
    assert b"[2]" == (path / "b.json").read_bytes()


# -- versions, locks and pushes


async def test_g1_version_is_unpacked_beside_the_newest(make_catalog):
    """Each has a tree of its own; `invalidate` drops only the newest's."""
    storage = MemoryStorage(is_versioned=True)
    old = storage.put("s3://bucket/data.csv.gz", gzip.compress(b"old"))
    storage.put("s3://bucket/data.csv.gz", gzip.compress(b"new"))
    catalog = make_catalog("data.csv.gz", storage=storage)
    newest = await catalog.fetch("data.csv.gz")
    path = await catalog.fetch("data.csv.gz", version_id=old.version_id)
    assert (b"old", b"new", "data.csv") == (path.read_bytes(), newest.read_bytes(), path.name)
    await catalog.invalidate("data.csv.gz")
    assert (True, False) == (path.exists(), newest.exists())
    assert path == await catalog.fetch("data.csv.gz", version_id=old.version_id, offline=True)


async def test_lock_file_names_the_archive(make_catalog, storage, tmp_path, monkeypatch):
    """A frozen catalog unpacks exactly that one, and refuses another."""
    monkeypatch.chdir(tmp_path)
    catalog = make_catalog("data.csv.gz")
    lock_path = await catalog.lock()
    [entry] = await FileCache(tmp_path / "cache").lookup([CacheKey("s3://bucket/data.csv.gz")])
    assert entry.metadata.digest in lock_path.read_text()
    settings = {"config": CatalogConfig(frozen=True)}
    assert CSV == (await make_catalog("data.csv.gz", **settings).fetch("data.csv.gz")).read_bytes()
    storage.put("s3://bucket/data.csv.gz", gzip.compress(b"other"))
    assert b"other" == (await catalog.fetch("data.csv.gz")).read_bytes()
    with pytest.raises(LockMismatchError):
        await make_catalog("data.csv.gz", **settings).fetch("data.csv.gz")


@pytest.mark.parametrize("is_frozen", [True, False])
async def test_g1_archive_that_is_replaced_before_it_is_unpacked_is_checked_anew(
    make_catalog, storage, tmp_path, monkeypatch, is_frozen
):
    """Another catalog may publish in its place what a data lock file, or a pin, does not allow."""
    monkeypatch.chdir(tmp_path)
    other = make_catalog("data.csv.gz")
    pin = None if is_frozen else f"md5:{hashlib.md5(gzip.compress(CSV, mtime=1)).hexdigest()}"
    storage.put("s3://bucket/data.csv.gz", gzip.compress(CSV, mtime=1))
    await other.lock()

    async def after_another(*arguments: object) -> object:
        monkeypatch.setattr(_fetching, "unpacked_result", unpacked_result)
        storage.put("s3://bucket/data.csv.gz", gzip.compress(b"other"))
        await other.fetch("data.csv.gz")
        return await unpacked_result(*arguments)

    dataset = Dataset("data.csv.gz", "s3://bucket/data.csv.gz", unpack="auto", checksum=pin)
    catalog = make_catalog(dataset, config=CatalogConfig(frozen=is_frozen))
    await catalog.fetch("data.csv.gz")
    monkeypatch.setattr(_fetching, "unpacked_result", after_another)
    with pytest.raises(LockMismatchError if is_frozen else IntegrityError):
        await catalog.fetch("data.csv.gz")


async def test_push_writes_the_archive_as_it_is(make_catalog, tmp_path):
    """Nothing is packed; the next fetch unpacks it without a download."""
    local = tmp_path / "mine.gz"
    local.write_bytes(gzip.compress(b"pushed"))
    catalog = make_catalog("data.csv.gz")
    await catalog.fetch("data.csv.gz")
    written = await catalog.push("data.csv.gz", local)
    result = (await catalog.fetch_all())["data.csv.gz"]
    assert (b"pushed", 0, local.stat().st_size) == (result.path.read_bytes(), result.bytes_downloaded, written.size)
