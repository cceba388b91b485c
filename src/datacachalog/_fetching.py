"""In which order do the stages run for one operation, and what happens when one fails?

resolve → plan → transfer → verify → publish, for each file; one that fails stops no other. What a failure of the remote
means for a file that is cached is decided here: a copy is served instead, or the error is raised; none is ever dropped.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, assert_never

import anyio
import anyio.lowlevel

from ._archives import format_of
from ._bounding import Stage, bounds_of
from ._errors import (
    IntegrityError,
    LockMismatchError,
    StorageError,
    StorageUnreachableError,
    ThrottledError,
    VersionNotFoundError,
)
from ._events import DatasetFailed, DatasetFinished, DatasetResolved, FileFinished
from ._models import Dataset, FetchResult
from ._pipeline.adopt import copied, find_entries
from ._pipeline.composite import compare_parts
from ._pipeline.flight import Flight, claims_of, lock_of
from ._pipeline.lane import HandedBack, Lane, Published, lane_of
from ._pipeline.locked import check_remote
from ._pipeline.lookahead import Copies, copies_of, decide_now, is_listable
from ._pipeline.plan import Adopt, Decision, Download, Revalidate, Unavailable, UseCached
from ._pipeline.report import FileResult, cached_result, fetch_result, file_result, stale_result
from ._pipeline.requests import Requests
from ._pipeline.resolve import Selection, Target
from ._pipeline.revalidate import LEAST_KEYS, is_confirmed, survey
from ._pipeline.transfer import Begun, Elsewhere, NotThatVersionError, Staged, tell_received, transfer
from ._pipeline.unpack import unpacked_result
from ._pipeline.verify import verify
from ._pipeline.workers import each, in_turns
from .ports import BoundedCache, CacheEntry, CacheKey, CachePort, NotModified, Verified

_RENEWED_SECONDS = 20.0
_CHANGED = "the remote has another version"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asks of a fetch besides the datasets; of a glob or prefix, `file` is the name of the only one."""

    force: bool = False
    offline: bool | None = None
    on_unreachable: Literal["stale", "raise"] | None = None
    as_of: datetime | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True)
class _Revalidation:
    """A dataset of a single file whose copy is to be revalidated."""

    dataset: Dataset
    target: Target
    entry: CacheEntry


