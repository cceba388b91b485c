"""Waiting for somebody else who fetches the same file: what is told meanwhile, and how long it takes at most."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest

from datacachalog import AsyncCatalog, CatalogConfig, Dataset, S3Storage
from datacachalog._events import TransferAwaited
from datacachalog.testing import FaultServer, MemoryStorage, Stall

PART = 1024 * 1024
DATA = bytes(range(256)) * (4 * PART // 256)


def catalog_of(server: FaultServer, cache_dir, observer=None, names=("a",), **settings) -> AsyncCatalog:
    return AsyncCatalog(
        [Dataset(name, f"s3://bucket/{name}.bin") for name in names],
        cache_dir=cache_dir,
        storage=S3Storage(endpoint_url=server.endpoint_url),
        config=CatalogConfig(**({"part_bytes": PART} | settings)),
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


def got(server: FaultServer, key: str) -> list[int]:
    """The statuses of the answers for an object."""
    return sorted(request.status for request in server.requests if request.key == key and request.method == "GET")


@pytest.mark.parametrize(("size", "parts"), [(1000, 1), (len(DATA), 4)], ids=["small", "large"])
async def test_g7_what_was_fetched_since_it_was_looked_up_is_not_fetched_again(server, tmp_path, size, parts):
    """Many files are looked up at once and fetched one by one; by then another may have fetched them."""
    server.put("bucket", "a.bin", b"first")
    server.put("bucket", "b.bin", DATA[:size])
    server.add_faults(Stall(uri="*/a.bin"))
    async with (
        catalog_of(server, tmp_path, names=("a", "b"), max_concurrency=1) as late,
        catalog_of(server, tmp_path, names=("b",)) as other,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(late.fetch_all)
        await until_stalled(server)
        await other.fetch("b")
        await anyio.to_thread.run_sync(server.release)
    assert [206] * parts + [304] == got(server, "b.bin")


async def test_g7_version_that_was_published_while_it_was_asked_for_is_not_fetched_again(server, tmp_path):
    """A large object that has changed is fetched by one; who asked at the same time takes what that one published."""
    server.put("bucket", "a.bin", DATA)
    reports = []

    async with (
        catalog_of(server, tmp_path) as late,
        catalog_of(server, tmp_path) as other,
        anyio.create_task_group() as tasks,
    ):

        async def fetch() -> None:
            reports.append(await late.fetch_all())

        await other.fetch("a")
        server.put("bucket", "a.bin", DATA[::-1])
        server.clear_requests()
        server.add_faults(Stall())
        tasks.start_soon(fetch)
        await until_stalled(server)
        await other.fetch("a")
        await anyio.to_thread.run_sync(server.release)
    [result] = reports[0].values()
    assert (DATA[::-1], "revalidated") == (result.path.read_bytes(), result.action)
    assert [206] * 5 + [304] == got(server, "a.bin")


async def test_remote_that_brings_what_is_cached_again_and_again_is_let_go_ahead(tmp_path):
    """A store that knows no `If-None-Match` answers with the cached version; that is no reason to wait for ever."""
    memory = MemoryStorage()
    memory.put("s3://bucket/a.bin", DATA)

    class Session:
        def __init__(self, session):
            self._session = session

        def __getattr__(self, name):
            return getattr(self._session, name)

        def read(self, request):
            return self._session.read(replace(request, if_none_match=None))

    class Storage:
        @asynccontextmanager
        async def connect(self, config):
            async with memory.connect(config) as session:
                yield Session(session)

    async with AsyncCatalog(
        [Dataset("a", "s3://bucket/a.bin")],
        cache_dir=tmp_path,
        storage=Storage(),
        config=CatalogConfig(part_bytes=PART),
        progress=False,
    ) as catalog:
        for _ in range(2):
            with anyio.fail_after(10):
                assert DATA == (await catalog.fetch("a")).read_bytes()
