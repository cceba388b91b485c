"""How does a file come from another host? Through a storage that asks the neighbours before it asks the store.

To the stages of a fetch it is a storage like any other: what comes from a neighbour is staged, resumed, compared with
the digest that the neighbour's copy was published with and with the dataset's own, and published, or dropped. It only
says where bytes come from, so a neighbour that is wrong, slow or dead costs time, never correctness: the rest of a file
comes from the next source, the store last, and only of the very same version.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

import anyio

from ..._config import CatalogConfig
from ..._errors import StorageUnreachableError, VersioningNotSupportedError
from ..._models import FileMetadata
from ...ports import (
    ListPage,
    NotModified,
    RangeNotSatisfiable,
    ReadOutcome,
    ReadRequest,
    ReadResponse,
    SeekableListing,
    StoragePort,
    StorageSession,
    VersionChangedError,
    VersionedSession,
    VersionPage,
)

PIECE_BYTES = 1024 * 1024
"""So much travels in one message, so memory is bounded by requests in flight times this, on both sides."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A neighbour has the file, right and as new as this call.

    Args:
        metadata: the version; its checksum is the digest that the copy was published with.
        mtime_ns: the copy's modification time, which no other one has.
    """

    metadata: FileMetadata
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Pending:
    """A neighbour hasn't the file yet. `news` changes as long as it gets on with whatever it does."""

    news: int


@dataclass(frozen=True, slots=True)
class Withheld:
    """A neighbour won't have the file."""


class NeighbourFailedError(Exception):
    """A neighbour doesn't answer, or has no longer what it has offered. Never reaches a caller."""


class Neighbours(Protocol):
    """The way to the other hosts, by their numbers."""

    async def ask(self, host: int, uri: str, version_id: str | None) -> Offer | Pending | Withheld:
        """Ask for a file; the answer may take some seconds if it has yet to come.

        Raises:
            NeighbourFailedError: no answer.
        """
        ...

    async def take(self, host: int, uri: str, version_id: str | None, mtime_ns: int, start: int, stop: int) -> bytes:
        """Take a piece of a file that was offered, `PIECE_BYTES` at most.

        Raises:
            NeighbourFailedError: no answer, or the copy is another one by now.
        """
        ...


@dataclass(slots=True, eq=False)
class _Search:
    """Where one file is to be had."""

    uri: str
    version_id: str | None
    left: list[int]
    offer: Offer | None = None
    lock: anyio.Lock = field(default_factory=anyio.Lock)


class Peers:
    """Where the files of one call are to be had.

    Args:
        neighbours: the way to the other hosts.
        sources: gives of a file the hosts to take it from, best first.
        patience_seconds: how long a neighbour is waited for that makes no progress.
    """

    def __init__(
        self,
        neighbours: Neighbours,
        sources: Callable[[str, str | None], Sequence[int]],
        patience_seconds: float,
    ) -> None:
        self.received: Counter[str] = Counter()
        """Bytes that came from neighbours, by the file's URI."""
        self._neighbours = neighbours
        self._sources = sources
        self._patience_seconds = patience_seconds
        self._searches: dict[tuple[str, str | None], _Search] = {}
        self._dead: set[int] = set()

    async def find(self, uri: str, version_id: str | None) -> tuple[_Search, Offer] | None:
        """Wait until a neighbour offers the file; None if it is to be taken from the store."""
        search = self._searches.get((uri, version_id))
        if search is None:
            search = _Search(uri, version_id, list(self._sources(uri, version_id)))
            self._searches[uri, version_id] = search
        async with search.lock:
            while search.offer is None and search.left:
                search.offer = await self._wait_for(search.left[0], search)
                if search.offer is None:
                    search.left.pop(0)
            return None if search.offer is None else (search, search.offer)

    async def take(self, search: _Search, offer: Offer, start: int, stop: int) -> bytes | None:
        """Take a piece of what was offered; None if the neighbour fails, which is then not asked again."""
        host = search.left[0] if search.offer is offer else None
        if host is None:  # another part of the file has found out
            return None
        try:
            piece = await self._neighbours.take(host, search.uri, search.version_id, offer.mtime_ns, start, stop)
        except NeighbourFailedError:
            if search.offer is offer:
                search.offer = None
                search.left.pop(0)
            return None
        self.received[search.uri] += len(piece)
        return piece

    async def _wait_for(self, host: int, search: _Search) -> Offer | None:
        seen, seen_at = -1, anyio.current_time()
        while host not in self._dead:
            try:
                answer = await self._neighbours.ask(host, search.uri, search.version_id)
            except NeighbourFailedError:
                self._dead.add(host)
                return None
            if isinstance(answer, Offer):
                return answer
            if isinstance(answer, Withheld):
                return None
            now = anyio.current_time()
            if answer.news != seen:
                seen, seen_at = answer.news, now
            elif now - seen_at >= self._patience_seconds:
                return None
        return None


