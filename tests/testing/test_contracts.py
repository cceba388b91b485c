"""Do the contract suites pass what is right, and fail what is wrong?"""

from __future__ import annotations

import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from datacachalog import CatalogConfig, FileCache
from datacachalog.ports import ReadResponse
from datacachalog.testing import FaultyStorage, MemoryStorage
from datacachalog.testing.contracts import (
    CacheContract,
    SeekableListingContract,
    StorageContract,
    VersionedStorageContract,
    WritableStorageContract,
)


class TestMemoryStorage(SeekableListingContract, WritableStorageContract):
    listed_count = 9

    @pytest.fixture
    def storage(self):
        return MemoryStorage(page_size=4, chunk_bytes=1000)

    @pytest.fixture
    def seed(self, storage):
        async def seed(key, data):
            storage.put(f"mem://bucket/{key}", data)
            return f"mem://bucket/{key}"

        return seed

    @pytest.fixture
    def delete(self, storage):
        async def delete(uri):
            storage.delete(uri)

        return delete


class TestFaultyStorageWithoutFaults(SeekableListingContract, WritableStorageContract):
    @pytest.fixture
    def memory(self):
        return MemoryStorage(is_versioned=True)

    @pytest.fixture
    def storage(self, memory):
        return FaultyStorage(memory)

    @pytest.fixture
    def seed(self, memory):
        async def seed(key, data):
            memory.put(f"mem://bucket/{key}", data)
            return f"mem://bucket/{key}"

        return seed

    @pytest.fixture
    def delete(self, memory):
        async def delete(uri):
            memory.delete(uri)

        return delete


class TestVersionsOfMemoryStorage(VersionedStorageContract):
    @pytest.fixture
    def storage(self):
        return MemoryStorage(is_versioned=True, page_size=2)

    seed = TestMemoryStorage.seed
    delete = TestMemoryStorage.delete


class TestVersionsOfFaultyStorageWithoutFaults(VersionedStorageContract):
    memory = TestFaultyStorageWithoutFaults.memory
    storage = TestFaultyStorageWithoutFaults.storage
    seed = TestFaultyStorageWithoutFaults.seed
    delete = TestFaultyStorageWithoutFaults.delete


class _Spoilt:
    """A storage whose session does one thing wrong."""

    def __init__(self, memory, *, request=lambda request: request, outcome=lambda outcome: outcome):
        self._memory, self._request, self._outcome = memory, request, outcome

    @asynccontextmanager
    async def connect(self, config):
        async with self._memory.connect(config) as self._session:
            yield self

    @asynccontextmanager
    async def read(self, request):
        async with self._session.read(self._request(request)) as outcome:
            yield self._outcome(outcome)

    async def head(self, uri, *, version_id=None):
        return await self._session.head(uri, version_id=version_id)


def _shifted(outcome):
    return replace(outcome, stop=outcome.stop + 1) if isinstance(outcome, ReadResponse) else outcome


@pytest.mark.parametrize(
    ("test", "wrong"),
    [
        ("test_read_of_a_version_that_was_replaced_says_so", {"request": lambda r: replace(r, if_match=None)}),
        (
            "test_read_of_the_version_that_we_have_is_not_modified",
            {"request": lambda r: replace(r, if_none_match=None)},
        ),
        ("test_read_without_a_range_gives_the_whole_object", {"outcome": _shifted}),
        ("test_read_from_a_start_goes_on_to_the_end", {"request": lambda r: replace(r, start=0)}),
    ],
)
async def test_wrong_storage_fails_the_contract(test, wrong):
    """A storage that breaks a rule fails the test of that rule."""
    memory = MemoryStorage()

    async def seed(key, data):
        memory.put(f"mem://bucket/{key}", data)
        return f"mem://bucket/{key}"

    with pytest.raises(AssertionError):
        await getattr(StorageContract(), test)(_Spoilt(memory, **wrong), seed, CatalogConfig())


class _Careless:
    """A cache that looks at names only."""

    def __init__(self, cache):
        self._cache = cache
        self._entries = {}

    async def lookup(self, keys):
        return [self._entries.get(key) for key in keys]

    async def publish(self, verified):
        entry = await self._cache.publish(verified)
        self._entries[entry.key] = entry
        return entry


@pytest.fixture
def careless_cache(tmp_path):
    return _Careless(FileCache(tmp_path / "cache"))


async def test_cache_that_serves_a_truncated_file_fails_the_contract(careless_cache):
    """A cache that breaks a rule fails the test of that rule."""
    with pytest.raises(AssertionError):
        await CacheContract().test_truncated_file_is_noticed(careless_cache)


def test_importing_the_kit_needs_no_pytest():
    """Only the suites need pytest, and they live in a module of their own."""
    script = "import sys; sys.modules['pytest'] = None; import datacachalog.testing"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (0, "") == (finished.returncode, finished.stderr)
