"""`catalog://` for what speaks fsspec: the tree, what is asked and fetched for it, and the libraries that read it."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta
from functools import partialmethod
from pathlib import Path

import fsspec
import pandas as pd
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests

from datacachalog import (
    Catalog,
    CatalogConfig,
    ConfigurationError,
    Dataset,
    ObjectNotFoundError,
    StaleDataWarning,
    StorageUnreachableError,
)
from datacachalog.integrations.fsspec import CatalogFileSystem
from datacachalog.testing import FaultyStorage, MemoryStorage, Unreachable

TOML = """
cache_dir = "cache"

[datasets.customers]
source = "remote/customers.csv"

[datasets.events]
source = "remote/events/**/*.parquet"

[catalogs.core.datasets.prices]
source = "remote/prices.json"
"""

FRAME = pd.DataFrame({"id": [1, 2], "name": ["Ada", "Grace"]})

MakeFs = Callable[..., CatalogFileSystem]


@pytest.fixture(autouse=True)
def _closed_catalogs() -> Iterator[None]:
    """fsspec keeps its instances, and they their catalogs."""
    yield
    for fs in CatalogFileSystem._cache.values():
        fs.catalog.close()
    CatalogFileSystem.clear_instance_cache()
    gc.collect()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in the working directory, whose remote is a directory of it."""
    root = tmp_path / "project"
    (root / "remote" / "events" / "2024").mkdir(parents=True)
    FRAME.to_csv(root / "remote" / "customers.csv", index=False)
    FRAME.to_parquet(root / "remote" / "events" / "2024" / "a.parquet")
    FRAME.to_parquet(root / "remote" / "events" / "b.parquet")
    (root / "remote" / "prices.json").write_text("{}")
    (root / "datacachalog.toml").write_text(TOML)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def memory() -> MemoryStorage:
    storage = MemoryStorage()
    for key in ("one", "many/a.csv", "many/2024/b.csv", "many/2024/c.csv", "many/2024/c.csv.bak"):
        storage.put(f"mem://bucket/{key}", f"content of {key}".encode())
    return storage


@pytest.fixture
def make(memory: MemoryStorage, tmp_path: Path) -> Iterator[MakeFs]:
    """Make a file system of a catalog of the storage in memory."""
    datasets = [
        Dataset("one", "mem://bucket/one"),
        Dataset("many", "mem://bucket/many/**/*.csv"),
        Dataset("core/two", "mem://bucket/one"),
    ]
    made: list[Catalog] = []

    def make(more: list[Dataset] | None = None, storage: object = None, **settings: object) -> CatalogFileSystem:
        catalog = Catalog(
            [*datasets, *(more or [])],
            cache_dir=tmp_path / "cache",
            storage=memory if storage is None else storage,
            config=CatalogConfig(retries=0, **settings),
            progress=False,
        )
        made.append(catalog)
        return fsspec.filesystem("catalog", using=catalog)

    yield make
    for catalog in made:
        catalog.close()


def asked(memory: MemoryStorage) -> list[tuple[str, str]]:
    return [(request.method, request.uri) for request in memory.requests]


# -- opening


def test_catalog_of_the_project_is_found(project):
    """`catalog://customers` is the dataset of the catalog that `discover` finds."""
    with fsspec.open("catalog://customers", "rt") as file:
        assert "id,name\n1,Ada\n2,Grace\n" == file.read()


def test_dataset_of_a_named_catalog_is_opened_by_its_path(project):
    """The `/` of a name stands between directories."""
    with fsspec.open("catalog://core/prices") as file:
        assert b"{}" == file.read()


def test_what_is_opened_is_the_cached_file(make):
    """There is no other copy: the file that is open is the one that `fetch` returns."""
    fs = make()
    with fs.open("catalog://one") as file:
        assert (str(fs.catalog.fetch("one")), 14, b"content of one") == (file.path, file.size, file.read())


def test_one_file_of_a_glob_is_fetched_without_the_others(make, memory):
    """One request: neither a listing nor another file."""
    assert b"content of many/2024/b.csv" == make().cat_file("many/2024/b.csv")
    assert [("GET", "mem://bucket/many/2024/b.csv")] == asked(memory)


def test_a_range_is_read_of_the_local_file(make):
    """Both ends may count from the end."""
    fs = make()
    assert [b"content", b"one"] == [fs.cat_file("one", 0, 7), fs.cat_file("one", start=-3)]


def test_file_is_copied_to_where_it_is_wanted(make, tmp_path):
    """`get` copies, so what becomes of the copy harms no cache."""
    make().get("catalog://many/2024/b.csv", str(tmp_path / "mine.csv"))
    assert b"content of many/2024/b.csv" == (tmp_path / "mine.csv").read_bytes()


