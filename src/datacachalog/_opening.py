"""How long does what a catalog opens live? As long as a task of its own, on the loop where it was opened.

The task enters and leaves the storage's context, so both happen in one task, whichever tasks open and close the
catalog. It ends when the catalog is closed or forgotten, and when its loop ends: `asyncio.run` cancels what still runs,
so nobody who forgets `aclose()` leaves connections open.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from contextlib import suppress
from dataclasses import dataclass

import anyio

from ._config import CatalogConfig
from ._threads import to_its_end
from .ports import CacheKey, StoragePort, StorageSession


@dataclass(frozen=True, slots=True)
class Open:
    """What a catalog holds on one event loop while it is open.

    Args:
        session: the way to the remote.
        limiter: the budget of its requests.
        locks: of the files that are being fetched.
        unlistable: the beginnings of URIs below which the remote refuses to list.
    """

    session: StorageSession
    limiter: anyio.CapacityLimiter
    locks: weakref.WeakValueDictionary[CacheKey, anyio.Lock]
    unlistable: set[str]


class Opening:
    """A storage's session that is open, or about to be, on one event loop of one process.

    Args:
        storage: what is opened.
        config: how.
        owner: when it is collected, the session is closed.
    """

    def __init__(self, storage: StoragePort, config: CatalogConfig, owner: object) -> None:
        loop = asyncio.get_running_loop()
        self.blocks = 0
        """How many `async with` blocks of the owner are running."""
        self._process = os.getpid()
        self._closing = asyncio.Event()
        self._ready: asyncio.Future[Open] = loop.create_future()
        self._task = loop.create_task(_live(storage, config, self._ready, self._closing), name="datacachalog session")
        self._finalizer = weakref.finalize(owner, _close_from_anywhere, loop, self._closing)
        self._finalizer.atexit = False

    @property
    def is_usable(self) -> bool:
        """Whether it is open or about to be, in this process."""
        return self._process == os.getpid() and not self._task.done() and not self._closing.is_set()

    async def opened(self) -> Open:
        """Wait until it is open.

        Cancelling one who waits leaves the others alone.

        Raises:
            Exception: what opening it raised.
        """
        return await asyncio.shield(self._ready)

    async def _ended(self) -> None:
        await asyncio.wait([self._task])

    async def aclose(self) -> None:
        """Close it, and wait until it is closed; finished even when the caller is cancelled."""
        self._finalizer.detach()
        if self._process != os.getpid():
            return
        self._closing.set()
        await to_its_end(self._ended())
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            raise error


async def _live(
    storage: StoragePort, config: CatalogConfig, ready: asyncio.Future[Open], closing: asyncio.Event
) -> None:
    try:
        async with storage.connect(config) as session:
            locks: weakref.WeakValueDictionary[CacheKey, anyio.Lock] = weakref.WeakValueDictionary()
            if not ready.done():
                ready.set_result(Open(session, anyio.CapacityLimiter(config.max_concurrency), locks, set()))
            await closing.wait()
    except Exception as error:
        if ready.done():
            raise
        ready.set_exception(error)
    finally:
        ready.cancel()


def _close_from_anywhere(loop: asyncio.AbstractEventLoop, closing: asyncio.Event) -> None:
    """Close what a forgotten catalog had open; the garbage collector may call this in any thread."""
    with suppress(RuntimeError):  # the loop has ended, and what it held with it
        loop.call_soon_threadsafe(closing.set)
