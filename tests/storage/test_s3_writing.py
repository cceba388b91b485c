"""S3, written: what is sent, how it is signed, and what every answer means. The rules of the port are in `test_s3`."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest

from datacachalog import CatalogConfig, ConfigurationError, S3Storage
from datacachalog._digests import digest_chunks
from datacachalog._errors import (
    AccessDeniedError,
    ObjectNotFoundError,
    StorageError,
    StorageUnreachableError,
)
from datacachalog._pipeline.upload import InMemory
from datacachalog.ports import (
    ConditionsUnsupported,
    ReadRequest,
    Upload,
    WriteRefused,
    WriteRequest,
    Written,
)
from datacachalog.storage._http1 import Origin
from datacachalog.storage._s3 import S3Session
from datacachalog.testing import FaultServer, Status

DATA = b"some bytes"
REQUEST = WriteRequest(uri="s3://bucket/key", content_type="text/csv")


def content(data: bytes = DATA) -> InMemory:
    return InMemory(data, digest_chunks("crc64nvme", (data,)))


@pytest.fixture
async def session(server: FaultServer) -> AsyncIterator[S3Session]:
    """A session that knows the short way to the bucket."""
    server.put("bucket", "known", b"")
    async with S3Storage(endpoint_url=server.endpoint_url).connect(CatalogConfig()) as session:
        await session.head("s3://bucket/known")
        server.clear_requests()
        yield session


async def test_the_first_body_of_a_bucket_shows_the_others_the_way(server: FaultServer) -> None:
    """It goes through botocore's client; the next one is sent the same, without it."""
    async with S3Storage(endpoint_url=server.endpoint_url).connect(CatalogConfig()) as session:
        for _ in range(2):
            await session.write(REQUEST, content())
    first, second = ({k: v for k, v in r.headers.items() if not _is_clients_own(k)} for r in server.requests)
    assert first == second


def _is_clients_own(header: str) -> bool:
    return header in ("expect", "amz-sdk-invocation-id", "amz-sdk-request", "x-amz-date", "accept", "user-agent")


async def test_over_plain_http_the_signature_covers_the_bytes(server: FaultServer, session: S3Session) -> None:
    """Nobody on the way can change them."""
    await session.write(REQUEST, content())
    [request] = server.requests
    assert hashlib.sha256(DATA).hexdigest() == request.headers["x-amz-content-sha256"]


async def test_over_https_the_body_is_not_hashed_for_the_signature(session: S3Session) -> None:
    """TLS protects it, and the checksum tells what arrived: a SHA-256 would cost more than everything else."""
    await session._connected("s3://bucket/known")
    wire, seen = session._wire, []

    class HttpSession:
        async def send(self, request: Any) -> Any:
            seen.append(request)
            raise TimeoutError

    wire._routes["bucket"] = replace(wire._routes["bucket"], origin=Origin("bucket.example", 443, is_tls=True))
    wire._http_session = HttpSession()
    with pytest.raises(StorageUnreachableError):
        await session.write(REQUEST, content())
    assert "UNSIGNED-PAYLOAD" == seen[0].headers["x-amz-content-sha256"]


async def test_the_checksum_goes_before_the_body(server: FaultServer, session: S3Session) -> None:
    """In a header, so no store has to know trailers."""
    await session.write(REQUEST, content())
    [request] = server.requests
    assert content().crc == f"crc64nvme:{request.headers['x-amz-checksum-crc64nvme']}"
    assert (str(len(DATA)), None) == (request.headers["content-length"], request.headers.get("transfer-encoding"))


async def test_bytes_that_arrive_wrong_are_refused_by_the_store(session: S3Session) -> None:
    """The checksum is compared there."""
    with pytest.raises(StorageError, match="BadDigest"):
        await session.write(REQUEST, replace(content(), crc=content(b"other").crc))


@pytest.mark.parametrize("status", [400, 501])
async def test_a_store_that_knows_no_checksums_is_sent_none(
    server: FaultServer, session: S3Session, status: int
) -> None:
    """After it has said so once."""
    server.add_faults(Status(status, code="ChecksumNotSupported", method="CreateMultipartUpload"))
    upload = await session.begin_upload(REQUEST)
    part = await session.write_part(upload, 1, 0, content())
    await session.complete_upload(upload, REQUEST, [part], part.crc)
    await session.write(REQUEST, content())
    with_checksums = [any("checksum" in name for name in request.headers) for request in server.requests]
    assert [True, False, False, False, False] == with_checksums


async def test_requester_pays_is_sent_with_writes(server: FaultServer) -> None:
    """With each request of an upload, too."""
    storage = S3Storage(endpoint_url=server.endpoint_url, requester_pays=True)
    async with storage.connect(CatalogConfig()) as session:
        await session.write(REQUEST, content())
        upload = await session.begin_upload(REQUEST)
        await session.write_part(upload, 1, 0, content())
        await session.abort_upload(upload)
    assert ["requester"] * 4 == [request.headers.get("x-amz-request-payer") for request in server.requests]


