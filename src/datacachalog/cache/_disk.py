"""What does the cache do to the file system? Every effect has its name here, and happens nowhere else.

So there is one place to see what a process may have done, and not yet done, when it is killed between two of them.
"""

from __future__ import annotations

import functools
import os
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from io import FileIO

from .._threads import forks_held_back

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FOLLOWS_ALWAYS = os.utime not in os.supports_follow_symlinks  # Windows
_PLAIN = _NO_FOLLOW | getattr(os, "O_BINARY", 0)  # no link, no translation of line ends

if sys.platform == "linux":
    import fcntl

_SYNC_FILE_RANGE_WRITE = 2
_FICLONE = 0x40049409  # ioctl_ficlone(2)
_COPY_BYTES = 16 * 1024 * 1024
_IOV_MAX = 1024  # what Linux takes at once; POSIX promises 16, and every system in use has 1024


def create(path: str) -> FileIO:
    """Make a file that wasn't there, for writing."""
    return FileIO(path, "xb")


def open_in_place(path: str, flags: int) -> int:
    """Open a file of the cache's own, and nothing that a symbolic link in its place leads to; an `opener`."""
    return os.open(path, flags | _NO_FOLLOW, 0o666)


def write_all(file: FileIO, chunks: Sequence[bytes | memoryview]) -> None:
    """Append all the bytes.

    An unbuffered write may take fewer bytes than it was given, when the disk is nearly full, say (write(2)): then the
    rest is offered again, which brings the error if there is one.
    """
    views = [memoryview(chunk) for chunk in chunks if chunk]
    while views:
        written = _write_some(file, views[:_IOV_MAX])
        taken = 0
        while taken < len(views) and written >= len(views[taken]):
            written -= len(views[taken])
            taken += 1
        del views[:taken]
        if written:
            views[0] = views[0][written:]


def _write_some(file: FileIO, views: list[memoryview]) -> int:
    if hasattr(os, "writev"):
        return os.writev(file.fileno(), views)
    return file.write(views[0]) or 0


def clone(source: FileIO, target: FileIO) -> bool:
    """Make an empty file a copy of another that shares its blocks; False where the file systems can't."""
    if sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError:
        return False
    return True


def copy_some(source: FileIO, target: FileIO) -> int:
    """Append to a file what comes next of another, some megabytes of it; returns how much, 0 at the end."""
    if hasattr(os, "copy_file_range"):
        # What the kernel can't do between these two is done by hand, and so is what it says is nothing.
        with suppress(OSError):
            taken = os.copy_file_range(source.fileno(), target.fileno(), _COPY_BYTES)
            if taken:
                return taken
    chunk = source.read(_COPY_BYTES)
    write_all(target, [chunk])
    return len(chunk)


def flush(file: FileIO) -> None:
    """Bring the file's bytes to the disk."""
    os.fsync(file.fileno())


def begin_flushing(file: FileIO, start: int, stop: int) -> None:
    """Have bytes `start` to `stop` on their way to the disk, where the system can, so that `flush` finds less to do."""
    sync_file_range = _sync_file_range()
    if sync_file_range is not None:
        sync_file_range(file.fileno(), start, stop - start, _SYNC_FILE_RANGE_WRITE)  # advice: a failure is no matter


@functools.cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """Find the call of Linux (sync_file_range(2)), which Python doesn't have.

    Its likes that Python has would wait for the disk, or drop from memory what is about to be read.
    """
    if sys.platform != "linux":
        return None
    with forks_held_back():
        import ctypes
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):  # a C library without it
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    found: Callable[[int, int, int, int], int] = call
    return found


def set_mtime(file: str | int, mtime_ns: int) -> None:
    """Give the file, named by its path or its descriptor, that modification time."""
    if isinstance(file, int):
        os.utime(file, ns=(mtime_ns, mtime_ns))
    else:
        os.utime(file, ns=(mtime_ns, mtime_ns), follow_symlinks=_FOLLOWS_ALWAYS)


def touch(path: str) -> None:
    """Set the file's modification time to now."""
    os.utime(path, follow_symlinks=_FOLLOWS_ALWAYS)


def replace(source: str, target: str) -> None:
    """Put a file in another's place, in one step."""
    os.replace(source, target)


def put_back(source: str, target: str) -> None:
    """Rename a file, in one step, to a name that nobody has taken meanwhile; else remove it."""
    with suppress(FileExistsError):
        try:
            link(source, target)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if not os.path.lexists(target):
                replace(source, target)
    remove_file(source)


def link(source: str, target: str) -> None:
    """Give a file a second name that wasn't there."""
    os.link(source, target)


def append(path: str, data: bytes) -> None:
    """Append to a file that is there, in one write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | _PLAIN)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def put_at(path: str, pieces: Iterable[tuple[int, bytes]]) -> None:
    """Write each piece at its offset; a file that isn't there is made, with holes."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | _PLAIN, 0o666)
    try:
        for offset, data in pieces:
            if hasattr(os, "pwrite"):
                os.pwrite(descriptor, data, offset)
            else:
                os.lseek(descriptor, offset, os.SEEK_SET)
                os.write(descriptor, data)
    finally:
        os.close(descriptor)


def rename_directory(source: str, target: str) -> None:
    """Rename a directory to a name that is free. Of several who try, one succeeds."""
    os.rename(source, target)


def make_directory(path: str) -> None:
    """Make a directory that wasn't there."""
    os.mkdir(path)


def unlink(path: str) -> None:
    """Remove a file."""
    os.unlink(path)


def remove_file(path: str) -> None:
    """Remove a file if it is there and may be removed."""
    with suppress(OSError):
        unlink(path)


def remove_directory(path: str) -> None:
    """Remove a directory of files, as far as it is there and may be removed; of a link, only the link."""
    if os.path.islink(path):
        remove_file(path)
        return
    with suppress(OSError):
        for name in os.listdir(path):
            remove_file(os.path.join(path, name))
        os.rmdir(path)


def remove_tree(path: str) -> None:
    """Remove a directory and all that is in it, through no link, as far as it is there and may be removed."""
    with suppress(OSError):
        for name in os.listdir(path):
            inner = os.path.join(path, name)
            if is_directory(inner):
                remove_tree(inner)
            else:
                remove_file(inner)
        os.rmdir(path)


def is_directory(path: str) -> bool:
    """Whether a directory is there: one itself, and no link to one."""
    is_junction: Callable[[str], bool] | None = getattr(os.path, "isjunction", None)  # Windows, from Python 3.12 on
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode) and not (is_junction is not None and is_junction(path))
    except OSError:
        return False
