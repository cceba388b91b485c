"""Versions in S3: the rules of every versioned storage against two servers, and what every refusal means."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio.to_thread
import boto3
import pytest

from datacachalog import CatalogConfig, RouterStorage, S3Storage
from datacachalog._errors import (
    AccessDeniedError,
    BucketNotFoundError,
    StorageUnreachableError,
    VersioningNotSupportedError,
    VersionNotFoundError,
)
from datacachalog.ports import ListedVersion, NotModified, ReadRequest
from datacachalog.storage._s3_failures import error_of_answer
from datacachalog.testing import Cut, FaultServer, MemoryStorage, Status
from datacachalog.testing.contracts import Delete, Seed, VersionedStorageContract

URI = "s3://bucket/k"
MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)
_COUNTER = itertools.count()


@pytest.fixture
def versioned(server: FaultServer) -> FaultServer:
    server.create_bucket("bucket", is_versioned=True)
    return server


@pytest.fixture
def storage(server: FaultServer) -> S3Storage:
    return S3Storage(endpoint_url=server.endpoint_url)


class TestVersionsOfS3StorageOnFaultServer(VersionedStorageContract):
    """Against the project's own server, through a router."""

    @pytest.fixture
    def storage(self, versioned: FaultServer) -> RouterStorage:
        return RouterStorage({"s3": S3Storage(endpoint_url=versioned.endpoint_url)})

    @pytest.fixture
    def seed(self, versioned: FaultServer) -> Seed:
        async def seed(key: str, data: bytes) -> str:
            # All of one moment: then the order of the server's answer is the only thing that tells.
            versioned.put("bucket", key, data, last_modified=MOMENT)
            return f"s3://bucket/{key}"

        return seed

    @pytest.fixture
    def delete(self, versioned: FaultServer) -> Delete:
        async def delete(uri: str) -> None:
            versioned.delete("bucket", uri.removeprefix("s3://bucket/"))

        return delete


class TestVersionsOfS3StorageOnMoto(VersionedStorageContract):
    """Against moto, an implementation that isn't ours."""

    @pytest.fixture
    def client(self, moto_endpoint: str) -> Iterator[Any]:
        client = boto3.client("s3", endpoint_url=moto_endpoint)
        yield client
        client.close()

    @pytest.fixture
    def bucket(self, client: Any) -> str:
        name = f"versions-{next(_COUNTER)}"
        client.create_bucket(Bucket=name)
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    @pytest.fixture
    def storage(self, moto_endpoint: str) -> S3Storage:
        return S3Storage(endpoint_url=moto_endpoint)

    @pytest.fixture
    def seed(self, client: Any, bucket: str) -> Seed:
        async def seed(key: str, data: bytes) -> str:
            make_older(bucket)
            await anyio.to_thread.run_sync(lambda: client.put_object(Bucket=bucket, Key=key, Body=data))
            return f"s3://{bucket}/{key}"

        return seed

    @pytest.fixture
    def delete(self, client: Any, bucket: str) -> Delete:
        async def delete(uri: str) -> None:
            make_older(bucket)
            key = uri.removeprefix(f"s3://{bucket}/")
            await anyio.to_thread.run_sync(lambda: client.delete_object(Bucket=bucket, Key=key))

        return delete


def make_older(bucket: str) -> None:
    """Let a second pass for what is in a bucket of moto's, which tells times to the second, deletions apart."""
    from moto.s3.models import s3_backends

    keys = s3_backends["123456789012"]["aws"].get_bucket(bucket).keys
    for _, versions in keys.iterlists():
        for version in versions:
            version.last_modified -= timedelta(seconds=1)


async def listed(storage: S3Storage, prefix: str = URI) -> list[ListedVersion]:
    """List all versions, page by page."""
    found: list[ListedVersion] = []
    token: str | None = None
    async with storage.connect(CatalogConfig()) as session:
        while True:
            page = await session.version_page(prefix, token=token)
            found += page.versions
            token = page.next_token
            if token is None:
                return found


