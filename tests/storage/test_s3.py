"""S3: the rules of every storage against two servers, and what every refusal means."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import socket
import subprocess
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import anyio
import anyio.to_thread
import pytest

from datacachalog import AsyncCatalog, CatalogConfig, ConfigurationError, Dataset, S3Storage
from datacachalog._errors import (
    AccessDeniedError,
    BucketNotFoundError,
    CredentialsError,
    InvalidSourceError,
    ObjectNotFoundError,
    StorageError,
    StorageUnreachableError,
    ThrottledError,
    VersionNotFoundError,
)
from datacachalog._models import FileMetadata
from datacachalog.ports import RangeNotSatisfiable, ReadRequest, ReadResponse
from datacachalog.storage._http_fields import parse_retry_after
from datacachalog.storage._s3 import S3Session
from datacachalog.storage._s3_wire import Wire
from datacachalog.testing import (
    Cut,
    FaultServer,
    IgnoreRange,
    NoEtag,
    Reset,
    Stall,
    Status,
    WeakEtag,
    WrongContentRange,
)
from datacachalog.testing.contracts import (
    Delete,
    PicklableStorageContract,
    Seed,
    SeekableListingContract,
    WritableStorageContract,
)

from ._web import Asked, part_of, reply, web_server

SECRET = "wJalrXUtnFEMI-never-to-be-seen"
_COUNTER = itertools.count()


class TestS3StorageOnFaultServer(PicklableStorageContract, SeekableListingContract, WritableStorageContract):
    """Against the project's own server."""

    awkward_keys = (
        *PicklableStorageContract.awkward_keys,
        "back\\slash",
        "/leading",
        "a/../b",
        "new\nline",
        "\x07bell",
    )

    @pytest.fixture
    def storage(self, server: FaultServer) -> S3Storage:
        return S3Storage(endpoint_url=server.endpoint_url)

    @pytest.fixture
    def seed(self, server: FaultServer) -> Seed:
        async def seed(key: str, data: bytes) -> str:
            server.put("bucket", key, data)
            return f"s3://bucket/{key}"

        return seed

    @pytest.fixture
    def delete(self, server: FaultServer) -> Delete:
        async def delete(uri: str) -> None:
            server.delete("bucket", uri.removeprefix("s3://bucket/"))

        return delete


class TestS3StorageByTheClient(TestS3StorageOnFaultServer):
    """Where only botocore can tell where requests go: the client sends the first one, and what it resolved is noted."""

    @pytest.fixture(autouse=True)
    def _settings_of_botocores_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


class TestS3StorageOnMoto(PicklableStorageContract, SeekableListingContract, WritableStorageContract):
    """Against moto, an implementation that isn't ours."""

    heeds_if_match_of_parts = False

    @pytest.fixture
    def bucket(self, moto_client: Any) -> Iterator[str]:
        """A new bucket. Emptied afterwards: moto keeps large objects in files that it holds open."""
        name = f"bucket-{next(_COUNTER)}"
        moto_client.create_bucket(Bucket=name)
        yield name
        for found in moto_client.list_objects_v2(Bucket=name).get("Contents", ()):
            moto_client.delete_object(Bucket=name, Key=found["Key"])

    @pytest.fixture
    def storage(self, moto_endpoint: str) -> S3Storage:
        return S3Storage(endpoint_url=moto_endpoint)

    @pytest.fixture
    def seed(self, moto_client: Any, bucket: str) -> Seed:
        async def seed(key: str, data: bytes) -> str:
            await anyio.to_thread.run_sync(lambda: moto_client.put_object(Bucket=bucket, Key=key, Body=data))
            return f"s3://{bucket}/{key}"

        return seed

    @pytest.fixture
    def delete(self, moto_client: Any, bucket: str) -> Delete:
        async def delete(uri: str) -> None:
            key = uri.removeprefix(f"s3://{bucket}/")
            await anyio.to_thread.run_sync(lambda: moto_client.delete_object(Bucket=bucket, Key=key))

        return delete


def _close_connection(request: Any, **_: Any) -> None:
    request.headers["Connection"] = "close"


@pytest.fixture(scope="module")
def moto_client(moto_endpoint: str) -> Iterator[Any]:
    """A blocking client that writes what is to be read."""
    import botocore.session
    from botocore.config import Config

    session = botocore.session.Session()
    session.set_credentials("test", "testtest")
    # A connection kept open would look like one that a test has left behind.
    settings = Config(s3={"addressing_style": "path"}, max_pool_connections=1)
    client = session.create_client("s3", region_name="us-east-1", endpoint_url=moto_endpoint, config=settings)
    client.meta.events.register("before-send.s3", _close_connection)
    yield client
    client.close()


@asynccontextmanager
async def opened(storage: S3Storage, **settings: Any):
    async with storage.connect(CatalogConfig(**settings)) as session:
        yield session


async def read(storage: S3Storage, uri: str = "s3://bucket/a.bin", **wanted: Any) -> tuple[Any, bytes]:
    async with opened(storage) as session, session.read(ReadRequest(uri=uri, **wanted)) as outcome:
        if not isinstance(outcome, ReadResponse):
            return outcome, b""
        return outcome, b"".join([chunk async for chunk in outcome.chunks])


async def head(storage: S3Storage, uri: str = "s3://bucket/a.bin", **wanted: Any) -> FileMetadata:
    async with opened(storage) as session:
        return await session.head(uri, **wanted)


async def list_page(storage: S3Storage, prefix: str = "s3://bucket/"):
    async with opened(storage) as session:
        return await session.list_page(prefix)


ASK = {"read": read, "head": head, "list": list_page}


