"""What if somebody replaces an object in the middle of a download? A way to a store where that happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from anyio import to_thread

from datacachalog import CatalogConfig
from datacachalog.ports import ReadOutcome, ReadRequest, StoragePort, StorageSession


@dataclass(frozen=True)
class ReplacedMidway:
    """A way to the same store, where somebody replaces the object before its second part is asked for."""

    storage: StoragePort
    replace: Callable[[], object]

    @asynccontextmanager
    async def connect(self, config: CatalogConfig) -> AsyncIterator[ReplacedMidwaySession]:
        async with self.storage.connect(config) as session:
            yield ReplacedMidwaySession(session, self.replace)


class ReplacedMidwaySession:
    def __init__(self, session: StorageSession, replace: Callable[[], object]) -> None:
        self.head, self.list_page = session.head, session.list_page
        self._session = session
        self._replace: Callable[[], object] | None = replace

    @asynccontextmanager
    async def read(self, request: ReadRequest) -> AsyncIterator[ReadOutcome]:
        replace = self._replace
        if request.start > 0 and replace is not None:
            self._replace = None
            await to_thread.run_sync(replace)
        async with self._session.read(request) as outcome:
            yield outcome