def test_newer_version_is_opened_as_soon_as_it_is_there(make, memory):
    """Each opening asks the remote, as a fetch does."""
    fs = make()
    before = fs.cat_file("one")
    memory.put("mem://bucket/one", b"newer")
    assert [b"content of one", b"newer"] == [before, fs.cat_file("one")]


@pytest.mark.parametrize("path", ["nothing", "many/nothing.csv", "many/2024/c.csv.bak", "one/below", "core/nothing"])
def test_what_is_not_there_is_a_file_not_found(make, path):
    """Also what the remote has and the dataset doesn't mean."""
    fs = make()
    with pytest.raises(FileNotFoundError):
        fs.open(path)
    with pytest.raises(FileNotFoundError):
        fs.info(path)
    assert (False, False, False) == (fs.exists(path), fs.isfile(path), fs.isdir(path))


def test_name_that_is_mistyped_gets_a_hint(make):
    """As `get_dataset` gives it."""
    with pytest.raises(FileNotFoundError, match="did you mean 'many'"):
        make().open("manny")


@pytest.mark.parametrize("path", ["", "core", "many", "many/2024"])
def test_directory_cannot_be_opened(make, path):
    """A directory is none of one file."""
    with pytest.raises((IsADirectoryError, FileNotFoundError)):
        make().open(path)


def test_path_does_not_lead_out_of_a_dataset(project):
    """`..` is no way up: what is not below the dataset's directory is not there."""
    (project / "remote" / "secret.parquet").write_bytes(b"secret")
    with pytest.raises(FileNotFoundError):
        fsspec.open("catalog://events/../secret.parquet").open()


def test_key_with_dots_is_opened_where_it_is_one(make, memory):
    """In a bucket `..` is a name like others."""
    memory.put("mem://bucket/many/../odd.csv", b"odd")
    assert b"odd" == make().cat_file("many/../odd.csv")


# -- looking


def test_names_are_listed_without_a_request(make, memory):
    """Whoever wants only the names doesn't wait for the remote."""
    fs = make()
    found = [fs.ls("catalog://", detail=False), fs.ls("core", detail=False)]
    assert ([["core", "many", "one"], ["core/two"]], []) == (found, asked(memory))


def test_directory_of_a_glob_is_listed_by_its_keys(make):
    """Files by their keys from the last directory before the wildcard on."""
    fs = make()
    assert ["many/2024", "many/a.csv"] == fs.ls("many", detail=False)
    assert ["many/2024/b.csv", "many/2024/c.csv"] == fs.ls("catalog://many/2024/", detail=False)


def test_everything_below_is_found_with_a_listing_a_dataset(make, memory):
    """`find` and `glob` don't ask for each directory."""
    fs = make()
    assert ["core/two", "many/2024/b.csv", "many/2024/c.csv", "many/a.csv", "one"] == fs.find("")
    before = len(memory.requests)
    assert ["many/2024/b.csv", "many/a.csv"] == fs.glob("many/**/[ab].csv")
    assert [("LIST", "mem://bucket/many/")] == asked(memory)[before:]


def test_found_directories_and_depths_are_those_of_fsspec(make):
    """As the file system in memory of fsspec gives them for the same tree."""
    fs, like = make(), fsspec.filesystem("memory", skip_instance_cache=True)
    for path in fs.find(""):
        like.pipe(f"/top/{path}", b"")
    for root in ("", "many", "many/2024", "one", "nothing"):
        for depth in (None, 1, 2):
            for withdirs in (False, True):
                expected = like.find(f"/top/{root}".rstrip("/"), maxdepth=depth, withdirs=withdirs)
                expected = [path.removeprefix("/top").removeprefix("/") for path in expected]
                found = fs.find(root, maxdepth=depth, withdirs=withdirs)
                assert [path for path in expected if path] == found, (root, depth, withdirs)
    like.rm("/top", recursive=True)


def test_info_tells_size_time_and_version(make, memory):
    """What the remote says, and no bytes are brought for it."""
    info = make().info("catalog://many/a.csv")
    assert ("many/a.csv", "file", 21) == (info["name"], info["type"], info["size"])
    assert info["etag"]
    assert {"LIST"} == {method for method, _ in asked(memory)}


def test_ukey_is_another_one_for_another_version(make, memory):
    """What is kept of a version by its key isn't taken for another one's."""
    fs = make()
    before = fs.ukey("one")
    assert before == fs.ukey("one")
    memory.put("mem://bucket/one", b"CONTENT OF ONE")
    assert before != fs.ukey("one")


