"""Which workers are on one host? Those that have one cache: of one machine, and in one directory.

A directory on a network file system is one cache for all machines that have mounted it. The kernel tells so: such a
mount has a source that means the same everywhere, `server:/export`. Taking two caches for one would leave one of them
empty, taking one for two only costs a look into it, so what isn't known to be shared isn't.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import anyio.to_thread
from distributed import Worker
from distributed.comm.addressing import get_address_host

from ...cache import FileCache
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
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            shared = shared_place(directory, file.read())
    except OSError:
        shared = None
    return Seat(machine, directory) if shared is None else Seat("", shared)


def shared_place(directory: str, mounts: str) -> str | None:
    """Tell what a directory is on every machine; None if it is of this machine alone.

    Args:
        directory: absolute, without links.
        mounts: the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
    """
    best, found = "", None
    for line in mounts.splitlines():
        own, _, source = line.partition(" - ")
        fields, described = own.split(" "), source.split(" ")
        if len(fields) < 5 or len(described) < 2:
            continue
        root, point = _unescaped(fields[3]).rstrip("/"), _unescaped(fields[4]).rstrip("/")
        is_inside = directory == point or directory.startswith(f"{point}/")
        if is_inside and len(point) >= len(best):  # of two mounts at one place, the later one is seen
            best = point
            is_shared = described[0] in _SHARED_FILE_SYSTEMS
            found = f"{_unescaped(described[1])}{root}{directory[len(point) :]}" if is_shared else None
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def names_of(seats: set[Seat]) -> dict[Seat, str]:
    """Give each host a name: its machine's address, with the directory where a machine has several."""
    machines = [seat.machine for seat in seats]
    return {
        seat: seat.place if not seat.machine else seat.machine
        if machines.count(seat.machine) == 1 else f"{seat.machine}:{seat.place}"
        for seat in seats
    }  # fmt: skip
