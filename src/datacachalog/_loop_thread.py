"""How does blocking code run something asynchronous? On an event loop in a thread of its own, started when needed.

Invariants, on which `Catalog` relies:

- The thread is a daemon, and so are all that it starts: nothing that was forgotten keeps the interpreter from ending.
- What lives on the loop is made and closed by the thread's main task, in one `async with`.
- A call that is interrupted cancels its task, waits until that has unwound, and raises then. At whatever instruction
  the interrupt comes: what was given to the loop before it is cancelled by what is given to the loop after it.
- What the garbage collector calls waits for nobody: it may run in any thread, also while that holds a lock.
- A forked child has none of it, and starts its own when needed. What it inherited is neither used nor freed: closing
  a transport there would take the parent's sockets off the selector that both share. And no fork happens while a
  thread of ours imports: the child would have half a module, for ever.
"""

from __future__ import annotations

import _thread
import asyncio
import atexit
import concurrent.futures
import ctypes
import logging
import os
import queue
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from typing import Any, Generic, TypeVar

import anyio
import anyio.abc

from ._errors import ClosedError
from ._threads import forks_held_back, known_as_asyncio

_Target = TypeVar("_Target")
_Result = TypeVar("_Result")

_WAKE_UP_SECONDS = 0.5  # a wait without an end can't be interrupted on Windows
_CLOSE_SECONDS = 10.0

_logger = logging.getLogger("datacachalog")
_everyone: weakref.WeakSet[LoopThread[Any]] = weakref.WeakSet()
_up: set[_Running[Any]] = set()


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
                    try:
                        threading.Thread(target=self._run, name="datacachalog worker", daemon=True).start()
                        self._count += 1
                    except RuntimeError:  # no more threads: then those that there are do it
                        if self._count == 0:
                            raise
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


class _Loop(asyncio.ProactorEventLoop if sys.platform == "win32" else asyncio.SelectorEventLoop):  # type: ignore[misc]
    """An event loop that ends without starting a thread, which some versions of Python refuse at exit (3.12.1)."""

    def __init__(self) -> None:
        super().__init__()
        self._executor = _DaemonExecutor(min(32, (os.cpu_count() or 1) + 4))
        self.set_default_executor(self._executor)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002
        self._executor.shutdown()


