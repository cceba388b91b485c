"""What does the catalog rely on in a storage that keeps versions?"""

# ruff: noqa: S101, SIM300  # asserts are what tests are made of, and read: expected == actual

from __future__ import annotations

import pytest

from ..._config import CatalogConfig
from ..._errors import VersionNotFoundError
from ...ports import ListedVersion, ReadRequest, ReadResponse, StoragePort, StorageSession, VersionedSession
from ._storage import Delete, Seed


class VersionedStorageContract:
    """The rules for a `StoragePort` whose sessions are `VersionedSession`s too. Give the three fixtures.

    They are those of a `StorageContract`, of a place that keeps what is overwritten and deleted.
    """

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Catalogs run on asyncio."""
        return "asyncio"

    @pytest.fixture
    def storage(self) -> StoragePort:
        """Override: give the storage to be tested, with nothing in it."""
        raise NotImplementedError("a VersionedStorageContract needs a fixture 'storage' that gives a StoragePort")

    @pytest.fixture
    def seed(self) -> Seed:
        """Override: give an async function that writes an object and gives its URI."""
        raise NotImplementedError("a VersionedStorageContract needs a fixture 'seed': async (key, data) -> uri")

    @pytest.fixture
    def delete(self) -> Delete:
        """Override: give an async function that deletes an object and keeps its versions."""
        raise NotImplementedError("a VersionedStorageContract needs a fixture 'delete': async (uri) -> None")

    @pytest.mark.anyio
    async def test_versions_are_listed_newest_first(self, storage: StoragePort, seed: Seed, delete: Delete) -> None:
        """Every version is listed with its size, the newest first; deletions too, and one of them all is the latest."""
        for data in (b"1", b"22"):
            uri = await seed("k", data)
        await delete(uri)
        await seed("k", b"4444")
        async with storage.connect(CatalogConfig()) as session:
            found = [listed.version for listed in await _listed(session, uri)]
        assert [(4, True, False), (0, False, True), (2, False, False), (1, False, False)] == [
            (version.size, version.is_latest, version.is_delete_marker) for version in found
        ]

    @pytest.mark.anyio
    async def test_each_listed_version_can_be_read(self, storage: StoragePort, seed: Seed) -> None:
        """A version is read by the id that the listing gives it, and the answer names it."""
        for data in (b"first", b"second"):
            uri = await seed("k", data)
        found: list[tuple[str | None, bytes]] = []
        async with storage.connect(CatalogConfig()) as session:
            listed = await _listed(session, uri)
            for item in listed:
                request = ReadRequest(uri=uri, stop=1000, version_id=item.version.version_id)
                async with session.read(request) as outcome:
                    assert isinstance(outcome, ReadResponse)
                    data = b"".join([chunk async for chunk in outcome.chunks])
                    found.append((outcome.metadata.version_id, data))
        ids = [item.version.version_id for item in listed]
        assert [(ids[0], b"second"), (ids[1], b"first")] == found

    @pytest.mark.anyio
    async def test_version_that_is_none_of_the_object_can_not_be_read(
        self, storage: StoragePort, seed: Seed, delete: Delete
    ) -> None:
        """The id of a delete marker, of a version of another object, or of none, is no version to be read."""
        uri = await seed("k", b"content")
        await delete(uri)
        other = await seed("other", b"other")
        async with storage.connect(CatalogConfig()) as session:
            ids = [(await _listed(session, each))[0].version.version_id for each in (uri, other)]
            for version_id in ids:
                with pytest.raises(VersionNotFoundError):
                    await session.head(uri, version_id=version_id)
                with pytest.raises(VersionNotFoundError):
                    async with session.read(ReadRequest(uri=uri, stop=10, version_id=version_id)):
                        pass

    @pytest.mark.anyio
    async def test_listing_is_by_key_and_of_all_that_begin_alike(self, storage: StoragePort, seed: Seed) -> None:
        """The listing of a prefix has the exact object first, and what merely begins like it behind that."""
        uris = [await seed(key, b"x") for key in ("a", "ab", "a/b", "b", "a")]
        async with storage.connect(CatalogConfig()) as session:
            found = [listed.uri for listed in await _listed(session, uris[0])]
        assert [uris[0], uris[0], uris[2], uris[1]] == found

    @pytest.mark.anyio
    async def test_listing_can_begin_behind_an_object(self, storage: StoragePort, seed: Seed) -> None:
        """Of what comes behind the object that is named nothing is left out."""
        uris = [await seed(f"dir/{name}", b"x") for name in "abcd" for _ in range(2)]
        async with storage.connect(CatalogConfig()) as session:
            found = [listed.uri for listed in await _listed(session, uris[0][:-1], after=uris[2])]
        assert uris[4:] == [uri for uri in found if uri > uris[2]]


async def _listed(session: StorageSession, prefix: str, after: str | None = None) -> list[ListedVersion]:
    """List all versions, page by page."""
    assert isinstance(session, VersionedSession)
    found: list[ListedVersion] = []
    token: str | None = None
    while True:
        page = await session.version_page(prefix, after=after, token=token)
        found += page.versions
        token = page.next_token
        if token is None:
            return found
