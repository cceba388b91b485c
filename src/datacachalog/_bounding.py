"""What does a catalog ask of a cache that is to be kept small? Its bounds, its leases, and whose data is in it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio.to_thread

from ._config import CatalogConfig
from ._digests import CrcAlgorithm
from ._discovery import find_project
from ._errors import ConfigurationError
from ._models import FileMetadata
from .ports import BoundedCache, Bounds, CacheKey, CachePort, CleanableCache, Declaration, Lease, Staging

_DECLARED_SECONDS = 60.0


def bounds_of(
    config: CatalogConfig, *, max_bytes: int | None = None, min_free_bytes: int | None = None
) -> Bounds | None:
    """Give the bounds that are asked for, where None is as configured; None if there are none.

    Raises:
        ConfigurationError: one that can't be right.
    """
    for name, value in (("max_bytes", max_bytes), ("min_free_bytes", min_free_bytes)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise ConfigurationError(f"{name} is None or a whole number of bytes, at least 0: got {value!r}")
    if max_bytes is None and min_free_bytes is None:
        max_bytes, min_free_bytes = config.cache_max_bytes, config.cache_min_free_bytes
    if max_bytes is None and min_free_bytes is None:
        return None
    return Bounds(max_bytes=max_bytes, min_free_bytes=min_free_bytes, grace_seconds=config.eviction_grace_seconds)


def bounded(cache: CachePort) -> BoundedCache:
    """Give the cache as one that keeps bounds.

    Raises:
        ConfigurationError: it can't.
    """
    if not isinstance(cache, BoundedCache):
        raise ConfigurationError(f"{type(cache).__name__} keeps no bounds: see ports.BoundedCache")
    return cache


def cleanable(cache: CachePort) -> CleanableCache:
    """Give the cache as one that can be cleaned.

    Raises:
        ConfigurationError: it can't.
    """
    if not isinstance(cache, CleanableCache):
        raise ConfigurationError(f"{type(cache).__name__} can't be cleaned: see ports.CleanableCache")
    return cache


class Stage:
    """Stages files where there is room for them: if the disk is too full, others are evicted first.

    Args:
        cache: where the files are staged.
        bounds: of the cache; without any, none is evicted.
        spared: the paths of files that may not go; it may grow.
    """

    def __init__(self, cache: CachePort, bounds: Bounds | None, spared: Collection[str]) -> None:
        self._cache = cache
        self._bounds = bounds
        self._spared = spared

    @asynccontextmanager
    async def stage(self, key: CacheKey, metadata: FileMetadata, crc_algorithm: CrcAlgorithm) -> AsyncIterator[Staging]:
        """Begin a file of that version, or go on with one that was begun, as `CachePort.stage` does."""
        if self._bounds is not None:
            needed = metadata.size + (self._bounds.min_free_bytes or 0)
            room = replace(self._bounds, max_bytes=None, min_free_bytes=needed)
            await bounded(self._cache).evict(room, spared=self._spared)
        async with self._cache.stage(key, metadata, crc_algorithm) as staging:
            yield staging


class OpenPath:
    """A path that is not evicted while it is open.

    Args:
        cache: where it is.
        key: the file.
        fetch: gives its path.
    """

    def __init__(self, cache: BoundedCache, key: CacheKey, fetch: Callable[[], Awaitable[Path]]) -> None:
        self._cache = cache
        self._key = key
        self._fetch = fetch
        self._leases: list[Lease] = []

    async def __aenter__(self) -> Path:
        # The lease comes first: what is fetched under it can't be evicted before it is given to the caller.
        lease = await self._cache.hold(self._key)
        try:
            path = await self._fetch()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._cache.let_go(lease)
            raise
        self._leases.append(lease)
        return path

    async def __aexit__(self, *exception: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._cache.let_go(self._leases.pop())


class Declaring:
    """Tells the cache, now and then, which datasets a catalog has.

    Args:
        cache: is told.
        datasets: names and sources.
    """

    def __init__(self, cache: CachePort, datasets: tuple[tuple[str, str], ...]) -> None:
        self._cache = cache if isinstance(cache, CleanableCache) else None
        self._datasets = datasets
        self._declaration: Declaration | None = None
        self._declared = -_DECLARED_SECONDS

    async def declaration(self) -> Declaration:
        """Say which datasets the catalog has, and to which project it belongs."""
        if self._declaration is None:
            self._declaration = Declaration(await anyio.to_thread.run_sync(_project_root), self._datasets)
        return self._declaration

    async def declare(self) -> None:
        """Tell the cache, unless it was told a moment ago."""
        now = time.monotonic()
        if self._cache is not None and now - self._declared > _DECLARED_SECONDS:
            self._declared = now
            await self._cache.declare(await self.declaration())


def _project_root() -> str:
    """Give the directory of the project that this process works in."""
    try:
        return str(find_project().root)
    except ConfigurationError:  # what is wrong with its catalog file is said to whoever wants to read that
        return os.path.realpath(os.curdir)
