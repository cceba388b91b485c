"""What is mounted where? As Linux tells it in `/proc/self/mountinfo` (proc_pid_mountinfo(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple


class Mount(NamedTuple):
    """One file system at one place.

    Args:
        device: the two numbers of its device, `major:minor`.
        root: which directory of it is mounted; empty for all of it.
        point: where; empty for `/`.
        kind: of file system.
        source: what is mounted: a device, `host:/path`.
    """

    device: str
    root: str
    point: str
    kind: str
    source: str


def read_mounts() -> str:
    """Give the kernel's text. Blocks.

    Raises:
        OSError: this system has none.
    """
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def parse_mounts(text: str) -> Iterator[Mount]:
    """Give what the text says, in its order; lines that are none are left out."""
    for line in text.splitlines():
        own, _, source = line.partition(" - ")
        fields, described = own.split(" "), source.split(" ")
        if len(fields) >= 5 and len(described) >= 2:
            root, point = _unescaped(fields[3]).rstrip("/"), _unescaped(fields[4]).rstrip("/")
            yield Mount(fields[2], root, point, described[0], _unescaped(described[1]))


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
