"""How the bytes come: one request for what is small, ranges of one version for what is large, and never a mix."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from datacachalog import (
    CatalogConfig,
    FileCache,
    IntegrityError,
    ObjectNotFoundError,
    S3Storage,
    StorageError,
    StorageUnreachableError,
    TransferError,
)
from datacachalog._digests import digest_chunks
from datacachalog._events import RequestRetried, TransferAdvanced, TransferRestarted, TransferStarted
from datacachalog._pipeline import requests as requests_module
from datacachalog._pipeline.flight import Flight, claims_of
from datacachalog._pipeline.requests import Requests
from datacachalog._pipeline.resolve import Target
from datacachalog._pipeline.transfer import Begun, Elsewhere, Staged, transfer
from datacachalog._pipeline.verify import verify
from datacachalog.ports import CacheKey, NotModified
from datacachalog.testing import (
    Cut,
    FaultServer,
    FaultyStorage,
    IgnoreRange,
    Meanwhile,
    MemoryStorage,
    NoEtag,
    Reset,
    Slow,
    Status,
    Swap,
    Unreachable,
    WrongBytes,
    WrongContentRange,
)

URI = "s3://bucket/a.bin"
PART = 1024
SMALL = bytes(range(200))
LARGE = b"".join(number.to_bytes(4, "big") for number in range(1250))  # 5000 bytes: five parts, no two alike
NEWER = LARGE[::-1]


@dataclass
class Brought:
    """What became of a transfer."""

    outcome: Any
    data: bytes | None
    sent: int
    events: list[Any] = field(default_factory=list)

    def told(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class Bring:
    """Transfers, verifies and publishes one object into a cache of its own."""

    def __init__(self, cache_dir: Path) -> None:
        self.cache = FileCache(cache_dir)

    async def __call__(
        self, storage: Any, known_etag: str | None = None, pin: str | None = None, **settings
    ) -> Brought:
        config = CatalogConfig(**({"part_bytes": PART} | settings))
        target = Target("a", CacheKey(URI), pin, 0.0)
        events: list[Any] = []
        async with storage.connect(config) as session:
            requests = Requests(session, config, anyio.CapacityLimiter(config.max_concurrency), events.append, 1)
            flight = Flight(target, requests, claims_of(self.cache))
            assert await flight.take(None)
            try:
                async with transfer(target, known_etag, requests, self.cache, flight, Begun()) as outcome:
                    data = None
                    if not isinstance(outcome, NotModified | Elsewhere):
                        entry = await self.cache.publish(await verify(outcome, target))
                        data = entry.path.read_bytes()
            finally:
                await flight.release()
        return Brought(outcome, data, requests.sent, events)


@pytest.fixture
def bring(tmp_path: Path) -> Bring:
    return Bring(tmp_path / "cache")


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests_module, "retry_delay_seconds", lambda *_: 0.0)


@pytest.fixture
def memory() -> MemoryStorage:
    storage = MemoryStorage(chunk_bytes=100)
    storage.put(URI, LARGE)
    return storage


@pytest.fixture
def s3(server: FaultServer) -> S3Storage:
    server.put("bucket", "a.bin", LARGE)
    return S3Storage(endpoint_url=server.endpoint_url)


def ranges(storage: MemoryStorage) -> list[tuple[int, int | None]]:
    return [(request.start, request.stop) for request in storage.requests if request.method == "GET"]


# -- requests


@pytest.mark.parametrize("size", [1, 200, PART - 1, PART])
async def test_small_object_is_one_request(bring, memory, size):
    """What fits in a part comes with the first answer, without a HEAD before it."""
    memory.put(URI, LARGE[:size])
    brought = await bring(memory)
    assert (LARGE[:size], 1, [(0, PART)]) == (brought.data, brought.sent, ranges(memory))


async def test_known_object_is_one_request(bring, memory):
    """If-None-Match with the first part: what is fresh costs one request and no byte."""
    etag = memory.put(URI, LARGE).etag
    brought = await bring(memory, known_etag=etag)
    assert (NotModified(), 1, [etag]) == (brought.outcome, brought.sent, [r.if_none_match for r in memory.requests])


async def test_large_object_comes_in_parts_of_one_version(bring, memory):
    """The first answer is the first part; each other is asked for once, with the ETag of the first."""
    etag = memory.put(URI, LARGE).etag
    brought = await bring(memory)
    gets = [request for request in memory.requests if request.method == "GET"]
    expected = [(start, min(start + PART, len(LARGE))) for start in range(0, len(LARGE), PART)]
    assert (LARGE, expected, {etag}) == (brought.data, sorted(ranges(memory)), {r.if_match for r in gets[1:]})


async def test_size_of_a_large_object_may_be_a_multiple_of_a_part(bring, memory):
    """No empty range is asked for at the end."""
    memory.put(URI, LARGE[: 3 * PART])
    brought = await bring(memory)
    assert (LARGE[: 3 * PART], [(0, PART), (PART, 2 * PART), (2 * PART, 3 * PART)]) == (
        brought.data,
        sorted(ranges(memory)),
    )


async def test_checksum_of_a_large_object_is_asked_for_once(bring, server, s3):
    """S3 gives the whole object's checksum with a HEAD only; the bytes are compared with it."""
    brought = await bring(s3)
    heads = [request for request in server.requests if request.method == "HEAD"]
    assert (LARGE, 1, "crc64nvme") == (brought.data, len(heads), brought.outcome.metadata.checksum.partition(":")[0])