@pytest.fixture
def s3(server: FaultServer) -> S3Storage:
    server.put("bucket", "a.bin", b"content")
    return S3Storage(endpoint_url=server.endpoint_url)


# -- reading


async def test_empty_object_has_no_first_byte(server, s3):
    """A range of an empty object is not satisfiable (416); without a range it is read as nothing."""
    server.put("bucket", "empty", b"")
    ranged, _ = await read(s3, "s3://bucket/empty", stop=100)
    whole, data = await read(s3, "s3://bucket/empty")
    assert (RangeNotSatisfiable(), 0, b"") == (ranged, whole.metadata.size, data)


async def test_remote_that_knows_no_ranges_answers_from_the_start(server, s3):
    """A 200 to a request for a part is the whole object from its first byte."""
    server.add_faults(IgnoreRange())
    response, data = await read(s3, start=3, stop=5)
    assert (0, 7, b"content") == (response.start, response.stop, data)


async def test_weak_etag_is_the_same_validator(server, s3):
    """`W/"x"` and `"x"` are kept as `x`."""
    plain = (await head(s3)).etag
    server.add_faults(WeakEtag(method="HEAD"))
    assert plain == (await head(s3)).etag


async def test_object_without_etag_has_none(server, s3):
    """No ETag is None, and no empty text."""
    server.add_faults(NoEtag())
    response, _ = await read(s3)
    assert response.metadata.etag is None


@pytest.mark.parametrize("value", ["nonsense", "bytes */7", "bytes 0-6/*", "items 0-6/7"])
async def test_content_range_that_cannot_be_read_is_the_remotes_failure(server, s3, value):
    """What the remote answers is no setting of the user's: a `Content-Range` of nonsense is a `StorageError`."""
    server.add_faults(WrongContentRange(value))
    with pytest.raises(StorageError, match="Content-Range"):
        await read(s3, stop=5)


@pytest.mark.parametrize("fault", [Cut(after_bytes=3), Reset(after_bytes=3)], ids=["cut", "reset"])
async def test_connection_that_breaks_is_unreachable(server, s3, fault):
    """A body that breaks off raises `StorageUnreachableError`, never something of aiohttp's."""
    server.add_faults(fault)
    with pytest.raises(StorageUnreachableError):
        await read(s3)


async def test_connection_that_breaks_before_the_answer_is_unreachable(server, s3):
    """A connection that ends without an answer raises `StorageUnreachableError`."""
    server.add_faults(Reset(method=None, times=None))
    with pytest.raises(StorageUnreachableError):
        await read(s3)


@pytest.mark.parametrize("after_bytes", [None, 3])
async def test_remote_that_falls_silent_is_unreachable(server, s3, after_bytes):
    """Without a byte for `read_timeout_seconds` the remote is unreachable: before the answer and within the body."""
    server.add_faults(Stall(after_bytes=after_bytes, times=None))
    async with opened(s3, read_timeout_seconds=0.2) as session:
        with anyio.fail_after(5), pytest.raises(StorageUnreachableError):
            async with session.read(ReadRequest(uri="s3://bucket/a.bin")) as outcome:
                [chunk async for chunk in outcome.chunks]


async def test_a_call_is_one_request(server, s3):
    """Neither a read, nor a head, nor a page of a listing sends more than one request, when it fails either."""
    server.add_faults(Status(status=503, method=None, times=None))
    for ask in ASK.values():
        with pytest.raises((ThrottledError, StorageUnreachableError)):
            await ask(s3)
    assert ["GetObject", "HeadObject", "ListObjectsV2"] == [request.operation for request in server.requests]


async def test_large_body_is_given_in_pieces(server, s3):
    """A body comes in pieces as the socket had them, never as a whole (G12)."""
    server.put("bucket", "large", bytes(8_000_000))
    async with opened(s3) as session, session.read(ReadRequest(uri="s3://bucket/large")) as outcome:
        sizes = [len(chunk) async for chunk in outcome.chunks]
    assert (8_000_000, True) == (sum(sizes), max(sizes) < 2_000_000)


async def test_version_is_read_by_its_id(server, s3):
    """A version of a versioned bucket is read beside the newest, and the newest tells its own."""
    server.create_bucket("bucket", is_versioned=True)
    first = server.put("bucket", "v.bin", b"first")
    second = server.put("bucket", "v.bin", b"second")
    response, data = await read(s3, "s3://bucket/v.bin", version_id=first.version_id)
    newest = await head(s3, "s3://bucket/v.bin")
    assert (first.version_id, b"first", second.version_id) == (
        response.metadata.version_id,
        data,
        newest.version_id,
    )


async def test_version_of_an_unversioned_object_is_none(s3):
    """S3's version `null` is no version."""
    assert (await head(s3)).version_id is None


# -- checksums


async def test_head_gives_the_checksum_of_the_whole_object(server, s3):
    """What S3 has stored for the object is asked for and given."""
    stored = server.put("bucket", "a.bin", b"content")
    assert stored.checksum == (await head(s3)).checksum


async def test_checksum_comes_with_an_object_that_is_read_whole(server, s3):
    """A range that is the whole object has the whole object's checksum."""
    stored = server.put("bucket", "a.bin", b"content")
    response, _ = await read(s3, stop=1000)
    assert stored.checksum == response.metadata.checksum


async def test_checksum_of_a_part_is_not_taken_for_the_objects(server, s3):
    """A part of an object has no stored checksum; what is left is the MD5 that the ETag is."""
    response, _ = await read(s3, stop=3)
    assert f"md5:{response.metadata.etag}" == response.metadata.checksum


