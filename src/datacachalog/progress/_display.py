"""When is progress shown? A display takes events at once and shows them later, from a thread of its own.

The observer runs on the catalog's event loop, so it only puts the event into a queue. Work that is over in a moment
never gets a thread. Otherwise one daemon thread per burst (operations that overlap) looks at the numbers at the pace of
its view, so the cost of showing depends on the time that the work takes and not on the number of events.

The end of a burst that has been shown is the exception: the observer clears the screen itself, so that what the program
writes next finds the terminal as it was. That is one short line, as a `print` would be, and at most the wait for a
redraw that is under way. A terminal that was stopped (Ctrl-S) doesn't finish that redraw: the wait is bounded, and then
the thread clears up when it can.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from threading import Event as Flag
from threading import Lock, RLock, Thread
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from .._events import (
    Event,
    OperationFinished,
    OperationStarted,
    RequestRetried,
    TransferAdvanced,
    TransferAwaited,
    TransferStarted,
)
from ._tally import Progress, Summary, Tally

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

MOMENT_SECONDS = 0.15
"""Transfers that are over by then are not shown at all."""

ACTIVE_FILES = 5
"""So many files get a line of their own."""

_LONG_SECONDS = 1.0
"""Work without a transfer that is not over by then is looked after too."""

_REDRAW_SECONDS = 0.1
"""The end of an operation waits no longer than this for a redraw under way, which takes less than a thousandth."""

_QUEUE_EVENTS = 5_000
"""With so many events in the queue they are counted at once, so that the queue stays small."""

_log = logging.getLogger("datacachalog.progress")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a view is shown: how far it is, and the seconds since the burst began."""

    progress: Progress
    elapsed_seconds: float


class View(Protocol):
    """A surface that shows one burst. Used from one thread at a time; a surface that fails shows nothing more."""

    def seconds_until_due(self, look: Look) -> float:
        """Tell how long to wait before showing anything; 0 means now."""
        ...

    def show(self, look: Look) -> float:
        """Show it, and tell after how many seconds to show it again."""
        ...

    def close(self, summary: Summary | None) -> None:
        """Take back what doesn't stay, and say what it came to; None means that it isn't known.

        The last call, and only if there was one of `show`.
        """
        ...


