"""What does the cache do to the file system? Every effect has its name here, and happens nowhere else.

So there is one place to see what a process may have done, and not yet done, when it is killed between two of them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import FileIO

_IOV_MAX = 1024  # what Linux takes at once; POSIX promises 16, and every system in use has 1024


def create(path: str) -> FileIO:
    """Make a file that wasn't there, for writing."""
    return FileIO(path, "xb")


def write_all(file: FileIO, chunks: Sequence[bytes]) -> None:
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


def flush(file: FileIO) -> None:
    """Bring the file's bytes to the disk."""
    os.fsync(file.fileno())


def set_mtime(path: str, mtime_ns: int) -> None:
    """Give the file that modification time."""
    os.utime(path, ns=(mtime_ns, mtime_ns))


def touch(path: str) -> None:
    """Set the file's modification time to now."""
    os.utime(path)


def replace(source: str, target: str) -> None:
    """Put a file in another's place, in one step."""
    os.replace(source, target)


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
    """Remove a directory of files, as far as it is there and may be removed."""
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
