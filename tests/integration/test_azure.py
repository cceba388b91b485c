"""Does Azure Blob Storage keep the promises? Against Azurite; where it differs from Azure, a test says so."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from typing import ClassVar
from urllib.parse import quote

import pytest
from anyio import to_thread

from datacachalog.ports import StoragePort
from datacachalog.storage import AzureStorage
from datacachalog.storage._azure_accounts import Account, account_of
from datacachalog.testing.contracts import Delete, PicklableStorageContract, Seed, WritableStorageContract

from ._emulators import ACCOUNT, ACCOUNT_KEY, running_azurite, sent


@dataclass(frozen=True)
class Container:
    """A container of the emulator, and its owner's way to write to it."""

    account: Account
    name: str
    root: str

    def uri(self, key: str) -> str:
        return f"{self.root}{key}"

    def put(self, key: str, content: bytes) -> None:
        self.ask("PUT", f"/{quote(key)}", content, {"x-ms-blob-type": "BlockBlob"})

    def delete(self, key: str) -> None:
        self.ask("DELETE", f"/{quote(key)}")

    def ask(self, method: str, rest: str, content: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
        url = f"{self.account.endpoint}/{self.name}{rest}"
        signed = {"x-ms-version": "2023-11-03", "x-ms-date": formatdate(usegmt=True), **(headers or {})}
        signed |= {"content-type": "application/octet-stream", "content-length": str(len(content))}
        signed["authorization"] = self.account.authorization(method, url, signed)
        return sent(method, url, content, signed)


def new_container(endpoint: str, scheme: str = "az") -> Container:
    account = account_of(azure_storage(endpoint), {})
    assert account is not None
    name = f"container-{uuid.uuid4()}"
    root = f"az://{name}/" if scheme == "az" else f"abfss://{name}@{ACCOUNT}.dfs.core.windows.net/"
    container = Container(account, name, root)
    container.ask("PUT", "?restype=container")
    return container


def azure_storage(endpoint: str) -> AzureStorage:
    return AzureStorage(account=ACCOUNT, account_key=ACCOUNT_KEY, endpoint_url=endpoint)


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    with running_azurite() as url:
        yield url


@pytest.fixture
def container(azurite: str) -> Container:
    return new_container(azurite)


@pytest.fixture
def storage(azurite: str) -> AzureStorage:
    return azure_storage(azurite)


class AzureObjects:
    """The fixtures that a contract needs; goes before the contract among the bases."""

    @pytest.fixture
    def storage(self, azurite: str) -> StoragePort:
        return azure_storage(azurite)

    @pytest.fixture
    def seed(self, container: Container) -> Seed:
        async def seed(key: str, data: bytes) -> str:
            await to_thread.run_sync(container.put, key, data)
            return container.uri(key)

        return seed

    @pytest.fixture
    def delete(self, container: Container) -> Delete:
        async def delete(uri: str) -> None:
            await to_thread.run_sync(container.delete, uri.removeprefix(container.uri("")))

        return delete


class TestStorage(AzureObjects, PicklableStorageContract, WritableStorageContract):
    """The storage's rules, and those of writing."""

    # Azure takes segments of dots away; a path's end may be no dot either.
    awkward_keys: ClassVar = tuple(key for key in WritableStorageContract.awkward_keys if "/./" not in key)


class TestDataLake(AzureObjects, PicklableStorageContract):
    """The same by URIs that name the account."""

    awkward_keys: ClassVar = TestStorage.awkward_keys

    @pytest.fixture
    def container(self, azurite: str) -> Container:
        return new_container(azurite, "abfss")
