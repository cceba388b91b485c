"""How does blocking code use a catalog? `Catalog`: the asynchronous one on a worker event loop, a line a method."""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from ._catalog import AsyncCatalog, stale_texts
from ._config import CatalogConfig
from ._discovered import discovered_arguments
from ._errors import StaleDataWarning
from ._loop_thread import LoopThread
from ._models import CacheInfo, Dataset, DatasetStatus, FetchReport, FileMetadata, ObjectVersion, Plan, PushReport
from ._readers import ReadAs
from .ports import CachePort, StoragePort
from .progress import ProgressOption

_Result = TypeVar("_Result")


class Catalog:
    """A catalog of datasets, for scripts, notebooks and threads: `AsyncCatalog` without `await`.

    `with` opens and closes it, the last one where several are nested or threads share it; used without, it opens
    itself at first use, and `close()` ends it; calls that other threads are in the middle of raise `ClosedError` then.
    It may be opened again, and need not be closed: it never keeps the interpreter from ending. It may be called from
    any thread, inside a running event loop (which waits meanwhile), and after a fork. Ctrl-C cancels the call, waits
    until its connections are closed and its unfinished files put away, and raises `KeyboardInterrupt`; the catalog
    stays usable.

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
        core = AsyncCatalog(
            datasets, cache_dir=cache_dir, config=config, storage=storage, cache=cache, progress=progress
        )
        self._start(core)

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
        catalog._core._lock_directory = directory  # noqa: SLF001  # the same package's
        return catalog

    def _start(self, core: AsyncCatalog) -> None:
        self._core = core
        self._loop = LoopThread(lambda: core)

    def __getstate__(self) -> AsyncCatalog:
        return self._core

    def __setstate__(self, core: AsyncCatalog) -> None:
        self._start(core)

    def __enter__(self) -> Self:
        self._loop.enter()
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.leave()

    def _run(self, call: Callable[[AsyncCatalog], Awaitable[_Result]]) -> _Result:
        """Run a call on the worker loop, and warn on this thread, on the line that called the catalog."""
        collected: list[str] = []
        token = stale_texts.set(collected)
        try:
            result = self._loop.call(call)
        except Exception:
            _warn_of_stale(collected)  # a report with failures may have stale copies too
            raise
        finally:
            stale_texts.reset(token)
        _warn_of_stale(collected)
        return result

    def close(self) -> None:
        """Close the connections. The catalog may be used again, which opens it again."""
        self._loop.close()

    def fetch(
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
        return self._run(
            lambda core: core.fetch(
                name, version_id=version_id, as_of=as_of, force=force, offline=offline, on_unreachable=on_unreachable
            )
        )

    def fetch_files(
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
        return self._run(
            lambda core: core.fetch_files(
                name, as_of=as_of, force=force, offline=offline, on_unreachable=on_unreachable
            )
        )

    def fetch_all(
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
        return self._run(
            lambda core: core.fetch_all(
                names, as_of=as_of, force=force, offline=offline, on_error=on_error, on_unreachable=on_unreachable
            )
        )

    def load(
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
        return self._run(lambda core: core.load(name, reader, as_=as_, **kwargs))

    def plan(self, names: Iterable[str] | None = None) -> Plan:
        """Tell what `fetch_all` would do and why, in requests and bytes, without doing it.

        Asks the remote for metadata only. What can't be asked is a step that would fail.

        Args:
            names: the datasets; None means all of the catalog.

        Raises:
            DatasetNotFoundError: one of the names is not in the catalog.
        """
        return self._run(lambda core: core.plan(names))

    def is_stale(self, name: str) -> bool:
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
        return self._run(lambda core: core.is_stale(name))

    def status(self, names: Iterable[str] | None = None) -> list[DatasetStatus]:
        """Tell how the datasets stand, without a download.

        A remote that is gone or does not answer makes a status `UNKNOWN` with its reason, and harms no other. Within
        `max_age` nothing is asked.

        Args:
            names: the datasets; None means all of the catalog.

        Raises:
            DatasetNotFoundError: one of the names is not in the catalog.
        """
        return self._run(lambda core: core.status(names))

    def versions(self, name: str, limit: int | None = None) -> list[ObjectVersion]:
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
        return self._run(lambda core: core.versions(name, limit))

    def verify(self, names: Iterable[str] | None = None) -> list[Path]:
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
        return self._run(lambda core: core.verify(names))

    def push(
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
        return self._run(lambda core: core.push(name, local_path, on_conflict=on_conflict))

    def push_all(
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
        return self._run(lambda core: core.push_all(paths, on_conflict=on_conflict, on_error=on_error))

    def cache_info(self) -> CacheInfo:
        """Tell what the cache holds, in bytes and files; nothing is asked of the remote.

        Raises:
            ConfigurationError: the cache keeps no inventory.
        """
        return self._run(lambda core: core.cache_info())

    def open_path(self, name: str) -> AbstractContextManager[Path]:
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
        return self._opened(self._core.open_path(name))

    @contextmanager
    def _opened(self, opened: AbstractAsyncContextManager[Path]) -> Iterator[Path]:
        path = self._run(lambda _: opened.__aenter__())
        try:
            yield path
        finally:
            self._run(lambda _: opened.__aexit__(None, None, None))

    def evict(self, max_bytes: int | None = None, min_free_bytes: int | None = None) -> int:
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
        return self._run(lambda core: core.evict(max_bytes, min_free_bytes))

    def clean(self) -> int:
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
        return self._run(lambda core: core.clean())

    def invalidate(self, name: str) -> int:
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
        return self._run(lambda core: core.invalidate(name))

    def lock(self, names: Iterable[str] | None = None, path: str | os.PathLike[str] | None = None) -> Path:
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
        return self._run(lambda core: core.lock(names, path))

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        """Open the catalog, fetch everything, and close it at the end: `FastAPI(lifespan=catalog.lifespan)`.

        Args:
            app: the application; not looked at.

        Raises:
            FetchAllError: some datasets failed: the application does not start.
        """
        async with self._core.lifespan(app):
            yield

    @property
    def datasets(self) -> list[Dataset]:
        """The datasets, in the order in which they were given."""
        return self._core.datasets

    def get_dataset(self, name: str) -> Dataset:
        """Give a dataset by its name.

        Raises:
            DatasetNotFoundError: no such dataset; the text has close names.
        """
        return self._core.get_dataset(name)


def _warn_of_stale(texts: Iterable[str]) -> None:
    """Warn on the line that called the method that called `Catalog._run`."""
    for text in texts:
        warnings.warn(text, StaleDataWarning, stacklevel=4)
