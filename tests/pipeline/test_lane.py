"""Do small objects come by one thread, many at once, and does it let go of everything when it has to?"""

from __future__ import annotations

import errno
import os
import selectors
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from datacachalog import (
    AsyncCatalog,
    CatalogConfig,
    Dataset,
    RouterStorage,
    S3Storage,
    StorageUnreachableError,
)
from datacachalog._pipeline import lane
from datacachalog.cache import _disk
from datacachalog.testing import FaultServer, Latency, Stall

from ..conftest import wait_until

NAMES = [f"{number:02}" for number in range(40)]


@pytest.fixture
def make(server: FaultServer, tmp_path: Path) -> Callable[..., AsyncCatalog]:
    """Make a catalog of forty small objects."""
    for name in NAMES:
        server.put("bucket", name, name.encode() * 100)

    def make(**settings: object) -> AsyncCatalog:
        s3 = S3Storage(endpoint_url=server.endpoint_url, region="us-east-1")
        return AsyncCatalog(
            [Dataset(name, f"s3://bucket/{name}") for name in NAMES],
            cache_dir=tmp_path / "cache",
            config=CatalogConfig(**{"retries": 0, **settings}),
            storage=RouterStorage({"s3": s3}),
            progress=False,
        )

    return make


async def test_g10_who_is_cancelled_leaves_no_claim_and_no_connection(
    server: FaultServer, make: Callable[..., AsyncCatalog]
) -> None:
    """Though none of the answers has come; another catalog fetches all of it right after."""
    server.add_faults(Stall(times=None))
    async with make() as catalog, make(lock_wait_seconds=60) as other:
        with anyio.move_on_after(5) as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(catalog.fetch_all)
                await anyio.to_thread.run_sync(wait_until, lambda: len(server.requests) >= 4)
                tasks.cancel_scope.cancel()
        assert not scope.cancelled_caught
        server.clear_faults()
        server.release()
        with anyio.fail_after(20):
            report = await other.fetch_all()
        assert {name: name.encode() * 100 for name in NAMES} == {
            name: result.path.read_bytes() for name, result in report.results.items()
        }


async def test_silence_of_one_is_overdue_and_the_others_come(
    server: FaultServer, make: Callable[..., AsyncCatalog]
) -> None:
    """Each answer has its own patience, though one thread waits for all of them."""
    server.add_faults(Stall(uri="s3://bucket/07", times=None))
    async with make(read_timeout_seconds=0.5) as catalog:
        with anyio.fail_after(10):
            report = await catalog.fetch_all(on_error="collect")
    assert ["07"] == list(report.errors)
    assert isinstance(report.errors["07"], StorageUnreachableError)
    assert len(NAMES) - 1 == len(report.results)


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_the_limit_is_a_hard_one_where_nothing_is_small(server: FaultServer, tmp_path: Path, most: int) -> None:
    """Each answer is handed back and keeps its place, and the parts behind it need places of their own."""
    contents = {f"large-{number}": bytes([number]) * 3_000_000 for number in range(12)}
    for name, content in contents.items():
        server.put("bucket", name, content)
    server.add_faults(Latency(seconds=0.002, times=None))
    catalog = AsyncCatalog(
        [Dataset(name, f"s3://bucket/{name}") for name in contents],
        cache_dir=tmp_path / "cache",
        config=CatalogConfig(max_concurrency=most, part_bytes=1_500_000),
        storage=S3Storage(endpoint_url=server.endpoint_url, region="us-east-1"),
        progress=False,
    )
    async with catalog:
        for _ in range(3):
            with anyio.fail_after(30):
                report = await catalog.fetch_all(force=True)
            assert contents == {name: result.path.read_bytes() for name, result in report.results.items()}
    assert server.max_concurrent_requests <= most


async def test_the_parts_of_a_large_object_do_not_wait_for_the_first(server: FaultServer, tmp_path: Path) -> None:
    """Though it has no more bytes than a small object may have."""
    content = bytes(range(256)) * (16 * 1024)
    server.put("bucket", "large", content)
    server.add_faults(Stall(after_bytes=100_000, nth=1))
    catalog = AsyncCatalog(
        [Dataset("large", "s3://bucket/large")],
        cache_dir=tmp_path / "cache",
        config=CatalogConfig(part_bytes=1024 * 1024),
        storage=S3Storage(endpoint_url=server.endpoint_url, region="us-east-1"),
        progress=False,
    )
    async with catalog, anyio.create_task_group() as tasks:
        tasks.start_soon(catalog.fetch, "large")
        await anyio.to_thread.run_sync(wait_until, lambda: sum(bool(r.is_complete) for r in server.requests) >= 3)
        server.release()
    assert content == (tmp_path / "cache" / "bucket" / "large").read_bytes()


@pytest.mark.parametrize("broken", ["socketpair", "register"])
async def test_without_descriptors_the_files_come_the_ordinary_way(
    server: FaultServer, make: Callable[..., AsyncCatalog], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """What the thread needs for itself is not to be had; nothing that it has claimed stays claimed."""
    server.add_faults(Latency(seconds=0.01, times=None))

    class Selector(selectors.DefaultSelector):
        """One that has no room for a fourth socket."""

        def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
            if len(self.get_map()) == 3:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().register(fileobj, events, data)

    def no_pair() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with make(lock_wait_seconds=60) as catalog:
        with monkeypatch.context() as patch, anyio.fail_after(20):
            if broken == "socketpair":
                patch.setattr(lane.socket, "socketpair", no_pair)
            else:
                patch.setattr(lane.selectors, "DefaultSelector", Selector)
            report = await catalog.fetch_all()
        assert len(NAMES) == len(report.results)
        with anyio.fail_after(20):
            assert len(NAMES) == len((await catalog.fetch_all(force=True)).results)


async def test_a_slow_file_system_is_worth_more_than_one_thread(
    make: Callable[..., AsyncCatalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is on a network, say, could do several things at once; here, while others wait to be asked for."""
    threads = set()
    replace = _disk.replace

    def slow_replace(source: str, target: str) -> None:
        threads.add(threading.get_ident())
        time.sleep(0.02)
        replace(source, target)

    monkeypatch.setattr(_disk, "replace", slow_replace)
    async with make(max_concurrency=6) as catalog:
        report = await catalog.fetch_all()
    assert len(NAMES) == len(report.results)
    assert len(threads) > 1
