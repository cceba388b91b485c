"""How do bytes get to disk before anybody may see them? Into a partial, part by part.

One handle a part, unbuffered; one worker-thread call for about a megabyte, which writes the bytes, computes their CRC
and notes them in the journal; no joins. A write that has begun is shielded from cancellation, because its thread can't
be stopped and must not write into a file that is being removed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from io import FileIO
from typing import Any

import anyio
import anyio.to_thread
from aiofiles.threadpool import wrap

from .._digests import CrcAlgorithm, crc_functions, digest_file
from .._threads import to_its_end
from ..ports import Segment
from . import _disk
from ._failures import cache_failures
from ._partials import Partial

_NOTE_BYTES = 1024 * 1024  # what a kill may cost, against a line in the journal


class StagedFile:
    """A file under construction."""

    def __init__(self, partial: Partial) -> None:
        self.partial = partial
        self.is_written = bool(partial.segments)

    @property
    def path(self) -> str:
        """The file."""
        return self.partial.data_path

    @property
    def crc_algorithm(self) -> CrcAlgorithm:
        """What the CRCs of the segments are."""
        return self.partial.header.crc_algorithm

    @property
    def segments(self) -> Sequence[Segment]:
        """What is written and verified already, from an earlier attempt at the same version; in order."""
        return self.partial.segments

    @asynccontextmanager
    async def part(self, start: int, stop: int) -> AsyncIterator[StagedPart]:
        """Give a writer for these bytes. It opens the file when the first come, and closes it with the last."""
        update = crc_functions(self.crc_algorithm).update
        part = StagedPart(self, lambda: _PartFile(self.path, start, stop, update, self.partial.note), start)
        try:
            yield part
        finally:
            await part.close()

    async def digest(self, algorithm: str, start: int, stop: int) -> str:
        """Read bytes `start` (inclusive) to `stop` (exclusive) and give their digest.

        Raises:
            CacheError: the file can't be read.
        """
        with cache_failures(self.path):
            return await anyio.to_thread.run_sync(digest_file, self.path, algorithm, start, stop)


class StagedPart:
    """Writes one part of a staged file."""

    def __init__(self, staged: StagedFile, opened: Callable[[], _PartFile], start: int) -> None:
        self._staged = staged
        self._opened = opened
        self._nothing = Segment(start, start, 0)
        self._file: _PartFile | None = None

    @property
    def segment(self) -> Segment:
        """What is written of the part so far."""
        return self._nothing if self._file is None else self._file.segment

    async def write(self, chunks: Sequence[bytes]) -> None:
        """Append the chunks; finished even when the caller is cancelled.

        Raises:
            CacheFullError: no space, or no quota, left.
            CacheError: the file can't be opened.
        """
        with cache_failures(self._staged.path):
            file = self._file or await to_its_end(anyio.to_thread.run_sync(self._open))
            await to_its_end(wrap(file).writelines(chunks))

    def write_here(self, piece: memoryview) -> None:
        """Append the piece, in this worker thread; of the segment, only whole megabytes are noted at once.

        Raises:
            CacheFullError: no space, or no quota, left.
            CacheError: the file can't be opened.
        """
        with cache_failures(self._staged.path):
            self._open().write_piece(piece)

    async def close(self) -> None:
        """Note what isn't noted yet, and close the file, unless that is done already."""
        if self._file is not None and not self._file.closed:
            with cache_failures(self._staged.path):
                await to_its_end(anyio.to_thread.run_sync(self._file.close))

    def _open(self) -> _PartFile:
        if self._file is None:
            self._file = self._opened()
            self._staged.is_written = True
        return self._file


class _PartFile(FileIO):
    """A staged file, open for one part."""

    def __init__(
        self,
        path: str,
        start: int,
        stop: int,
        update: Callable[[bytes | memoryview, int], int],
        note: Callable[[Segment], None],
    ) -> None:
        super().__init__(path, "r+b", opener=_disk.open_in_place)
        self.seek(start)
        self.segment = Segment(start, start, 0)
        self._end = stop
        self._noted = start
        self._update = update
        self._note = note

    def writelines(self, chunks: Iterable[Any], /) -> None:
        """Write the bytes, then note in the journal that they are there."""
        chunks = list(chunks)
        self._append(chunks)
        self._note_segment()

    def write_piece(self, piece: memoryview) -> None:
        """Write the bytes, and note them in the journal as soon as that is worth it; close the file at its end."""
        self._append([piece])
        if self.segment.stop == self._end:
            self.close()
        elif self.segment.stop - self._noted >= _NOTE_BYTES:
            self._note_segment()

    def close(self) -> None:
        """Note what isn't noted yet, and close the file."""
        try:
            if not self.closed and self.segment.stop > self._noted:
                self._note_segment()
        finally:
            super().close()

    def _append(self, chunks: Sequence[bytes | memoryview]) -> None:
        stop = self.segment.stop + sum(map(len, chunks))
        if stop > self._end:
            raise ValueError(f"{stop - self._end} bytes more than the part has")
        _disk.write_all(self, chunks)
        crc = self.segment.crc
        for chunk in chunks:
            crc = self._update(chunk, crc)
        self.segment = Segment(self.segment.start, stop, crc)

    def _note_segment(self) -> None:
        self._note(self.segment)
        _disk.begin_flushing(self, self._noted, self.segment.stop)
        self._noted = self.segment.stop
