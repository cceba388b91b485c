"""What a worker offers to its neighbours, and what it tells its caller."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from datacachalog import AsyncCatalog, CatalogConfig, Dataset, ObjectNotFoundError
from datacachalog.integrations.dask import _operation
from datacachalog.integrations.dask._operation import Fetched, Operation, Order
from datacachalog.integrations.dask._peers import PIECE_BYTES, Offer, Pending, Withheld
from datacachalog.ports import FileFinished
from datacachalog.testing import FaultyStorage, MemoryStorage, Stall, Unreachable

URI = "mem://bucket/data.bin"
CONTENT = bytes(range(256)) * 4096 * 2 + b"and a rest"


@pytest.fixture
def store() -> MemoryStorage:
    storage = MemoryStorage()
    storage.put(URI, CONTENT)
    return storage


@asynccontextmanager
async def operating(tmp_path, storage, *datasets: Dataset) -> AsyncIterator[Operation]:
    catalog = AsyncCatalog(
        datasets or [Dataset("data", URI)],
        cache_dir=tmp_path / "cache",
        storage=storage,
        config=CatalogConfig(retries=0),
        progress=False,
    )
    names = tuple(dataset.name for dataset in catalog.datasets)
    order = Order(token="token", catalog=catalog, names=names, cache_dir=None)
    operation = Operation(order, None, 0, None)
    try:
        yield operation
    finally:
        await operation.end()


async def outcome_of(operation: Operation) -> Fetched | Exception | None:
    """Wait until it is done: then it withholds what it never had."""
    while isinstance(await operation.offer("mem://bucket/nowhere", None), Pending):
        pass
    return operation.say().outcome


async def test_a_file_is_offered_when_it_is_here(tmp_path, store):
    """Whoever asks for a file that is under way is answered when it has come, with all that is known of it."""
    async with operating(tmp_path, store) as operation:
        offer = await operation.offer(URI, None)
        metadata = store._objects.find(URI, None)[1]
        assert Offer(metadata, offer.mtime_ns) == offer
        stop = len(CONTENT)
        pieces = [
            await operation.piece(URI, None, offer.mtime_ns, start, start + PIECE_BYTES)
            for start in range(0, stop, PIECE_BYTES)
        ]
    assert CONTENT == b"".join(pieces)


async def test_a_piece_is_never_larger_than_a_message(tmp_path, store):
    """Whoever asks for more gets as much as fits in one message."""
    async with operating(tmp_path, store) as operation:
        offer = await operation.offer(URI, None)
        assert CONTENT[:PIECE_BYTES] == await operation.piece(URI, None, offer.mtime_ns, 0, len(CONTENT))


async def test_a_copy_that_was_touched_is_not_given(tmp_path, store):
    """Of a copy that isn't as it was published, or was replaced, no byte is given."""
    async with operating(tmp_path, store) as operation:
        offer = await operation.offer(URI, None)
        assert await operation.piece(URI, None, offer.mtime_ns + 1, 0, 10) is None
        os.utime(tmp_path / "cache/@mem/bucket/data.bin", ns=(0, 0))
        assert await operation.piece(URI, None, offer.mtime_ns, 0, 10) is None


async def test_what_was_not_offered_is_not_given(tmp_path, store):
    """A file that is in the cache and not of this call can't be had."""
    async with operating(tmp_path, store) as operation:
        await outcome_of(operation)
        assert await operation.piece("mem://bucket/other.bin", None, 0, 0, 10) is None
        assert Withheld() == await operation.offer("mem://bucket/other.bin", None)


async def test_a_file_that_has_yet_to_come_is_said_to_be_pending(tmp_path, store, monkeypatch):
    """A question is not left open for long; the answer tells whether anything happens here."""
    monkeypatch.setattr(_operation, "_ANSWER_SECONDS", 0.05)
    stalled = FaultyStorage(store, faults=[Stall()])
    async with operating(tmp_path, stalled) as operation:
        assert isinstance(await operation.offer(URI, None), Pending)


async def test_a_dataset_that_failed_is_withheld_at_once(tmp_path, store):
    """Nobody waits for a file of a dataset that failed until everything else is done."""
    stalled = FaultyStorage(store, faults=[Stall(uri=URI)])
    gone = Dataset("gone", "mem://bucket/gone/*")
    async with operating(tmp_path, stalled, gone, Dataset("data", URI)) as operation:
        assert Withheld() == await operation.offer("mem://bucket/gone/1.bin", None)
        assert operation.say().outcome is None


async def test_a_copy_that_may_be_out_of_date_is_withheld(tmp_path, store):
    """What the store could not confirm is served here, and given to nobody."""
    async with operating(tmp_path, store) as operation:
        await outcome_of(operation)
    unreachable = FaultyStorage(store, faults=[Unreachable(times=None)])
    async with operating(tmp_path, unreachable) as operation:
        with pytest.warns(match="out of date"):
            outcome = await outcome_of(operation)
        assert "stale" == outcome.report["data"].action
        assert Withheld() == await operation.offer(URI, None)


async def test_the_caller_is_told_each_thing_once(tmp_path, store):
    """What happened is told with the next answer, and not again; what came of it with every one."""
    async with operating(tmp_path, store) as operation:
        await operation.offer(URI, None)
        said = operation.say()
        assert 1 == sum(isinstance(event, FileFinished) for event in said.events)
        await outcome_of(operation)
        assert ((), True) == (operation.say().events, operation.say().outcome is not None)


async def test_an_error_of_another_library_reaches_the_caller(tmp_path, store):
    """An error that doesn't survive being sent is told by its text; ours are sent as they are."""

    class OddError(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} is not {two}")

    class OddStorage(MemoryStorage):
        @asynccontextmanager
        async def connect(self, config):
            raise OddError(1, 2)
            yield

    async with operating(tmp_path, OddStorage()) as operation:
        assert "OddError: 1 is not 2" == str(await outcome_of(operation))
    store.delete(URI)
    async with operating(tmp_path, store) as operation:
        assert {"data": ObjectNotFoundError} == {
            name: type(error) for name, error in (await outcome_of(operation)).report.errors.items()
        }


async def test_an_operation_whose_caller_died_ends_in_time(tmp_path, store, monkeypatch):
    """What is done, and not asked about for long, is forgotten; what is under way is not."""
    monkeypatch.setattr(_operation, "_SILENCE_SECONDS", -1)
    stalled = FaultyStorage(store, faults=[Stall()])
    async with operating(tmp_path, stalled) as operation:
        assert not operation.is_forgotten
    async with operating(tmp_path, store) as operation:
        await outcome_of(operation)
        assert operation.is_forgotten
