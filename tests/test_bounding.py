"""A catalog that keeps its cache small: bounds after each publish, paths that are open, cleaning, and what it costs."""

from __future__ import annotations

import gc
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import anyio
import pytest

from datacachalog import (
    AsyncCatalog,
    CacheFullError,
    Catalog,
    CatalogConfig,
    ConfigurationError,
    Dataset,
    DatasetNotFoundError,
    FileCache,
    MultiFileDatasetError,
    ObjectNotFoundError,
)
from datacachalog import _fetching as fetching
from datacachalog.ports import CacheEntry, CacheKey
from datacachalog.testing import MemoryStorage

from .conftest import cached_files

SIZE = 10
MIB = 1024 * 1024
NAMES = ("a", "b", "c", "d")


@pytest.fixture
def storage() -> MemoryStorage:
    storage = MemoryStorage()
    for name in NAMES:
        storage.put(f"mem://bucket/{name}", name.encode().ljust(SIZE))
    return storage


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "cache"


MakeCatalog = Callable[..., AsyncCatalog]


@pytest.fixture
def make_catalog(storage: MemoryStorage, cache_dir: Path) -> MakeCatalog:
    def make(*datasets: Dataset, kind: type = AsyncCatalog, **settings: object) -> AsyncCatalog:
        datasets = datasets or tuple(Dataset(name, f"mem://bucket/{name}") for name in NAMES)
        config = CatalogConfig(**{"eviction_grace_seconds": 0.0, **settings})
        return kind(datasets, cache_dir=cache_dir, storage=storage, config=config, progress=False)

    return make


def names(cache_dir: Path) -> str:
    return " ".join(Path(file).name for file in cached_files(cache_dir))


# -- bounds


async def test_each_publish_keeps_the_cache_within_its_bound(make_catalog: MakeCatalog, cache_dir: Path) -> None:
    """What was least recently fetched makes room for what is fetched."""
    async with make_catalog(cache_max_bytes=2 * SIZE) as catalog:
        for name in ("a", "b", "a", "c"):
            await catalog.fetch(name)
    assert "a c" == names(cache_dir)


async def test_an_object_larger_than_the_bound_is_fetched_all_the_same(
    make_catalog: MakeCatalog, storage: MemoryStorage, cache_dir: Path
) -> None:
    """The bound is kept as well as it can be: all others go."""
    storage.put("mem://bucket/d", bytes(50))
    async with make_catalog(cache_max_bytes=2 * SIZE) as catalog:
        await catalog.fetch("a")
        path = await catalog.fetch("d")
    assert (bytes(50), "d") == (path.read_bytes(), names(cache_dir))


async def test_what_one_call_returns_is_there_however_small_the_bound_is(
    make_catalog: MakeCatalog, cache_dir: Path
) -> None:
    """No file of a `fetch_all` is evicted for another one of it."""
    async with make_catalog(cache_max_bytes=SIZE) as catalog:
        report = await catalog.fetch_all()
        assert [name.encode().ljust(SIZE) for name in NAMES] == [result.path.read_bytes() for result in report.values()]


async def test_what_was_just_given_to_a_caller_is_not_evicted(make_catalog: MakeCatalog, cache_dir: Path) -> None:
    """Within the grace period the bound gives way, for whoever asked for the files."""
    async with make_catalog(cache_max_bytes=SIZE, eviction_grace_seconds=60) as catalog:
        for name in NAMES:
            await catalog.fetch(name)
    assert "a b c d" == names(cache_dir)


