"""Does the storage in memory do what a test of a user's own needs? The port's rules are in test_contracts.py."""

from __future__ import annotations

import pickle
import threading

import pytest

from datacachalog import CatalogConfig, ObjectNotFoundError, VersioningNotSupportedError, VersionNotFoundError
from datacachalog.ports import ReadRequest, ReadResponse
from datacachalog.testing import MemoryStorage, StorageRequest


async def _read(storage, request):
    async with storage.connect(CatalogConfig()) as session, session.read(request) as outcome:
        assert isinstance(outcome, ReadResponse)
        return [chunk async for chunk in outcome.chunks]


async def test_every_request_is_recorded():
    """The record tells method, object, range and validators, in the order of arrival."""
    storage = MemoryStorage()
    etag = storage.put("mem://b/k", b"data").etag
    async with storage.connect(CatalogConfig()) as session:
        await session.head("mem://b/k")
        async with session.read(ReadRequest(uri="mem://b/k", start=1, stop=3, if_match=etag)):
            pass
        await session.list_page("mem://b/", token="mem://b/a")
    assert [
        StorageRequest("HEAD", "mem://b/k"),
        StorageRequest("GET", "mem://b/k", start=1, stop=3, if_match=etag),
        StorageRequest("LIST", "mem://b/", token="mem://b/a"),
    ] == storage.requests


async def test_cleared_requests_are_forgotten():
    """A test can look at the requests of one step only."""
    storage = MemoryStorage()
    storage.put("mem://b/k", b"data")
    await _read(storage, ReadRequest(uri="mem://b/k"))
    storage.clear_requests()
    assert [] == storage.requests


async def test_body_comes_in_chunks_of_the_size_set():
    """A test of chunk handling chooses the size of the chunks."""
    storage = MemoryStorage(chunk_bytes=3)
    storage.put("mem://b/k", b"12345678")
    assert [b"234", b"567", b"8"] == await _read(storage, ReadRequest(uri="mem://b/k", start=1))


async def test_pages_have_the_size_set():
    """A test of paging chooses the size of the pages."""
    storage = MemoryStorage(page_size=2)
    for key in "abc":
        storage.put(f"mem://b/{key}", b"")
    async with storage.connect(CatalogConfig()) as session:
        first = await session.list_page("mem://b/")
        second = await session.list_page("mem://b/", token=first.next_token)
    assert ([2, 1], None) == ([len(first.objects), len(second.objects)], second.next_token)


async def test_old_version_can_be_read_by_its_id():
    """A versioned storage keeps what is overwritten and what is deleted."""
    storage = MemoryStorage(is_versioned=True)
    first = storage.put("mem://b/k", b"first")
    storage.put("mem://b/k", b"second")
    storage.delete("mem://b/k")
    assert [b"first"] == await _read(storage, ReadRequest(uri="mem://b/k", version_id=first.version_id))


async def test_deleted_object_of_a_versioned_storage_is_not_found():
    """Its versions are kept, but there is no newest one."""
    storage = MemoryStorage(is_versioned=True)
    storage.put("mem://b/k", b"first")
    storage.delete("mem://b/k")
    with pytest.raises(ObjectNotFoundError):
        await _read(storage, ReadRequest(uri="mem://b/k"))


async def test_unknown_version_is_not_found():
    """A version that never was raises `VersionNotFoundError`."""
    storage = MemoryStorage(is_versioned=True)
    storage.put("mem://b/k", b"first")
    with pytest.raises(VersionNotFoundError):
        await _read(storage, ReadRequest(uri="mem://b/k", version_id="never"))


async def test_version_of_an_unversioned_storage_is_refused():
    """A storage without versions says so instead of serving the newest."""
    storage = MemoryStorage()
    storage.put("mem://b/k", b"first")
    with pytest.raises(VersioningNotSupportedError):
        await _read(storage, ReadRequest(uri="mem://b/k", version_id="any"))


def test_object_without_validator_and_checksum():
    """Stores that give no ETag and no checksum can be played."""
    metadata = MemoryStorage().put("mem://b/k", b"x", has_etag=False, has_checksum=False)
    assert (None, None) == (metadata.etag, metadata.checksum)


def test_it_says_that_it_can_not_be_pickled():
    """Its objects are in this process: a copy elsewhere would be empty, so there is none."""
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(MemoryStorage())


def test_objects_may_be_written_from_several_threads():
    """No write is lost."""
    storage = MemoryStorage(is_versioned=True)
    threads = [
        threading.Thread(target=lambda n=n: [storage.put(f"mem://b/{n}/{i}", b"x") for i in range(200)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 800 == len({o.uri for o in storage._objects.page("mem://b/", None, None).objects})


@pytest.mark.parametrize("setting", [{"page_size": 0}, {"chunk_bytes": 0}])
def test_impossible_sizes_are_refused(setting):
    """A page or a chunk of nothing would never end."""
    with pytest.raises(ValueError, match="at least 1"):
        MemoryStorage(**setting)
