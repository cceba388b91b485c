"""How is a body taken of which nobody knows the length? To its end, into a temporary file; then it is known.

Small ones stay in memory. All that may take long, writing and decompressing, is done in worker threads.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO

import anyio.to_thread

from .._errors import StorageError, StorageUnreachableError
from .._threads import to_its_end

_STEP_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Spooled:
    """A body, whole: its length, and its bytes, to be iterated once."""

    length: int
    chunks: AsyncIterator[bytes]


@asynccontextmanager
async def spooled(uri: str, chunks: AsyncIterator[bytes], *, is_gzip: bool) -> AsyncIterator[Spooled]:
    """Take a body to its end; it is there until the context is left. Cancelled, it leaves nothing.

    Args:
        uri: the object, for errors.
        chunks: the body, as it comes.
        is_gzip: whether it is to be decompressed.

    Raises:
        StorageUnreachableError: it ended in the middle of what was compressed, or isn't that.
        StorageError: the temporary directory is full.
    """
    with tempfile.SpooledTemporaryFile(max_size=_STEP_BYTES) as file:
        gunzip = _Gunzip(file.write) if is_gzip else None
        take = file.write if gunzip is None else gunzip.take
        pending: list[bytes] = []
        pending_bytes = 0

        async def flush() -> None:
            data = b"".join(pending)
            pending.clear()
            try:
                # To its end: the file is closed when this is cancelled.
                await to_its_end(anyio.to_thread.run_sync(take, data))
            except zlib.error as error:
                raise StorageUnreachableError(uri, f"it is sent as gzip, and isn't that: {error}") from error
            except OSError as error:
                raise StorageError(uri, f"the temporary directory {tempfile.gettempdir()}: {error}") from error

        async for chunk in chunks:
            pending.append(chunk)
            pending_bytes += len(chunk)
            if pending_bytes >= _STEP_BYTES:
                await flush()
                pending_bytes = 0
        await flush()
        if gunzip is not None and not gunzip.is_whole:
            raise StorageUnreachableError(uri, "the answer ended in the middle of its gzip data")
        length = file.tell()
        file.seek(0)
        yield Spooled(length, _chunks(file))


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := await to_its_end(anyio.to_thread.run_sync(file.read, _STEP_BYTES)):
        yield chunk


class _Gunzip:
    """Decompresses gzip (RFC 1952), of one member or several, never more than a step into memory."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._member = zlib.decompressobj(wbits=31)
        self._has_begun = False

    @property
    def is_whole(self) -> bool:
        """Whether all that has come is whole; nothing at all is a whole nothing."""
        return self._member.eof or not self._has_begun

    def take(self, data: bytes) -> None:
        """Decompress what has come, and write it."""
        self._has_begun = self._has_begun or bool(data)
        while True:
            if self._member.eof and data:
                self._member = zlib.decompressobj(wbits=31)
            piece = self._member.decompress(data, _STEP_BYTES)
            self._write(piece)
            data = self._member.unconsumed_tail or self._member.unused_data
            if not data and (self._member.eof or len(piece) < _STEP_BYTES):
                return