async def test_etag_of_an_upload_in_parts_is_no_digest(server):
    """`…-2` is the ETag of an upload in parts, and no digest of its bytes."""
    async with FaultServer(default_checksum=None, min_part_bytes=1) as other:
        other.put("bucket", "a.bin", b"content", part_bytes=4)
        metadata = await head(S3Storage(endpoint_url=other.endpoint_url))
    assert ("-2", None) == (metadata.etag[-2:], metadata.checksum)


# -- listings


async def test_listing_of_more_than_a_page_goes_on_where_it_was(server, s3):
    """1000 objects a page, and the token leads to the rest: each object once."""
    keys = [f"many/{number:04}" for number in range(1001)]
    for key in keys:
        server.put("bucket", key, b"")
    async with opened(s3) as session:
        first = await session.list_page("s3://bucket/many/")
        second = await session.list_page("s3://bucket/many/", token=first.next_token)
    found = [item.uri.removeprefix("s3://bucket/") for item in (*first.objects, *second.objects)]
    assert (1000, None, keys) == (len(first.objects), second.next_token, found)


async def test_bucket_without_objects_lists_as_empty(server, s3):
    """An empty bucket is an empty page."""
    server.create_bucket("empty")
    assert ((), None) == ((page := await list_page(s3, "s3://empty/")).objects, page.next_token)


async def test_listing_leaves_botocores_parsers_nothing_to_do(server, s3, monkeypatch):
    """By the client too the page is read by one that is ten times as quick; botocore's see an empty answer."""
    from aiobotocore.parsers import AioRestXMLParser as Parser

    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("botocore.handlers.ETree", None)  # what it looks for errors with
    server.put("bucket", "a.bin", b"content")
    seen = []
    parse = Parser.parse
    monkeypatch.setattr(Parser, "parse", lambda self, r, shape: seen.append(r["body"]) or parse(self, r, shape))
    page = await list_page(s3)
    assert (["s3://bucket/a.bin"], [b""]) == ([item.uri for item in page.objects], seen)


@pytest.mark.parametrize("is_certain", [True, False])
@pytest.mark.parametrize("body", [b"<Error><Code>InternalError</Code></Error>", b"<html>", b"", b"<ListBucketResult>"])
async def test_listing_that_is_none_is_no_answer(server, s3, monkeypatch, body, is_certain):
    """A page of a proxy, half a page, or an error under a status of 200 say nothing of the objects."""
    from datacachalog.testing import _listings
    from datacachalog.testing._messages import Answer

    monkeypatch.setattr(_listings, "xml_answer", lambda _: Answer(200, {}, [memoryview(body)], len(body)))
    if not is_certain:
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StorageUnreachableError):
        await list_page(s3)


def test_directory_bucket_is_not_seekable():
    """Their listings have no order and no beginning but their own."""
    session = S3Session(S3Storage(), CatalogConfig(), AsyncExitStack(), Wire(CatalogConfig()))
    roots = ("s3://bucket/", "s3://bucket--use1-az4--x-s3/", "/data/")
    assert [True, False, False] == [session.is_seekable(root) for root in roots]


# -- what is said about a refusal


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "AccessDenied", AccessDeniedError),
        (403, "AllAccessDisabled", AccessDeniedError),
        (403, "InvalidObjectState", AccessDeniedError),
        (403, "InvalidAccessKeyId", CredentialsError),
        (403, "SignatureDoesNotMatch", CredentialsError),
        (403, "RequestTimeTooSkewed", CredentialsError),
        (400, "ExpiredToken", CredentialsError),
        (400, "InvalidToken", CredentialsError),
        (401, "Unauthorized", CredentialsError),
        (404, "NoSuchBucket", BucketNotFoundError),
        (404, "NoSuchKey", ObjectNotFoundError),
        (404, "NoSuchVersion", VersionNotFoundError),
        (400, "InvalidBucketName", InvalidSourceError),
        (503, "SlowDown", ThrottledError),
        (429, "TooManyRequests", ThrottledError),
        (400, "RequestTimeout", StorageUnreachableError),
        (500, "InternalError", StorageUnreachableError),
        (502, "BadGateway", StorageUnreachableError),
        (503, "ServiceUnavailable", StorageUnreachableError),
        (504, "GatewayTimeout", StorageUnreachableError),
        (400, "InvalidRequest", StorageError),
        (400, "AuthorizationHeaderMalformed", StorageError),
        (418, "Teapot", StorageError),
    ],
)
@pytest.mark.parametrize("ask", ["read", "list"])
async def test_each_refusal_has_its_type(server, s3, ask, status, code, expected):
    """What S3 answers is mapped to exactly one type, with its status and code in the text, and the URI."""
    server.add_faults(Status(status=status, code=code, method=None, times=None))
    with pytest.raises(expected) as caught:
        await ASK[ask](s3)
    error = caught.value
    assert (expected, True, True) == (
        type(error),
        f"{status} {code}" in str(error),
        error.uri.startswith("s3://bucket"),
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (403, AccessDeniedError),
        (404, ObjectNotFoundError),
        (429, ThrottledError),
        (500, StorageUnreachableError),
        (400, StorageError),
    ],
)
async def test_refusal_of_a_head_has_its_type_by_its_status(server, s3, status, expected):
    """A HEAD is answered without a body, so the status alone tells."""
    server.add_faults(Status(status=status, method=None, times=None))
    with pytest.raises(expected) as caught:
        await head(s3)
    assert expected is type(caught.value)


async def test_missing_bucket_is_not_found(s3):
    """A read and a listing of a bucket that isn't there raise `BucketNotFoundError`, which says what to check."""
    for ask, uri in ((read, "s3://nowhere/a.bin"), (list_page, "s3://nowhere/")):
        with pytest.raises(BucketNotFoundError, match="endpoint_url"):
            await ask(s3, uri)