def test_times_are_aware_and_utc(make):
    """An object is written once: when it was created is when it was modified."""
    fs = make()
    assert fs.created("one") == fs.modified("one")
    assert timedelta(0) == fs.modified("one").astimezone(UTC).utcoffset() == fs.modified("one").utcoffset()
    with pytest.raises(NotImplementedError):
        fs.modified("many")


def test_listing_does_not_fail_for_one_dataset_that_cannot_be_asked(make):
    """Its size is not known."""
    infos = make([Dataset("gone", "mem://bucket/gone")]).ls("", detail=True)
    assert {"core": 0, "gone": None, "many": 0, "one": 14} == {info["name"]: info["size"] for info in infos}


def test_nothing_is_left_out_of_what_is_found(make, memory):
    """A file that can't be asked is there, without a size; a glob that can't be listed is an error."""
    fs = make([Dataset("gone", "mem://bucket/gone"), Dataset("none", "mem://bucket/none/*")])
    assert ("gone" in fs.find(""), None) == (True, fs.find("", detail=True)["gone"]["size"])
    storage = FaultyStorage(memory, faults=[Unreachable(method="LIST", times=None)])
    with pytest.raises(StorageUnreachableError):
        make(storage=storage, on_unreachable="raise").find("")
    with pytest.raises(ObjectNotFoundError):
        make([Dataset("gone", "mem://bucket/gone.gz", unpack="auto")]).find("")


# -- archives


def test_unpacked_file_is_what_is_in_it(make, memory):
    """Its size is that of the unpacked bytes."""
    import gzip

    memory.put("mem://bucket/x.csv.gz", gzip.compress(b"a,b\n" * 100))
    fs = make([Dataset("x", "mem://bucket/x.csv.gz", unpack="auto")])
    assert (b"a,b\n" * 100, 400) == (fs.cat_file("x"), fs.size("x"))


def test_unpacked_archive_is_a_directory(make, memory):
    """Of the files in it, by their names."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.csv", "a")
        file.writestr("deep/b.csv", "b")
    memory.put("mem://bucket/x.zip", archive.getvalue())
    fs = make([Dataset("x", "mem://bucket/x.zip", unpack="auto"), Dataset("xs", "mem://bucket/*.zip", unpack="auto")])
    assert ["x/a.csv", "x/deep/b.csv"] == fs.find("x")
    assert (b"b", 1, True) == (fs.cat_file("x/deep/b.csv"), fs.size("x/deep/b.csv"), fs.isdir("x/deep"))
    assert b"a" == fs.cat_file("xs/x.zip/a.csv")


# -- which catalog


def test_catalog_is_given_as_a_path(project, tmp_path, monkeypatch):
    """A catalog file, or the directory that it is in; with another cache, if it is said."""
    monkeypatch.chdir(tmp_path)
    for number, catalog in enumerate([project / "datacachalog.toml", str(project)]):
        cache_dir = tmp_path / f"cache-{number}"
        with fsspec.open("catalog://core/prices", using=catalog, cache_dir=cache_dir) as file:
            assert (True, b"{}") == (file.path.startswith(str(cache_dir)), file.read())


def test_offline_sends_no_request(project):
    """Only what is cached is there."""
    with pytest.raises(StorageUnreachableError):
        fsspec.filesystem("catalog", offline=True).open("customers")
    fsspec.filesystem("catalog").cat_file("customers")
    assert 22 == fsspec.filesystem("catalog", offline=True).size("customers")


def test_options_of_fsspecs_configuration_are_heeded(project, tmp_path, monkeypatch):
    """As for every other file system."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(fsspec.config.conf, "catalog", {"using": str(project)})
    assert b"{}" == fsspec.filesystem("catalog").cat_file("core/prices")


@pytest.mark.parametrize("options", [{"using": 7}, {"catalog": "nowhere.toml"}, {}])
def test_catalog_that_there_is_not_is_refused(tmp_path, monkeypatch, options):
    """With what a catalog can be, or how one is made."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError):
        fsspec.filesystem("catalog", **options)


def test_options_beside_a_catalog_are_refused(make, tmp_path):
    """A catalog that is made already has its cache."""
    with pytest.raises(ConfigurationError, match="cache_dir"):
        fsspec.filesystem("catalog", using=make().catalog, cache_dir=tmp_path)


def test_instance_is_kept_for_the_same_catalog_and_no_other(project, tmp_path, monkeypatch):
    """Where the working directory leads to another catalog, it is another instance."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "datacachalog.toml").write_text(f"datasets.mine.source = '{project}/remote/prices.json'")
    first = fsspec.filesystem("catalog")
    assert first is fsspec.filesystem("catalog")
    assert first is fsspec.filesystem("catalog", using=project) is fsspec.filesystem("catalog", catalog=project)
    monkeypatch.chdir(other)
    second = fsspec.filesystem("catalog")
    assert (["mine"], True) == (second.ls("", detail=False), first.exists("customers"))


