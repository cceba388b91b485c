"""Storages that installed packages bring: an example package, and all that can be wrong with one."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from datacachalog import (
    AsyncCatalog,
    Catalog,
    CatalogConfig,
    ConfigurationError,
    Dataset,
    InvalidSourceError,
    RouterStorage,
)
from datacachalog.ports import ReadRequest
from datacachalog.testing import MemoryStorage
from datacachalog.testing.contracts import PicklableStorageContract

PACKAGE = Path(__file__).parent / "sqlite_package"

Install = Callable[..., Path]


def put(database: Path, uri: str, data: bytes) -> None:
    row = (uri, uuid.uuid4().hex, time.time(), data)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", row)


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database, in which the example package finds its objects, and the package installed."""
    monkeypatch.syspath_prepend(PACKAGE)
    from datacachalog_sqlite import TABLE

    path = tmp_path / "objects.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(TABLE)
    monkeypatch.setenv("SQLITE_OBJECTS", str(path))
    return path


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package: a module, and what pip writes down of it."""

    def install(name: str, code: str, *entry_points: str) -> Path:
        directory = tmp_path / "site" / name
        about = directory / f"{name}-2.0.dist-info"
        about.mkdir(parents=True)
        (directory / f"{name}.py").write_text(code)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
        (about / "entry_points.txt").write_text("\n".join(["[datacachalog.storages]", *entry_points]))
        monkeypatch.syspath_prepend(directory)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return directory

    return install


def test_how_to_page_shows_the_package_that_is_tested():
    """The adapter on the page is the one that has passed the contract."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "own-storage.md"
    code = (PACKAGE / "datacachalog_sqlite.py").read_text(encoding="utf-8")
    assert f"```python\n{code}```\n" in page.read_text(encoding="utf-8")


class TestExamplePackage(PicklableStorageContract):
    """The example is a storage as a catalog wants it."""

    listed_count = 9

    @pytest.fixture
    def storage(self, database):
        from datacachalog_sqlite import SqliteStorage

        return SqliteStorage(page_size=4)

    @pytest.fixture
    def seed(self, database):
        async def seed(key, data):
            put(database, f"sqlite://shop/{key}", data)
            return f"sqlite://shop/{key}"

        return seed

    @pytest.fixture
    def delete(self, database):
        async def delete(uri):
            with closing(sqlite3.connect(database)) as connection, connection:
                connection.execute("DELETE FROM objects WHERE uri = ?", [uri])

        return delete


def test_storage_of_an_installed_package_serves_its_scheme(database, tmp_path):
    """A source of a package's scheme is fetched, listed and revalidated with no word about the package."""
    put(database, "sqlite://shop/a.csv", b"a")
    put(database, "sqlite://shop/b.csv", b"b")
    datasets = [Dataset("one", "sqlite://shop/a.csv"), Dataset("all", "SQLite://shop/*.csv")]
    with Catalog(datasets, cache_dir=tmp_path / "cache", progress=False) as catalog:
        found = [catalog.fetch("one").read_bytes(), *(path.read_bytes() for path in catalog.fetch_files("all"))]
        put(database, "sqlite://shop/a.csv", b"newer")
        found.append(catalog.fetch("one").read_bytes())
    assert [b"a", b"a", b"b", b"newer"] == found


async def test_storage_of_an_installed_package_is_there_beside_ones_own(database):
    """A router that was given storages finds those of packages too."""
    put(database, "sqlite://shop/a", b"content")
    async with RouterStorage({"mem": MemoryStorage()}).connect(CatalogConfig()) as session:
        assert 7 == (await session.head("sqlite://shop/a")).size


async def test_what_is_passed_goes_before_what_is_installed(database):
    """The storage that a program names is the one that is used."""
    own = MemoryStorage()
    own.put("sqlite://shop/a", b"own")
    async with RouterStorage({"sqlite": own}).connect(CatalogConfig()) as session:
        assert 3 == (await session.head("sqlite://shop/a")).size


SEEKABLE = """
from contextlib import asynccontextmanager
from datacachalog.testing import MemoryStorage

storage = MemoryStorage()
opened, closed = [], []

class Watched:
    @asynccontextmanager
    async def connect(self, config):
        opened.append(config)
        async with storage.connect(config) as session:
            yield session
        closed.append(config)
"""


async def test_installed_storage_is_opened_once_and_closed_with_the_catalog(install, tmp_path):
    """Many sources that are asked for at once share one session, whichever task was first."""
    install("watched", SEEKABLE, "watched = watched:Watched")
    import watched

    names = [f"{number}" for number in range(20)]
    for name in names:
        watched.storage.put(f"watched://bucket/{name}", name.encode())
    async with AsyncCatalog(
        [Dataset(name, f"watched://bucket/{name}") for name in names], cache_dir=tmp_path, progress=False
    ) as catalog:
        await catalog.fetch_all()
        assert (1, 0) == (len(watched.opened), len(watched.closed))
    assert (1, 1) == (len(watched.opened), len(watched.closed))