async def test_head_that_is_refused_costs_the_checksum_only(bring, server, s3):
    """Without permission to ask for the checksum the bytes come all the same."""
    server.add_faults(Status(status=403, method="HEAD", times=None))
    assert LARGE == (await bring(s3)).data


@pytest.mark.parametrize("size", [PART, 5000])
async def test_empty_object_comes(bring, memory, size):
    """An empty object has no first byte, and is an empty file."""
    memory.put(URI, b"")
    brought = await bring(memory)
    assert (b"", 2) == (brought.data, brought.sent)


async def test_empty_object_of_s3_comes(bring, server, s3):
    """So it is with the 416 of S3."""
    server.put("bucket", "a.bin", b"")
    assert (await bring(s3)).data == b""


async def test_requests_in_flight_are_one_where_only_one_is_allowed(bring, server, s3):
    """With a budget of one a large object comes too, one request after the other."""
    with anyio.fail_after(10):
        brought = await bring(s3, max_concurrency=1)
    assert (LARGE, 1) == (brought.data, server.max_concurrent_requests)


# -- without an ETag, without ranges


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_object_without_etag_comes_in_one_answer(bring, memory, data):
    """Nothing would hold its parts together, so it is asked for as a whole."""
    memory.put(URI, data, has_etag=False)
    brought = await bring(memory)
    assert (data, None) == (brought.data, ranges(memory)[-1][1] if data is LARGE else None)


async def test_g1_object_without_etag_starts_again_after_a_break(bring, memory):
    """Without an ETag a download can't go on where it broke: it begins again, and is one version."""
    memory.put(URI, LARGE, has_etag=False)
    faulty = FaultyStorage(
        memory,
        [
            Reset(nth=2, after_bytes=3000),
            Meanwhile(lambda: memory.put(URI, NEWER, has_etag=False), nth=2, after_bytes=2000),
        ],
    )
    assert NEWER == (await bring(faulty)).data


async def test_remote_that_never_knew_ranges_gives_the_whole(bring, server, s3):
    """A 200 to the first range is the whole object, in one request."""
    server.add_faults(IgnoreRange(times=None))
    brought = await bring(s3)
    assert (LARGE, 1) == (brought.data, brought.sent - len([r for r in server.requests if r.method == "HEAD"]))


async def test_remote_that_ignores_ranges_is_right_after_a_break(bring, server, s3):
    """If the whole object breaks off, and can't be continued, it is begun again as a whole."""
    server.add_faults(IgnoreRange(times=None), Cut(after_bytes=3000))
    assert LARGE == (await bring(s3)).data


async def test_g1_remote_that_begins_to_ignore_ranges_is_not_mixed(bring, server, s3):
    """A 200 to the range of a part is not taken for the part."""
    server.add_faults(IgnoreRange(nth=3, times=None))
    assert LARGE == (await bring(s3)).data


@pytest.mark.parametrize("nth", [1, 2, 4])
async def test_g1_wrong_content_range_is_not_taken(bring, server, s3, nth):
    """Bytes that say they are others are asked for again."""
    server.add_faults(WrongContentRange(nth=nth))
    assert LARGE == (await bring(s3)).data


async def test_wrong_content_range_for_ever_is_given_up(bring, server, s3):
    """A remote that always answers with other bytes ends in a `StorageError`, bounded."""
    server.add_faults(WrongContentRange(times=None))
    with pytest.raises(StorageError):
        await bring(s3, restarts=2)
    assert 3 == len([request for request in server.requests if request.method == "GET"])


# -- broken connections


