"""How does a file of the user's get into the cache, so that nobody can change it any more? By a copy of our own.

Where the file system can share blocks between files (btrfs, XFS and others, on Linux), the copy takes no time and no
space; elsewhere the kernel copies the bytes. Either way it is a new file under a name of its own, which a publish
renames into place. It is copied in steps, so that who is cancelled waits for one of them and not for all.
"""

from __future__ import annotations

import os
from io import FileIO

import anyio
import anyio.to_thread

from .._digests import digest_file
from ..ports import LocalFileChangedError
from . import _disk
from ._failures import cache_failures


class LocalCopy:
    """A private copy of a local file."""

    def __init__(self, path: str, source: str, size: int, identity: tuple[int, ...]) -> None:
        self.path = path
        self._source = source
        self._size = size
        self._identity = identity

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    async def read(self, start: int, stop: int) -> bytes:
        """Read bytes `start` (inclusive) to `stop` (exclusive).

        Raises:
            CacheError: the copy can't be read.
        """
        with cache_failures(self.path):
            return await anyio.to_thread.run_sync(_read, self.path, start, stop, abandon_on_cancel=True)

    async def digest(self, algorithm: str, start: int, stop: int) -> str:
        """Read these bytes and give their digest.

        Raises:
            CacheError: the copy can't be read.
        """
        with cache_failures(self.path):
            # Left to itself when cancelled: it may take long, and only reads.
            return await anyio.to_thread.run_sync(
                digest_file, self.path, algorithm, start, stop, abandon_on_cancel=True
            )

    async def is_current(self) -> bool:
        """Whether the file, as far as its size, time and inode tell, still is what was copied."""
        return await anyio.to_thread.run_sync(self._is_current)

    def _is_current(self) -> bool:
        try:
            return identity_of(os.stat(self._source)) == self._identity
        except OSError:
            return False


class Copying:
    """A copy under way. Its methods block."""

    def __init__(self, source: str, target: FileIO) -> None:
        self._path = source
        self._target = target
        try:
            self._source = FileIO(source, "rb")
        except OSError as error:
            target.close()
            _disk.remove_file(str(target.name))
            raise LocalFileChangedError(str(error)) from error
        self._before = identity_of(os.fstat(self._source.fileno()))

    def step(self) -> bool:
        """Copy some more; whether there may be more to do.

        Raises:
            OSError: it can't be written.
        """
        if self._target.tell() == 0 and _disk.clone(self._source, self._target):
            return False
        return _disk.copy_some(self._source, self._target) > 0

    def end(self) -> LocalCopy:
        """Give the copy.

        Raises:
            LocalFileChangedError: the file was written to meanwhile.
        """
        size = os.fstat(self._target.fileno()).st_size
        after = os.fstat(self._source.fileno())
        self._close()
        if size != after.st_size or identity_of(after) != self._before:
            raise LocalFileChangedError(self._path)
        return LocalCopy(str(self._target.name), self._path, size, self._before)

    def discard(self) -> None:
        """Remove the copy, if it is not published."""
        self._close()
        _disk.remove_file(str(self._target.name))

    def _close(self) -> None:
        self._target.close()
        self._source.close()


def identity_of(found: os.stat_result) -> tuple[int, ...]:
    """Give what changes when a file is written to or replaced."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _read(path: str, start: int, stop: int) -> bytes:
    with FileIO(path, "rb") as file:
        file.seek(start)
        return file.read(stop - start)