async def test_a_bound_is_taken_from_the_environment(
    make_catalog: MakeCatalog, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`DATACACHALOG_CACHE_MAX_BYTES` is a number of bytes."""
    monkeypatch.setenv("DATACACHALOG_CACHE_MAX_BYTES", str(2 * SIZE))
    async with make_catalog() as catalog:
        for name in NAMES:
            await catalog.fetch(name)
    assert "c d" == names(cache_dir)


async def test_evict_takes_its_bounds_as_arguments_or_from_the_configuration(
    make_catalog: MakeCatalog, cache_dir: Path
) -> None:
    """Without any bound nothing is evicted."""
    async with make_catalog() as catalog:
        await catalog.fetch_all()
        assert 0 == await catalog.evict()
        assert 2 * SIZE == await catalog.evict(max_bytes=2 * SIZE)
    async with make_catalog(cache_max_bytes=SIZE) as bounded:
        assert SIZE == await bounded.evict()
        assert SIZE == await bounded.evict(0)


@pytest.mark.parametrize("bound", [-1, 1.5, True, "10"])
async def test_a_bound_that_can_not_be_is_refused(make_catalog: MakeCatalog, bound: object) -> None:
    """A bound is a whole number of bytes."""
    with pytest.raises(ConfigurationError, match="max_bytes"):
        await make_catalog().evict(max_bytes=bound)


async def test_free_space_is_a_bound_too(make_catalog: MakeCatalog, cache_dir: Path) -> None:
    """A file system that can never have so much free has nothing cached but what is in use."""
    async with make_catalog(cache_min_free_bytes=1 << 60) as catalog:
        await catalog.fetch("a")
        path = await catalog.fetch("b")
    assert ("b", True) == (names(cache_dir), path.exists())


@pytest.mark.parametrize("has_bound", [True, False])
async def test_room_is_made_for_what_does_not_fit_on_the_disk(
    make_catalog: MakeCatalog,
    storage: MemoryStorage,
    cache_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    has_bound: bool,
) -> None:
    """With a bound, others are evicted before a large file is downloaded; without one, nobody has allowed it."""
    usage = shutil.disk_usage("/")

    def five_mebibytes(path: Path) -> object:
        return usage._replace(free=5 * MIB - sum((cache_dir / file).stat().st_size for file in cached_files(cache_dir)))

    monkeypatch.setattr(shutil, "disk_usage", five_mebibytes)
    for name in NAMES:
        storage.put(f"mem://bucket/{name}", bytes(2 * MIB))
    async with make_catalog(**({"cache_max_bytes": 9 * MIB} if has_bound else {})) as catalog:
        await catalog.fetch("a")
        await catalog.fetch("b")
        with nullcontext() if has_bound else pytest.raises(CacheFullError):
            await catalog.fetch("c")
    assert ("b c" if has_bound else "a b") == names(cache_dir)


async def test_a_copy_that_is_evicted_while_it_is_asked_for_is_fetched_again(
    make_catalog: MakeCatalog, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that is returned is there, also if another process evicts the copy while the remote is asked."""
    events: list[object] = []
    async with make_catalog() as catalog:
        await catalog.fetch("a")
        catalog._observer = events.append
        use = FileCache.use

        async def evicted_first(cache: FileCache, paths: list[Path]) -> list[Path]:
            monkeypatch.setattr(FileCache, "use", use)
            monkeypatch.setattr("datacachalog.cache._usage.GRANULARITY_SECONDS", 0.0)
            await catalog.evict(max_bytes=0)
            return await use(cache, paths)

        monkeypatch.setattr(FileCache, "use", evicted_first)
        path = await catalog.fetch("a")
    told = Counter(type(event).__name__ for event in events)
    assert b"a".ljust(SIZE) == path.read_bytes()
    assert (1, 1) == (told["FileFinished"], told["DatasetFinished"])


async def test_files_of_a_long_operation_stay_in_use(
    make_catalog: MakeCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there already is kept from other processes until the last file has come."""
    monkeypatch.setattr(fetching, "_RENEWED_SECONDS", 0.001)
    noted: list[int] = []
    is_noted = anyio.Event()

    async def note(_: FileCache, paths: list[Path]) -> list[Path]:
        noted.append(len(paths))
        is_noted.set()
        return []

    monkeypatch.setattr(FileCache, "use", note)
    publish = FileCache.publish

    async def wait_for_d(cache: FileCache, verified: object) -> object:
        if verified.key.uri.endswith("d"):
            await is_noted.wait()
        return await publish(cache, verified)

    monkeypatch.setattr(FileCache, "publish", wait_for_d)
    async with make_catalog() as catalog:
        await catalog.fetch_all()
    assert (True, 4) == (noted[0] < 4, noted[-1])


# -- open paths


async def test_an_open_path_is_not_evicted(make_catalog: MakeCatalog, cache_dir: Path) -> None:
    """While the context is open the file stays; afterwards it may go."""
    async with make_catalog() as catalog:
        await catalog.fetch("b")
        async with catalog.open_path("a") as path:
            await catalog.evict(max_bytes=0)
            assert ("a", b"a".ljust(SIZE)) == (names(cache_dir), path.read_bytes())
        await catalog.evict(max_bytes=0)
    assert "" == names(cache_dir)


async def test_a_path_may_be_open_more_than_once(make_catalog: MakeCatalog, cache_dir: Path) -> None:
    """Each context holds the file for itself."""
    async with make_catalog() as catalog, catalog.open_path("a"):
        async with catalog.open_path("a"):
            pass
        await catalog.evict(max_bytes=0)
        assert "a" == names(cache_dir)


async def test_an_open_path_that_can_not_be_fetched_holds_nothing(
    make_catalog: MakeCatalog, storage: MemoryStorage, cache_dir: Path
) -> None:
    """The error is that of `fetch`, and no lease is left."""
    storage.delete("mem://bucket/a")
    async with make_catalog() as catalog:
        with pytest.raises(ObjectNotFoundError):
            async with catalog.open_path("a"):
                pass
    assert [] == list((cache_dir / ".datacachalog" / "lease").glob("*.held"))


async def test_only_a_single_file_of_the_catalog_can_be_opened(make_catalog: MakeCatalog) -> None:
    """What `fetch` refuses is refused before the context is entered."""
    catalog = make_catalog(Dataset("many", "mem://bucket/*"))
    with pytest.raises(MultiFileDatasetError):
        catalog.open_path("many")
    with pytest.raises(DatasetNotFoundError):
        catalog.open_path("no such")


def test_the_blocking_catalog_holds_a_path_open_too(make_catalog: MakeCatalog, cache_dir: Path) -> None:
    """`with catalog.open_path(name)` is the same without a loop; closing the catalog meanwhile does no harm."""
    with make_catalog(kind=Catalog) as catalog:
        with catalog.open_path("a") as path:
            catalog.evict(max_bytes=0)
            held = names(cache_dir)
            catalog.close()
        catalog.evict(max_bytes=0)
    assert ("a", False) == (held, path.exists())


async def test_verify_says_nothing_of_a_file_that_is_evicted_meanwhile(
    make_catalog: MakeCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is gone is no file that was changed."""
    async with make_catalog() as catalog:
        await catalog.fetch_all()
        recorded = FileCache.recorded

        async def evicted_then(cache: FileCache) -> list[CacheEntry]:
            entries = await recorded(cache)
            await catalog.evict(max_bytes=0)
            return entries

        monkeypatch.setattr(FileCache, "recorded", evicted_then)
        assert [] == await catalog.verify()


# -- cleaning


async def test_clean_removes_what_the_catalog_had_before(
    make_catalog: MakeCatalog, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A catalog of the same project that had a dataset more has been replaced by this one."""
    monkeypatch.chdir(tmp_path)
    async with make_catalog() as before:
        await before.fetch_all()
    async with make_catalog(Dataset("a", "mem://bucket/a")) as catalog:
        await catalog.fetch("a")
        assert (3 * SIZE, "a") == (await catalog.clean(), names(cache_dir))


async def test_clean_leaves_the_data_of_another_project(
    make_catalog: MakeCatalog, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The user's cache directory is shared by all his projects, whose datasets may have equal names."""
    for project in ("one", "two"):
        (tmp_path / project / ".git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "one")
    async with make_catalog() as other:
        await other.fetch_all()
    monkeypatch.chdir(tmp_path / "two")
    async with make_catalog(Dataset("a", "mem://bucket/a")) as catalog:
        assert (0, "a b c d") == (await catalog.clean(), names(cache_dir))


# -- other caches, and costs


class PlainCache:
    """A cache that can do no more than it must."""

    def __init__(self, cache: FileCache) -> None:
        for name in ("lookup", "stage", "publish", "touch", "remove"):
            setattr(self, name, getattr(cache, name))


async def test_a_cache_that_keeps_no_bounds_is_told_of_by_name(storage: MemoryStorage, cache_dir: Path) -> None:
    """What it can't do raises; what it can do works as ever."""
    settings = {"storage": storage, "cache": PlainCache(FileCache(cache_dir)), "progress": False}
    catalog = AsyncCatalog([Dataset("a", "mem://bucket/a")], **settings)
    assert b"a".ljust(SIZE) == (await catalog.fetch("a")).read_bytes()
    for call in (catalog.evict, catalog.clean):
        with pytest.raises(ConfigurationError, match="PlainCache"):
            await call()
    with pytest.raises(ConfigurationError, match="PlainCache"):
        catalog.open_path("a")
    with pytest.raises(ConfigurationError, match="PlainCache"):
        AsyncCatalog([], config=CatalogConfig(cache_max_bytes=1), **settings)
    await catalog.aclose()


async def test_cache_info_of_single_files_reads_no_other_sidecar(
    make_catalog: MakeCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What other catalogs have cached is counted without being read."""
    async with make_catalog() as other:
        await other.fetch_all()
    async with make_catalog(Dataset("a", "mem://bucket/a"), Dataset("x", "mem://bucket/x")) as catalog:
        monkeypatch.setattr(FileCache, "entries", lambda _: pytest.fail("all sidecars were read"))
        info = await catalog.cache_info()
    assert (4 * SIZE, 4, {"a": SIZE, "x": 0}) == (info.total_bytes, info.files, info.datasets)


async def test_noting_a_use_costs_a_warm_fetch_next_to_nothing(cache_dir: Path) -> None:
    """Most of the time it is not even written down: some microseconds, of the hundred that such a fetch may take."""
    cache = FileCache(cache_dir)
    path = cache.cache_dir / "bucket" / "a"
    gc.collect()
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(200):
            await cache.use([path])
        best = min(best, (time.perf_counter() - begin) / 200)
    assert best < 50e-6


async def test_a_lease_where_nothing_can_be_written_is_none(tmp_path: Path) -> None:
    """A cache that only has hits to give gives them all the same."""
    (tmp_path / "cache").write_text("not a directory")
    cache = FileCache(tmp_path / "cache")
    lease = await cache.hold(CacheKey("mem://bucket/a"))
    await cache.let_go(lease)
    assert lease.token is None