class Display:
    """An observer that shows what it is told.

    Args:
        make_view: makes the view for a burst, in the burst's own thread, when it is clear that there will be something
            to show.
        clock: seconds that only go forward.
    """

    def __init__(self, make_view: Callable[[], View], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._make_view = make_view
        self._clock = clock
        self.forget()
        _displays.add(self)

    def forget(self) -> None:
        """Begin anew, as if nothing had been told: in a forked child, the parent's thread does not exist."""
        self._lock = Lock()
        self._operations: set[int] = set()
        self._burst: _Burst | None = None

    def __call__(self, event: Event) -> None:
        """Take an event, from any thread."""
        kind = type(event)
        if kind is TransferAdvanced:
            if (burst := self._burst) is not None:
                burst.put(event)
        elif isinstance(event, OperationStarted):
            with self._lock:
                self._operations.add(event.operation)
                burst = self._burst
                if burst is None:
                    burst = self._burst = _Burst(self._make_view, self._clock)
                burst.put(event)
        elif isinstance(event, OperationFinished):
            with self._lock:
                burst = self._burst
                if burst is None or event.operation not in self._operations:
                    return
                burst.put(event)
                self._operations.discard(event.operation)
                if self._operations:
                    return
                self._burst = None
            burst.end()
        elif (burst := self._burst) is not None:
            burst.put(event)
            burst.consider(is_waiting=isinstance(event, TransferStarted | TransferAwaited | RequestRetried))


class _Burst:
    """Operations that overlap, from the start of the first to the end of the last.

    Every call makes one, also the fetch of a cached file that takes microseconds, so what most of them never need is
    made when it is needed.
    """

    __slots__ = (
        "_began", "_clock", "_context", "_counting", "_is_complete", "_is_considered", "_is_over", "_make_view",
        "_queue", "_shown", "_state", "_tally", "_turn", "_wake",
    )  # fmt: skip

    def __init__(self, make_view: Callable[[], View], clock: Callable[[], float]) -> None:
        self._make_view = make_view
        self._clock = clock
        self._began = clock()
        # A notebook knows by a context variable which cell a display belongs to.
        self._context = copy_context()
        self._queue: deque[Event] = deque()
        self._counting = Lock()  # guards the tally
        self._tally: Tally | None = None
        self._state = Lock()  # guards what follows
        self._is_considered = False
        self._is_over = False
        self._is_complete = False
        self._wake: Flag | None = None
        self._turn: RLock | None = None  # whose turn it is to use the view
        self._shown: View | None = None  # the view, while it shows something

    def put(self, event: Event) -> None:
        """Take an event, from any thread."""
        self._queue.append(event)
        if len(self._queue) >= _QUEUE_EVENTS:
            with self._counting:
                self._counted()

    def _counted(self) -> Tally:
        tally = self._tally
        if tally is None:
            tally = self._tally = Tally()
        while self._queue:
            tally.fold(self._queue.popleft())
        return tally

    def consider(self, *, is_waiting: bool) -> None:
        """Begin to look after it in a moment, if this is work that may take long."""
        if self._is_considered or not (is_waiting or self._clock() - self._began > _LONG_SECONDS):
            return
        if not self._claim():
            return
        with self._counting:
            # The rate is counted from here.
            self._counted().sample(self._clock())
        loop = _running_loop()
        if loop is None:
            self._look_after(MOMENT_SECONDS)
        else:
            # A timer costs a hundredth of a thread, and most transfers are over before it fires.
            loop.call_later(MOMENT_SECONDS, self._look_after, 0.0)

    def _claim(self) -> bool:
        """Tell one thread of several, and that one only once, to go on."""
        with self._state:
            is_first = not self._is_considered
            self._is_considered = True
            return is_first

    def _look_after(self, delay_seconds: float) -> None:
        with self._state:
            if self._is_over:
                return
            self._wake, self._turn = Flag(), RLock()
            _running.add(self)
            Thread(
                target=self._context.run,
                args=(self._run, self._wake, self._turn, delay_seconds),
                name="datacachalog-progress",
                daemon=True,
            ).start()

    def _run(self, wake: Flag, turn: RLock, delay_seconds: float) -> None:
        try:
            with _harmless():
                self._show_until_over(wake, turn, delay_seconds)
        finally:
            _running.discard(self)

    def _show_until_over(self, wake: Flag, turn: RLock, delay_seconds: float) -> None:
        if wake.wait(delay_seconds):
            return
        view = self._make_view()
        delay_seconds = 0.0
        while not wake.wait(delay_seconds):
            look = self._look()
            delay_seconds = view.seconds_until_due(look)
            if delay_seconds > 0:
                continue
            with turn:
                if self._is_over:
                    break
                self._shown = view
                delay_seconds = view.show(look)
        with turn:
            self._clear()

    def _clear(self) -> None:
        view, self._shown = self._shown, None
        if view is not None:
            # The end may be told in another context than the cell's, and a context holds one thread at a time.
            with _harmless():
                self._context.copy().run(view.close, self._summary() if self._is_complete else None)

    def _look(self) -> Look:
        with self._counting:
            now = self._clock()
            tally = self._counted()
            tally.sample(now)
            return Look(progress=tally.progress(active_limit=ACTIVE_FILES), elapsed_seconds=now - self._began)

    def _summary(self) -> Summary:
        with self._counting:
            return self._counted().summary(self._clock() - self._began)

    def end(self, *, is_complete: bool = True) -> None:
        """Show no more; returns when the screen is clear, or can't be cleared now.

        Args:
            is_complete: every operation has ended, so that it can be said what it came to.
        """
        with self._state:
            self._is_complete = is_complete
            self._is_over = True
            wake, turn = self._wake, self._turn
        if wake is None or turn is None:
            return
        wake.set()
        if turn.acquire(timeout=_REDRAW_SECONDS):
            try:
                self._clear()
            finally:
                turn.release()


def _running_loop() -> AbstractEventLoop | None:
    """Find the event loop that this thread runs, without importing asyncio (a third of our import) to find none."""
    if "asyncio" not in sys.modules:
        return None
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


@contextmanager
def _harmless() -> Iterator[None]:
    """Let the work go on without a display, whatever a surface does."""
    try:
        yield
    except Exception:  # noqa: BLE001  # the border to other people's surfaces: told here, and of no use further up
        _log.warning("the progress display failed and shows nothing more", exc_info=True)


_displays: WeakSet[Display] = WeakSet()
_running: set[_Burst] = set()


def _end_all() -> None:
    """Clear the screen when the interpreter exits in the middle of an operation."""
    for burst in list(_running):
        burst.end(is_complete=False)


def _forget_all() -> None:
    _running.clear()
    for display in list(_displays):
        display.forget()


atexit.register(_end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
