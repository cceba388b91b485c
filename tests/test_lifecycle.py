"""What becomes of a catalog that is interrupted, forgotten, forked, pickled or used from everywhere? (G10 to G12)"""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import random
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from datacachalog import (
    AsyncCatalog,
    Catalog,
    CatalogConfig,
    ClosedError,
    Dataset,
    FileCache,
    RouterStorage,
    S3Storage,
)
from datacachalog.testing import FaultServer, Latency, MemoryStorage, Slow, Stall

from ._children import DEADLINE_SECONDS, MIB, NAMES, Lab
from .conftest import cached_files, partial_files, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="made of signals, forks and pseudo-terminals")

LEAVE_SECONDS = 2.0
"""So soon after Ctrl-C a program is gone."""

LAG_SECONDS = 0.25
"""No task waits longer for its turn on the loop. Others compute on the same machine, and the interpreter hands over
between threads every 5 ms only, so a tenth of a second may be the machine's; importing botocore and making a client on
the loop would take from 0.4 s upwards."""

CAN_START_THREADS_LATE = sys.version_info[:3] not in ((3, 12, 0), (3, 12, 1))
"""These two refuse every new thread once the main thread has ended (https://github.com/python/cpython/issues/113964)."""

HIDE_CURSOR, SHOW_CURSOR, ERASE_BELOW, BAR = "\x1b[?25l", "\x1b[?25h", "\x1b[J", "━"

FORKING = ("-W", "ignore:This process:DeprecationWarning")
"""Python warns of what is tested here: of forks while threads run."""


@pytest.fixture
def lab(server: FaultServer, tmp_path: Path) -> Lab:
    """A server with a large and a few small objects, and a cache directory."""
    lab = Lab(server, tmp_path)
    for name in NAMES:
        lab.put(name, 24 * MIB if name.startswith("big") else 10_000)
    return lab


@pytest.fixture
def slow_lab(lab: Lab) -> Lab:
    """The same, but the large objects take half a minute."""
    lab.server.add_faults(Slow(uri="*/big*", times=None, bytes_per_second=256 * 1024))
    return lab


def assert_nothing_stray(lab: Lab) -> None:
    """What an interrupted fetch has left is either good for the next one or not there: after that, nothing is left."""
    lab.server.clear_faults()
    with lab.catalog() as catalog:
        for name in ("big", "big2"):
            assert lab.content[name] == catalog.fetch(name).read_bytes()
    assert [] == partial_files(lab.cache_dir)


def assert_interrupted_in_time(seconds: float, request: pytest.FixtureRequest) -> None:
    sys.stderr.write(f"\n{request.node.name}: left {seconds:.2f} s after Ctrl-C\n")
    assert seconds < LEAVE_SECONDS


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------

INTERRUPTED = {
    "a script with Catalog": """
        try:
            make().fetch("big")
        except KeyboardInterrupt:
            say("interrupted")
    """,
    "asyncio.run with AsyncCatalog": """
        async def main():
            async with make(AsyncCatalog) as catalog:
                await catalog.fetch("big")
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            say("interrupted")
    """,
    "asyncio.run with AsyncCatalog that nobody closes": """
        try:
            asyncio.run(make(AsyncCatalog).fetch("big"))
        except KeyboardInterrupt:
            say("interrupted")
    """,
    "anyio.run with AsyncCatalog": """
        import anyio
        try:
            anyio.run(make(AsyncCatalog).fetch, "big")
        except KeyboardInterrupt:
            say("interrupted")
    """,
    "fetch_all": """
        try:
            make().fetch_all(["big", "big2"])
        except KeyboardInterrupt:
            say("interrupted")
    """,
}


@pytest.mark.parametrize("kind", INTERRUPTED)
def test_g10_ctrl_c_during_a_large_fetch_leaves_promptly(
    slow_lab: Lab, kind: str, request: pytest.FixtureRequest
) -> None:
    """Ctrl-C raises KeyboardInterrupt within two seconds, silently, with nothing published and nothing stray."""
    with slow_lab.program(INTERRUPTED[kind]) as program:
        slow_lab.wait_until_sent("big.bin", 256 * 1024)
        program.interrupt()
        ended = program.wait()
    assert (0, "interrupted\n", "") == (ended.status, ended.output, ended.errors)
    assert_interrupted_in_time(ended.seconds_to_leave, request)
    assert [] == cached_files(slow_lab.cache_dir)
    assert_nothing_stray(slow_lab)


def test_g10_ctrl_c_that_nobody_handles_ends_the_program(slow_lab: Lab, request: pytest.FixtureRequest) -> None:
    """A program that doesn't handle Ctrl-C ends by it, with the one traceback that Python prints."""
    with slow_lab.program('make().fetch("big")') as program:
        slow_lab.wait_until_sent("big.bin", 256 * 1024)
        program.interrupt()
        ended = program.wait()
    assert -2 == ended.status
    assert "KeyboardInterrupt" == ended.errors.splitlines()[-1]
    assert 1 == ended.errors.count("Traceback")
    assert_interrupted_in_time(ended.seconds_to_leave, request)


