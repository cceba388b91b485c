"""In which order do the stages run for one operation, and what happens when one fails?

resolve → plan → transfer → verify → publish, for each file; one that fails stops no other. What a failure of the remote
means for a file that is cached is decided here: a copy is served instead, or the error is raised; none is ever dropped.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

import anyio

from ._archives import format_of
from ._errors import CacheError, IntegrityError, StorageError, StorageUnreachableError, ThrottledError
from ._events import DatasetFailed, DatasetFinished, DatasetResolved, FileFinished
from ._models import Dataset, FetchAction, FetchResult
from ._pipeline.flight import Flight
from ._pipeline.plan import Decision, Download, Revalidate, Unavailable, UseCached, decide
from ._pipeline.report import FileResult, fetch_result, stale_result
from ._pipeline.requests import Requests
from ._pipeline.resolve import Resolver, Target
from ._pipeline.transfer import Elsewhere, Staged, transfer
from ._pipeline.unpack import unpacked_result
from ._pipeline.verify import verify
from ._pipeline.workers import each
from .ports import CacheEntry, CacheKey, CachePort


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asks of a fetch besides the datasets."""

    force: bool = False
    offline: bool | None = None
    on_unreachable: Literal["stale", "raise"] | None = None


class Fetching:
    """One operation that fetches. `results` and `errors` grow, by the datasets' names, as it goes on.

    Args:
        resolver: what the datasets mean.
        cache: where the copies lie.
        requests: the way to the remote.
        locks: of the files that are being fetched on this event loop: one task at a time fetches a file.
        wish: what the caller asks for.
    """

    def __init__(
        self,
        resolver: Resolver,
        cache: CachePort,
        requests: Requests,
        locks: weakref.WeakValueDictionary[CacheKey, anyio.Lock],
        wish: Wish,
    ) -> None:
        config = requests.config
        self.results: dict[str, FetchResult] = {}
        self.errors: dict[str, Exception] = {}
        self._resolver = resolver
        self._cache = cache
        self._requests = requests
        self._locks = locks
        self._at_once = config.max_concurrency
        self._is_forced = wish.force
        self._is_offline = config.offline if wish.offline is None else wish.offline
        self._is_strict = (wish.on_unreachable or config.on_unreachable) == "raise"

    async def run(self, datasets: Sequence[Dataset]) -> None:
        """Fetch them all, at once."""
        operation, notify = self._requests.operation, self._requests.notify
        entries = await self._lookup_all(datasets)

        async def one(dataset: Dataset) -> None:
            try:
                files = await self._fetch_dataset(dataset, entries)
                self.results[dataset.name] = fetch_result(dataset, files)
                notify(DatasetFinished(operation=operation, dataset=dataset.name))
            except Exception as error:  # noqa: BLE001  # whatever one dataset fails with must stop no other
                self.errors[dataset.name] = error
                notify(DatasetFailed(operation=operation, dataset=dataset.name, reason=str(error)))

        await each(datasets, one, at_once=self._at_once)

    async def _lookup_all(self, datasets: Sequence[Dataset]) -> dict[CacheKey, CacheEntry | None]:
        """Read the sidecars of all single files in one hop; one that can't be read is looked up again on its own."""
        keys = [self._resolver.target(dataset).key for dataset in datasets if not dataset.is_multi_file]
        try:
            return dict(zip(keys, await self._cache.lookup(keys), strict=True)) if keys else {}
        except CacheError:
            return {}

    async def _fetch_dataset(self, dataset: Dataset, entries: dict[CacheKey, CacheEntry | None]) -> list[FileResult]:
        requests, resolver = self._requests, self._resolver
        outage: StorageError | None = None
        if not dataset.is_multi_file:
            targets = [resolver.target(dataset)]
        elif self._is_offline:
            targets = await resolver.cached_targets(dataset)
        else:
            try:
                targets, _ = await resolver.targets(dataset, requests)
            except (StorageUnreachableError, ThrottledError) as error:
                targets = await resolver.cached_targets(dataset)
                if not targets or self._is_strict:
                    raise
                outage = error
        if not targets:
            raise StorageUnreachableError(resolver.source(dataset), "offline, and nothing is cached")
        if dataset.is_multi_file:
            requests.notify(DatasetResolved(operation=requests.operation, dataset=dataset.name, files=len(targets)))
            keys = [target.key for target in targets]
            entries = dict(zip(keys, await self._cache.lookup(keys), strict=True))
        results: dict[CacheKey, FileResult] = {}
        failures: list[Exception] = []

        async def one(target: Target) -> None:
            try:
                if target.key in entries:
                    entry = entries[target.key]
                else:
                    [entry] = await self._cache.lookup([target.key])
                if outage is not None and entry is not None:
                    result = stale_result(entry, outage)
                else:
                    result = await self._fetch_file(target, entry)
                if dataset.unpack is not None:
                    result = await self._unpacked(dataset, target, result)
            except Exception as error:  # noqa: BLE001  # what is fetched of the others needs no second download
                failures.append(error)
                return
            results[target.key] = result
            requests.notify(
                FileFinished(
                    operation=requests.operation,
                    dataset=dataset.name,
                    uri=target.key.uri,
                    action=result.action,
                    size_bytes=result.size,
                    bytes_downloaded=result.bytes_downloaded,
                )
            )

        await each(targets, one, at_once=self._at_once)
        if failures:
            raise failures[0]
        return [results[target.key] for target in targets]

    # -- one file

    async def _fetch_file(self, target: Target, entry: CacheEntry | None) -> FileResult:
        lock = self._locks.setdefault(target.key, anyio.Lock())
        must_look_again = lock.locked()
        async with lock:
            if must_look_again:  # somebody has just fetched it
                [entry] = await self._cache.lookup([target.key])
            flight = Flight(target, self._requests, self._cache)
            try:
                while True:
                    decision = self._decide(target, entry)
                    if isinstance(decision, Download) and await flight.wait():
                        [entry] = await self._cache.lookup([target.key])
                        decision = self._decide(target, entry)
                    result = await self._carry_out(decision, target, flight)
                    if result is not None:
                        return result
                    await flight.wait()
                    [entry] = await self._cache.lookup([target.key])
            finally:
                await flight.release()

    async def _carry_out(self, decision: Decision, target: Target, flight: Flight) -> FileResult | None:
        """Do what was decided; None if another process is doing it, and the decision is to be made again."""
        servable: CacheEntry | None
        match decision:
            case UseCached(entry, reason, because):
                action: FetchAction = "revalidated" if because == "listing" else "cached"
                return FileResult(entry.path, action, entry.metadata.size, 0, reason, entry.metadata.verified_by)
            case Unavailable(reason):
                raise StorageUnreachableError(target.key.uri, reason, hint="fetch it once while online")
            case Revalidate(servable, reason):
                await flight.release()  # asking whether it is fresh needs no claim
                known_etag = servable.metadata.etag
            case Download(servable, reason):
                known_etag = None
            case _:
                assert_never(decision)
        try:
            try:
                return await self._transfer(target, servable, known_etag, reason, flight)
            except IntegrityError:
                # What was taken over may have come wrong already, from a process that was killed before it could see.
                if not flight.forget_partial():
                    raise
                return await self._transfer(target, servable, known_etag, reason, flight)
        except (StorageUnreachableError, ThrottledError) as error:
            if servable is None or self._is_strict:
                raise
            return stale_result(servable, error)

    async def _transfer(
        self,
        target: Target,
        entry: CacheEntry | None,
        known_etag: str | None,
        reason: str,
        flight: Flight,
    ) -> FileResult | None:
        async with transfer(target, known_etag, self._requests, self._cache, flight) as outcome:
            if isinstance(outcome, Elsewhere):
                return None
            if isinstance(outcome, Staged):
                published = await self._cache.publish(await verify(outcome, target))
                if entry is not None and known_etag is not None:
                    reason = "the remote has another version"
                metadata = published.metadata
                return FileResult(
                    published.path,
                    "downloaded",
                    metadata.size,
                    outcome.received_bytes,
                    reason,
                    metadata.verified_by,
                )
        if entry is None:
            raise StorageError(target.key.uri, "the remote says that nothing changed, but nothing is cached")
        if target.max_age_seconds > 0:
            await self._cache.touch([entry])
        return FileResult(
            entry.path,
            "revalidated",
            entry.metadata.size,
            0,
            "the remote has the cached version",
            entry.metadata.verified_by,
        )

    async def _unpacked(self, dataset: Dataset, target: Target, result: FileResult) -> FileResult:
        """Give what is in a file that was fetched, if it is an archive; one task at a time unpacks it."""
        archive_format = format_of(dataset.unpack, target.key.uri)
        while archive_format is not None:
            lock = self._locks.setdefault(target.key, anyio.Lock())
            async with lock:
                flight = Flight(target, self._requests, self._cache)
                try:
                    unpacked = await unpacked_result(
                        result, target, archive_format, self._requests, self._cache, flight
                    )
                finally:
                    await flight.release()
            if unpacked is not None:
                return unpacked
            [entry] = await self._cache.lookup([target.key])  # it was dropped or replaced meanwhile
            result = await self._fetch_file(target, entry)
        return result

    def _decide(self, target: Target, entry: CacheEntry | None) -> Decision:
        age_seconds = 0.0 if entry is None else time.time() - entry.validated_at
        return decide(target, entry, age_seconds=age_seconds, is_forced=self._is_forced, is_offline=self._is_offline)