async def test_missing_key_is_not_found(s3):
    """A key that isn't there raises `ObjectNotFoundError` with the URI."""
    with pytest.raises(ObjectNotFoundError) as caught:
        await read(s3, "s3://bucket/missing")
    assert caught.value.uri == "s3://bucket/missing"


@pytest.mark.parametrize("uri", ["s3://Not A Bucket/key", "s3://exclaimed!/key"])
async def test_bucket_name_that_cannot_be_is_an_invalid_source(s3, uri):
    """A bucket name that S3 can't have is refused without a request."""
    with pytest.raises(InvalidSourceError):
        await read(s3, uri)


@pytest.mark.parametrize("uri", ["s3://bucket", "s3://bucket/", "s3:///key", "gs://bucket/key", "/path"])
async def test_source_without_bucket_or_key_is_invalid(s3, uri):
    """What isn't `s3://bucket/key` is an `InvalidSourceError`."""
    with pytest.raises(InvalidSourceError):
        await read(s3, uri)


async def test_key_that_is_too_long_is_an_error_of_ours(s3):
    """A key over 1024 bytes is asked for like any other; what isn't there is not found."""
    with pytest.raises((ObjectNotFoundError, InvalidSourceError)):
        await read(s3, "s3://bucket/" + "k" * 2000)


@pytest.mark.parametrize(("retry_after", "expected"), [(7, 7.0), (None, None)])
@pytest.mark.parametrize("status", [429, 500, 503])
async def test_retry_after_is_told(server, s3, status, retry_after, expected):
    """How long the remote asks us to wait is in the error, for those that are worth a retry."""
    server.add_faults(Status(status=status, retry_after_seconds=retry_after))
    with pytest.raises((ThrottledError, StorageUnreachableError)) as caught:
        await read(s3)
    assert expected == caught.value.retry_after_seconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [("3", 3.0), (" 120 ", 120.0), ("0", 0.0), ("", None), (None, None), ("soon", None), ("-1", None), ("²", None)],
)
def test_retry_after_in_seconds_is_read(value, expected):
    """Seconds are taken; what is neither seconds nor a date is none."""
    assert expected == parse_retry_after(value)


def test_retry_after_as_a_date_is_read():
    """A date is the time until then, and 0 when it is over."""
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert (True, 0.0) == (
        50 < parse_retry_after(later) <= 60,
        parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"),
    )


@pytest.mark.parametrize("status", [301, 307])
@pytest.mark.parametrize("ask", ["read", "list"])
async def test_bucket_of_another_region_says_so(server, s3, ask, status):
    """A redirect that can't be followed is a `StorageError` whose text says what to set."""
    server.add_faults(Status(status=status, code="PermanentRedirect", method=None, times=None))
    with pytest.raises(StorageError, match=r"region=") as caught:
        await ASK[ask](s3)
    assert StorageError is type(caught.value)


async def test_head_of_a_bucket_of_another_region_says_so(server, s3):
    """A HEAD has no code, but a 301 means the same there."""
    server.add_faults(Status(status=301, code="PermanentRedirect", method=None, times=None))
    with pytest.raises(StorageError, match=r"region="):
        await head(s3)


async def test_authorization_for_another_region_says_so(server, s3):
    """A signature for the wrong region is a `StorageError` whose text says what to set."""
    server.add_faults(Status(status=400, code="AuthorizationHeaderMalformed", times=None))
    with pytest.raises(StorageError, match=r"region="):
        await read(s3)


@pytest.mark.parametrize("ask", ASK)
async def test_answer_that_is_not_s3s_is_an_error_of_ours(ask):
    """A proxy or a portal that answers everything with a web page ends in a `StorageError` or in that page's bytes."""

    async def portal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        page = b"<html><body>Please log in"
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/html\r\n\r\n" + page)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(portal, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(StorageError):
            await ASK[ask](S3Storage(endpoint_url=f"http://127.0.0.1:{port}"))


async def test_last_modified_that_cannot_be_read_is_the_remotes_failure():
    """A date of nonsense is no setting of the user's: a `StorageError`, or no date."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 7\r\nLast-Modified: yesterday\r\n\r\n"
        writer.write(head + b"content")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        try:
            response, data = await read(S3Storage(endpoint_url=f"http://127.0.0.1:{port}"))
        except StorageError:
            return
        assert (None, b"content") == (response.metadata.last_modified, data)


# -- reaching it


async def test_refused_connection_is_unreachable(server, s3):
    """Nobody listening is `StorageUnreachableError`, at once, and it says what to check."""
    await anyio.to_thread.run_sync(server.refuse)
    with anyio.fail_after(5), pytest.raises(StorageUnreachableError, match="endpoint"):
        await read(s3)


async def test_unknown_host_is_unreachable():
    """A host without an address is `StorageUnreachableError`."""
    with pytest.raises(StorageUnreachableError):
        await read(S3Storage(endpoint_url="http://nowhere.invalid:1"))


async def test_session_is_usable_after_the_remote_came_back(server, s3):
    """An outage spoils nothing: the same session reads when the remote is back."""
    async with opened(s3) as session:
        await session.head("s3://bucket/a.bin")
        await anyio.to_thread.run_sync(server.refuse)
        with pytest.raises(StorageUnreachableError):
            await session.head("s3://bucket/a.bin")
        await anyio.to_thread.run_sync(server.accept)
        assert (await session.head("s3://bucket/a.bin")).size == 7


@pytest.mark.parametrize("endpoint_url", ["not a url", "localhost:9000", "http://", "ftp://127.0.0.1/"])
async def test_endpoint_that_cannot_be_is_told(endpoint_url):
    """An endpoint that is no URL is an error of ours that tells it, and no traceback of botocore's."""
    with pytest.raises((ConfigurationError, StorageUnreachableError)):
        await read(S3Storage(endpoint_url=endpoint_url))