async def test_installed_storage_can_confirm_many_copies_by_a_listing(install, tmp_path):
    """The first question after a start is a listing where the storage can begin one behind any key."""
    install("seekable", SEEKABLE, "seekable = seekable:Watched")
    import seekable

    names = [f"{number:02}" for number in range(20)]
    for name in names:
        seekable.storage.put(f"seekable://bucket/{name}", name.encode())
    datasets = [Dataset(name, f"seekable://bucket/{name}") for name in names]
    for _ in range(2):
        async with AsyncCatalog(datasets, cache_dir=tmp_path, progress=False) as catalog:
            report = await catalog.fetch_all()
    assert (1, {"revalidated"}) == (report.requests, {result.action for result in report.values()})


def test_installed_storage_that_lists_from_the_beginning_only_is_asked_for_each(database, tmp_path):
    """Where a listing can't begin behind a key, many copies are revalidated one by one."""
    names = [f"{number}" for number in range(20)]
    for name in names:
        put(database, f"sqlite://shop/{name}", name.encode())
    datasets = [Dataset(name, f"sqlite://shop/{name}") for name in names]
    for _ in range(2):
        with Catalog(datasets, cache_dir=tmp_path / "cache", progress=False) as catalog:
            report = catalog.fetch_all()
    assert {"revalidated"} == {result.action for result in report.values()}


async def test_storage_that_no_package_brings_is_refused_with_what_to_do():
    """The text says how to add one."""
    async with RouterStorage().connect(CatalogConfig()) as session:
        for _ in range(2):
            with pytest.raises(InvalidSourceError, match=r"no storage for gopher://.*'datacachalog\.storages'"):
                async with session.read(ReadRequest(uri="gopher://host/a")):
                    pass


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import a_module_that_is_not_there", "ModuleNotFoundError: No module named 'a_module_that_is_not_there'"),
        ("", "AttributeError"),
        ("def Broken():\n    raise KeyError('BROKEN_TOKEN')", "KeyError: 'BROKEN_TOKEN'"),
        ("def Broken(bucket):\n    return bucket", r"TypeError: Broken\(\) missing 1 required positional argument"),
        ("class Broken:\n    pass", r"it gives a Broken, which has no connect\(\)"),
        ("Broken = object()", "TypeError: 'object' object is not callable"),
    ],
)
async def test_package_whose_storage_cannot_be_used_is_named(install, code, reason):
    """What a package does wrong is an error of the configuration that names the package, each time it is met."""
    install("broken", code, "broken = broken:Broken")
    async with RouterStorage().connect(CatalogConfig()) as session:
        for _ in range(2):
            with pytest.raises(
                ConfigurationError, match=rf"broken:\S+ .*broken:Broken of the package broken 2\.0: {reason}"
            ):
                await session.head("broken://bucket/a")


async def test_scheme_that_two_packages_bring_is_refused(install):
    """Which one is meant can't be guessed."""
    install("first", SEEKABLE, "both = first:Watched")
    install("second", SEEKABLE, "Both = second:Watched")
    async with RouterStorage().connect(CatalogConfig()) as session:
        with pytest.raises(ConfigurationError, match=r"several packages .* both://: first 2\.0, second 2\.0; .*'both'"):
            await session.head("both://bucket/a")


async def test_package_cannot_take_the_place_of_a_built_in_storage(install):
    """`s3` is S3, also where a router has only files."""
    install("thief", "raise SystemExit('it was imported')", "s3 = thief:Thief")
    async with RouterStorage({"mem": MemoryStorage()}).connect(CatalogConfig()) as session:
        with pytest.raises(InvalidSourceError, match="no storage for s3://"):
            await session.head("s3://bucket/a")


def test_g12_packages_are_imported_in_a_worker_thread(install, tmp_path):
    """Importing a package takes as long as it takes, and the event loop goes on meanwhile."""
    code = SEEKABLE + "\nimport threading\nthread = threading.current_thread().name"
    install("slow", code, "slow = slow:Watched")
    with Catalog([Dataset("a", "slow://bucket/a")], cache_dir=tmp_path, progress=False) as catalog:
        catalog.status()
    assert "datacachalog loop" != sys.modules["slow"].thread


def test_installed_packages_cost_nothing_before_they_are_used(database, tmp_path):
    """Neither importing, nor making a catalog, nor `catalog list` reads what is installed."""
    (tmp_path / "datacachalog.toml").write_text("datasets.a.source = 'sqlite://shop/a'")
    code = """
import sys
from datacachalog import Catalog, Dataset
Catalog([Dataset('a', 'sqlite://shop/a')], cache_dir='cache')
from datacachalog.cli import main
sys.argv = ['catalog', 'list']
try:
    main()
except SystemExit:
    pass
print(sorted({'importlib.metadata', 'datacachalog_sqlite'} & set(sys.modules)))
"""
    environment = os.environ | {"PYTHONPATH": str(PACKAGE)}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code.replace("import sys", f"import sys; sys.path += {sys.path!r}", 1)],
        capture_output=True, text=True, env=environment, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert "[]" == done.stdout.splitlines()[-1]
    assert "sqlite://shop/a" in done.stdout
