"""How does a short read of the disk get to a worker thread in the least time? With all others that came meanwhile.

A read has no effect, so whoever is cancelled leaves it to itself. That makes this the quick one of two ways: it takes
no task and no shield, as work that writes does (`_hops`), and no pool's futures: a queue there, and the loop's own way
back. There is no read without a thread, though one of two small files takes no longer than the way to one: on a file
system that hangs, a network's say, it would stop the event loop. What needs no read is in `_recent`.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import anyio.lowlevel

_PATIENCE_SECONDS = 0.005
_MOST_THREADS = 16
_IDLE_SECONDS = 5.0

_Result = TypeVar("_Result")
_Outcome = tuple[Any, BaseException | None]
_Job = Callable[[], None]


class _Threads:
    """Daemon threads that do one job after the other, whichever loop it is of, and end when there has been none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held for the counting only
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._unfinished = 0
        self._count = 0

    def do(self, job: _Job) -> None:
        """Have a job done.

        Raises:
            RuntimeError: there is no thread, and none can be started.
        """
        with self._lock:
            if self._unfinished >= self._count and self._count < _MOST_THREADS:
                try:
                    threading.Thread(target=self._run, name="datacachalog worker", daemon=True).start()
                    self._count += 1
                except RuntimeError:  # no more threads: then those that there are do it
                    if self._count == 0:
                        raise
            self._unfinished += 1
            self._jobs.put(job)

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._unfinished < self._count:
                        self._count -= 1
                        return
                continue
            job()
            del job
            with self._lock:
                self._unfinished -= 1


class _Reads:
    """The reads that wait on one event loop, and how many jobs do others."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._busy = 0
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, work: Callable[[], _Result]) -> _Result:
        future: asyncio.Future[_Result] = self._loop.create_future()
        self._waiting.append((work, future))
        if self._busy == 0:
            self._start()
        elif self._timer is None:
            self._timer = self._loop.call_later(_PATIENCE_SECONDS, self._start_another)
        return await future

    def _start(self) -> None:
        """Take all that waits to a thread."""
        reads, self._waiting = self._waiting, []

        def job() -> None:
            outcomes = [_outcome(work) for work, _ in reads]
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._finish, [future for _, future in reads], outcomes)

        self._busy += 1
        try:
            _threads.do(job)
        except RuntimeError as error:
            self._finish([future for _, future in reads], [(None, error)] * len(reads))

    def _start_another(self) -> None:
        """Don't wait longer for a thread that is slow: the file system is, and is asked several things at once."""
        self._timer = None
        if self._waiting and self._busy < _MOST_THREADS:
            self._start()

    def _finish(self, futures: Sequence[asyncio.Future[Any]], outcomes: Sequence[_Outcome]) -> None:
        self._busy -= 1
        for future, (result, error) in zip(futures, outcomes, strict=True):
            if future.done():  # cancelled
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        if self._waiting:
            self._start()


def _outcome(work: Callable[[], Any]) -> _Outcome:
    try:
        return work(), None
    except Exception as error:  # noqa: BLE001  # handed to whoever waits for the result
        return None, error


_threads = _Threads()
_reads: anyio.lowlevel.RunVar[_Reads] = anyio.lowlevel.RunVar("datacachalog reads")


def _after_fork_in_child() -> None:
    global _threads
    _threads = _Threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


async def read_in_thread(work: Callable[[], _Result]) -> _Result:
    """Do a short read in a worker thread. Cancelled, it goes on there, and nobody learns what it found."""
    try:
        reads = _reads.get()
    except LookupError:
        reads = _Reads()
        _reads.set(reads)
    return await reads.read(work)