def test_catalog_file_that_is_changed_is_read_again(project):
    """A notebook needs no restart for a new dataset."""
    fs = fsspec.filesystem("catalog")
    before = fs.exists("new")
    (project / "datacachalog.toml").write_text(TOML + "\n[datasets.new]\nsource = 'remote/prices.json'")
    assert [False, True] == [before, fs.exists("new")]


# -- the remote is gone, or frozen


def test_cached_files_are_there_when_the_remote_is_gone(make, memory):
    """What was fetched is listed, and opened with a warning."""
    fs = make()
    fs.cat(fs.find("many"))
    fs.cat_file("one")
    gone = make(storage=FaultyStorage(memory, faults=[Unreachable(method=None, times=None)]))
    assert (14, ["many/2024", "many/a.csv"]) == (gone.size("one"), gone.ls("many", detail=False))
    with pytest.warns(StaleDataWarning):
        assert b"content of many/a.csv" == gone.cat_file("many/a.csv")
    strict = make(storage=FaultyStorage(memory, faults=[Unreachable(method=None, times=None)]), on_unreachable="raise")
    with pytest.raises(StorageUnreachableError):
        strict.size("one")


def test_frozen_catalog_has_what_its_lock_file_names(make, memory, tmp_path, monkeypatch):
    """A file that came later is not there."""
    monkeypatch.chdir(tmp_path)
    make().catalog.lock()
    memory.put("mem://bucket/many/later.csv", b"later")
    fs = make(frozen=True)
    assert ["many/2024/b.csv", "many/2024/c.csv", "many/a.csv"] == fs.find("many")
    assert b"content of many/2024/b.csv" == fs.cat_file("many/2024/b.csv")
    with pytest.raises(FileNotFoundError):
        fs.open("many/later.csv")


# -- writing


@pytest.mark.parametrize(
    "write",
    [
        lambda fs: fs.open("new", "wb"),
        lambda fs: fs.open("one", "ab"),
        lambda fs: fs.open("one", "r+b"),
        lambda fs: fs.pipe_file("one", b""),
        lambda fs: fs.write_text("one", ""),
        lambda fs: fs.touch("one"),
        lambda fs: fs.mkdir("new"),
        lambda fs: fs.makedirs("new", exist_ok=True),
        lambda fs: fs.rm("one"),
        lambda fs: fs.rmdir("many"),
        lambda fs: fs.cp("one", "new"),
        lambda fs: fs.mv("one", "new"),
        lambda fs: fs.put(__file__, "new"),
        lambda fs: FRAME.to_csv("catalog://new", storage_options={"using": fs.catalog}),
    ],
)
def test_writing_is_refused_and_says_what_writes(make, write):
    """Nothing is changed by a path: that is what `push` is for."""
    fs = make()
    with pytest.raises(io.UnsupportedOperation, match=r"can only be read.*Catalog\.push"):
        write(fs)
    assert ["core", "many", "one"] == fs.ls("", detail=False)


# -- threads, loops, processes


def test_g11_files_are_opened_in_many_threads_at_once(make, memory):
    """All threads share one catalog, which fetches a file once."""
    fs = make(max_age_seconds=60)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(fs.cat_file, ["one", "many/a.csv"] * 20))
    assert [b"content of one", b"content of many/a.csv"] * 20 == found
    assert 2 == len([method for method, _ in asked(memory) if method == "GET"])


async def test_g11_files_are_opened_inside_a_running_event_loop(make, request):
    """The loop waits meanwhile; in a worker thread it doesn't."""
    request.getfixturevalue("_unblocked_loop").deactivate()  # this loop is blocked on purpose
    fs = make()
    assert [b"content of one", True] == [fs.cat_file("one"), fs.exists("many/a.csv")]
    assert b"content of many/a.csv" == await asyncio.to_thread(fs.cat_file, "many/a.csv")


def test_pickled_file_system_is_the_same_one_here(project):
    """A catalog that was passed is known again by its copy."""
    fs = fsspec.filesystem("catalog", using=Catalog.discover())
    assert fs is pickle.loads(pickle.dumps(fs))