@pytest.mark.parametrize("fault", [Cut, Reset])
@pytest.mark.parametrize("after_bytes", [None, 0, 1, 99, 100, 101, 1023])
@pytest.mark.parametrize("nth", [1, 3, 5])
async def test_part_that_breaks_goes_on_where_it_broke(bring, memory, fault, after_bytes, nth):
    """After a break at any byte only what is missing is asked for."""
    data = LARGE + LARGE[: 5 * PART - len(LARGE)]
    memory.put(URI, data)
    brought = await bring(FaultyStorage(memory, [fault(nth=nth, after_bytes=after_bytes)]), max_concurrency=1)
    again = [start for start, _ in ranges(memory) if start % PART]
    assert (data, [after_bytes] if after_bytes else []) == (brought.data, [start % PART for start in again])


@pytest.mark.parametrize("fault", [Cut, Reset])
@pytest.mark.parametrize("after_bytes", [None, 0, 1, 150])
async def test_small_object_that_breaks_comes_again(bring, memory, fault, after_bytes):
    """A small object is simply asked for again."""
    memory.put(URI, SMALL)
    brought = await bring(FaultyStorage(memory, [fault(after_bytes=after_bytes, times=2)]))
    assert (SMALL, 3, 2) == (brought.data, brought.sent, len(brought.told(RequestRetried)))


async def test_bytes_received_count_what_came_twice(bring, memory):
    """What is reported as received is what came over the wire; progress is the file's."""
    memory.put(URI, SMALL)
    brought = await bring(FaultyStorage(memory, [Reset(after_bytes=150)]))
    assert (350, 200) == (brought.outcome.received_bytes, brought.told(TransferAdvanced)[-1].received_bytes)


async def test_progress_of_a_large_object_ends_at_its_size(bring, memory):
    """However often it broke, the last count is the size, and no count exceeds it."""
    faults = [Reset(nth=n, after_bytes=10 * n) for n in range(1, 6)]
    brought = await bring(FaultyStorage(memory, faults))
    counts = [event.received_bytes for event in brought.told(TransferAdvanced)]
    assert (len(LARGE), len(LARGE), len(LARGE)) == (
        counts[-1],
        max(counts),
        brought.told(TransferStarted)[0].size_bytes,
    )


async def test_outage_ends_after_the_retries(bring, memory):
    """A remote that is gone is unreachable after `retries` further tries."""
    with pytest.raises(StorageUnreachableError):
        await bring(FaultyStorage(memory, [Unreachable(times=None)]), retries=2)
    assert [] == memory.requests


async def test_g3_interrupted_download_is_resumed(bring, memory):
    """What came before the remote went away is not asked for again."""
    with pytest.raises(StorageUnreachableError):
        await bring(FaultyStorage(memory, [Unreachable(nth=4, times=None)]), retries=0, max_concurrency=1)
    memory.clear_requests()
    brought = await bring(memory)
    asked = sum((stop or len(LARGE)) - start for start, stop in ranges(memory))
    assert (LARGE, True) == (brought.data, asked <= len(LARGE) - 2 * PART)


async def test_g1_leftovers_of_another_version_are_not_used(bring, memory):
    """What an interrupted download left of the old version never gets into the new one."""
    with pytest.raises(StorageUnreachableError):
        await bring(FaultyStorage(memory, [Unreachable(nth=4, times=None)]), retries=0, max_concurrency=1)
    memory.put(URI, NEWER)
    assert NEWER == (await bring(memory)).data


# -- changes


@pytest.mark.parametrize("nth", [1, 2, 5])
@pytest.mark.parametrize("data", [NEWER, NEWER[:2500], SMALL, b""], ids=["as-large", "smaller", "small", "empty"])
async def test_g5_object_replaced_meanwhile_is_begun_again(bring, memory, nth, data):
    """The new version comes, whole, whatever its size; never a mix and no error."""
    faulty = FaultyStorage(memory, [Meanwhile(lambda: memory.put(URI, data), nth=nth, after_bytes=10)])
    brought = await bring(faulty, max_concurrency=1)
    assert data == brought.data or (nth == 5 and brought.data == LARGE)


@pytest.mark.parametrize("nth", [1, 2, 4])
async def test_g5_object_of_s3_replaced_meanwhile_is_begun_again(bring, server, s3, nth):
    """412 to the range of a part begins again with the new version."""
    server.add_faults(Swap(data=NEWER, nth=nth, after_bytes=5))
    brought = await bring(s3, max_concurrency=1)
    assert (NEWER, 1) == (brought.data, len(brought.told(TransferRestarted)))


