"""Is `Catalog` the same as `AsyncCatalog`, but for the waiting?"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import anyio
import pytest

from datacachalog import (
    AsyncCatalog,
    Catalog,
    CatalogConfig,
    Dataset,
    DatasetNotFoundError,
    FetchAllError,
    Freshness,
    StaleDataWarning,
)
from datacachalog.testing import FaultyStorage, MemoryStorage, Unreachable

DATASETS = [Dataset("one", "mem://bucket/one.txt"), Dataset("two", "mem://bucket/two.txt"),
            Dataset("many", "mem://bucket/many/*.txt")]  # fmt: skip


def public_methods(kind: type) -> dict[str, object]:
    """What can be called on a catalog, under the blocking name; constructor included."""
    names = [name for name in vars(kind) if not name.startswith("_")] + ["__init__"]
    return {"close" if name == "aclose" else name: inspect.getattr_static(kind, name) for name in names}


def function_of(method: object) -> Callable[..., object]:
    """What is called: a property's getter, a classmethod's function, or the method itself."""
    return getattr(method, "fget", None) or getattr(method, "__func__", method)


def test_both_catalogs_have_the_same_methods() -> None:
    """Whatever one catalog can, the other can."""
    assert sorted(public_methods(AsyncCatalog)) == sorted(public_methods(Catalog))


def test_both_catalogs_have_the_same_signatures() -> None:
    """A method takes and returns the same in both catalogs."""
    differences = {}
    for name, method in public_methods(AsyncCatalog).items():
        other = public_methods(Catalog)[name]
        signatures = [str(inspect.signature(function_of(each))) for each in (method, other)]
        signatures[0] = signatures[0].replace("AbstractAsyncContextManager", "AbstractContextManager")
        if signatures[0] != signatures[1]:
            differences[name] = signatures
    assert {} == differences


def test_both_catalogs_have_the_same_docstrings() -> None:
    """A method says the same of itself in both catalogs, and says something."""
    documented = {name: inspect.getdoc(method) for name, method in public_methods(AsyncCatalog).items()}
    del documented["__init__"]
    ours = {name: inspect.getdoc(public_methods(Catalog)[name]) for name in documented}
    assert documented == ours
    assert all(documented.values())


def test_both_catalogs_explain_their_arguments_alike() -> None:
    """The classes' docstrings differ in how they are used only, not in what they take."""

    def arguments(kind: type) -> str:
        return inspect.cleandoc(kind.__doc__ or "").partition("Args:")[2]

    assert arguments(AsyncCatalog) == arguments(Catalog)


def test_only_the_blocking_catalog_blocks() -> None:
    """Every method that is a coroutine in `AsyncCatalog` is none in `Catalog`, but for `lifespan`."""
    asynchronous = [name for name, each in public_methods(AsyncCatalog).items() if inspect.iscoroutinefunction(each)]
    assert [] == [name for name in asynchronous if inspect.iscoroutinefunction(public_methods(Catalog)[name])]


@pytest.fixture
def storage() -> FaultyStorage:
    memory = MemoryStorage(is_versioned=True)
    for key in ("one", "two", "many/a", "many/b"):
        memory.put(f"mem://bucket/{key}.txt", key.encode())
    return FaultyStorage(memory)


@pytest.fixture
def catalog(storage: FaultyStorage, tmp_path: Path) -> Iterator[Catalog]:
    config = CatalogConfig(retries=0)
    with Catalog(DATASETS, cache_dir=tmp_path / "cache", storage=storage, config=config, progress=False) as catalog:
        yield catalog


def entered(context: AbstractContextManager[Path]) -> Iterator[Path]:
    with context as path:
        yield path


