"""What is a catalog on this worker? The same one, with the cache that this machine has for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from distributed import Worker, get_worker

from ..._catalog import AsyncCatalog
from ..._sync import Catalog
from ...cache import FileCache
from ...ports import CachePort

CacheDir: TypeAlias = str | os.PathLike[str] | Callable[[Worker], str | os.PathLike[str] | None] | None
"""Where a worker's copies lie: the same path everywhere; a callable that is asked on each worker; or None, which means
the worker's `DATACACHALOG_CACHE_DIR`, else the cache of the catalog as it was sent."""

_Catalog = TypeVar("_Catalog", Catalog, AsyncCatalog)


def local_catalog(catalog: _Catalog, *, cache_dir: CacheDir = None) -> _Catalog:
    """Give, inside a task, the catalog with the cache of the worker that runs it: the one that `warm` has filled.

    Where the cache is the same path on every host, a catalog that was sent to a task is that already.

    Args:
        catalog: as it was sent.
        cache_dir: what `warm` was given.

    Raises:
        ValueError: there is no worker here.
    """
    core = variant(catalog, cache=cache_here(catalog, cache_dir, get_worker()))
    if isinstance(catalog, AsyncCatalog):
        return core
    local = Catalog.__new__(Catalog)
    local.__setstate__(core)
    return local


def cache_here(catalog: Catalog | AsyncCatalog, cache_dir: CacheDir, worker: Worker) -> CachePort:
    """Give the cache that a catalog has on a worker."""
    chosen = cache_dir(worker) if callable(cache_dir) else cache_dir
    # A directory is a matter of the machine: what this one says goes before what was right on the sender's.
    chosen = chosen or os.environ.get("DATACACHALOG_CACHE_DIR", "").strip()
    if chosen:
        return FileCache(chosen)
    cache: CachePort = core_of(catalog)._arguments()["cache"]  # noqa: SLF001  # the same package's
    return cache


def core_of(catalog: Catalog | AsyncCatalog) -> AsyncCatalog:
    """Give the asynchronous catalog that a catalog is, or has."""
    return catalog if isinstance(catalog, AsyncCatalog) else catalog._core  # noqa: SLF001  # the same package's


def variant(catalog: Catalog | AsyncCatalog, **changes: Any) -> AsyncCatalog:
    """Give a catalog like this one, but for some of its arguments."""
    core = core_of(catalog)
    other = AsyncCatalog(**(core._arguments() | changes))  # noqa: SLF001  # the same package's
    other._lock_directory, other._locked = core._lock_directory, core._locked  # noqa: SLF001  # the same package's
    return other
