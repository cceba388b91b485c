"""What does an error of the cache's file system mean to a caller? Mapped here, once."""

from __future__ import annotations

import errno
from types import TracebackType

from .._errors import CacheError, CacheFullError, DatacachalogError

_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG})


class cache_failures:  # noqa: N801  # used like a function
    """Map what the file system raises; wrap nothing but the cache's own reading and writing in it.

    Raises:
        CacheFullError: no space or quota left.
        CacheError: anything else: not writable, read-only, gone.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Raise what an error of the file system means in its place."""
        if isinstance(error, OSError) and not isinstance(error, DatacachalogError):
            raise _meaning(error, self._path) from error


def _meaning(error: OSError, path: str) -> CacheError:
    if error.errno in _FULL:
        return CacheFullError(
            f"the cache is full: {error.strerror} at {path}; free space or choose another cache_dir."
            " What was cached before is untouched"
        )
    if isinstance(error, FileNotFoundError):
        return CacheError(
            f"the cache can't be used: {error.filename or path} was removed while it was in use; fetch again"
        )
    return CacheError(
        f"the cache can't be used: {error.strerror or error} at {error.filename or path};"
        " check the directory's permissions or choose another cache_dir"
    )