# -- the short way and the client


async def test_settings_without_a_question_need_no_botocore(server, s3):
    """Endpoint and keys from the environment: neither botocore nor aiohttp is imported."""
    code = f"""
        import asyncio, sys
        from datacachalog import AsyncCatalog, Dataset, S3Storage
        storage = S3Storage(endpoint_url={server.endpoint_url!r})
        datasets = [Dataset("a", "s3://bucket/a.bin"), Dataset("all", "s3://bucket/")]
        catalog = AsyncCatalog(datasets, cache_dir=sys.argv[1], storage=storage)
        asyncio.run(catalog.fetch_all())
        print(sorted({{"aiobotocore", "aiohttp", "botocore"}} & set(sys.modules)))
    """
    with tempfile.TemporaryDirectory() as cache_dir:
        command = [sys.executable, "-c", textwrap.dedent(code), cache_dir]
        ended = await anyio.run_process(command, check=False)
    assert (b"[]\n", b"") == (ended.stdout, ended.stderr)


async def test_first_request_shows_the_way_to_the_others(server, s3, monkeypatch):
    """Where only the client knows the way, it sends one request; all have the same signer's signature."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    async with opened(s3) as session:
        for _ in range(3):
            await session.head("s3://bucket/a.bin")
    agents = ["Botocore" in request.headers["user-agent"] for request in server.requests]
    ours = [
        "accept-encoding" in request.headers and "amz-sdk-request" not in request.headers for request in server.requests
    ]
    assert ([True] * 3, [False, True, True]) == (agents, ours)


async def test_listing_takes_the_way_that_is_known(server, s3, monkeypatch):
    """What the client has resolved for an object of the bucket is good for its listing."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    async with opened(s3) as session:
        await session.list_page("s3://bucket/")
        await session.head("s3://bucket/a.bin")
        page = await session.list_page("s3://bucket/")
    by_client = ["amz-sdk-request" in request.headers for request in server.requests]
    assert ([True, True, False], ["s3://bucket/a.bin"]) == (by_client, [found.uri for found in page.objects])


async def test_session_token_is_sent_and_signed(serving, monkeypatch):
    """Temporary credentials come with a token (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp.html)."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "the-token")
    heads: list[str] = []

    async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(b"HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n")

    async with serving(store) as origin:
        with pytest.raises(ObjectNotFoundError):
            await read(S3Storage(endpoint_url=f"http://127.0.0.1:{origin.port}"))
    [head] = heads
    [signed] = re.findall(r"signedheaders=([^,]+),", head)
    assert ("x-amz-security-token: the-token" in head, "x-amz-security-token" in signed.split(";")) == (True, True)


async def test_virtual_addressing_puts_the_bucket_into_the_host(server, monkeypatch):
    """`addressing_style="virtual"` asks `bucket.host`, on both ways."""
    port = server.endpoint_url.rpartition(":")[2]
    storage = S3Storage(endpoint_url=f"http://localhost:{port}", addressing_style="virtual", region="us-east-1")
    with contextlib.suppress(StorageError):  # whether such a host has an address is the machine's business
        await read(storage)
    hosts = {request.headers["host"] for request in server.requests}
    assert hosts <= {f"bucket.localhost:{port}"}


async def test_a_proxy_of_the_environment_is_used(serving, monkeypatch):
    """Where a proxy is set, requests go to it, as botocore's do."""
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0])
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    async with serving(proxy) as origin:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{origin.port}")
        with pytest.raises(AccessDeniedError):
            await read(S3Storage(endpoint_url="http://store.example.com"))
    assert [b"GET http://store.example.com/bucket/a.bin HTTP/1.1"] == asked


def store_in_frankfurt(there: bytes, regions: list[str]) -> Any:
    """A store that answers what is signed for eu-central-1 and redirects all else; notes what each was signed for."""
    body = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-central-1</Region></Error>"
    elsewhere = b"HTTP/1.1 400 B\r\nx-amz-bucket-region: eu-central-1\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            regions.append(re.search(r"Credential=[^/]+/\d+/([^/]+)/", head)[1])
            writer.write(there if regions[-1] == "eu-central-1" else elsewhere)

    return store


async def test_bucket_in_another_region_is_found(serving):
    """A redirect to the bucket's region is followed, and the requests after it go there at once."""
    regions: list[str] = []
    there = b'HTTP/1.1 206 P\r\nETag: "e"\r\nContent-Range: bytes 0-1/2\r\nContent-Length: 2\r\n\r\nok'
    async with serving(store_in_frankfurt(there, regions)) as origin:
        storage = S3Storage(endpoint_url=f"http://127.0.0.1:{origin.port}", region="us-east-1")
        async with opened(storage) as session:
            for _ in range(3):
                async with session.read(ReadRequest(uri="s3://bucket/a.bin", stop=2)) as outcome:
                    assert b"ok" == b"".join([chunk async for chunk in outcome.chunks])
    assert ["eu-central-1"] * 3 == regions[-3:]


async def test_listing_of_a_bucket_in_another_region_is_found(serving):
    """The client follows the redirect, and is asked from then on."""
    regions: list[str] = []
    listing = b"<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>"
    there = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(listing) + listing
    async with serving(store_in_frankfurt(there, regions)) as origin:
        storage = S3Storage(endpoint_url=f"http://127.0.0.1:{origin.port}", region="us-east-1")
        async with opened(storage) as session:
            for _ in range(2):
                page = await session.list_page("s3://bucket/")
                assert ["s3://bucket/a"] == [found.uri for found in page.objects]
    assert "eu-central-1" == regions[-1]


