"""Are the versions of an object listed, fetched by their id or by a time, and left alone once they are cached?"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from datacachalog import (
    AsyncCatalog,
    Catalog,
    CatalogConfig,
    ConfigurationError,
    Dataset,
    EmptyGlobMatchError,
    FetchAllError,
    Freshness,
    IntegrityError,
    InvalidSourceError,
    MultiFileDatasetError,
    ObjectNotFoundError,
    RouterStorage,
    S3Storage,
    StaleDataWarning,
    StorageUnreachableError,
    ThrottledError,
    VersioningNotSupportedError,
    VersionNotFoundError,
)
from datacachalog.ports import ReadOutcome, ReadRequest, StorageSession
from datacachalog.testing import FaultServer, Meanwhile, MemoryStorage, Status, WrongBytes

from .conftest import cached_files

MIB = 1024 * 1024
MakeCatalog = Callable[..., AsyncCatalog]


def day(number: int) -> datetime:
    return datetime(2025, 3, number, tzinfo=UTC)


@pytest.fixture
def server(server: FaultServer) -> FaultServer:
    """The server, with a bucket that keeps versions."""
    server.create_bucket("bucket", is_versioned=True)
    return server


@pytest.fixture
async def make_catalog(server: FaultServer, tmp_path: Path) -> AsyncIterator[MakeCatalog]:
    async with contextlib.AsyncExitStack() as stack:

        def make(*datasets: Dataset | str, storage: object = None, **settings: object) -> AsyncCatalog:
            s3 = S3Storage(endpoint_url=server.endpoint_url, region="us-east-1")
            catalog = AsyncCatalog(
                [d if isinstance(d, Dataset) else Dataset(d, f"s3://bucket/{d}") for d in datasets],
                cache_dir=tmp_path / "cache",
                config=CatalogConfig(**{"retries": 0, "part_bytes": MIB, **settings}),
                storage=storage or RouterStorage({"s3": s3, "file": RouterStorage().storages["file"]}),
                progress=False,
            )
            stack.push_async_callback(catalog.aclose)
            return catalog

        yield make


@pytest.fixture
def three(server: FaultServer) -> list[str]:
    """An object of three days, with the versions' ids."""
    written = [server.put("bucket", "k", f"{number}".encode(), last_modified=day(number)) for number in (1, 2, 3)]
    return [str(metadata.version_id) for metadata in written]


def sent(server: FaultServer) -> list[str]:
    """Which operations were asked for since the last look."""
    found = [request.operation for request in server.requests]
    server.clear_requests()
    return found


# -- versions


async def test_versions_are_listed_newest_first(
    server: FaultServer, three: list[str], make_catalog: MakeCatalog
) -> None:
    """All versions of the dataset's object and of no other, deletions too, marked, in one request."""
    server.put("bucket", "k2", b"another object")
    server.delete("bucket", "k")
    marker, *versions = await make_catalog("k").versions("k")
    assert (True, True, 0, None) == (marker.is_latest, marker.is_delete_marker, marker.size, marker.etag)
    assert [(id_, day(n), 1, False, False) for id_, n in zip(reversed(three), (3, 2, 1), strict=True)] == [
        (v.version_id, v.last_modified, v.size, v.is_latest, v.is_delete_marker) for v in versions
    ]
    assert ["ListObjectVersions"] == sent(server)


