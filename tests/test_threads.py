"""Work in a thread outlives the cancellation of who waits for it, and what it has got is given back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from datacachalog import AsyncCatalog, Dataset
from datacachalog._events import TransferAwaited
from datacachalog._threads import to_its_end
from datacachalog.cache import FileCache
from datacachalog.testing import MemoryStorage


def wait_until_cancelled(task: asyncio.Task[object]) -> None:
    """Wait, in a thread, until the task is asked to end."""
    deadline = time.monotonic() + 10
    while not task.cancelling() and time.monotonic() < deadline:
        time.sleep(0.001)


class Work:
    """Work in a thread that takes as long as `wait` does, and says what became of it."""

    def __init__(self, wait: Callable[[], object]) -> None:
        self.begun = threading.Event()
        self.said: list[str] = []
        self._wait = wait

    def start(self) -> asyncio.Task[str]:
        return asyncio.ensure_future(to_its_end(anyio.to_thread.run_sync(self._do), self._undo))

    def _do(self) -> str:
        self.begun.set()
        self._wait()
        self.said.append("done")
        return "got"

    async def _undo(self, got: str) -> None:
        self.said.append(f"undone {got}")


async def test_work_goes_to_its_end_however_often_it_is_cancelled():
    """The cancellation comes when the work is done, and what it has got is undone."""
    goes_on = threading.Event()
    work = Work(lambda: goes_on.wait(10))
    task = work.start()
    await anyio.to_thread.run_sync(work.begun.wait)
    for _ in range(3):
        task.cancel()
        await anyio.lowlevel.checkpoint()
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ["done", "undone got"] == work.said


def test_work_goes_to_its_end_when_the_loop_ends():
    """`asyncio.run` cancels all tasks that are left over when it ends; work that has begun is finished and undone."""
    tasks: list[asyncio.Task[str]] = []
    work = Work(lambda: wait_until_cancelled(tasks[0]))

    async def main() -> None:
        tasks.append(work.start())
        await anyio.to_thread.run_sync(work.begun.wait)

    asyncio.run(main())
    assert ["done", "undone got"] == work.said


def test_g7_a_fetch_that_is_left_over_at_the_loops_end_leaves_no_claim(tmp_path, monkeypatch):
    """Whoever fetches the file next, in this process or another, waits for nobody."""
    storage = MemoryStorage()
    storage.put("s3://bucket/a", b"content")
    told: list[object] = []
    tasks: list[asyncio.Task[object]] = []
    begun = threading.Event()
    claim = FileCache.claim_here

    def slow_claim(cache: FileCache, key: object) -> object:
        found = claim(cache, key)
        begun.set()
        wait_until_cancelled(tasks[0])
        return found

    def make() -> AsyncCatalog:
        datasets = [Dataset("a", "s3://bucket/a")]
        return AsyncCatalog(datasets, cache_dir=tmp_path, storage=storage, progress=told.append)

    async def leave() -> None:
        tasks.append(asyncio.ensure_future(make().fetch("a")))
        await anyio.to_thread.run_sync(begun.wait)

    with monkeypatch.context() as patch:
        patch.setattr(FileCache, "claim_here", slow_claim)
        asyncio.run(leave())
    assert tasks[0].cancelled()
    assert b"content" == asyncio.run(make().fetch("a")).read_bytes()
    assert [] == [event for event in told if isinstance(event, TransferAwaited)]
