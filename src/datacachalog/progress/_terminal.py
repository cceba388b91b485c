"""Where on a terminal can lines move without harming what the program writes? In a live area below the cursor.

The invariant: after every write of ours the cursor is visible and stands where the program left it, and all lines of
ours are below it. So the program's next line goes where it would have gone, "erase everything below the cursor" takes
exactly our lines away, also after the window was made narrower and the terminal has wrapped them, and a process that is
killed leaves the terminal in order. That is why this is not `rich.live.Live`: there the cursor is hidden and below the
lines, and what the program prints to standard output is redirected to where the lines are.

What the program writes over our lines (several lines at once, between two redraws) would be mixed with their rests. So
`sys.stdout` and `sys.stderr`, if they are the same terminal, are replaced while the area exists by passages that erase
it first and then hand the text to the real stream, unchanged. Standard output that goes anywhere else isn't touched.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from threading import RLock
from typing import Any, TextIO
from weakref import WeakSet

_ERASE_BELOW = "\x1b[J"
_INDEX = "\x1bD"  # one line down, in the same column; at the bottom, the screen scrolls
_SAVE_CURSOR = "\x1b7"
_RESTORE_CURSOR = "\x1b8"
_HIDE_CURSOR = "\x1b[?25l"
_SHOW_CURSOR = "\x1b[?25h"


class LiveArea:
    """Lines below the cursor that can be drawn again and again. Safe to be used from several threads.

    A stream that fails closes the area for good; nothing is raised.

    Args:
        stream: the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # Reentrant: a signal handler may print in the middle of a print.
        self.lock = RLock()
        self._is_open = True
        self._is_drawn = False
        self.is_mid_line = False
        self._passages: dict[str, Passage] = {}
        _areas.add(self)

    def size(self) -> tuple[int, int]:
        """Tell the terminal's columns and rows now; zeros if it doesn't say."""
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return 0, 0
        return size.columns, size.lines

    def draw(self, lines: Sequence[str]) -> None:
        """Replace what is drawn by these lines, each narrower than the terminal, together lower than it."""
        with self.lock:
            if not self._is_open:
                return
            if not self._passages:
                self._let_pass()
            height = len(lines)
            # The room is made first: scrolling while drawing would move the place that the cursor returns to.
            room = f"{_INDEX * height}\x1b[{height}A" if height else ""
            body = "".join(f"\r\n{line}" for line in lines)
            self._write(
                f"{_HIDE_CURSOR}{_ERASE_BELOW}{room}{_SAVE_CURSOR}{body}{_RESTORE_CURSOR}{_SHOW_CURSOR}"
                if lines
                else _ERASE_BELOW
            )
            self._is_drawn = height > 0

    def erase(self) -> None:
        """Take the lines away until they are drawn again."""
        with self.lock:
            if self._is_open and self._is_drawn:
                self._is_drawn = False
                self._write(_ERASE_BELOW)

    def close(self, last_line: str = "") -> None:
        """Take the lines away for good, and leave one that stays in their place."""
        with self.lock:
            self.erase()
            if self._is_open and last_line:
                self._write(("\n" if self.is_mid_line else "") + last_line + "\n")
            self.abandon()

    def abandon(self) -> None:
        """Draw nothing more, and give the program its streams back."""
        self._is_open = False
        for name, passage in self._passages.items():
            # Somebody who has replaced it since, or has kept it, goes on with the passage, which is open for ever.
            if getattr(sys, name) is passage:
                setattr(sys, name, passage.stream)
        self._passages.clear()

    def _let_pass(self) -> None:
        for name in ("stdout", "stderr"):
            stream = unwrapped(getattr(sys, name))
            if _is_same_terminal(stream, self._stream):
                passage = self._passages[name] = Passage(stream, self)
                setattr(sys, name, passage)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self.abandon()


class Passage:
    """A stream to the terminal on which a live area is drawn: erases it before anything else is written."""

    def __init__(self, stream: Any, area: LiveArea) -> None:
        self.stream = stream
        self._area = area

    def write(self, text: str) -> int:
        """Write text, as the stream does."""
        with self._area.lock:
            self._area.erase()
            written: int = self.stream.write(text)
            if text:
                self._area.is_mid_line = not text.endswith("\n")
            return written

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts, as the stream does."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream."""
        with self._area.lock:
            self._area.erase()
            self.stream.flush()

    def __iter__(self) -> Any:
        return iter(self.stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def unwrapped(stream: Any) -> Any:
    """Find the stream behind the passages, of areas that exist and that existed."""
    while isinstance(stream, Passage):
        stream = stream.stream
    return stream


def _is_same_terminal(stream: Any, other: TextIO) -> bool:
    try:
        return bool(
            stream.isatty() and other.isatty() and os.fstat(stream.fileno()).st_rdev == os.fstat(other.fileno()).st_rdev
        )
    except (AttributeError, OSError, ValueError):
        return False


_areas: WeakSet[LiveArea] = WeakSet()


def _abandon_all() -> None:
    """Leave the terminal to the parent: the thread that draws is not in a forked child, but it may hold the lock."""
    for area in list(_areas):
        area.lock = RLock()
        area.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
