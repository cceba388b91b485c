"""Who fetches a file when several processes want it? The one that holds its byte of a common lock file.

One byte a file, at an offset drawn from its key, of one lock file in the cache: nothing is created for a claim, and the
kernel gives a claim back when its process ends, however it ends. POSIX gives such locks to processes, so within one
process a table says who has which; and it drops all of them as soon as the process closes any descriptor of that file,
so it is open once, as long as there is a claim.

Where the file system knows no locks, every claim is granted: work may be done twice then, and is right all the same.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from . import _disk

_LOOK_SECONDS = 0.1  # between looks whether the lock file is still the one that others open
_BUSY = frozenset({errno.EACCES, errno.EAGAIN, errno.EDEADLK})


class LockFile:
    """The lock file of one cache directory, as this process has it open."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._held: set[int] = set()
        self._users = 0
        self._mutex = threading.Lock()
        self._handle: int | None = None
        self._seen_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it was opened, and found to be the one that others open, just now."""
        return self._handle is not None and time.monotonic() - self._seen_at < _LOOK_SECONDS

    def acquire(self, key_hash: str) -> bool:
        """Claim a key, without waiting; whether it was free.

        Raises:
            OSError: the lock file can't be made.
        """
        offset = _offset(key_hash)
        with self._mutex:
            if offset in self._held:
                return False
            handle = self._open()
            self._held.add(offset)  # so that nobody closes the file meanwhile
        # Not within the mutex: the kernel lets go of the interpreter's lock, and all threads would queue up here.
        try:
            _lock(handle, offset)
        except OSError as error:
            if error.errno in _BUSY:
                self._forget(offset)
                return False
        return True

    def release(self, key_hash: str) -> None:
        """Give a claim back."""
        offset, handle = _offset(key_hash), self._handle
        if handle is not None and offset in self._held:
            with suppress(OSError):  # a file system without locks
                _unlock(handle, offset)
        self._forget(offset)

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Keep the file open, once it is, though there may be no claim for a moment."""
        with self._mutex:
            self._users += 1
        try:
            yield
        finally:
            with self._mutex:
                self._users -= 1
                self._close_if_unused()

    def _forget(self, offset: int) -> None:
        with self._mutex:
            self._held.discard(offset)
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        if not self._held and not self._users:
            self._close()

    def _open(self) -> int:
        """Give the descriptor, of a new file if the cache directory was removed meanwhile."""
        now = time.monotonic()
        if self._handle is not None:
            if self.is_open:
                return self._handle
            self._seen_at = now
            try:
                if os.path.samestat(os.fstat(self._handle), os.lstat(self._path)):
                    return self._handle
            except FileNotFoundError:
                pass
            self._close()  # of a file that nobody else can reach any more
        self._handle, self._seen_at = _disk.open_in_place(self._path, os.O_RDWR | os.O_CREAT), now
        return self._handle

    def _close(self) -> None:
        # Forgotten before it is closed: a child that is forked in between would close whatever has that number by then.
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


_lock_files: dict[str, LockFile] = {}
_by_spelling: dict[str, LockFile] = {}
_mutex = threading.Lock()


def lock_file(path: str) -> LockFile:
    """Give this process's one lock file of that path, however it is spelt."""
    known = _by_spelling.get(path)
    if known is not None:
        return known
    directory, name = os.path.split(path)
    real = os.path.join(os.path.realpath(directory), name)
    with _mutex:
        known = _by_spelling[path] = _lock_files.setdefault(real, LockFile(real))
        return known


@functools.lru_cache(maxsize=1024)
def key_hash(uri: str, version_id: str | None) -> str:
    """Give the name under which a key's claim and partials go."""
    return hashlib.sha256(f"{uri}\0{version_id or ''}".encode(errors="surrogatepass")).hexdigest()[:32]


def _after_fork_in_child() -> None:
    # The parent's claims are not the child's, and closing the descriptors here takes nothing from the parent.
    global _mutex  # a thread of the parent may have held the old one
    _mutex = threading.Lock()
    for file in _lock_files.values():
        if file._handle is not None:  # noqa: SLF001  # its own module
            os.close(file._handle)  # noqa: SLF001
    _lock_files.clear()
    _by_spelling.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


if sys.platform == "win32":
    import msvcrt

    def _offset(key_hash: str) -> int:
        return int(key_hash[:8], 16) >> 1  # a position of 31 bits

    def _lock(handle: int, offset: int) -> None:
        os.lseek(handle, offset, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

    def _unlock(handle: int, offset: int) -> None:
        os.lseek(handle, offset, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _offset(key_hash: str) -> int:
        return int(key_hash[:16], 16) >> 2  # a signed position of 64 bits, and an end beyond it

    def _lock(handle: int, offset: int) -> None:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)

    def _unlock(handle: int, offset: int) -> None:
        fcntl.lockf(handle, fcntl.LOCK_UN, 1, offset)
