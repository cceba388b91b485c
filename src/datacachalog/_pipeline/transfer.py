"""How do the bytes of one version of an object get here? All of them from that version, or none.

The first request asks for the first part: it brings a small object whole, or the first part of a large one together
with its size and ETag. The other parts follow in parallel, each demanding that very ETag, so that parts of two versions
can't meet. When the object has changed, everything received is dropped and the new version is begun, a bounded number
of times. Without a (strong) ETag nothing could be demanded of a second request: then the object comes in one answer.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, assert_never

import anyio
import anyio.lowlevel
import anyio.to_thread

from .._digests import CrcAlgorithm, CrcFunctions, crc_algorithm_of, crc_functions, format_crc
from .._errors import StorageError, StorageUnreachableError, ThrottledError, TransferError
from .._events import TransferAdvanced, TransferRestarted, TransferStarted
from .._models import FileMetadata
from .._threads import forks_held_back
from ..ports import (
    CacheKey,
    NotModified,
    PartWriter,
    RangeNotSatisfiable,
    ReadOutcome,
    ReadRequest,
    ReadResponse,
    Segment,
    Staging,
    ThreadedAnswer,
    VersionChanged,
    VersionChangedError,
)
from .flight import Flight
from .plan import missing_ranges
from .requests import Requests, Retries
from .resolve import Target
from .uploaded_parts import likely_part_bytes
from .width import Width

_WRITE_BYTES = 1024 * 1024
"""How much is gathered before it is written: one worker-thread call a megabyte."""

SMALL_BYTES = 1024 * 1024
"""The largest object that is kept in memory until it is published, so memory is bounded by requests in flight times
this."""


_CHECKSUM_SECONDS = 1.0
"""How long is waited for the checksum that the remote has stored before the parts are asked for. Who knows it computes
the same one as they come; who learns of it later may have to read the file again."""

_PROGRESS_SECONDS = 0.1
_TOO_MANY_BYTES = "the remote sent more bytes than it had announced"


class Stager(Protocol):
    """What stages large objects: a cache, say."""

    def stage(
        self, key: CacheKey, metadata: FileMetadata, crc_algorithm: CrcAlgorithm
    ) -> AbstractAsyncContextManager[Staging]:
        """Begin a file of that version, or go on with one that was begun: see `CachePort.stage`."""
        ...


@dataclass(frozen=True, slots=True)
class Staged:
    """The bytes of one version, received and not yet verified.

    Args:
        metadata: the version that the remote says they are.
        content: in memory, or staged on disk.
        length: how many were received.
        digest: their CRC, computed as they came.
        received_bytes: how many came over the wire for it, repeated ones included.
        verified_by: what they were compared with already.
        segments: the pieces in which they came, in order, with the same CRC of each; only of what is on disk.
        upload_part_bytes: how large the parts probably were that the object was uploaded in, where that was asked.
        caveat: what the storage can't promise of them (`ReadResponse.caveat`).
    """

    metadata: FileMetadata
    content: tuple[bytes, ...] | Staging
    length: int
    digest: str
    received_bytes: int
    verified_by: str | None = None
    segments: Sequence[Segment] = ()
    upload_part_bytes: int | None = None
    caveat: str = ""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A large object has changed, and another process is fetching the new version already, or has just done so."""


class NotThatVersionError(VersionChangedError):
    """The object hasn't the ETag that it must have: beginning again would not help."""


class _RangesIgnoredError(VersionChangedError):
    """The remote gave ranges before and now the whole object."""


