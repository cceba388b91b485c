"""Does a faulty storage fail exactly as scripted, and nowhere else?"""

from __future__ import annotations

import pickle
import time
from contextlib import nullcontext
from types import SimpleNamespace

import anyio
import pytest

from datacachalog import CatalogConfig, StorageUnreachableError, ThrottledError
from datacachalog._digests import digest_chunks
from datacachalog._pipeline.upload import InMemory
from datacachalog.ports import NotModified, ReadRequest, ReadResponse, VersionChanged, WritableSession, WriteRequest
from datacachalog.testing import (
    Cut,
    FaultyStorage,
    IgnoreRange,
    Latency,
    Meanwhile,
    MemoryStorage,
    Reset,
    Stall,
    Throttled,
    Unreachable,
    WrongBytes,
)

_DATA = bytes(range(200))
_URI = "mem://b/k.bin"


@pytest.fixture
def memory():
    memory = MemoryStorage(chunk_bytes=60)
    memory.put(_URI, _DATA)
    return memory


async def _received(storage, request=None, *, uri=_URI):
    """What came of the body, and the error that ended it."""
    data = b""
    async with storage.connect(CatalogConfig()) as session:
        try:
            async with session.read(request or ReadRequest(uri=uri)) as outcome:
                assert isinstance(outcome, ReadResponse)
                async for chunk in outcome.chunks:
                    data += chunk
        except (StorageUnreachableError, ThrottledError) as error:
            return data, type(error)
    return data, None


@pytest.mark.parametrize("after_bytes", [0, 1, 60, 61, 199, 200])
async def test_reset_breaks_the_body_after_exactly_so_many_bytes(memory, after_bytes):
    """The reader gets what came before, and then `StorageUnreachableError`."""
    received = await _received(FaultyStorage(memory, [Reset(after_bytes)]))
    assert (_DATA[:after_bytes], StorageUnreachableError) == received


@pytest.mark.parametrize("after_bytes", [0, 1, 60, 61, 199])
async def test_cut_ends_the_body_early_without_an_error(memory, after_bytes):
    """The reader has to count."""
    assert (_DATA[:after_bytes], None) == await _received(FaultyStorage(memory, [Cut(after_bytes)]))


@pytest.mark.parametrize("fault", [Reset(), Cut(), Unreachable()])
async def test_no_answer_is_unreachable(memory, fault):
    """What breaks before the answer raises at the read itself."""
    assert (b"", StorageUnreachableError) == await _received(FaultyStorage(memory, [fault]))


@pytest.mark.parametrize("after_bytes", [None, 0, 100])
async def test_stall_lasts_until_the_reader_gives_up(memory, after_bytes):
    """After so many bytes nothing comes; cancellation ends it."""
    data = b""
    storage, request = FaultyStorage(memory, [Stall(after_bytes)]), ReadRequest(uri=_URI)
    with anyio.move_on_after(0.05) as scope:
        async with storage.connect(CatalogConfig()) as session, session.read(request) as outcome:
            async for chunk in outcome.chunks:
                data += chunk
    assert (True, _DATA[: after_bytes or 0]) == (scope.cancelled_caught, data)


@pytest.mark.parametrize("at", [0, 59, 60, 199])
async def test_wrong_byte_is_the_only_wrong_one(memory, at):
    """The length is right, one byte is not."""
    data, _ = await _received(FaultyStorage(memory, [WrongBytes(at)]))
    assert [at] == [i for i in range(200) if data[i] != _DATA[i]]


@pytest.mark.parametrize("after_bytes", [0, 30, 60])
async def test_meanwhile_acts_when_so_many_bytes_were_given(memory, after_bytes):
    """The action is called between the bytes, and the body goes on with the old version."""
    seen = []
    data = b""
    storage = FaultyStorage(memory, [Meanwhile(lambda: seen.append(len(data)), after_bytes)])
    async with storage.connect(CatalogConfig()) as session, session.read(ReadRequest(uri=_URI)) as outcome:
        async for chunk in outcome.chunks:
            data += chunk
    assert ([after_bytes], _DATA) == (seen, data)


async def test_object_replaced_in_mid_body_has_another_version_for_the_next_range(memory):
    """The swap that a download has to notice: this body is the old version's, the next range meets `VersionChanged`."""
    storage = FaultyStorage(memory, [Meanwhile(lambda: memory.put(_URI, b"new"), after_bytes=10)])
    async with storage.connect(CatalogConfig()) as session:
        etag = (await session.head(_URI)).etag
        first, _ = await _received(storage, ReadRequest(uri=_URI, stop=100, if_match=etag))
        async with session.read(ReadRequest(uri=_URI, start=100, stop=200, if_match=etag)) as outcome:
            assert (_DATA[:100], VersionChanged()) == (first, outcome)


async def test_throttled_tells_how_long_to_wait(memory):
    """The error has the seconds that were scripted."""
    async with FaultyStorage(memory, [Throttled(retry_after_seconds=7)]).connect(CatalogConfig()) as session:
        with pytest.raises(ThrottledError) as caught:
            async with session.read(ReadRequest(uri=_URI)):
                pass
    assert 7 == caught.value.retry_after_seconds


