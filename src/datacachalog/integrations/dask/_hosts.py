"""Which workers are on one host? Those that have one cache: of one machine, and in one directory.

A directory on a network file system is one cache for all machines that have mounted it. The kernel tells so: such a
mount has a source that means the same everywhere, `server:/export`. Taking two caches for one would leave one of them
empty, taking one for two only costs a look into it, so what isn't known to be shared isn't.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import anyio.to_thread
from distributed import Worker
from distributed.comm.addressing import get_address_host

from ...cache import FileCache
from ...cache._mounts import parse_mounts, read_mounts
from ...ports import CachePort

HostOf: TypeAlias = Callable[[Worker], str] | None
"""Tells, on a worker, which host it is on; None: by the machine's address and the cache's directory."""

_SHARED_FILE_SYSTEMS = frozenset({"beegfs", "ceph", "cifs", "gpfs", "lustre", "nfs", "nfs4", "smb3"})
"""Those whose mounts have the same source on all machines (`/proc/filesystems`' names)."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a worker is. Workers of equal seats share a cache.

    Args:
        machine: its address; empty for a place that several machines share.
        place: the directory of its cache, if it has one.
    """

    machine: str
    place: str


async def seat_of(worker: Worker, cache: CachePort, host_of: HostOf) -> Seat:
    """Tell where a worker is, whose cache that is."""
    if host_of is not None:
        return Seat(str(host_of(worker)), "")
    machine = get_address_host(worker.contact_address or worker.address)
    if not isinstance(cache, FileCache):
        return Seat(machine, "")
    return await anyio.to_thread.run_sync(_seat_in, machine, str(cache.cache_dir))


def _seat_in(machine: str, directory: str) -> Seat:
    directory = os.path.realpath(directory)
    try:
        shared = shared_place(directory, read_mounts())
    except OSError:
        shared = None
    return Seat(machine, directory) if shared is None else Seat("", shared)


def shared_place(directory: str, mounts: str) -> str | None:
    """Tell what a directory is on every machine; None if it is of this machine alone.

    Args:
        directory: absolute, without links.
        mounts: the text of `read_mounts`.
    """
    best, found = "", None
    for mount in parse_mounts(mounts):
        is_inside = directory == mount.point or directory.startswith(f"{mount.point}/")
        if is_inside and len(mount.point) >= len(best):  # of two mounts at one place, the later one is seen
            best = mount.point
            is_shared = mount.kind in _SHARED_FILE_SYSTEMS
            found = f"{mount.source}{mount.root}{directory[len(mount.point) :]}" if is_shared else None
    return found


def names_of(seats: set[Seat]) -> dict[Seat, str]:
    """Give each host a name: its machine's address, with the directory where a machine has several."""
    machines = [seat.machine for seat in seats]
    return {
        seat: seat.place if not seat.machine else seat.machine
        if machines.count(seat.machine) == 1 else f"{seat.machine}:{seat.place}"
        for seat in seats
    }  # fmt: skip
