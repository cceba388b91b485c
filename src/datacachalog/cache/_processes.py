"""Which process is this, and is that one still there? Told apart also across hosts, containers and reboots."""

from __future__ import annotations

import functools
import hashlib
import os
import socket
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Process:
    """One run of one program.

    Args:
        host: where: name, boot, and process namespace, so that equal process numbers of two containers differ.
        number: the process number there.
        started: when it was started, in the kernel's ticks; 0 where that isn't known. Process numbers are used again.
    """

    host: str
    number: int
    started: int

    def __str__(self) -> str:
        return f"process {self.number} on {self.host.partition('/')[0]}"


def this_process() -> Process:
    """Name this process."""
    return _named(os.getpid())


@functools.lru_cache(maxsize=2)  # a forked child has another number, and asks again
def _named(number: int) -> Process:
    return Process(_host(), number, _started(number) or 0)


def is_gone(process: Process) -> bool | None:
    """Whether the process has ended; None if that can't be told from here."""
    if process.host != _host() or sys.platform == "win32":  # there, signal 0 would be a Ctrl-C
        return None
    try:
        os.kill(process.number, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    started = _started(process.number)
    return started is not None and process.started != 0 and started != process.started


def tag() -> str:
    """Name this process so that the name can be a part of a file's name."""
    process = this_process()
    return f"{process.number}-{process.started}-{_hash(process.host)}"


def is_tag_gone(tag: str) -> bool | None:
    """Whether the process of that tag has ended; None if that can't be told from here."""
    number, started, host = [*tag.split("-"), "", ""][:3]
    if not (number.isdecimal() and started.isdecimal() and host == _hash(_host())):
        return None
    return is_gone(Process(_host(), int(number), int(started)))


@functools.lru_cache(maxsize=2)
def _hash(host: str) -> str:
    return hashlib.sha256(host.encode()).hexdigest()[:12]


def _host() -> str:
    return "/".join([socket.gethostname(), _read("/proc/sys/kernel/random/boot_id"), _link("/proc/self/ns/pid")])


def _started(number: int) -> int | None:
    # The second field is the program's name in brackets, which may hold anything (proc(5)); the 22nd is the time.
    _, _, rest = _read(f"/proc/{number}/stat").rpartition(")")
    fields = rest.split()
    # A zombie has ended, though its parent hasn't asked for it yet.
    if len(fields) > 19:
        return -1 if fields[0] == "Z" else int(fields[19])
    return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
