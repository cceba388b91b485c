"""Does a push write the file, the whole file, in the place of nothing but what is expected, and remember it?"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from datacachalog import (
    AccessDeniedError,
    AsyncCatalog,
    BucketNotFoundError,
    CacheError,
    Catalog,
    CatalogConfig,
    ConfigurationError,
    Dataset,
    DatasetNotFoundError,
    FileCache,
    FilesystemStorage,
    IntegrityError,
    MultiFileDatasetError,
    ObjectNotFoundError,
    PushAllError,
    PushConflictError,
    RouterStorage,
    S3Storage,
    StorageError,
    StorageUnreachableError,
    TransferError,
)
from datacachalog._pipeline import requests
from datacachalog.ports import Event, FileFinished, OperationFinished, RequestRetried, TransferAdvanced, TransferStarted
from datacachalog.testing import (
    Cut,
    FaultServer,
    FaultyStorage,
    Meanwhile,
    MemoryStorage,
    Reset,
    Stall,
    Status,
    Unreachable,
)

from .conftest import cached_files, partial_files

MIB = 1024 * 1024
QUICK = CatalogConfig(retries=2)
LARGE = 11 * MIB + 7  # three parts
NOISE = hashlib.shake_256(b"noise").digest(2 * LARGE)

MakeCatalog = Callable[..., AsyncCatalog]


@pytest.fixture
async def make_catalog(server: FaultServer, tmp_path: Path) -> AsyncIterator[MakeCatalog]:
    """Make catalogs of sources in the server's bucket, which are closed at the end."""
    made: list[AsyncCatalog] = []

    def make(
        *datasets: Dataset | str, config: CatalogConfig = QUICK, cache: str = "cache", progress: object = False
    ) -> AsyncCatalog:
        storage = S3Storage(endpoint_url=server.endpoint_url, region="us-east-1")
        values = [d if isinstance(d, Dataset) else Dataset(d, f"s3://bucket/{d}") for d in datasets]
        catalog = AsyncCatalog(
            values,
            cache_dir=tmp_path / cache,
            config=config,
            storage=RouterStorage({"s3": storage, "file": FilesystemStorage()}),
            progress=progress,
        )
        made.append(catalog)
        return catalog

    yield make
    for catalog in made:
        await catalog.aclose()


@pytest.fixture(autouse=True)
def _no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "retry_delay_seconds", lambda *_: 0.0)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A file that is written in one piece, from memory."""
    return _file(tmp_path / "small.csv", b"id,name\n1,Ada\n")


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    """A file that is written in one piece, from the disk."""
    return _file(tmp_path / "medium.bin", NOISE[: 2 * MIB])


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file that is written in parts."""
    return _file(tmp_path / "large.bin", NOISE[:LARGE])


