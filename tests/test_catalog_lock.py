"""Does a catalog write down what it fetched, and a frozen one fetch exactly that, or say why not?"""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from datacachalog import (
    AsyncCatalog,
    CatalogConfig,
    CatalogFileError,
    ConfigurationError,
    Dataset,
    FetchAllError,
    Freshness,
    LockMismatchError,
    ObjectNotFoundError,
    RouterStorage,
    S3Storage,
    StorageUnreachableError,
)
from datacachalog.testing import Cut, FaultServer, Meanwhile, Status, WeakEtag

MIB = 1024 * 1024
MakeCatalog = Callable[..., AsyncCatalog]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, where the lock file lies."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return project


@pytest.fixture
async def make_catalog(server: FaultServer, tmp_path: Path) -> AsyncIterator[MakeCatalog]:
    async with contextlib.AsyncExitStack() as stack:

        def make(*datasets: Dataset | str, cache: str = "cache", **settings: object) -> AsyncCatalog:
            catalog = AsyncCatalog(
                [d if isinstance(d, Dataset) else Dataset(d, f"s3://bucket/{d}") for d in datasets],
                cache_dir=tmp_path / cache,
                config=CatalogConfig(**{"retries": 0, "part_bytes": MIB, **settings}),
                storage=RouterStorage(
                    {
                        "s3": S3Storage(endpoint_url=server.endpoint_url, region="us-east-1"),
                        "file": RouterStorage().storages["file"],
                    }
                ),
                progress=False,
            )
            stack.push_async_callback(catalog.aclose)
            return catalog

        yield make


@pytest.fixture(params=["versioned", "plain"])
def is_versioned(request: pytest.FixtureRequest, server: FaultServer) -> bool:
    """A bucket that keeps versions, and one that doesn't."""
    server.create_bucket("bucket", is_versioned=request.param == "versioned")
    return request.param == "versioned"


def sent(server: FaultServer) -> list[str]:
    """Which operations were asked for since the last look."""
    found = [request.operation for request in server.requests]
    server.clear_requests()
    return found


def locked(project: Path) -> dict[str, dict[str, object]]:
    return tomllib.loads((project / "datacachalog.lock").read_text())["datasets"]


# -- lock


async def test_lock_writes_down_what_was_fetched(server: FaultServer, make_catalog: MakeCatalog, project: Path) -> None:
    """Source, ETag, version, size and digest of a file, and of each file of a glob, beside where the catalog is."""
    server.create_bucket("bucket", is_versioned=True)
    one = server.put("bucket", "one.csv", b"content")
    files = {name: server.put("bucket", f"dir/{name}", name.encode()) for name in ("b.csv", "a.csv")}
    catalog = make_catalog("one.csv", "dir/*.csv")
    assert project / "datacachalog.lock" == await catalog.lock()
    assert {
        "one.csv": {
            "uri": "s3://bucket/one.csv",
            "etag": one.etag,
            "version_id": one.version_id,
            "size": 7,
            "digest": one.checksum,
        },
        "dir/*.csv": {
            "uri": "s3://bucket/dir/*.csv",
            "files": [
                {"name": n, "etag": m.etag, "version_id": m.version_id, "size": 5, "digest": m.checksum}
                for n, m in sorted(files.items())
            ],
        },
    } == locked(project)


async def test_lock_of_some_keeps_the_others(server: FaultServer, make_catalog: MakeCatalog, project: Path) -> None:
    """A dataset is moved on by itself; the whole is written anew without names."""
    for key in ("a", "b"):
        server.put("bucket", key, b"old")
    await make_catalog("a", "b").lock()
    before = locked(project)
    for key in ("a", "b", "c"):
        server.put("bucket", key, b"new bytes")
    await make_catalog("a", "b").lock(["a"])
    assert (9, before["b"]) == (locked(project)["a"]["size"], locked(project)["b"])
    await make_catalog("b", "c").lock()
    assert ["b", "c"] == list(locked(project))


async def test_lock_that_fails_leaves_the_file_as_it_was(
    server: FaultServer, make_catalog: MakeCatalog, project: Path
) -> None:
    """Half a catalog is not locked: a dataset that fails, or can't be asked about, fails the lock."""
    server.put("bucket", "a", b"a")
    catalog = make_catalog("a", "gone")
    await catalog.lock(["a"])
    before = (project / "datacachalog.lock").read_bytes()
    with pytest.raises(FetchAllError):
        await catalog.lock()
    server.add_faults(Status(503, method=None, times=None))
    with pytest.raises(FetchAllError):
        await catalog.lock(["a"])
    assert before == (project / "datacachalog.lock").read_bytes()


