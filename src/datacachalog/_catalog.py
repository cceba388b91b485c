"""What can be asked of a catalog, and what is answered? The asynchronous one: its state, its calls, their events."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

import anyio
import anyio.lowlevel
import anyio.to_thread

from . import _lockfile
from ._archives import format_of
from ._bounding import Declaring, OpenPath, bounded, bounds_of, cleanable
from ._config import CatalogConfig
from ._discovered import discovered_arguments
from ._errors import (
    CacheError,
    ConfigurationError,
    DatasetNotFoundError,
    DuplicateDatasetError,
    MultiFileDatasetError,
    ObjectNotFoundError,
    StaleDataWarning,
    StorageUnreachableError,
    ThrottledError,
    redact_uri,
)
from ._events import (
    Event,
    OperationFinished,
    OperationStarted,
)
from ._fetching import Fetching, Wish
from ._models import (
    CacheInfo,
    CacheMetadata,
    Dataset,
    DatasetStatus,
    FetchReport,
    FetchResult,
    FileMetadata,
    Freshness,
    ObjectVersion,
    Plan,
    PlanStep,
    PushReport,
)
from ._opening import Open, Opening
from ._pipeline.adopt import find_entries
from ._pipeline.below import Below, KnownFile, known_file
from ._pipeline.locked import Locked, check_remote, locked_dataset
from ._pipeline.lookahead import Lookahead, decide_now, is_listable, look_ahead
from ._pipeline.pattern import meant_by, parse_pattern
from ._pipeline.plan import (
    Adopt,
    Decision,
    Download,
    FileOutlook,
    Revalidate,
    Unavailable,
    UseCached,
    is_fresh,
    plan_step,
)
from ._pipeline.report import FileResult, FileStatus, dataset_status, fetch_report
from ._pipeline.requests import Requests
from ._pipeline.resolve import Resolver, Selection, Target, check_places
from ._pipeline.revalidate import is_confirmed
from ._pipeline.unpack import unpacking_of
from ._pipeline.versions import AsOf, checked_as_of, list_versions
from ._pipeline.workers import each
from ._pushing import Pushing
from ._readers import ReadAs, check_read_as, read_files
from ._sources import absolute_path
from ._threads import to_its_end
from .cache import FileCache
from .ports import (
    BoundedCache,
    CacheEntry,
    CacheKey,
    CachePort,
    Observer,
    StoragePort,
    Unpacked,
    UnpackingPort,
)
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
        storage: where the originals are; None means S3, Google and Azure as their environments say, and files.
        cache: where the copies lie, instead of `cache_dir`.
        progress: `"auto"` shows a live display on a terminal or in Jupyter and log lines elsewhere, on standard error;
            `"rich"` and `"plain"` choose one; False shows nothing; a callable is told every event; a list of
            these is all of them.

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
        self._lock_directory: Path | None = None
        """Where the data lock file lies; None means the working directory."""
        self._locked: _lockfile.LockFile | None = None
        if bounds_of(self._config) is not None:
            bounded(self._cache)
        self._start()

    @classmethod
    def discover(cls, start: str | os.PathLike[str] | None = None, **overrides: Any) -> Self:
        """Make the catalog that the project's catalog file describes.

        The file is `datacachalog.toml`, or `[tool.datacachalog]` in `pyproject.toml`, in the nearest directory upwards
        that has one. It is read, and nothing is imported or run. That takes a millisecond or two on the calling thread.

        Args:
            start: where the search begins; None means `DATACACHALOG_CATALOG` (the file) or `DATACACHALOG_ROOT` (the
                directory), else the working directory.
            **overrides: the catalog's arguments but for `datasets`, and fields of `CatalogConfig`: they go before the
                environment, which goes before the file.

        Raises:
            CatalogFileError: the file can't be read or says something impossible; the text has the line.
            ConfigurationError: there is no catalog file, or an override that can't be right.
        """
        directory, arguments = discovered_arguments(start, overrides)
        catalog = cls(**arguments)
        catalog._lock_directory = directory
        return catalog

    def _arguments(self) -> dict[str, Any]:
        """Give the arguments of a catalog like this one."""
        return {
            "datasets": self.datasets,
            "config": self._config,
            "storage": self._storage,
            "cache": self._cache,
            "progress": self._progress,
        }

    def _start(self) -> None:
        """Begin with nothing open."""
        self._observer = observer_for(self._progress)
        self._opened: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Opening] = weakref.WeakKeyDictionary()
        sources = tuple((name, self._resolver.source(dataset)) for name, dataset in self._datasets.items())
        self._declaring = Declaring(self._cache, sources)

    def __getstate__(self) -> dict[str, Any]:
        """Carry the configuration and nothing that is open."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_opened", "_observer", "_declaring")}

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
        version_id: str | None = None,
        as_of: datetime | None = None,
        force: bool = False,
        offline: bool | None = None,
        on_unreachable: Literal["stale", "raise"] | None = None,
    ) -> Path:
        """Give a local path to a dataset of a single file, with the newest bytes that the remote has.

        A version that is asked for is cached beside the newest, never in its place. It never changes, so once it is
        cached nothing is asked of the remote for it.

        Args:
            name: the dataset.
            version_id: that version instead of the newest, or of the dataset's own.
            as_of: the version that was the newest at that time, inclusive; with a time zone. Which one that was is
                asked for each time.
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
            ConfigurationError: both a version and a time (a `ValueError` too); a time without a zone; either of them on
                a frozen catalog.
            VersionNotFoundError: no such version; or the object wasn't there at that time, because it was deleted, or
                not yet written.
            VersioningNotSupportedError: the storage keeps no versions.
            LockMismatchError: a frozen catalog, and the data lock file names something else.
            StorageError: the remote refused; or it did not answer and nothing is cached.
            IntegrityError: the bytes are not those that the remote announced.
            ArchiveError: it can't be unpacked.
            CacheError: the cache can't be written.
        """
        dataset = self._single_file_dataset(name)
        if version_id is not None:
            if as_of is not None:
                raise ConfigurationError("a version_id and an as_of name two versions: give one of them")
            if self._config.frozen:
                raise ConfigurationError("a frozen catalog fetches what the data lock file names: no other version_id")
            if version_id != dataset.version_id:
                dataset = replace(dataset, version_id=version_id, cache_path=None)
        result = await self._fetch_one(dataset, Wish(force, offline, on_unreachable, as_of))
        _warn_of_stale([result])
        return result.path

    async def fetch_files(
        self,
        name: str,
        *,
        as_of: datetime | None = None,
        force: bool = False,
        offline: bool | None = None,
        on_unreachable: Literal["stale", "raise"] | None = None,
    ) -> list[Path]:
        """Give local paths to all files of a dataset, sorted by key; a list of one for a single file.

        Of an archive that is unpacked, the paths of the files in it, sorted by their names.

        Args:
            name: the dataset.
            as_of: the files, and the versions of them, that were there at that time; as in `fetch`.
            force: download in any case.
            offline: send no request; None means what the configuration says.
            on_unreachable: as in `fetch`.

        Raises:
            DatasetNotFoundError: no such dataset.
            EmptyGlobMatchError: nothing matches, or nothing did at that time.
            LockMismatchError: a frozen catalog, and the data lock file names something else.
            StorageError: the remote refused; or it did not answer and nothing is cached.
            IntegrityError: the bytes are not those that the remote announced.
            ArchiveError: a file can't be unpacked.
            CacheError: the cache can't be written.
        """
        result = await self._fetch_one(self.get_dataset(name), Wish(force, offline, on_unreachable, as_of))
        _warn_of_stale([result])
        return list(result.paths)

    async def fetch_all(
        self,
        names: Iterable[str] | None = None,
        *,
        as_of: datetime | None = None,
        force: bool = False,
        offline: bool | None = None,
        on_error: Literal["raise", "collect"] = "raise",
        on_unreachable: Literal["stale", "raise"] | None = None,
    ) -> FetchReport:
        """Fetch many datasets at once, with one progress display.

        A dataset that fails stops no other: all others are finished first.

        Args:
            names: the datasets; None means all of the catalog.
            as_of: the data as it was at that time, with a time zone: of each file the version that was the newest then,
                inclusive, and of globs and prefixes the files that were there. It goes before a dataset's `version_id`.
            force: download in any case.
            offline: send no request; None means what the configuration says.
            on_error: `"raise"` raises a `FetchAllError` that carries the report; `"collect"` returns the report, whose
                `.errors` has the failures.
            on_unreachable: as in `fetch`.

        Raises:
            DatasetNotFoundError: one of the names is not in the catalog; nothing was fetched.
            ConfigurationError: a time without a zone, or a time on a frozen catalog.
            LockMismatchError: a frozen catalog without a data lock file.
            FetchAllError: some datasets failed; on a frozen catalog by a `LockMismatchError` each.
        """
        if on_error not in ("raise", "collect"):
            raise ConfigurationError(f"on_error is 'raise' or 'collect': got {on_error!r}")
        datasets = self._chosen(names)
        report, _ = await self._fetch_many(datasets, Wish(force, offline, on_unreachable, as_of))
        _warn_of_stale(report.results.values())
        if on_error == "raise":
            report.raise_for_errors()
        return report

    async def load(
        self,
        name: str,
        reader: Callable[..., Any] | None = None,
        *,
        as_: ReadAs | None = None,
        **kwargs: Any,
    ) -> Any:
        """Fetch a dataset and read it, in a worker thread.

        Without a reader, several files become one frame with the union of their columns; text and JSON come as lists.

        Args:
            name: the dataset.
            reader: is called with the path, of a glob or prefix dataset or an unpacked archive of many files with the
                list of paths; None means the dataset's own reader, else one chosen by the suffix among the installed
                libraries.
            as_: `"pandas"`, `"polars"`, `"arrow"` or `"duckdb"` for a frame of that library (of DuckDB a relation,
                which reads the files when it is used), `"text"`, or `"json"`; goes before the dataset's own reader.
            **kwargs: for the reader, or for the library's function that reads such files.

        Raises:
            ConfigurationError: no reader for this suffix, or its library is not installed: the text has the extra.
            DatacachalogError: what `fetch` raises.
        """
        check_read_as(as_, reader)
        dataset = self.get_dataset(name)
        own_reader = reader or (dataset.reader if as_ is None else None)
        result = await self._fetch_one(dataset, Wish())
        _warn_of_stale([result])
        are_many = dataset.is_multi_file or result.directory is not None

        def read() -> Any:
            if own_reader is not None:
                return own_reader(list(result.paths) if are_many else result.path, **kwargs)
            return read_files(result.paths, is_multi_file=are_many, as_=as_, arguments=kwargs)

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
        selection = await self._selection()
        requests = await self._requests(next(_operations), _silent)
        ahead = await self._look_ahead(datasets, selection, requests)

        async def one(dataset: Dataset) -> None:
            try:
                looked, listings = await self._look(dataset, selection, requests, ahead)
            except Exception as error:  # noqa: BLE001  # whatever one dataset fails with is its status
                steps[dataset.name] = PlanStep(dataset.name, redact_uri(dataset.source), "fail", 0, str(error))
            else:
                outlooks = [FileOutlook(look.decision, look.remote, look.is_listed) for look in looked]
                part_bytes = self._config.part_bytes
                steps[dataset.name] = plan_step(dataset, outlooks, listings=listings, part_bytes=part_bytes)

        await each(datasets, one, at_once=self._config.max_concurrency)
        ordered = tuple(steps[dataset.name] for dataset in datasets)
        return Plan(ordered, sum(step.requests for step in ordered), sum(step.bytes for step in ordered))

    async def is_stale(self, name: str) -> bool:
        """Tell whether the remote has another version than the cache; True when nothing is cached.

        One request, whatever `max_age` says; no download. For a glob or prefix dataset: whether one of its files is
        stale, with one request for a thousand files. Of a dataset with a `version_id`, and on a frozen catalog: whether
        what is cached is that version, without a request.

        Args:
            name: the dataset.

        Raises:
            DatasetNotFoundError: no such dataset.
            LockMismatchError: a frozen catalog, and the data lock file doesn't name the dataset.
            StorageError: the remote is gone, refused, or did not answer.
        """
        dataset = self.get_dataset(name)
        selection = await self._selection()
        known = selection.known(dataset)
        is_fixed = self._config.frozen or (known is not None and known.is_fixed)
        if self._config.offline and not is_fixed:
            raise StorageUnreachableError(self._resolver.source(dataset), "offline: the remote may not be asked")
        requests = await self._requests(next(_operations), _silent)
        targets, _ = await selection.targets(dataset, requests)
        entries = await find_entries(self._cache, [target.key for target in targets])
        for target, entry in zip(targets, entries, strict=True):
            if target.is_fixed:
                if entry is None or (target.locked is not None and not target.locked.is_of(entry.metadata)):
                    return True
                continue
            remote = target.listed or await requests.head(name, target.key.uri, target.key.version_id)
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
        selection = await self._selection()
        requests = await self._requests(next(_operations), _silent)
        ahead = await self._look_ahead(datasets, selection, requests)

        async def one(dataset: Dataset) -> None:
            try:
                looked, _ = await self._look(dataset, selection, requests, ahead)
                files = [_file_status(look) for look in looked]
            except Exception as error:  # noqa: BLE001  # whatever one dataset fails with is its status
                entry = None
                if not dataset.is_multi_file and not isinstance(error, CacheError):
                    key = self._resolver.target(dataset).key
                    entry = ahead.entries[key] if key in ahead.entries else (await self._cache.lookup([key]))[0]
                files = [FileStatus(Freshness.UNKNOWN, entry, None, str(error))]
            statuses[dataset.name] = await self._as_unpacked(dataset, dataset_status(dataset, files), files[0].entry)

        await each(datasets, one, at_once=self._config.max_concurrency)
        return [statuses[dataset.name] for dataset in datasets]

    async def versions(self, name: str, limit: int | None = None) -> list[ObjectVersion]:
        """List the versions of a dataset's object, the newest first, deletions included.

        In a bucket that never kept versions, the object has one, `"null"`. Reads a page of the listing, a thousand
        versions, after the other until it has enough.

        Args:
            name: the dataset.
            limit: how many at most, from the newest on; None means all.

        Raises:
            DatasetNotFoundError: no such dataset.
            MultiFileDatasetError: a glob or prefix dataset.
            ConfigurationError: a limit below 1.
            ObjectNotFoundError: there is no such object, and no version of it either.
            VersioningNotSupportedError: the storage keeps no versions.
            StorageError: the remote refused (on S3 this takes `s3:ListBucketVersions`), or did not answer.
        """
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            raise ConfigurationError(f"limit is a whole number, at least 1, or None: got {limit!r}")
        uri = self._resolver.source(self._single_file_dataset(name))
        if self._config.offline:
            raise StorageUnreachableError(uri, "offline: the remote may not be asked")
        requests = await self._requests(next(_operations), _silent)
        found = await list_versions(name, uri, requests, lambda found: limit is not None and len(found) >= limit)
        if not found:
            raise ObjectNotFoundError(uri, "it has no version, and never had one", hint="check the key")
        return found[:limit]

    async def cache_info(self) -> CacheInfo:
        """Tell what the cache holds, in bytes and files; nothing is asked of the remote.

        Raises:
            ConfigurationError: the cache keeps no inventory.
        """
        if isinstance(self._cache, BoundedCache) and self._is_plain:
            return await self._cheap_cache_info(self._cache)
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
        is_meant = self._resolver.is_meant_by_one_of(datasets)
        entries = [entry for entry in await inventory.recorded() if is_meant(entry.key.uri)]
        changed: list[Path] = []

        async def one(entry: CacheEntry) -> None:
            if not await inventory.is_intact(entry):
                changed.append(entry.path)

        await each(entries, one, at_once=self._config.max_concurrency)
        for archive in await self._all_unpacked():
            if is_meant(archive.uri):
                changed += await unpacking_of(self._cache).changed_files(archive)
        return sorted(changed)

    @property
    def _is_plain(self) -> bool:
        """Whether each dataset is one file, as it comes."""
        return not any(each.is_multi_file or each.unpack is not None for each in self._datasets.values())

    async def _cheap_cache_info(self, cache: BoundedCache) -> CacheInfo:
        """Read no sidecars but those of this catalog's datasets."""
        total_bytes, files = await cache.totals()
        entries = await self._cache.lookup([self._resolver.target(dataset).key for dataset in self._datasets.values()])
        sizes = [0 if entry is None else entry.metadata.size for entry in entries]
        return CacheInfo(total_bytes, files, dict(zip(self._datasets, sizes, strict=True)))

    # -- pushing

    async def push(
        self,
        name: str,
        local_path: str | os.PathLike[str],
        *,
        on_conflict: Literal["raise", "overwrite"] = "raise",
    ) -> FileMetadata:
        """Write a local file to the remote as the dataset's one object, in one step.

        What is there must be what is cached of it; nothing, if nothing is cached. The file is copied to the cache as
        the version that it has become, so the next fetch downloads nothing; the file itself stays yours. Cancelled,
        it drops the parts that were sent, and the remote keeps what it had, unless the last request was on its way.

        Args:
            name: the dataset.
            local_path: the file. It may not change meanwhile.
            on_conflict: `"raise"` raises if somebody else has written; `"overwrite"` doesn't ask.

        Returns:
            What the remote said of what was written; `last_modified` is None where it didn't say.

        Raises:
            DatasetNotFoundError: no such dataset.
            MultiFileDatasetError: a glob or prefix dataset: give the file a dataset of its own.
            ObjectNotFoundError: there is no such file, or no such bucket to write to.
            ConfigurationError: a directory or a special file; or a storage that can't be written.
            IntegrityError: the file is not what the dataset's checksum pins.
            PushConflictError: the remote has something else than what is cached.
            TransferError: the file changed while it was sent; nothing was written.
            StorageError: the remote refused, or did not answer.
            CacheError: the cache can't be written.
        """
        self.get_dataset(name)
        report = await self._push_many({name: local_path}, on_conflict)
        for error in report.errors.values():
            raise error
        return report.results[name]

    async def push_all(
        self,
        paths: Mapping[str, str | os.PathLike[str]],
        *,
        on_conflict: Literal["raise", "overwrite"] = "raise",
        on_error: Literal["raise", "collect"] = "raise",
    ) -> PushReport:
        """Push many files at once, with one progress display.

        A file that fails stops no other: all others are finished first.

        Args:
            paths: name → local file.
            on_conflict: as in `push`.
            on_error: `"raise"` raises a `PushAllError` that carries the report; `"collect"` returns the report, whose
                `.errors` has the failures.

        Raises:
            DatasetNotFoundError: one of the names is not in the catalog; nothing was pushed.
            PushAllError: some files were not written.
        """
        if on_error not in ("raise", "collect"):
            raise ConfigurationError(f"on_error is 'raise' or 'collect': got {on_error!r}")
        report = await self._push_many(paths, on_conflict)
        if on_error == "raise":
            report.raise_for_errors()
        return report

    # -- managing

    def open_path(self, name: str) -> AbstractAsyncContextManager[Path]:
        """Fetch a dataset of a single file and keep it from being evicted while the context is open.

        Holds against every process that uses the cache, until the context is left or the process ends. A new version
        may still be published in its place: what is open already keeps its bytes, as files do.

        Args:
            name: the dataset.

        Returns:
            A context manager that gives the path, as `fetch` does.

        Raises:
            DatasetNotFoundError: no such dataset.
            MultiFileDatasetError: a glob or prefix dataset.
            ConfigurationError: the cache keeps no bounds.
            DatacachalogError: what `fetch` raises, when the context is entered.
        """
        key = self._resolver.target(self._single_file_dataset(name)).key
        return OpenPath(bounded(self._cache), key, lambda: self.fetch(name))

    async def evict(self, max_bytes: int | None = None, min_free_bytes: int | None = None) -> int:
        """Remove cached files, the least recently used first, until the cache is small enough or the rest is in use.

        The files of all catalogs that share the cache count, and may go. What is open by `open_path`, is being fetched,
        or was given to a caller within `eviction_grace_seconds` stays. Cancelled, it stops between two files.

        Args:
            max_bytes: how many bytes all cached files together may have.
            min_free_bytes: how many bytes are to be free in the file system of the cache.
                If both are None: what the configuration says; without bounds there, nothing is removed.

        Returns:
            Bytes removed.

        Raises:
            ConfigurationError: the cache keeps no bounds, or a bound that can't be right.
            CacheError: the cache can't be written.
        """
        cache = bounded(self._cache)
        bounds = bounds_of(self._config, max_bytes=max_bytes, min_free_bytes=min_free_bytes)
        return 0 if bounds is None else await cache.evict(bounds, is_thorough=True)

    async def clean(self) -> int:
        """Remove what is of no use to anybody any more.

        That is: unfinished downloads that nobody works at, which would be resumed otherwise; other leftovers of
        processes that were killed; sidecars whose file is gone; and the files of datasets that this project has had in
        a catalog with a name in common with this one, if that has not been used any more since this one first was, and
        no other catalog that uses the cache has them. A file that the cache does not know stays. Cancelled, it stops
        between two files.

        Returns:
            Bytes removed.

        Raises:
            ConfigurationError: the cache can't be cleaned.
            CacheError: the cache can't be written.
        """
        return await cleanable(self._cache).clean(await self._declaring.declaration(), meant_by)

    async def invalidate(self, name: str) -> int:
        """Drop what is cached of a dataset, and what was unpacked of it; the next fetch downloads it.

        What is cached of its versions by `version_id` and `as_of` stays: a version never changes.

        Args:
            name: the dataset.

        Returns:
            How many cached files were dropped; what was in an archive isn't counted.

        Raises:
            DatasetNotFoundError: no such dataset.
            LockMismatchError: a frozen catalog, and the data lock file doesn't name the dataset.
            CacheError: the cache can't be written.
        """
        dataset = self.get_dataset(name)
        targets = await self._resolver.cached_targets(dataset) if dataset.is_multi_file else []
        if self._config.frozen:
            targets += await (await self._selection()).cached_targets(dataset)
        if not dataset.is_multi_file:
            targets.append(self._resolver.target(dataset))
        return await self._cache.remove(list({target.key for target in targets}))

    async def lock(self, names: Iterable[str] | None = None, path: str | os.PathLike[str] | None = None) -> Path:
        """Write down which version of each dataset is the newest now, in the data lock file: to be committed.

        Fetches the datasets, as `fetch_all` does, and writes what was fetched: source, ETag, version, size and digest.
        The file is sorted, has a block for each dataset, and is replaced in one step. With `CatalogConfig(frozen=True)`
        a catalog fetches exactly what it says. Cancelled, or when a dataset fails, it leaves the file as it was.

        Args:
            names: the datasets; what the file says of others is kept. None means all of the catalog, and nothing else.
            path: the file; None means `datacachalog.lock` beside the catalog file, else in the working directory.

        Returns:
            The file's path.

        Raises:
            DatasetNotFoundError: one of the names is not in the catalog.
            ConfigurationError: the catalog is frozen.
            CatalogFileError: the file can't be written; or others are to be kept, and it can't be read.
            FetchAllError: some datasets failed.
        """
        if self._config.frozen:
            raise ConfigurationError(
                "a frozen catalog can't be locked anew: say frozen=False, or DATACACHALOG_FROZEN=0, to do that"
            )
        datasets = self._chosen(names)
        report, files = await self._fetch_many(datasets, Wish(on_unreachable="raise"))
        report.raise_for_errors()

        def write() -> Path:
            lock_path = _lock_path(self._lock_directory, path)
            locked = {
                dataset.name: locked_dataset(
                    dataset, self._resolver.source(dataset), [file.metadata for file in files[dataset.name]], lock_path
                )
                for dataset in datasets
            }
            _lockfile.update(lock_path, locked, is_whole=names is None)
            return Path(lock_path)

        return await to_its_end(anyio.to_thread.run_sync(write))

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
        report, _ = await self._fetch_many([dataset], wish)
        for error in report.errors.values():
            raise error
        return report.results[dataset.name]

    async def _fetch_many(
        self, datasets: Sequence[Dataset], wish: Wish
    ) -> tuple[FetchReport, dict[str, list[FileResult]]]:
        """Fetch datasets at once; give the report, and the files of each dataset that didn't fail."""
        selection = await self._selection(wish.as_of)
        if wish.file is not None:
            selection = Below(selection, wish.file, is_file=True)
        operation, began = next(_operations), time.perf_counter()
        fetching: Fetching | None = None
        is_complete = False
        self._notify(OperationStarted(operation=operation, datasets=len(datasets)))
        try:
            await self._declaring.declare()
            requests = await self._requests(operation, self._notify)
            opened = await self._open()
            fetching = Fetching(selection, self._cache, requests, opened.locks, wish, opened.unlistable)
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
        return fetch_report(datasets, results, errors, requests=requests.sent, seconds=seconds), fetching.files

    async def _look_ahead(self, datasets: Sequence[Dataset], selection: Selection, requests: Requests) -> Lookahead:
        unlistable = (await self._open()).unlistable
        return await look_ahead(datasets, selection, self._cache, requests, unlistable)

    async def _selection(self, as_of: datetime | None = None) -> Selection:
        """Give what the datasets mean: now, at some time, or by the data lock file."""
        if as_of is not None:
            checked_as_of(as_of)
            if self._config.frozen:
                raise ConfigurationError("a frozen catalog fetches what the data lock file names: nothing as_of a time")
            return AsOf(self._resolver, as_of)
        if not self._config.frozen:
            return self._resolver
        known, directory = self._locked, self._lock_directory
        self._locked = lock = await anyio.to_thread.run_sync(
            lambda: _lockfile.load(_lock_path(directory, None), known), abandon_on_cancel=True
        )
        return Locked(self._resolver, lock)

    async def _push_many(
        self, paths: Mapping[str, str | os.PathLike[str]], on_conflict: Literal["raise", "overwrite"]
    ) -> PushReport:
        if on_conflict not in ("raise", "overwrite"):
            raise ConfigurationError(f"on_conflict is 'raise' or 'overwrite': got {on_conflict!r}")
        files = [(dataset, os.fspath(paths[dataset.name])) for dataset in self._chosen(paths)]
        operation, began = next(_operations), time.perf_counter()
        pushing: Pushing | None = None
        is_complete = False
        self._notify(OperationStarted(operation=operation, datasets=len(files), kind="push"))
        try:
            requests = await self._requests(operation, self._notify)
            pushing = Pushing(self._resolver, self._cache, requests, (await self._open()).locks, on_conflict)
            await pushing.run(files)
            is_complete = True
        finally:
            seconds = time.perf_counter() - began
            self._notify(
                OperationFinished(
                    operation=operation,
                    seconds=seconds,
                    finished=0 if pushing is None else len(pushing.results),
                    failed=0 if pushing is None else len(pushing.errors),
                    bytes_downloaded=0,
                    is_cancelled=not is_complete,
                    bytes_uploaded=0 if pushing is None else pushing.bytes_uploaded,
                )
            )
        names = [dataset.name for dataset, _ in files]
        return PushReport(
            results={name: pushing.results[name] for name in names if name in pushing.results},
            errors={name: pushing.errors[name] for name in names if name in pushing.errors},
            requests=requests.sent,
            seconds=seconds,
            bytes_uploaded=pushing.bytes_uploaded,
        )

    async def _look(
        self, dataset: Dataset, selection: Selection, requests: Requests, ahead: Lookahead
    ) -> tuple[list[_Look], int]:
        """See how the files of a dataset stand; returns them, and how many requests it took to list them."""
        is_offline = self._config.offline
        if dataset.is_multi_file and is_offline:
            targets, listings = await selection.cached_targets(dataset), 0
            if not targets:
                raise StorageUnreachableError(self._resolver.source(dataset), selection.nothing_cached)
        else:
            targets, listings = await selection.targets(dataset, requests)
        if all(target.key in ahead.entries for target in targets):
            entries = [ahead.entries[target.key] for target in targets]
        else:
            entries = await find_entries(self._cache, [target.key for target in targets])
        looks: dict[CacheKey, _Look] = {}
        failures: list[Exception] = []

        async def one(found: tuple[Target, CacheEntry | None]) -> None:
            nonlocal listings
            target, entry = found
            decision = decide_now(target, entry, is_forced=False, is_offline=is_offline)
            remote, is_listed = target.listed, False
            if remote is None and isinstance(decision, Revalidate | Download):
                uri = target.key.uri
                remote = ahead.listed.get(uri) if is_listable(target) else None
                is_listed = isinstance(decision, Revalidate) and is_confirmed(decision.entry, remote)
                listings += ahead.asked.get(uri, 0)
                if remote is None or remote.etag is None:
                    try:
                        remote = await requests.head(dataset.name, uri, target.key.version_id)
                        check_remote(target, remote)
                    except Exception as error:  # noqa: BLE001  # one that fails must not turn into a group of errors
                        failures.append(error)
                        return
            looks[target.key] = _Look(target, entry, decision, remote, is_listed)

        await each(list(zip(targets, entries, strict=True)), one, at_once=self._config.max_concurrency)
        if failures:
            raise failures[0]
        return [looks[target.key] for target in targets], listings

    # -- the files of a dataset by their names, for the integrations

    async def _known_files(self, names: Iterable[str], below: str = "") -> dict[str, list[KnownFile] | Exception]:
        """Tell which files datasets have, in the order of their keys, without a download; or why that can't be told.

        Args:
            names: the datasets.
            below: only the file of that name of a glob or prefix dataset, and those below it.
        """
        datasets = self._chosen(names)
        selection = await self._selection()
        if below:
            selection = Below(selection, below)
        requests = await self._requests(next(_operations), _silent)
        ahead = await self._look_ahead(datasets, selection, requests)
        found: dict[str, list[KnownFile] | Exception] = {}

        async def one(dataset: Dataset) -> None:
            try:
                looked, _ = await self._look(dataset, selection, requests, ahead)
                known = [(look.target.key.uri, _about(look)) for look in looked]
            except Exception as error:  # noqa: BLE001  # what is wrong with one dataset is no news of the others
                found[dataset.name] = error
                is_outage = isinstance(error, StorageUnreachableError | ThrottledError)
                if not is_outage or self._config.on_unreachable == "raise":
                    return
                keys = [target.key for target in await selection.cached_targets(dataset)]
                entries = await find_entries(self._cache, keys)
                known = [(entry.key.uri, entry.metadata) for entry in entries if entry is not None]
            name_of = self._names(dataset)
            files = [known_file(name_of(uri), about) for uri, about in known if about is not None]
            if files:
                found[dataset.name] = files

        await each(datasets, one, at_once=self._config.max_concurrency)
        return found

    async def _fetched_files(self, name: str, file: str | None = None) -> dict[str, Path]:
        """Fetch a dataset, or one file of a glob or prefix dataset, and give the paths by name.

        What was in an archive has names below the archive's; the only file of one has the archive's directory and a
        name of its own.
        """
        dataset = self.get_dataset(name)
        report, files = await self._fetch_many([dataset], Wish(file=file))
        for error in report.errors.values():
            raise error
        _warn_of_stale(report.results.values())
        paths: dict[str, Path] = {}
        name_of = self._names(dataset)
        for each_file in files[name]:
            own = name_of(each_file.metadata.source)
            if each_file.members is not None:
                inside = {path.relative_to(each_file.path).as_posix(): path for path in each_file.members}
                paths |= {f"{own}/{inner}".removeprefix("/"): path for inner, path in inside.items()}
            elif each_file.archive is not None and own:
                paths[own[: own.rfind("/") + 1] + each_file.path.name] = each_file.path
            else:
                paths[own] = each_file.path
        return paths

    def _names(self, dataset: Dataset) -> Callable[[str], str]:
        """Give what tells a file's name in its dataset by its URI; a single file has none."""
        if not dataset.is_multi_file:
            return lambda _: ""
        base = parse_pattern(self._resolver.source(dataset)).base
        return lambda uri: uri.removeprefix(base)

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
        addresses = self._resolver.addresses
        return Requests(opened.session, self._config, opened.limiter, notify, operation, addresses)

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

    target: Target
    entry: CacheEntry | None
    decision: Decision
    remote: FileMetadata | None
    is_listed: bool
    """Whether a listing of many datasets' objects has confirmed it."""


def _about(look: _Look) -> FileMetadata | CacheMetadata | None:
    """Give what the remote has said of a file; where it wasn't asked, what its copy's sidecar says."""
    return look.remote if look.remote is not None or look.entry is None else look.entry.metadata


def _user_cache_dir() -> str:
    import platformdirs

    return platformdirs.user_cache_dir("datacachalog", appauthor=False)


def _lock_path(directory: Path | None, path: str | os.PathLike[str] | None) -> str:
    """Give the data lock file's absolute path. For a worker thread: it may ask for the working directory."""
    return absolute_path(os.path.join(directory or "", _lockfile.NAME) if path is None else path)


def _silent(event: Event) -> None:
    """Tell nobody: looking is no operation."""


def _file_status(look: _Look) -> FileStatus:
    entry, decision, remote = look.entry, look.decision, look.remote
    match decision:
        case UseCached(because="offline"):
            freshness, reason = Freshness.UNKNOWN, "offline: the remote may not be asked"
        case UseCached(reason=reason) | Adopt(reason=reason):
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
