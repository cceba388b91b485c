"""A storage around a storage, in which things go wrong as they are scripted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

import anyio

from .._config import CatalogConfig
from .._errors import StorageUnreachableError, ThrottledError, VersioningNotSupportedError
from .._models import FileMetadata
from ..ports import (
    Content,
    ListPage,
    ReadOutcome,
    ReadRequest,
    ReadResponse,
    SeekableListing,
    StoragePort,
    StorageSession,
    Upload,
    UploadedPart,
    VersionedSession,
    VersionPage,
    WritableSession,
    WriteOutcome,
    WriteRequest,
)
from ._faults import Cut, Fault, FaultScript, Latency, Meanwhile, Reset, Stall, Throttled, Unreachable, WrongBytes

StorageFault: TypeAlias = Cut | Latency | Meanwhile | Reset | Stall | Throttled | Unreachable | WrongBytes
"""What can go wrong in a `FaultyStorage`."""


_Result = TypeVar("_Result")


class FaultyStorage:
    """A `StoragePort` that passes every request on to another one, but for what is scripted.

    The faults that break a body act on reads only; those that come before the answer (`after_bytes=None`,
    `Unreachable`, `Throttled`, `Latency`) on every method. The action of a `Meanwhile` is called before a write is
    carried out. The methods of writing are `"PUT"`, `"BEGIN"`, `"PART"`, `"COMPLETE"` and `"ABORT"`. Like its faults it
    counts in this process: it can't be pickled.

    Args:
        inner: where the objects are.
        faults: what goes wrong; a later one acts after an earlier one at the same byte.

    Raises:
        TypeError: a fault that only a `FaultServer` can make.
    """

    def __init__(self, inner: StoragePort, faults: Iterable[StorageFault] = ()) -> None:
        self._inner = inner
        self._script = FaultScript()
        self.add_faults(*faults)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a FaultyStorage can't be pickled: it counts the requests of this process")

    def add_faults(self, *faults: StorageFault) -> None:
        """Append faults; they count from now on.

        Raises:
            TypeError: a fault that only a `FaultServer` can make.
        """
        for fault in faults:
            if not isinstance(fault, StorageFault):
                raise TypeError(f"{type(fault).__name__} is a fault of a FaultServer, not of a FaultyStorage")
        self._script.add(*faults)

    def clear_faults(self) -> None:
        """From now on nothing goes wrong."""
        self._script.clear()

    @asynccontextmanager
    async def connect(self, config: CatalogConfig) -> AsyncIterator[FaultySession]:
        """Open the inner storage."""
        async with self._inner.connect(config) as session:
            if isinstance(session, WritableSession):
                yield WritableFaultySession(session, session, self._script)
            else:
                yield FaultySession(session, self._script)


class FaultySession:
    """An open way to the objects behind a `FaultyStorage`."""

    def __init__(self, inner: StorageSession, script: FaultScript) -> None:
        self._inner = inner
        self._script = script

    async def head(self, uri: str, *, version_id: str | None = None) -> FileMetadata:
        """Ask the inner storage what the object is."""
        faults = self._script.take(uri, "HEAD")
        await _fail_before(uri, faults)
        metadata = await self._inner.head(uri, version_id=version_id)
        await _fail_instead_of_answer(uri, faults)
        return metadata

    @asynccontextmanager
    async def read(self, request: ReadRequest) -> AsyncIterator[ReadOutcome]:
        """Read from the inner storage."""
        faults = self._script.take(request.uri, "GET")
        await _fail_before(request.uri, faults)
        async with self._inner.read(request) as outcome:
            await _fail_instead_of_answer(request.uri, faults)
            if isinstance(outcome, ReadResponse):
                yield replace(outcome, chunks=_faulty_chunks(request.uri, outcome.chunks, faults))
            else:
                yield outcome

    async def list_page(self, prefix: str, *, token: str | None = None) -> ListPage:
        """List from the inner storage."""
        return await self._listed(prefix, lambda: self._inner.list_page(prefix, token=token))

    def is_seekable(self, root: str) -> bool:
        """Whether the inner storage can begin a listing behind any key."""
        return isinstance(self._inner, SeekableListing) and self._inner.is_seekable(root)

    async def list_after(self, prefix: str, start_after: str, limit: int) -> ListPage:
        """List from the inner storage, from behind a key on; only where `is_seekable`."""
        inner = self._inner
        assert isinstance(inner, SeekableListing)  # noqa: S101  # what `is_seekable` has said
        return await self._listed(prefix, lambda: inner.list_after(prefix, start_after, limit))

    async def _listed(self, prefix: str, ask: Callable[[], Awaitable[ListPage]]) -> ListPage:
        faults = self._script.take(prefix, "LIST")
        await _fail_before(prefix, faults)
        page = await ask()
        await _fail_instead_of_answer(prefix, faults)
        return page

    async def version_page(self, prefix: str, *, after: str | None = None, token: str | None = None) -> VersionPage:
        """List versions from the inner storage; to a fault that is a `LIST` too.

        Raises:
            VersioningNotSupportedError: the inner storage keeps none.
        """
        if not isinstance(self._inner, VersionedSession):
            raise VersioningNotSupportedError(prefix, "the storage behind this one keeps no versions")
        faults = self._script.take(prefix, "LIST")
        await _fail_before(prefix, faults)
        page = await self._inner.version_page(prefix, after=after, token=token)
        await _fail_instead_of_answer(prefix, faults)
        return page


class WritableFaultySession(FaultySession):
    """An open way to objects that can be written, too."""

    def __init__(self, inner: StorageSession, writer: WritableSession, script: FaultScript) -> None:
        super().__init__(inner, script)
        self._writer = writer

    async def write(self, request: WriteRequest, content: Content) -> WriteOutcome:
        """Have the inner storage write an object."""
        return await self._faulty(request.uri, "PUT", self._writer.write(request, content))

    async def begin_upload(self, request: WriteRequest) -> Upload:
        """Have the inner storage begin an upload in parts."""
        return await self._faulty(request.uri, "BEGIN", self._writer.begin_upload(request))

    async def write_part(self, upload: Upload, number: int, start: int, content: Content) -> UploadedPart:
        """Have the inner storage write a part."""
        return await self._faulty(upload.uri, "PART", self._writer.write_part(upload, number, start, content))

    async def complete_upload(
        self, upload: Upload, request: WriteRequest, parts: Sequence[UploadedPart], crc: str
    ) -> WriteOutcome:
        """Have the inner storage complete an upload."""
        return await self._faulty(upload.uri, "COMPLETE", self._writer.complete_upload(upload, request, parts, crc))

    async def abort_upload(self, upload: Upload) -> None:
        """Have the inner storage drop an upload."""
        await self._faulty(upload.uri, "ABORT", self._writer.abort_upload(upload))

    async def _faulty(self, uri: str, method: str, answered: Coroutine[Any, Any, _Result]) -> _Result:
        faults = self._script.take(uri, method)
        try:
            await _fail_before(uri, faults)
            for fault in faults:
                if isinstance(fault, Meanwhile):
                    fault.action()
            answer = await answered
        finally:
            answered.close()  # where it was never begun
        await _fail_instead_of_answer(uri, faults)
        return answer


async def _fail_before(uri: str, faults: Iterable[Fault]) -> None:
    """Do what keeps the request from the inner storage."""
    for fault in faults:
        if isinstance(fault, Latency):
            await anyio.sleep(fault.seconds)
        elif isinstance(fault, Unreachable):
            raise StorageUnreachableError(uri, "scripted: no answer", retry_after_seconds=fault.retry_after_seconds)
        elif isinstance(fault, Throttled):
            raise ThrottledError(uri, "scripted: slow down", retry_after_seconds=fault.retry_after_seconds)


async def _fail_instead_of_answer(uri: str, faults: Iterable[Fault]) -> None:
    for fault in faults:
        if isinstance(fault, Cut | Reset | Stall) and fault.after_bytes is None:
            await _break(uri, fault)
            raise StorageUnreachableError(uri, "scripted: the connection was closed without an answer")


async def _break(uri: str, fault: Cut | Reset | Stall) -> None:
    """Break the body, or end it by returning."""
    if isinstance(fault, Reset):
        raise StorageUnreachableError(uri, "scripted: the connection was reset")
    if isinstance(fault, Stall):
        await anyio.sleep_forever()


async def _faulty_chunks(uri: str, chunks: AsyncIterator[bytes], faults: Iterable[Fault]) -> AsyncIterator[bytes]:
    """Give the chunks, split where a fault is due, so that it comes after exactly its number of bytes."""
    wrong = sorted(fault.at for fault in faults if isinstance(fault, WrongBytes))
    due = sorted((f for f in faults if isinstance(f, Cut | Reset | Stall | Meanwhile)), key=_offset)
    position = 0
    async for chunk in chunks:
        rest = _inverted(chunk, [at - position for at in wrong])
        while due and _offset(due[0]) <= position + len(rest):
            fault = due.pop(0)
            given, rest = rest[: _offset(fault) - position], rest[_offset(fault) - position :]
            if given:
                position += len(given)
                yield given
            if isinstance(fault, Meanwhile):
                fault.action()
            else:
                await _break(uri, fault)
                return
        if rest:
            position += len(rest)
            yield rest
    # An empty body has no chunk that could carry what is due at its first byte.
    for fault in due:
        if _offset(fault) <= position:
            if isinstance(fault, Meanwhile):
                fault.action()
            else:
                await _break(uri, fault)
                return


def _offset(fault: Cut | Reset | Stall | Meanwhile) -> int:
    return fault.after_bytes or 0


def _inverted(chunk: bytes, offsets: Iterable[int]) -> bytes:
    inside = [offset for offset in offsets if 0 <= offset < len(chunk)]
    if not inside:
        return chunk
    changed = bytearray(chunk)
    for offset in inside:
        changed[offset] ^= 0xFF
    return bytes(changed)
