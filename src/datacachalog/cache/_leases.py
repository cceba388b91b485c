"""Which files are open by `open_path` in a running process? For each lease there is an empty file in the cache.

Its name says which key, whose process, and which lease of several. A lease of a process that has ended counts for
nothing, and is removed when the cache is cleaned. Of a process on another host or in another container it can't be
told: its lease counts for a day.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress

from . import _disk
from ._processes import is_tag_gone, tag

_SUFFIX = ".held"
_LONGEST_SECONDS = 24 * 3600.0


def hold(directory: str, key_hash: str) -> str:
    """Make a lease; returns its file.

    Raises:
        OSError: it can't be written.
    """
    path = os.path.join(directory, f"{key_hash}.{tag()}.{secrets.token_hex(4)}{_SUFFIX}")
    _disk.create(path).close()
    return path


def let_go(path: str) -> None:
    """End a lease that this process has made; what a forked child inherits is its parent's."""
    if os.path.basename(path).split(".")[1] == tag():
        _disk.remove_file(path)


def is_held(directory: str, key_hash: str) -> bool:
    """Whether there is a lease of a key that counts."""
    return any(not is_over(path) for path in _leases(directory, key_hash + "."))


def ended(directory: str) -> list[str]:
    """Give the files of the leases that count for nothing any more."""
    return [path for path in _leases(directory, "") if is_over(path)]


def _leases(directory: str, prefix: str) -> Iterator[str]:
    with suppress(OSError):
        for name in os.listdir(directory):
            if name.startswith(prefix) and name.endswith(_SUFFIX):
                yield os.path.join(directory, name)


def is_over(path: str) -> bool:
    """Whether a lease counts for nothing any more."""
    gone = is_tag_gone(os.path.basename(path).split(".")[1])
    if gone is not None:
        return gone
    try:
        return time.time() - os.stat(path).st_mtime > _LONGEST_SECONDS
    except OSError:
        return True