@dataclass(frozen=True, slots=True)
class PeerStorage:
    """A storage whose objects are asked of neighbours first.

    Args:
        storage: where they are else.
        peers: the neighbours.
    """

    storage: StoragePort
    peers: Peers

    @asynccontextmanager
    async def connect(self, config: CatalogConfig) -> AsyncIterator[PeerSession]:
        """Open it."""
        async with self.storage.connect(config) as session:
            yield PeerSession(session, self.peers)


class PeerSession:
    """An open way to the objects. Only bytes, and whether they have changed, are asked of neighbours."""

    def __init__(self, session: StorageSession, peers: Peers) -> None:
        self._session = session
        self._peers = peers

    async def head(self, uri: str, *, version_id: str | None = None) -> FileMetadata:
        """Ask the store what the object is."""
        return await self._session.head(uri, version_id=version_id)

    @asynccontextmanager
    async def read(self, request: ReadRequest) -> AsyncIterator[ReadOutcome]:
        """Ask a neighbour for bytes, or the store where none has that version of the object."""
        found = await self._peers.find(request.uri, request.version_id)
        if found is None or request.if_match not in (None, found[1].metadata.etag):
            async with self._session.read(request) as outcome:
                yield outcome
            return
        search, offer = found
        metadata = offer.metadata
        if request.if_none_match is not None and request.if_none_match == metadata.etag:
            yield NotModified()
        elif request.start > 0 and request.start >= metadata.size:
            yield RangeNotSatisfiable()
        else:
            stop = metadata.size if request.stop is None else min(request.stop, metadata.size)
            async with AsyncExitStack() as rest:
                chunks = self._chunks(search, offer, replace(request, stop=stop), rest)
                yield ReadResponse(metadata, request.start, stop, chunks, is_pinnable=metadata.etag is not None)

    async def list_page(self, prefix: str, *, token: str | None = None) -> ListPage:
        """Ask the store for a listing."""
        return await self._session.list_page(prefix, token=token)

    def is_seekable(self, root: str) -> bool:
        """Whether the store can begin a listing behind any key."""
        return isinstance(self._session, SeekableListing) and self._session.is_seekable(root)

    async def list_after(self, prefix: str, start_after: str, limit: int) -> ListPage:
        """Ask the store for a listing that begins behind a key; only where `is_seekable`."""
        assert isinstance(self._session, SeekableListing)  # noqa: S101  # what `is_seekable` has said
        return await self._session.list_after(prefix, start_after, limit)

    async def version_page(self, prefix: str, *, after: str | None = None, token: str | None = None) -> VersionPage:
        """Ask the store for a listing of versions.

        Raises:
            VersioningNotSupportedError: it keeps none.
        """
        if not isinstance(self._session, VersionedSession):
            raise VersioningNotSupportedError(prefix, "this storage keeps no versions")
        return await self._session.version_page(prefix, after=after, token=token)

    async def _chunks(
        self, search: _Search, offer: Offer, request: ReadRequest, rest: AsyncExitStack
    ) -> AsyncIterator[bytes]:
        """Give the bytes piece by piece, from the next source that has the version where one fails."""
        position, stop = request.start, request.stop or 0
        current: Offer | None = offer
        while position < stop and current is not None:
            piece = await self._peers.take(search, current, position, min(position + PIECE_BYTES, stop))
            if piece is not None:
                position += len(piece)
                yield piece
                continue
            found = await self._peers.find(request.uri, request.version_id)
            is_same = found is not None and found[1].metadata.is_same_version(offer.metadata)
            current = found[1] if found is not None and is_same else None
        if position < stop:
            async for chunk in await self._rest(replace(request, start=position), offer.metadata, rest):
                yield chunk

    async def _rest(self, request: ReadRequest, metadata: FileMetadata, rest: AsyncExitStack) -> AsyncIterator[bytes]:
        """Ask the store for the bytes that no neighbour gives any more, of that very version."""
        if metadata.etag is None:
            raise StorageUnreachableError(request.uri, "the other host broke off, and nothing tells the version")
        request = replace(request, if_match=metadata.etag, if_none_match=None)
        outcome = await rest.enter_async_context(self._session.read(request))
        if not isinstance(outcome, ReadResponse) or not outcome.metadata.is_same_version(metadata):
            raise VersionChangedError
        if (outcome.start, outcome.stop) != (request.start, request.stop):
            raise VersionChangedError(f"asked for bytes {request.start} to {request.stop}, the remote gave others")
        return outcome.chunks
