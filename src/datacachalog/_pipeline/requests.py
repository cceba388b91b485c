"""How is a request sent? Within the catalog's one budget, counted, and again when it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

import anyio

from .._chance import chance
from .._config import CatalogConfig
from .._digests import DEFAULT_CRC, CrcAlgorithm
from .._errors import (
    ConfigurationError,
    StorageUnreachableError,
    ThrottledError,
    VersioningNotSupportedError,
    redact_uri,
)
from .._events import RequestRetried
from .._models import FileMetadata
from ..ports import (
    ListPage,
    Observer,
    ReadOutcome,
    ReadRequest,
    SeekableListing,
    StorageSession,
    UploadPartsSession,
    VersionedSession,
    VersionPage,
    WritableSession,
)

_FIRST_DELAY_SECONDS = 0.2
_LONGEST_DELAY_SECONDS = 20.0

_Result = TypeVar("_Result")


class Places:
    """Places in the budget that are taken for requests which are sent otherwise. Used on the event loop.

    Args:
        limiter: the catalog's budget.
    """

    def __init__(self, limiter: anyio.CapacityLimiter) -> None:
        self._limiter = limiter
        self._held: list[object] = []

    @property
    def held(self) -> int:
        """How many are taken."""
        return len(self._held)

    @property
    def wanted(self) -> int:
        """How many others wait for a place."""
        return self._limiter.statistics().tasks_waiting

    async def take(self) -> None:
        """Take one, in turn."""
        borrower = object()
        await self._limiter.acquire_on_behalf_of(borrower)
        self._held.append(borrower)

    def take_more(self, count: int) -> int:
        """Take as many more as are free, up to that many; gives how many."""
        for taken in range(count):
            borrower = object()
            try:
                self._limiter.acquire_on_behalf_of_nowait(borrower)
            except anyio.WouldBlock:
                return taken
            self._held.append(borrower)
        return count

    def give_back(self, count: int) -> None:
        """Give so many back."""
        for _ in range(count):
            self._limiter.release_on_behalf_of(self._held.pop())

    def split_off(self) -> Places:
        """Give one of them to another holder."""
        other = Places(self._limiter)
        other._held.append(self._held.pop())
        return other


class Requests:
    """The requests of one operation.

    `sent` counts them, repeated ones included. `usual_crc` is the CRC that the remote had of the last object of which
    it was asked: what is stored together was mostly written by one program.

    Args:
        session: the way to the remote.
        config: the catalog's.
        limiter: the catalog's budget.
        notify: is told of repeated requests.
        operation: its number.
        addresses: what to ask for instead of a URI, where that is not the same (`Resolver.addresses`).
    """

    def __init__(
        self,
        session: StorageSession,
        config: CatalogConfig,
        limiter: anyio.CapacityLimiter,
        notify: Observer,
        operation: int,
        addresses: Mapping[str, str] | None = None,
    ) -> None:
        self.config = config
        self.notify = notify
        self.operation = operation
        self.sent = 0
        self.usual_crc: CrcAlgorithm = DEFAULT_CRC
        self._session = session
        self._limiter = limiter
        self._addresses = addresses or {}

    @property
    def has_place(self) -> bool:
        """Whether a request could be sent at once."""
        return self._limiter.available_tokens > 0

    @property
    def session(self) -> StorageSession:
        """The way to the remote itself, for who counts and takes a place by himself."""
        return self._session

    def places(self) -> Places:
        """Give what takes places in the budget, for requests that are sent otherwise."""
        return Places(self._limiter)

    @asynccontextmanager
    async def read(self, request: ReadRequest) -> AsyncIterator[ReadOutcome]:
        """Send one read, once. It takes its place in the budget until the context is left."""
        async with self._limiter:
            self.sent += 1
            address = self._addresses.get(request.uri)
            if address is not None:
                request = replace(request, uri=address)
            async with self._session.read(request) as outcome:
                yield outcome

    async def head(self, dataset: str, uri: str, version_id: str | None = None) -> FileMetadata:
        """Ask what an object is, with retries."""

        async def once() -> FileMetadata:
            async with self._limiter:
                self.sent += 1
                return await self._session.head(self._addresses.get(uri, uri), version_id=version_id)

        return await self.retried(dataset, uri, once)

    async def part_bytes(self, uri: str, number: int, *, etag: str, version_id: str | None) -> int | None:
        """Ask for the size of a part that an object was uploaded in, once; None: the storage can't tell."""
        if not isinstance(self._session, UploadPartsSession):
            return None
        async with self._limiter:
            self.sent += 1
            address = self._addresses.get(uri, uri)
            return await self._session.part_bytes(address, number, etag=etag, version_id=version_id)

    async def list_page(self, dataset: str, prefix: str, token: str | None) -> ListPage:
        """Ask for one page of a listing, with retries."""

        async def once() -> ListPage:
            async with self._limiter:
                self.sent += 1
                return await self._session.list_page(prefix, token=token)

        return await self.retried(dataset, prefix, once)

    async def version_page(
        self, dataset: str, prefix: str, *, after: str | None = None, token: str | None = None
    ) -> VersionPage:
        """Ask for one page of a listing of versions, with retries.

        Raises:
            VersioningNotSupportedError: the storage keeps none.
        """
        session = self._session
        if not isinstance(session, VersionedSession):
            raise VersioningNotSupportedError(prefix, "this storage keeps no versions")

        async def once() -> VersionPage:
            async with self._limiter:
                self.sent += 1
                return await session.version_page(prefix, after=after, token=token)

        return await self.retried(dataset, prefix, once)

    def is_seekable(self, root: str) -> bool:
        """Whether a listing below `root` can begin behind any key."""
        return isinstance(self._session, SeekableListing) and self._session.is_seekable(root)

    async def list_after(self, prefix: str, start_after: str, limit: int) -> ListPage:
        """Ask for one page of a listing that begins behind a key, once; only where `is_seekable`."""
        assert isinstance(self._session, SeekableListing)  # noqa: S101  # what `is_seekable` has said
        async with self._limiter:
            self.sent += 1
            return await self._session.list_after(prefix, start_after, limit)

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

    async def retried(
        self,
        dataset: str,
        uri: str,
        attempt: Callable[[], Awaitable[_Result]],
        failure: StorageUnreachableError | ThrottledError | None = None,
    ) -> _Result:
        """Try until it works, or as long as the settings allow because the remote did not answer.

        Args:
            dataset: whose request it is.
            uri: the object.
            attempt: sends the request.
            failure: of a first try that was made already.
        """
        retries = Retries(self, dataset, uri)
        while True:
            try:
                if failure is not None:
                    error, failure = failure, None
                    raise error
                return await attempt()
            except (StorageUnreachableError, ThrottledError) as error:
                await retries.wait(error)


