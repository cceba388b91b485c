"""How does a worker that joins later get its data? It fetches when it starts, together with its host's others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Literal

from distributed import Worker, WorkerPlugin

from ..._catalog import AsyncCatalog
from ..._errors import ConfigurationError
from ..._models import FetchReport
from ..._sync import Catalog
from ._here import CacheDir, cache_here, core_of, variant

_logger = logging.getLogger("datacachalog")


class WarmPlugin(WorkerPlugin):
    """Has each worker fetch when it starts, the present ones too: `client.register_plugin(WarmPlugin(catalog))`.

    Workers of one host that start together download each file once: one fetches, the others wait for what it publishes.
    The worker's event loop is never blocked. When the worker closes, what is under way stops, and stays resumable.

    Args:
        catalog: what is fetched, as in `warm`; without progress.
        names: the datasets; None means all of the catalog.
        cache_dir: as in `warm`.
        on_error: `"log"` fetches beside the worker's first tasks, and logs what fails as a warning (`datacachalog`).
            `"raise"` has the worker wait until its data is there before it takes tasks, and raises what fails: to the
            caller of `register_plugin` from workers that are there, into the log from one that joins later. A worker
            that joins isn't heard of while it waits: let Dask's `distributed.scheduler.worker-ttl` (5 minutes) be
            longer than a fetch takes.

    Raises:
        DatasetNotFoundError: one of the names is not in the catalog.
        ConfigurationError: another `on_error`.
    """

    def __init__(
        self,
        catalog: Catalog | AsyncCatalog,
        names: Iterable[str] | None = None,
        *,
        cache_dir: CacheDir = None,
        on_error: Literal["log", "raise"] = "log",
    ) -> None:
        if on_error not in ("log", "raise"):
            raise ConfigurationError(f"on_error is 'log' or 'raise': got {on_error!r}")
        self._catalog = variant(catalog, progress=False)
        self._names = tuple(dataset.name for dataset in core_of(catalog)._chosen(names))  # noqa: SLF001  # the same package's
        self._cache_dir = cache_dir
        self._on_error = on_error
        self._task: asyncio.Task[None] | None = None

    async def setup(self, worker: Worker) -> None:
        """Fetch, or begin to. Dask calls it."""
        if self._on_error == "raise":
            report = await self._fetch(worker)
            report.raise_for_errors()
        else:
            self._task = asyncio.create_task(self._fetch_and_log(worker), name="datacachalog warm")

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002  # Dask's signature
        """Stop what is under way. Dask calls it."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _fetch(self, worker: Worker) -> FetchReport:
        async with variant(self._catalog, cache=cache_here(self._catalog, self._cache_dir, worker)) as catalog:
            return await catalog.fetch_all(self._names, on_error="collect")

    async def _fetch_and_log(self, worker: Worker) -> None:
        try:
            report = await self._fetch(worker)
        except Exception:
            _logger.warning("worker %s could not fetch its data", worker.address, exc_info=True)
            return
        for name, error in report.errors.items():
            _logger.warning("worker %s could not fetch dataset %r: %s", worker.address, name, error)
