"""What does a worker do in a `warm`? It fetches for its host, says how far it is, and serves what it has to others.

An operation begins when the caller says so and ends when the caller says so: until then it goes on serving, and nothing
of it is served afterwards. Where the caller died, what was begun is finished, and served no longer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import anyio.to_thread
from distributed import Worker
from distributed.protocol.pickle import dumps, loads

from ..._catalog import AsyncCatalog
from ..._errors import DatacachalogError, IntegrityError, redact_uri
from ..._events import (
    DatasetFailed,
    DatasetFinished,
    Event,
    FileFinished,
    OperationFinished,
    OperationStarted,
    TransferAdvanced,
    TransferRestarted,
)
from ..._models import Dataset, FetchReport, FileMetadata
from ..._pipeline.pattern import parse_pattern
from ...ports import CacheEntry, CacheKey
from ._here import CacheDir, cache_here, variant
from ._peers import PIECE_BYTES, Neighbours, Offer, Peers, PeerStorage, Pending, Withheld
from ._tree import sources

_logger = logging.getLogger("datacachalog")

_ANSWER_SECONDS = 2.0
"""So long is a neighbour's question left open when there is no answer yet."""

_READS_AT_ONCE = 16
"""So many pieces are read for neighbours at a time."""

_SILENCE_SECONDS = 600.0
"""A caller that hasn't asked for so long has died: it asks once a minute in the largest cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a caller wants of a worker.

    Args:
        token: of this call; drawn by chance, and known to its workers only.
        catalog: whose datasets.
        names: which of them.
        cache_dir: where the worker's copies lie.
        addresses: the worker of each host, if files travel from host to host.
        is_check: only look whether everything is there, and fetch what isn't.
    """

    token: str = field(repr=False)
    catalog: AsyncCatalog
    names: tuple[str, ...]
    cache_dir: CacheDir
    addresses: tuple[str, ...] = ()
    is_check: bool = False


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a host has, and how many bytes of it came from other hosts."""

    report: FetchReport
    bytes_from_peers: int


@dataclass(frozen=True, slots=True)
class Said:
    """What a worker says to its caller: what happened since the last time, and what came of it, if it is done."""

    events: tuple[Event, ...]
    outcome: Fetched | Exception | None


class Operation:
    """One worker's part of one call.

    Args:
        order: what is wanted.
        worker: who does it.
        host: the number of its host.
        neighbours: the way to the other hosts.
    """

    def __init__(self, order: Order, worker: Worker, host: int, neighbours: Neighbours) -> None:
        self._order = order
        self._host = host
        self._neighbours = neighbours
        self._cache = cache_here(order.catalog, order.cache_dir, worker)
        self._storage = order.catalog._arguments()["storage"]  # noqa: SLF001  # the same package's
        self._outcome: Fetched | Exception | None = None
        self._events: list[Event] = []
        self._advanced: dict[tuple[str, str], TransferAdvanced] = {}
        self._news = 0
        self._changed = asyncio.Event()
        self._finished: dict[str, list[Dataset]] = {}
        self._withheld: set[str] = set()
        self._are_withheld: list[Callable[[str], bool]] = []
        self._offered: dict[tuple[str, str | None], CacheEntry] = {}
        self._reads = anyio.CapacityLimiter(_READS_AT_ONCE)
        self._heard_at = time.monotonic()
        self._task = asyncio.create_task(self._run(), name="datacachalog warm")

    # -- for the caller

    def say(self) -> Said:
        """Tell what happened since the last time."""
        self._heard_at = time.monotonic()
        events = (*self._events, *self._advanced.values())
        self._events.clear()
        self._advanced.clear()
        return Said(events, self._outcome)

    @property
    def is_forgotten(self) -> bool:
        """Whether nobody is there any more to end it."""
        return self._outcome is not None and time.monotonic() - self._heard_at > _SILENCE_SECONDS

    async def end(self) -> None:
        """Cancel what still runs, and wait until that has unwound: what is worth resuming stays as a partial."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    # -- the work

    async def _run(self) -> None:
        try:
            self._outcome = await (self._check() if self._order.is_check else self._fetch())
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller is told
            self._outcome = _portable(error)
        self._tell()

    async def _fetch(self) -> Fetched:
        order = self._order
        if not order.addresses:
            return Fetched(_portable_report(await self._fetch_all(self._storage, order.names)), 0)
        hosts = len(order.addresses)
        patience_seconds = order.catalog._config.lock_wait_seconds  # noqa: SLF001  # the same package's
        peers = Peers(self._neighbours, lambda uri, version: sources(uri, version, self._host, hosts), patience_seconds)
        report = await self._fetch_all(PeerStorage(self._storage, peers), order.names)
        wrong = {name: error for name, error in report.errors.items() if isinstance(error, IntegrityError)}
        if wrong and peers.received:
            # Nothing wrong was published. Whoever gave it, the store has the last word.
            for error in wrong.values():
                _logger.warning("fetched from the store, because another host gave wrong bytes: %s", error)
                for uri in [uri for uri in peers.received if redact_uri(uri) == error.uri]:
                    del peers.received[uri]
            report = _completed(report, await self._fetch_all(self._storage, tuple(wrong)))
        return Fetched(_portable_report(report), peers.received.total())

    async def _check(self) -> Fetched:
        """Look whether what the host's first worker has fetched is there for this one; fetch what isn't."""
        names = self._order.names
        report = await self._fetch_all(self._storage, names, offline=True)
        if report.errors:
            report = _completed(report, await self._fetch_all(self._storage, tuple(report.errors)))
        return Fetched(_portable_report(report), 0)

    async def _fetch_all(self, storage: object, names: tuple[str, ...], *, offline: bool | None = None) -> FetchReport:
        catalog = variant(self._order.catalog, storage=storage, cache=self._cache, progress=self._observe)
        async with catalog:
            return await catalog.fetch_all(names, offline=offline, on_error="collect")

    # -- what happens

    def _observe(self, event: Event) -> None:
        resolver = self._order.catalog._resolver  # noqa: SLF001  # the same package's
        match event:
            case OperationStarted() | OperationFinished() | DatasetFinished():
                return
            case TransferAdvanced():
                self._advanced[event.dataset, event.uri] = event
                self._news += 1
                return
            case DatasetFailed():
                self._are_withheld.append(resolver.is_meant(self._order.catalog.get_dataset(event.dataset)))
            case FileFinished():
                self._advanced.pop((event.dataset, event.uri), None)
                if event.action == "stale":
                    self._withheld.add(event.uri)
                else:
                    self._finished.setdefault(event.uri, []).append(self._order.catalog.get_dataset(event.dataset))
                self._events.append(event)
            case TransferRestarted():
                self._advanced.pop((event.dataset, event.uri), None)
                self._events.append(event)
            case _:
                self._events.append(event)
        self._tell()

    def _tell(self) -> None:
        """Wake those who wait for something to happen here."""
        self._news += 1
        self._changed.set()
        self._changed = asyncio.Event()

    # -- for the neighbours

    async def offer(self, uri: str, version_id: str | None) -> Offer | Pending | Withheld:
        """Offer a file as soon as it is here, confirmed in this very call; say within seconds that it isn't yet."""
        with anyio.move_on_after(_ANSWER_SECONDS):
            while True:
                changed = self._changed
                answer = await self._answer(uri, version_id)
                if answer is not None:
                    return answer
                await changed.wait()
        return Pending(self._news)

    async def _answer(self, uri: str, version_id: str | None) -> Offer | Withheld | None:
        keys = [self._key(dataset, uri, version_id) for dataset in self._finished.get(uri, ())]
        for entry in await self._cache.lookup(keys) if keys else ():
            if entry is not None:
                self._offered[uri, version_id] = entry
                had = entry.metadata
                metadata = FileMetadata(had.etag, had.last_modified, had.size, had.version_id, had.digest)
                return Offer(metadata, had.mtime_ns)
        is_given_up = uri in self._withheld or any(is_meant(uri) for is_meant in self._are_withheld)
        return Withheld() if keys or is_given_up or self._outcome is not None else None

    def _key(self, dataset: Dataset, uri: str, version_id: str | None) -> CacheKey:
        place = dataset.cache_path
        if place is None or not dataset.is_multi_file:
            return CacheKey(uri, version_id, place)
        base = parse_pattern(self._order.catalog._resolver.source(dataset)).base  # noqa: SLF001  # the same package's
        return CacheKey(uri, version_id, place, uri[len(base) :])

    async def piece(self, uri: str, version_id: str | None, mtime_ns: int, start: int, stop: int) -> bytes | None:
        """Read a piece of a copy that was offered; None if it isn't there any more."""
        entry = self._offered.get((uri, version_id))
        if entry is None or entry.metadata.mtime_ns != mtime_ns:
            return None
        size = min(stop, entry.metadata.size, start + PIECE_BYTES) - start
        async with self._reads:
            return await anyio.to_thread.run_sync(_read, entry.path, entry.metadata.size, mtime_ns, start, size)


