"""How do many small objects get here? In worker threads, each in one go: asked for, received, verified, published.

Between an event loop and its worker threads a small object changes hands half a dozen times, and each change costs more
than the object. So a thread does all of it. The interpreter runs one thread at a time, so more of them are of use only
while the others wait for the remote: there are as many as that takes. On a busy machine one waits for the
processor, too, which looks the same; so more workers than before are kept only if more gets done.

What turns out to be more than a small object is handed back: a large one with its answer, whose bytes are still to
come; one that another process is fetching, and one that has to be asked for from the event loop, as they were. A worker
keeps its place in the budget of requests until a handed-back answer has been dealt with.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread

from .._digests import crc_functions, format_crc
from .._errors import StorageError, StorageUnreachableError, ThrottledError
from .._threads import forks_held_back, known_as_asyncio, to_its_end
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
    ThreadedReads,
    ThreadedSession,
)
from .requests import Requests
from .resolve import Target
from .transfer import SMALL_BYTES, Staged, crc_to_compute
from .verify import verify_here

_FIRST_WORKERS = 4
_MOST_GROWTH = 8  # times as many workers in one step, at the most
_TURN_SECONDS = 0.05  # then others that want the budget have their turn
_TRIAL_SECONDS = 0.1  # then it shows whether more workers get more done
_LEAST_GROWTH = 1.15  # that is: so many times as much
_PATIENCE_SECONDS = 0.002  # waits that are shorter than this in sum are no reason for more workers
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

    __slots__ = ("entry", "error", "future", "known_etag", "must_claim", "outcome", "reads", "request", "target")

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
        self.outcome: Outcome | None = None
        self.error: Exception | None = None


@dataclass(slots=True)
class _Trial:
    """More workers than before, to see whether they get more done: files a second."""

    workers_before: int
    rate_before: float
    finished: int
    ends_at: float


class Lane:
    """The worker threads of one operation.

    Args:
        session: where the objects are.
        cache: where they go.
        requests: the operation's requests.
    """

    def __init__(self, session: ThreadedSession, cache: ThreadedCache, requests: Requests) -> None:
        self._session = session
        self._cache = cache
        self._requests = requests
        self._waiting: deque[_Errand] = deque()
        self._done: deque[_Errand] = deque()
        self._errands: set[_Errand] = set()
        self._is_delivering = False
        self._reads: dict[str, tuple[float, ThreadedReads | None]] = {}
        self._lock = anyio.Lock()
        self._threads = anyio.CapacityLimiter(requests.config.max_concurrency)
        self._wanted = min(_FIRST_WORKERS, requests.config.max_concurrency)
        self._working = 0
        self._finished = 0
        self._trial: _Trial | None = None
        self._is_interrupted = False
        self._tasks = anyio.create_task_group()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
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
            if self._errands:
                await to_its_end(anyio.to_thread.run_sync(self._clear))

    def _clear(self) -> None:
        """Give back what was got for those who were cancelled before they learnt of it. In a thread."""
        for errand in self._errands:
            outcome, errand.outcome = errand.outcome, None
            if isinstance(outcome, HandedBack):
                if outcome.answer is not None:
                    outcome.answer.close()
                if outcome.claim is not None:
                    self._cache.release_here(outcome.claim)

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
        if reads is None:
            return HandedBack()
        key = target.key
        request = ReadRequest(
            uri=key.uri,
            stop=self._requests.config.part_bytes,
            if_none_match=known_etag,
            version_id=key.version_id,
        )
        errand = _Errand(target, entry, request, reads, self._loop.create_future(), must_claim=must_claim)
        self._errands.add(errand)
        self._waiting.append(errand)
        self._employ()
        await errand.future
        self._errands.discard(errand)
        if errand.error is not None:
            raise errand.error
        assert errand.outcome is not None  # noqa: S101  # a worker sets one of the two
        return errand.outcome

    async def _reads_of(self, uri: str) -> ThreadedReads | None:
        place = uri[: uri.find("/", uri.find("://") + 3) + 1]
        now = self._loop.time()
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

    # -- workers

    def _employ(self) -> None:
        """Start workers for what waits, as many as are wanted."""
        for _ in range(min(self._wanted - self._working, len(self._waiting))):
            self._working += 1
            self._tasks.start_soon(self._worker)

    async def _worker(self) -> None:
        is_working = True
        try:
            async with self._requests.place():
                errand = await to_its_end(
                    anyio.to_thread.run_sync(self._work, limiter=self._threads), interrupt=self._interrupt
                )
                if errand is not None:  # its answer is with the one who waits for it, and so is this place
                    self._working, is_working = self._working - 1, False
                    self._employ()
                    await self._hand_back(errand)
        finally:
            self._working -= is_working
        self._employ()

    async def _hand_back(self, errand: _Errand) -> None:
        """Give an answer to the one who waits for it, and wait until it has been dealt with."""
        outcome = errand.outcome
        if errand.future.done() or not isinstance(outcome, HandedBack) or outcome.answer is None:
            return
        answer, finished = outcome.answer, asyncio.Event()

        def close() -> None:
            answer.close()
            finished.set()

        errand.outcome = replace(outcome, answer=replace(answer, close=close))
        errand.future.set_result(None)
        await finished.wait()

    def _interrupt(self) -> None:
        self._is_interrupted = True
        for _, reads in self._reads.values():
            if reads is not None:
                reads.interrupt()

    def _deliver(self) -> None:
        self._is_delivering = False
        while self._done:
            errand = self._done.popleft()
            self._finished += 1
            if not errand.future.done():
                errand.future.set_result(None)
            if isinstance(errand.outcome, HandedBack) and errand.outcome.failure is not None:
                self._wanted = max(1, self._wanted // 2)

    # -- in a thread

    def _work(self) -> _Errand | None:
        """Run errands; gives the one that is handed back with an answer."""
        turn_ends = time.monotonic() + _TURN_SECONDS
        waited, worked_before = 0.0, time.thread_time()
        while not self._is_interrupted:
            try:
                errand = self._waiting.popleft()
            except IndexError:
                break
            waited += self._run(errand)
            if isinstance(errand.outcome, HandedBack) and errand.outcome.answer is not None:
                return errand
            self._done.append(errand)
            if not self._is_delivering:
                self._is_delivering = True
                self._loop.call_soon_threadsafe(self._deliver)
            # Where the interpreter is busy, one waits for the other workers too, for each as long as one works oneself.
            # What is more than that the remote has taken, and others could have worked meanwhile.
            worked = max(time.thread_time() - worked_before, 0.0001)
            if waited > max(_PATIENCE_SECONDS, 1.5 * self._wanted * worked):
                self._loop.call_soon_threadsafe(self._employ_more, self._wanted, 1 + math.ceil(waited / worked))
                waited, worked_before = 0.0, time.thread_time()
            if time.monotonic() > turn_ends:
                break
        return None

    def _employ_more(self, seen: int, useful: int) -> None:
        """Employ as many as are of use; several who say so at once say it once."""
        now, trial = self._loop.time(), self._trial
        if seen != self._wanted or (trial is not None and now < trial.ends_at):
            return
        rate = 0.0
        if trial is not None:
            rate = (self._finished - trial.finished) / (now - trial.ends_at + _TRIAL_SECONDS)
            if rate < trial.rate_before * _LEAST_GROWTH:
                self._wanted, trial.ends_at = trial.workers_before, math.inf
                return
        self._trial = _Trial(seen, rate, self._finished, now + _TRIAL_SECONDS)
        self._wanted = min(useful, _MOST_GROWTH * seen, self._requests.config.max_concurrency)
        with known_as_asyncio():
            self._employ()

    def _run(self, errand: _Errand) -> float:
        """Do all that there is to do for a file; returns the seconds of waiting for the remote."""
        claim: Claim | None = None
        answer: ThreadedAnswer | None = None
        try:
            if errand.must_claim:
                claimed = self._cache.claim_here(errand.target.key)
                if isinstance(claimed, Busy):
                    errand.outcome = HandedBack()
                    return 0.0
                claim = claimed
                if claim.resumable_etag is not None or _is_news(claim.entry, errand.entry):
                    errand.outcome = HandedBack(claim=claim)
                    return 0.0
            self._requests.sent += 1
            answer = errand.reads.ask(errand.request)
            if answer is None:
                self._reads = {}  # the way, or the credentials, are not what they were
                errand.outcome = HandedBack(claim=claim)
            else:
                errand.outcome = self._outcome(errand, answer, claim)
        except (StorageUnreachableError, ThrottledError) as failure:
            errand.outcome = HandedBack(failure=failure, claim=claim)
        except Exception as error:  # noqa: BLE001  # handed to whoever waits for the file
            errand.error = error
        finally:
            handed = errand.outcome if isinstance(errand.outcome, HandedBack) else HandedBack()
            if answer is not None and handed.answer is None:
                answer.close()
            if claim is not None and handed.claim is None:
                self._cache.release_here(claim)
        return 0.0 if answer is None else answer.wait_seconds

    def _outcome(self, errand: _Errand, answer: ThreadedAnswer, claim: Claim | None) -> Outcome:
        response = answer.outcome
        if isinstance(response, NotModified):
            return response
        is_small = (
            isinstance(response, ReadResponse)
            and response.start == 0
            and response.stop == response.metadata.size <= SMALL_BYTES
        )
        if not is_small or not isinstance(response, ReadResponse):
            return HandedBack(answer, claim=claim)
        algorithm = crc_to_compute(response.metadata, errand.target, self._requests)
        with forks_held_back():  # the first time it is imported
            update = crc_functions(algorithm).update
        crc = length = 0
        pieces: list[bytes] = []

        def keep(piece: memoryview) -> None:
            pieces.append(bytes(piece))

        answer.take(keep)
        for piece in pieces:
            crc = update(piece, crc)
            length += len(piece)
        staged = Staged(response.metadata, tuple(pieces), length, format_crc(algorithm, crc), length)
        return Published(self._cache.publish_here(verify_here(staged, errand.target)), length)


def _is_news(entry: CacheEntry | None, known: CacheEntry | None) -> bool:
    """Whether somebody has published another copy than the one that was known."""
    return entry is not None and (known is None or entry.metadata != known.metadata)


def lane_of(session: StorageSession, cache: object, requests: Requests) -> Lane | None:
    """Give a lane between these two, if both can be used from worker threads."""
    if isinstance(session, ThreadedSession) and isinstance(cache, ThreadedCache):
        return Lane(session, cache, requests)
    return None
