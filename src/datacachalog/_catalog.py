"""What can be asked of a catalog, and what is answered? The asynchronous one: its state, its calls, their events."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import anyio
import anyio.lowlevel
import anyio.to_thread

from ._archives import format_of
from ._config import CatalogConfig
from ._errors import (
    CacheError,
    ConfigurationError,
    DatasetNotFoundError,
    DuplicateDatasetError,
    MultiFileDatasetError,
    StaleDataWarning,
    StorageUnreachableError,
)
from ._events import (
    Event,
    OperationFinished,
    OperationStarted,
)
from ._fetching import Fetching, Wish
from ._models import (
    CacheInfo,
    Dataset,
    DatasetStatus,
    FetchReport,
    FetchResult,
    FileMetadata,
    Freshness,
    Plan,
    PlanStep,
)
from ._opening import Open, Opening
from ._pipeline.plan import (
    Decision,
    Download,
    FileOutlook,
    Revalidate,
    Unavailable,
    UseCached,
    decide,
    is_fresh,
    plan_step,
)
from ._pipeline.report import FileStatus, dataset_status, fetch_report
from ._pipeline.requests import Requests
from ._pipeline.resolve import Resolver, check_places
from ._pipeline.unpack import unpacking_of
from ._pipeline.workers import each
from ._readers import reader_of
from .cache import FileCache
from .ports import CacheEntry, CachePort, Observer, StoragePort, Unpacked, UnpackingPort
from .progress import ProgressOption, observer_for
from .storage import RouterStorage

_logger = logging.getLogger("datacachalog")
_operations = itertools.count(1)

stale_texts: ContextVar[list[str] | None] = ContextVar("stale_texts", default=None)
"""Where the synchronous facade collects what to warn of, to do it on its caller's thread and line."""