@pytest.mark.parametrize("kind", ["Catalog", "AsyncCatalog"])
def test_g10_the_catalog_is_usable_after_ctrl_c(slow_lab: Lab, kind: str) -> None:
    """After Ctrl-C, in the same process, the same catalog fetches, also what was interrupted."""
    with slow_lab.program(
        """
        catalog = make(globals()[sys.argv[1]])
        def fetch(name):
            found = catalog.fetch(name)
            return found if sys.argv[1] == "Catalog" else asyncio.run(found)
        try:
            fetch("big")
        except KeyboardInterrupt:
            say(len(fetch("small").read_bytes()))
        sys.stdin.read()
        say(len(fetch("big").read_bytes()))
        """,
        kind,
    ) as program:
        slow_lab.wait_until_sent("big.bin", 256 * 1024)
        slow_lab.server.clear_faults()
        program.interrupt()
        ended = program.wait()
    assert (0, f"10000\n{24 * MIB}\n", "") == (ended.status, ended.output, ended.errors)


def test_g10_a_second_ctrl_c_leaves_at_once(slow_lab: Lab, request: pytest.FixtureRequest) -> None:
    """Ctrl-C again, while the first is still unwinding, is not swallowed, and does no harm."""
    with slow_lab.program(
        """
        unwinding = threading.Event()
        def observer(event):
            if type(event).__name__ == "OperationFinished":
                say("unwinding")
                time.sleep(1)  # what unwinds takes its time
        try:
            make(progress=observer).fetch("big")
        except KeyboardInterrupt:
            say("interrupted")
        """
    ) as program:
        slow_lab.wait_until_sent("big.bin", 256 * 1024)
        program.interrupt()
        program.wait_for_output("unwinding")
        program.interrupt()
        ended = program.wait()
    assert (0, "unwinding\ninterrupted\n", "") == (ended.status, ended.output, ended.errors)
    assert_interrupted_in_time(ended.seconds_to_leave, request)
    assert [] == cached_files(slow_lab.cache_dir)
    assert_nothing_stray(slow_lab)


@pytest.mark.parametrize("what", ["the first answer", "the connection's turn", "a retry"])
def test_g10_ctrl_c_while_waiting_leaves_promptly(lab: Lab, what: str, request: pytest.FixtureRequest) -> None:
    """Ctrl-C leaves promptly whatever the catalog waits for: an answer, its turn, the next try."""
    settings = {}
    if what == "a retry":
        lab.server.add_faults(Stall(uri="*/small.bin", times=1))
        lab.server.add_faults(Latency(uri="*/small2.bin", times=None, seconds=0.0))
    else:
        lab.server.add_faults(Stall(uri="*/small.bin", times=None))
        settings = {"max_concurrency": 1} if what == "the connection's turn" else {}
    with lab.program(
        f"""
        catalog = make(**{settings!r}, read_timeout_seconds={0.2 if what == "a retry" else 30})
        try:
            catalog.fetch_all(["small", "small2"])
        except KeyboardInterrupt:
            say("interrupted")
        """
    ) as program:
        lab.server.wait_for(lambda requests: any(request.key == "small.bin" for request in requests))
        if what == "a retry":
            lab.server.refuse()
            time.sleep(1)  # the tries fail, and the pauses between them grow
        program.interrupt()
        ended = program.wait()
    assert (0, "interrupted\n", "") == (ended.status, ended.output, ended.errors)
    assert_interrupted_in_time(ended.seconds_to_leave, request)