@pytest.fixture(params=["small", "medium", "large"])
def local(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def sent(server: FaultServer) -> list[str]:
    """What was asked of the server since the last look."""
    found = [request.operation for request in server.requests]
    server.clear_requests()
    return found


# -- what is written


async def test_a_push_writes_the_file(server: FaultServer, make_catalog: MakeCatalog, local: Path) -> None:
    """The object has the file's bytes, and what is returned is its version."""
    server.create_bucket("bucket", is_versioned=True)
    written = await make_catalog("key").push("key", local)
    assert server.get("bucket", "key", version_id=written.version_id) == local.read_bytes()
    assert written.size == local.stat().st_size


async def test_an_empty_file_is_pushed_as_an_empty_object(
    server: FaultServer, make_catalog: MakeCatalog, tmp_path: Path
) -> None:
    """A file without bytes is a file."""
    await make_catalog("key").push("key", _file(tmp_path / "empty", b""))
    assert server.get("bucket", "key") == b""


async def test_a_small_push_takes_a_question_and_a_request(
    server: FaultServer, make_catalog: MakeCatalog, small: Path
) -> None:
    """What is there is asked, then the file is written."""
    await make_catalog("key").push("key", small)
    assert ["HeadObject", "PutObject"] == sent(server)


async def test_a_large_file_goes_in_parts(server: FaultServer, make_catalog: MakeCatalog, large: Path) -> None:
    """A request a part, and what is there is asked once more before the end."""
    await make_catalog("key").push("key", large)
    expected = [*["HeadObject", "CreateMultipartUpload"], *["UploadPart"] * 2, "HeadObject", "CompleteMultipartUpload"]
    assert expected == sent(server)


async def test_the_media_type_is_guessed_by_the_name(
    server: FaultServer, make_catalog: MakeCatalog, small: Path, large: Path
) -> None:
    """In one piece and in parts."""
    catalog = make_catalog("a.csv", "b.json")
    await catalog.push("a.csv", small)
    await catalog.push("b.json", large)
    kinds = {r.key: r.headers.get("content-type") for r in server.requests if r.operation[:3] in ("Put", "Cre")}
    assert {"a.csv": "text/csv", "b.json": "application/json"} == kinds


async def test_the_store_is_given_the_checksum_of_all(
    server: FaultServer, make_catalog: MakeCatalog, local: Path
) -> None:
    """CRC64NVME of the whole object, which the store has compared."""
    written = await make_catalog("key").push("key", local)
    assert str(written.checksum).startswith("crc64nvme:")


async def test_the_next_fetch_downloads_nothing(server: FaultServer, make_catalog: MakeCatalog, local: Path) -> None:
    """The cache has the file as the version that it has become."""
    catalog = make_catalog("key")
    await catalog.push("key", local)
    server.clear_requests()
    report = await catalog.fetch_all()
    expected = ("revalidated", "crc64nvme", local.read_bytes())
    assert expected == (report["key"].action, report["key"].verified_by, report["key"].path.read_bytes())
    assert [304] == [request.status for request in server.requests]


async def test_the_local_file_stays_the_callers(make_catalog: MakeCatalog, local: Path, tmp_path: Path) -> None:
    """It is neither moved nor linked: what is done with it later changes nothing in the cache."""
    catalog, before = make_catalog("key"), local.read_bytes()
    await catalog.push("key", local)
    with local.open("r+b") as file:
        file.write(b"changed")
    assert (before, []) == ((await catalog.fetch("key")).read_bytes(), partial_files(tmp_path / "cache"))


async def test_a_cached_file_can_be_pushed_where_it_lies(
    server: FaultServer, make_catalog: MakeCatalog, local: Path
) -> None:
    """The file to be pushed may be the cached one."""
    catalog = make_catalog("key")
    await catalog.push("key", local)
    path = await catalog.fetch("key")
    await catalog.push("key", path)
    assert local.read_bytes() == (await catalog.fetch("key")).read_bytes() == server.get("bucket", "key")


async def test_a_push_is_fresh_within_max_age(server: FaultServer, make_catalog: MakeCatalog, small: Path) -> None:
    """What was just written needn't be asked for."""
    catalog = make_catalog(Dataset("key", "s3://bucket/key", max_age=60))
    await catalog.push("key", small)
    server.clear_requests()
    await catalog.fetch("key")
    assert [] == sent(server)


async def test_a_file_is_pushed_to_a_file_system(make_catalog: MakeCatalog, local: Path, tmp_path: Path) -> None:
    """Directories are made on the way, and nothing is left beside the file."""
    target = tmp_path / "shared" / "deep" / "copy.bin"
    catalog = make_catalog(Dataset("copy", target))
    await catalog.push("copy", local)
    report = await catalog.fetch_all()
    assert ([target], local.read_bytes()) == (list(target.parent.iterdir()), target.read_bytes())
    assert "revalidated" == report["copy"].action


def test_a_script_pushes(server: FaultServer, small: Path, tmp_path: Path) -> None:
    """The blocking catalog does the same."""
    storage = S3Storage(endpoint_url=server.endpoint_url)
    with Catalog([Dataset("key", "s3://bucket/key")], cache_dir=tmp_path / "c", storage=storage) as catalog:
        catalog.push("key", small)
        report = catalog.push_all({"key": small})
    assert (small.read_bytes(), ["key"]) == (server.get("bucket", "key"), list(report))


# -- conflicts


async def test_g9_what_was_fetched_may_be_replaced(server: FaultServer, make_catalog: MakeCatalog, local: Path) -> None:
    """The write demands the version that is cached."""
    server.put("bucket", "key", b"old")
    catalog = make_catalog("key")
    await catalog.fetch("key")
    await catalog.push("key", local)
    [condition] = [r.headers["if-match"] for r in server.requests if "if-match" in r.headers]
    assert (f'"{hashlib.md5(b"old").hexdigest()}"', local.read_bytes()) == (condition, server.get("bucket", "key"))


async def test_g9_what_was_pushed_may_be_pushed_again(
    server: FaultServer, make_catalog: MakeCatalog, local: Path, small: Path
) -> None:
    """The version that a push made is the one that the next push is based on."""
    catalog = make_catalog("key")
    await catalog.push("key", local)
    await catalog.push("key", small)
    assert small.read_bytes() == server.get("bucket", "key")


async def test_g9_a_newer_version_is_not_overwritten(
    server: FaultServer, make_catalog: MakeCatalog, local: Path
) -> None:
    """What somebody else has written since the fetch stays, nothing is sent, and the error names both versions."""
    mine, theirs = server.put("bucket", "key", b"old"), b"theirs"
    catalog = make_catalog("key")
    await catalog.fetch("key")
    found = server.put("bucket", "key", theirs)
    server.clear_requests()
    with pytest.raises(PushConflictError) as caught:
        await catalog.push("key", local)
    assert (mine.etag, found.etag) == (caught.value.expected_etag, caught.value.found_etag)
    assert (theirs, ["HeadObject"]) == (server.get("bucket", "key"), sent(server))


async def test_g9_what_is_there_and_was_never_fetched_is_not_overwritten(
    server: FaultServer, make_catalog: MakeCatalog, local: Path
) -> None:
    """Without a cached copy, nothing is expected to be there."""
    found = server.put("bucket", "key", b"theirs")
    with pytest.raises(PushConflictError, match="nothing of it is cached") as caught:
        await make_catalog("key").push("key", local)
    assert (None, found.etag, b"theirs") == (
        caught.value.expected_etag,
        caught.value.found_etag,
        server.get("bucket", "key"),
    )


async def test_g9_an_object_that_was_deleted_is_not_written_anew(
    server: FaultServer, make_catalog: MakeCatalog, local: Path
) -> None:
    """A deletion is a change, too."""
    mine = server.put("bucket", "key", b"old")
    catalog = make_catalog("key")
    await catalog.fetch("key")
    server.delete("bucket", "key")
    with pytest.raises(PushConflictError) as caught:
        await catalog.push("key", local)
    expected = (mine.etag, None, None)
    assert expected == (caught.value.expected_etag, caught.value.found_etag, server.get("bucket", "key"))


@pytest.mark.parametrize("had", [None, b"old"], ids=["nothing", "a version"])
async def test_g9_who_writes_in_the_last_moment_is_not_overwritten(
    make_catalog: MakeCatalog, server: FaultServer, local: Path, tmp_path: Path, had: bytes | None
) -> None:
    """The store itself refuses what has become wrong since it was asked; no part stays there."""
    if had is not None:
        server.put("bucket", "key", had)
    catalog = make_catalog("key")
    if had is not None:
        await catalog.fetch("key")
    last = "HEAD" if local.name != "large.bin" else "HeadObject"
    nth = 1 if local.name != "large.bin" else 2
    server.add_faults(Meanwhile(lambda: server.put("bucket", "key", b"theirs"), method=last, nth=nth))
    with pytest.raises(PushConflictError) as caught:
        await catalog.push("key", local)
    assert caught.value.found_etag == hashlib.md5(b"theirs").hexdigest()
    assert (b"theirs", []) == (server.get("bucket", "key"), server.open_uploads("bucket"))
    assert b"theirs" == (await catalog.fetch("key")).read_bytes()


@pytest.mark.parametrize("had", [None, b"old"], ids=["nothing", "a version"])
async def test_g9_a_store_that_ignores_conditions_is_asked_right_before_the_end(
    tmp_path: Path, large: Path, had: bytes | None
) -> None:
    """Who writes while the parts are sent is found by comparison."""
    with FaultServer(heeds_write_conditions=False) as server:
        server.create_bucket("bucket")
        storage = S3Storage(endpoint_url=server.endpoint_url)
        async with AsyncCatalog(
            [Dataset("key", "s3://bucket/key")], cache_dir=tmp_path / "c", storage=storage
        ) as catalog:
            if had is not None:
                server.put("bucket", "key", had)
                await catalog.fetch("key")
            server.add_faults(Meanwhile(lambda: server.put("bucket", "key", b"theirs"), method="UploadPart"))
            with pytest.raises(PushConflictError):
                await catalog.push("key", large)
        assert (b"theirs", []) == (server.get("bucket", "key"), server.open_uploads("bucket"))


async def test_g9_a_store_that_knows_no_conditions_is_asked_and_then_written(
    server: FaultServer, make_catalog: MakeCatalog, local: Path
) -> None:
    """A refusal of the conditions themselves leads to a comparison and a write without them."""
    operation = "CompleteMultipartUpload" if local.name == "large.bin" else "PutObject"
    server.add_faults(Status(501, method=operation))
    await make_catalog("key").push("key", local)
    conditions = ["if-none-match" in r.headers for r in server.requests if r.operation == operation]
    assert ([True, False], local.read_bytes()) == (conditions, server.get("bucket", "key"))


async def test_g9_a_store_that_reads_etags_without_quotes_is_understood(
    server: FaultServer, make_catalog: MakeCatalog, small: Path
) -> None:
    """Where the refusal contradicts what is there, the ETag is written as the store may read it."""
    server.put("bucket", "key", b"old")
    catalog = make_catalog("key")
    await catalog.fetch("key")
    server.add_faults(Status(412, method="PutObject"))
    await catalog.push("key", small)
    conditions = [r.headers["if-match"] for r in server.requests if r.operation == "PutObject"]
    etag = hashlib.md5(b"old").hexdigest()
    assert ([f'"{etag}"', etag], small.read_bytes()) == (conditions, server.get("bucket", "key"))


async def test_g9_a_refusal_without_a_reason_ends(server: FaultServer, make_catalog: MakeCatalog, local: Path) -> None:
    """A store that refuses whatever it is asked is a conflict, not a loop."""
    operation = "CompleteMultipartUpload" if local.name == "large.bin" else "PutObject"
    server.add_faults(Status(409, code="ConditionalRequestConflict", method=operation, times=None))
    with pytest.raises((PushConflictError, StorageError)):
        await make_catalog("key").push("key", local)
    assert (None, []) == (server.get("bucket", "key"), server.open_uploads("bucket"))


async def test_overwriting_is_possible_where_it_is_said(
    server: FaultServer, make_catalog: MakeCatalog, local: Path
) -> None:
    """`on_conflict="overwrite"` asks nothing and demands nothing."""
    server.put("bucket", "key", b"theirs")
    await make_catalog("key").push("key", local, on_conflict="overwrite")
    found = server.requests
    assert local.read_bytes() == server.get("bucket", "key")
    assert [] == [r for r in found if r.method == "HEAD" or {"if-match", "if-none-match"} & set(r.headers)]


# -- answers that are lost


@pytest.mark.parametrize("fault", [Cut(method="PutObject"), Reset(method="PutObject")], ids=["cut", "reset"])
@pytest.mark.parametrize("had", [None, b"old"], ids=["nothing", "a version"])
async def test_g9_a_write_whose_answer_is_lost_is_no_conflict_with_itself(
    server: FaultServer, make_catalog: MakeCatalog, small: Path, fault: Cut | Reset, had: bytes | None
) -> None:
    """What is there is compared with what was sent before it is sent again."""
    server.create_bucket("bucket", is_versioned=True)
    catalog = make_catalog("key")
    if had is not None:
        server.put("bucket", "key", had)
        await catalog.fetch("key")
    server.add_faults(fault)
    written = await catalog.push("key", small)
    server.clear_requests()
    report = await catalog.fetch_all()
    assert (small.read_bytes(), "revalidated") == (
        server.get("bucket", "key", version_id=written.version_id),
        report["key"].action,
    )


async def test_g9_a_completion_whose_answer_is_lost_is_no_failure(
    server: FaultServer, make_catalog: MakeCatalog, large: Path
) -> None:
    """The upload is gone because it is complete."""
    server.add_faults(Cut(method="CompleteMultipartUpload"))
    catalog = make_catalog("key")
    await catalog.push("key", large)
    report = await catalog.fetch_all()
    assert (large.read_bytes(), "revalidated") == (server.get("bucket", "key"), report["key"].action)


async def test_g9_an_answer_is_lost_and_somebody_else_has_written(
    server: FaultServer, make_catalog: MakeCatalog, local: Path
) -> None:
    """What is there then is not taken for ours."""
    operation = "CompleteMultipartUpload" if local.name == "large.bin" else "PutObject"
    action = lambda: server.put("bucket", "key", b"theirs")  # noqa: E731  # a statement in a fault
    server.add_faults(Status(500, method=operation), Meanwhile(action, method=operation))
    with pytest.raises(PushConflictError) as caught:
        await make_catalog("key").push("key", local)
    assert (hashlib.md5(b"theirs").hexdigest(), b"theirs") == (caught.value.found_etag, server.get("bucket", "key"))


async def test_an_error_in_an_answer_that_says_200_is_noticed(
    server: FaultServer, make_catalog: MakeCatalog, large: Path
) -> None:
    """A completion may fail after its status was sent; it is tried again."""
    server.add_faults(Status(200, code="InternalError", method="CompleteMultipartUpload"))
    await make_catalog("key").push("key", large)
    completions = [r.status for r in server.requests if r.operation == "CompleteMultipartUpload"]
    assert ([200, 200], large.read_bytes()) == (completions, server.get("bucket", "key"))


async def test_parts_are_tried_again_by_themselves(server: FaultServer, make_catalog: MakeCatalog, large: Path) -> None:
    """A part that fails is sent again, with no other part; the observer is told."""
    events: list[Event] = []
    server.add_faults(Status(503, method="UploadPart"), Reset(method="UploadPart", nth=2))
    await make_catalog("key", progress=events.append).push("key", large)
    assert (4, 2) == (sent(server).count("UploadPart"), sum(isinstance(e, RequestRetried) for e in events))
    assert large.read_bytes() == server.get("bucket", "key")


# -- what fails


async def test_an_upload_that_fails_is_dropped(server: FaultServer, make_catalog: MakeCatalog, large: Path) -> None:
    """Parts cost money as long as they are there. The object and the cached copy stay as they were."""
    server.put("bucket", "key", b"old")
    catalog = make_catalog("key")
    path = await catalog.fetch("key")
    server.add_faults(Status(403, method="UploadPart", nth=2))
    with pytest.raises(AccessDeniedError, match="may not write"):
        await catalog.push("key", large)
    assert (b"old", [], b"old") == (server.get("bucket", "key"), server.open_uploads("bucket"), path.read_bytes())


async def test_g10_a_cancelled_push_drops_its_parts(
    server: FaultServer, make_catalog: MakeCatalog, large: Path, tmp_path: Path
) -> None:
    """Nothing is left behind, here or there, and the catalog can be used."""
    catalog = make_catalog("key")
    server.add_faults(Stall(method="UploadPart", nth=2))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(catalog.push, "key", large)
        await anyio.to_thread.run_sync(server.wait_for, lambda found: any(r.is_stalled for r in found))
        tasks.cancel_scope.cancel()
    left = (server.get("bucket", "key"), server.open_uploads("bucket"), partial_files(tmp_path / "cache"))
    assert (None, [], []) == left
    await catalog.push("key", large)
    assert large.read_bytes() == server.get("bucket", "key")


@pytest.mark.parametrize("name", ["medium", "large"])
async def test_a_file_that_changes_while_it_is_pushed_is_noticed(
    server: FaultServer, make_catalog: MakeCatalog, request: pytest.FixtureRequest, name: str
) -> None:
    """Somebody is writing to it, so what was sent of it may be half of something: nothing is written."""
    path: Path = request.getfixturevalue(name)
    method = "UploadPart" if name == "large" else "HEAD"
    server.add_faults(Meanwhile(lambda: path.write_bytes(b"half"), method=method))
    with pytest.raises(TransferError, match="changed while it was pushed"):
        await make_catalog("key").push("key", path)
    assert (None, []) == (server.get("bucket", "key"), server.open_uploads("bucket"))


async def test_a_pin_is_compared_before_anything_is_sent(
    server: FaultServer, make_catalog: MakeCatalog, local: Path
) -> None:
    """A dataset with a checksum takes no other file."""
    digest = hashlib.sha256(b"something else").hexdigest()
    catalog = make_catalog(Dataset("key", "s3://bucket/key", checksum=f"sha256:{digest}"))
    with pytest.raises(IntegrityError, match="is not what the dataset pins"):
        await catalog.push("key", local)
    assert [] == sent(server)


async def test_a_file_that_has_the_pinned_digest_is_pushed(
    server: FaultServer, make_catalog: MakeCatalog, local: Path
) -> None:
    """And fetched with the same pin."""
    digest = hashlib.sha256(local.read_bytes()).hexdigest()
    catalog = make_catalog(Dataset("key", "s3://bucket/key", checksum=f"sha256:{digest}"))
    await catalog.push("key", local)
    assert "revalidated" == (await catalog.fetch_all())["key"].action


@pytest.mark.parametrize(
    ("source", "path", "error", "text"),
    [
        ("s3://bucket/*.csv", "small.csv", MultiFileDatasetError, "a dataset of its own"),
        ("s3://bucket/dir/", "small.csv", MultiFileDatasetError, "a dataset of its own"),
        ("s3://bucket/key", "missing.csv", ObjectNotFoundError, "no such file"),
        ("s3://bucket/key", "small.csv/below", ObjectNotFoundError, "no such file"),
        ("s3://bucket/key", ".", ConfigurationError, "is a directory"),
        ("s3://bucket/key", "pipe", ConfigurationError, "not a regular file"),
        ("s3://bucket/key", "nul\0", ConfigurationError, "can't be the path of a file"),
    ],
)
async def test_what_can_not_be_pushed_is_said_before_anything_is_sent(
    server: FaultServer, make_catalog: MakeCatalog, small: Path, source: str, path: str, error: type, text: str
) -> None:
    """Each has its own error, which says what to do."""
    os.mkfifo(small.with_name("pipe"))
    with pytest.raises(error, match=text):
        await make_catalog(Dataset("key", source)).push("key", small.parent / path)
    assert [] == sent(server)


async def test_a_relative_path_is_that_of_the_working_directory(
    server: FaultServer, make_catalog: MakeCatalog, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for `open()`."""
    monkeypatch.chdir(small.parent)
    await make_catalog("key").push("key", small.name)
    assert small.read_bytes() == server.get("bucket", "key")


async def test_a_missing_bucket_is_told(server: FaultServer, make_catalog: MakeCatalog, local: Path) -> None:
    """It is not taken for an object that isn't there yet."""
    with pytest.raises(BucketNotFoundError):
        await make_catalog(Dataset("key", "s3://no-such-bucket/key")).push("key", local, on_conflict="overwrite")


async def test_offline_nothing_is_pushed(server: FaultServer, make_catalog: MakeCatalog, small: Path) -> None:
    """No request at all."""
    with pytest.raises(StorageUnreachableError, match="offline"):
        await make_catalog("key", config=CatalogConfig(offline=True)).push("key", small)
    assert [] == sent(server)


async def test_a_cache_that_can_not_be_written_is_told_before_anything_is_sent(
    server: FaultServer, make_catalog: MakeCatalog, large: Path, tmp_path: Path
) -> None:
    """The copy that is sent is made first."""
    (tmp_path / "cache").write_bytes(b"a file where the directory should be")
    with pytest.raises(CacheError):
        await make_catalog("key").push("key", large)
    assert [] == sent(server)


async def test_a_storage_that_can_only_be_read_is_told(small: Path, tmp_path: Path) -> None:
    """An adapter without the port for writing is a mistake of the configuration."""
    storage = _ReadOnly(MemoryStorage())
    async with AsyncCatalog([Dataset("x", "mem://b/x")], cache_dir=tmp_path / "c", storage=storage) as catalog:
        with pytest.raises(ConfigurationError, match="can only be read"):
            await catalog.push("x", small)
    routed = RouterStorage({"mem": storage})
    async with AsyncCatalog([Dataset("x", "mem://b/x")], cache_dir=tmp_path / "c", storage=routed) as catalog:
        with pytest.raises(ConfigurationError, match="can only be read"):
            await catalog.push("x", small, on_conflict="overwrite")


class _ReadOnly:
    def __init__(self, inner):
        self._inner = inner

    def connect(self, config):
        return self._Session(self._inner.connect(config))

    class _Session:
        def __init__(self, opening):
            self._opening = opening

        async def __aenter__(self):
            session = await self._opening.__aenter__()
            self.head, self.read, self.list_page = session.head, session.read, session.list_page
            return self

        async def __aexit__(self, *exception):
            await self._opening.__aexit__(*exception)


async def test_a_cache_that_takes_no_files_over_is_told(large: Path, tmp_path: Path) -> None:
    """A large file is copied first, which the cache must be able to do."""

    class Cache:
        def __init__(self, inner: FileCache) -> None:
            for name in ("lookup", "stage", "publish", "touch", "remove"):
                setattr(self, name, getattr(inner, name))

    storage = MemoryStorage()
    async with AsyncCatalog(
        [Dataset("x", "mem://b/x")], cache=Cache(FileCache(tmp_path / "c")), storage=storage
    ) as catalog:
        with pytest.raises(ConfigurationError, match="takes no files over"):
            await catalog.push("x", large)
    assert [] == storage.requests


async def test_a_wrong_choice_is_told(make_catalog: MakeCatalog, small: Path) -> None:
    """Of the two that there are."""
    with pytest.raises(ConfigurationError, match="on_conflict"):
        await make_catalog("key").push("key", small, on_conflict="ignore")
    with pytest.raises(ConfigurationError, match="on_error"):
        await make_catalog("key").push_all({"key": small}, on_error="ignore")
    with pytest.raises(DatasetNotFoundError):
        await make_catalog("key").push("kye", small)


# -- two at once


async def test_a_fetch_waits_for_the_push_of_the_same_dataset(
    server: FaultServer, make_catalog: MakeCatalog, large: Path
) -> None:
    """It finds what was pushed, and downloads nothing."""
    catalog = make_catalog("key")
    server.add_faults(Stall(method="UploadPart", nth=2))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(catalog.push, "key", large)
        await anyio.to_thread.run_sync(server.wait_for, lambda found: any(r.is_stalled for r in found))
        tasks.start_soon(catalog.fetch, "key")
        await anyio.lowlevel.checkpoint()
        server.release()
    assert [304] == [request.status for request in server.requests if request.operation == "GetObject"]


async def test_g9_two_who_push_at_once_leave_one_version_and_one_conflict(
    server: FaultServer, make_catalog: MakeCatalog, tmp_path: Path
) -> None:
    """Each from a cache of its own; whoever comes second is told."""
    files = [_file(tmp_path / f"{number}", NOISE[number : number + LARGE]) for number in range(2)]
    catalogs = [make_catalog("key", cache=f"cache-{number}") for number in range(2)]
    conflicts = []

    async def push(number: int) -> None:
        try:
            await catalogs[number].push("key", files[number])
        except PushConflictError:
            conflicts.append(number)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(push, 0)
        tasks.start_soon(push, 1)
    [loser] = conflicts
    assert files[1 - loser].read_bytes() == server.get("bucket", "key")
    assert [] == server.open_uploads("bucket")


async def test_g9_the_cache_never_pairs_my_bytes_with_their_etag(
    server: FaultServer, make_catalog: MakeCatalog, local: Path
) -> None:
    """What somebody else writes right after the push is found by the next fetch."""
    operation = "CompleteMultipartUpload" if local.name == "large.bin" else "PutObject"
    catalog = make_catalog("key")
    # Called when the request is carried out, before it is answered.
    server.add_faults(Meanwhile(lambda: server.put("bucket", "key", b"theirs"), method=operation))
    await catalog.push("key", local)
    assert b"theirs" == (await catalog.fetch("key")).read_bytes()


# -- many at once


async def test_many_files_are_pushed_at_once(server: FaultServer, make_catalog: MakeCatalog, tmp_path: Path) -> None:
    """The report has what was written, in the order of the catalog."""
    names = [f"{number}.csv" for number in range(20)]
    paths = {name: _file(tmp_path / name, name.encode()) for name in names}
    report = await make_catalog(*names).push_all(dict(reversed(paths.items())))
    assert names == list(report)
    expected = {name: name.encode() for name in names}
    assert expected == {name: server.get("bucket", name) for name in names}
    assert (40, sum(map(len, names)), {}) == (report.requests, report.bytes_uploaded, report.errors)


async def test_one_that_fails_stops_no_other(server: FaultServer, make_catalog: MakeCatalog, small: Path) -> None:
    """All others are written before the failures are reported, with the report of everything."""
    server.put("bucket", "taken", b"theirs")
    paths = {"taken": small, "free": small, "gone": small.with_name("gone")}
    with pytest.raises(PushAllError, match="2 of 3 datasets failed") as caught:
        await make_catalog("taken", "free", "gone").push_all(paths)
    report = caught.value.report
    assert (["free"], ["taken", "gone"]) == (list(report), list(report.errors))
    assert small.read_bytes() == server.get("bucket", "free")


async def test_failures_are_collected_where_it_is_said(
    server: FaultServer, make_catalog: MakeCatalog, small: Path
) -> None:
    """`on_error="collect"` returns the report; a dataset that failed raises its error when it is asked for."""
    server.put("bucket", "taken", b"theirs")
    report = await make_catalog("taken").push_all({"taken": small}, on_error="collect")
    with pytest.raises(PushConflictError):
        report["taken"]


async def test_an_observer_is_told_what_the_remote_has_acknowledged(make_catalog: MakeCatalog, large: Path) -> None:
    """The size first, then bytes as parts are answered, and the end."""
    events: list[Event] = []
    await make_catalog("key", progress=events.append).push("key", large)
    [started] = [event for event in events if isinstance(event, TransferStarted)]
    [finished] = [event for event in events if isinstance(event, FileFinished)]
    advanced = [event.received_bytes for event in events if isinstance(event, TransferAdvanced)]
    last = events[-1]
    assert isinstance(last, OperationFinished)
    assert (LARGE, sorted(advanced), LARGE) == (started.size_bytes, advanced, advanced[-1])
    assert ("uploaded", LARGE, LARGE) == (finished.action, finished.bytes_uploaded, last.bytes_uploaded)


async def test_requests_never_exceed_the_budget(server: FaultServer, make_catalog: MakeCatalog, tmp_path: Path) -> None:
    """Parts and files share the catalog's limit."""
    paths = {f"{number}": _file(tmp_path / f"{number}", NOISE[:LARGE]) for number in range(3)}
    await make_catalog(*paths, config=CatalogConfig(max_concurrency=2)).push_all(paths)
    assert server.max_concurrent_requests <= 2


# -- other storages


@pytest.mark.parametrize("method", ["PUT", "BEGIN", "PART", "COMPLETE"])
async def test_any_writable_storage_will_do(small: Path, large: Path, tmp_path: Path, method: str) -> None:
    """The port is enough, whatever fails once on the way."""
    memory = MemoryStorage()
    storage = FaultyStorage(memory, [Unreachable(method=method)])
    datasets = [Dataset("small", "mem://b/small"), Dataset("large", "mem://b/large")]
    async with AsyncCatalog(datasets, cache_dir=tmp_path / "c", storage=storage, config=QUICK) as catalog:
        await catalog.push_all({"small": small, "large": large})
        report = await catalog.fetch_all()
    assert {"revalidated"} == {result.action for result in report.values()}
    assert 0 == memory.open_uploads


async def test_a_catalog_that_moved_pushes_on(
    server: FaultServer, make_catalog: MakeCatalog, small: Path, tmp_path: Path
) -> None:
    """What was pushed is known by the cache alone."""
    await make_catalog("key").push("key", small)
    shutil.copytree(tmp_path / "cache", tmp_path / "moved")
    await make_catalog("key", cache="moved").push("key", small)
    assert ["bucket/key"] == cached_files(tmp_path / "moved")