class AsyncCatalog:
    """A catalog of datasets, for asynchronous code.

    `async with` opens and closes it; used without, it opens itself at first use, and `aclose()` ends it. It may be
    opened again. It holds nothing of an event loop or a process but what it opened there, so it may be shared between
    threads, pickled, and used after a fork. Cancelling a call closes its connections, publishes nothing, and leaves the
    catalog usable.

    Args:
        datasets: the datasets; their names are unique.
        cache_dir: where the copies lie; None means the user's cache directory.
        config: how the catalog behaves; None means the defaults and the environment.
        storage: where the originals are; None means S3 with botocore's own configuration, and files.
        cache: where the copies lie, instead of `cache_dir`.
        progress: `"auto"` shows a live display on a terminal or in Jupyter and log lines elsewhere, on standard error;
            `"rich"` and `"plain"` choose one; False shows nothing; a callable is told every event.

    Raises:
        DuplicateDatasetError: two datasets of one name.
        ConfigurationError: settings that can't be right.
    """

    def __init__(
        self,
        datasets: Iterable[Dataset],
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        config: CatalogConfig | None = None,
        storage: StoragePort | None = None,
        cache: CachePort | None = None,
        progress: ProgressOption = "auto",
    ) -> None:
        self._datasets: dict[str, Dataset] = {}
        for dataset in datasets:
            if not isinstance(dataset, Dataset):
                raise ConfigurationError(f"a catalog is made of Dataset values: got {dataset!r}")
            if dataset.name in self._datasets:
                raise DuplicateDatasetError(
                    f"two datasets are named {dataset.name!r}: a name is used once in a catalog"
                )
            self._datasets[dataset.name] = dataset
        check_places(list(self._datasets.values()))
        if cache is not None and cache_dir is not None:
            raise ConfigurationError("a catalog takes a cache or a cache_dir, not both: the cache has its directory")
        self._config = config if config is not None else CatalogConfig()
        self._cache: CachePort = cache if cache is not None else FileCache(cache_dir or _user_cache_dir())
        if any(dataset.unpack for dataset in self._datasets.values()):
            unpacking_of(self._cache)
        self._storage: StoragePort = storage if storage is not None else RouterStorage()
        self._progress = progress
        self._resolver = Resolver(self._datasets.values(), self._cache, self._config.max_age_seconds)
        self._start()

    def _start(self) -> None:
        """Begin with nothing open."""
        self._observer = observer_for(self._progress)
        self._opened: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Opening] = weakref.WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        """Carry the configuration and nothing that is open."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_opened", "_observer")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    # -- opening and closing

    async def __aenter__(self) -> Self:
        opening = self._opening()
        opening.blocks += 1
        try:
            await opening.opened()
        except BaseException:
            opening.blocks -= 1
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        opening = self._opened.get(asyncio.get_running_loop())
        if opening is not None:
            opening.blocks -= 1
            if opening.blocks <= 0:
                await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. The catalog may be used again, which opens it again."""
        opening = self._opened.pop(asyncio.get_running_loop(), None)
        if opening is not None:
            await opening.aclose()

    def _opening(self) -> Opening:
        loop = asyncio.get_running_loop()
        opening = self._opened.get(loop)
        if opening is None or not opening.is_usable:
            opening = self._opened[loop] = Opening(self._storage, self._config, self)
        return opening

    async def _open(self) -> Open:
        return await self._opening().opened()

    # -- fetching

    async def fetch(
        self,
        name: str,
        *,
        force: bool = False,
        offline: bool | None = None,
        on_unreachable: Literal["stale", "raise"] | None = None,
    ) -> Path:
        """Give a local path to a dataset of a single file, with the newest bytes that the remote has.

        Args:
            name: the dataset.
            force: download in any case.
            offline: send no request; None means what the configuration says.
            on_unreachable: `"stale"` serves the cached copy with a `StaleDataWarning` when the remote does not answer,
                `"raise"` raises; None means what the configuration says.

        Returns:
            The path, which holds exactly one version of the object; with `Dataset.unpack` what was in it: a file, or
            of an archive of many files a directory.

        Raises:
            DatasetNotFoundError: no such dataset.
            MultiFileDatasetError: a glob or prefix dataset: use `fetch_files()`.
            StorageError: the remote refused; or it did not answer and nothing is cached.
            IntegrityError: the bytes are not those that the remote announced.
            ArchiveError: it can't be unpacked.
            CacheError: the cache can't be written.
        """
        dataset = self._single_file_dataset(name)
        result = await self._fetch_one(dataset, Wish(force, offline, on_unreachable))
        _warn_of_stale([result])
        return result.path

    async def fetch_files(
        self,
        name: str,
        *,
        force: bool = False,
        offline: bool | None = None,
        on_unreachable: Literal["stale", "raise"] | None = None,
    ) -> list[Path]:
        """Give local paths to all files of a dataset, sorted by key; a list of one for a single file.

        Of an archive that is unpacked, the paths of the files in it, sorted by their names.

        Args:
            name: the dataset.
            force: download in any case.
            offline: send no request; None means what the configuration says.
            on_unreachable: as in `fetch`.

        Raises:
            DatasetNotFoundError: no such dataset.
            EmptyGlobMatchError: nothing matches.
            StorageError: the remote refused; or it did not answer and nothing is cached.
            IntegrityError: the bytes are not those that the remote announced.
            ArchiveError: a file can't be unpacked.
            CacheError: the cache can't be written.
        """
        result = await self._fetch_one(self.get_dataset(name), Wish(force, offline, on_unreachable))
        _warn_of_stale([result])
        return list(result.paths)

    async def fetch_all(
        self,
        names: Iterable[str] | None = None,
        *,
        force: bool = False,
        offline: bool | None = None,
        on_error: Literal["raise", "collect"] = "raise",
        on_unreachable: Literal["stale", "raise"] | None = None,
    ) -> FetchReport:
        """Fetch many datasets at once, with one progress display.

        A dataset that fails stops no other: all others are finished first.

        Args:
            names: the datasets; None means all of the catalog.
            force: download in any case.
            offline: send no request; None means what the configuration says.
            on_error: `"raise"` raises a `FetchAllError` that carries the report; `"collect"` returns the report, whose
                `.errors` has the failures.
            on_unreachable: as in `fetch`.

        Raises:
            DatasetNotFoundError: one of the names is not in the catalog; nothing was fetched.
            FetchAllError: some datasets failed.
        """
        if on_error not in ("raise", "collect"):
            raise ConfigurationError(f"on_error is 'raise' or 'collect': got {on_error!r}")
        datasets = self._chosen(names)
        report = await self._fetch_many(datasets, Wish(force, offline, on_unreachable))
        _warn_of_stale(report.results.values())
        if on_error == "raise":
            report.raise_for_errors()
        return report

    async def load(
        self,
        name: str,
        reader: Callable[..., Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Fetch a dataset and read it, in a worker thread.

        Args:
            name: the dataset.
            reader: is called with the path, of a glob or prefix dataset or an unpacked archive of many files with the
                list of paths; None means the dataset's own reader, else one chosen for each path by the suffix among
                the installed libraries.
            **kwargs: for the reader.

        Raises:
            ConfigurationError: no reader for this suffix.
            DatacachalogError: what `fetch` raises.
        """
        dataset = self.get_dataset(name)
        result = await self._fetch_one(dataset, Wish())
        _warn_of_stale([result])
        are_many = dataset.is_multi_file or result.directory is not None
        content: Any = list(result.paths) if are_many else result.path

        def read() -> Any:
            chosen = reader or dataset.reader
            if chosen is not None:
                return chosen(content, **kwargs)
            if are_many:
                return [reader_of(path)(path, **kwargs) for path in content]
            return reader_of(content)(content, **kwargs)

        return await anyio.to_thread.run_sync(read, abandon_on_cancel=True)

    # -- looking

    async def plan(self, names: Iterable[str] | None = None) -> Plan:
        """Tell what `fetch_all` would do and why, in requests and bytes, without doing it.

        Asks the remote for metadata only. What can't be asked is a step that would fail.

        Args:
            names: the datasets; None means all of the catalog.

        Raises:
            DatasetNotFoundError: one of the names is not in the catalog.
        """
        datasets = self._chosen(names)
        steps: dict[str, PlanStep] = {}
        requests = await self._requests(next(_operations), _silent)

        async def one(dataset: Dataset) -> None:
            try:
                looked, listings = await self._look(dataset, requests)
            except Exception as error:  # noqa: BLE001  # whatever one dataset fails with is a step of the plan
                steps[dataset.name] = PlanStep(dataset.name, dataset.source, "fail", 0, str(error))
            else:
                outlooks = [FileOutlook(look.decision, look.remote) for look in looked]
                part_bytes = self._config.part_bytes
                steps[dataset.name] = plan_step(dataset, outlooks, listings=listings, part_bytes=part_bytes)

        await each(datasets, one, at_once=self._config.max_concurrency)
        ordered = tuple(steps[dataset.name] for dataset in datasets)
        return Plan(ordered, sum(step.requests for step in ordered), sum(step.bytes for step in ordered))

    async def is_stale(self, name: str) -> bool:
        """Tell whether the remote has another version than the cache; True when nothing is cached.

        One request, whatever `max_age` says; no download. For a glob or prefix dataset: whether one of its files is
        stale, with one request for a thousand files.

        Args:
            name: the dataset.

        Raises:
            DatasetNotFoundError: no such dataset.
            StorageError: the remote is gone, refused, or did not answer.
        """
        dataset = self.get_dataset(name)
        if self._config.offline:
            raise StorageUnreachableError(self._resolver.source(dataset), "offline: the remote may not be asked")
        requests = await self._requests(next(_operations), _silent)
        targets, _ = await self._resolver.targets(dataset, requests)
        entries = await self._cache.lookup([target.key for target in targets])
        for target, entry in zip(targets, entries, strict=True):
            remote = target.listed or await requests.head(name, target.key.uri)
            if entry is None or not is_fresh(entry, remote):
                return True
        return False

    async def status(self, names: Iterable[str] | None = None) -> list[DatasetStatus]:
        """Tell how the datasets stand, without a download.

        A remote that is gone or does not answer makes a status `UNKNOWN` with its reason, and harms no other. Within
        `max_age` nothing is asked.

        Args:
            names: the datasets; None means all of the catalog.

        Raises:
            DatasetNotFoundError: one of the names is not in the catalog.
        """
        datasets = self._chosen(names)
        statuses: dict[str, DatasetStatus] = {}
        requests = await self._requests(next(_operations), _silent)

        async def one(dataset: Dataset) -> None:
            try:
                looked, _ = await self._look(dataset, requests)
                files = [_file_status(look) for look in looked]
            except Exception as error:  # noqa: BLE001  # whatever one dataset fails with is its status
                entry = None
                if not dataset.is_multi_file and not isinstance(error, CacheError):
                    [entry] = await self._cache.lookup([self._resolver.target(dataset).key])
                files = [FileStatus(Freshness.UNKNOWN, entry, None, str(error))]
            statuses[dataset.name] = await self._as_unpacked(dataset, dataset_status(dataset, files), files[0].entry)

        await each(datasets, one, at_once=self._config.max_concurrency)
        return [statuses[dataset.name] for dataset in datasets]

    async def cache_info(self) -> CacheInfo:
        """Tell what the cache holds, in bytes and files; nothing is asked of the remote.

        Raises:
            ConfigurationError: the cache keeps no inventory.
        """
        entries = await self._resolver.inventory.entries()
        unpacked = await self._all_unpacked()
        by_uri: dict[str, int] = {}
        for uri, size in [(e.key.uri, e.metadata.size) for e in entries] + [(u.uri, u.size) for u in unpacked]:
            by_uri[uri] = by_uri.get(uri, 0) + size
        datasets: dict[str, int] = {}
        for name, dataset in self._datasets.items():
            if dataset.is_multi_file:
                is_meant = self._resolver.is_meant(dataset)
                datasets[name] = sum(size for uri, size in by_uri.items() if is_meant(uri))
            else:
                datasets[name] = by_uri.get(self._resolver.source(dataset), 0)
        files = len(entries) + sum(len(archive.files) for archive in unpacked)
        return CacheInfo(sum(by_uri.values()), files, datasets)

    async def verify(self, names: Iterable[str] | None = None) -> list[Path]:
        """Read the cached files and tell which ones don't have the digest that they were published with.

        Reads only the cache, every byte of it, archives and what was unpacked of them; nothing is asked of the remote.
        What is found is not served by the next fetch if its size or time was changed too; else `invalidate` it.

        Args:
            names: the datasets; None means all of the catalog.

        Returns:
            The paths of files that were changed, or added to an unpacked archive, sorted; of files that are missing
            nothing is said.

        Raises:
            DatasetNotFoundError: one of the names is not in the catalog.
            ConfigurationError: the cache keeps no inventory.
            CacheError: a file can't be read.
        """
        datasets = self._chosen(names)
        inventory = self._resolver.inventory
        is_meant = [self._resolver.is_meant(dataset) for dataset in datasets]
        entries = [e for e in await inventory.recorded() if any(matches(e.key.uri) for matches in is_meant)]
        changed: list[Path] = []

        async def one(entry: CacheEntry) -> None:
            if not await inventory.is_intact(entry):
                changed.append(entry.path)

        await each(entries, one, at_once=self._config.max_concurrency)
        for archive in await self._all_unpacked():
            if any(matches(archive.uri) for matches in is_meant):
                changed += await unpacking_of(self._cache).changed_files(archive)
        return sorted(changed)

    # -- managing

    async def invalidate(self, name: str) -> int:
        """Drop what is cached of a dataset, and what was unpacked of it; the next fetch downloads it.

        Args:
            name: the dataset.

        Returns:
            How many cached files were dropped; what was in an archive isn't counted.

        Raises:
            DatasetNotFoundError: no such dataset.
            CacheError: the cache can't be written.
        """
        dataset = self.get_dataset(name)
        if not dataset.is_multi_file:
            return await self._cache.remove([self._resolver.target(dataset).key])
        return await self._cache.remove([entry.key for entry in await self._resolver.matching(dataset)])

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:  # noqa: ARG002  # the frameworks pass themselves
        """Open the catalog, fetch everything, and close it at the end: `FastAPI(lifespan=catalog.lifespan)`.

        Args:
            app: the application; not looked at.

        Raises:
            FetchAllError: some datasets failed: the application does not start.
        """
        async with self:
            await self.fetch_all()
            yield

    @property
    def datasets(self) -> list[Dataset]:
        """The datasets, in the order in which they were given."""
        return list(self._datasets.values())

    def get_dataset(self, name: str) -> Dataset:
        """Give a dataset by its name.

        Raises:
            DatasetNotFoundError: no such dataset; the text has close names.
        """
        try:
            return self._datasets[name]
        except KeyError:
            raise DatasetNotFoundError(name, self._datasets) from None

    # -- one operation, many datasets

    async def _fetch_one(self, dataset: Dataset, wish: Wish) -> FetchResult:
        report = await self._fetch_many([dataset], wish)
        for error in report.errors.values():
            raise error
        return report.results[dataset.name]

    async def _fetch_many(self, datasets: Sequence[Dataset], wish: Wish) -> FetchReport:
        operation, began = next(_operations), time.perf_counter()
        fetching: Fetching | None = None
        is_complete = False
        self._notify(OperationStarted(operation=operation, datasets=len(datasets)))
        try:
            requests = await self._requests(operation, self._notify)
            fetching = Fetching(self._resolver, self._cache, requests, (await self._open()).locks, wish)
            await fetching.run(datasets)
            is_complete = True
        finally:
            seconds = time.perf_counter() - began
            results, errors = ({}, {}) if fetching is None else (fetching.results, fetching.errors)
            self._notify(
                OperationFinished(
                    operation=operation,
                    seconds=seconds,
                    finished=len(results),
                    failed=len(errors),
                    bytes_downloaded=sum(result.bytes_downloaded for result in results.values()),
                    is_cancelled=not is_complete,
                )
            )
        return fetch_report(datasets, results, errors, requests=requests.sent, seconds=seconds)

    async def _look(self, dataset: Dataset, requests: Requests) -> tuple[list[_Look], int]:
        """See how the files of a dataset stand; returns them, and how many requests it took to list them."""
        is_offline = self._config.offline
        if dataset.is_multi_file and is_offline:
            targets, listings = await self._resolver.cached_targets(dataset), 0
            if not targets:
                raise StorageUnreachableError(self._resolver.source(dataset), "offline, and nothing is cached")
        else:
            targets, listings = await self._resolver.targets(dataset, requests)
        entries = await self._cache.lookup([target.key for target in targets])
        looks: list[_Look] = []
        for target, entry in zip(targets, entries, strict=True):
            age_seconds = 0.0 if entry is None else time.time() - entry.validated_at
            decision = decide(target, entry, age_seconds=age_seconds, is_forced=False, is_offline=is_offline)
            remote = target.listed
            if remote is None and isinstance(decision, Revalidate | Download):
                remote = await requests.head(dataset.name, target.key.uri)
            looks.append(_Look(entry, decision, remote))
        return looks, listings

    async def _as_unpacked(self, dataset: Dataset, status: DatasetStatus, entry: CacheEntry | None) -> DatasetStatus:
        """Give the status of an archive the path of what is in it; a path is what `fetch` would return."""
        archive_format = format_of(dataset.unpack, self._resolver.source(dataset))
        if archive_format is None or status.path is None or entry is None:
            return status
        unpacked = await unpacking_of(self._cache).unpacked(entry, archive_format)
        return replace(status, path=None if unpacked is None else unpacked.path)

    async def _all_unpacked(self) -> list[Unpacked]:
        return await self._cache.all_unpacked() if isinstance(self._cache, UnpackingPort) else []

    # -- datasets, targets, keys

    def _single_file_dataset(self, name: str) -> Dataset:
        dataset = self.get_dataset(name)
        if dataset.is_multi_file:
            raise MultiFileDatasetError(name, dataset.source)
        return dataset

    def _chosen(self, names: Iterable[str] | None) -> list[Dataset]:
        """Give the datasets of those names, in the order of the catalog, each once."""
        if names is None:
            return self.datasets
        if isinstance(names, str):
            raise ConfigurationError(f"names is a sequence of names, not one text: write [{names!r}]")
        chosen = {self.get_dataset(name).name for name in names}
        return [dataset for dataset in self._datasets.values() if dataset.name in chosen]

    # -- what lives

    async def _requests(self, operation: int, notify: Observer) -> Requests:
        opened = await self._open()
        return Requests(opened.session, self._config, opened.limiter, notify, operation)

    def _notify(self, event: Event) -> None:
        if self._observer is None:
            return
        try:
            self._observer(event)
        except Exception:
            _logger.exception("the progress observer failed and is not called any more")
            self._observer = None


@dataclass(frozen=True, slots=True)
class _Look:
    """How one file stands."""

    entry: CacheEntry | None
    decision: Decision
    remote: FileMetadata | None


def _user_cache_dir() -> str:
    import platformdirs

    return platformdirs.user_cache_dir("datacachalog", appauthor=False)


def _silent(event: Event) -> None:
    """Tell nobody: looking is no operation."""


def _file_status(look: _Look) -> FileStatus:
    entry, decision, remote = look.entry, look.decision, look.remote
    match decision:
        case UseCached(because="offline"):
            freshness, reason = Freshness.UNKNOWN, "offline: the remote may not be asked"
        case UseCached(reason=reason):
            freshness = Freshness.FRESH
        case Unavailable(reason):
            freshness = Freshness.MISSING if entry is None else Freshness.UNKNOWN
        case Revalidate() | Download():
            if entry is None:
                freshness, reason = Freshness.MISSING, "not cached"
            elif remote is not None and isinstance(decision, Revalidate) and is_fresh(entry, remote):
                freshness, reason = Freshness.FRESH, "the remote has the cached version"
            else:
                freshness = Freshness.STALE
                reason = "the remote has another version" if isinstance(decision, Revalidate) else decision.reason
    return FileStatus(freshness, entry, remote, reason)


def _warn_of_stale(results: Iterable[FetchResult]) -> None:
    """Warn of copies that may be out of date, on the line of the code that called the catalog."""
    for result in results:
        if result.action == "stale":
            text = f"dataset {result.name!r} may be out of date: {result.reason}"
            collected = stale_texts.get()
            if collected is None:
                warnings.warn(text, StaleDataWarning, stacklevel=3)
            else:
                collected.append(text)
