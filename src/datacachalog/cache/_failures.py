"""What does an error of the cache's file system mean to a caller? Mapped here, once."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from .._errors import CacheError, CacheFullError, DatacachalogError

_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG})


@contextmanager
def cache_failures(path: str) -> Iterator[None]:
    """Map what the file system raises; wrap nothing but the cache's own reading and writing in it.

    Raises:
        CacheFullError: no space or quota left.
        CacheError: anything else: not writable, read-only, gone.
    """
    try:
        yield
    except DatacachalogError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise CacheFullError(
                f"the cache is full: {error.strerror} at {path}; free space or choose another cache_dir."
                " What was cached before is untouched"
            ) from error
        if isinstance(error, FileNotFoundError):
            raise CacheError(
                f"the cache can't be used: {error.filename or path} was removed while it was in use; fetch again"
            ) from error
        raise CacheError(
            f"the cache can't be used: {error.strerror or error} at {error.filename or path};"
            " check the directory's permissions or choose another cache_dir"
        ) from error