# -- credentials


async def test_no_credentials_is_a_credentials_error(server, s3, monkeypatch, request):
    """Without any credentials the error says where they may come from, and nothing is sent."""
    # Looking for them in the network takes an event loop, of a worker thread, which may block that one.
    for function in request.getfixturevalue("_unblocked_loop").functions.values():
        function.can_block_in("datacachalog/storage/_s3.py", "_make_client")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(CredentialsError, match=r"anonymous=True"):
        await read(s3)
    assert [] == server.requests


async def test_half_of_the_credentials_is_a_credentials_error(s3, monkeypatch):
    """A key id without its secret is `CredentialsError`."""
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CredentialsError):
        await read(s3)


async def test_unknown_profile_is_a_credentials_error(server):
    """A profile that isn't configured is `CredentialsError` with its name."""
    with pytest.raises(CredentialsError, match="no-such-profile"):
        await read(S3Storage(profile="no-such-profile", endpoint_url=server.endpoint_url))


async def test_unknown_profile_of_the_environment_is_a_credentials_error(s3, monkeypatch):
    """`AWS_PROFILE` counts like the argument."""
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(CredentialsError, match="no-such-profile"):
        await read(s3)


async def test_unknown_access_key_is_a_credentials_error():
    """Credentials that the store doesn't know are `CredentialsError`, not a missing permission."""
    async with FaultServer(access_key="somebody-else") as server:
        server.put("bucket", "a.bin", b"content")
        with pytest.raises(CredentialsError, match="InvalidAccessKeyId"):
            await read(S3Storage(endpoint_url=server.endpoint_url))


