"""How long does what a catalog opens live? Until the catalog is closed or forgotten, or the loop ends it is on."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import anyio

from ._config import CatalogConfig
from ._hosted import Hosted
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


class Opening(Hosted[Open]):
    """A storage's session that is open, or about to be, on one event loop of one process.

    Args:
        storage: what is opened.
        config: how.
        owner: when it is collected, the session is closed.
    """

    def __init__(self, storage: StoragePort, config: CatalogConfig, owner: object) -> None:
        super().__init__(_open(storage, config), name="datacachalog session")
        self.blocks = 0
        """How many `async with` blocks of the owner are running."""
        self._finalizer = weakref.finalize(owner, _close_from_anywhere, asyncio.get_running_loop(), self.closing)
        self._finalizer.atexit = False

    async def aclose(self) -> None:
        """Close it, and wait until it is closed; finished even when the caller is cancelled."""
        self._finalizer.detach()
        await super().aclose()


@asynccontextmanager
async def _open(storage: StoragePort, config: CatalogConfig) -> AsyncIterator[Open]:
    async with storage.connect(config) as session:
        locks: weakref.WeakValueDictionary[CacheKey, anyio.Lock] = weakref.WeakValueDictionary()
        yield Open(session, anyio.CapacityLimiter(config.max_concurrency), locks, set())


def _close_from_anywhere(loop: asyncio.AbstractEventLoop, closing: asyncio.Event) -> None:
    """Close what a forgotten catalog had open; the garbage collector may call this in any thread."""
    with suppress(RuntimeError):  # the loop has ended, and what it held with it
        loop.call_soon_threadsafe(closing.set)
