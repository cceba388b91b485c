"""How does blocking code run something asynchronous? On an event loop in a thread of its own, started when needed.

Invariants, on which `Catalog` relies:

- The thread is a daemon, and so are all that it starts: nothing that was forgotten keeps the interpreter from ending.
- What lives on the loop is made and closed by the thread's main task, in one `async with`.
- A call that is interrupted cancels its task, waits until that has unwound, and raises then.
- A forked child has none of it, and starts its own when needed. What it inherited is neither used nor freed: closing
  a transport there would take the parent's sockets off the selector that both share.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import os
import queue
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Generic, TypeVar

import anyio
import anyio.from_thread

from ._errors import ClosedError

_Target = TypeVar("_Target")
_Result = TypeVar("_Result")

_WAKE_UP_SECONDS = 0.5  # a wait without an end can't be interrupted on Windows
_CLOSE_SECONDS = 10.0

_everyone: weakref.WeakSet[LoopThread[Any]] = weakref.WeakSet()


class _DaemonExecutor(concurrent.futures.ThreadPoolExecutor):
    """Runs what a loop hands to threads (files, name look-ups), also while the interpreter is ending.

    The standard pool refuses work as soon as the main thread has ended, though other threads may still be in the middle
    of a fetch, and is waited for at exit. This one has threads that nobody waits for.
    """

    def __init__(self, workers: int) -> None:
        super().__init__(max_workers=1)
        self._limit = workers
        self._work: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0
        self._starting = threading.Lock()

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[_Result]:
        future: concurrent.futures.Future[_Result] = concurrent.futures.Future()
        self._work.put((future, fn, args, kwargs))
        if not self._idle.acquire(blocking=False):
            with self._starting:
                if self._count < self._limit:
                    self._count += 1
                    threading.Thread(target=self._run, name="datacachalog worker", daemon=True).start()
        return future

    def _run(self) -> None:
        while True:
            job = self._work.get()
            if job is None:
                return
            future, function, args, kwargs = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*args, **kwargs))
                except BaseException as error:  # noqa: BLE001  # handed to whoever waits for the result
                    future.set_exception(error)
            del job, future, function, args, kwargs
            self._idle.release()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        for _ in range(self._count):
            self._work.put(None)


_Job = tuple[concurrent.futures.Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class _Running(Generic[_Target]):
    """A thread whose loop is up: what lives on it, and how to reach it."""

    def __init__(self, factory: Callable[[], AbstractAsyncContextManager[_Target]]) -> None:
        self.process = os.getpid()
        self.ready: concurrent.futures.Future[tuple[anyio.from_thread.BlockingPortal, _Target]]
        self.ready = concurrent.futures.Future()
        self.thread = threading.Thread(target=self._run, args=(factory,), name="datacachalog loop", daemon=True)
        self.thread.start()

    def _run(self, factory: Callable[[], AbstractAsyncContextManager[_Target]]) -> None:
        try:
            anyio.run(self._main, factory)
        except BaseException as error:  # noqa: BLE001  # handed to the thread that waits for the start
            if not self.ready.done():
                self.ready.set_exception(error)

    async def _main(self, factory: Callable[[], AbstractAsyncContextManager[_Target]]) -> None:
        asyncio.get_running_loop().set_default_executor(_DaemonExecutor(min(32, (os.cpu_count() or 1) + 4)))
        async with factory() as target, anyio.from_thread.BlockingPortal() as portal:
            self.ready.set_result((portal, target))
            await portal.sleep_until_stopped()

    def stop(self) -> None:
        """End the loop and wait for it, but not for ever: at exit nothing may hang."""
        if self.process != os.getpid() or not self.thread.is_alive():
            return
        with suppress(RuntimeError, concurrent.futures.CancelledError):  # it ended by itself meanwhile
            portal, _ = self.ready.result(_CLOSE_SECONDS)
            portal.start_task_soon(portal.stop, True)  # noqa: FBT003  # positional in anyio; cancels what still runs
        if threading.current_thread() is not self.thread:
            self.thread.join(_CLOSE_SECONDS)


class LoopThread(Generic[_Target]):
    """Runs coroutines with something that lives on an event loop, for blocking callers in any thread.

    Args:
        factory: makes the asynchronous context manager whose value the coroutines work with; called on the loop each
            time it is started.
    """

    def __init__(self, factory: Callable[[], AbstractAsyncContextManager[_Target]]) -> None:
        self._factory = factory
        self.reset()
        _everyone.add(self)

    def reset(self) -> None:
        """Forget what runs: it belongs to another process."""
        self._lock = threading.Lock()
        self._running: _Running[_Target] | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None

    def start(self) -> None:
        """Start the loop, unless it is up.

        Raises:
            ClosedError: called from the loop's own thread, which would wait for itself.
        """
        self._ready()

    def call(self, function: Callable[[_Target], Awaitable[_Result]]) -> _Result:
        """Run a coroutine on the loop and wait for its result.

        Args:
            function: is called on the loop with what lives there.

        Raises:
            ClosedError: called from the loop's own thread, which would wait for itself.
            KeyboardInterrupt: after the coroutine has been cancelled and has unwound.
        """
        portal, target = self._ready()
        unwound = threading.Event()

        async def run() -> _Result:
            try:
                return await function(target)
            finally:
                unwound.set()

        future = portal.start_task_soon(run)
        try:
            while True:
                try:
                    return future.result(_WAKE_UP_SECONDS)
                except TimeoutError:
                    if future.done():  # the coroutine itself timed out
                        raise
        except BaseException:
            if not future.done():
                future.cancel()
                while not unwound.wait(_WAKE_UP_SECONDS) and self._is_up():
                    pass
            raise

    def close(self) -> None:
        """End the loop, if it is up, after what lives on it has been closed."""
        with self._lock:
            running, self._running = self._running, None
            if self._finalizer is not None:
                self._finalizer.detach()
        if running is not None:
            running.stop()

    def _is_up(self) -> bool:
        running = self._running
        return running is not None and running.thread.is_alive()

    def _ready(self) -> tuple[anyio.from_thread.BlockingPortal, _Target]:
        with self._lock:
            running = self._running
            if running is None or not running.thread.is_alive():
                running = self._running = _Running(self._factory)
                self._finalizer = weakref.finalize(self, running.stop)
        if threading.current_thread() is running.thread:
            raise ClosedError("a blocking call on the catalog's own event loop would wait for itself: use AsyncCatalog")
        while True:
            with suppress(TimeoutError):
                return running.ready.result(_WAKE_UP_SECONDS)


def _after_fork_in_child() -> None:
    for each in list(_everyone):
        inherited = each._running  # noqa: SLF001  # its own module
        if inherited is not None:
            if each._finalizer is not None:  # noqa: SLF001
                each._finalizer.detach()  # noqa: SLF001
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))
        each.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