class _Signal:
    """Something that happens once, told by one thread to others.

    Unlike an Event or a Future it holds no lock that an interrupt of the waiting thread, at the wrong instruction,
    could leave locked for ever: the telling thread would hang.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._barrier = threading.Lock()
        self._barrier.acquire()

    def set(self) -> None:
        self.is_set = True
        self._barrier.release()

    def wait_a_while(self) -> None:
        """Return when it has happened, and now and then, so that the caller looks whether it still can."""
        if not self.is_set and self._barrier.acquire(timeout=_WAKE_UP_SECONDS):
            self._barrier.release()


class _Call(Generic[_Target, _Result]):
    """A coroutine that a blocking caller wants run. `over` is set when it has unwound, however it ended.

    The methods run on the loop, but for `result`.
    """

    def __init__(self, function: Callable[[_Target], Awaitable[_Result]]) -> None:
        self.over = _Signal()
        self.is_begun = False
        self._function = function
        self._scope: anyio.CancelScope | None = None
        self._is_given_up = False
        self._result: _Result
        self._error: BaseException | None = None

    def begin(self, tasks: anyio.abc.TaskGroup, target: _Target) -> None:
        self.is_begun = True
        try:
            with known_as_asyncio():
                tasks.start_soon(self._run, tasks.cancel_scope, target)
        except Exception as error:  # noqa: BLE001  # handed to the caller, who would wait for ever
            self._error = error
            self.over.set()

    def give_up(self) -> None:
        self._is_given_up = True
        if self._scope is not None:
            self._scope.cancel()
        elif not self.is_begun:
            self.over.set()

    def result(self) -> _Result:
        """Give what the coroutine returned, or raise what it raised."""
        error, self._error = self._error, None
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame

    async def _run(self, everything: anyio.CancelScope, target: _Target) -> None:
        try:
            with anyio.CancelScope() as self._scope:
                if not self._is_given_up:
                    self._result = await self._function(target)
        except BaseException as error:  # handed to the callers: no more threads, say
            if isinstance(error, asyncio.CancelledError) and everything.cancel_called:
                self._error = ClosedError("the catalog was closed while this call was running")
                # Only daemon threads can still be waiting when the interpreter is ending. They go with it, and without
                # a traceback that nobody has asked for.
                if not _is_exiting:
                    self.over.set()
                raise
            self._error = error  # the caller's, also if it is a reader's SystemExit
        self.over.set()


class _Running(Generic[_Target]):
    """A thread whose loop is up or about to be: what lives on it, and how to reach it."""

    def __init__(self, factory: Callable[[], AbstractAsyncContextManager[_Target]]) -> None:
        self.started = _Signal()
        self.error: BaseException | None = None
        self.is_stopping = False
        self.has_ended = False
        self.thread = threading.Thread(target=self._run, args=(factory,), name="datacachalog loop", daemon=True)
        self._process = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: anyio.abc.TaskGroup
        self._target: _Target

    def _run(self, factory: Callable[[], AbstractAsyncContextManager[_Target]]) -> None:
        forks = ExitStack()
        forks.enter_context(forks_held_back())
        try:
            anyio.run(self._main, factory, forks, backend_options={"loop_factory": _Loop})
        except BaseException as error:  # handed to the callers: no more threads, say
            if self.started.is_set:
                _logger.exception("the connections of a catalog could not be closed")
            else:
                self.error = error
        finally:
            forks.close()
            self.is_stopping = self.has_ended = True
            _up.discard(self)
            if not self.started.is_set:
                self.started.set()

    async def _main(self, factory: Callable[[], AbstractAsyncContextManager[_Target]], forks: ExitStack) -> None:
        forks.close()  # anyio has imported what it runs on
        loop = asyncio.get_running_loop()
        async with factory() as self._target:
            try:
                async with anyio.create_task_group() as self._tasks:
                    self._loop = loop
                    self.started.set()
                    if self.is_stopping:  # asked before there was a loop to be told
                        self._tasks.cancel_scope.cancel()
                    await anyio.sleep_forever()
            finally:
                self.is_stopping = True

    def is_up(self) -> bool:
        """Whether calls that were begun may still end.

        `Thread.is_alive` can't tell: when an interrupt comes in the middle of it, it takes the thread for ended from
        then on (`Thread._wait_for_tstate_lock`, up to Python 3.12).
        """
        return self._process == os.getpid() and not self.has_ended

    def start(self) -> None:
        """Start the thread; `started` tells when the loop is up or has failed to be.

        Only the main thread is interrupted, and an interrupt in the middle of `Thread.start` leaves locks behind that
        hang the new thread. So another one starts it, which itself takes a single instruction.
        """
        _thread.start_new_thread(self._start, ())

    def _start(self) -> None:
        _up.add(self)
        try:
            self.thread.start()
        except BaseException as error:  # noqa: BLE001  # handed to the callers: no more threads, say
            _up.discard(self)
            self.error = error
            self.is_stopping = self.has_ended = True
            self.started.set()

    def begin(self, call: _Call[_Target, Any]) -> None:
        """Begin a call, unless the loop is about to end: then it is not begun, ever."""
        self._tell(self._begin, call)

    def give_up(self, call: _Call[_Target, Any]) -> None:
        """Cancel a call that was or wasn't given to `begin`, and wait until it has unwound."""
        self._tell(call.give_up)
        while self.is_up() and not call.over.is_set:
            call.over.wait_a_while()

    def ask_to_stop(self) -> None:
        """Cancel what runs and end the loop; waits for nobody."""
        self.is_stopping = True
        if self._process == os.getpid():
            self._tell(self._stop)

    def join(self, seconds: float) -> None:
        """Wait for the thread's end, but not for ever."""
        with suppress(RuntimeError):  # it isn't started yet, and ends as soon as it is
            self.thread.join(seconds)

    def _tell(self, callback: Callable[..., object], *args: object) -> None:
        """Have the loop call something, after all that it was told before."""
        if self._loop is not None:
            with suppress(RuntimeError):  # closed
                self._loop.call_soon_threadsafe(callback, *args)

    def _begin(self, call: _Call[_Target, Any]) -> None:
        if not self.is_stopping:
            call.begin(self._tasks, self._target)

    def _stop(self) -> None:
        self._tasks.cancel_scope.cancel()


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
        self._users = 0
        self._running: _Running[_Target] | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None

    def enter(self) -> None:
        """Start the loop, unless it is up, for a user that says when it may end.

        Raises:
            ClosedError: called from the loop's own thread, which would wait for itself.
        """
        self._ready()
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """End the loop if this was the last of its users."""
        with self._lock:
            self._users = max(0, self._users - 1)  # a forked child may leave what its parent has entered
            is_last = self._users == 0
        if is_last:
            self.close()

    def call(self, function: Callable[[_Target], Awaitable[_Result]]) -> _Result:
        """Run a coroutine on the loop and wait for its result.

        Args:
            function: is called on the loop with what lives there.

        Raises:
            ClosedError: called from the loop's own thread, which would wait for itself; or another thread closed it.
            KeyboardInterrupt: after the coroutine has been cancelled and has unwound.
        """
        while True:
            running = self._ready()
            call = _Call(function)
            try:
                running.begin(call)
                is_up = True
                while is_up and not call.over.is_set:
                    is_up = running.is_up() or _is_exiting
                    call.over.wait_a_while()
                if call.over.is_set:
                    return call.result()
                if call.is_begun:
                    raise ClosedError("the catalog's event loop has ended while this call was running")
            except BaseException:
                running.give_up(call)
                raise

    def close(self) -> None:
        """End the loop, if it is up, after what lives on it has been closed; but don't wait for that for ever.

        Raises:
            ClosedError: called from the loop's own thread, which would wait for itself.
        """
        with self._lock:
            running = self._running
            self._refuse_own_thread(running)
            self._running = None
            if self._finalizer is not None:
                self._finalizer.detach()
        if running is not None:
            running.ask_to_stop()
            running.join(_CLOSE_SECONDS)

    def _ready(self) -> _Running[_Target]:
        with self._lock:
            running = self._running
            self._refuse_own_thread(running)
            if running is None or running.is_stopping:
                if self._finalizer is not None:
                    self._finalizer.detach()
                running = _Running(self._factory)
                try:
                    running.start()
                    self._finalizer = weakref.finalize(self, running.ask_to_stop)
                    self._finalizer.atexit = False  # `_stop_all` waits for them
                    self._running = running
                except BaseException:
                    running.ask_to_stop()
                    raise
        while not running.started.is_set:
            running.started.wait_a_while()
        if running.error is not None:
            raise running.error
        return running

    def _refuse_own_thread(self, running: _Running[_Target] | None) -> None:
        if running is not None and threading.current_thread() is running.thread:
            raise ClosedError("a blocking call on the catalog's own event loop would wait for itself: use AsyncCatalog")


_is_exiting = False


def _stop_all() -> None:
    """Let what still runs when the interpreter exits close its connections and remove its unfinished files."""
    global _is_exiting
    _is_exiting = True
    running = list(_up)
    for each in running:
        each.ask_to_stop()
    deadline = time.monotonic() + _CLOSE_SECONDS
    for each in running:
        each.join(max(0.0, deadline - time.monotonic()))


def _after_fork_in_child() -> None:
    for running in list(_up):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(running))
    _up.clear()
    for each in list(_everyone):
        if each._finalizer is not None:  # noqa: SLF001  # its own module
            each._finalizer.detach()  # noqa: SLF001
        each.reset()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
