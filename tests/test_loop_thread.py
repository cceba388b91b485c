"""Does a blocking call on a worker loop end as its coroutine does, whatever happens to either of them?"""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import anyio
import pytest

from datacachalog import ClosedError
from datacachalog._loop_thread import LoopThread

from .conftest import wait_until


class Service:
    """Something that lives on a loop, and remembers how it went."""

    def __init__(self) -> None:
        self.opened = self.closed = self.running = 0
        self.failures: list[Exception] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Service]:
        if self.failures:
            raise self.failures.pop()
        self.opened += 1
        yield self
        self.closed += 1


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def loop(service: Service) -> Iterator[LoopThread[Service]]:
    loop = LoopThread(service.open)
    yield loop
    loop.close()


async def give(service: Service) -> Service:
    return service


def raising(error: BaseException) -> Callable[[Service], object]:
    async def fail(service: Service) -> None:
        raise error

    return fail


def test_g11_a_call_gives_what_the_coroutine_returns(loop: LoopThread[Service], service: Service) -> None:
    """The first call opens what lives on the loop, the others find it open."""
    assert [service] * 3 == [loop.call(give) for _ in range(3)]
    assert 1 == service.opened


@pytest.mark.parametrize(
    "error", [ValueError("a"), TimeoutError("a"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_g11_a_call_raises_what_the_coroutine_raises(loop: LoopThread[Service], error: BaseException) -> None:
    """An error of any kind reaches the caller, and the loop goes on."""
    with pytest.raises(type(error)):
        loop.call(raising(error))
    assert loop.call(give) is loop.call(give)


@pytest.mark.parametrize("error", [TimeoutError("no answer"), OSError("no network")])
def test_g11_a_start_that_fails_raises_and_can_be_tried_again(
    loop: LoopThread[Service], service: Service, error: Exception
) -> None:
    """An error while opening reaches the caller, timeouts too; the next call tries again."""
    service.failures.append(error)
    with pytest.raises(type(error)):
        loop.call(give)
    assert service is loop.call(give)


def test_g11_a_result_that_comes_just_as_a_wait_ends_is_not_lost(
    loop: LoopThread[Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However a result falls between two looks at it, it is the result, and no timeout."""
    monkeypatch.setattr("datacachalog._loop_thread._WAKE_UP_SECONDS", 0.001)

    async def take_a_moment(_: Service) -> int:
        await anyio.sleep(0.001)
        return 1

    assert [1] * 200 == [loop.call(take_a_moment) for _ in range(200)]


def test_g10_an_interrupt_at_any_moment_leaves_no_coroutine_running(
    loop: LoopThread[Service], service: Service
) -> None:
    """When an interrupted call has raised, its coroutine has unwound, or never began."""
    chance = random.Random(7)
    interrupted = 0

    async def work(service: Service) -> None:
        service.running += 1
        try:
            await anyio.sleep(0.002)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.0005)
            service.running -= 1

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    loop.call(give)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(600):
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.choice([0.0002, 0.001, 0.01]) * chance.random() + 1e-6)
                loop.call(work)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            assert 0 == service.running
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    sys.stderr.write(f"\n{interrupted} of 600 calls interrupted\n")
    assert interrupted > 100
    assert service is loop.call(give)


def test_g10_an_interrupt_while_the_loop_starts_leaves_it_usable(service: Service) -> None:
    """An interrupt at any moment of the start is raised, and the next call works."""
    chance = random.Random(11)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(100):
            loop = LoopThread(service.open)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.002 * chance.random() + 1e-6)
                loop.call(give)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                pass
            assert service is loop.call(give)
            loop.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    wait_until(lambda: service.opened == service.closed)


def test_g11_a_call_from_the_loops_own_thread_is_refused(loop: LoopThread[Service]) -> None:
    """A blocking call on the loop itself would wait for itself: it raises."""

    async def call(_: Service) -> None:
        loop.call(give)

    with pytest.raises(ClosedError, match="use AsyncCatalog"):
        loop.call(call)


def test_g11_closing_from_the_loops_own_thread_is_refused(loop: LoopThread[Service], service: Service) -> None:
    """Closing on the loop itself would wait for itself: it raises, and closes nothing."""

    async def close(_: Service) -> None:
        loop.close()

    with pytest.raises(ClosedError, match="use AsyncCatalog"):
        loop.call(close)
    loop.call(give)
    assert (1, 0) == (service.opened, service.closed)


def test_g11_closing_ends_running_calls_and_closes_what_lives_there(
    loop: LoopThread[Service], service: Service
) -> None:
    """Calls that run are cancelled and raise `ClosedError`; then what lives on the loop is closed."""
    begun = threading.Event()

    async def wait(_: Service) -> None:
        begun.set()
        await anyio.sleep_forever()

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(loop.call, wait)
        assert begun.wait(10)
        loop.close()
        assert isinstance(call.exception(10), ClosedError)
    assert (1, 1) == (service.opened, service.closed)


def test_g11_what_is_collected_is_closed(service: Service) -> None:
    """A loop that nobody holds is ended, and what lived there is closed."""
    loop = LoopThread(service.open)
    loop.call(give)
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None
    wait_until(lambda: service.closed == 1)


def test_g11_being_collected_on_its_own_loop_blocks_nothing(service: Service) -> None:
    """The collector may find a loop in any thread, also in the loop's own, and waits for nobody."""
    holder = [LoopThread(service.open)]
    running = holder[0]._ready()
    seconds: list[float] = []

    def collect() -> None:
        began = time.monotonic()
        holder.clear()
        gc.collect()
        seconds.append(time.monotonic() - began)

    running._tell(collect)
    wait_until(lambda: service.closed == 1)
    assert seconds[0] < 1


def test_g11_the_last_of_several_users_closes(loop: LoopThread[Service], service: Service) -> None:
    """Who leaves while others are in disturbs nobody."""
    loop.enter()
    loop.enter()
    loop.leave()
    loop.call(give)
    assert (1, 0) == (service.opened, service.closed)
    loop.leave()
    assert (1, 1) == (service.opened, service.closed)


def test_g11_blocking_work_of_the_loop_needs_no_pool_that_ends_with_the_main_thread(loop: LoopThread[Service]) -> None:
    """What the loop hands to threads runs in daemon threads, as many at once as there is work."""

    async def work(_: Service) -> list[bool]:
        running = asyncio.get_running_loop()
        barrier = threading.Barrier(4)

        def job() -> bool:
            barrier.wait(10)
            return threading.current_thread().daemon

        return list(await asyncio.gather(*(running.run_in_executor(None, job) for _ in range(4))))

    assert [True] * 4 == loop.call(work)