def _read(path: Path, whole_size: int, mtime_ns: int, start: int, size: int) -> bytes | None:
    """Read from a file that still is what it was published as. Blocks."""
    try:
        with open(path, "rb", buffering=0) as file:
            found = os.fstat(file.fileno())
            if (found.st_size, found.st_mtime_ns) != (whole_size, mtime_ns):
                return None
            file.seek(start)
            pieces: list[bytes] = []
            while size > 0 and (piece := file.read(size)):
                pieces.append(piece)
                size -= len(piece)
    except OSError:
        return None
    return b"".join(pieces) if size == 0 else None


def _completed(report: FetchReport, again: FetchReport) -> FetchReport:
    """Put what a second fetch came to into the report of the first."""
    results = {**report.results, **again.results}
    errors = {name: error for name, error in report.errors.items() if name not in again.results}
    return replace(
        report,
        results=results,
        errors={**errors, **again.errors},
        requests=report.requests + again.requests,
        seconds=report.seconds + again.seconds,
    )


def _portable_report(report: FetchReport) -> FetchReport:
    return replace(report, errors={name: _portable(error) for name, error in report.errors.items()})


def _portable(error: Exception) -> Exception:
    """Give an error that can be sent: another library's may not survive it."""
    try:
        loads(dumps(error))
    except Exception:  # noqa: BLE001  # whatever its class does while it is pickled
        return DatacachalogError(f"{type(error).__name__}: {error}")
    return error