def test_pickled_file_system_is_one_elsewhere(project, tmp_path):
    """In another process and directory, it is of the same catalog; of many copies there is one."""
    given = fsspec.filesystem("catalog", using=Catalog.discover(project, progress=False))
    pickles = [pickle.dumps(fs) for fs in (given, given, fsspec.filesystem("catalog"))]
    code = (
        "import pickle, sys; a, b, c = (pickle.loads(p) for p in pickle.load(sys.stdin.buffer));"
        "print(a is b, a is c, a.cat_file('core/prices'), c.cat_file('core/prices'))"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(
        command,
        input=pickle.dumps(pickles),
        capture_output=True,
        cwd=tmp_path,
        check=True,
    )
    assert b"True False b'{}' b'{}'\n" == done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_g11_forked_child_opens_files(project):
    """The child has a catalog of its own, in the instance that it inherited and in a new one."""
    code = """
import fsspec, os, sys
fs = fsspec.filesystem('catalog', progress=False)
fs.cat_file('core/prices')
if os.fork() == 0:
    found = fs.cat_file('core/prices'), fsspec.filesystem('catalog', progress=False).cat_file('customers')[:2]
    os._exit(0 if found == (b'{}', b'id') else 1)
print(os.waitstatus_to_exitcode(os.wait()[1]), fs.cat_file('core/prices'))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert b"0 b'{}'\n" == done.stdout


# -- libraries


@pytest.mark.usefixtures("table_libraries")
def test_pandas_reads_datasets(project):
    """A file by its name, and the files of a glob as one frame."""
    assert FRAME.equals(pd.read_csv("catalog://customers"))
    assert FRAME.equals(pd.read_parquet("catalog://events/b.parquet"))
    assert 4 == len(pd.read_parquet("catalog://events"))


@pytest.mark.usefixtures("table_libraries")
def test_polars_reads_what_fsspec_opens(project):
    """Polars opens URLs by itself, and takes open files."""
    import polars as pl

    with fsspec.open("catalog://events/b.parquet") as file:
        assert [(1, "Ada"), (2, "Grace")] == pl.read_parquet(file).rows()


def test_duckdb_reads_datasets(project):
    """After `register_filesystem`, in SQL; the files of a glob by a glob."""
    import duckdb

    with duckdb.connect() as connection:
        connection.register_filesystem(fsspec.filesystem("catalog"))
        one = connection.sql("SELECT name FROM read_csv('catalog://customers')").fetchall()
        many = connection.sql("SELECT count(*) FROM read_parquet('catalog://events/**/*.parquet')").fetchall()
    assert ([("Ada",), ("Grace",)], [(4,)]) == (one, many)


@pytest.mark.usefixtures("table_libraries")
def test_dask_reads_datasets(project):
    """Each partition opens its own file."""
    import dask.dataframe as dd

    frame = dd.read_parquet("catalog://events")
    assert (2, 4) == (frame.npartitions, len(frame.compute(scheduler="synchronous")))
    assert FRAME.equals(dd.read_csv("catalog://customers").compute(scheduler="synchronous").astype(FRAME.dtypes))


def test_fsspec_knows_the_protocol_without_importing_it():
    """It is registered by an entry point; installed, nothing has to be imported."""
    code = "import fsspec, sys; print('catalog' in fsspec.available_protocols(), 'datacachalog' in sys.modules)"
    assert b"True False\n" == subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout


class Seeded(CatalogFileSystem):
    """What fsspec's tests of reading write, and remove again, lies at the remote: here a directory."""

    cachable = False

    def _seed(self, method: str, path: str, *args: object, **options: object) -> None:
        remote = self.catalog.get_dataset("data").source + path.removeprefix("data/")
        getattr(LocalFileSystem(auto_mkdir=True), method)(remote, *args, **options)

    mkdir = partialmethod(_seed, "mkdir")
    makedirs = partialmethod(_seed, "makedirs")
    touch = partialmethod(_seed, "touch")
    pipe = partialmethod(_seed, "pipe")
    rm = partialmethod(_seed, "rm")


class TestGet(AbstractFixtures, AbstractGetTests):
    """The read side of fsspec's own tests."""

    @pytest.fixture
    def fs(self, tmp_path):
        (tmp_path / "remote").mkdir()
        with Catalog([Dataset("data", f"{tmp_path}/remote/")], cache_dir=tmp_path / "cache", progress=False) as catalog:
            yield Seeded(using=catalog)

    @pytest.fixture
    def fs_path(self):
        return "data"

    @pytest.fixture
    def supports_empty_directories(self):
        return False