async def test_lock_may_be_written_elsewhere(
    server: FaultServer, make_catalog: MakeCatalog, project: Path, tmp_path: Path
) -> None:
    """A path is where the file is written; the directory of the catalog file goes before the working directory."""
    server.put("bucket", "a", b"a")
    catalog = make_catalog("a")
    assert project / "other.lock" == await catalog.lock(path="other.lock")
    catalog._lock_directory = tmp_path / "root"
    (tmp_path / "root").mkdir()
    assert tmp_path / "root" / "datacachalog.lock" == await catalog.lock()


async def test_a_frozen_catalog_is_not_locked(make_catalog: MakeCatalog) -> None:
    """What may fetch nothing but what is locked can't move it on."""
    with pytest.raises(ConfigurationError, match="DATACACHALOG_FROZEN=0"):
        await make_catalog("a", frozen=True).lock()


# -- frozen


@pytest.mark.parametrize("cache", ["cache", "another machine's"])
async def test_a_frozen_catalog_fetches_exactly_what_is_locked(
    server: FaultServer, make_catalog: MakeCatalog, is_versioned, cache: str
) -> None:
    """From the cache without a request, offline too; where nothing is cached by version, or by ETag and digest."""
    large = bytes(range(256)) * (10 * 1024)
    contents = {"a.csv": b"a", "large.bin": large, "dir/1.csv": b"1", "dir/2.csv": b"2"}
    for key, content in contents.items():
        server.put("bucket", key, content)
    names = ["a.csv", "large.bin", "dir/*.csv"]
    await make_catalog(*names).lock()
    server.put("bucket", "dir/3.csv", b"joined since")
    sent(server)
    frozen = make_catalog(*names, cache=cache, frozen=True)
    report = await frozen.fetch_all()
    assert list(contents.values()) == [p.read_bytes() for result in report.values() for p in result.paths]
    gets = [request for request in server.requests if request.method == "GET"]
    assert (0 if cache == "cache" else 6) == len(gets)
    assert {is_versioned} >= {"versionId" in request.query for request in gets}
    assert is_versioned or all("if-match" in request.headers for request in gets)
    sent(server)
    again = make_catalog(*names, cache=cache, frozen=True, offline=True)
    assert {name: result.paths for name, result in report.items()} == {
        name: result.paths for name, result in (await again.fetch_all()).items()
    }
    assert [Freshness.FRESH] * 3 == [status.freshness for status in await again.status()]
    assert [False] * 3 == [await again.is_stale(name) for name in names]
    assert ["none"] * 3 == [step.action for step in (await again.plan()).steps]
    assert [] == sent(server)


async def test_a_frozen_catalog_fetches_the_version_that_was_overwritten(
    server: FaultServer, make_catalog: MakeCatalog
) -> None:
    """In a bucket that keeps versions, what is locked can be fetched whatever came since."""
    server.create_bucket("bucket", is_versioned=True)
    server.put("bucket", "a", b"locked")
    server.put("bucket", "dir/1", b"locked")
    await make_catalog("a", "dir/").lock()
    server.put("bucket", "a", b"newer")
    server.delete("bucket", "dir/1")
    for cache in ("cache", "new"):
        report = await make_catalog("a", "dir/", cache=cache, frozen=True).fetch_all()
        assert [b"locked", b"locked"] == [result.paths[0].read_bytes() for result in report.values()]
    assert b"newer" == (await make_catalog("a").fetch("a")).read_bytes()
    assert b"locked" == (await make_catalog("a", frozen=True).fetch("a")).read_bytes()


async def test_invalidate_drops_what_is_locked(server: FaultServer, make_catalog: MakeCatalog, is_versioned) -> None:
    """Also on a frozen catalog the next fetch downloads."""
    for key in ("a", "dir/1"):
        server.put("bucket", key, key.encode())
    await make_catalog("a", "dir/").lock()
    frozen = make_catalog("a", "dir/", frozen=True)
    await frozen.fetch_all()
    assert [2 if is_versioned else 1] * 2 == [await frozen.invalidate(name) for name in ("a", "dir/")]
    assert {"downloaded"} == {result.action for result in (await frozen.fetch_all()).values()}


