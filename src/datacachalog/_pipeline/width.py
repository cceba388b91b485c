"""How many parts of one object are asked for at once? More for as long as more bring more.

A connection gives what the way and the server allow it: a distant store some tens of megabytes a second, so it takes
many to fill a line. Where two or three keep the processor busy, the others only stand in each other's way. So it begins
with as many as there are processors, two to four, with more where answers are slow to begin, and doubles them while
they bring more and the work leaves the processor time; a store that asks for slower requests gets fewer.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


def first_of(processors: int) -> int:
    """Give with how many to begin on a machine with so many processors, by what large objects took on two of them."""
    return max(2, min(processors, 4))


_FIRST = first_of(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
_FIRST_OF_FAR = 16
_FAR_SECONDS = 0.01
"""From there on an answer comes from afar: one over a network nearby takes a few thousandths of a second."""

_MOST = 32
_LEAST_GROWTH = 1.15
"""By how much the rate must have grown since there were half as many."""

_MOST_CPU = 0.5
"""Seconds of processor time a second that taking and writing the bytes may cost if more are to be taken."""


@dataclass(slots=True)
class Width:
    """How many tasks bring the parts of an object.

    Args:
        most: how many there may be at all.
        answer_seconds: how long the remote has taken to answer a question; 0 if it wasn't asked one.
        wanted: how many there should be.
        working: how many there are.
    """

    most: int
    answer_seconds: float = 0.0
    wanted: int = 0
    working: int = 0
    _rate_before: float = 0.0
    _seen_at: float = 0.0
    _received_bytes: int = 0
    _cpu_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.most = max(1, min(self.most, _MOST))
        self.wanted = min(_FIRST if self.answer_seconds < _FAR_SECONDS else _FIRST_OF_FAR, self.most)

    def begin(self, now: float, received_bytes: int) -> None:
        """Note what has come before."""
        self._seen_at, self._received_bytes = now, received_bytes

    def observe(self, now: float, received_bytes: int, cpu_seconds: float) -> None:
        """See what has come since the last look, and what it has cost; want more if that promises something.

        Args:
            now: monotonic seconds.
            received_bytes: in all.
            cpu_seconds: of the threads that take and write them, in all.
        """
        seconds = now - self._seen_at
        if seconds <= 0:
            return
        rate = (received_bytes - self._received_bytes) / seconds
        cpu = (cpu_seconds - self._cpu_seconds) / seconds
        self._seen_at, self._received_bytes, self._cpu_seconds = now, received_bytes, cpu_seconds
        if rate > self._rate_before * _LEAST_GROWTH and cpu < _MOST_CPU:
            self._rate_before = rate
            self.wanted = min(2 * self.wanted, self.most)

    def throttle(self) -> None:
        """Want fewer: the store can't give more."""
        self.most = self.wanted = max(1, self.wanted // 2)