WORKS: dict[str, tuple[Callable[[Catalog], object], object]] = {
    "fetch": (lambda c: c.fetch("one").read_text(), "one"),
    "fetch_files": (lambda c: [path.read_text() for path in c.fetch_files("many")], ["many/a", "many/b"]),
    "fetch_all": (lambda c: list(c.fetch_all()), ["one", "two", "many"]),
    "load": (lambda c: c.load("one", Path.read_text), "one"),
    "plan": (lambda c: c.plan(["one"]).requests, 1),
    "is_stale": (lambda c: c.is_stale("one"), True),
    "status": (lambda c: c.status(["one"])[0].freshness, Freshness.MISSING),
    "cache_info": (lambda c: c.cache_info().files, 0),
    "invalidate": (lambda c: (c.fetch_files("many"), c.invalidate("many"))[1], 2),
    "evict": (lambda c: (c.fetch("one"), c.evict(max_bytes=0))[1], 0),
    "clean": (lambda c: c.clean(), 0),
    "open_path": (lambda c: [path.read_text() for path in entered(c.open_path("one"))], ["one"]),
    "datasets": (lambda c: c.datasets, DATASETS),
    "get_dataset": (lambda c: c.get_dataset("one"), DATASETS[0]),
    "versions": (lambda c: [version.size for version in c.versions("one")], [3]),
    "lock": (lambda c: c.lock(["one"], c.fetch("one").parents[3] / "x.lock").name, "x.lock"),
    "close": (lambda c: c.close(), None),
}


@pytest.mark.parametrize("name", WORKS)
def test_g11_a_method_works_without_a_loop(catalog: Catalog, name: str) -> None:
    """A method, called where no event loop runs, returns what its twin would."""
    call, expected = WORKS[name]
    assert expected == call(catalog)


@pytest.mark.parametrize("name", ["fetch", "load", "is_stale"])
def test_an_error_of_the_asynchronous_twin_is_raised(catalog: Catalog, name: str) -> None:
    """A method raises what its twin raises."""
    with pytest.raises(DatasetNotFoundError):
        getattr(catalog, name)("no such dataset")


async def test_lifespan_fetches_on_the_applications_loop_and_leaves_the_catalog_usable(catalog: Catalog) -> None:
    """Within the lifespan of an application everything is fetched, and the blocking methods work in its threads."""
    async with catalog.lifespan(object()):
        assert "two" == await anyio.to_thread.run_sync(lambda: catalog.fetch("two", offline=True).read_text())


STALE: dict[str, Callable[[Catalog], object]] = {
    "fetch": lambda c: c.fetch("one"),
    "fetch_files": lambda c: c.fetch_files("many"),
    "fetch_all": lambda c: c.fetch_all(["one"]),
    "load": lambda c: c.load("one", Path.read_text),
}


@pytest.mark.parametrize("name", STALE)
def test_a_stale_copy_is_warned_of_on_the_callers_line(catalog: Catalog, storage: FaultyStorage, name: str) -> None:
    """`StaleDataWarning` points at the line that called the catalog."""
    catalog.fetch_all()
    storage.add_faults(Unreachable(method=None, times=None))
    with pytest.warns(StaleDataWarning, match="may be out of date") as caught:
        STALE[name](catalog)
    line = STALE[name].__code__.co_firstlineno
    assert [(__file__, line)] == [(warning.filename, warning.lineno) for warning in caught]


@pytest.mark.parametrize("name", STALE)
def test_a_stale_copy_is_an_error_where_warnings_are(catalog: Catalog, storage: FaultyStorage, name: str) -> None:
    """With warnings as errors, the call that would serve a stale copy raises, in the thread that called."""
    catalog.fetch_all()
    storage.add_faults(Unreachable(method=None, times=None))
    with warnings.catch_warnings():
        warnings.simplefilter("error", StaleDataWarning)
        with pytest.raises(StaleDataWarning):
            STALE[name](catalog)


def test_stale_copies_are_warned_of_also_where_other_datasets_fail(catalog: Catalog, storage: FaultyStorage) -> None:
    """A `fetch_all` that raises warns of the stale copies in its report first."""
    catalog.fetch("one")
    storage.add_faults(Unreachable(method=None, times=None))
    with (
        pytest.warns(StaleDataWarning, match="'one'") as caught,
        pytest.raises(FetchAllError),
    ):
        catalog.fetch_all()
    assert [__file__] == [warning.filename for warning in caught]


async def test_a_stale_copy_is_warned_of_on_the_awaiting_line(storage: FaultyStorage, tmp_path: Path) -> None:
    """With `AsyncCatalog`, `StaleDataWarning` points at the line that awaits."""
    config = CatalogConfig(retries=0)
    async with AsyncCatalog(DATASETS, cache_dir=tmp_path, storage=storage, config=config, progress=False) as catalog:
        await catalog.fetch("one")
        storage.add_faults(Unreachable(method=None, times=None))
        with pytest.warns(StaleDataWarning) as caught:
            await catalog.fetch("one")
    assert [__file__] == [warning.filename for warning in caught]