async def test_no_more_pages_are_read_than_needed(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """A limit ends the listing, and so does the first object that merely begins like the dataset's."""
    for _ in range(1100):
        server.put("bucket", "k", b"")
        server.put("bucket", "k2", b"")
    catalog = make_catalog("k")
    assert (3, ["ListObjectVersions"]) == (len(await catalog.versions("k", limit=3)), sent(server))
    assert (1100, ["ListObjectVersions"] * 2) == (len(await catalog.versions("k")), sent(server))


async def test_object_of_a_bucket_without_versions_has_one(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """Where nothing is kept, the object itself is the version `"null"`."""
    server.put("plain", "k", b"content")
    [version] = await make_catalog(Dataset("k", "s3://plain/k")).versions("k")
    assert ("null", True, 7) == (version.version_id, version.is_latest, version.size)


async def test_versions_of_what_has_none_are_errors(make_catalog: MakeCatalog, tmp_path: Path) -> None:
    """A glob, an object that never was, and a storage that keeps no versions are told apart."""
    catalog = make_catalog("gone", "many/*", Dataset("file", tmp_path / "file"))
    for name, error in (
        ("gone", ObjectNotFoundError),
        ("many/*", MultiFileDatasetError),
        ("file", VersioningNotSupportedError),
    ):
        with pytest.raises(error):
            await catalog.versions(name)
    with pytest.raises(ConfigurationError, match="limit"):
        await catalog.versions("gone", limit=0)
    with pytest.raises(StorageUnreachableError, match="offline"):
        await make_catalog("gone", offline=True).versions("gone")


# -- fetch(version_id=…)


async def test_g1_a_version_is_fetched_by_its_id_and_never_asked_for_again(
    server: FaultServer, three: list[str], make_catalog: MakeCatalog
) -> None:
    """Each version has its own path and its own bytes, beside the newest, and takes one request in its life."""
    catalog = make_catalog("k")
    newest = await catalog.fetch("k")
    paths = [await catalog.fetch("k", version_id=version_id) for version_id in three[:2]]
    assert ([b"1", b"2"], b"3", 3) == ([p.read_bytes() for p in paths], newest.read_bytes(), len({*paths, newest}))
    assert ["GetObject"] * 3 == sent(server)
    server.put("bucket", "k", b"4")
    assert paths == [await catalog.fetch("k", version_id=version_id) for version_id in three[:2]]
    assert (paths[0], []) == (await make_catalog("k", offline=True).fetch("k", version_id=three[0]), sent(server))
    assert b"1" == paths[0].read_bytes()


async def test_g1_a_large_version_comes_in_pinned_parts_of_that_version(
    server: FaultServer, make_catalog: MakeCatalog
) -> None:
    """Every part is asked for by the version, so that a newer one can't get in between."""
    old = bytes(range(256)) * (16 * 1024)
    metadata = server.put("bucket", "big", old, part_bytes=5 * MIB)
    server.put("bucket", "big", b"new" * 2 * MIB)
    path = await make_catalog("big").fetch("big", version_id=metadata.version_id)
    assert old == path.read_bytes()
    assert {metadata.version_id} == {request.query.get("versionId") for request in server.requests}


async def test_g1_a_store_that_ignores_versions_is_noticed(
    server: FaultServer, three: list[str], make_catalog: MakeCatalog
) -> None:
    """Bytes of another version than was asked for are not published, whatever their checksums say."""

    class Ignorant(RouterStorage):
        @contextlib.asynccontextmanager
        async def connect(self, config: CatalogConfig) -> AsyncIterator[StorageSession]:
            async with super().connect(config) as session:
                read = session.read

                def read_newest(request: ReadRequest) -> contextlib.AbstractAsyncContextManager[ReadOutcome]:
                    return read(dataclasses.replace(request, version_id=None))

                async def by_no_thread(uri: str) -> None:
                    return None

                session.read = read_newest  # type: ignore[method-assign]
                session.threaded = by_no_thread  # type: ignore[method-assign]
                yield session

    storage = Ignorant({"s3": S3Storage(endpoint_url=server.endpoint_url)})
    with pytest.raises(IntegrityError, match=three[0]):
        await make_catalog("k", storage=storage).fetch("k", version_id=three[0])


async def test_g6_a_cached_version_that_was_edited_is_fetched_again(
    server: FaultServer, three: list[str], make_catalog: MakeCatalog
) -> None:
    """That a version never changes doesn't mean that nobody changes its file."""
    catalog = make_catalog("k")
    path = await catalog.fetch("k", version_id=three[0])
    path.write_bytes(b"edited")
    sent(server)
    assert (b"1", ["GetObject"]) == ((await catalog.fetch("k", version_id=three[0])).read_bytes(), sent(server))


async def test_version_that_is_the_cached_newest_is_copied(
    server: FaultServer, make_catalog: MakeCatalog, tmp_path: Path
) -> None:
    """What is here already is not brought again, of any size, also offline; and its path is not the newest's."""
    contents = {"small": b"content", "large": bytes(range(256)) * (12 * 1024)}
    for key, content in contents.items():
        server.put("bucket", key, content)
    catalog = make_catalog(*contents)
    newest = {key: await catalog.fetch(key) for key in contents}
    ids = {key: (await catalog.versions(key))[0].version_id for key in contents}
    sent(server)
    offline = make_catalog(*contents, offline=True)
    paths = {key: await offline.fetch(key, version_id=ids[key]) for key in contents}
    assert (contents, []) == ({key: path.read_bytes() for key, path in paths.items()}, sent(server))
    assert not set(paths.values()) & set(newest.values())
    assert 4 == len(cached_files(tmp_path / "cache"))
    assert [] == await catalog.verify()


async def test_g1_what_is_served_of_a_version_while_nobody_answers_is_never_replaced(
    server: FaultServer, three: list[str], make_catalog: MakeCatalog
) -> None:
    """A version that was to be asked for again comes from the newest's copy, not as it: that one will be replaced."""
    catalog = make_catalog("k")
    newest = await catalog.fetch("k")
    server.add_faults(Status(503, method=None, times=None))
    with pytest.warns(StaleDataWarning):
        path = await catalog.fetch("k", version_id=three[2], force=True)
    assert (b"3", True) == (path.read_bytes(), path != newest)
    newest.write_bytes(b"X")
    with pytest.raises(ThrottledError):
        await catalog.fetch("k", version_id=three[1], force=True)
    path.unlink()
    with pytest.raises(ThrottledError):  # what lies in the newest's place is not that version any more
        await catalog.fetch("k", version_id=three[2], force=True)


async def test_g1_version_null_is_not_the_newest_that_will_be_another(
    server: FaultServer, make_catalog: MakeCatalog
) -> None:
    """What was written before the bucket kept versions has a path of its own, whatever is written later."""
    server.put("plain", "k", b"old")
    server.create_bucket("plain", is_versioned=True)
    catalog = make_catalog(Dataset("k", "s3://plain/k"))
    newest, path = await catalog.fetch("k"), await catalog.fetch("k", version_id="null")
    server.put("plain", "k", b"new")
    assert (b"new", b"old") == ((await catalog.fetch("k")).read_bytes(), path.read_bytes())
    assert (newest, b"old") == (await catalog.fetch("k"), (await catalog.fetch("k", version_id="null")).read_bytes())


async def test_g6_a_spoilt_newest_copy_is_not_taken_for_a_version(
    server: FaultServer, three: list[str], make_catalog: MakeCatalog
) -> None:
    """The copy of a version is compared by its digest: an edit that keeps size and time doesn't get into it."""
    catalog = make_catalog("k")
    path = await catalog.fetch("k")
    times = path.stat()
    path.write_bytes(b"X")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    sent(server)
    assert (b"3", ["GetObject"]) == ((await catalog.fetch("k", version_id=three[2])).read_bytes(), sent(server))


async def test_version_null_is_asked_about_each_time(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """The one version that can be overwritten is revalidated like the newest."""
    server.put("plain", "k", b"old")
    catalog = make_catalog(Dataset("k", "s3://plain/k"))
    await catalog.fetch("k", version_id="null")
    await catalog.fetch("k", version_id="null")
    assert [206, 304] == [request.status for request in server.requests]
    server.put("plain", "k", b"new")
    assert b"new" == (await catalog.fetch("k", version_id="null")).read_bytes()


async def test_g4_a_version_that_is_gone_raises_and_the_cached_one_is_served(
    server: FaultServer, three: list[str], make_catalog: MakeCatalog
) -> None:
    """No such version, and a deletion, are a `VersionNotFoundError`; what is cached of a version stays right."""
    server.delete("bucket", "k")
    catalog = make_catalog("k")
    marker = (await catalog.versions("k", limit=1))[0].version_id
    for version_id in ("never", marker):
        with pytest.raises(VersionNotFoundError):
            await catalog.fetch("k", version_id=version_id)
    await catalog.fetch("k", version_id=three[0])
    server.add_faults(Status(404, "NoSuchVersion", method=None, times=None))
    assert b"1" == (await catalog.fetch("k", version_id=three[0])).read_bytes()
    with pytest.raises(VersionNotFoundError):
        await catalog.fetch("k", version_id=three[0], force=True)
    assert b"1" == (await catalog.fetch("k", version_id=three[0])).read_bytes()


async def test_g1_wrong_bytes_of_a_version_are_refused(
    server: FaultServer, three: list[str], make_catalog: MakeCatalog
) -> None:
    """A version's bytes are compared with its checksum like any other's."""
    server.add_faults(WrongBytes())
    with pytest.raises(IntegrityError):
        await make_catalog("k").fetch("k", version_id=three[0])


async def test_invalidate_drops_what_the_dataset_is(
    server: FaultServer, three: list[str], make_catalog: MakeCatalog
) -> None:
    """What the next fetch would serve is dropped: the newest, or the version that the dataset names, and no other."""
    catalog = make_catalog("k", "*", Dataset("pinned", "s3://bucket/k", version_id=three[0]))
    await catalog.fetch_all()
    await catalog.fetch("k", version_id=three[1])
    dropped = []
    for name in ("k", "pinned", "*"):
        dropped.append(await catalog.invalidate(name))
        await catalog.fetch("k")
    sent(server)
    await catalog.fetch("pinned")
    await catalog.fetch("k", version_id=three[1])
    assert ([1, 1, 1], ["GetObject"]) == (dropped, sent(server))


async def test_versions_are_none_of_a_globs_files(
    server: FaultServer, three: list[str], make_catalog: MakeCatalog
) -> None:
    """Offline a glob is the newest copies that are cached, each once."""
    catalog = make_catalog("k", "*")
    newest = await catalog.fetch("k")
    await catalog.fetch("k", version_id=three[0])
    assert [newest] == await catalog.fetch_files("*", offline=True)


# -- fetch(as_of=…)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (day(1), b"1"),
        (day(2) - timedelta(microseconds=1), b"1"),
        (day(2), b"2"),
        (day(2).astimezone(timezone(timedelta(hours=-8))), b"2"),
        (datetime(2999, 1, 1, tzinfo=UTC), b"3"),
    ],
)
async def test_as_of_is_the_newest_version_until_then(
    server: FaultServer, three: list[str], make_catalog: MakeCatalog, moment: datetime, expected: bytes
) -> None:
    """A version counts from the moment at which it was written; which one is meant takes one request to tell."""
    catalog = make_catalog("k")
    path = await catalog.fetch("k", as_of=moment)
    assert (expected, ["ListObjectVersions", "GetObject"]) == (path.read_bytes(), sent(server))
    assert (path, ["ListObjectVersions"]) == (await catalog.fetch("k", as_of=moment), sent(server))


async def test_as_of_a_time_without_the_object_is_an_error(
    server: FaultServer, three: list[str], make_catalog: MakeCatalog
) -> None:
    """Before the first version, and after a deletion, there is no version; the error says when that was."""
    server.delete("bucket", "k")
    catalog = make_catalog("k")
    with pytest.raises(VersionNotFoundError, match="2025-02-28"):
        await catalog.fetch("k", as_of=day(1) - timedelta(days=1))
    with pytest.raises(VersionNotFoundError, match="deleted on"):
        await catalog.fetch("k", as_of=datetime(2999, 1, 1, tzinfo=UTC))


async def test_a_time_needs_a_zone_and_no_version_beside_it(make_catalog: MakeCatalog) -> None:
    """A naive time is a moment on every machine another, and two answers to one question are none."""
    catalog = make_catalog("k")
    with pytest.raises(ValueError, match="time zone"):
        await catalog.fetch("k", as_of=datetime(2025, 3, 1))  # noqa: DTZ001  # naive on purpose
    with pytest.raises(ValueError, match="time zone"):
        await catalog.fetch_all(as_of="2025-03-01")
    with pytest.raises(ValueError, match="one of them"):
        await catalog.fetch("k", as_of=day(1), version_id="v")


async def test_as_of_can_not_be_told_without_asking(
    server: FaultServer, three: list[str], make_catalog: MakeCatalog
) -> None:
    """Offline, and when the remote doesn't answer, no copy is served for a time: another one might be right."""
    catalog = make_catalog("k")
    await catalog.fetch("k", as_of=day(1))
    with pytest.raises(StorageUnreachableError, match="version_id"):
        await catalog.fetch("k", as_of=day(1), offline=True)
    server.add_faults(Status(503, "SlowDown", method=None, times=None))
    with pytest.raises(Exception, match="503"):
        await catalog.fetch("k", as_of=day(1))


async def test_g1_as_of_in_a_bucket_without_versions_is_what_is_there_or_an_error(
    server: FaultServer, make_catalog: MakeCatalog
) -> None:
    """What was not overwritten since is what it was; what was overwritten after the listing is not taken for it."""
    server.put("plain", "k", b"old", last_modified=day(1))
    catalog = make_catalog(Dataset("k", "s3://plain/k"))
    path = await catalog.fetch("k", as_of=day(2))
    assert (b"old", ["ListObjectVersions", "GetObject"]) == (path.read_bytes(), sent(server))
    assert (path, ["ListObjectVersions"]) == (await catalog.fetch("k", as_of=day(2)), sent(server))
    with pytest.raises(VersionNotFoundError):
        await catalog.fetch("k", as_of=day(1) - timedelta(days=1))

    server.put("plain", "k", b"other", last_modified=day(1))
    server.add_faults(Status(503, times=None))
    with pytest.raises(ThrottledError):
        await catalog.fetch("k", as_of=day(2))
    server.clear_faults()
    server.add_faults(Meanwhile(lambda: server.put("plain", "k", b"new"), method="ListObjectVersions"))
    with pytest.raises(VersionNotFoundError, match="overwritten"):
        await catalog.fetch("k", as_of=day(2))


async def test_fetch_all_as_of_gives_everything_as_it_was(
    server: FaultServer, make_catalog: MakeCatalog, tmp_path: Path
) -> None:
    """Single files, globs and prefixes alike, of one time; a dataset that wasn't there fails alone."""
    for number in (1, 3):
        for key in ("one", "dir/a.csv", "dir/b.csv"):
            server.put("bucket", key, f"{key} of {number}".encode(), last_modified=day(number))
    server.put("bucket", "dir/late.csv", b"", last_modified=day(3))
    server.put("bucket", "late", b"", last_modified=day(3))
    (tmp_path / "file").write_bytes(b"")
    catalog = make_catalog(
        "one", "late", "dir/*.csv", "dir/", "late/*", Dataset("file", tmp_path / "file"), Dataset("odd", "x://y")
    )
    report = await catalog.fetch_all(as_of=day(2), on_error="collect")
    contents = {name: [path.read_bytes() for path in result.paths] for name, result in report.items()}
    files = [b"dir/a.csv of 1", b"dir/b.csv of 1"]
    assert {"one": [b"one of 1"], "dir/*.csv": files, "dir/": files} == contents
    assert {
        "late": VersionNotFoundError,
        "late/*": EmptyGlobMatchError,
        "file": VersioningNotSupportedError,
        "odd": InvalidSourceError,
    } == {name: type(error) for name, error in report.errors.items()}
    sent(server)
    assert files == [path.read_bytes() for path in await catalog.fetch_files("dir/*.csv", as_of=day(2))]
    assert ["ListObjectVersions"] == sent(server)


async def test_many_datasets_of_a_directory_share_listings(tmp_path: Path) -> None:
    """The versions of many objects are looked for page by page, from the next one that is wanted, and all are found."""
    storage = MemoryStorage(is_versioned=True, page_size=50)
    for number in range(300):
        for of_day in (1, 3):
            storage.put(f"mem://b/dir/{number:03}", f"{number} {of_day}".encode(), last_modified=day(of_day))
    numbers = [*range(20, 45), 150, *range(250, 300)]
    datasets = [Dataset(f"{number}", f"mem://b/dir/{number:03}") for number in numbers]
    async with AsyncCatalog(datasets, cache_dir=tmp_path, storage=storage, progress=False) as catalog:
        report = await catalog.fetch_all(as_of=day(2))
        assert {f"{n}": f"{n} 1" for n in numbers} == {name: r.path.read_text() for name, r in report.items()}
        lists = [request for request in storage.requests if request.method == "LIST"]
        assert len(lists) <= 8, "75 objects of 2 versions, 50 to a page"
        again = await catalog.fetch_all(as_of=day(2))
        assert {"cached"} == {result.action for result in again.values()}


async def test_datasets_that_lie_far_apart_cost_a_listing_each(tmp_path: Path) -> None:
    """Where pages bring one object each, no more of them are asked for one after the other."""
    storage = MemoryStorage(is_versioned=True, page_size=20)
    for number in range(1000):
        storage.put(f"mem://b/dir/{number:03}", f"{number}".encode(), last_modified=day(1))
    datasets = [Dataset(f"{number}", f"mem://b/dir/{number:03}") for number in range(0, 1000, 50)]
    async with AsyncCatalog(datasets, cache_dir=tmp_path, storage=storage, progress=False) as catalog:
        report = await catalog.fetch_all(as_of=day(2))
    assert [dataset.name for dataset in datasets] == [result.path.read_text() for result in report.values()]
    lists = [request for request in storage.requests if request.method == "LIST"]
    assert (20, 3) == (len(lists), sum(request.after is not None or request.uri.endswith("/") for request in lists))


async def test_listings_that_may_not_be_shared_are_asked_for_one_by_one(
    server: FaultServer, make_catalog: MakeCatalog
) -> None:
    """Where a policy allows no more than to list an object's own key, that is what is asked for."""
    for key in ("dir/a", "dir/b", "dir/c"):
        server.put("bucket", key, key.encode(), last_modified=day(1))
    server.add_faults(Status(403, "AccessDenied", uri="s3://bucket/dir/", method=None, times=None))
    report = await make_catalog("dir/a", "dir/b", "dir/c").fetch_all(as_of=day(2))
    assert [b"dir/a", b"dir/b", b"dir/c"] == [result.path.read_bytes() for result in report.values()]


async def test_a_listing_that_fails_fails_its_datasets_only(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """Whatever one place answers, the datasets of others are fetched."""
    for key in ("bad/a", "bad/b", "good/a"):
        server.put("bucket", key, key.encode(), last_modified=day(1))
    server.add_faults(Status(500, uri="s3://bucket/bad/*", method=None, times=None))
    with pytest.raises(FetchAllError) as caught:
        await make_catalog("bad/a", "bad/b", "good/a").fetch_all(as_of=day(2))
    assert (["bad/a", "bad/b"], ["good/a"]) == (list(caught.value.report.errors), list(caught.value.report))


# -- Dataset(version_id=…)


async def test_dataset_of_a_version_is_that_version_everywhere(
    server: FaultServer, three: list[str], make_catalog: MakeCatalog
) -> None:
    """Fetched, loaded, planned, and fresh without a request once it is cached."""
    pinned = Dataset("pinned", "s3://bucket/k", version_id=three[1])
    catalog = make_catalog(pinned, "k")
    assert (1, 1) == ((plan := await catalog.plan(["pinned"])).requests, plan.bytes)
    assert await catalog.is_stale("pinned")
    [missing] = await catalog.status(["pinned"])
    assert (Freshness.MISSING, 1) == (missing.freshness, missing.size)
    assert ["HeadObject"] * 2 == sent(server)
    path = await catalog.fetch("pinned")
    assert (b"2", b"2") == (path.read_bytes(), await catalog.load("pinned", Path.read_bytes))
    assert (path, b"1") == (
        await catalog.fetch("pinned", version_id=three[1]),
        (await catalog.fetch("pinned", version_id=three[0])).read_bytes(),
    )
    assert b"1" == (await catalog.fetch("pinned", as_of=day(1))).read_bytes()
    sent(server)
    [fresh] = await catalog.status(["pinned"])
    assert (Freshness.FRESH, path, False) == (fresh.freshness, fresh.path, await catalog.is_stale("pinned"))
    assert ("none", 0) == ((plan := await catalog.plan(["pinned"])).steps[0].action, plan.requests)
    assert (0, []) == ((await catalog.fetch_all(["pinned"])).requests, sent(server))
    offline = make_catalog(pinned, offline=True)
    assert not await offline.is_stale("pinned")
    assert [Freshness.FRESH] == [status.freshness for status in await offline.status()]


async def test_dataset_of_a_version_may_have_its_own_place(
    server: FaultServer, three: list[str], make_catalog: MakeCatalog, tmp_path: Path
) -> None:
    """At a `cache_path` lies the version that the dataset names, whatever lay there before."""
    for version_id, expected in ((None, b"3"), (three[0], b"1"), (three[1], b"2"), (three[1], b"2"), (None, b"3")):
        catalog = make_catalog(Dataset("d", "s3://bucket/k", cache_path="here.txt", version_id=version_id))
        path = await catalog.fetch("d")
        assert (tmp_path / "cache" / "here.txt", expected) == (path, path.read_bytes())
    assert ["GetObject"] * 4 == sent(server), "the version was there the second time"


def test_dataset_of_a_version_is_one_file_at_one_place() -> None:
    """A version is one file's, and two versions can't lie at one place."""
    for source in ("s3://bucket/*.csv", "s3://bucket/dir/"):
        with pytest.raises(ConfigurationError, match="version_id pins one file"):
            Dataset("d", source, version_id="v")
    with pytest.raises(ConfigurationError, match="version_id"):
        Dataset("d", "s3://bucket/k", version_id="")
    two = [Dataset(v, "s3://bucket/k", version_id=v, cache_path="p") for v in ("v1", "v2")]
    with pytest.raises(ConfigurationError, match="two versions"):
        Catalog(two)
