"""How do many small objects get here? In a worker thread that does all of it: asks, receives, verifies, publishes.

Between an event loop and its worker threads a small object changes hands half a dozen times, and each change costs more
than the object. So one thread does everything, for many objects at once: it never waits for one answer, but for any of
them, and begins another file whenever nothing else is to be done. The interpreter runs one thread at a time, so a
second thread would cost and bring nothing; unless the file system is slow, a network's say, and could do several things
at once.

What turns out to be more than a small object is handed back: a large one with its answer, whose bytes are still to
come; one that another process is fetching, and one that has to be asked for from the event loop, as they were. The
answer keeps its place in the budget of requests until it has been dealt with.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread

from .._digests import format_crc
from .._errors import StorageError, StorageUnreachableError, ThrottledError
from .._threads import known_as_asyncio, to_its_end
from ..ports import (
    Busy,
    CacheEntry,
    Claim,
    NotModified,
    ReadRequest,
    ReadResponse,
    StorageSession,
    ThreadedAnswer,
    ThreadedCache,
    ThreadedRead,
    ThreadedReads,
    ThreadedSession,
)
from .requests import Requests
from .resolve import Target
from .transfer import SMALL_BYTES, Staged, crc_here, crc_to_compute
from .verify import verify_here

_FIRST_REQUESTS = 4  # in flight, before it shows that more are of use
_RECOVERY = 16  # files that have come are one request more in flight, after the remote has throttled
_TURN_SECONDS = 0.05  # then others that want the budget have their turn
_SETTLE_SECONDS = 0.01  # so long those who wait for a file may not hear of it, while there are others to do
_LOOK_SECONDS = 0.25  # between looks at what is overdue
_PATIENCE_SECONDS = 0.001  # with nothing to do for longer, there could be more requests in flight
_SLOW_SECONDS = 0.005  # to publish a file takes a local disk a tenth of that
_MOST_WORKERS = 16
_MOST_SOCKETS = 500 if sys.platform == "win32" else sys.maxsize  # that a selector takes there
_READS_SECONDS = 60.0  # so long credentials are used that were good when they were taken


@dataclass(frozen=True, slots=True)
class Published:
    """It was small, and is in the cache."""

    entry: CacheEntry
    received_bytes: int


@dataclass(frozen=True, slots=True)
class HandedBack:
    """The file is to be fetched the ordinary way.

    Args:
        answer: the answer to the first request, if there is one worth going on with.
        failure: what the first try failed with, if it did.
        claim: the claim on the file, if the lane has taken it.
    """

    answer: ThreadedAnswer | None = None
    failure: StorageUnreachableError | ThrottledError | None = None
    claim: Claim | None = None


Outcome = Published | NotModified | HandedBack


class _Errand:
    """One file on its way through the lane."""

    __slots__ = ("claim", "entry", "error", "future", "must_claim", "outcome", "read", "reads", "request", "target")

    def __init__(
        self,
        target: Target,
        entry: CacheEntry | None,
        request: ReadRequest,
        reads: ThreadedReads,
        future: asyncio.Future[None],
        *,
        must_claim: bool,
    ) -> None:
        self.target = target
        self.entry = entry
        self.request = request
        self.reads = reads
        self.future = future
        self.must_claim = must_claim
        self.claim: Claim | None = None
        self.read: ThreadedRead | None = None
        self.outcome: Outcome | None = None
        self.error: Exception | None = None


class Lane:
    """The files of one operation that worker threads bring.

    Args:
        session: where the objects are.
        cache: where they go.
        requests: the operation's requests.
    """

    def __init__(self, session: ThreadedSession, cache: ThreadedCache, requests: Requests) -> None:
        self.cache = cache
        self.requests = requests
        self.waiting: deque[_Errand] = deque()
        self.is_interrupted = False
        self._session = session
        self._errands: set[_Errand] = set()
        self._reads: dict[str, tuple[float, ThreadedReads | None]] = {}
        self._lock = anyio.Lock()
        self._workers: set[_Worker] = set()
        self._threads = anyio.CapacityLimiter(_MOST_WORKERS)
        self._limit = min(requests.config.max_concurrency, _MOST_SOCKETS)
        self._most = self._limit
        self._come = 0
        self._is_broken = False
        self._tasks = anyio.create_task_group()

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            return await self._tasks.__aexit__(kind, error, traceback)
        finally:
            # Give back what was got for those who were cancelled before they learnt of it.
            unknown = [errand.outcome for errand in self._errands if isinstance(errand.outcome, HandedBack)]
            for outcome in unknown:
                if outcome.answer is not None:
                    outcome.answer.close()
            if claims := [outcome.claim for outcome in unknown if outcome.claim is not None]:
                await to_its_end(anyio.to_thread.run_sync(self._release, claims))

    def _release(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            self.cache.release_here(claim)

    async def fetch(
        self, target: Target, entry: CacheEntry | None, known_etag: str | None, *, must_claim: bool
    ) -> Outcome:
        """Bring a file the short way, as far as that goes.

        Args:
            target: the file.
            entry: its cached copy, if there is one; when it is claimed, and another one is there, it is handed back.
            known_etag: the version that is cached; None to bring the bytes in any case.
            must_claim: whether the file is to be claimed before it is asked for.

        Raises:
            DatacachalogError: the remote refused, the bytes are wrong, or the cache can't be written.
        """
        reads = await self._reads_of(target.key.uri)
        if reads is None or self._is_broken:
            return HandedBack()
        key = target.key
        request = ReadRequest(
            uri=key.uri,
            stop=self.requests.config.part_bytes,
            if_none_match=known_etag,
            version_id=key.version_id,
        )
        errand = _Errand(target, entry, request, reads, self.loop.create_future(), must_claim=must_claim)
        self._errands.add(errand)
        self.waiting.append(errand)
        self._employ()
        await errand.future
        self._errands.discard(errand)
        if errand.error is not None:
            raise errand.error
        assert errand.outcome is not None  # noqa: S101  # a worker sets one of the two
        return errand.outcome

    async def _reads_of(self, uri: str) -> ThreadedReads | None:
        place = uri[: uri.find("/", uri.find("://") + 3) + 1]
        now = self.loop.time()
        known = self._reads.get(place)
        if known is not None and (known[1] is None or now - known[0] < _READS_SECONDS):
            return known[1]
        async with self._lock:
            known = self._reads.get(place)
            if known is not None and (known[1] is None or now - known[0] < _READS_SECONDS):
                return known[1]
            try:
                reads = await self._session.threaded(uri)
            except StorageError:  # the ordinary way says it, after the retries
                self._reads[place] = now, None
                return None
            if reads is not None:
                self._reads[place] = now, reads
            return reads

    def forget_ways(self) -> None:
        """Ask anew for the ways to the remote, or the credentials: they are not what they were. In any thread."""
        self._reads = {}

    # -- workers

    def _employ(self) -> None:
        """Have somebody do what waits."""
        if not self._workers:
            self.employ_another()
        for worker in self._workers:
            worker.wake()

    def employ_another(self) -> None:
        """Start one more worker."""
        if self.waiting and len(self._workers) < _MOST_WORKERS:
            worker = _Worker(self)
            self._workers.add(worker)
            with known_as_asyncio():
                self._tasks.start_soon(self._run, worker)

    async def _run(self, worker: _Worker) -> None:
        places = worker.places
        try:
            await places.take()
            worker.granted = 1 + places.take_more(min(self._most, _FIRST_REQUESTS) - 1)
            with worker:
                await to_its_end(
                    anyio.to_thread.run_sync(worker.work, limiter=self._threads), interrupt=self._interrupt
                )
        except (OSError, ValueError):  # no descriptors left, say: what isn't done is done the ordinary way
            self._is_broken = True
            while self.waiting:
                errand = self.waiting.popleft()
                errand.outcome = HandedBack()
                worker.done.append(errand)
        finally:
            self._workers.discard(worker)
            self._take_what_is_done(worker)
            places.give_back(places.held)
        if self.waiting:
            self._employ()

    def _interrupt(self) -> None:
        self.is_interrupted = True
        for worker in self._workers:
            worker.wake()

    def settle(self, worker: _Worker) -> None:
        """Tell those who wait of what a worker has done, and let it have as many requests in flight as there may be."""
        worker.is_settling = False
        self._take_what_is_done(worker)
        places, wanted = worker.places, worker.places.wanted
        with worker.mutex:
            if wanted:
                has_had_its_turn = self.loop.time() - worker.began_at > _TURN_SECONDS
                worker.granted = max(0 if has_had_its_turn else 1, worker.granted - wanted)
                worker.asks_again_at = time.monotonic() + _TURN_SECONDS
            elif not self.waiting:
                worker.granted = max(1, worker.in_flight)
            elif worker.wants_more:
                more = places.take_more(max(0, min(self._most, 2 * worker.granted) - places.held))
                worker.granted += more
                worker.asks_again_at = 0.0 if more else time.monotonic() + _TURN_SECONDS
            worker.wants_more = False
            worker.granted = min(worker.granted, self._most, places.held)
            spare = places.held - max(worker.granted, worker.in_flight)
            may_begin = self.waiting and worker.in_flight < worker.granted
        places.give_back(max(0, spare))
        if may_begin:
            worker.wake()

    def _take_what_is_done(self, worker: _Worker) -> None:
        failures = 0
        finished = len(worker.done)
        while worker.done:
            errand = worker.done.popleft()
            self.requests.sent += errand.read is not None
            outcome = errand.outcome
            if isinstance(outcome, HandedBack):
                failures += outcome.failure is not None
                if isinstance(outcome.failure, StorageUnreachableError):
                    self.forget_ways()  # another address may answer
                if outcome.answer is not None:
                    self._lend(worker, errand, outcome, outcome.answer)
            if not errand.future.done():
                errand.future.set_result(None)
        if failures:
            self._most = max(1, self._most // 2)
        else:
            self._come += finished
            more, self._come = divmod(self._come, _RECOVERY)
            self._most = min(self._limit, self._most + more)

    def _lend(self, worker: _Worker, errand: _Errand, outcome: HandedBack, answer: ThreadedAnswer) -> None:
        """Let an answer have its place until it has been dealt with."""
        places = worker.places.split_off()
        with worker.mutex:
            worker.granted -= 1
            worker.in_flight -= 1

        def close() -> None:
            answer.close()
            places.give_back(places.held)

        if errand.future.done():  # nobody wants it
            close()
            errand.outcome = replace(outcome, answer=None)
        else:
            errand.outcome = replace(outcome, answer=replace(answer, close=close))


class _Worker:
    """A thread that brings files, many at once.

    `places` and `granted`, how many requests may be in flight, are seen to on the event loop.
    """

    def __init__(self, lane: Lane) -> None:
        self.places = lane.requests.places()
        self.mutex = threading.Lock()
        self.granted = 0
        self.in_flight = 0
        self.done: deque[_Errand] = deque()
        self.is_settling = False
        self.wants_more = False
        self.asks_again_at = 0.0
        self.began_at = lane.loop.time()
        self._lane = lane
        self._is_waiting = False
        self._settled_at = 0.0
        self._looked_at = 0.0
        self._disk_seconds = 0.0
        self._reads: dict[int, _Errand] = {}

    def __enter__(self) -> Self:
        self._alarm, self._clock = socket.socketpair()
        self._alarm.settimeout(0)
        self._clock.settimeout(0)
        return self

    def __exit__(self, *_: object) -> None:
        self._alarm.close()
        self._clock.close()
        self._is_waiting = False

    def wake(self) -> None:
        """Have it look what there is to do. On the event loop."""
        if self._is_waiting:
            self._is_waiting = False
            with suppress(BlockingIOError):  # then it wakes anyway
                self._clock.send(b"!")

    # -- in a thread

    def work(self) -> None:
        """Run errands until none is left."""
        lane = self._lane
        with lane.cache.many_here(), selectors.DefaultSelector() as selector:
            selector.register(self._alarm, selectors.EVENT_READ)
            try:
                while not lane.is_interrupted:
                    while not lane.is_interrupted and self._begins_another(selector):
                        pass
                    if not self._reads:
                        break
                    crc_here(lane.requests.usual_crc)  # read from disk the first time, while answers are on their way
                    for key, _ in self._wait(selector):
                        if key.fileobj is self._alarm:
                            self._alarm.recv(64)
                        else:
                            self._go_on(selector, self._reads[key.fd])
                            self._begins_another(selector)  # it is on its way while the next answer is dealt with
                    self._look_at_the_clock(selector)
            finally:
                for errand in list(self._reads.values()):
                    self._end(selector, errand)

    def _begins_another(self, selector: selectors.BaseSelector) -> bool:
        lane = self._lane
        if not lane.waiting:
            return False
        with self.mutex:
            if self.in_flight >= self.granted:
                return False
            self.in_flight += 1
        try:
            errand = lane.waiting.popleft()
        except IndexError:  # another worker was faster
            with self.mutex:
                self.in_flight -= 1
            return False
        self._go_on(selector, errand)
        return True

    def _wait(self, selector: selectors.BaseSelector) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for any of the answers, or for the event loop to say that there is more to do."""
        might_do_more = bool(self._lane.waiting) and time.monotonic() >= self.asks_again_at
        self._is_waiting = True
        if self._lane.is_interrupted or (self._lane.waiting and self.in_flight < self.granted):
            self._is_waiting = False
            return []
        ready = selector.select(_PATIENCE_SECONDS if self.done or might_do_more else _LOOK_SECONDS)
        self._is_waiting = False
        if not ready and (self.done or might_do_more):
            self.wants_more = might_do_more
            self._settle()
        return ready

    def _settle(self) -> None:
        self._settled_at = time.monotonic()
        if not self.is_settling:
            self.is_settling = True
            self._lane.loop.call_soon_threadsafe(self._lane.settle, self)

    def _look_at_the_clock(self, selector: selectors.BaseSelector) -> None:
        now = time.monotonic()
        if self.done and (now - self._settled_at > _SETTLE_SECONDS or not self._lane.waiting):
            self._settle()
        if now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        for errand in [errand for errand in self._reads.values() if errand.read is not None and errand.read.due < now]:
            self._go_on(selector, errand, is_overdue=True)

    def _go_on(self, selector: selectors.BaseSelector, errand: _Errand, *, is_overdue: bool = False) -> None:
        """Do what can be done for a file without waiting for the remote."""
        read = errand.read
        try:
            if read is None:
                is_over = self._begin(errand)
            else:
                # It may come to another socket that has the same number.
                selector.unregister(read.fileno())
                del self._reads[read.fileno()]
                if is_overdue:
                    read.give_up()
                is_over = self._advance(errand, read)
        except (StorageUnreachableError, ThrottledError) as failure:
            errand.outcome, is_over = HandedBack(failure=failure, claim=errand.claim), True
        except Exception as error:  # noqa: BLE001  # handed to whoever waits for the file
            errand.error, is_over = error, True
        if is_over or errand.read is None:
            self._finish(errand)
        else:
            self._reads[errand.read.fileno()] = errand  # before it is registered: `work` ends what is in there
            selector.register(errand.read.fileno(), errand.read.waits_for)

    def _finish(self, errand: _Errand) -> None:
        outcome = errand.outcome
        if errand.claim is not None and not (isinstance(outcome, HandedBack) and outcome.claim is not None):
            self._lane.cache.release_here(errand.claim)
        if not (isinstance(outcome, HandedBack) and outcome.answer is not None):
            with self.mutex:
                self.in_flight -= 1
        self.done.append(errand)

    def _end(self, selector: selectors.BaseSelector, errand: _Errand) -> None:
        """Leave a file as it was."""
        assert errand.read is not None  # noqa: S101  # it is waited for
        with suppress(KeyError):  # that is what has failed
            selector.unregister(errand.read.fileno())
        errand.read.close()
        errand.outcome = HandedBack()
        self._finish(errand)

    def _begin(self, errand: _Errand) -> bool:
        """Claim a file and ask for it; whether that was all there was to do."""
        if errand.must_claim:
            claimed = self._lane.cache.claim_here(errand.target.key)
            if isinstance(claimed, Busy):
                errand.outcome = HandedBack()
                return True
            errand.claim = claimed
            if claimed.resumable_etag is not None or _is_news(claimed.entry, errand.entry):
                errand.outcome = HandedBack(claim=claimed)
                return True
        errand.read = errand.reads.begin(errand.request, SMALL_BYTES)
        return self._advance(errand, errand.read)

    def _advance(self, errand: _Errand, read: ThreadedRead) -> bool:
        answer = read.advance()
        if answer is None:
            return False
        response = answer.outcome
        if response is None:
            self._lane.forget_ways()
            errand.outcome = HandedBack(claim=errand.claim)
        elif isinstance(response, NotModified):
            answer.close()
            errand.outcome = response
        elif (
            isinstance(response, ReadResponse)
            and response.start == 0
            and response.stop == response.metadata.size <= SMALL_BYTES
            and answer.content is not None
        ):
            answer.close()
            errand.outcome = self._publish(errand, response, answer.content)
        else:
            errand.outcome = HandedBack(answer, claim=errand.claim)
        return True

    def _publish(self, errand: _Errand, response: ReadResponse, pieces: tuple[bytes, ...]) -> Published:
        algorithm = crc_to_compute(response.metadata, errand.target, self._lane.requests)
        update = crc_here(algorithm).update
        crc = length = 0
        for piece in pieces:
            crc = update(piece, crc)
            length += len(piece)
        staged = Staged(response.metadata, pieces, length, format_crc(algorithm, crc), length)
        began = time.monotonic()
        entry = self._lane.cache.publish_here(verify_here(staged, errand.target))
        self._take_note_of_disk(time.monotonic() - began)
        return Published(entry, length)

    def _take_note_of_disk(self, seconds: float) -> None:
        """Have another worker help where the file system takes its time for everything, and not just now and then."""
        self._disk_seconds += (min(seconds, _SLOW_SECONDS * 4) - self._disk_seconds) / 8
        if self._disk_seconds > _SLOW_SECONDS and self._lane.waiting:
            self._disk_seconds = 0.0
            self._lane.loop.call_soon_threadsafe(self._lane.employ_another)


def _is_news(entry: CacheEntry | None, known: CacheEntry | None) -> bool:
    """Whether somebody has published another copy than the one that was known."""
    return entry is not None and (known is None or entry.metadata != known.metadata)


def lane_of(session: StorageSession, cache: object, requests: Requests) -> Lane | None:
    """Give a lane between these two, if both can be used from worker threads."""
    if isinstance(session, ThreadedSession) and isinstance(cache, ThreadedCache):
        return Lane(session, cache, requests)
    return None
