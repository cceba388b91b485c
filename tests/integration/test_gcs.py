"""Is Google Cloud Storage a storage by the contracts? Against fake-gcs-server; what that can't do is said here."""

from __future__ import annotations

from typing import ClassVar

import pytest
from anyio import sleep, to_thread

from datacachalog import AsyncCatalog, CatalogConfig, Dataset
from datacachalog.testing.contracts import (
    Delete,
    PicklableStorageContract,
    SeekableListingContract,
    VersionedStorageContract,
    WritableStorageContract,
)

from ._bucket import MIB, noise
from ._clouds import GoogleBucket, Objects, new_bucket


@pytest.fixture
def place(google: str) -> GoogleBucket:
    return new_bucket(google)


@pytest.fixture
def versioned(google: str) -> GoogleBucket:
    return new_bucket(google, keeps_versions=True)


class TestStorage(Objects, SeekableListingContract, PicklableStorageContract, WritableStorageContract):
    """The storage's rules, those of its listings, and those of writing."""

    # This emulator composes whatever is there; that it is demanded, a unit test shows.
    heeds_if_match_of_parts: ClassVar[bool] = False


class TestVersions(Objects, VersionedStorageContract):
    """The rules of versions."""

    @pytest.fixture
    def place(self, versioned: GoogleBucket) -> GoogleBucket:
        return versioned

    @pytest.fixture
    def delete(self, place: GoogleBucket) -> Delete:
        async def delete(uri: str) -> None:
            await to_thread.run_sync(place.delete, uri.removeprefix(place.uri("")))
            await sleep(1.1)  # of a version that is followed sooner, nothing tells that it was deleted before

        return delete


async def test_many_cached_objects_are_revalidated_by_a_listing(place, tmp_path):
    """One request for all, whatever their names; and what has changed is noticed."""
    keys = [f"many/{name}" for name in ("a b", "c+d", "100%", "%20", "ümlaut", "日本-🦆", "x/y", "&<>\"'", "~", "a//b")]
    keys += [f"zz/{number}" for number in range(10)]
    for key in keys:
        place.put(key, key.encode())
    datasets = [Dataset(f"{number}", place.uri(key)) for number, key in enumerate(keys)]
    async with AsyncCatalog(datasets, cache_dir=tmp_path, storage=place.storage()) as catalog:
        await catalog.fetch_all()
        again = await catalog.fetch_all()
        place.put("zz/5", b"other")
        changed = await catalog.fetch_all()

    assert (1, {"revalidated"}) == (again.requests, {result.action for result in again.values()})
    downloaded = [result.path.read_bytes() for result in changed.values() if result.action == "downloaded"]
    assert ([b"other"], 2) == (downloaded, changed.requests)


async def test_a_generation_is_a_version(versioned, tmp_path):
    """What was overwritten is listed, and fetched by its generation and by the time when it was there."""
    for number in range(3):
        versioned.put("x.csv", f"content {number}".encode())
    async with AsyncCatalog(
        [Dataset("x", versioned.uri("x.csv"))], cache_dir=tmp_path, storage=versioned.storage()
    ) as catalog:
        versions = await catalog.versions("x")
        by_id = (await catalog.fetch("x", version_id=versions[1].version_id)).read_bytes()
        by_time = (await catalog.fetch("x", as_of=versions[2].last_modified)).read_bytes()
        latest = (await catalog.fetch("x")).read_bytes()
    assert (3, b"content 1", b"content 0", b"content 2") == (len(versions), by_id, by_time, latest)


async def test_parts_are_composed_and_leave_nothing(place, tmp_path):
    """The parts are objects of their own, and are gone when the push returns."""
    local = tmp_path / "local.bin"
    local.write_bytes(noise(12 * MIB, seed=7))
    async with AsyncCatalog(
        [Dataset("x", place.uri("x.bin"))],
        cache_dir=tmp_path / "cache",
        storage=place.storage(),
        config=CatalogConfig(part_bytes=5 * MIB),
    ) as catalog:
        await catalog.push("x", local)
        action = (await catalog.fetch_all())["x"].action
    is_equal = local.read_bytes() == place.content("x.bin")
    assert (True, ["x.bin"], "revalidated") == (is_equal, place.names(), action)
