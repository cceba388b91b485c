"""Is what a sidecar said still so, and can that be told without a thread? By two looks at inodes that are in memory.

A copy that is asked for again and again is found each time by its sidecar and its file, and the way to a thread takes
several times as long as that. Of a sidecar that was read already, and of the file, it is enough to see that they are
still the same, which on a local disk waits for nobody: the kernel keeps the inodes of files in use. Only Linux says
what kind a file system is; on one of another kind, or elsewhere, nothing is remembered, and each look takes a thread.
"""

from __future__ import annotations

import functools
import os
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from ..ports import CacheEntry, CacheKey
from ._mounts import parse_mounts, read_mounts
from ._removal import is_as_published

MOST_AT_ONCE = 16
"""So many are answered for on the event loop: a fifth of a millisecond's work."""

_MOST_REMEMBERED = 10_000
_SETTLED_NS = 100_000_000
"""A change within one tick of the file system's clock (10 ms at the most) may leave a sidecar's times as they were."""

_SECOND_NS = 1_000_000_000
_LOCAL_FILE_SYSTEMS = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"}
)


class _Version(NamedTuple):
    """Which file is at a path, and of which change."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class _Remembered:
    """What a sidecar said, and which file it was."""

    sidecar_path: str
    version: _Version
    data_path: str
    entry: CacheEntry

    def is_still_so(self) -> bool:
        """Whether the sidecar and the file are those that they were. Does not block."""
        try:
            version = _version(os.lstat(self.sidecar_path))
        except OSError:
            return False
        return version == self.version and is_as_published(self.data_path, self.entry.metadata)


class Recent:
    """The sidecars of one cache that this process has read, of entries that were intact."""

    def __init__(self) -> None:
        self._remembered: dict[CacheKey, _Remembered] = {}

    def find(
        self, key: CacheKey, sidecar_path: str, data_path: str, find: Callable[[CacheKey], CacheEntry | None]
    ) -> CacheEntry | None:
        """Find an entry, and remember it if the kind of the file system and the sidecar's age allow to. Blocks.

        Args:
            key: what is looked up.
            sidecar_path: where it is looked for first; an entry at another place is not remembered.
            data_path: where its file is then.
            find: reads the sidecar.
        """
        version: _Version | None = None
        with suppress(OSError):
            # Before it is read: if it is replaced in between, what was read is forgotten at the next look.
            status = os.lstat(sidecar_path)
            if stat.S_ISREG(status.st_mode):  # what a link points at could change unseen
                version = _version(status)
        entry = find(key)
        if version is None or entry is None or os.fspath(entry.path) != data_path:
            return entry
        with suppress(OSError):
            if _is_settled(version) and is_local(version.device) and is_local(os.lstat(data_path).st_dev):
                if len(self._remembered) >= _MOST_REMEMBERED:
                    self._remembered.clear()
                self._remembered[key] = _Remembered(sidecar_path, version, data_path, entry)
        return entry

    def recall(self, keys: Sequence[CacheKey]) -> list[CacheEntry | None] | None:
        """Give the entries if all of them are remembered and still so; None if a thread has to look."""
        found: list[CacheEntry | None] = []
        for key in keys:
            known = self._remembered.get(key)
            if known is None or not known.is_still_so():
                self._remembered.pop(key, None)
                return None
            found.append(known.entry)
        return found


def _version(found: os.stat_result) -> _Version:
    return _Version(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _is_settled(version: _Version) -> bool:
    """Whether any later change shows in the times: not on a file system that keeps whole seconds."""
    return version.ctime_ns % _SECOND_NS != 0 and time.time_ns() - version.ctime_ns > _SETTLED_NS


@functools.lru_cache(maxsize=64)
def is_local(device: int) -> bool:
    """Whether a file system answers for what is in memory without asking anybody: of a kind that is known to.

    Args:
        device: its number, as `st_dev`.
    """
    try:
        return is_local_by(read_mounts(), f"{os.major(device)}:{os.minor(device)}")
    except OSError:
        return False


def is_local_by(mounts: str, number: str) -> bool:
    """The same, by the text of `read_mounts` and the device's two numbers."""
    kinds = (mount.kind for mount in parse_mounts(mounts) if mount.device == number)
    return next(kinds, None) in _LOCAL_FILE_SYSTEMS


_recents: dict[str, Recent] = {}


def recent_of(directory: str) -> Recent:
    """Give what this process remembers of the cache in that directory."""
    return _recents.get(directory) or _recents.setdefault(directory, Recent())
