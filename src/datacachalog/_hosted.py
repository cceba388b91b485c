"""How does what is opened outlive the task that needed it first? It lives as long as a task of its own.

That task enters and leaves the context, so both happen in one task, whichever tasks use and close what it gives. It
ends when that is closed, and when its loop ends: `asyncio.run` cancels what still runs, so nobody who forgets to close
leaves connections open.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

from ._threads import to_its_end

_Value = TypeVar("_Value")


class Hosted(Generic[_Value]):
    """What an asynchronous context gives, open or about to be, on the running event loop of this process.

    Args:
        context: is entered at once, and left when this is closed.
        name: the task's.
    """

    def __init__(self, context: AbstractAsyncContextManager[_Value], *, name: str) -> None:
        loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self.closing = asyncio.Event()
        """Set it, on the loop, to close this without waiting."""
        self._ready: asyncio.Future[_Value] = loop.create_future()
        self._task = loop.create_task(_live(context, self._ready, self.closing), name=name)

    @property
    def is_usable(self) -> bool:
        """Whether it is open or about to be, in this process."""
        return self._process == os.getpid() and not self._task.done() and not self.closing.is_set()

    async def opened(self) -> _Value:
        """Wait until it is open, and give what it is.

        Cancelling one who waits leaves the others alone.

        Raises:
            Exception: what opening it raised.
        """
        return await asyncio.shield(self._ready)

    async def aclose(self) -> None:
        """Close it, and wait until it is closed; finished even when the caller is cancelled.

        Raises:
            Exception: what closing it raised.
        """
        if self._process != os.getpid():
            return
        self.closing.set()
        await to_its_end(self._ended())
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            raise error

    async def _ended(self) -> None:
        await asyncio.wait([self._task])


async def _live(
    context: AbstractAsyncContextManager[_Value], ready: asyncio.Future[_Value], closing: asyncio.Event
) -> None:
    try:
        async with context as value:
            if not ready.done():
                ready.set_result(value)
            await closing.wait()
    except Exception as error:
        if ready.done():
            raise
        ready.set_exception(error)
    finally:
        ready.cancel()