@pytest.mark.parametrize("restarts", [0, 2])
async def test_g5_object_that_keeps_changing_is_given_up(bring, memory, restarts):
    """After `restarts` further attempts it is a `TransferError`, and nothing is published."""
    versions = iter(range(100))

    def change():
        memory.put(URI, LARGE + bytes([next(versions)]))

    with pytest.raises(TransferError, match=f"{restarts} restarts"):
        # One request at a time: parts that are all asked for before the first change are all of one version.
        await bring(FaultyStorage(memory, [Meanwhile(change, times=None)]), restarts=restarts, max_concurrency=1)
    assert [None] == await bring.cache.lookup([CacheKey(URI)])


async def test_object_that_changes_back_is_not_modified(bring, memory):
    """A restart that finds the cached version again brings nothing."""
    etag = memory.put(URI, NEWER).etag
    memory.put(URI, LARGE)
    faulty = FaultyStorage(memory, [Meanwhile(lambda: memory.put(URI, NEWER), after_bytes=10)])
    assert NotModified() == (await bring(faulty, known_etag=etag)).outcome


async def test_object_deleted_meanwhile_is_not_found(bring, memory):
    """A part of what is gone is not found; nothing is published."""
    faulty = FaultyStorage(memory, [Meanwhile(lambda: memory.delete(URI), after_bytes=10)])
    with pytest.raises(ObjectNotFoundError):
        await bring(faulty)
    assert [None] == await bring.cache.lookup([CacheKey(URI)])


# -- wrong bytes


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_g1_wrong_byte_is_noticed(bring, server, s3, data):
    """One byte that was changed on its way is an `IntegrityError`, and nothing is published."""
    server.put("bucket", "a.bin", data)
    server.add_faults(WrongBytes(nth=1 if data is SMALL else 3, at=7))
    with pytest.raises(IntegrityError):
        await bring(s3)
    assert [None] == await bring.cache.lookup([CacheKey(URI)])


async def test_g1_wrong_bytes_are_not_resumed(bring, server, s3):
    """After an `IntegrityError` the next attempt begins from nothing, and is right."""
    server.add_faults(WrongBytes(nth=3, at=7))
    with pytest.raises(IntegrityError):
        await bring(s3)
    assert LARGE == (await bring(s3)).data


async def test_pin_is_compared_with_a_large_object(bring, memory):
    """A pin of any algorithm is compared with the file on disk."""
    assert LARGE == (await bring(memory, pin=digest_chunks("sha256", [LARGE]))).data


async def test_object_whose_etag_is_missing_on_the_first_answer_comes(bring, server, s3):
    """An answer without the ETag that the others have is no reason to fail."""
    server.add_faults(NoEtag())
    assert LARGE == (await bring(s3)).data


async def test_cancelled_transfer_leaves_nothing_published(bring, memory):
    """Cancellation publishes nothing; the next attempt brings the object."""
    with anyio.CancelScope() as scope:
        await bring(FaultyStorage(memory, [Meanwhile(scope.cancel, nth=3, after_bytes=10)]))
    assert (True, [None]) == (scope.cancelled_caught, await bring.cache.lookup([CacheKey(URI)]))
    assert LARGE == (await bring(memory)).data


async def test_staged_tells_what_it_is(bring, memory):
    """Length, digest and metadata are those of the object."""
    brought = await bring(memory)
    assert isinstance(brought.outcome, Staged)
    assert (len(LARGE), digest_chunks("crc64nvme", [LARGE])) == (brought.outcome.length, brought.outcome.digest)


def test_distant_store_is_asked_for_more_parts_at_once(tmp_path: Path) -> None:
    """Each connection gives a little; a fifth one, and more, are taken when that shows."""
    data = bytes(range(256)) * 8000
    with FaultServer(faults=[Slow(times=None, bytes_per_second=200_000)]) as server:
        server.put("bucket", "a.bin", data)
        storage = S3Storage(endpoint_url=server.endpoint_url, region="us-east-1")
        brought = anyio.run(partial(Bring(tmp_path), storage, part_bytes=32 * 1024))
        assert (data, True) == (brought.data, server.max_concurrent_requests > 8)


def test_store_that_throttles_gets_fewer_requests_at_once(tmp_path: Path) -> None:
    """And the object comes all the same."""
    data = bytes(range(256)) * 4000
    slow = Slow(times=None, bytes_per_second=1_000_000)
    with FaultServer(faults=[Status(status=503, code="SlowDown", nth=2, times=4), slow]) as server:
        server.put("bucket", "a.bin", data)
        storage = S3Storage(endpoint_url=server.endpoint_url, region="us-east-1")
        brought = anyio.run(partial(Bring(tmp_path), storage, part_bytes=32 * 1024))
        assert (data, True) == (brought.data, server.max_concurrent_requests <= 5)
