"""How is a request sent? Within the catalog's one budget, counted, and again when it fails."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio

from .._config import CatalogConfig
from .._errors import ConfigurationError, StorageUnreachableError, ThrottledError, redact_uri
from .._events import RequestRetried
from .._models import FileMetadata
from ..ports import ListPage, Observer, ReadOutcome, ReadRequest, StorageSession, WritableSession

_FIRST_DELAY_SECONDS = 0.2
_LONGEST_DELAY_SECONDS = 20.0
_LONGEST_RETRY_AFTER_SECONDS = 120.0

_Result = TypeVar("_Result")


class Requests:
    """The requests of one operation. `sent` counts them, repeated ones included."""

    def __init__(
        self,
        session: StorageSession,
        config: CatalogConfig,
        limiter: anyio.CapacityLimiter,
        notify: Observer,
        operation: int,
    ) -> None:
        self.config = config
        self.notify = notify
        self.operation = operation
        self.sent = 0
        self._session = session
        self._limiter = limiter

    @asynccontextmanager
    async def read(self, request: ReadRequest) -> AsyncIterator[ReadOutcome]:
        """Send one read, once. It takes its place in the budget until the context is left."""
        async with self._limiter:
            self.sent += 1
            async with self._session.read(request) as outcome:
                yield outcome

    async def head(self, dataset: str, uri: str, version_id: str | None = None) -> FileMetadata:
        """Ask what an object is, with retries."""

        async def once() -> FileMetadata:
            async with self._limiter:
                self.sent += 1
                return await self._session.head(uri, version_id=version_id)

        return await self.retried(dataset, uri, once)

    async def list_page(self, dataset: str, prefix: str, token: str | None) -> ListPage:
        """Ask for one page of a listing, with retries."""

        async def once() -> ListPage:
            async with self._limiter:
                self.sent += 1
                return await self._session.list_page(prefix, token=token)

        return await self.retried(dataset, prefix, once)

    def writer(self, uri: str) -> WritableSession:
        """Give the way to write; what is asked of it is to be sent with `send`.

        Raises:
            ConfigurationError: the storage can only be read.
        """
        if not isinstance(self._session, WritableSession):
            raise ConfigurationError(f"{redact_uri(uri)} can't be written: its storage can only be read")
        return self._session

    async def send(self, once: Callable[[], Awaitable[_Result]]) -> _Result:
        """Send a request, once. It takes its place in the budget until it is answered."""
        async with self._limiter:
            self.sent += 1
            return await once()

    async def retried(self, dataset: str, uri: str, attempt: Callable[[], Awaitable[_Result]]) -> _Result:
        """Try until it works, or `retries` further tries have failed because the remote did not answer."""
        tries = 0
        while True:
            try:
                return await attempt()
            except (StorageUnreachableError, ThrottledError) as error:
                tries += 1
                if tries > self.config.retries:
                    raise
                await self.wait_before_retry(dataset, uri, tries, error)

    async def wait_before_retry(
        self, dataset: str, uri: str, tries: int, error: StorageUnreachableError | ThrottledError
    ) -> None:
        """Wait as long as the remote asks (Retry-After), else exponentially longer, with jitter."""
        delay = retry_delay_seconds(tries, error.retry_after_seconds, random.random())  # noqa: S311  # jitter, no secret
        self.notify(
            RequestRetried(
                operation=self.operation,
                dataset=dataset,
                uri=uri,
                attempt=tries,
                delay_seconds=delay,
                reason=str(error),
            )
        )
        await anyio.sleep(delay)


def retry_delay_seconds(tries: int, retry_after_seconds: float | None, chance: float) -> float:
    """Compute how long to wait after `tries` failures (1 or more).

    Args:
        tries: failures so far.
        retry_after_seconds: what the remote asked for, if it did; a little is added, so that not all come back at once.
        chance: uniform in [0, 1): the jitter.
    """
    if retry_after_seconds is not None:
        return min(retry_after_seconds, _LONGEST_RETRY_AFTER_SECONDS) * (1 + 0.1 * chance)
    longest = min(_FIRST_DELAY_SECONDS * 2.0 ** (tries - 1), _LONGEST_DELAY_SECONDS)
    return float(longest * (0.5 + 0.5 * chance))