@pytest.mark.parametrize("kind", ["Catalog", "AsyncCatalog"])
def test_g10_ctrl_c_while_credentials_are_looked_for_leaves_promptly(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, kind: str, request: pytest.FixtureRequest
) -> None:
    """Ctrl-C leaves promptly also where botocore waits for a metadata service that doesn't answer."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", lab.server.endpoint_url)
    monkeypatch.setenv("AWS_METADATA_SERVICE_TIMEOUT", "6")
    lab.server.add_faults(Stall(method=None, times=None))
    with lab.program(
        f"""
        catalog = make({kind})
        try:
            found = catalog.fetch("small")
            asyncio.run(found)
        except KeyboardInterrupt:
            say("interrupted")
        """
    ) as program:
        lab.server.wait_for(lambda requests: bool(requests), timeout_seconds=30)
        program.interrupt()
        ended = program.wait()
    assert (0, "interrupted\n", "") == (ended.status, ended.output, ended.errors)
    assert_interrupted_in_time(ended.seconds_to_leave, request)


def test_g10_ctrl_c_restores_the_terminal(slow_lab: Lab, request: pytest.FixtureRequest) -> None:
    """After Ctrl-C on a terminal the display is gone, the cursor visible, and the settings are what they were."""
    with slow_lab.program(
        """
        try:
            make(progress="auto").fetch("big")
        except KeyboardInterrupt:
            say("the end")
        """,
        has_terminal=True,
    ) as program:
        program.wait_for_output(BAR)
        program.interrupt()
        ended = program.wait()
        settings = program.settings_now()
    assert program.terminal_settings == settings
    assert 0 == ended.status
    assert_interrupted_in_time(ended.seconds_to_leave, request)
    shown, _, rest = ended.output.rpartition("the end")
    assert "\r\n" == rest
    assert shown.rfind(SHOW_CURSOR) > shown.rfind(HIDE_CURSOR)
    assert shown.rfind(ERASE_BELOW) > shown.rfind(BAR)


# -- cancellation ------------------------------------------------------------------------------------------------------


def async_catalog(lab: Lab, **settings: object) -> AsyncCatalog:
    return AsyncCatalog(
        [Dataset(name, f"s3://bucket/{name}.bin") for name in NAMES],
        cache_dir=lab.cache_dir,
        storage=RouterStorage({"s3": S3Storage(endpoint_url=lab.server.endpoint_url)}),
        config=CatalogConfig(**settings),
        progress=False,
    )


@pytest.fixture
def moments() -> Iterator[float]:
    """Moments to cancel at: from the first instruction to behind the end of a fetch of some 50 ms."""
    chance = random.Random(4)
    return (chance.choice([0, 0.001, 0.01, 0.05, 0.15]) * chance.random() * 2 for _ in range(40))


async def cancel_by_scope(fetch: Callable[[], object], moment: float) -> None:
    with anyio.move_on_after(moment):
        await fetch()


async def cancel_by_task(fetch: Callable[[], object], moment: float) -> None:
    task = asyncio.ensure_future(fetch())
    await asyncio.sleep(moment)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


@pytest.mark.parametrize("cancel", [cancel_by_scope, cancel_by_task])
async def test_g10_cancellation_at_any_moment_leaves_nothing_stray(
    lab: Lab, moments: Iterator[float], cancel: Callable[..., object]
) -> None:
    """A fetch that is cancelled publishes the right bytes or nothing, leaves nothing behind, and breaks nothing."""
    lab.put("big", 6 * MIB)
    async with async_catalog(lab, part_bytes=MIB) as catalog:
        await catalog.fetch("small")
        for moment in moments:
            await catalog.invalidate("big")
            await cancel(lambda: catalog.fetch("big"), moment)
            for path in cached_files(lab.cache_dir):
                assert lab.content[Path(path).stem] == await anyio.Path(lab.cache_dir / path).read_bytes()
        await catalog.invalidate("big")
        assert lab.content["big"] == await anyio.Path(await catalog.fetch("big")).read_bytes()
    assert [] == partial_files(lab.cache_dir)


@pytest.mark.parametrize("cancel", [cancel_by_scope, cancel_by_task])
async def test_g10_a_cancelled_fetch_all_gives_no_part_of_its_report(
    lab: Lab, moments: Iterator[float], cancel: Callable[..., object]
) -> None:
    """A `fetch_all` that is cancelled gives its whole report or none, never one that lacks datasets."""
    reported: list[list[str]] = []

    async def fetch_all() -> None:
        report = await catalog.fetch_all(NAMES[2:], force=True)
        reported.append(sorted(report))

    async with async_catalog(lab) as catalog:
        await fetch_all()
        for moment in moments:
            await cancel(fetch_all, moment / 3)
    assert [sorted(NAMES[2:])] * len(reported) == reported


async def test_g10_cancelling_one_of_two_leaves_the_other_alone(lab: Lab) -> None:
    """Of two tasks that want the same file, the one that goes on gets it when the one that fetches it is cancelled."""
    lab.server.add_faults(Stall(uri="*/small.bin", times=1))
    async with async_catalog(lab) as catalog:
        first = asyncio.create_task(catalog.fetch("small"))
        await anyio.to_thread.run_sync(lambda: lab.server.wait_for(lambda requests: len(requests) == 1))
        second = asyncio.create_task(catalog.fetch("small"))
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        with anyio.fail_after(10):
            path = await second
    assert lab.content["small"] == path.read_bytes()


class SlowToConnect:
    """A storage that takes a moment to be opened, as one with a login would."""

    def __init__(self) -> None:
        self.inner = MemoryStorage()
        self.is_connecting = anyio.Event()
        self.may_connect = anyio.Event()

    @asynccontextmanager
    async def connect(self, config: CatalogConfig):
        self.is_connecting.set()
        await self.may_connect.wait()
        async with self.inner.connect(config) as session:
            yield session


async def test_g10_cancelling_the_first_while_it_opens_leaves_the_second_alone(tmp_path: Path) -> None:
    """A call that waits for the catalog to be opened opens it itself when the call that was opening it is cancelled."""
    storage = SlowToConnect()
    storage.inner.put("mem://bucket/a", b"content")
    catalog = AsyncCatalog([Dataset("a", "mem://bucket/a")], cache_dir=tmp_path, storage=storage, progress=False)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(catalog.fetch("a"))
        await storage.is_connecting.wait()
        second = tasks.create_task(catalog.fetch("a"))
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        storage.may_connect.set()
    assert b"content" == second.result().read_bytes()
    await catalog.aclose()


@pytest.mark.parametrize("cancel", [cancel_by_scope, cancel_by_task])
@pytest.mark.parametrize("what", ["a slow answer", "its turn", "the lock of a file", "the next try"])
async def test_g10_cancellation_while_waiting_is_prompt(lab: Lab, what: str, cancel: Callable[..., object]) -> None:
    """A call that waits for anything at all ends within a quarter of a second after it was cancelled."""
    lab.server.add_faults(Stall(uri="*/small.bin", times=None))
    settings: dict[str, object] = {"max_concurrency": 1} if what == "its turn" else {}
    if what == "the next try":
        await anyio.to_thread.run_sync(lab.server.refuse)
    async with async_catalog(lab, **settings) as catalog:
        others = []
        if what in ("its turn", "the lock of a file"):
            others = [asyncio.create_task(catalog.fetch("small"))]
            await anyio.to_thread.run_sync(lambda: lab.server.wait_for(lambda requests: len(requests) == 1))
        wanted = "small2" if what == "its turn" else "small"
        began = time.monotonic()
        await cancel(lambda: catalog.fetch(wanted), 1.0)
        seconds = time.monotonic() - began
        for other in others:
            other.cancel()
        if others:
            await asyncio.wait(others)
    assert seconds < 1.0 + LAG_SECONDS


@pytest.mark.parametrize("cancel", [cancel_by_scope, cancel_by_task])
async def test_g10_cancellation_during_publish_leaves_all_or_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, cancel: Callable[..., object]
) -> None:
    """What has begun to be published when the cancellation comes is published whole, before the call ends."""
    began, may_end = threading.Event(), threading.Event()
    replace = os.replace

    def slow_replace(source: str, target: str) -> None:
        if os.fspath(target).endswith("small.bin"):
            began.set()
            may_end.wait(10)
        replace(source, target)

    async with async_catalog(lab) as catalog:
        await catalog.fetch("small2")
        monkeypatch.setattr(os, "replace", slow_replace)

        async def fetch() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, began.wait)
                await catalog.fetch("small")

        threading.Timer(0.6, may_end.set).start()
        await cancel(fetch, 0.3)
        assert began.is_set()
        assert may_end.is_set()
        assert lab.content["small"] == (await catalog.fetch("small", offline=True)).read_bytes()
    assert [] == partial_files(lab.cache_dir)


@pytest.mark.parametrize("cancel", [cancel_by_scope, cancel_by_task])
async def test_g10_a_cancelled_with_block_closes_its_connections(
    slow_lab: Lab, cancel: Callable[..., object], recwarn: pytest.WarningsRecorder
) -> None:
    """Cancellation inside `async with` closes the catalog all the same, and leaves no unclosed connection."""

    async def work() -> None:
        async with async_catalog(slow_lab) as catalog:
            await catalog.fetch("big")

    await cancel(work, 1.0)
    gc.collect()
    assert [] == [str(warning.message) for warning in recwarn]
    await anyio.to_thread.run_sync(
        lambda: slow_lab.server.wait_for(lambda requests: all(request.finished_at for request in requests))
    )


# -- the end of the interpreter ----------------------------------------------------------------------------------------


IN_A_THREAD = """
    def work():
        make().fetch("small")
        say("done")
        sys.exit(3)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""


