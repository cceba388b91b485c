"""What is left of a catalog without any network? All that is cached (G4)."""

from __future__ import annotations

import errno
import os
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datacachalog import (
    AsyncCatalog,
    CatalogConfig,
    Dataset,
    FetchAllError,
    Freshness,
    S3Storage,
    StaleDataWarning,
    StorageUnreachableError,
)
from datacachalog.testing import FaultServer

from ._child import content, version_of

SIZES = {"small": 700, "large": 300_000, "logs/1": 700, "logs/2": 5000}


class NoNetwork:
    """Every connection is refused and no name is found; counts who tried."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.attempts = 0
        patch.setattr(socket.socket, "connect", self._refuse)
        patch.setattr(socket.socket, "connect_ex", self._refuse)
        patch.setattr(socket, "getaddrinfo", self._find_nothing)

    def _refuse(self, *_: Any) -> None:
        self.attempts += 1
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    def _find_nothing(self, *_: Any, **__: Any) -> None:
        self.attempts += 1
        raise socket.gaierror(socket.EAI_NONAME, "no such name")


@pytest.fixture
async def make_catalog(server: FaultServer, tmp_path: Path) -> Callable[..., AsyncCatalog]:
    """Make a catalog on a cache that was filled while there was a network, with a dataset that is not cached."""
    for name, size in SIZES.items():
        server.put("bucket", name, content(name, 1, size))
    datasets = [Dataset(name, f"s3://bucket/{name}") for name in ("small", "large", "logs/")]

    def make(*more: Dataset, **settings: Any) -> AsyncCatalog:
        return AsyncCatalog(
            [*datasets, *more],
            cache_dir=tmp_path / "cache",
            storage=S3Storage(endpoint_url=server.endpoint_url),
            config=CatalogConfig(part_bytes=64 * 1024, retries=0, **settings),
            progress=False,
        )

    async with make() as catalog:
        await catalog.fetch_all()
    return make


MISSING = Dataset("missing", "s3://bucket/missing")


def versions(report: Any) -> list[int]:
    keys = {"logs/": ["logs/1", "logs/2"]}
    return [
        version_of(key, path.read_bytes())
        for name, result in report.items()
        for key, path in zip(keys.get(name, [name]), result.paths, strict=True)
    ]


async def test_g4_without_a_network_all_that_is_cached_is_served(make_catalog, monkeypatch):
    """Files small and large, single or of a prefix: each with its warning; what isn't cached is an error of its own."""
    network = NoNetwork(monkeypatch)
    async with make_catalog(MISSING) as catalog:
        with pytest.warns(StaleDataWarning) as warned:
            report = await catalog.fetch_all(on_error="collect")
        assert {"stale"} == {result.action for result in report.values()}
        assert {Freshness.UNKNOWN} == {status.freshness for status in await catalog.status(list(report))}
    assert ([1, 1, 1, 1], ["missing"], 3) == (versions(report), list(report.errors), len(warned))
    assert StorageUnreachableError is type(report.errors["missing"])
    assert network.attempts > 0


async def test_without_a_network_the_strict_choice_raises_for_each(make_catalog, monkeypatch):
    """With `on_unreachable="raise"` no copy is served, and none is dropped."""
    NoNetwork(monkeypatch)
    async with make_catalog(on_unreachable="raise") as catalog:
        with pytest.raises(FetchAllError) as caught:
            await catalog.fetch_all()
        assert {StorageUnreachableError} == {type(error) for error in caught.value.report.errors.values()}
        assert [1, 1, 1, 1] == versions(await catalog.fetch_all(offline=True))


async def test_g4_offline_tries_no_connection(make_catalog, monkeypatch):
    """Offline nothing is even tried, no name is looked up, and there is nothing to warn of."""
    network = NoNetwork(monkeypatch)
    async with make_catalog(MISSING, offline=True) as catalog:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            report = await catalog.fetch_all(on_error="collect")
    assert ([1, 1, 1, 1], ["missing"], 0) == (versions(report), list(report.errors), network.attempts)