async def test_latency_delays_the_answer(memory):
    """The answer comes no earlier."""
    started_at = time.monotonic()
    await _received(FaultyStorage(memory, [Latency(0.05)]))
    assert time.monotonic() - started_at >= 0.05


async def test_fault_meets_the_nth_matching_request_and_so_many_more(memory):
    """Requests are counted for each fault, from 1."""
    storage = FaultyStorage(memory, [Unreachable(nth=2, times=2)])
    assert [None, StorageUnreachableError, StorageUnreachableError, None] == [
        (await _received(storage))[1] for _ in range(4)
    ]


async def test_fault_without_end_meets_all(memory):
    """`times=None` means all from the n-th on."""
    storage = FaultyStorage(memory, [Unreachable(nth=2, times=None)])
    assert [False, True, True] == [(await _received(storage))[1] is not None for _ in range(3)]


async def test_fault_is_for_the_objects_of_its_pattern(memory):
    """Others are neither met nor counted."""
    memory.put("mem://b/other.txt", b"x")
    storage = FaultyStorage(memory, [Unreachable(uri="*/*.bin")])
    assert [False, True] == [(await _received(storage, uri=uri))[1] is not None for uri in ("mem://b/other.txt", _URI)]


@pytest.mark.parametrize("method", ["HEAD", "LIST", None])
async def test_fault_is_for_its_method(memory, method):
    """Head and listing can fail as well; None means whatever comes."""
    storage = FaultyStorage(memory, [Unreachable(method=method, times=None)])
    failed = []
    async with storage.connect(CatalogConfig()) as session:
        for name, ask in (("HEAD", session.head), ("LIST", session.list_page)):
            try:
                await ask(_URI)
            except StorageUnreachableError:
                failed.append(name)
    assert [name for name in ("HEAD", "LIST") if method in (name, None)] == failed


async def test_faults_that_meet_one_request_act_together(memory):
    """A wrong byte and a cut: both are seen."""
    received = await _received(FaultyStorage(memory, [WrongBytes(0), Cut(2)]))
    assert (bytes([_DATA[0] ^ 0xFF, _DATA[1]]), None) == received


async def test_outcome_without_a_body_passes(memory):
    """A fault of the body leaves an answer that has none as it is."""
    async with FaultyStorage(memory, [Cut(0)]).connect(CatalogConfig()) as session:
        request = ReadRequest(uri=_URI, if_none_match=(await session.head(_URI)).etag)
        async with session.read(request) as outcome:
            assert NotModified() == outcome


async def test_cleared_faults_meet_nobody(memory):
    """A test can end the trouble."""
    storage = FaultyStorage(memory, [Unreachable(times=None)])
    storage.clear_faults()
    assert (_DATA, None) == await _received(storage)


def test_fault_of_a_server_is_refused(memory):
    """What a storage can't play is an error, and not silence."""
    with pytest.raises(TypeError, match="IgnoreRange is a fault of a FaultServer"):
        FaultyStorage(memory, [IgnoreRange()])


def test_it_says_that_it_can_not_be_pickled(memory):
    """Its counts are in this process."""
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(FaultyStorage(memory))


@pytest.mark.parametrize("make", [lambda: Cut(-1), lambda: Latency(-1), lambda: Cut(0, nth=0), lambda: Cut(0, times=0)])
def test_impossible_fault_is_refused(make):
    """A fault that could never happen is a mistake of the test."""
    with pytest.raises(ValueError, match=r"at least 0|from 1"):
        make()


async def _write(storage, data=b"new"):
    request = WriteRequest(uri=_URI, content_type="text/plain")
    async with storage.connect(CatalogConfig()) as session:
        return await session.write(request, InMemory(data, digest_chunks("crc64nvme", (data,))))


@pytest.mark.parametrize("fault", [Unreachable(method="PUT"), Cut(method="PUT")], ids=["before", "after"])
async def test_a_write_without_an_answer_may_have_been_carried_out(memory, fault):
    """It was, if the answer is what was lost."""
    with pytest.raises(StorageUnreachableError):
        await _write(FaultyStorage(memory, [fault]))
    data, _ = await _received(memory)
    assert data == (_DATA if isinstance(fault, Unreachable) else b"new")


async def test_something_happens_before_a_write(memory):
    """So that somebody else can be faster."""
    seen = []
    await _write(FaultyStorage(memory, [Meanwhile(lambda: seen.append(memory.requests[-1:]), method="PUT")]))
    assert [[]] == seen


async def test_a_storage_that_can_not_be_written_stays_one(memory):
    """Faults don't add what the inner storage doesn't have."""

    class ReadOnly:
        def connect(self, config):
            return nullcontext(SimpleNamespace(head=None, read=None, list_page=None))

    async with FaultyStorage(ReadOnly()).connect(CatalogConfig()) as session:
        assert not isinstance(session, WritableSession)