@pytest.mark.parametrize(
    ("script", "status", "last_error"),
    [
        ("catalog = make(); catalog.fetch('small'); say('done')", 0, ""),
        ("catalog = make(progress='auto'); catalog.fetch('small'); say('done')", 0, None),
        ("catalog = make(); catalog.fetch('small'); say('done'); sys.exit(3)", 3, ""),
        ("catalog = make(); catalog.fetch('small'); say('done'); raise ValueError('mine')", 1, "ValueError: mine"),
        ("catalog = make().__enter__(); catalog.fetch('small'); say('done')", 0, ""),
        (
            IN_A_THREAD,
            0,
            "",
        ),
        ("asyncio.run(make(AsyncCatalog).fetch('small')); say('done')", 0, ""),
        (
            "import atexit; c = make(); c.fetch('small2'); atexit.register(lambda: (c.fetch('small'), say('done')))",
            0,
            "",
        ),
    ],
    ids=["end", "display", "sys.exit", "error", "entered", "sys.exit in a thread", "AsyncCatalog", "atexit"],
)
def test_g11_a_catalog_that_nobody_closed_lets_the_program_end(
    lab: Lab, script: str, status: int, last_error: str | None
) -> None:
    """The program ends at once and silently, however it ends, with its own exit status."""
    with lab.program(script) as program:
        program.wait_for_output("done")
        began = time.monotonic()
        ended = program.wait()
    assert time.monotonic() - began < 2.0
    assert (status, "done\n") == (ended.status, ended.output)
    if last_error is not None:
        assert last_error == (ended.errors.splitlines() or [""])[-1]


