"""What lies in the cache that is of no use to anybody? What killed processes have left, and what nobody declares.

A data file is removed only if a sidecar says that it is the cache's own, as it was published. A file of which the cache
knows nothing, or that somebody has changed, is its owner's to remove.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from .._models import CacheMetadata
from ..ports import CacheKey
from . import _disk, _leases
from ._claims import lock_file
from ._evictor import Evictor
from ._layout import UNPACKED, candidates, unpacked_home
from ._partials import ownerless
from ._processes import is_tag_gone
from ._removal import Ground, finish_removal, is_as_published, leaving_place, read_metadata
from ._unpacked import remove_ownerless

_LONGEST_WRITE_SECONDS = 3600.0


def clean_leftovers(ground: Ground, leases: str, is_stopped: Callable[[], bool]) -> int:
    """Remove what processes that have ended were in the middle of; returns the bytes."""
    freed = 0
    for path in ownerless(ground.partial):
        freed += _remove_partial(ground, leases, path)
    for path in _temporary_files(ground.temporary):
        with suppress(OSError):
            freed += 0 if _finish_publishing(ground, path) else _removed(path)
    for path in _leases.ended(leases):
        _disk.remove_file(path)
    for path in _sidecars(ground.meta, "~"):
        place = leaving_place(ground, path)
        if place is not None and ground.is_inside(place):
            freed += finish_removal(ground, place, path)
        if is_stopped():
            break
    return freed


def clean_sidecars(ground: Ground, evictor: Evictor, is_stopped: Callable[[], bool]) -> int:
    """Remove the sidecars whose data is gone; returns the bytes."""
    freed = 0
    for path in _sidecars(ground.meta, ".json"):
        place = _place(ground, path)
        data = ground.data_path(place)
        if not os.path.lexists(data):
            with suppress(OSError):
                size = os.lstat(path).st_size
                if evictor.remove(place, partial(_is_missing, data)) is not None:
                    freed += size
        if is_stopped():
            break
    return freed


def clean_trees(ground: Ground, is_stopped: Callable[[], bool]) -> int:
    """Remove what was unpacked of archives that are gone; returns the bytes."""
    if not os.path.isdir(os.path.join(ground.root, UNPACKED)):
        return 0
    homes = {unpacked_home(_place(ground, path)) for path in _sidecars(ground.meta, ".json")}
    return remove_ownerless(ground.root, homes, is_stopped)


def clean_undeclared(
    ground: Ground, evictor: Evictor, is_wanted: Callable[[str], bool], is_stopped: Callable[[], bool]
) -> tuple[int, bool]:
    """Remove the entries of objects that nobody wants any more; returns the bytes, and whether all of them are gone."""
    freed, is_done = 0, True
    for path in _sidecars(ground.meta, ".json"):
        metadata = read_metadata(path)
        if metadata is not None and not is_wanted(metadata.source):
            place = _place(ground, path)
            removed = None
            with suppress(OSError):
                removed = evictor.remove(place, lambda found: not is_wanted(found.source))
            freed += removed or 0
            is_done = is_done and removed is not None
        if is_stopped():
            return freed, False
    return freed, is_done


def _remove_partial(ground: Ground, leases: str, path: str) -> int:
    """Remove a partial, unless somebody has claimed its file, and may be about to go on with it."""
    claimed = os.path.basename(path).partition(".")[0]
    claims = lock_file(os.path.join(leases, "claims"))
    freed, is_locked = 0, False
    with suppress(OSError):  # no locks here
        is_locked = claims.acquire(claimed)
        if not is_locked:
            return 0
    try:
        with suppress(OSError):
            own = ground.temporary_path()
            _disk.rename_directory(path, own)  # of those who want it, one gets it
            freed = sum(os.lstat(os.path.join(own, name)).st_size for name in os.listdir(own))
            _disk.remove_directory(own)
    finally:
        if is_locked:
            claims.release(claimed)
    return freed


def _temporary_files(temporary: str) -> Iterator[str]:
    """Give the temporary files whose process has ended; of one that can't be asked, those that are an hour old."""
    with suppress(OSError):
        for name in os.listdir(temporary):
            if not name.endswith(".tmp"):
                continue
            path, gone = os.path.join(temporary, name), is_tag_gone(name.partition(".")[0])
            with suppress(OSError):
                found = os.lstat(path)
                is_old = time.time() - found.st_mtime > _LONGEST_WRITE_SECONDS
                if stat.S_ISREG(found.st_mode) and (gone or (gone is None and is_old)):
                    yield path


def _finish_publishing(ground: Ground, path: str) -> bool:
    """Put a sidecar in its place that a process was killed over, if its data is in its place already."""
    metadata = read_metadata(path)
    if metadata is None:
        return False
    for version_id in {None, metadata.version_id}:
        for place in candidates(CacheKey(metadata.source, version_id)):
            sidecar = ground.sidecar_path(place)
            is_there = is_as_published(ground.data_path(place), metadata) and ground.is_inside(place)
            if is_there and read_metadata(sidecar) != metadata:
                _disk.replace(path, sidecar)
                return True
    return False


def _sidecars(meta: str, suffix: str) -> Iterator[str]:
    for directory, _, names in os.walk(meta):
        for name in names:
            if name.endswith(suffix):
                yield os.path.join(directory, name)


def _place(ground: Ground, sidecar: str) -> str:
    return os.path.relpath(sidecar, ground.meta).removesuffix(".json").replace(os.sep, "/")


def _is_missing(data: str, _: CacheMetadata) -> bool:
    return not os.path.lexists(data)


def _removed(path: str) -> int:
    size = os.lstat(path).st_size
    _disk.unlink(path)
    return size
