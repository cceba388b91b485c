"""Does a catalog do what its methods say, against a real S3 server on a socket? The main job, end to end."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import warnings
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from datacachalog import (
    AccessDeniedError,
    AsyncCatalog,
    BucketNotFoundError,
    CatalogConfig,
    ConfigurationError,
    Dataset,
    DatasetNotFoundError,
    DuplicateDatasetError,
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
)
from datacachalog.ports import Event
from datacachalog.storage import FilesystemStorage
from datacachalog.testing import FaultServer, Latency, Status, Swap

MIB = 1024 * 1024
QUICK = CatalogConfig(retries=1, part_bytes=MIB)


def content(size: int, seed: int = 0) -> bytes:
    """Bytes without a period that a mix of parts could hide behind."""
    block = hashlib.sha256(seed.to_bytes(8, "big")).digest()
    blocks = [hashlib.sha256(block + index.to_bytes(8, "big")).digest() for index in range(size // 32 + 1)]
    return b"".join(blocks)[:size]


MakeCatalog = Callable[..., AsyncCatalog]


@pytest.fixture
async def make_catalog(server: FaultServer, tmp_path: Path) -> AsyncIterator[MakeCatalog]:
    """Make catalogs of sources in the server's bucket, which are closed at the end."""
    made: list[AsyncCatalog] = []

    def make(
        *datasets: Dataset | str, config: CatalogConfig = QUICK, progress: object = False, **arguments: object
    ) -> AsyncCatalog:
        storage = S3Storage(endpoint_url=server.endpoint_url, region="us-east-1")
        values = [d if isinstance(d, Dataset) else Dataset(d, f"s3://bucket/{d}") for d in datasets]
        catalog = AsyncCatalog(
            values,
            cache_dir=tmp_path / "cache",
            config=config,
            storage=RouterStorage({"s3": storage, "file": FilesystemStorage()}),
            progress=progress,
            **arguments,
        )
        made.append(catalog)
        return catalog

    yield make
    for catalog in made:
        await catalog.aclose()


def sent(server: FaultServer) -> list[str]:
    """What was asked of the server since the last look."""
    found = [request.method for request in server.requests]
    server.clear_requests()
    return found


# -- fetch


