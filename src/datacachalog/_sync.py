"""How does blocking code use a catalog? `Catalog`: the asynchronous one on a worker event loop, a line a method."""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from ._catalog import AsyncCatalog, stale_texts
from ._config import CatalogConfig
from ._errors import StaleDataWarning
from ._loop_thread import LoopThread
from ._models import CacheInfo, Dataset, DatasetStatus, FetchReport, Plan
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
        core = AsyncCatalog(
            datasets, cache_dir=cache_dir, config=config, storage=storage, cache=cache, progress=progress
        )
        self._start(core)

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
        return self._run(lambda core: core.fetch(name, force=force, offline=offline, on_unreachable=on_unreachable))

    def fetch_files(
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
        return self._run(
            lambda core: core.fetch_files(name, force=force, offline=offline, on_unreachable=on_unreachable)
        )

    def fetch_all(
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
        return self._run(
            lambda core: core.fetch_all(
                names, force=force, offline=offline, on_error=on_error, on_unreachable=on_unreachable
            )
        )

    def load(
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
        return self._run(lambda core: core.load(name, reader, **kwargs))

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
        stale, with one request for a thousand files.

        Args:
            name: the dataset.

        Raises:
            DatasetNotFoundError: no such dataset.
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

    def cache_info(self) -> CacheInfo:
        """Tell what the cache holds, in bytes and files; nothing is asked of the remote.

        Raises:
            ConfigurationError: the cache keeps no inventory.
        """
        return self._run(lambda core: core.cache_info())

    def invalidate(self, name: str) -> int:
        """Drop what is cached of a dataset, and what was unpacked of it; the next fetch downloads it.

        Args:
            name: the dataset.

        Returns:
            How many cached files were dropped; what was in an archive isn't counted.

        Raises:
            DatasetNotFoundError: no such dataset.
            CacheError: the cache can't be written.
        """
        return self._run(lambda core: core.invalidate(name))

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