def test_g11_a_thread_finishes_its_fetch_after_the_main_thread_has_ended(lab: Lab) -> None:
    """Threads that aren't daemons go on fetching after the main thread's end, also with a catalog not used before."""
    lab.server.add_faults(Slow(uri="*/big*", times=None, bytes_per_second=8 * MIB))
    ended = lab.run(
        """
        catalog, begun = make(), threading.Event()
        catalog_for_later = make()
        def fetch():
            say(len(catalog.fetch("big").read_bytes()))
        def fetch_later():
            threading.main_thread().join()
            say(len(catalog_for_later.fetch("small").read_bytes()))
            say(len(catalog_for_later.fetch("big2").read_bytes()))
        threading.Thread(target=fetch).start()
        if sys.argv[1] == "True":
            threading.Thread(target=fetch_later).start()
        """,
        str(CAN_START_THREADS_LATE),
    )
    if CAN_START_THREADS_LATE:
        expected = (0, "", sorted([24 * MIB, 10_000, 24 * MIB]))
        assert expected == (ended.status, ended.errors, sorted(map(int, ended.output.split())))
    else:  # the fetch has all its threads by the main thread's end, or says what it lacks; it never hangs
        is_done = (0, "", [str(24 * MIB)]) == (ended.status, ended.errors, ended.output.split())
        assert is_done or "RuntimeError: can't create new thread at interpreter shutdown" in ended.errors


def test_g11_the_interpreter_exits_during_a_fetch_in_a_daemon_thread(slow_lab: Lab) -> None:
    """A fetch in a daemon thread doesn't keep the program from ending; it ends silently and leaves nothing stray."""
    with slow_lab.program(
        """
        catalog = make()
        threading.Thread(target=catalog.fetch, args=("big",), daemon=True).start()
        sys.stdin.read()
        while not os.path.exists(os.environ["TEST_CACHE"] + "/go"):
            time.sleep(0.01)
        """
    ) as program:
        slow_lab.wait_until_sent("big.bin", 256 * 1024)
        began = time.monotonic()
        (slow_lab.cache_dir / "go").touch()
        ended = program.wait()
    assert (0, "", "") == (ended.status, ended.output, ended.errors)
    assert time.monotonic() - began < LEAVE_SECONDS
    (slow_lab.cache_dir / "go").unlink()
    assert [] == cached_files(slow_lab.cache_dir)
    assert_nothing_stray(slow_lab)


# -- forgetting, closing, using again ----------------------------------------------------------------------------------


def loop_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "datacachalog loop"]


def test_g11_a_catalog_that_is_collected_ends_its_thread(lab: Lab) -> None:
    """A catalog that nobody holds any more closes its connections and ends its thread, though nobody closed it."""
    catalog = lab.catalog()
    catalog.fetch("small")
    gone = weakref.ref(catalog)
    del catalog
    gc.collect()
    assert gone() is None
    wait_until(lambda: not loop_threads())


def test_g11_closing_twice_is_closing_once(lab: Lab) -> None:
    """A second `close()` does nothing, nor does one before the first use."""
    catalog = lab.catalog()
    catalog.close()
    catalog.fetch("small")
    catalog.close()
    catalog.close()
    assert [] == loop_threads()


def test_g11_a_closed_catalog_opens_again(lab: Lab) -> None:
    """A catalog that is used after it was closed opens itself again."""
    with lab.catalog() as catalog:
        catalog.fetch("small")
    assert lab.content["small2"] == catalog.fetch("small2").read_bytes()
    catalog.close()
    with catalog:
        assert lab.content["small3"] == catalog.fetch("small3").read_bytes()


def test_g11_a_nested_with_block_does_not_close_the_outer_one(slow_lab: Lab) -> None:
    """The last `with` block that is left closes the catalog: another thread in one of its own is not disturbed."""
    slow_lab.server.clear_faults()
    slow_lab.server.add_faults(Latency(uri="*/small.bin", seconds=0.5))
    catalog = slow_lab.catalog()
    paths: list[Path] = []

    def fetch() -> None:
        with catalog:
            paths.append(catalog.fetch("small"))

    with catalog:
        thread = threading.Thread(target=fetch)
        thread.start()
        slow_lab.server.wait_for(lambda requests: len(requests) == 1)
        with catalog:
            catalog.fetch("small2")
    thread.join()
    assert [slow_lab.cache_dir / "bucket/small.bin"] == paths
    assert [] == loop_threads()


async def test_g11_a_nested_async_with_block_does_not_close_the_outer_one(lab: Lab) -> None:
    """The last `async with` block that is left closes the catalog: another task in one of its own isn't disturbed."""
    lab.server.add_faults(Latency(uri="*/small.bin", seconds=0.5))
    catalog = async_catalog(lab, retries=0)

    async def fetch() -> Path:
        async with catalog:
            return await catalog.fetch("small")

    async with catalog:
        task = asyncio.create_task(fetch())
        await anyio.to_thread.run_sync(lambda: lab.server.wait_for(lambda requests: len(requests) == 1))
        async with catalog:
            await catalog.fetch("small2")
    assert lab.content["small"] == (await task).read_bytes()