class Fetching:
    """One operation that fetches. `results`, `files` and `errors` grow, by the datasets' names, as it goes on.

    Args:
        resolver: what the datasets mean.
        cache: where the copies lie.
        requests: the way to the remote.
        locks: of the files that are being fetched on this event loop: one task at a time fetches a file.
        wish: what the caller asks for.
        unlistable: the beginnings of URIs below which the remote refuses to list; added to.
    """

    def __init__(
        self,
        resolver: Selection,
        cache: CachePort,
        requests: Requests,
        locks: weakref.WeakValueDictionary[CacheKey, anyio.Lock],
        wish: Wish,
        unlistable: set[str],
    ) -> None:
        config = requests.config
        self.results: dict[str, FetchResult] = {}
        self.files: dict[str, list[FileResult]] = {}
        self.errors: dict[str, Exception] = {}
        self._resolver = resolver
        self._cache = cache
        self._claims = claims_of(cache)
        self._requests = requests
        self._locks = locks
        self._unlistable = unlistable
        # So many files that one is ready to be asked for while those that have come are not yet told of.
        self._at_once = 2 * config.max_concurrency
        self._is_forced = wish.force
        self._is_offline = config.offline if wish.offline is None else wish.offline
        self._lane: Lane | None = None
        self._bounds = bounds_of(config)
        self._bounded = cache if isinstance(cache, BoundedCache) else None
        self._given: dict[str, Path] = {}
        """What the caller will get, so that it isn't evicted before: text of the path → path."""
        self._told: set[str] = set()
        """Datasets that an observer has been told are finished, and that are fetched again."""
        self._stage = Stage(cache, self._bounds, self._given)
        self._is_strict = (wish.on_unreachable or config.on_unreachable) == "raise"

    async def run(self, datasets: Sequence[Dataset]) -> None:
        """Fetch them all, at once."""
        if self._bounded is None:
            await self._run(datasets)
            return
        async with _repeated(self._note_use, is_short=len(datasets) == 1 and not datasets[0].is_multi_file):
            await self._run(datasets)
        if gone := await self._note_use():
            # Evicted by another process before it could see that they are used.
            missed = [d for d in datasets if gone.intersection(f.cached_path for f in self.files.get(d.name, ()))]
            for dataset in missed:
                del self.results[dataset.name], self.files[dataset.name]
                self._told.add(dataset.name)
            await self._run(missed)
            await self._note_use()

    async def _note_use(self) -> set[Path]:
        """Note that what is there so far is used; give those files that are no longer there."""
        if self._bounded is None or not self._given:
            return set()
        return set(await self._bounded.use(list(self._given.values())))

    async def _run(self, datasets: Sequence[Dataset]) -> None:
        if not self._is_offline:
            await self._resolver.prepare(datasets, self._requests)
        copies = await copies_of(datasets, self._resolver, self._cache)
        entries = copies.entries
        others, revalidations = await self._use_cached(datasets, copies)
        if not (others or revalidations):
            return
        async with AsyncExitStack() as stack:
            lane = None if self._is_offline else lane_of(self._requests.session, self._cache, self._requests)
            if lane is not None:
                self._lane = await stack.enter_async_context(lane)
            if not revalidations:
                await self._fetch_each(others, entries)
                return
            both = anyio.CapacityLimiter(self._at_once)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._fetch_each, others, entries, both)
                await self._fetch_each(await self._confirm(revalidations), entries, both)
        # A group whose tasks were cancelled together with this one may end without a word.
        await anyio.lowlevel.checkpoint_if_cancelled()

    async def _fetch_each(
        self,
        datasets: Sequence[Dataset],
        entries: Mapping[CacheKey, CacheEntry | None],
        at_once: anyio.CapacityLimiter | None = None,
    ) -> None:
        """Fetch datasets by the ordinary way; `at_once` is shared with others that are fetched at the same time."""
        operation, notify = self._requests.operation, self._requests.notify

        async def one(dataset: Dataset) -> None:
            try:
                async with nullcontext() if at_once is None else at_once:
                    files = await self._fetch_dataset(dataset, entries)
                self.results[dataset.name] = fetch_result(dataset, files)
                self.files[dataset.name] = files
                if dataset.name not in self._told:
                    notify(DatasetFinished(operation=operation, dataset=dataset.name))
            except Exception as error:  # noqa: BLE001  # what is fetched of the others needs no second download
                self.errors[dataset.name] = error
                kind = type(error).__name__
                notify(DatasetFailed(operation=operation, dataset=dataset.name, reason=str(error), error_type=kind))

        await each(datasets, one, at_once=self._at_once)

    # -- copies that are served as they are

    async def _use_cached(
        self, datasets: Sequence[Dataset], copies: Copies
    ) -> tuple[list[Dataset], list[_Revalidation]]:
        """Serve the copies that need no request; give the other datasets, and those of which a listing may tell.

        That needs no claim and no lock, as nothing is fetched.
        """
        others: list[Dataset] = []
        revalidations: list[_Revalidation] = []
        async for dataset in in_turns(datasets):
            target = copies.targets.get(dataset.name) if dataset.unpack is None else None
            decision: Decision | None = None if target is None else self._decide(target, copies.entries[target.key])
            if target is not None and isinstance(decision, UseCached):
                self._finish(dataset, target.key.uri, decision)
            elif target is not None and isinstance(decision, Revalidate) and is_listable(target):
                revalidations.append(_Revalidation(dataset, target, decision.entry))
            else:
                others.append(dataset)
        if len(revalidations) < LEAST_KEYS:
            return [dataset for dataset in datasets if dataset.name not in self.results], []
        return others, revalidations

    async def _confirm(self, revalidations: Sequence[_Revalidation]) -> list[Dataset]:
        """Serve the copies whose version is listed, without a request each; give the datasets of the others."""
        names = {one.target.key.uri: one.dataset.name for one in revalidations}
        found = (await survey(names, self._requests, self._unlistable)).found
        others: list[Dataset] = []
        confirmed: list[CacheEntry] = []
        async for one in in_turns(revalidations):
            uri = one.target.key.uri
            if not is_confirmed(one.entry, found.get(uri)):
                others.append(one.dataset)
                continue
            self._finish(one.dataset, uri, UseCached(one.entry, "the listing has the cached version", "listing"))
            if one.target.max_age_seconds > 0:
                confirmed.append(one.entry)
        if confirmed:
            await self._cache.touch(confirmed)
        return others

    def _finish(self, dataset: Dataset, uri: str, decision: UseCached) -> None:
        """Tell of a single file whose copy is served."""
        result = cached_result(decision)
        self.results[dataset.name] = fetch_result(dataset, [result])
        self.files[dataset.name] = [result]
        self._given[str(result.path)] = result.path
        if dataset.name in self._told:
            return
        operation, notify = self._requests.operation, self._requests.notify
        notify(_file_finished(operation, dataset.name, uri, result))
        notify(DatasetFinished(operation=operation, dataset=dataset.name))

    async def _fetch_dataset(self, dataset: Dataset, entries: Mapping[CacheKey, CacheEntry | None]) -> list[FileResult]:
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
                if dataset.unpack is not None:
                    result = await self._unpacked(dataset, target, result)
            except Exception as error:  # noqa: BLE001  # what is fetched of the others needs no second download
                failures.append(error)
                return
            results[target.key] = result
            self._given[str(result.cached_path)] = result.cached_path
            if dataset.name in self._told:
                return
            requests.notify(_file_finished(requests.operation, dataset.name, target.key.uri, result))

        await each(targets, one, at_once=self._at_once)
        if failures:
            raise failures[0]
        return [results[target.key] for target in targets]

    # -- one file

    async def _fetch_file(self, target: Target, entry: CacheEntry | None) -> FileResult:
        lock = lock_of(self._locks, target.key)
        must_look_again = lock.locked()
        async with lock:
            if must_look_again:  # somebody has just fetched it
                [entry] = await find_entries(self._cache, [target.key])
            flight = Flight(target, self._requests, self._claims)
            decision = self._decide(target, entry)
            begun = Begun()
            try:
                is_plain = target.locked is None and target.if_match is None
                if self._lane is not None and is_plain and isinstance(decision, Download | Revalidate):
                    outcome = await self._send_down(self._lane, decision, target, flight)
                    if isinstance(outcome, FileResult):
                        return outcome
                    begun = outcome
                while True:
                    if begun.answer is None and isinstance(decision, Download):
                        if await flight.wait():
                            [entry] = await find_entries(self._cache, [target.key])
                        decision = self._decide(target, flight.claim.entry or entry)
                    result = await self._carry_out(decision, target, flight, begun)
                    if result is not None:
                        return result
                    begun = Begun()
                    await flight.wait()
                    [entry] = await find_entries(self._cache, [target.key])
                    decision = self._decide(target, entry)
            finally:
                if begun.answer is not None:
                    begun.answer.close()
                await flight.release()

    async def _send_down(
        self, lane: Lane, decision: Download | Revalidate, target: Target, flight: Flight
    ) -> FileResult | Begun:
        """Bring a file the short way; or tell what was begun there."""
        is_download = isinstance(decision, Download)
        entry = decision.servable if isinstance(decision, Download) else decision.entry
        known_etag = None if is_download or entry is None else entry.metadata.etag
        outcome = await lane.fetch(target, entry, known_etag, must_claim=is_download)
        match outcome:
            case Published(published, received_bytes):
                reason = decision.reason if is_download else _CHANGED
                tell_received(self._requests, target, published.metadata.size)
                await self._keep_bounds(published.path)
                return file_result(published, "downloaded", received_bytes, reason)
            case NotModified():
                return await self._revalidated(target, entry, outcome)
            case HandedBack(answer, failure, claim):
                if claim is not None:
                    flight.adopt(claim)
                return Begun(answer, failure)
            case _:
                assert_never(outcome)

    async def _adopt(self, target: Target, newest: CacheEntry) -> CacheEntry | None:
        """Copy what is cached in the newest's place; None if that isn't right any more."""
        try:
            async with copied(target, newest, self._cache) as staged:
                return await self._publish(await verify(staged, target))
        except IntegrityError:
            return None

    async def _carry_out(self, decision: Decision, target: Target, flight: Flight, begun: Begun) -> FileResult | None:
        """Do what was decided; None if another process is doing it, and the decision is to be made again."""
        servable: CacheEntry | None
        match decision:
            case UseCached():
                return cached_result(decision)
            case Adopt(entry, reason):
                adopted = await self._adopt(target, entry)
                if adopted is not None:
                    return file_result(adopted, "cached", 0, reason)
                return await self._carry_out(self._decide(target, None), target, flight, begun)
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
                return await self._transfer(target, servable, known_etag, reason, flight, begun)
            except NotThatVersionError:
                target = await self._undemanding(target)
                return await self._transfer(target, servable, known_etag, reason, flight, Begun())
            except IntegrityError:
                # What was taken over may have come wrong already, from a process that was killed before it could see.
                if not flight.forget_partial():
                    raise
                return await self._transfer(target, servable, known_etag, reason, flight, Begun())
        except IntegrityError as error:
            if target.locked is None or error.expected != target.locked.digest:
                raise
            raise LockMismatchError(
                target.dataset, f"{error.uri} has the digest {error.got}, and {error.expected} in the data lock file"
            ) from error
        except (StorageUnreachableError, ThrottledError) as error:
            stale = None if self._is_strict else servable
            if stale is not None and stale.key.version_id != target.key.version_id:
                stale = await self._adopt(target, stale)
            if stale is None:
                raise
            return stale_result(stale, error)

    async def _transfer(
        self,
        target: Target,
        entry: CacheEntry | None,
        known_etag: str | None,
        reason: str,
        flight: Flight,
        begun: Begun,
    ) -> FileResult | None:
        async with transfer(target, known_etag, self._requests, self._stage, flight, begun) as outcome:
            if isinstance(outcome, Elsewhere):
                return None
            if isinstance(outcome, Staged):
                compared = await compare_parts(outcome, target, self._requests)
                published = await self._publish(await verify(compared, target))
                if entry is not None and known_etag is not None:
                    reason = _CHANGED
                return file_result(published, "downloaded", outcome.received_bytes, reason, outcome.caveat)
        return await self._revalidated(target, entry, outcome)

    async def _publish(self, verified: Verified) -> CacheEntry:
        published = await self._cache.publish(verified)
        await self._keep_bounds(published.path)
        return published

    async def _keep_bounds(self, published: Path) -> None:
        self._given[str(published)] = published
        if self._bounds is not None and self._bounded is not None:
            await self._bounded.evict(self._bounds, spared=self._given)

    async def _revalidated(self, target: Target, entry: CacheEntry | None, answer: NotModified) -> FileResult:
        if entry is None:
            raise StorageError(target.key.uri, "the remote says that nothing changed, but nothing is cached")
        if target.max_age_seconds > 0:
            await self._cache.touch([entry])
        return file_result(entry, "revalidated", 0, "the remote has the cached version", answer.caveat)

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

    async def _unpacked(self, dataset: Dataset, target: Target, result: FileResult) -> FileResult:
        """Give what is in a file that was fetched, if it is an archive; one task at a time unpacks it."""
        archive_format = format_of(dataset.unpack, target.key.uri)
        while archive_format is not None:
            lock = lock_of(self._locks, target.key)
            async with lock:
                flight = Flight(target, self._requests, self._claims)
                try:
                    unpacked = await unpacked_result(
                        result, target, archive_format, self._requests, self._cache, flight
                    )
                finally:
                    await flight.release()
            if unpacked is not None:
                await self._keep_bounds(result.path)
                return unpacked
            [entry] = await find_entries(self._cache, [target.key])  # it was dropped or replaced meanwhile
            result = await self._fetch_file(target, entry)
        return result

    def _decide(self, target: Target, entry: CacheEntry | None) -> Decision:
        return decide_now(target, entry, is_forced=self._is_forced, is_offline=self._is_offline)


def _file_finished(operation: int, dataset: str, uri: str, result: FileResult) -> FileFinished:
    return FileFinished(
        operation=operation,
        dataset=dataset,
        uri=uri,
        action=result.action,
        size_bytes=result.size,
        bytes_downloaded=result.bytes_downloaded,
    )


@asynccontextmanager
async def _repeated(work: Callable[[], Awaitable[object]], *, is_short: bool) -> AsyncIterator[None]:
    """Do something now and then while the context is open, unless that will be over soon."""

    async def repeat() -> None:
        while True:
            await anyio.sleep(_RENEWED_SECONDS)
            await work()

    if is_short:
        yield
        return
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(repeat)
        yield
        tasks.cancel_scope.cancel()
    # A group whose tasks were cancelled together with this one may end without a word.
    await anyio.lowlevel.checkpoint_if_cancelled()
