"""Waiting for somebody else who fetches the same file: what is told meanwhile, and how long it takes at most."""

from __future__ import annotations

import os

import anyio
import pytest

from datacachalog import AsyncCatalog, CatalogConfig, Dataset, S3Storage
from datacachalog._events import TransferAwaited
from datacachalog.testing import FaultServer, Stall

PART = 1024 * 1024
DATA = bytes(range(256)) * (4 * PART // 256)


def catalog_of(server: FaultServer, cache_dir, observer=None, **settings) -> AsyncCatalog:
    return AsyncCatalog(
        [Dataset("a", "s3://bucket/a.bin")],
        cache_dir=cache_dir,
        storage=S3Storage(endpoint_url=server.endpoint_url),
        config=CatalogConfig(part_bytes=PART, **settings),
        progress=observer or False,
    )


@pytest.fixture
def stalled(server: FaultServer) -> FaultServer:
    """A server whose last part of the object doesn't come until it is released."""
    server.put("bucket", "a.bin", DATA)
    server.add_faults(Stall(nth=4, after_bytes=1000))
    return server


async def until_stalled(server: FaultServer) -> None:
    await anyio.to_thread.run_sync(lambda: server.wait_for(lambda found: any(r.is_stalled for r in found)))


async def test_who_waits_is_told_for_whom_and_how_far_that_is(stalled, tmp_path):
    """The events name the process that has the file, and how much of it is there; then the file is there for both."""
    told: list[TransferAwaited] = []
    has_waited = anyio.Event()

    def observe(event: object) -> None:
        if isinstance(event, TransferAwaited) and event.received_bytes >= 3 * PART:
            told.append(event)
            has_waited.set()

    async with catalog_of(stalled, tmp_path) as owner, catalog_of(stalled, tmp_path, observe) as other:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(owner.fetch, "a")
            await until_stalled(stalled)
            tasks.start_soon(other.fetch, "a")
            with anyio.fail_after(10):
                await has_waited.wait()
            await anyio.to_thread.run_sync(stalled.release)
        path = await other.fetch("a", offline=True)
    assert DATA == path.read_bytes()
    assert {("a", "s3://bucket/a.bin", len(DATA))} == {(each.dataset, each.uri, each.size_bytes) for each in told}
    assert f"process {os.getpid()} on " in told[-1].owner
    assert len(DATA) == sum(r.bytes_sent for r in stalled.requests if r.method == "GET")


async def test_g7_owner_without_progress_is_waited_for_only_so_long(stalled, tmp_path):
    """After `lock_wait_seconds` without a byte the work is done twice; both get the file."""
    found = []

    async with (
        catalog_of(stalled, tmp_path) as owner,
        catalog_of(stalled, tmp_path, lock_wait_seconds=0.3) as other,
        anyio.create_task_group() as tasks,
    ):

        async def fetch() -> None:
            found.append((await owner.fetch("a")).read_bytes())

        tasks.start_soon(fetch)
        await until_stalled(stalled)
        with anyio.fail_after(10):
            found.append((await other.fetch("a")).read_bytes())
        await anyio.to_thread.run_sync(stalled.release)
    assert [DATA, DATA] == found


async def test_waiting_can_be_cancelled_and_takes_nothing_from_the_owner(stalled, tmp_path):
    """Who gives up waiting leaves the download of the other as it is."""
    async with catalog_of(stalled, tmp_path) as owner, catalog_of(stalled, tmp_path) as other:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(owner.fetch, "a")
            await until_stalled(stalled)
            with anyio.move_on_after(0.2) as scope:
                await other.fetch("a")
            assert scope.cancelled_caught
            await anyio.to_thread.run_sync(stalled.release)
        assert DATA == (await other.fetch("a", offline=True)).read_bytes()
