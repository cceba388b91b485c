"""How do bytes get to disk before anybody may see them? Into a file of their own, part by part.

One handle a part, unbuffered; one worker-thread call for about a megabyte; no joins. A write that has begun is
shielded from cancellation, because its thread can't be stopped and must not write into a file that is being removed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiofiles
import anyio
import anyio.to_thread

from .._digests import digest_file
from ._failures import cache_failures


class StagedFile:
    """A file under construction at `path`, in the cache's file system."""

    def __init__(self, path: str) -> None:
        self.path = path

    @asynccontextmanager
    async def part(self, start: int) -> AsyncIterator[StagedPart]:
        """Open a writer at that offset.

        Raises:
            CacheFullError: on leaving, if the file system took fewer bytes than it was given.
        """
        with cache_failures(self.path), anyio.CancelScope(shield=True):
            handle = await aiofiles.open(self.path, "r+b", buffering=0)
            await handle.seek(start)
        writer = StagedPart(self.path, handle, start)
        try:
            yield writer
            await writer.check()
        finally:
            with cache_failures(self.path), anyio.CancelScope(shield=True):
                await handle.close()

    async def digest(self, algorithm: str) -> str:
        """Read the file once and give its digest."""
        with cache_failures(self.path):
            return await anyio.to_thread.run_sync(digest_file, self.path, algorithm)


class StagedPart:
    """Writes one part of a staged file."""

    def __init__(self, path: str, handle: Any, start: int) -> None:
        self._path = path
        self._handle = handle
        self._start = start
        self._stop = start

    async def write(self, chunks: Sequence[bytes]) -> None:
        """Append the chunks; finished even when the caller is cancelled.

        Raises:
            CacheFullError: no space, or no quota, left.
        """
        with cache_failures(self._path), anyio.CancelScope(shield=True):
            await self._handle.writelines(chunks)
            self._stop += sum(map(len, chunks))

    async def truncate(self, length: int) -> None:
        """Take back all but the first `length` bytes of this part."""
        with cache_failures(self._path), anyio.CancelScope(shield=True):
            self._stop = self._start + length
            await self._handle.seek(self._stop)

    async def check(self) -> None:
        """Make sure that every byte was taken.

        An unbuffered write may take fewer bytes than it was given, and reports no error when the disk fills up right
        there (write(2)); the position tells.
        """
        with cache_failures(self._path), anyio.CancelScope(shield=True):
            position = await self._handle.tell()
            if position != self._stop:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