class _BrokenError(VersionChangedError):
    """The connection broke, and without a strong ETag nothing says that the rest would be of the same version."""

    def __init__(self, error: StorageUnreachableError | ThrottledError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Begun:
    """What was done before the transfer began.

    Args:
        answer: to the first request, its bytes still to come.
        failure: of the first request.
    """

    answer: ThreadedAnswer | None = None
    failure: StorageUnreachableError | ThrottledError | None = None


@asynccontextmanager
async def transfer(
    target: Target, known_etag: str | None, requests: Requests, cache: Stager, flight: Flight, begun: Begun
) -> AsyncIterator[Staged | NotModified | Elsewhere]:
    """Bring the newest version of an object; `NotModified` if that is the known one.

    What an earlier attempt has left of the version is taken over, and only the rest is asked for. What is staged and
    not published when the context is left stays for a later attempt. Cancellation closes the connections.

    Args:
        target: the object.
        known_etag: the version that is cached; None to bring the bytes in any case.
        requests: the way to the remote.
        cache: where large objects are staged.
        flight: the claim on the file. It need not be held for what fits in memory; for a larger object it is taken
            before anything is staged.
        begun: what was done already. An answer is closed in any case.

    Raises:
        NotThatVersionError: the object hasn't the ETag that the target demands.
        TransferError: the object kept changing.
        StorageError: the remote refused, or did not answer after the retries.
        CacheError: the bytes couldn't be staged.
    """
    received_bytes = restarts = 0
    retries = Retries(requests, target.dataset, target.key.uri)
    is_ranged = True
    while True:
        try:
            async with AsyncExitStack() as stack:
                download = _Download(target, requests, cache, flight, stack, received_bytes)
                try:
                    this, begun = begun, Begun()
                    outcome = await download.run(known_etag, this, is_ranged=is_ranged)
                finally:
                    received_bytes = download.received_bytes
                yield outcome
                return
        except _BrokenError as broken:
            await retries.wait(broken.error, received_bytes)
        except NotThatVersionError:
            raise
        except VersionChangedError as change:  # it has left the staged file's context too, so that file is gone
            restarts += 1
            reason = str(change) or "the object was replaced while it was downloaded"
            is_ranged = is_ranged and not isinstance(change, _RangesIgnoredError)
            if restarts > requests.config.restarts:
                raise TransferError(
                    target.key.uri,
                    f"the object keeps changing: given up after {requests.config.restarts} restarts ({reason})",
                    hint="a cached copy is untouched; fetch again when its writers are done",
                ) from None
            requests.notify(
                TransferRestarted(
                    operation=requests.operation,
                    dataset=target.dataset,
                    uri=target.key.uri,
                    restart=restarts,
                    reason=reason,
                )
            )


@dataclass(slots=True)
class _Part:
    """A range of the object and how far it is: bytes `start` to `position` are written, `crc` is theirs.

    `cpu_seconds` is the processor time that a thread has spent on taking them, `counted_cpu_seconds` what is counted.
    """

    start: int
    stop: int
    position: int
    crc: int = 0
    cpu_seconds: float = 0.0
    counted_cpu_seconds: float = 0.0

    @classmethod
    def of_segment(cls, segment: Segment) -> _Part:
        """Give a part that is there already."""
        return cls(segment.start, segment.stop, segment.stop, segment.crc)

    @property
    def segment(self) -> Segment:
        """What is there."""
        return Segment(self.start, self.position, self.crc)


@dataclass(slots=True)
class _Checksum:
    """What is known of the checksum that the remote has stored: in `metadata`, once `is_asked`."""

    metadata: FileMetadata
    is_asked: bool
    upload_part_bytes: int | None = None


class _Download:
    """One attempt at one version. Its task may hold one request; each part in flight has a task of its own."""

    def __init__(
        self,
        target: Target,
        requests: Requests,
        cache: Stager,
        flight: Flight,
        stack: AsyncExitStack,
        received_bytes: int,
    ) -> None:
        self.received_bytes = received_bytes
        self._flight = flight
        self._target = target
        self._requests = requests
        self._cache = cache
        self._stack = stack
        self._written_bytes = 0
        self._cpu_seconds = 0.0
        self._is_pinnable = False
        self._writers: dict[int, tuple[_Part, PartWriter]] = {}

    async def run(self, known_etag: str | None, begun: Begun, *, is_ranged: bool) -> Staged | NotModified | Elsewhere:
        """Ask for the first part; then do what its answer calls for.

        Raises:
            VersionChangedError: what was received is of no use any more.
        """
        key, config = self._target.key, self._requests.config
        stop = config.part_bytes if is_ranged else None
        request = ReadRequest(
            uri=key.uri,
            stop=stop,
            if_match=self._target.if_match,
            if_none_match=known_etag,
            version_id=key.version_id,
        )
        async with AsyncExitStack() as connection:

            async def ask() -> Staged | NotModified | ReadResponse | None:
                async with AsyncExitStack() as attempt:
                    outcome = await attempt.enter_async_context(self._requests.read(request))
                    return await self._take_first(request, outcome, attempt, connection)

            first: Staged | NotModified | ReadResponse | None = None
            if begun.answer is not None:
                async with AsyncExitStack() as attempt:
                    attempt.callback(begun.answer.close)
                    assert begun.answer.outcome is not None  # noqa: S101  # what has none is asked for anew
                    first = await self._take_first(request, begun.answer.outcome, attempt, connection)
            elif is_ranged and begun.failure is None:
                first = await self._resume(connection)
            if first is None and begun.answer is None:
                first = await self._requests.retried(self._target.dataset, key.uri, ask, begun.failure)
            if first is None:
                request = replace(request, stop=None)
                first = await self._requests.retried(self._target.dataset, key.uri, ask)
            if first is None:
                raise StorageError(key.uri, "the remote answers a request for the whole object with a part of it")
            if isinstance(first, ReadResponse):
                return await self._receive_on_disk(first, connection)
            return first

    async def _resume(self, connection: AsyncExitStack) -> ReadResponse | None:
        """Ask for what an earlier attempt lacks, of the very version that it was at; None if there is no such thing."""
        claim, config = self._flight.claim, self._requests.config
        if claim.resumable_etag is None or claim.missing_start >= claim.missing_stop:
            return None
        if self._target.if_match not in (None, claim.resumable_etag):
            return None
        request = ReadRequest(
            uri=claim.key.uri,
            start=claim.missing_start,
            stop=min(claim.missing_stop, claim.missing_start + config.part_bytes),
            if_match=claim.resumable_etag,
            version_id=claim.key.version_id,
        )

        async def ask() -> ReadResponse | None:
            async with AsyncExitStack() as attempt:
                outcome = await attempt.enter_async_context(self._requests.read(request))
                if not isinstance(outcome, ReadResponse) or outcome.metadata.etag != claim.resumable_etag:
                    return None
                if outcome.start != request.start or not outcome.is_pinnable:
                    return None
                self._is_pinnable = True
                connection.push_async_exit(attempt.pop_all())
                return outcome

        response = await self._requests.retried(self._target.dataset, claim.key.uri, ask)
        if response is not None:
            self._notify_started(response.metadata)
        return response

    async def _take_first(
        self, request: ReadRequest, outcome: ReadOutcome, attempt: AsyncExitStack, connection: AsyncExitStack
    ) -> Staged | NotModified | ReadResponse | None:
        """See what the first answer brings, and take a small object whole.

        A larger one's answer is given back with its connection still open: what `attempt` closes, `connection` keeps.
        None means that the object has to be asked for without a range: it is empty, so that it has no first byte (416),
        or it has no ETag, so that nothing would hold its parts together.
        """
        match outcome:
            case NotModified():
                return outcome
            case RangeNotSatisfiable():
                return None
            case VersionChanged() if request.if_match is not None:
                raise NotThatVersionError
            case VersionChanged():
                raise VersionChangedError
            case ReadResponse(metadata, start, stop):
                if start != 0:
                    raise VersionChangedError(f"asked for byte 0, the remote answered with byte {start}")
                is_whole = stop == metadata.size
                self._is_pinnable = metadata.etag is not None and outcome.is_pinnable
                if not is_whole and (not self._is_pinnable or request.stop is None):
                    return None
                self._notify_started(metadata)
                if is_whole and metadata.size <= SMALL_BYTES:
                    return await self._receive_in_memory(outcome)
                connection.push_async_exit(attempt.pop_all())
                return outcome
            case _:
                assert_never(outcome)

    async def _receive_in_memory(self, response: ReadResponse) -> Staged:
        algorithm = crc_to_compute(response.metadata, self._target, self._requests)
        update = (await loaded_crc(algorithm)).update
        chunks: list[bytes] = []
        length = crc = 0
        async for chunk in response.chunks:
            chunks.append(chunk)
            length += len(chunk)
            self.received_bytes += len(chunk)
            crc = update(chunk, crc)
        self._check_end(length, response.stop)
        self._notify_advanced(length)
        digest = format_crc(algorithm, crc)
        content = tuple(chunks)
        return Staged(response.metadata, content, length, digest, self.received_bytes, caveat=response.caveat)

    async def _receive_on_disk(self, response: ReadResponse, connection: AsyncExitStack) -> Staged | Elsewhere:
        """Take an answer that is too large for memory, or a part of the object, and all that it lacks."""
        metadata = response.metadata
        if not await self._flight.take(metadata.etag):
            return Elsewhere()
        is_whole = response.stop - response.start == metadata.size
        known = _Checksum(metadata, is_asked=is_whole or crc_algorithm_of(metadata.checksum) is not None)
        asked_at = anyio.current_time()
        with _single_error(), anyio.move_on_after(_CHECKSUM_SECONDS):
            async with anyio.create_task_group() as tasks:  # this task has its request already
                tasks.start_soon(self._ask_at_once, known)
        answer_seconds = anyio.current_time() - asked_at
        metadata, upload_part_bytes = known.metadata, known.upload_part_bytes
        algorithm = crc_to_compute(metadata, self._target, self._requests)
        crc = await loaded_crc(algorithm)
        # By a weak ETag no part could be told from one of another version, so what an attempt leaves is of no use.
        known_as = metadata if self._is_pinnable else replace(metadata, etag=None)
        staging = await self._stack.enter_async_context(self._cache.stage(self._target.key, known_as, algorithm))
        if staging.crc_algorithm != algorithm:
            algorithm = staging.crc_algorithm
            crc = await loaded_crc(algorithm)
        parts = [_Part.of_segment(segment) for segment in staging.segments]
        self._notify_advanced(sum(part.stop - part.start for part in parts))
        step = self._requests.config.part_bytes
        offered = response.start, response.stop
        missing = missing_ranges(metadata.size, staging.segments, offered, step, upload_part_bytes)
        first: _Part | None = None
        if missing and missing[0] == offered:
            first = _Part(response.start, response.stop, response.start)
            parts.append(first)
        else:
            await connection.aclose()  # these bytes are there already
        others = [_Part(start, stop, start) for start, stop in missing[0 if first is None else 1 :]]
        parts += others
        queue = deque(others)
        width = Width(min(self._requests.config.max_concurrency, len(parts)), answer_seconds)
        receive = partial(self._receive_parts, queue, width, staging, metadata)

        def widen() -> None:
            for _ in range(min(width.wanted - width.working, len(queue))):
                width.working += 1
                tasks.start_soon(receive)

        with _single_error():
            async with anyio.create_task_group() as progress:
                async with anyio.create_task_group() as tasks:
                    progress.start_soon(self._tell_progress, width, widen)
                    if not known.is_asked:
                        tasks.start_soon(self._ask_checksum, known)
                    width.working += 1  # this task
                    widen()
                    if first is not None:
                        await self._receive_part(first, width, staging, metadata, response, connection)
                    await receive()
                progress.cancel_scope.cancel()
        # A group whose tasks were cancelled together with this one may end without a word.
        await anyio.lowlevel.checkpoint_if_cancelled()
        segments = sorted((part.segment for part in parts), key=lambda segment: segment.start)
        value = 0
        for segment in segments:
            value = crc.combine(value, segment.crc, segment.stop - segment.start)
        return Staged(
            known.metadata,
            staging,
            metadata.size,
            format_crc(algorithm, value),
            self.received_bytes,
            segments=segments,
            upload_part_bytes=upload_part_bytes,
            caveat=response.caveat,
        )

    async def _receive_parts(self, queue: deque[_Part], width: Width, staging: Staging, metadata: FileMetadata) -> None:
        """Bring one part after the other, for as long as there are any and not too many do that."""
        while queue and width.working <= width.wanted:
            await self._receive_part(queue.popleft(), width, staging, metadata, None, AsyncExitStack())
        width.working -= 1

    async def _receive_part(
        self,
        part: _Part,
        width: Width,
        staging: Staging,
        metadata: FileMetadata,
        response: ReadResponse | None,
        connection: AsyncExitStack,
    ) -> None:
        """Bring one part, from the byte where it broke after every break, for as many tries as are allowed.

        The first part's answer is there already: `response`, over `connection`.
        """
        retries = Retries(self._requests, self._target.dataset, self._target.key.uri)
        async with staging.part(part.start, part.stop) as writer:
            while part.position < part.stop:
                try:
                    async with connection:
                        if response is None:
                            response = await self._ask_part(part, metadata, connection)
                        await self._pump(part, response, writer)
                except (StorageUnreachableError, ThrottledError) as error:
                    if not self._is_pinnable:
                        raise _BrokenError(error) from error
                    if isinstance(error, ThrottledError):
                        width.throttle()
                    await retries.wait(error, part.position)
                response, connection = None, AsyncExitStack()

    async def _ask_part(self, part: _Part, metadata: FileMetadata, connection: AsyncExitStack) -> ReadResponse:
        """Ask for what a part still lacks, of that very version."""
        request = ReadRequest(
            uri=self._target.key.uri,
            start=part.position,
            stop=part.stop,
            if_match=metadata.etag,
            version_id=self._target.key.version_id,
        )
        outcome = await connection.enter_async_context(self._requests.read(request))
        match outcome:
            case ReadResponse():
                if not outcome.metadata.is_same_version(metadata):
                    raise VersionChangedError
                if outcome.start == 0 != part.position:
                    raise _RangesIgnoredError("the remote answered a request for a part with the whole object")
                if outcome.start != part.position or not part.position < outcome.stop <= part.stop:
                    raise VersionChangedError(
                        f"asked for bytes {part.position} to {part.stop},"
                        f" the remote answered with {outcome.start} to {outcome.stop}"
                    )
                return outcome
            case VersionChanged() | RangeNotSatisfiable() | NotModified():
                raise VersionChangedError
            case _:
                assert_never(outcome)

    async def _pump(self, part: _Part, response: ReadResponse, writer: PartWriter) -> None:
        """Write the bytes as they come. What came before a break is written too."""
        if response.pump is None:
            await self._write_chunks(part, response, writer)
        else:
            spent_before: float | None = None  # by the thread that writes, which isn't known yet

            def write(piece: memoryview) -> None:
                nonlocal spent_before
                if writer.segment.stop + len(piece) > response.stop:
                    raise VersionChangedError(_TOO_MANY_BYTES)
                writer.write_here(piece)
                now = time.thread_time()
                if spent_before is not None:
                    part.cpu_seconds += now - spent_before
                spent_before = now

            self._writers[part.start] = (part, writer)
            try:
                await response.pump(write)
            finally:
                del self._writers[part.start]
                self._advance(part, writer)
        self._check_end(part.position, response.stop)

    async def _write_chunks(self, part: _Part, response: ReadResponse, writer: PartWriter) -> None:
        """Write the chunks, a megabyte a call."""
        pending: list[bytes] = []
        pending_bytes = 0

        async def flush() -> None:
            nonlocal pending, pending_bytes
            if part.position + pending_bytes > response.stop:
                raise VersionChangedError(_TOO_MANY_BYTES)
            await writer.write(pending)
            self._advance(part, writer)
            pending, pending_bytes = [], 0

        try:
            async for chunk in response.chunks:
                pending.append(chunk)
                pending_bytes += len(chunk)
                if pending_bytes >= _WRITE_BYTES:
                    await flush()
        except StorageError:
            await flush()
            raise
        await flush()

    def _advance(self, part: _Part, writer: PartWriter) -> None:
        """Count what is written of a part by now."""
        segment = writer.segment
        more_bytes = segment.stop - part.position
        part.position, part.crc = segment.stop, segment.crc
        self.received_bytes += more_bytes
        cpu_seconds = part.cpu_seconds
        self._cpu_seconds += cpu_seconds - part.counted_cpu_seconds
        part.counted_cpu_seconds = cpu_seconds
        if more_bytes:
            self._notify_advanced(more_bytes)

    async def _tell_progress(self, width: Width, widen: Callable[[], None]) -> None:
        """Count, now and then, what threads have written, and what that says of how many there should be."""
        width.begin(anyio.current_time(), self.received_bytes)
        while True:
            await anyio.sleep(_PROGRESS_SECONDS)
            for part, writer in list(self._writers.values()):
                self._advance(part, writer)
            width.observe(anyio.current_time(), self.received_bytes, self._cpu_seconds)
            widen()

    async def _ask_at_once(self, known: _Checksum) -> None:
        """Ask for the checksum, and for what it is of, unless that had to wait for a place in the budget.

        The first answer is open meanwhile and holds a place: with others that do the same it would wait for ever.
        """
        if not known.is_asked and self._requests.has_place:
            await self._ask_checksum(known)
        if self._requests.has_place:
            known.upload_part_bytes = await likely_part_bytes(known.metadata, self._target, self._requests)

    async def _ask_checksum(self, known: _Checksum) -> None:
        """Ask for the checksum of the whole object, which S3 doesn't give with a part of it."""
        key, metadata = self._target.key, known.metadata
        try:
            remote = await self._requests.head(self._target.dataset, key.uri, key.version_id)
        except StorageError:
            remote = metadata  # its bytes are still compared with the ETag where that is an MD5, and with the pin
        known.is_asked = True
        if remote.is_same_version(metadata):
            checksum = remote.checksum or metadata.checksum
            known.metadata = replace(metadata, checksum=checksum, parts_checksum=remote.parts_checksum)
            self._requests.usual_crc = crc_to_compute(known.metadata, None, self._requests)

    def _check_end(self, position: int, stop: int) -> None:
        if position < stop:
            raise StorageUnreachableError(
                self._target.key.uri, f"the answer ended {stop - position:,} bytes before it should have"
            )
        if position > stop:
            raise VersionChangedError(_TOO_MANY_BYTES)

    def _notify_started(self, metadata: FileMetadata) -> None:
        self._written_bytes = 0
        _tell_started(self._requests, self._target, metadata.size)

    def _notify_advanced(self, more_bytes: int) -> None:
        self._written_bytes += more_bytes
        _tell_advanced(self._requests, self._target, self._written_bytes)


def crc_to_compute(metadata: FileMetadata, target: Target | None, requests: Requests) -> CrcAlgorithm:
    """Choose the CRC that can be compared with something."""
    pin = None if target is None else target.pin
    found = map(crc_algorithm_of, (metadata.checksum, metadata.parts_checksum, pin))
    return next(filter(None, found), requests.usual_crc)


def tell_received(requests: Requests, target: Target, size: int) -> None:
    """Tell of a small object that has come all at once."""
    _tell_started(requests, target, size)
    _tell_advanced(requests, target, size)


def _tell_started(requests: Requests, target: Target, size: int) -> None:
    requests.notify(
        TransferStarted(operation=requests.operation, dataset=target.dataset, uri=target.key.uri, size_bytes=size)
    )


def _tell_advanced(requests: Requests, target: Target, received_bytes: int) -> None:
    requests.notify(
        TransferAdvanced(
            operation=requests.operation, dataset=target.dataset, uri=target.key.uri, received_bytes=received_bytes
        )
    )


_loaded: set[CrcAlgorithm] = set()


async def loaded_crc(algorithm: CrcAlgorithm) -> CrcFunctions:
    """Give a CRC's functions; their first use reads a library from disk, in a worker thread."""
    if algorithm in _loaded:
        return crc_functions(algorithm)
    return await anyio.to_thread.run_sync(crc_here, algorithm)


def crc_here(algorithm: CrcAlgorithm) -> CrcFunctions:
    """The same, in this thread."""
    if algorithm not in _loaded:
        with forks_held_back():
            crc_functions(algorithm)
        _loaded.add(algorithm)
    return crc_functions(algorithm)


@contextmanager
def _single_error() -> Iterator[None]:
    """Raise the one error that a group of tasks failed with: the others were cancelled because of it.

    Where several failed at once, a change of the object explains the others, so it goes first.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        errors = list(_leaves(group))
        raise next((e for e in errors if isinstance(e, VersionChangedError)), errors[0]) from None


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