async def test_profile_has_its_own_credentials_and_endpoint(server, s3, monkeypatch, tmp_path):
    """A profile of the shared files is used with all that it says."""
    (tmp_path / "config").write_text(f"[profile lab]\nregion = eu-west-1\nendpoint_url = {server.endpoint_url}\n")
    (tmp_path / "credentials").write_text("[lab]\naws_access_key_id = lab-key\naws_secret_access_key = x\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    _, data = await read(S3Storage(profile="lab"))
    assert data == b"content"


async def test_session_of_the_users_own_is_used(server, s3, monkeypatch):
    """Credentials come from the session that was given."""
    from aiobotocore.session import AioSession

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    session = AioSession()
    session.set_credentials("own", "secret")
    _, data = await read(S3Storage(session=session, endpoint_url=server.endpoint_url))
    assert data == b"content"


async def test_expired_credentials_say_what_to_do(server, s3):
    """An expired token is `CredentialsError` that says to log in again."""
    server.add_faults(Status(status=400, code="ExpiredToken", times=None))
    with pytest.raises(CredentialsError, match="log in again"):
        await read(s3)


# -- G13


def everything_said(error: BaseException) -> str:
    """The texts that a traceback shows, causes included, and the facts that pickling keeps."""
    chain = "".join(traceback.format_exception_only(type(error), error)) + repr(vars(error))
    return chain + (everything_said(error.__cause__) if error.__cause__ else "")


@pytest.mark.parametrize(
    "fault",
    [
        Status(status=403, code="SignatureDoesNotMatch", method=None, times=None),
        Status(status=403, code="AccessDenied", method=None, times=None),
        Status(status=301, code="PermanentRedirect", method=None, times=None),
        Status(status=500, method=None, times=None),
        Reset(method=None, times=None),
    ],
    ids=lambda fault: getattr(fault, "code", None) or type(fault).__name__,
)
@pytest.mark.parametrize("ask", ASK)
async def test_g13_no_error_holds_a_credential(server, s3, monkeypatch, fault, ask):
    """Neither the key, nor the secret, nor the session's token is in a text, a fact or a cause."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    server.add_faults(fault)
    with pytest.raises(StorageError) as caught:
        await ASK[ask](s3)
    assert SECRET not in everything_said(caught.value)


async def test_g13_password_of_the_endpoint_is_in_no_error(server, monkeypatch):
    """The user part of an endpoint of the environment is taken off what botocore and aiohttp say."""
    await anyio.to_thread.run_sync(server.refuse)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://user:{SECRET}@127.0.0.1:{server.port}")
    with pytest.raises(StorageUnreachableError) as caught:
        await read(S3Storage())
    assert (False, False) == (SECRET in str(caught.value), SECRET in repr(vars(caught.value)))


async def test_g13_key_of_the_customer_is_in_no_error_and_no_repr(server, s3):
    """An SSE-C key shows neither in the storage's `repr` nor in an error about it."""
    storage = S3Storage(
        endpoint_url=server.endpoint_url,
        server_side_encryption={"SSECustomerAlgorithm": "AES256", "SSECustomerKey": SECRET},
    )
    server.add_faults(Status(status=400, code="InvalidRequest"))
    with pytest.raises(StorageError) as caught:
        await read(storage)
    assert (False, False) == (SECRET in repr(storage), SECRET in everything_said(caught.value))


def test_g13_password_in_the_endpoint_is_refused():
    """An endpoint takes no password: it would be in the storage's `repr`. The refusal doesn't repeat it."""
    with pytest.raises(ConfigurationError) as caught:
        S3Storage(endpoint_url=f"http://user:{SECRET}@127.0.0.1:9")
    assert SECRET not in str(caught.value)


# -- settings


async def test_endpoint_of_the_environment_is_used(server, s3, monkeypatch):
    """`AWS_ENDPOINT_URL_S3` works because botocore's whole chain does."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint_url)
    _, data = await read(S3Storage())
    assert data == b"content"


async def test_endpoint_of_the_argument_goes_before_the_environment(server, s3, monkeypatch):
    """What is explicit wins."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    _, data = await read(s3)
    assert data == b"content"


async def test_anonymous_requests_are_not_signed(monkeypatch):
    """`anonymous=True` sends no credentials although there are some: a server that wants a key refuses."""
    async with FaultServer(access_key="test") as server:
        server.put("bucket", "a.bin", b"content")
        signed, _ = await read(S3Storage(endpoint_url=server.endpoint_url))
        assert signed.metadata.size == 7
        with pytest.raises(AccessDeniedError):
            await read(S3Storage(endpoint_url=server.endpoint_url, anonymous=True))


async def test_anonymous_needs_no_credentials(server, s3, monkeypatch):
    """Public data is read on a machine without credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    _, data = await read(S3Storage(endpoint_url=server.endpoint_url, anonymous=True))
    assert data == b"content"


@pytest.mark.parametrize("requester_pays", [True, False])
async def test_requester_pays_is_said_with_every_request(server, s3, requester_pays):
    """With `requester_pays` every request says so, without it none."""
    storage = S3Storage(endpoint_url=server.endpoint_url, requester_pays=requester_pays)
    for ask in ASK.values():
        await ask(storage)
    expected = "requester" if requester_pays else None
    assert [expected] * 3 == [request.headers.get("x-amz-request-payer") for request in server.requests]


async def test_key_of_the_customer_is_sent_with_reads(server, s3):
    """SSE-C headers go with a GET and a HEAD, key and its MD5, and not with a listing."""
    key = "k" * 32
    storage = S3Storage(
        endpoint_url=server.endpoint_url,
        server_side_encryption={"SSECustomerAlgorithm": "AES256", "SSECustomerKey": key},
    )
    for ask in ASK.values():
        await ask(storage)
    names = [
        sorted(name.rpartition("customer-")[2] for name in request.headers if "customer" in name)
        for request in server.requests
    ]
    assert [["algorithm", "key", "key-md5"], ["algorithm", "key", "key-md5"], []] == names


@pytest.mark.parametrize(("style", "host"), [("path", "localhost"), ("virtual", "bucket.localhost")])
async def test_addressing_style_says_where_the_bucket_stands(server, s3, monkeypatch, style, host):
    """`path` puts the bucket into the path, `virtual` into the host."""
    resolve = socket.getaddrinfo
    # Not every resolver knows the names below localhost (RFC 6761, section 6.3).
    monkeypatch.setattr(socket, "getaddrinfo", lambda _host, *args, **named: resolve("127.0.0.1", *args, **named))
    storage = S3Storage(endpoint_url=f"http://localhost:{server.port}", addressing_style=style)
    _, data = await read(storage)
    assert (b"content", host) == (data, server.requests[-1].headers["host"].partition(":")[0])


@pytest.mark.parametrize(
    "settings",
    [
        {"profile": "x", "session": object()},
        {"profile": "x", "anonymous": True},
        {"addressing_style": "vhost"},
        {"server_side_encryption": {"Password": SECRET}},
    ],
)
def test_settings_that_contradict_are_refused(settings):
    """What can't be meant is refused when the storage is made, without a secret in the text."""
    with pytest.raises(ConfigurationError) as caught:
        S3Storage(**settings)
    assert SECRET not in str(caught.value)


# -- the client


async def test_nothing_is_sent_before_the_first_request(server, s3):
    """Opening a storage sends nothing."""
    async with opened(s3):
        pass
    assert (0, []) == (server.connections_opened, server.requests)


async def test_requests_at_once_share_one_client(server, s3):
    """Several first requests at once make one client, and its connections are used again."""
    async with opened(s3) as session:
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(session.head, "s3://bucket/a.bin")
        opened_before = server.connections_opened
        for _ in range(5):
            await session.head("s3://bucket/a.bin")
    assert (25, opened_before) == (len(server.requests), server.connections_opened)


async def test_connection_of_a_read_that_ended_is_used_again(server, s3):
    """A body read to its end gives its connection back."""
    async with opened(s3) as session:
        for _ in range(3):
            async with session.read(ReadRequest(uri="s3://bucket/a.bin", stop=100)) as outcome:
                [chunk async for chunk in outcome.chunks]
    assert 1 == server.connections_opened


async def test_answers_without_a_body_give_their_connection_back(server, s3):
    """Neither a 304, nor a 412, nor a 404 costs a connection."""
    etag = (await head(s3)).etag
    server.clear_requests()
    before = server.connections_opened
    async with opened(s3) as session:
        for wanted in ({"if_none_match": etag}, {"if_match": "other"}, {"start": 100}):
            async with session.read(ReadRequest(uri="s3://bucket/a.bin", **wanted)):
                pass
        with pytest.raises(ObjectNotFoundError):
            await session.head("s3://bucket/none")
    assert 1 == server.connections_opened - before


async def test_cancelled_read_ends_its_connection_and_leaves_the_session_usable(server, s3):
    """Cancellation within a body closes that connection; the next read has another."""
    server.put("bucket", "large", bytes(8_000_000))
    async with opened(s3) as session:
        with anyio.CancelScope() as scope:
            async with session.read(ReadRequest(uri="s3://bucket/large")) as outcome:
                await anext(outcome.chunks)
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert (await session.head("s3://bucket/a.bin")).size == 7


async def test_g12_cancelling_the_first_request_does_not_wait_for_the_client(server, s3):
    """Who gives up while the client is being made gets away, and the session goes on."""
    async with opened(s3) as session:
        with anyio.move_on_after(0.001):
            await session.head("s3://bucket/a.bin")
        assert (await session.head("s3://bucket/a.bin")).size == 7


def test_g12_nothing_is_imported_on_the_event_loop(server, s3):
    """botocore and aiohttp, which take up to a second, are imported in a worker thread."""
    script = textwrap.dedent(
        """
        import sys, threading
        loud = []

        class Watch:
            def find_spec(self, name, path=None, target=None):
                top = name.partition(".")[0]
                is_main = threading.current_thread() is threading.main_thread()
                if is_main and top in ("botocore", "aiobotocore", "aiohttp"):
                    loud.append(name)

        sys.meta_path.insert(0, Watch())
        import anyio
        from datacachalog import S3Storage, CatalogConfig
        from datacachalog.ports import ReadRequest

        async def main():
            async with S3Storage(endpoint_url=sys.argv[1]).connect(CatalogConfig()) as session:
                async with session.read(ReadRequest(uri="s3://bucket/a.bin")) as outcome:
                    data = b"".join([chunk async for chunk in outcome.chunks])
            print(data.decode(), loud[:3])

        anyio.run(main)
        """
    )
    found = subprocess.run(
        [sys.executable, "-c", script, server.endpoint_url], capture_output=True, text=True, check=True
    )
    assert "content []" == found.stdout.strip()


def test_storage_is_a_value():
    """Two storages of equal settings are equal, and one pickles into an equal one."""
    assert S3Storage(region="eu-west-1") == S3Storage(region="eu-west-1")


@pytest.mark.parametrize("way", ["short", "client", "lane"])
@pytest.mark.parametrize("refusal", [400, 501])
async def test_store_that_refuses_to_be_asked_for_checksums_is_asked_without(way, refusal, tmp_path, monkeypatch):
    """Backblaze B2 refuses any request with `x-amz-checksum-mode`; a HEAD's refusal has no words to say so."""
    said = b"<Error><Code>InvalidArgument</Code><Message>Unsupported header 'x-amz-checksum-mode'</Message></Error>"

    def answer(asked: Asked) -> bytes:
        if "x-amz-checksum-mode" in asked.headers:
            head = reply(refusal, said, Content_Type="application/xml")
            return head.removesuffix(said) if asked.method == "HEAD" else head
        return part_of(b"content", asked, ETag='"v1"', Last_Modified="Sat, 28 Nov 2026 05:48:49 GMT")

    if way == "client":
        config = tmp_path / "config"
        config.write_text("[default]\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))  # so that only the client knows what it says
    async with web_server(answer) as web:
        storage = S3Storage(endpoint_url=web.url, addressing_style="path")
        if way == "lane":
            datasets = [Dataset(name, f"s3://bucket/{name}") for name in "abc"]
            async with AsyncCatalog(datasets, cache_dir=tmp_path / "cache", storage=storage, progress=False) as catalog:
                report = await catalog.fetch_all(["a", "b"])
                asked_before = web.headers("x-amz-checksum-mode").count("ENABLED")
                later = await catalog.fetch("c")
            contents = [result.path.read_bytes() for result in report.values()]
            assert b"content" == later.read_bytes()
            # Two files at once, each by three ways at the most; and never again.
            assert asked_before <= 6
            assert asked_before == web.headers("x-amz-checksum-mode").count("ENABLED")
        else:
            async with storage.connect(CatalogConfig()) as session:
                read = session.read(ReadRequest(uri="s3://bucket/a"))
                async with read as outcome:
                    contents = [b"".join([chunk async for chunk in outcome.chunks])]
                contents.append(b"content" if (await session.head("s3://bucket/a")).size == 7 else b"")
            assert 1 <= web.headers("x-amz-checksum-mode").count("ENABLED") <= 4
    assert [b"content"] * 2 == contents


@pytest.mark.parametrize(
    ("status", "code", "kind"), [(503, "SlowDown", ThrottledError), (404, "NoSuchBucket", BucketNotFoundError)]
)
@pytest.mark.parametrize("framing", ["length", "chunks", "the end"])
async def test_what_a_refusal_says_is_read_however_it_is_framed(status, code, kind, framing, tmp_path):
    """S3 sends errors in chunks, others with a length, and some just end the connection."""
    said = f"<Error><Code>{code}</Code><Message>said so</Message></Error>".encode()

    def answer(_: Asked) -> bytes:
        head = f"HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Type: application/xml\r\n".encode()
        match framing:
            case "length":
                return head + b"Content-Length: %d\r\n\r\n" % len(said) + said
            case "chunks":
                return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(said) + said + b"\r\n0\r\n\r\n"
            case _:
                return head + b"\r\n" + said

    async with web_server(answer, ends=True) as web:
        storage = S3Storage(endpoint_url=web.url, anonymous=True, addressing_style="path")
        datasets = [Dataset(name, f"s3://bucket/{name}") for name in "ab"]
        settings = {"config": CatalogConfig(retries=0), "storage": storage, "progress": False}
        async with AsyncCatalog(datasets, cache_dir=tmp_path / "cache", **settings) as catalog:
            report = await catalog.fetch_all(on_error="collect")
    assert [kind, kind] == [type(error) for error in report.errors.values()]


async def test_refusal_that_is_not_about_checksums_stays_one_and_they_are_asked_for_again(server, s3):
    """The answer to a HEAD says nothing, so it is asked once more; what refuses that too meant something else."""
    server.add_faults(Status(400, "Odd", method="HEAD", times=3))
    async with s3.connect(CatalogConfig()) as session:
        with pytest.raises(StorageError, match="400"):
            await session.head("s3://bucket/a")
        server.put("bucket", "a", b"content")
        await session.head("s3://bucket/a")
    asked = [request.headers.get("x-amz-checksum-mode") for request in server.requests if request.method == "HEAD"]
    assert ["ENABLED", "ENABLED", None, "ENABLED"] == asked  # the second is the client's, which may know better