class Retries:
    """The failures of one request or part so far: is it sent again, and when?"""

    def __init__(self, requests: Requests, dataset: str, uri: str) -> None:
        self._requests = requests
        self._dataset = dataset
        self._uri = uri
        self._failures = 0
        self._failed_first_at = 0.0
        self._received_bytes = 0

    async def wait(self, error: StorageUnreachableError | ThrottledError, received_bytes: int = 0) -> None:
        """Wait as long as the remote asks (Retry-After), else exponentially longer, with jitter; or give up.

        Args:
            error: what the last try failed with.
            received_bytes: what has come so far in all tries. When that is more than at the failure before, the
                deadline begins anew.

        Raises:
            StorageUnreachableError: it was tried often or long enough, or the remote asks for a longer wait than that.
            ThrottledError: likewise.
        """
        config, now = self._requests.config, anyio.current_time()
        if self._failures == 0 or received_bytes > self._received_bytes:
            self._failed_first_at, self._received_bytes = now, received_bytes
        self._failures += 1
        if self._failures > config.retries:
            raise error from error.__cause__  # whatever else is being handled just now
        asked = error.retry_after_seconds
        left = self._failed_first_at + config.retry_deadline_seconds - now
        if left <= 0 or (asked or 0.0) > left:
            raise _given_up(error, left, config.retry_deadline_seconds) from error
        delay = min(left, retry_delay_seconds(self._failures, asked, chance.random()))
        self._requests.notify(
            RequestRetried(
                operation=self._requests.operation,
                dataset=self._dataset,
                uri=self._uri,
                attempt=self._failures,
                delay_seconds=delay,
                reason=str(error),
            )
        )
        await anyio.sleep(delay)


def _given_up(
    error: StorageUnreachableError | ThrottledError, left_seconds: float, deadline_seconds: float
) -> StorageUnreachableError | ThrottledError:
    """Say of a failure that there is no time left to try again."""
    kind = ThrottledError if isinstance(error, ThrottledError) else StorageUnreachableError
    asked = error.retry_after_seconds
    text = f"given up, as retry_deadline_seconds is {deadline_seconds:g}"
    if asked is not None and asked > left_seconds:
        text += f", {max(left_seconds, 0):,.0f} s of it are left, and the remote asks to wait {asked:,.0f} s"
    hint = "fetch again later, or raise retry_deadline_seconds"
    return kind(error.uri, f"{error.cause} ({text})", hint=hint, retry_after_seconds=asked)


def retry_delay_seconds(failures: int, retry_after_seconds: float | None, chance: float) -> float:
    """Compute how long to wait after so many failures (1 or more).

    Args:
        failures: so far.
        retry_after_seconds: what the remote asked for, if it did; a little is added, so that not all come back at once.
        chance: uniform in [0, 1): the jitter.
    """
    if retry_after_seconds is not None:
        return retry_after_seconds * (1 + 0.1 * chance)
    longest = min(_FIRST_DELAY_SECONDS * 2.0 ** (failures - 1), _LONGEST_DELAY_SECONDS)
    return float(longest * (0.5 + 0.5 * chance))
