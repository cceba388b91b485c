"""How are the bounds kept, at 100 000 entries, without looking at all of them after each publish?

The directory is looked over once; that gives the total, from which on the account is kept, and the order in which files
would go. The oldest of them are remembered, also for the processes to come, in a file that nobody has to trust: what
has been used since is not as old as the list says, and is passed over; what is not on the list is younger. So the next
ones are evicted at the cost of looking at these few, until the list is used up.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass

from .._models import CacheMetadata
from ..ports import Bounds
from . import _disk
from ._claims import key_hash, lock_file
from ._eviction import Candidate, excess_bytes, in_order, is_protected
from ._layout import UNPACKED, key_at
from ._leases import is_held
from ._removal import Ground, is_as_published, read_metadata, remove_entry
from ._unpacked import remove_trees, tree_bytes
from ._usage import Times, Usage

_MOST_CANDIDATES = 20_000
_QUICK_SECONDS = 0.05
_REST = 20  # times as long as it took to look


@dataclass(frozen=True, slots=True)
class Eviction:
    """One call of the evictor.

    Args:
        bounds: what is to be kept.
        spared: the paths of files that may not go.
        is_stopped: asked after each file; True ends it.
    """

    bounds: Bounds
    spared: Collection[str]
    is_stopped: Callable[[], bool]


class Evictor:
    """What this process knows of the order in which the files of one cache would be evicted.

    Args:
        ground: the cache.
        usage: its account and times.
        leases: the directory of the claims and leases.
        oldest: the file that remembers the order.
    """

    def __init__(self, ground: Ground, usage: Usage, leases: str, oldest: str) -> None:
        self._ground = ground
        self._usage = usage
        self._leases = leases
        self._oldest = oldest
        self._mutex = threading.Lock()
        self._order: list[Candidate] | None = None
        self._rests_until = 0.0

    def is_over(self, bounds: Bounds) -> bool:
        """Whether something has to go, as far as the account tells; True if there is none yet."""
        total = self._usage.total_bytes() if bounds.max_bytes is not None else 0
        return total is None or excess_bytes(bounds, total_bytes=total, free_bytes=self._free_bytes()) > 0

    def evict(self, eviction: Eviction, *, is_thorough: bool) -> int:
        """Remove files, the least recently used first, until the bounds are kept or the rest is in use.

        Args:
            eviction: what is asked.
            is_thorough: look the directory over first.

        Returns:
            Bytes removed.
        """
        with self._mutex:
            self._usage.note(())
            if is_thorough:
                self._look_over()
            elif self._is_resting():
                return 0
            freed, free_at_first = 0, self._free_bytes()
            has_looked = is_thorough
            while not eviction.is_stopped():
                total = self._usage.total_bytes()
                if total is None:
                    if has_looked:  # no account can be kept here
                        break
                    total = self._look_over()
                    has_looked = True
                # What is removed need not be free at once, so it is counted rather than asked for.
                if excess_bytes(eviction.bounds, total_bytes=total, free_bytes=free_at_first + freed) <= 0:
                    break
                candidate = self._next(eviction.bounds)
                if candidate is not None:
                    freed += self._evict(candidate, eviction)
                elif has_looked or self._order:
                    break
                else:
                    self._look_over()
                    has_looked = True
            return freed

    def survey(self) -> list[Candidate]:
        """Look at every file, and begin the account anew with what they come to."""
        found = list(files(self._ground, self._usage.times()))
        self._usage.begin_account(sum(candidate.size for candidate in found), self._ground.temporary_path())
        return found

    def remove(self, place: str, may_go: Callable[[CacheMetadata], bool]) -> int | None:
        """Remove one file, if it may go and nobody fetches it or has it open.

        Returns:
            Bytes removed; None if it stays.
        """
        metadata = read_metadata(self._ground.sidecar_path(place))
        if metadata is None or not self._ground.is_inside(place):
            return None
        key = key_at(place, metadata.source, metadata.version_id)
        claimed = key_hash(key.uri, key.version_id)

        def is_free(found: CacheMetadata) -> bool:
            return found.mtime_ns == metadata.mtime_ns and may_go(found) and not is_held(self._leases, claimed)

        if not is_free(metadata):
            return None
        claims = lock_file(os.path.join(self._leases, "claims"))
        is_locked = False
        with suppress(OSError):  # no locks here: the order of the removal is what counts
            is_locked = claims.acquire(claimed)
            if not is_locked:
                return None
        try:
            freed = remove_entry(self._ground, place, is_free)
            if freed is not None:
                freed += remove_trees(self._ground.root, place)
        finally:
            if is_locked:
                claims.release(claimed)
        if freed is not None:
            self._usage.add(-freed)
        return freed

    def _evict(self, candidate: Candidate, eviction: Eviction) -> int:
        place = candidate.place
        path = self._ground.data_path(place)
        if path in eviction.spared:
            return 0

        def is_unused(found: CacheMetadata) -> bool:
            is_same = found.mtime_ns == candidate.mtime_ns and is_as_published(path, found)
            return is_same and self._usage.last_use_ns(place) <= candidate.last_use_ns

        try:
            return self.remove(place, is_unused) or 0
        except OSError:  # another user's, say: the next one may go
            return 0

    def _next(self, bounds: Bounds) -> Candidate | None:
        """Take the least recently used file; None if there is none known, or even that is protected."""
        if self._order is None:
            self._order = self._remembered()
        if not self._order or is_protected(self._order[-1].last_use_ns, bounds, now_ns=time.time_ns()):
            return None
        return self._order.pop()

    def _is_resting(self) -> bool:
        """Whether the directory was looked over a moment ago, in vain: to look takes long where there is much."""
        return self._order == [] and time.monotonic() < self._rests_until

    def _look_over(self) -> int:
        began = time.monotonic()
        found = self.survey()
        took = time.monotonic() - began
        self._rests_until = began + (_REST * took if took > _QUICK_SECONDS else 0.0)
        self._order = in_order(found, _MOST_CANDIDATES)
        text = "".join(f"{one.last_use_ns} {one.mtime_ns} {one.size} {one.place}\n" for one in self._order)
        temporary = self._ground.temporary_path()
        with suppress(OSError):
            with _disk.create(temporary) as file:
                _disk.write_all(file, [text.encode(errors="surrogatepass")])
            _disk.replace(temporary, self._oldest)
        return sum(candidate.size for candidate in found)

    def _remembered(self) -> list[Candidate]:
        """Read the order that an earlier process has left; a damaged line ends it."""
        order: list[Candidate] = []
        with (
            suppress(OSError, ValueError),
            open(self._oldest, encoding="utf-8", errors="surrogatepass", newline="\n") as file,
        ):
            for line in file:
                last_use_ns, mtime_ns, size, place = line.rstrip("\n").split(" ", 3)
                order.append(Candidate(int(last_use_ns), place, int(size), int(mtime_ns)))
        return order

    def _free_bytes(self) -> int:
        with suppress(OSError):
            return shutil.disk_usage(self._ground.root).free
        return 1 << 62  # no directory, or one that can't be asked: nothing to free there


def files(ground: Ground, times: Times) -> Iterator[Candidate]:
    """Give every file that has a sidecar, with its size on disk, unpacked too, and its last use; no sidecar is read."""
    start = len(ground.meta) + 1
    has_trees = os.path.isdir(os.path.join(ground.root, UNPACKED))
    waiting = [ground.meta]
    while waiting:
        directory = waiting.pop()
        try:
            with os.scandir(directory) as entries:
                found = list(entries)
        except OSError:
            continue
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
                continue
            if not entry.name.endswith(".json"):
                continue
            name = entry.path[start : -len(".json")]
            place = name.replace(os.sep, "/")
            with suppress(OSError):
                data = os.lstat(f"{ground.root}{os.sep}{name}")
                if stat.S_ISREG(data.st_mode):
                    published_ns = entry.stat(follow_symlinks=False).st_mtime_ns
                    size = data.st_size + (tree_bytes(ground.root, place) if has_trees else 0)
                    yield Candidate(max(times.last_use_ns(place), published_ns), place, size, data.st_mtime_ns)


_evictors: dict[str, Evictor] = {}


def evictor_of(root: str, make: Callable[[], Evictor]) -> Evictor:
    """Give this process's one evictor of the cache in that directory."""
    return _evictors.get(root) or _evictors.setdefault(root, make())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_evictors.clear)  # a thread of the parent may have held a mutex