async def test_new_objects_are_encrypted_as_the_storage_says(server: FaultServer) -> None:
    """An object in one piece, and the beginning of one in parts; reads and parts say nothing of it."""
    settings = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "a-key", "BucketKeyEnabled": True}
    storage = S3Storage(endpoint_url=server.endpoint_url, server_side_encryption=settings)
    async with storage.connect(CatalogConfig()) as session:
        await session.write(REQUEST, content())
        upload = await session.begin_upload(REQUEST)
        await session.write_part(upload, 1, 0, content())
        async with session.read(ReadRequest(uri=REQUEST.uri)):
            pass
    prefix = "x-amz-server-side-encryption"
    found = [(r.operation, r.headers.get(prefix), r.headers.get(f"{prefix}-aws-kms-key-id")) for r in server.requests]
    expected = [
        ("PutObject", "aws:kms", "a-key"),
        ("CreateMultipartUpload", "aws:kms", "a-key"),
        ("UploadPart", None, None),
        ("GetObject", None, None),
    ]
    assert expected == found


async def test_the_key_of_the_customer_is_sent_with_every_part(server: FaultServer) -> None:
    """S3 keeps no such key between two requests."""
    settings = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
    storage = S3Storage(endpoint_url=server.endpoint_url, server_side_encryption=settings)
    async with storage.connect(CatalogConfig()) as session:
        upload = await session.begin_upload(REQUEST)
        part = await session.write_part(upload, 1, 0, content())
        await session.complete_upload(upload, REQUEST, [part], part.crc)
    header = "x-amz-server-side-encryption-customer-algorithm"
    assert ["AES256"] * 3 == [request.headers.get(header) for request in server.requests]


def test_encryption_that_there_is_not_is_refused() -> None:
    """A misspelt setting would write in the clear."""
    with pytest.raises(ConfigurationError, match="SSEKMSKey'"):
        S3Storage(server_side_encryption={"SSEKMSKey": "a-key"})


CONDITIONAL = replace(REQUEST, if_match="0123")


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Status(412, method="PutObject"), WriteRefused()),
        (Status(409, code="ConditionalRequestConflict", method="PutObject"), WriteRefused()),
        (Status(404, code="NoSuchKey", method="PutObject"), WriteRefused()),
        (Status(501, method="PutObject"), ConditionsUnsupported()),
    ],
    ids=str,
)
async def test_a_refusal_of_the_conditions_is_an_outcome(
    server: FaultServer, session: S3Session, fault: Status, outcome: object
) -> None:
    """By which the caller goes on."""
    server.add_faults(fault)
    assert outcome == await session.write(CONDITIONAL, content())


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Status(501, method="PutObject"), StorageError),
        (Status(403, method="PutObject"), AccessDeniedError),
        (Status(503, method="PutObject"), StorageError),
        (Status(500, method="PutObject"), StorageUnreachableError),
    ],
    ids=str,
)
async def test_any_other_refusal_is_an_error(
    server: FaultServer, session: S3Session, fault: Status, error: type
) -> None:
    """Without conditions there is nothing that 501 could be about."""
    server.add_faults(fault)
    with pytest.raises(error):
        await session.write(REQUEST, content())


async def test_refusals_at_once_agree_on_the_next_spelling(server: FaultServer, session: S3Session) -> None:
    """An ETag that was refused in quotes is written without them next, and the other way round."""
    server.add_faults(Status(412, method="PutObject", times=3))
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(session.write, CONDITIONAL, content())
    for _ in range(2):
        await session.write(CONDITIONAL, content())
    assert ['"0123"', '"0123"', "0123", '"0123"'] == [request.headers["if-match"] for request in server.requests]


async def test_a_part_of_an_upload_that_is_gone_is_an_error(session: S3Session) -> None:
    """It says so, and so does the completion."""
    gone = Upload(REQUEST.uri, "gone")
    with pytest.raises(ObjectNotFoundError, match="NoSuchUpload"):
        await session.write_part(gone, 1, 0, content())
    with pytest.raises(ObjectNotFoundError, match="NoSuchUpload"):
        await session.complete_upload(gone, CONDITIONAL, [], content().crc)


async def test_an_expired_token_is_left_to_the_client(server: FaultServer, session: S3Session) -> None:
    """Which is asked the same again, with the bytes from their beginning."""
    server.add_faults(Status(400, code="ExpiredToken", method="PutObject"))
    assert isinstance(await session.write(REQUEST, content()), Written)
    assert ([400, 200], DATA) == ([request.status for request in server.requests], server.get("bucket", "key"))


async def test_a_connection_that_takes_nothing_more_is_given_up(server: FaultServer) -> None:
    """After as long as an answer may take."""
    server.put("bucket", "known", b"")
    config = CatalogConfig(read_timeout_seconds=0.2)
    with _deaf_server() as url:
        async with S3Storage(endpoint_url=server.endpoint_url).connect(config) as session:
            await session.head("s3://bucket/known")
            routes = session._wire._routes
            routes["bucket"] = replace(routes["bucket"], origin=Origin.of_url(url), host=url.partition("://")[2])
            with anyio.fail_after(10), pytest.raises(StorageUnreachableError, match="nothing more was taken"):
                await session.write(REQUEST, content(bytes(64 * 1024 * 1024)))


@contextmanager
def _deaf_server() -> Iterator[str]:
    """A server that accepts connections and never reads."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