def test_g11_closing_in_one_thread_ends_the_call_of_another_with_a_clear_error(slow_lab: Lab) -> None:
    """A call that runs while another thread closes the catalog raises `ClosedError`, and the catalog opens again."""
    catalog = slow_lab.catalog()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(catalog.fetch, "big")
        slow_lab.wait_until_sent("big.bin", 64 * 1024)
        catalog.close()
        with pytest.raises(ClosedError, match="closed while"):
            call.result(10)
    assert_nothing_stray(slow_lab)


# -- from everywhere ---------------------------------------------------------------------------------------------------


async def test_g11_a_blocking_call_works_inside_a_running_event_loop(lab: Lab, request: pytest.FixtureRequest) -> None:
    """Code that runs on an event loop may use the blocking catalog; the loop waits meanwhile."""
    request.getfixturevalue("_unblocked_loop").deactivate()  # this loop is blocked on purpose
    with lab.catalog() as catalog:
        assert lab.content["small"] == catalog.fetch("small").read_bytes()
        assert asyncio.get_running_loop() is not None


@pytest.mark.parametrize("imported", ["import sniffio", "sys.modules['sniffio'] = None"], ids=["with", "without"])
def test_g11_a_call_ends_with_sniffio_and_without(lab: Lab, imported: str) -> None:
    """Many libraries bring sniffio; anyio asks it which loop runs, and of itself that knows tasks and no callbacks."""
    names = [f"file-{number}" for number in range(60)]
    for name in names:
        lab.put(name, 1000)
    lab.server.add_faults(Latency(0.1, times=None))
    program = f"""
import sys
{imported}
from datacachalog import *
datasets = [Dataset(name, f"s3://bucket/{{name}}.bin") for name in {names}]
storage = S3Storage(endpoint_url={lab.server.endpoint_url!r})
print(len(Catalog(datasets, cache_dir={str(lab.cache_dir)!r}, storage=storage, progress=False).fetch_all()))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    assert ("60\n", "") == (done.stdout, done.stderr)
    assert lab.server.max_concurrent_requests > 4  # workers are taken on while others wait, by callbacks as well


def test_g11_one_catalog_serves_32_threads_at_once(lab: Lab) -> None:
    """Any number of threads use one catalog at once, and what they want at the same time is downloaded once."""
    start = threading.Barrier(32)
    with lab.catalog() as catalog, ThreadPoolExecutor(32) as pool:

        def fetch(number: int) -> bool:
            start.wait()
            name = NAMES[number % len(NAMES)]
            return lab.content[name] == catalog.fetch(name).read_bytes()

        assert [True] * 32 == list(pool.map(fetch, range(32)))
    firsts = [request.key for request in lab.server.requests if (request.range or "").startswith("bytes=0-")]
    downloads = [request for request in lab.server.requests if request.range and request.status == 206]
    assert sorted(f"{name}.bin" for name in NAMES) == sorted({request.key for request in downloads})
    assert 2 * 3 + 4 == len(downloads), firsts


def test_g11_closing_while_32_threads_call_harms_only_calls_that_run(lab: Lab) -> None:
    """Threads that use the catalog while others close it get their file or `ClosedError`, and never hang."""
    catalog = lab.catalog(max_age_seconds=0)
    stop = time.monotonic() + 2.0

    def use(number: int) -> int:
        chance, done = random.Random(number), 0
        while time.monotonic() < stop:
            name = chance.choice(NAMES[2:])
            try:
                if number < 2:
                    time.sleep(chance.random() * 0.05)
                    catalog.close()
                else:
                    assert lab.content[name] == catalog.fetch(name).read_bytes()
                    done += 1
            except ClosedError:
                pass
        return done

    with ThreadPoolExecutor(16) as pool:
        done = sum(pool.map(use, range(16), timeout=30))
    catalog.close()
    assert done > 0
    assert [] == partial_files(lab.cache_dir)


@pytest.mark.parametrize("call", ["fetch", "close"])
def test_g11_a_call_from_the_catalogs_own_loop_is_refused(lab: Lab, call: str) -> None:
    """An observer that calls its own catalog gets `ClosedError` instead of waiting for itself for ever."""
    errors: list[Exception] = []

    def observer(event: object) -> None:
        try:
            catalog.fetch("small2") if call == "fetch" else catalog.close()
        except ClosedError as error:
            errors.append(error)

    catalog = Catalog(
        [Dataset(name, f"s3://bucket/{name}.bin") for name in NAMES],
        cache_dir=lab.cache_dir,
        storage=RouterStorage({"s3": S3Storage(endpoint_url=lab.server.endpoint_url)}),
        progress=observer,
    )
    assert lab.content["small"] == catalog.fetch("small").read_bytes()
    assert {"use AsyncCatalog"} == {str(error).rpartition(": ")[2] for error in errors}
    catalog.close()
    assert [] == loop_threads()


def test_g11_a_reader_may_use_the_catalog_that_calls_it(lab: Lab) -> None:
    """A reader runs in a worker thread, so it may fetch other datasets from the same catalog."""
    with lab.catalog() as catalog:
        content = catalog.load("small", lambda path: path.read_bytes() + catalog.fetch("small2").read_bytes())
    assert lab.content["small"] + lab.content["small2"] == content


def test_g11_a_forgotten_async_catalog_says_nothing(lab: Lab) -> None:
    """An AsyncCatalog without `async with` leaves no noise, in one loop after the other and in two at once."""
    ended = lab.run(
        """
        catalog = make(AsyncCatalog)
        for name in ("small", "small2"):
            say(len(asyncio.run(catalog.fetch(name)).read_bytes()))
        start = threading.Barrier(2)
        async def fetch(name):
            start.wait()
            say(len((await catalog.fetch(name)).read_bytes()))
        threads = [threading.Thread(target=asyncio.run, args=(fetch(name),)) for name in ("small3", "small4")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        """
    )
    assert (0, "10000\n" * 4, "") == (ended.status, ended.output, ended.errors)


@pytest.mark.parametrize("kind", [Catalog, AsyncCatalog])
def test_g11_a_pickle_carries_the_configuration(tmp_path: Path, kind: type[Catalog | AsyncCatalog]) -> None:
    """A catalog that was pickled, open or not, has the same datasets, cache, storage and settings elsewhere."""
    source = tmp_path / "a.txt"
    source.write_text("content")
    config = CatalogConfig(retries=1, max_age_seconds=60)
    catalog = kind([Dataset("a", str(source))], cache=FileCache(tmp_path / "cache"), config=config, progress=False)
    if isinstance(catalog, Catalog):
        catalog.fetch("a")
        copied = pickle.loads(pickle.dumps(catalog))
        source.write_text("changed")
        assert "content" == copied.fetch("a").read_text()
        copied.close()
        catalog.close()
    else:
        asyncio.run(catalog.fetch("a"))
        copied = pickle.loads(pickle.dumps(catalog))
        source.write_text("changed")
        assert "content" == asyncio.run(copied.fetch("a")).read_text()
    assert catalog.datasets == copied.datasets


# -- fork, spawn, pools ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", ["sys.exit(0)", "os._exit(0)", "catalog.close(); sys.exit(0)"])
def test_g11_a_forked_child_fetches_and_leaves_the_parents_download_alone(lab: Lab, leave: str) -> None:
    """A child forked in the middle of a download fetches on its own; the parent's download doesn't notice its end."""
    lab.server.add_faults(Slow(uri="*/big*", times=None, bytes_per_second=3 * MIB))
    ended = lab.run(
        f"""
        import gc
        advanced, retries = threading.Event(), []
        def observer(event):
            if type(event).__name__ == "TransferAdvanced":
                advanced.set()
            if type(event).__name__ == "RequestRetried":
                retries.append(event)
        catalog = make(progress=observer, read_timeout_seconds=5)
        found = []
        thread = threading.Thread(target=lambda: found.append(catalog.fetch("big")))
        thread.start()
        advanced.wait()
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            say("child", len(catalog.fetch("small").read_bytes()))
            gc.collect()
            {leave}
        say("child ended", os.waitpid(child, 0)[1])
        say("in flight", thread.is_alive())
        thread.join()
        say("parent", len(found[0].read_bytes()), retries)
        say("parent", len(catalog.fetch("small2").read_bytes()), retries)
        """,
        options=FORKING,
    )
    assert "" == ended.errors
    expected = ["child 10000", "child ended 0", "in flight True", f"parent {24 * MIB} []", "parent 10000 []"]
    assert expected == ended.output.splitlines()


def test_g11_a_fork_at_any_moment_of_the_first_fetch_leaves_both_able_to_fetch(lab: Lab) -> None:
    """No lock that a thread holds at the moment of a fork, while it imports for instance, hangs the child."""
    ended = lab.run(
        """
        catalog = make()
        thread = threading.Thread(target=catalog.fetch, args=("small",))
        thread.start()
        children = []
        for module in ("aiobotocore", "botocore", "aiohttp", "aiobotocore.session", "awscrt"):
            while module not in sys.modules and thread.is_alive():
                time.sleep(0.001)
            child = os.fork()
            if child == 0:
                signal.alarm(10)
                catalog.fetch("small2")
                os._exit(0)
            children.append(child)
        thread.join()
        say([os.waitpid(child, 0)[1] for child in children])
        """,
        options=FORKING,
    )
    assert (0, f"{[0] * 5}\n", "") == (ended.status, ended.output, ended.errors)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_g11_multiprocessing_takes_an_open_catalog_along(lab: Lab, method: str) -> None:
    """A catalog in use is an argument of a process like any other, by whatever method that is started."""
    ended = lab.run(
        """
        import multiprocessing
        def work(catalog, name):
            say(name, len(catalog.fetch(name).read_bytes()))
        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[1])
            with make() as catalog:
                catalog.fetch("small")
                processes = [context.Process(target=work, args=(catalog, name)) for name in ("small", "small2")]
                for process in processes:
                    process.start()
                for process in processes:
                    process.join()
                say([process.exitcode for process in processes], len(catalog.fetch("small3").read_bytes()))
        """,
        method,
        options=FORKING,
    )
    assert "" == ended.errors
    assert ["[0, 0] 10000", "small 10000", "small2 10000"] == sorted(ended.output.splitlines())


def test_g11_a_process_pool_and_a_data_loader_use_the_catalog_they_inherit(lab: Lab) -> None:
    """Workers of a pool, and long-lived ones that are fed by queues, fetch with the catalog of a busy parent."""
    ended = lab.run(
        """
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        names = ["small", "small2", "small3", "small4"]
        def size(catalog, name):
            return len(catalog.fetch(name).read_bytes())
        def load(dataset, wanted, done):
            while (index := wanted.get()) is not None:
                done.put((index, len(dataset.fetch(names[index]).read_bytes())))
        if __name__ == "__main__":
            context = multiprocessing.get_context("fork")
            catalog = make()
            busy = threading.Thread(target=lambda: [catalog.fetch("small", force=True) for _ in range(30)])
            busy.start()
            with ProcessPoolExecutor(2, mp_context=context) as pool:
                say(list(pool.map(size, [catalog] * 4, names)))
            for epoch in range(2):
                wanted, done = context.Queue(), context.Queue()
                workers = [context.Process(target=load, args=(catalog, wanted, done), daemon=True) for _ in range(2)]
                for worker in workers:
                    worker.start()
                for index in [*range(4), None, None]:
                    wanted.put(index)
                say(sorted(done.get() for _ in range(4)))
                for worker in workers:
                    worker.join()
            busy.join()
        """,
        options=FORKING,
    )
    loaded = [(index, 10_000) for index in range(4)]
    assert (0, f"{[10_000] * 4}\n" + f"{loaded}\n" * 2, "") == (ended.status, ended.output, ended.errors)


@pytest.mark.parametrize("kind", ["Catalog", "AsyncCatalog"])
def test_g11_pre_forked_workers_fetch_after_their_parent_has(lab: Lab, kind: str) -> None:
    """A server that fetches before it forks its workers leaves them a catalog that works, as they come and go."""
    ended = lab.run(
        f"""
        catalog = make({kind})
        def fetch(name):
            found = catalog.fetch(name)
            return len((found if {kind} is Catalog else asyncio.run(found)).read_bytes())
        say(fetch("small"))
        workers = []
        for name in ("small", "small2", "small3", "small4"):
            worker = os.fork()
            if worker == 0:
                signal.alarm(20)
                sys.exit(0 if fetch(name) + fetch("small") == 20000 else 1)
            workers.append(worker)
        say([os.waitpid(worker, 0)[1] for worker in workers])
        say(fetch("small4"))
        """,
        options=FORKING,
    )
    assert (0, "10000\n[0, 0, 0, 0]\n10000\n", "") == (ended.status, ended.output, ended.errors)


# -- nothing blocks the loop -------------------------------------------------------------------------------------------


def test_g12_the_loop_goes_on_while_a_large_object_is_fetched(lab: Lab, request: pytest.FixtureRequest) -> None:
    """Another task on the loop never waits long for its turn: from the very first request to the end of 64 MiB."""
    lab.put("big", 64 * MIB)
    ended = lab.run(
        """
        async def main():
            catalog, lags = make(AsyncCatalog), []
            async def beat():
                while True:
                    began = time.monotonic()
                    await asyncio.sleep(0.005)
                    lags.append(time.monotonic() - began - 0.005)
            heart = asyncio.create_task(beat())
            await asyncio.sleep(0)
            for name in ("small", "big"):
                lags.clear()
                path = await catalog.fetch(name)
                say(max(lags))
            heart.cancel()
            await catalog.aclose()
        asyncio.run(main())
        """
    )
    assert (0, "") == (ended.status, ended.errors)
    first, large = map(float, ended.output.split())
    sys.stderr.write(f"\n{request.node.name}: {first:.3f} s with the first request, {large:.3f} s with 64 MiB\n")
    assert max(first, large) < LAG_SECONDS


def test_g12_memory_is_bounded_whatever_the_size(lab: Lab, request: pytest.FixtureRequest) -> None:
    """A fetch takes no more memory than the requests in flight times a part, though the object is much larger."""
    lab.put("big", 64 * MIB)
    ended = lab.run(
        """
        import psutil
        catalog = make(part_bytes=1024 * 1024, max_concurrency=4)
        catalog.fetch("small")
        this, most, is_over = psutil.Process(), 0, threading.Event()
        before = this.memory_info().rss
        thread = threading.Thread(target=lambda: (catalog.fetch("big"), is_over.set()))
        thread.start()
        while not is_over.wait(0.002):
            most = max(most, this.memory_info().rss)
        thread.join()
        say(most - before)
        """
    )
    assert (0, "") == (ended.status, ended.errors)
    sys.stderr.write(f"\n{request.node.name}: {int(ended.output) / MIB:.1f} MiB more for 64 MiB\n")
    # Four parts of 1 MiB, as much again in the transports, and what the allocator keeps.
    assert int(ended.output) < 24 * MIB
