"""Which files have to go so that the cache keeps its bounds? A pure choice: no clock, no path, no disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from ..ports import Bounds
from ._usage import GRANULARITY_SECONDS


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be evicted.

    Args:
        last_use_ns: when it was last used, as POSIX nanoseconds.
        place: where it is.
        size: bytes.
        mtime_ns: the time that it was published with: another one is another file.
    """

    last_use_ns: int
    place: str
    size: int
    mtime_ns: int


def excess_bytes(bounds: Bounds, *, total_bytes: int, free_bytes: int) -> int:
    """How many bytes have to go; 0 or less if none."""
    over = total_bytes - bounds.max_bytes if bounds.max_bytes is not None else 0
    missing = bounds.min_free_bytes - free_bytes if bounds.min_free_bytes is not None else 0
    return max(over, missing)


def is_protected(last_use_ns: int, bounds: Bounds, *, now_ns: int) -> bool:
    """Whether a file was given to a caller so lately that it may not be evicted.

    A use may be written down a little late, so the period is longer by that; without a period nothing is protected.
    """
    if bounds.grace_seconds <= 0:
        return False
    return now_ns - last_use_ns < (bounds.grace_seconds + GRANULARITY_SECONDS) * 1e9


def in_order(candidates: Iterable[Candidate], most: int) -> list[Candidate]:
    """Give those that were least recently used, `most` of them at the most; the very least recently used comes last."""
    return sorted(candidates, key=attrgetter("last_use_ns"))[:most][::-1]
