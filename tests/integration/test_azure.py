"""Is Azure Blob a storage by the contracts? Against Microsoft's Azurite; what that can't do is said here.

It keeps no versions, and doesn't know the listings that begin behind a name: those are tested with scripted answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar
from urllib.parse import urlsplit

import obstore
import pytest
from obstore.store import AzureStore

from datacachalog import AccessDeniedError, AsyncCatalog, CredentialsError, Dataset, ObjectNotFoundError
from datacachalog.storage import AzureStorage
from datacachalog.testing.contracts import PicklableStorageContract, WritableStorageContract

from ._clouds import Container, Objects, new_container
from ._emulators import ACCOUNT, ACCOUNT_KEY

# Azure itself takes segments of dots away.
_KEYS = tuple(key for key in WritableStorageContract.awkward_keys if "/./" not in key)


@pytest.fixture
def place(azurite: str) -> Container:
    return new_container(azurite)


class TestStorage(Objects, PicklableStorageContract, WritableStorageContract):
    """The storage's rules, and those of writing."""

    awkward_keys: ClassVar[Sequence[str]] = _KEYS


class TestDataLake(Objects, PicklableStorageContract):
    """The same by URIs that name the account."""

    awkward_keys: ClassVar[Sequence[str]] = _KEYS

    @pytest.fixture
    def place(self, azurite: str) -> Container:
        return new_container(azurite, "abfss")


async def fetched(place: Container, storage: AzureStorage, directory) -> bytes:
    async with AsyncCatalog([Dataset("x", place.uri("x.csv"))], cache_dir=directory, storage=storage) as catalog:
        return (await catalog.fetch("x")).read_bytes()


async def test_where_no_listing_begins_behind_a_name_each_blob_is_asked_for(place, tmp_path):
    """It is tried once while the catalog is open; what has changed is noticed."""
    for number in range(25):
        place.put(f"many/{number:02}", b"x")
    datasets = [Dataset(f"{number}", place.uri(f"many/{number:02}")) for number in range(5, 25)]
    async with AsyncCatalog(datasets, cache_dir=tmp_path, storage=place.storage()) as catalog:
        await catalog.fetch_all()
        place.put("many/15", b"other")
        reports = [await catalog.fetch_all() for _ in range(2)]
    changed = [result.path.read_bytes() for result in reports[0].values() if result.action == "downloaded"]
    assert ([b"other"], 20) == (changed, reports[1].requests)


@pytest.mark.parametrize("way", ["connection string", "environment", "signature"])
async def test_each_way_of_credentials_is_let_in(place, tmp_path, monkeypatch, way):
    """A key in a connection string or in the environment, and a shared access signature."""
    place.put("x.csv", b"content")
    if way == "environment":
        text = f"AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};BlobEndpoint={place.endpoint};"
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
        storage = AzureStorage()
    elif way == "connection string":
        text = f"AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};BlobEndpoint={place.endpoint};"
        storage = AzureStorage(connection_string=text)
    else:
        config = {"account_name": ACCOUNT, "account_key": ACCOUNT_KEY, "endpoint": place.endpoint}
        store = AzureStore(place.name, config=config, client_options={"allow_http": True})
        signature = urlsplit(await obstore.sign_async(store, "GET", "x.csv", timedelta(minutes=5))).query
        storage = AzureStorage(account=ACCOUNT, sas_token=signature, endpoint_url=place.endpoint)
    assert b"content" == await fetched(place, storage, tmp_path)


async def test_g13_key_that_is_refused_is_shown_nowhere(place, tmp_path):
    """It is an error of the credentials, and shows none; Azurite calls it one of the permissions."""
    place.put("x.csv", b"content")
    wrong = "bm90IHRoZSBrZXk="
    storage = AzureStorage(account=ACCOUNT, account_key=wrong, endpoint_url=place.endpoint)
    with pytest.raises((AccessDeniedError, CredentialsError)) as caught:
        await fetched(place, storage, tmp_path)
    assert wrong not in f"{caught.value!r} {caught.value} {storage!r}"


async def test_public_container_is_read_without_credentials(azurite, tmp_path):
    """And a private one isn't."""
    public = new_container(azurite)
    public.ask("PUT", "?restype=container&comp=acl", headers={"x-ms-blob-public-access": "container"})
    private = new_container(azurite)
    storage = AzureStorage(account=ACCOUNT, anonymous=True, endpoint_url=azurite)
    for place in (public, private):
        place.put("x.csv", b"content")
    assert b"content" == await fetched(public, storage, tmp_path / "public")
    with pytest.raises((AccessDeniedError, CredentialsError, ObjectNotFoundError)):  # Azure says "not found", as here
        await fetched(private, storage, tmp_path / "private")
