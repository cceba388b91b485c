"""In which order do the stages run for one operation, and what happens when one fails?

resolve → plan → transfer → verify → publish, for each file; one that fails stops no other. What a failure of the remote
means for a file that is cached is decided here: a copy is served instead, or the error is raised; none is ever dropped.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, assert_never

import anyio

from ._errors import (
    CacheError,
    IntegrityError,
    LockMismatchError,
    StorageError,
    StorageUnreachableError,
    ThrottledError,
    VersionNotFoundError,
)
from ._events import DatasetFailed, DatasetFinished, DatasetResolved, FileFinished
from ._models import Dataset, FetchAction, FetchResult
from ._pipeline.adopt import copied, find_entries
from ._pipeline.flight import Flight
from ._pipeline.locked import check_remote
from ._pipeline.plan import Adopt, Decision, Download, Revalidate, Unavailable, UseCached, decide
from ._pipeline.report import FileResult, fetch_result, stale_result
from ._pipeline.requests import Requests
from ._pipeline.resolve import Selection, Target
from ._pipeline.transfer import Elsewhere, NotThatVersionError, Staged, transfer
from ._pipeline.verify import verify
from ._pipeline.workers import each
from .ports import CacheEntry, CacheKey, CachePort


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asks of a fetch besides the datasets."""

    force: bool = False
    offline: bool | None = None
    on_unreachable: Literal["stale", "raise"] | None = None
    as_of: datetime | None = None


class Fetching:
    """One operation that fetches. `results`, `files` and `errors` grow, by the datasets' names, as it goes on.

    Args:
        resolver: what the datasets mean.
        cache: where the copies lie.
        requests: the way to the remote.
        locks: of the files that are being fetched on this event loop: one task at a time fetches a file.
        wish: what the caller asks for.
    """

    def __init__(
        self,
        resolver: Selection,
        cache: CachePort,
        requests: Requests,
        locks: weakref.WeakValueDictionary[CacheKey, anyio.Lock],
        wish: Wish,
    ) -> None:
        config = requests.config
        self.results: dict[str, FetchResult] = {}
        self.files: dict[str, list[FileResult]] = {}
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
        if not self._is_offline:
            await self._resolver.prepare(datasets, self._requests)
        entries = await self._lookup_all(datasets)

        async def one(dataset: Dataset) -> None:
            try:
                files = await self._fetch_dataset(dataset, entries)
                self.results[dataset.name] = fetch_result(dataset, files)
                self.files[dataset.name] = files
                notify(DatasetFinished(operation=operation, dataset=dataset.name))
            except Exception as error:  # noqa: BLE001  # whatever one dataset fails with must stop no other
                self.errors[dataset.name] = error
                notify(DatasetFailed(operation=operation, dataset=dataset.name, reason=str(error)))

        await each(datasets, one, at_once=self._at_once)

    async def _lookup_all(self, datasets: Sequence[Dataset]) -> dict[CacheKey, CacheEntry | None]:
        """Read the sidecars of all single files in one hop; one that can't be read is looked up again on its own."""
        try:
            known = [self._resolver.known(dataset) for dataset in datasets]
            keys = [target.key for target in known if target is not None]
            return dict(zip(keys, await find_entries(self._cache, keys), strict=True)) if keys else {}
        except (CacheError, LockMismatchError):
            return {}

    async def _fetch_dataset(self, dataset: Dataset, entries: dict[CacheKey, CacheEntry | None]) -> list[FileResult]:
        requests, resolver = self._requests, self._resolver
        outage: StorageError | None = None
        known = resolver.known(dataset)
        if known is not None:
            targets = [known]
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
            raise StorageUnreachableError(resolver.source(dataset), resolver.nothing_cached)
        if dataset.is_multi_file:
            requests.notify(DatasetResolved(operation=requests.operation, dataset=dataset.name, files=len(targets)))
            keys = [target.key for target in targets]
            entries = dict(zip(keys, await find_entries(self._cache, keys), strict=True))
        results: dict[CacheKey, FileResult] = {}
        failures: list[Exception] = []

        async def one(target: Target) -> None:
            try:
                if target.key in entries:
                    entry = entries[target.key]
                else:
                    [entry] = await find_entries(self._cache, [target.key])
                if outage is not None and entry is not None:
                    result = stale_result(entry, outage)
                else:
                    result = await self._fetch_file(target, entry)
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
                [entry] = await find_entries(self._cache, [target.key])
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

    async def _adopt(self, target: Target, newest: CacheEntry, reason: str) -> FileResult | None:
        """Copy what is cached in the newest's place; None if that isn't right any more."""
        try:
            async with copied(target, newest, self._cache) as staged:
                entry = await self._cache.publish(await verify(staged, target))
        except IntegrityError:
            return None
        return _file_result(entry, "cached", 0, reason)

    async def _carry_out(self, decision: Decision, target: Target, flight: Flight) -> FileResult | None:
        """Do what was decided; None if another process is doing it, and the decision is to be made again."""
        servable: CacheEntry | None
        match decision:
            case UseCached(entry, reason, because):
                action: FetchAction = "revalidated" if because == "listing" else "cached"
                return _file_result(entry, action, 0, reason)
            case Adopt(entry, reason):
                adopted = await self._adopt(target, entry, reason)
                return adopted or await self._carry_out(self._decide(target, None), target, flight)
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
            except NotThatVersionError:
                target = await self._undemanding(target)
                return await self._transfer(target, servable, known_etag, reason, flight)
            except IntegrityError:
                # What was taken over may have come wrong already, from a process that was killed before it could see.
                if not flight.forget_partial():
                    raise
                return await self._transfer(target, servable, known_etag, reason, flight)
        except IntegrityError as error:
            if target.locked is None or error.expected != target.locked.digest:
                raise
            raise LockMismatchError(
                target.dataset, f"{error.uri} has the digest {error.got}, and {error.expected} in the data lock file"
            ) from error
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
                return _file_result(published, "downloaded", outcome.received_bytes, reason)
        if entry is None:
            raise StorageError(target.key.uri, "the remote says that nothing changed, but nothing is cached")
        if target.max_age_seconds > 0:
            await self._cache.touch([entry])
        return _file_result(entry, "revalidated", 0, "the remote has the cached version")

    async def _undemanding(self, target: Target) -> Target:
        """Say why the remote hasn't the ETag that was demanded; if it has, it is one that can't be demanded (weak).

        What is fetched then is compared with the lock file's digest alone.

        Raises:
            LockMismatchError: the remote has another version than the data lock file names.
            VersionNotFoundError: what was to be fetched as of some time has been overwritten.
        """
        if target.locked is None:
            raise VersionNotFoundError(
                target.key.uri, "it was overwritten since it was listed, and its bucket kept no version of it"
            )
        check_remote(target, await self._requests.head(target.dataset, target.key.uri, target.key.version_id))
        return replace(target, if_match=None)

    def _decide(self, target: Target, entry: CacheEntry | None) -> Decision:
        age_seconds = 0.0 if entry is None else time.time() - entry.validated_at
        return decide(target, entry, age_seconds=age_seconds, is_forced=self._is_forced, is_offline=self._is_offline)


def _file_result(entry: CacheEntry, action: FetchAction, bytes_downloaded: int, reason: str) -> FileResult:
    metadata = entry.metadata
    return FileResult(entry.path, action, metadata.size, bytes_downloaded, reason, metadata.verified_by, metadata)
