"""How do many small pieces of blocking work get to worker threads? Together, as many in one call as have gathered.

A thread hop costs more than most of these pieces, and forty threads that take the interpreter lock in turns cost more
than all of them. So one thread does what has gathered while it was busy; a second one only starts when the first takes
long, because the file system is slow, on a network say, and would be faster with several requests at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from .._threads import to_its_end

_PATIENCE_SECONDS = 0.005
_MOST_THREADS = 16

_Result = TypeVar("_Result")


class _Piece:
    """A piece of work, and what came of it."""

    __slots__ = ("error", "is_done", "is_taken", "result", "wake", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.is_taken = False
        self.is_done = False
        self.wake = anyio.Event()
        self.result: Any = None
        self.error: BaseException | None = None


class _Hops:
    """The pieces that wait on one event loop, and the threads that are busy with others."""

    def __init__(self) -> None:
        self._waiting: list[_Piece] = []
        self._busy_since: list[float] = []

    async def run(self, work: Callable[[], _Result], undo: Callable[[_Result], object] | None) -> _Result:
        """Do the work in a worker thread; it is finished even if the caller is cancelled, and then undone."""
        piece = _Piece(work)
        self._waiting.append(piece)
        cancellation: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while not piece.is_done:
                try:
                    if not piece.is_taken and self._is_worth_a_thread():
                        await to_its_end(self._lead())
                    else:
                        piece.wake = anyio.Event()
                        await piece.wake.wait()
                except asyncio.CancelledError as error:
                    cancellation = error
        if cancellation is not None:
            if undo is not None and piece.error is None:
                await self.run(lambda: undo(piece.result), None)
            raise cancellation
        if piece.error is not None:
            raise piece.error
        return piece.result  # type: ignore[no-any-return]  # what `work` returned

    def _is_worth_a_thread(self) -> bool:
        if not self._busy_since:
            return True
        is_slow = anyio.current_time() - self._busy_since[-1] > _PATIENCE_SECONDS
        return is_slow and len(self._busy_since) < _MOST_THREADS

    async def _lead(self) -> None:
        """Take all that waits to a thread, then wake the first of those that came meanwhile to do the same."""
        pieces, self._waiting = self._waiting, []
        for piece in pieces:
            piece.is_taken = True
        since = anyio.current_time()
        self._busy_since.append(since)
        try:
            await anyio.to_thread.run_sync(_work_through, pieces)
        except BaseException as error:  # handed to whoever waits for the result
            for piece in pieces:
                piece.error = error
            raise
        finally:
            self._busy_since.remove(since)
            for piece in pieces:
                piece.is_done = True
                piece.wake.set()
            if self._waiting:
                self._waiting[0].wake.set()


def _work_through(pieces: Sequence[_Piece]) -> None:
    for piece in pieces:
        try:
            piece.result = piece.work()
        except BaseException as error:  # noqa: BLE001  # handed to whoever waits for the result
            piece.error = error


_hops: anyio.lowlevel.RunVar[_Hops] = anyio.lowlevel.RunVar("datacachalog hops")


async def in_thread(work: Callable[[], _Result], undo: Callable[[_Result], object] | None = None) -> _Result:
    """Do a short piece of blocking work in a worker thread, together with what else there is to do.

    Cancelled, it is finished first.

    Args:
        work: it.
        undo: gives back what the work has got, where the cancelled caller doesn't learn of it; done in a thread too.
    """
    try:
        hops = _hops.get()
    except LookupError:
        hops = _Hops()
        _hops.set(hops)
    return await hops.run(work, undo)
