"""Do short reads share a thread, and does a slow one, a failing one or a cancelled one harm no other?"""

from __future__ import annotations

import threading

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from datacachalog.cache._reads import read_in_thread


async def test_read_is_done_in_another_thread():
    """The event loop's own never waits for a disk."""
    assert threading.get_ident() != await read_in_thread(threading.get_ident)


async def test_reads_that_come_meanwhile_share_a_hop():
    """While one thread is busy the next reads gather; one thread does them all."""
    began, go = threading.Event(), threading.Event()
    threads = []

    def first():
        began.set()
        go.wait(10)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read_in_thread, first)
        await anyio.to_thread.run_sync(began.wait)
        for _ in range(20):
            tasks.start_soon(read_in_thread, lambda: threads.append(threading.get_ident()))
        await anyio.lowlevel.checkpoint()
        go.set()
    assert (20, 1) == (len(threads), len(set(threads)))


async def test_slow_read_does_not_hold_up_the_others():
    """Where the file system is slow, it is asked several things at once."""
    go = threading.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read_in_thread, lambda: go.wait(10))
        await anyio.lowlevel.checkpoint()
        with anyio.fail_after(5):
            assert "other" == await read_in_thread(lambda: "other")
        go.set()


async def test_reads_behind_hanging_ones_have_their_turn(monkeypatch):
    """When no further thread may be started, whichever thread is done takes what waits."""
    monkeypatch.setattr("datacachalog.cache._reads._MOST_THREADS", 2)
    go, also_go = threading.Event(), threading.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read_in_thread, lambda: go.wait(10))
        await anyio.lowlevel.checkpoint()
        tasks.start_soon(read_in_thread, lambda: also_go.wait(10))
        await anyio.sleep(0.02)  # longer than a thread is waited for
        tasks.start_soon(anyio.to_thread.run_sync, also_go.set)
        with anyio.fail_after(5):
            assert "last" == await read_in_thread(lambda: "last")
        go.set()


async def test_failing_read_fails_alone():
    """The error is its caller's; what shared the hop is done."""
    began, go = threading.Event(), threading.Event()
    results = []

    def first():
        began.set()
        go.wait(10)

    async def fails():
        with pytest.raises(OSError, match="disk"):
            await read_in_thread(lambda: (_ for _ in ()).throw(OSError("disk")))
        results.append("failed")

    async def works():
        results.append(await read_in_thread(lambda: "done"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read_in_thread, first)
        await anyio.to_thread.run_sync(began.wait)
        tasks.start_soon(fails)
        tasks.start_soon(works)
        await anyio.lowlevel.checkpoint()
        go.set()
    assert ["done", "failed"] == sorted(results)


async def test_g10_cancelled_read_is_left_to_itself():
    """Nobody waits for a read whose caller has gone, and the next one works."""
    began, go = threading.Event(), threading.Event()

    def slow():
        began.set()
        go.wait(10)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_in_thread, slow)
            await anyio.to_thread.run_sync(began.wait)
            tasks.cancel_scope.cancel()
    go.set()
    assert "next" == await read_in_thread(lambda: "next")