async def test_a_small_miss_is_one_request(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """Nothing is asked before the bytes are asked for."""
    server.put("bucket", "a.csv", b"x,y\n1,2\n")
    path = await make_catalog("a.csv").fetch("a.csv")
    assert (b"x,y\n1,2\n", ["GET"]) == (path.read_bytes(), sent(server))


async def test_a_fresh_check_is_one_request_without_a_body(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """A cached copy is revalidated by its ETag."""
    server.put("bucket", "a.csv", content(5000))
    catalog = make_catalog("a.csv")
    first = await catalog.fetch("a.csv")
    server.clear_requests()
    second = await catalog.fetch("a.csv")
    [request] = server.requests
    assert (first, 304, 0) == (second, request.status, request.bytes_sent)


async def test_a_changed_object_is_one_request_too(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """The answer that says that the copy is stale brings the new bytes."""
    server.put("bucket", "a.csv", b"old")
    catalog = make_catalog("a.csv")
    await catalog.fetch("a.csv")
    server.put("bucket", "a.csv", b"new bytes")
    server.clear_requests()
    assert (b"new bytes", ["GET"]) == ((await catalog.fetch("a.csv")).read_bytes(), sent(server))


async def test_g1_a_large_object_comes_in_pinned_ranges(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """Every part after the first demands the first one's ETag."""
    data = content(5 * MIB + 17)
    server.put("bucket", "big.bin", data)
    path = await make_catalog("big.bin").fetch("big.bin")
    assert hashlib.sha256(data).digest() == hashlib.sha256(path.read_bytes()).digest()
    assert 6 == sum(request.method == "GET" for request in server.requests)


async def test_the_path_is_bucket_and_key(server: FaultServer, make_catalog: MakeCatalog, tmp_path: Path) -> None:
    """So that the name and the suffix survive."""
    server.put("bucket", "path/to/file.parquet", b"1")
    catalog = make_catalog("path/to/file.parquet")
    expected = tmp_path / "cache" / "bucket" / "path" / "to" / "file.parquet"
    assert expected == await catalog.fetch("path/to/file.parquet")


async def test_cache_path_overrides_the_place(server: FaultServer, make_catalog: MakeCatalog, tmp_path: Path) -> None:
    """`Dataset.cache_path` is what fetch returns, below the cache directory."""
    server.put("bucket", "k", b"1")
    path = await make_catalog(Dataset("d", "s3://bucket/k", cache_path="mine/data.bin")).fetch("d")
    assert tmp_path / "cache" / "mine" / "data.bin" == path


@pytest.mark.parametrize(
    "key",
    [
        "with space.txt",
        "ünïcødé/日本.txt",
        "a+b.txt",
        "100%.txt",
        "a%20b",
        "a//b",
        "/leading",
        "q?x#y&z=1",
        "..",
        "a/../b",
    ],
)
async def test_keys_of_any_shape_are_fetched(server: FaultServer, make_catalog: MakeCatalog, key: str) -> None:
    """What S3 can hold is asked for as it stands, and lies inside the cache."""
    server.put("bucket", key, key.encode())
    source = "s3://bucket/" + key.replace("?", "[?]")
    catalog = make_catalog(Dataset("d", source))
    [path] = await catalog.fetch_files("d")
    assert key.encode() == path.read_bytes()


async def test_an_empty_object_is_an_empty_file(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """S3 answers a range of an empty object with 416."""
    server.put("bucket", "empty", b"")
    catalog = make_catalog("empty")
    assert b"" == (await catalog.fetch("empty")).read_bytes()
    assert "revalidated" == (await catalog.fetch_all())["empty"].action


async def test_force_downloads_in_any_case(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """Even what is fresh."""
    server.put("bucket", "a", b"1")
    catalog = make_catalog("a")
    await catalog.fetch("a")
    assert "downloaded" == (await catalog.fetch_all(force=True))["a"].action


async def test_within_max_age_nothing_is_asked(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """Neither after a download nor after a revalidation."""
    server.put("bucket", "a", b"1")
    catalog = make_catalog(Dataset("a", "s3://bucket/a", max_age=timedelta(hours=1)))
    await catalog.fetch("a")
    server.clear_requests()
    assert ("cached", []) == ((await catalog.fetch_all())["a"].action, sent(server))


async def test_a_revalidation_opens_the_freshness_window_again(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """`max_age` counts from the last confirmation, not from the download."""
    server.put("bucket", "a", b"1")
    await make_catalog("a").fetch("a")
    aged = make_catalog(Dataset("a", "s3://bucket/a", max_age=1e-9))
    await aged.fetch("a")
    server.clear_requests()
    catalog = make_catalog(Dataset("a", "s3://bucket/a", max_age=3600))
    assert ("cached", []) == ((await catalog.fetch_all())["a"].action, sent(server))


async def test_two_tasks_download_a_file_once(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """The second one waits, and finds it there."""
    import anyio

    server.put("bucket", "a", content(MIB // 2))
    catalog = make_catalog("a")
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(catalog.fetch, "a")
    assert MIB // 2 == sum(request.bytes_sent for request in server.requests)


async def test_the_budget_of_requests_is_never_exceeded(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """`max_concurrency` counts small objects, parts and checks alike."""
    names = [f"s{number}" for number in range(40)]
    for name in names:
        server.put("bucket", name, content(2000))
    server.put("bucket", "big", content(8 * MIB))
    catalog = make_catalog(*names, "big", config=CatalogConfig(max_concurrency=3, part_bytes=MIB))
    await catalog.fetch_all()
    assert server.max_concurrent_requests <= 3


# -- versions of one object (G4, G5)


async def test_g5_an_object_replaced_during_the_download_is_begun_again(
    server: FaultServer, make_catalog: MakeCatalog
) -> None:
    """Never a mix, never an error that the caller has to handle."""
    new = content(6 * MIB, seed=2)
    server.put("bucket", "big", content(6 * MIB, seed=1))
    server.add_faults(Swap(uri="*/big", data=new, after_bytes=100_000))
    # One request at a time: else the other parts may all have been asked for before the object is replaced.
    path = await make_catalog("big", config=CatalogConfig(part_bytes=MIB, max_concurrency=1)).fetch("big")
    assert hashlib.sha256(new).digest() == hashlib.sha256(path.read_bytes()).digest()


async def test_g4_a_missing_object_raises_and_keeps_the_copy(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """A 404 is never answered with old bytes, and drops nothing."""
    server.put("bucket", "a", b"1")
    catalog = make_catalog("a")
    path = await catalog.fetch("a")
    server.delete("bucket", "a")
    with pytest.raises(ObjectNotFoundError):
        await catalog.fetch("a")
    assert b"1" == path.read_bytes()
    assert path == await catalog.fetch("a", offline=True)


async def test_g4_without_an_answer_the_copy_is_served_with_a_warning(
    server: FaultServer, make_catalog: MakeCatalog
) -> None:
    """The result says that it is stale, and why."""
    server.put("bucket", "a", b"1")
    catalog = make_catalog("a")
    await catalog.fetch("a")
    server.add_faults(Status(times=None, status=500))
    with pytest.warns(StaleDataWarning, match="500 InternalError"):
        report = await catalog.fetch_all()
    assert ("stale", b"1") == (report["a"].action, report["a"].path.read_bytes())


async def test_on_unreachable_raise_is_strict(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """Per call, or per catalog by its configuration."""
    server.put("bucket", "a", b"1")
    catalog = make_catalog("a")
    await catalog.fetch("a")
    server.refuse()
    with pytest.raises(StorageUnreachableError):
        await catalog.fetch("a", on_unreachable="raise")


async def test_without_an_answer_and_without_a_copy_it_raises(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """There is nothing to serve."""
    server.refuse()
    with pytest.raises(StorageUnreachableError):
        await make_catalog("a").fetch("a")


async def test_offline_sends_no_request(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """What is cached is served, what isn't is an error that says so."""
    for name in ("a", "x/1", "x/2"):
        server.put("bucket", name, b"1")
    datasets = [Dataset("a", "s3://bucket/a"), Dataset("x", "s3://bucket/x/*"), Dataset("b", "s3://bucket/b")]
    online = make_catalog(*datasets)
    await online.fetch_all(["a", "x"])
    server.clear_requests()
    catalog = make_catalog(*datasets, config=CatalogConfig(offline=True))
    assert b"1" == (await catalog.fetch("a")).read_bytes()
    assert ["1", "2"] == [path.name for path in await catalog.fetch_files("x")]
    with pytest.raises(StorageUnreachableError, match="offline, and nothing is cached"):
        await catalog.fetch("b")
    assert [] == sent(server)


# -- what is right


async def test_g1_a_pin_that_does_not_match_is_an_integrity_error(
    server: FaultServer, make_catalog: MakeCatalog, tmp_path: Path
) -> None:
    """Nothing is published."""
    server.put("bucket", "a", b"other bytes")
    pin = "sha256:" + hashlib.sha256(b"bytes").hexdigest()
    with pytest.raises(IntegrityError, match=pin):
        await make_catalog(Dataset("a", "s3://bucket/a", checksum=pin)).fetch("a")
    assert [] == [path for path in (tmp_path / "cache").rglob("a") if path.is_file()]


@pytest.mark.parametrize("size", [5000, 3 * MIB])
@pytest.mark.parametrize("algorithm", ["sha256", "md5", "sha1"])
async def test_a_pin_that_matches_is_what_the_result_was_verified_by(
    server: FaultServer, make_catalog: MakeCatalog, algorithm: str, size: int
) -> None:
    """In one part or in several."""
    server.put("bucket", "a", content(size))
    pin = f"{algorithm}:{hashlib.new(algorithm, content(size)).hexdigest()}"
    report = await make_catalog(Dataset("a", "s3://bucket/a", checksum=pin)).fetch_all()
    assert algorithm == report["a"].verified_by


@pytest.mark.parametrize("spoil", ["truncate", "edit", "remove"])
async def test_g6_a_spoilt_copy_is_noticed_and_not_served(
    server: FaultServer, make_catalog: MakeCatalog, spoil: str
) -> None:
    """Size and modification time tell."""
    data = content(5000)
    server.put("bucket", "a", data)
    catalog = make_catalog("a")
    path = await catalog.fetch("a")
    match spoil:
        case "truncate":
            path.write_bytes(data[:4000])
        case "edit":
            path.write_bytes(bytes(5000))
        case "remove":
            path.unlink()
    assert data == (await catalog.fetch("a")).read_bytes()


# -- fetch_files and fetch_all


async def test_a_glob_is_all_matching_files_in_the_order_of_their_keys(
    server: FaultServer, make_catalog: MakeCatalog
) -> None:
    """Folder markers are no files."""
    for key in ("d/b.csv", "d/a.csv", "d/sub/c.csv", "d/x.txt", "d/"):
        server.put("bucket", key, key.encode())
    catalog = make_catalog(
        Dataset("flat", "s3://bucket/d/*.csv"),
        Dataset("deep", "s3://bucket/d/**/*.csv"),
        Dataset("all", "s3://bucket/d/"),
    )
    report = await catalog.fetch_all()
    assert {
        "flat": [b"d/a.csv", b"d/b.csv"],
        "deep": [b"d/a.csv", b"d/b.csv", b"d/sub/c.csv"],
        "all": [b"d/a.csv", b"d/b.csv", b"d/sub/c.csv", b"d/x.txt"],
    } == {name: [path.read_bytes() for path in result.paths] for name, result in report.items()}


async def test_no_more_requests_are_in_flight_than_allowed(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """`max_concurrency` bounds the requests of all datasets together, parts of large objects included."""
    names = [f"small-{number}" for number in range(20)]
    for name in names:
        server.put("bucket", name, content(1000))
    server.put("bucket", "large", content(8 * MIB))
    server.add_faults(Latency(0.05, times=None))
    catalog = make_catalog("large", *names, config=CatalogConfig(part_bytes=MIB, max_concurrency=3))
    await catalog.fetch_all()
    assert 3 == server.max_concurrent_requests


async def test_a_listing_replaces_a_check_of_each_file(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """The ETags that it brings are compared with those of the copies."""
    for number in range(20):
        server.put("bucket", f"d/{number}", b"1")
    catalog = make_catalog(Dataset("d", "s3://bucket/d/*"))
    await catalog.fetch_files("d")
    server.put("bucket", "d/7", b"2")
    server.clear_requests()
    report = await catalog.fetch_all()
    assert (2, 1, "downloaded") == (report.requests, report.bytes_downloaded, report["d"].action)


async def test_a_report_is_in_the_order_of_the_catalog(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """Whatever came first over the wire."""
    names = [f"n{number:02}" for number in range(30)]
    for name in names:
        server.put("bucket", name, b"1")
    catalog = make_catalog(*names)
    report = await catalog.fetch_all(reversed(names))
    assert names == list(report)
    assert (30, 30, {}) == (report.requests, report.bytes_downloaded, report.errors)


async def test_a_failing_dataset_stops_no_other(server: FaultServer, make_catalog: MakeCatalog, tmp_path: Path) -> None:
    """Every kind of bad input has its own error, and the rest is there."""
    server.put("bucket", "good", b"1")
    server.put("bucket", "secret", b"1")
    server.add_faults(Status(uri="*/secret", method=None, times=None, status=403))
    catalog = make_catalog(
        "good",
        "missing",
        "secret",
        Dataset("no bucket", "s3://no-such-bucket/key"),
        Dataset("no file", tmp_path / "nope.csv"),
        Dataset("no scheme", "gopher://x/y"),
        Dataset("no key", "s3://bucket"),
        Dataset("no match", "s3://bucket/none/*"),
        Dataset("a directory", tmp_path),
    )
    report = await catalog.fetch_all(on_error="collect")
    assert ["good"] == list(report)
    assert {
        "missing": ObjectNotFoundError,
        "secret": AccessDeniedError,
        "no bucket": BucketNotFoundError,
        "no file": ObjectNotFoundError,
        "no scheme": InvalidSourceError,
        "no key": InvalidSourceError,
        "no match": EmptyGlobMatchError,
        "a directory": InvalidSourceError,
    } == {name: type(error) for name, error in report.errors.items()}


async def test_fetch_all_raises_what_failed_with_the_report(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """An exception group, so that `except*` can take it apart."""
    server.put("bucket", "good", b"1")
    with pytest.raises(FetchAllError) as caught:
        await make_catalog("good", "missing").fetch_all()
    again = pickle.loads(pickle.dumps(caught.value))
    assert ["good"] == list(caught.value.report) == list(again.report)
    assert [ObjectNotFoundError] == [type(error) for error in caught.value.exceptions]


async def test_a_result_can_be_opened_like_a_path(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """It is an `os.PathLike`."""
    server.put("bucket", "a", b"text")
    report = await make_catalog("a").fetch_all()
    assert str(report["a"].path) == os.fspath(report["a"])


async def test_local_files_are_sources_too(make_catalog: MakeCatalog, tmp_path: Path) -> None:
    """As plain paths, relative ones included, and as file URIs; they are copied."""
    source = tmp_path / "in put" / "a.csv"
    source.parent.mkdir()
    source.write_bytes(content(3 * MIB))
    catalog = make_catalog(
        Dataset("path", source), Dataset("uri", source.as_uri()), Dataset("dir", f"{source.parent}/")
    )
    report = await catalog.fetch_all()
    assert [content(3 * MIB)] * 3 == [result.paths[0].read_bytes() for result in report.values()]
    source.write_bytes(b"changed")
    assert b"changed" == (await catalog.fetch("path")).read_bytes()


# -- looking


async def test_plan_says_what_fetch_all_would_do(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """In requests and bytes, and why; nothing is downloaded."""
    for name, size in (("fresh", 10), ("stale", 10), ("missing", 10), ("big", 3 * MIB + 1)):
        server.put("bucket", name, content(size))
    catalog = make_catalog("fresh", "stale", "missing", "big", "gone")
    await catalog.fetch_all(["fresh", "stale"])
    server.put("bucket", "stale", content(20, seed=1))
    plan = await catalog.plan()
    assert {
        "fresh": ("revalidate", 0, 1),
        "stale": ("download", 20, 1),
        "missing": ("download", 10, 1),
        "big": ("download", 3 * MIB + 1, 5),
        "gone": ("fail", 0, 0),
    } == {step.name: (step.action, step.bytes, step.requests) for step in plan.steps}
    assert (20 + 10 + 3 * MIB + 1, 8) == (plan.bytes, plan.requests)
    report = await catalog.fetch_all(["fresh", "stale", "missing", "big"])
    assert (plan.bytes, plan.requests) == (report.bytes_downloaded, report.requests)
    assert "5 datasets, 3,145,759 bytes to download in 8 requests" == str(plan).splitlines()[-1]


async def test_status_tells_how_each_dataset_stands(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """A remote that is gone makes one `UNKNOWN` and harms no other; a glob is as fresh as its least fresh file."""
    for name in ("fresh", "stale", "missing", "gone", "g/1", "g/2"):
        server.put("bucket", name, b"1")
    catalog = make_catalog("fresh", "stale", "missing", "gone", Dataset("glob", "s3://bucket/g/*"))
    await catalog.fetch_all(["fresh", "stale", "gone", "glob"])
    server.put("bucket", "stale", b"22")
    server.put("bucket", "g/2", b"22")
    server.delete("bucket", "gone")
    statuses = {status.name: status for status in await catalog.status()}
    assert {
        "fresh": Freshness.FRESH,
        "stale": Freshness.STALE,
        "missing": Freshness.MISSING,
        "gone": Freshness.UNKNOWN,
        "glob": Freshness.STALE,
    } == {name: status.freshness for name, status in statuses.items()}
    assert "404" in statuses["gone"].reason
    assert b"1" == statuses["gone"].path.read_bytes()


async def test_status_tells_when_the_data_was_written(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """Of the cached version, of the remote's if nothing is cached, and of several files the newest."""
    first, second = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    for name, moment in (("stale", first), ("missing", second), ("g/1", second), ("g/2", first)):
        server.put("bucket", name, b"1", last_modified=moment)
    catalog = make_catalog("stale", "missing", "gone", Dataset("glob", "s3://bucket/g/*"))
    await catalog.fetch("stale")
    server.put("bucket", "stale", b"2", last_modified=second)
    assert [first, second, None, second] == [status.last_modified for status in await catalog.status()]


async def test_is_stale_is_one_request(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """True when not cached, False when fresh, True when the object has changed, an error when it is gone."""
    server.put("bucket", "a", b"1")
    catalog = make_catalog("a")
    assert await catalog.is_stale("a")
    await catalog.fetch("a")
    server.clear_requests()
    assert not await catalog.is_stale("a")
    assert ["HEAD"] == sent(server)
    server.put("bucket", "a", b"2")
    assert await catalog.is_stale("a")
    server.delete("bucket", "a")
    with pytest.raises(ObjectNotFoundError):
        await catalog.is_stale("a")


@pytest.mark.parametrize("spoil", ["edit", "edit and hide", "truncate", "nothing"])
async def test_g6_verify_finds_what_was_changed_by_its_digest(
    server: FaultServer, make_catalog: MakeCatalog, spoil: str
) -> None:
    """Also what has kept its size and modification time; nothing is asked of the remote."""
    for name in ("a", "b", "g/1", "g/2"):
        server.put("bucket", name, content(2000))
    catalog = make_catalog("a", Dataset("g", "s3://bucket/g/*"), Dataset("own", "s3://bucket/b", cache_path="x/y"))
    report = await catalog.fetch_all()
    server.clear_requests()
    spoilt = [] if spoil == "nothing" else [report["g"].paths[1], report["own"].path]
    for path in spoilt:
        before = os.stat(path)
        path.write_bytes(content(2000, seed=9) if spoil.startswith("edit") else content(100))
        if spoil == "edit and hide":
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert sorted(spoilt) == await catalog.verify()
    assert [path for path in spoilt if path.name == "2"] == await catalog.verify(["a", "g"])
    assert [] == sent(server)


async def test_cache_info_counts_bytes_and_files(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """Per dataset, and in all, other catalogs' files included."""
    for name in ("a", "g/1", "g/2", "other"):
        server.put("bucket", name, b"12345")
    await make_catalog("other").fetch("other")
    catalog = make_catalog("a", "nothing", Dataset("g", "s3://bucket/g/*"))
    await catalog.fetch_all(["a", "g"])
    info = await catalog.cache_info()
    assert (20, 4, {"a": 5, "nothing": 0, "g": 10}) == (info.total_bytes, info.files, info.datasets)


async def test_invalidate_drops_the_copies(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """And says how many files that were."""
    for name in ("a", "g/1", "g/2"):
        server.put("bucket", name, b"1")
    catalog = make_catalog("a", Dataset("g", "s3://bucket/g/*", cache_path="mine"))
    report = await catalog.fetch_all()
    assert (1, 2, 0) == (await catalog.invalidate("a"), await catalog.invalidate("g"), await catalog.invalidate("a"))
    assert [] == [path for result in report.values() for path in result.paths if path.exists()]


# -- load


async def test_load_calls_the_reader_with_the_path(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """The argument's before the dataset's before the one of the suffix; a glob's gets the list."""
    server.put("bucket", "a.json", json.dumps({"x": 1}).encode())
    catalog = make_catalog(
        "a.json",
        Dataset("own", "s3://bucket/a.json", reader=lambda path, **options: (path.name, options)),
        Dataset("many", "s3://bucket/*.json", reader=len),
    )
    assert {"x": 1} == await catalog.load("a.json")
    assert ("a.json", {"option": 2}) == await catalog.load("own", option=2)
    assert b'{"x": 1}' == await catalog.load("own", Path.read_bytes)
    assert 1 == await catalog.load("many")


async def test_load_without_a_reader_for_the_suffix_says_so(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """The text names the suffixes that there are readers for."""
    server.put("bucket", "a.xyz", b"")
    with pytest.raises(ConfigurationError, match=r"no reader for a\.xyz: pass one"):
        await make_catalog("a.xyz").load("a.xyz")


# -- names and settings


async def test_an_unknown_name_is_answered_with_close_ones(make_catalog: MakeCatalog) -> None:
    """The error is a `KeyError` too."""
    catalog = make_catalog("customers", "orders")
    with pytest.raises(DatasetNotFoundError, match="did you mean 'customers'") as caught:
        await catalog.fetch("custmers")
    assert isinstance(caught.value, KeyError)
    with pytest.raises(DatasetNotFoundError):
        await catalog.fetch_all(["orders", "nope"])


async def test_fetch_of_a_glob_says_use_fetch_files(make_catalog: MakeCatalog) -> None:
    """It may be many files."""
    with pytest.raises(MultiFileDatasetError, match=r"use fetch_files\(\)"):
        await make_catalog(Dataset("g", "s3://bucket/*")).fetch("g")


async def test_two_datasets_of_one_name_are_refused(make_catalog: MakeCatalog) -> None:
    """A name is used once."""
    with pytest.raises(DuplicateDatasetError):
        make_catalog("a", "a")


async def test_two_sources_of_one_cache_path_are_refused(make_catalog: MakeCatalog) -> None:
    """They would take each other's place."""
    with pytest.raises(ConfigurationError, match="two sources"):
        make_catalog(Dataset("a", "s3://b/1", cache_path="x"), Dataset("b", "s3://b/2", cache_path="x"))


async def test_datasets_are_listed_in_their_order(make_catalog: MakeCatalog) -> None:
    """As they were given."""
    catalog = make_catalog("b", "a")
    assert ["b", "a"] == [dataset.name for dataset in catalog.datasets]
    assert Dataset("a", "s3://bucket/a") == catalog.get_dataset("a")


async def test_an_empty_catalog_is_a_catalog(make_catalog: MakeCatalog) -> None:
    """It fetches nothing."""
    report = await make_catalog().fetch_all()
    assert (0, 0, ()) == (len(report), report.requests, (await make_catalog().plan()).steps)


# -- events


async def test_every_event_of_an_operation_is_told_in_order(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """It begins, the bytes advance to the size, the file and the dataset finish, it ends."""
    server.put("bucket", "big", content(2 * MIB))
    events: list[Event] = []
    await make_catalog("big", progress=events.append).fetch("big")
    kinds = [type(event).__name__ for event in events]
    assert ["OperationStarted", "TransferStarted"] == kinds[:2]
    assert ["FileFinished", "DatasetFinished", "OperationFinished"] == kinds[-3:]
    assert 2 * MIB == max(getattr(event, "received_bytes", 0) for event in events)
    assert 1 == len({event.operation for event in events})


async def test_an_observer_that_fails_harms_nothing(
    server: FaultServer, make_catalog: MakeCatalog, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once and not called any more."""
    server.put("bucket", "a", b"1")
    calls = []

    def observer(event: Event) -> None:
        calls.append(event)
        raise ValueError("oops")

    assert b"1" == (await make_catalog("a", progress=observer).fetch("a")).read_bytes()
    assert (1, 1) == (len(calls), len(caplog.records))


async def test_a_stale_warning_names_the_line_of_the_caller(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """Not one of the library's own."""
    server.put("bucket", "a", b"1")
    catalog = make_catalog("a", config=CatalogConfig(retries=0))
    await catalog.fetch("a")
    server.refuse()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await catalog.fetch("a")
        await catalog.fetch_all()
        await catalog.fetch_files("a")
    assert [__file__] * 3 == [warning.filename for warning in caught]
