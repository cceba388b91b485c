"""How does an entry leave the cache so that no half of it stays, and nobody loses what he has just been given?

In this order, without relying on a lock:

1. The sidecar is renamed to a name of its own beside it: from now on the entry is absent to everybody who looks.
2. It is asked again whether the entry may go. Who gives an entry to a caller first writes down that it is used, then
   looks whether its sidecar is still there: so either we see the use, and put the sidecar back (the data was in its
   place all the time), or he sees the absence, and fetches anew.
3. The data is renamed away, and looked at: if it is not what the sidecar says, somebody has published a new version
   meanwhile, and it is put back. Else it is removed, and the sidecar last.

A process that dies in between leaves the old entry or none, and a sidecar that tells which data is nobody's: whoever
cleans the cache finishes it.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from .._models import CacheMetadata
from . import _disk, _sidecar
from ._processes import Process, is_gone, tag, this_process

# The number of the process, so that what a dead one has left is known; as short as that, because names are long.
_LEAVING = re.compile(r"(?s)(?P<place>.*)\.(?P<process>[0-9a-f]{6,})-[0-9a-f]{3}~")


@dataclass(frozen=True, slots=True)
class Ground:
    """The directories of a cache, for those who remove from it.

    Args:
        root: the cache directory.
        meta: where the sidecars are.
        partial: where unfinished downloads are.
        temporary: where the temporary files are.
        is_inside: whether no link is on the way to a place.
    """

    root: str
    meta: str
    partial: str
    temporary: str
    is_inside: Callable[[str], bool]

    def data_path(self, place: str) -> str:
        """The data file at a place."""
        return os.path.join(self.root, *place.split("/"))

    def sidecar_path(self, place: str) -> str:
        """Its sidecar."""
        return os.path.join(self.meta, *place.split("/")) + ".json"

    def temporary_path(self) -> str:
        """A new name for a file of this process that will soon have another name, or none."""
        return os.path.join(self.temporary, f"{tag()}.{secrets.token_hex(8)}.tmp")


def remove_entry(ground: Ground, place: str, may_go: Callable[[CacheMetadata], bool]) -> int | None:
    """Take an entry out of the cache; returns how many bytes of data that were, or None if it stays.

    Args:
        ground: the cache.
        place: where the entry is.
        may_go: is asked, when nobody can be given the entry any more, whether it may go.
    """
    sidecar = ground.sidecar_path(place)
    leaving = f"{sidecar.removesuffix('.json')}.{this_process().number:06x}-{secrets.token_hex(2)[:3]}~"
    try:
        _disk.replace(sidecar, leaving)
    except FileNotFoundError:  # somebody else has removed it
        return None
    metadata = read_metadata(leaving)
    if metadata is not None and not may_go(metadata):
        _disk.put_back(leaving, sidecar)
        return None
    try:
        freed = 0 if metadata is None else _remove_data(ground, place, metadata)
    except OSError:  # a directory that may not be written, say
        _disk.put_back(leaving, sidecar)
        raise
    _disk.remove_file(leaving)
    return freed


def leaving_place(ground: Ground, path: str) -> str | None:
    """Give the place of an entry whose removal a dead process has begun, if the file is a sidecar of one."""
    match = _LEAVING.fullmatch(os.path.relpath(path, ground.meta))
    if match is None or is_gone(Process(this_process().host, int(match["process"], 16), 0)) is not True:
        return None
    return match["place"].replace(os.sep, "/")


def finish_removal(ground: Ground, place: str, leaving: str) -> int:
    """Finish the removal that a dead process has begun; returns how many bytes of data that were."""
    metadata = read_metadata(leaving)
    freed = 0 if metadata is None else _remove_data(ground, place, metadata)
    _disk.remove_file(leaving)
    return freed


def read_metadata(path: str) -> CacheMetadata | None:
    """Read a sidecar; None if there is none that can be read."""
    with suppress(OSError), open(path, "rb", buffering=0) as file:
        return _sidecar.decode(file.read())
    return None


def is_as_published(path: str, metadata: CacheMetadata) -> bool:
    """Whether the file is there and has the size and time that it was published with."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    is_same = (found.st_size, found.st_mtime_ns) == (metadata.size, metadata.mtime_ns)
    return is_same and stat.S_ISREG(found.st_mode)


def _remove_data(ground: Ground, place: str, metadata: CacheMetadata) -> int:
    """Remove the data that a sidecar tells of; what is no longer that, or never was, is not the cache's to remove."""
    path, temporary = ground.data_path(place), ground.temporary_path()
    if not is_as_published(path, metadata):
        return 0
    try:
        _disk.replace(path, temporary)
    except FileNotFoundError:
        return 0
    if not is_as_published(temporary, metadata):
        _disk.put_back(temporary, path)
        return 0
    _disk.remove_file(temporary)
    return metadata.size
