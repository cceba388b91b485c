"""What becomes of work in a thread when the one who waits for it is cancelled? It goes on: a thread can't be stopped.

So either the cancellation waits for the work (`to_its_end`), because the work would otherwise write into a file that is
being closed, or take a claim that nobody gives back, and the work is told to hurry if it can; or it is left to itself
(`in_daemon_thread`), because it may take long and has no effect. Both hold for anyio's cancel scopes and for asyncio's
`Task.cancel()`, against which a shielded scope alone does not help.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio

_Result = TypeVar("_Result")

_FORK_SECONDS = 10.0  # a fork waits no longer: the thread that imports may wait for something of the one that forks

_importing = threading.RLock()
_forking = threading.local()


@contextmanager
def forks_held_back() -> Iterator[None]:
    """Let no other thread fork the process meanwhile: to be held around imports in a thread of ours, and not longer.

    A child that is forked in the middle of an import has half a module, for ever.
    """
    with _importing:
        yield


def _before_fork() -> None:
    _forking.has_lock = _importing.acquire(timeout=_FORK_SECONDS)


def _after_fork_in_parent() -> None:
    if _forking.has_lock:
        _importing.release()


def _after_fork_in_child() -> None:
    global _importing
    _importing = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


@contextmanager
def known_as_asyncio() -> Iterator[None]:
    """Let a callback of an asyncio loop, which is no task, begin tasks of an anyio task group.

    Where sniffio is installed, which many libraries bring, anyio asks it what runs, and that knows tasks only.
    """
    sniffio = sys.modules.get("sniffio")  # anyio has imported it, if it is there
    if sniffio is None:
        yield
        return
    token = sniffio.current_async_library_cvar.set("asyncio")
    try:
        yield
    finally:
        sniffio.current_async_library_cvar.reset(token)


class _UnstoppableTask(asyncio.Task[_Result]):
    """A task that nobody cancels, `asyncio.run` included: when it ends, it cancels all tasks that there are."""

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002  # its signature
        return False


async def to_its_end(
    work: Coroutine[Any, Any, _Result],
    undo: Callable[[_Result], Awaitable[object]] | None = None,
    interrupt: Callable[[], object] | None = None,
) -> _Result:
    """Wait for work to its end, and only then be cancelled.

    Args:
        work: it.
        undo: gives back what the work has got, where the cancelled caller doesn't learn of it.
        interrupt: makes the work end soon; called when the caller is cancelled.
    """
    task = _UnstoppableTask(work, loop=asyncio.get_running_loop())
    cancellation: asyncio.CancelledError | None = None
    if interrupt is not None:
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancellation = error
            interrupt()
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancellation = error
    if cancellation is None:
        return task.result()
    if task.exception() is None and undo is not None:
        await to_its_end(_awaited(undo(task.result())))
    raise cancellation


async def _awaited(awaitable: Awaitable[object]) -> None:
    await awaitable


async def in_daemon_thread(work: Callable[[], _Result]) -> _Result:
    """Do work in a thread of its own that nobody waits for: neither a cancelled caller nor the end of the program."""
    future: concurrent.futures.Future[_Result] = concurrent.futures.Future()

    def run() -> None:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001  # handed to whoever waits for the result
                future.set_exception(error)

    threading.Thread(target=run, name="datacachalog helper", daemon=True).start()
    return await asyncio.wrap_future(future)