async def test_every_dataset_that_differs_is_named_with_how(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """All differences of the catalog and of the remote come at once, and the others are fetched."""
    for key in ("same", "changed", "moved", "removed", "dir/1", "dir/2", "dir/3"):
        server.put("bucket", key, b"old")
    names = ["same", "changed", "moved", "removed", "dir/"]
    await make_catalog(*names).lock()
    new = server.put("bucket", "changed", b"new")
    server.put("bucket", "dir/1", b"changed")
    server.delete("bucket", "removed")
    datasets = [name for name in names if name != "moved"] + [Dataset("moved", "s3://bucket/same"), "added"]
    frozen = make_catalog(*datasets, cache="new", frozen=True)
    with pytest.raises(FetchAllError) as caught:
        await frozen.fetch_all()
    errors = caught.value.report.errors
    assert ["same"] == list(caught.value.report)
    assert {"changed", "dir/", "moved", "added"} == {
        name for name, error in errors.items() if isinstance(error, LockMismatchError) and error.dataset == name
    }
    assert isinstance(errors["removed"], ObjectNotFoundError)
    assert f"has the ETag {new.etag} now" in str(errors["changed"])
    assert "its source is s3://bucket/same here, and s3://bucket/moved there" in str(errors["moved"])
    assert "no such dataset" in str(errors["added"])
    steps = (await frozen.plan()).steps
    plan = {step.name: step.action for step in steps}
    assert ["dir/1 has the ETag" in step.reason for step in steps if step.name == "dir/"] == [True]
    expected = dict.fromkeys(("changed", "removed", "dir/", "moved", "added"), "fail")
    assert {"same": "none", **expected} == plan
    freshness = {status.name: status.freshness for status in await frozen.status()}
    assert Freshness.UNKNOWN == freshness["changed"]
    with pytest.raises(LockMismatchError, match="changed"):
        await frozen.fetch("changed")


async def test_g1_bytes_with_another_digest_than_the_locked_one_are_refused(
    server: FaultServer, make_catalog: MakeCatalog, project: Path, is_versioned
) -> None:
    """Whatever version and ETag say, the bytes are compared with the lock file's digest."""
    server.put("bucket", "a", b"content")
    file = await make_catalog("a").lock()
    digest = str(locked(project)["a"]["digest"])
    file.write_text(file.read_text().replace(digest, "crc64nvme:AAAAAAAAAAE="))
    for cache in ("cache", "new"):
        with pytest.raises(LockMismatchError, match=f"digest {digest}"):
            await make_catalog("a", cache=cache, frozen=True).fetch("a")
    assert b"content" == (await make_catalog("a", cache="cache").fetch("a")).read_bytes()


async def test_a_locked_digest_of_another_algorithm_is_compared_too(
    server: FaultServer, make_catalog: MakeCatalog, project: Path
) -> None:
    """What another machine wrote with another algorithm still holds."""
    server.put("bucket", "a", b"content")
    file = await make_catalog("a").lock()
    digest = str(locked(project)["a"]["digest"])
    text = file.read_text()
    for value, is_right in (("9a0364b9e99bb480dd25e1f0284c8555", True), ("00" * 16, False)):
        file.write_text(text.replace(digest, f"md5:{value}"))
        fetched = make_catalog("a", cache=f"new {is_right}", frozen=True).fetch("a")
        if is_right:
            assert b"content" == (await fetched).read_bytes()
        else:
            with pytest.raises(LockMismatchError, match=value):
                await fetched


async def test_g5_an_object_replaced_under_a_frozen_download_is_a_mismatch(
    server: FaultServer, make_catalog: MakeCatalog
) -> None:
    """Without versions, a download that can't be finished is not begun again with the new version."""
    server.put("bucket", "big", bytes(range(256)) * (16 * 1024))
    await make_catalog("big").lock()
    frozen = make_catalog("big", cache="new", frozen=True, retries=1)
    server.add_faults(Meanwhile(lambda: server.put("bucket", "big", b"new" * MIB), after_bytes=10), Cut(after_bytes=10))
    with pytest.raises(LockMismatchError):
        await frozen.fetch("big")


async def test_an_etag_that_can_not_be_demanded_leaves_the_digest(
    server: FaultServer, make_catalog: MakeCatalog
) -> None:
    """A proxy that weakens ETags makes every `If-Match` fail (RFC 9110, section 13.1.1): then the digest decides."""
    server.put("bucket", "a", b"content")
    await make_catalog("a").lock()
    server.add_faults(WeakEtag(method=None, times=None), Status(412, "PreconditionFailed", times=1))
    assert b"content" == (await make_catalog("a", cache="new", frozen=True).fetch("a")).read_bytes()


async def test_a_store_that_ignores_conditions_is_noticed(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """An answer with another ETag than was demanded is not taken for what is locked."""
    server.put("bucket", "a", b"content")
    await make_catalog("a").lock()
    server.put("bucket", "a", b"changed")
    frozen = make_catalog("a", cache="new", frozen=True)
    session = (await frozen._open()).session
    s3 = await session._of("s3://bucket/a")
    read = s3.read
    s3.read = lambda request: read(replace(request, if_match=None))
    with pytest.raises(LockMismatchError, match="has the ETag"):
        await frozen.fetch("a")


async def test_local_files_are_locked_by_their_digest(make_catalog: MakeCatalog, project: Path) -> None:
    """A checkout elsewhere has other times and inodes, and the same bytes: that is what is locked, by relative path."""
    (project / "data").mkdir()
    (project / "data" / "a.csv").write_bytes(b"content")
    datasets = Dataset("a", project / "data" / "a.csv"), Dataset("all", f"{project}/data/")
    await make_catalog(*datasets).lock()
    block = locked(project)["a"]
    assert (["uri", "size", "digest"], "data/a.csv") == (list(block), block["uri"])
    (project / "data" / "a.csv").unlink()
    (project / "data" / "a.csv").write_bytes(b"content")
    report = await make_catalog(*datasets, cache="new", frozen=True).fetch_all()
    assert [b"content"] * 2 == [result.paths[0].read_bytes() for result in report.values()]
    (project / "data" / "a.csv").write_bytes(b"changed")
    with pytest.raises(FetchAllError) as caught:
        await make_catalog(*datasets, cache="newer", frozen=True).fetch_all()
    assert [LockMismatchError] * 2 == [type(error) for error in caught.value.report.errors.values()]


@pytest.mark.parametrize("name", ["../../secret.csv", "sub/../../x.csv", "a.txt"])
async def test_g8_lock_file_can_not_name_files_that_the_dataset_does_not_mean(
    make_catalog: MakeCatalog, project: Path, name: str
) -> None:
    """A lock file from a pull request of a stranger reads nothing else than the catalog's sources."""
    (project / "data").mkdir()
    (project / "data" / "a.csv").write_bytes(b"content")
    dataset = Dataset("all", project / "data" / "**.csv")
    file = await make_catalog(dataset).lock()
    file.write_text(file.read_text().replace('name = "a.csv"', f'name = "{name}"'))
    with pytest.raises(LockMismatchError, match="doesn't match"):
        await make_catalog(dataset, cache="new", frozen=True).fetch_files("all")


async def test_a_pinned_dataset_and_its_lock_agree_or_say_so(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """A `version_id` that was changed in the catalog and not in the lock file is a difference of the two."""
    server.create_bucket("bucket", is_versioned=True)
    first, second = (server.put("bucket", "k", data).version_id for data in (b"1", b"2"))
    await make_catalog(Dataset("d", "s3://bucket/k", version_id=first)).lock()
    frozen = make_catalog(Dataset("d", "s3://bucket/k", version_id=first), cache="new", frozen=True)
    assert b"1" == (await frozen.fetch("d")).read_bytes()
    with pytest.raises(LockMismatchError, match=str(second)):
        await make_catalog(Dataset("d", "s3://bucket/k", version_id=second), frozen=True).fetch("d")


async def test_a_frozen_dataset_lies_at_its_own_place(
    server: FaultServer, make_catalog: MakeCatalog, tmp_path: Path, is_versioned
) -> None:
    """A `cache_path` is what `fetch` returns, also of a locked version; then nothing is copied."""
    server.put("bucket", "k", b"content")
    dataset = Dataset("d", "s3://bucket/k", cache_path="here.txt")
    await make_catalog(dataset).lock()
    sent(server)
    assert tmp_path / "cache" / "here.txt" == await make_catalog(dataset, frozen=True).fetch("d")
    assert [] == sent(server)


async def test_frozen_and_another_version_exclude_each_other(make_catalog: MakeCatalog) -> None:
    """A frozen catalog is asked for what is locked, or not at all."""
    frozen = make_catalog("a", frozen=True)
    with pytest.raises(ConfigurationError, match="frozen"):
        await frozen.fetch("a", version_id="v")
    with pytest.raises(ConfigurationError, match="frozen"):
        await frozen.fetch_all(as_of=datetime(2025, 1, 1, tzinfo=UTC))


async def test_without_a_lock_file_nothing_is_fetched(
    server: FaultServer, make_catalog: MakeCatalog, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No lock file, and one that can't be read, are errors of the whole call; the environment freezes too."""
    monkeypatch.setenv("DATACACHALOG_FROZEN", "1")
    frozen = make_catalog("a")
    for call in (frozen.fetch_all, frozen.status, frozen.plan):
        with pytest.raises(LockMismatchError, match=r"lock\(\)"):
            await call()
    (project / "datacachalog.lock").write_text("format = 1\n=======\n")
    with pytest.raises(CatalogFileError, match=r"datacachalog\.lock:2: .*merge conflict"):
        await frozen.fetch("a")
    assert [] == sent(server)


async def test_nothing_cached_and_offline_is_unreachable(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """A frozen catalog offline gives what is cached of the locked versions, and says what isn't."""
    server.put("bucket", "a", b"old")
    await make_catalog("a").lock()
    server.put("bucket", "a", b"newer")
    await make_catalog("a").fetch("a")
    with pytest.raises(StorageUnreachableError, match="data lock file"):
        await make_catalog("a", frozen=True, offline=True).fetch("a")
    with pytest.raises(StorageUnreachableError, match="nothing is cached"):
        await make_catalog("a", cache="new", frozen=True, offline=True).fetch("a")
