"""How do objects get into the emulators, and what should arrive? Written by REST, not with what is tested."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from typing import Protocol
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest
from anyio import to_thread

from datacachalog.ports import StoragePort
from datacachalog.storage import AzureStorage, GCSStorage
from datacachalog.testing.contracts import Delete, Seed

from ._emulators import ACCOUNT, ACCOUNT_KEY, sent


class Place(Protocol):
    """A bucket or a container of the test's own."""

    def storage(self, endpoint: str | None = None) -> StoragePort:
        """Give the storage to be tested, for that address instead of the emulator's own."""
        ...

    @property
    def endpoint(self) -> str: ...

    def uri(self, key: str) -> str: ...

    def put(self, key: str, content: bytes) -> None: ...

    def content(self, key: str) -> bytes: ...

    def delete(self, key: str) -> None: ...


@dataclass(frozen=True)
class GoogleBucket:
    """A bucket of a fake-gcs-server."""

    endpoint: str
    name: str

    def storage(self, endpoint: str | None = None) -> GCSStorage:
        return GCSStorage(endpoint_url=endpoint or self.endpoint, anonymous=True)

    def uri(self, key: str) -> str:
        return f"gs://{self.name}/{key}"

    def put(self, key: str, content: bytes) -> None:
        query = urlencode({"uploadType": "media", "name": key}, quote_via=quote)
        headers = {"content-type": "application/octet-stream"}
        sent("POST", f"{self.endpoint}/upload/storage/v1/b/{self.name}/o?{query}", content, headers)

    def content(self, key: str) -> bytes:
        return sent("GET", f"{self._url(key)}?alt=media")

    def delete(self, key: str) -> None:
        sent("DELETE", self._url(key))

    def names(self) -> list[str]:
        listing = json.loads(sent("GET", f"{self.endpoint}/storage/v1/b/{self.name}/o"))
        return [item["name"] for item in listing.get("items", ())]

    def _url(self, key: str) -> str:
        return f"{self.endpoint}/storage/v1/b/{self.name}/o/{quote(key, safe='')}"


def new_bucket(endpoint: str, *, keeps_versions: bool = False) -> GoogleBucket:
    name = f"bucket-{uuid.uuid4()}"
    body = json.dumps({"name": name, "versioning": {"enabled": keeps_versions}}).encode()
    sent("POST", f"{endpoint}/storage/v1/b?project=any", body, {"content-type": "application/json"})
    return GoogleBucket(endpoint, name)


@dataclass(frozen=True)
class Container:
    """A container of an Azurite, and its owner's way to write to it."""

    endpoint: str
    name: str
    root: str

    def storage(self, endpoint: str | None = None) -> AzureStorage:
        return AzureStorage(account=ACCOUNT, account_key=ACCOUNT_KEY, endpoint_url=endpoint or self.endpoint)

    def uri(self, key: str) -> str:
        return f"{self.root}{key}"

    def put(self, key: str, content: bytes) -> None:
        self.ask("PUT", f"/{quote(key)}", content, {"x-ms-blob-type": "BlockBlob"})

    def content(self, key: str) -> bytes:
        return self.ask("GET", f"/{quote(key)}")

    def delete(self, key: str) -> None:
        self.ask("DELETE", f"/{quote(key)}")

    def ask(self, method: str, rest: str, content: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
        """Send a request, signed with the account's key."""
        url = f"{self.endpoint}/{self.name}{rest}"
        own = {"x-ms-version": "2023-11-03", "x-ms-date": formatdate(usegmt=True), **(headers or {})}
        parts = urlsplit(url)
        resource = "".join(
            [f"/{ACCOUNT}{parts.path}", *[f"\n{name}:{value}" for name, value in sorted(parse_qsl(parts.query))]]
        )
        length = str(len(content)) if content else ""
        lines = [method, "", "", length, "", "application/octet-stream", "", "", "", "", "", ""]
        lines += [*[f"{name}:{own[name]}" for name in sorted(own)], resource]
        digest = hmac.digest(base64.b64decode(ACCOUNT_KEY), "\n".join(lines).encode(), hashlib.sha256)
        own["authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
        own |= {"content-type": "application/octet-stream", "content-length": str(len(content))}
        return sent(method, url, content, own)


def new_container(endpoint: str, scheme: str = "az", *, query: str = "") -> Container:
    name = f"container-{uuid.uuid4()}"
    root = f"az://{name}/" if scheme == "az" else f"abfss://{name}@{ACCOUNT}.dfs.core.windows.net/"
    container = Container(endpoint, name, root)
    container.ask("PUT", f"?restype=container{query}")
    return container


class Objects:
    """The fixtures that a contract needs, over a fixture `place`; goes before the contract among the bases."""

    @pytest.fixture
    def storage(self, place: Place) -> StoragePort:
        return place.storage()

    @pytest.fixture
    def seed(self, place: Place) -> Seed:
        async def seed(key: str, data: bytes) -> str:
            await to_thread.run_sync(place.put, key, data)
            return place.uri(key)

        return seed

    @pytest.fixture
    def delete(self, place: Place) -> Delete:
        async def delete(uri: str) -> None:
            await to_thread.run_sync(place.delete, uri.removeprefix(place.uri("")))

        return delete


@contextmanager
def no_settings_of_the_machine() -> Iterator[None]:
    """Leave out what the environment says of clouds and proxies."""
    with pytest.MonkeyPatch.context() as environment:
        for name in list(os.environ):
            is_setting = name.startswith(("AZURE_", "GOOGLE_", "STORAGE_", "DATACACHALOG_"))
            if (is_setting and name != "DATACACHALOG_TEST_TOOLS") or name.lower().endswith("_proxy"):
                environment.delenv(name)
        yield