async def test_more_versions_than_a_page_has_are_all_listed(versioned: FaultServer, storage: S3Storage) -> None:
    """A listing goes on behind the version that the page before ended with, whatever is in the key."""
    key = "new\nline + ü"
    for _ in range(1500):
        versioned.put("bucket", key, b"")
    found = await listed(storage, f"s3://bucket/{key}")
    assert (1500, 1500, 2) == (
        len(found),
        len({item.version.version_id for item in found}),
        sum(request.operation == "ListObjectVersions" for request in versioned.requests),
    )


async def test_object_of_a_bucket_without_versions_has_the_version_null(
    server: FaultServer, storage: S3Storage
) -> None:
    """Without versioning each object has one version, `"null"`, which can be read by that id."""
    metadata = server.put("bucket", "k", b"content")
    [found] = await listed(storage)
    async with storage.connect(CatalogConfig()) as session:
        head = await session.head(URI, version_id="null")
    assert ("null", True, metadata.etag) == (found.version.version_id, found.version.is_latest, head.etag)


async def test_version_that_we_have_is_not_modified(versioned: FaultServer, storage: S3Storage) -> None:
    """`if_none_match` and a version go together, also where the newest has another ETag."""
    first = versioned.put("bucket", "k", b"first")
    versioned.put("bucket", "k", b"second")
    request = ReadRequest(uri=URI, stop=10, if_none_match=first.etag, version_id=first.version_id)
    async with storage.connect(CatalogConfig()) as session:
        for _ in range(2):  # through the client, and the short way
            async with session.read(request) as outcome:
                assert NotModified() == outcome


@pytest.mark.parametrize(
    ("status", "code", "message", "expected"),
    [
        (404, "NoSuchVersion", "", VersionNotFoundError),
        (404, "NoSuchKey", "", VersionNotFoundError),
        (404, "404", "Not Found", VersionNotFoundError),
        (405, "MethodNotAllowed", "", VersionNotFoundError),
        (400, "InvalidArgument", "Invalid version id specified", VersionNotFoundError),
        (404, "NoSuchBucket", "", BucketNotFoundError),
        (403, "AccessDenied", "", AccessDeniedError),
        (503, "ServiceUnavailable", "", StorageUnreachableError),
    ],
)
def test_refusal_of_a_version_is_told_apart(status: int, code: str, message: str, expected: type[Exception]) -> None:
    """What is not there of an object is a version that isn't there; all else means what it means elsewhere."""
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    assert expected is type(error_of_answer(URI, answer, "v1"))


async def test_denied_version_says_which_permission_it_takes(versioned: FaultServer, storage: S3Storage) -> None:
    """Reading a version takes another permission than reading the newest."""
    versioned.put("bucket", "k", b"content")
    versioned.add_faults(Status(403, "AccessDenied", method=None, times=None))
    async with storage.connect(CatalogConfig()) as session:
        with pytest.raises(AccessDeniedError, match="s3:GetObjectVersion"):
            async with session.read(ReadRequest(uri=URI, version_id="v1")):
                pass
        with pytest.raises(AccessDeniedError):
            await session.version_page(URI)


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (405, "MethodNotAllowed")])
async def test_store_that_can_not_list_versions_is_told(
    server: FaultServer, storage: S3Storage, status: int, code: str
) -> None:
    """A store that doesn't know the request keeps no versions: no outage, and nothing to try again."""
    server.add_faults(Status(status, code, method=None))
    with pytest.raises(VersioningNotSupportedError):
        await listed(storage)


async def test_answer_that_is_no_listing_is_an_unreachable_store(server: FaultServer, storage: S3Storage) -> None:
    """Half an answer, as of a proxy that gave up, is no listing of versions."""
    server.put("bucket", "k", b"content")
    server.add_faults(Cut(after_bytes=50, method=None))
    with pytest.raises(StorageUnreachableError):
        await listed(storage)


async def test_router_says_that_a_storage_keeps_no_versions(tmp_path: Any) -> None:
    """A storage without versions is told from one that has none of this object."""
    async with RouterStorage().connect(CatalogConfig()) as session:
        with pytest.raises(VersioningNotSupportedError):
            await session.version_page(str(tmp_path / "file"))
    async with RouterStorage({"mem": MemoryStorage()}).connect(CatalogConfig()) as session:
        with pytest.raises(VersioningNotSupportedError):
            await session.version_page("mem://bucket/k")
