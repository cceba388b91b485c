"""Does Google Cloud Storage keep the promises? Against fake-gcs-server; a test says where it differs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import pytest
from anyio import sleep, to_thread

from datacachalog.ports import StoragePort
from datacachalog.storage import GCSStorage
from datacachalog.testing.contracts import (
    Delete,
    PicklableStorageContract,
    Seed,
    SeekableListingContract,
    VersionedStorageContract,
    WritableStorageContract,
)

from ._emulators import running_fake_gcs, sent


@dataclass(frozen=True)
class GoogleBucket:
    """A bucket of the emulator, written by its JSON API."""

    endpoint: str
    name: str

    def uri(self, key: str) -> str:
        return f"gs://{self.name}/{key}"

    def put(self, key: str, content: bytes) -> None:
        query = urlencode({"uploadType": "media", "name": key}, quote_via=quote)
        headers = {"content-type": "application/octet-stream"}
        sent("POST", f"{self.endpoint}/upload/storage/v1/b/{self.name}/o?{query}", content, headers)

    def delete(self, key: str) -> None:
        sent("DELETE", f"{self.endpoint}/storage/v1/b/{self.name}/o/{quote(key, safe='')}")


def new_bucket(endpoint: str, *, keeps_versions: bool = False) -> GoogleBucket:
    name = f"bucket-{uuid.uuid4()}"
    body = json.dumps({"name": name, "versioning": {"enabled": keeps_versions}}).encode()
    sent("POST", f"{endpoint}/storage/v1/b?project=any", body, {"content-type": "application/json"})
    return GoogleBucket(endpoint, name)


@pytest.fixture(scope="session")
def google() -> Iterator[str]:
    with running_fake_gcs() as url:
        yield url


@pytest.fixture
def bucket(google: str) -> GoogleBucket:
    return new_bucket(google)


@pytest.fixture
def storage(google: str) -> GCSStorage:
    return GCSStorage(endpoint_url=google, anonymous=True)


class GoogleObjects:
    """The fixtures that a contract needs; goes before the contract among the bases."""

    @pytest.fixture
    def storage(self, google: str) -> StoragePort:
        return GCSStorage(endpoint_url=google, anonymous=True)

    @pytest.fixture
    def seed(self, bucket: GoogleBucket) -> Seed:
        async def seed(key: str, data: bytes) -> str:
            await to_thread.run_sync(bucket.put, key, data)
            return bucket.uri(key)

        return seed

    @pytest.fixture
    def delete(self, bucket: GoogleBucket) -> Delete:
        async def delete(uri: str) -> None:
            await to_thread.run_sync(bucket.delete, uri.removeprefix(bucket.uri("")))

        return delete


class TestStorage(GoogleObjects, SeekableListingContract, PicklableStorageContract, WritableStorageContract):
    """The storage's rules, those of its listings, and those of writing."""

    heeds_if_match_of_parts = False  # the emulator composes whatever is there; that it is demanded, a unit test shows


class TestVersions(GoogleObjects, VersionedStorageContract):
    """The rules of versions."""

    @pytest.fixture
    def bucket(self, google: str) -> GoogleBucket:
        return new_bucket(google, keeps_versions=True)

    @pytest.fixture
    def delete(self, bucket: GoogleBucket) -> Delete:
        async def delete(uri: str) -> None:
            await to_thread.run_sync(bucket.delete, uri.removeprefix(bucket.uri("")))
            await sleep(1.1)  # of a version that is followed sooner, nothing tells that it was deleted before

        return delete
