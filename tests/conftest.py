"""What do all tests share? A loop that may not be blocked, servers, credentials, and a watch for what is left."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

from datacachalog.testing import FaultServer

# What a shell starts in the background ignores Ctrl-C, and so do its children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says how busy the machine is.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def anyio_backend() -> str:
    """aiobotocore and aiofiles are asyncio's."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give each test credentials, and nothing of the machine's own configuration."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "DATACACHALOG_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session", autouse=True)
def quick_clients() -> Iterator[None]:
    """Read botocore's models once for all tests, and keep them out of the collector's way: a client in milliseconds."""
    from botocore import session
    from botocore.loaders import create_loader

    loader = create_loader()
    loader.load_service_model("s3", "service-2")
    gc.collect()
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "create_loader", lambda *_: loader)
        yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def table_libraries(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let the libraries start the threads that they keep, which are no leaks of the test that is first to need them."""
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    import pyarrow.csv

    pa.enable_signal_handlers(False)  # noqa: FBT003  # its pipe for Ctrl-C is opened by whatever test first reads with one
    directory = tmp_path_factory.mktemp("tables")
    pd.DataFrame({"x": [1]}).to_csv(directory / "a.csv")
    pyarrow.csv.read_csv(directory / "a.csv")
    pl.read_csv(directory / "a.csv").write_parquet(directory / "a.parquet")
    pl.read_parquet(directory / "a.parquet")


@pytest.fixture(scope="session")
def obstore_is_up() -> None:
    """Have the threads and descriptors of obstore's runtime, which nobody ends, before a test is watched for leaks."""
    import obstore
    from obstore.store import MemoryStore

    async def use() -> None:
        await obstore.put_async(MemoryStore(), "a", b"a")

    asyncio.run(use())


@pytest.fixture(autouse=True)
def _unblocked_loop() -> Iterator[BlockBuster]:
    """Fail whatever blocks an event loop: reading a file, sleeping, waiting for a socket (G12)."""
    with blockbuster_ctx("datacachalog", excluded_modules=["datacachalog.testing"]) as blockbuster:
        # A loop of its own, in a worker thread, on which credentials are looked for: it keeps nobody waiting.
        for function in blockbuster.functions.values():
            function.can_block_in("datacachalog/storage/_s3.py", "_make_client")
            function.can_block_in("datacachalog/storage/_s3_credentials.py", "_look")
            # `discover` is no coroutine: it reads a small file or two at start-up, as an import does.
            function.can_block_in("datacachalog/_discovered.py", "discovered_arguments")
        yield blockbuster


@pytest.fixture(autouse=True)
def _no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread or a descriptor behind. Mark what must with `leaks`, and say why."""
    if request.node.get_closest_marker("leaks"):
        yield
        return
    threads_before = set(threading.enumerate())
    descriptors_before = _descriptors()
    yield
    threads, descriptors = set[threading.Thread](), dict[int, str]()

    def is_clean() -> bool:
        threads.clear()
        threads.update(t for t in threading.enumerate() if t not in threads_before and not _is_kept(t))
        descriptors.clear()
        descriptors.update({k: v for k, v in _descriptors().items() if k not in descriptors_before})
        return not threads and not descriptors

    def is_clean_without_garbage() -> bool:
        return is_clean() or (gc.collect() >= 0 and is_clean())

    text = lambda: f"left behind: {threads or ''} {descriptors or ''}"  # noqa: E731  # what is found by then
    wait_until(is_clean_without_garbage, seconds=5, otherwise=text)


def _is_kept(thread: threading.Thread) -> bool:
    """Threads that idle until they are needed again, or until their loop's end, of which nobody is told.

    A dummy is a thread of another library's, of DuckDB for one, that has called Python.
    """
    kept = ("asyncio_", "AnyIO worker", "pytest_", "Thread-", "Dask-Offload", "datacachalog worker", "Dummy-")
    return thread.name.startswith(kept)


def _descriptors() -> dict[int, str]:
    """The open descriptors that are files, sockets or pipes of ours; empty where /proc can't tell."""
    if not sys.platform.startswith("linux"):
        return {}
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue
    kept = ("/dev/", "/proc/", "/var/lib/libuuid/")  # the last one by the C library, once a UUID was made
    return {number: name for number, name in found.items() if not name.startswith(kept)}


def wait_until(
    condition: Callable[[], bool], *, seconds: float = 10, otherwise: Callable[[], str] = lambda: "it never became true"
) -> None:
    """Wait for something that another thread or process does, and fail with a text when it doesn't."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(otherwise())
        time.sleep(0.01)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A real S3 server on loopback that records its requests and makes faults when told to; it has a bucket."""
    with FaultServer() as server:
        server.create_bucket("bucket")
        yield server


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """Moto's S3 server, an implementation that isn't ours."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def cached_files(cache_dir: Path) -> list[str]:
    """The data files of a cache, relative to it; nothing of its own state."""
    return sorted(
        path.relative_to(cache_dir).as_posix()
        for path in cache_dir.rglob("*")
        if path.is_file() and ".datacachalog" not in path.parts and path.name != "CACHEDIR.TAG"
    )


def partial_files(cache_dir: Path) -> list[Path]:
    """What is under construction in a cache."""
    state = cache_dir / ".datacachalog"
    return sorted(path for place in ("new", "partial") for path in (state / place).rglob("*") if path.is_file())
