"""What do locks do for the cache? They save work (G7); that the bytes are right doesn't depend on them (G2)."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import pytest

from datacachalog import AsyncCatalog, Dataset, RouterStorage, S3Storage
from datacachalog.cache import _disk
from datacachalog.testing import FaultServer, Latency, MemoryStorage, ServedRequest, Slow

from ..conftest import cached_files, partial_files
from ._child import content, version_of
from .conftest import Forks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="made of forks and signals")

MIB = 1024 * 1024
PROCESSES = 8


def bytes_sent(requests: Sequence[ServedRequest]) -> int:
    return sum(request.bytes_sent for request in requests)


@pytest.mark.parametrize("has_locks", [False, True], ids=["locks are no-ops", "locks work"])
def test_g2_many_processes_get_right_bytes_without_locks(
    has_locks: bool,  # noqa: FBT001  # a parameter of the test
    server: FaultServer,
    tmp_path: Path,
    forks: Forks,
) -> None:
    """Processes that fetch the same objects at once, while these change, get whole versions with and without locks."""
    sizes = {"small": 20_000, "large": 3 * MIB}
    for name, size in sizes.items():
        server.put("bucket", name, content(name, 1, size))
    arguments = {
        "endpoint": server.endpoint_url, "cache_dir": str(tmp_path), "names": list(sizes), "has_locks": has_locks,
        "config": {"part_bytes": MIB // 4, "restarts": 50},
    }  # fmt: skip
    children = [forks.start("fetch", rounds=6, **arguments) for _ in range(6)]
    for version in range(2, 12):
        for name, size in sizes.items():
            server.put("bucket", name, content(name, version, size + version))
        seen = len(server.requests)
        server.wait_for(lambda requests, seen=seen: len(requests) > seen + 10, timeout_seconds=30)
    for child in children:
        child.result()
    assert {"small": [11], "large": [11]} == forks.run("fetch", **arguments)["versions"]


async def test_g2_two_who_drop_a_copy_at_once_both_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody else has removed meanwhile needs no removing, and is no error."""
    storage = MemoryStorage()
    storage.put("s3://bucket/small", b"data")
    unlink = _disk.unlink

    def unlink_behind_another(path: str) -> None:
        unlink(path)
        unlink(path)

    async with AsyncCatalog(
        [Dataset("small", "s3://bucket/small")], cache_dir=tmp_path, storage=storage, progress=False
    ) as catalog:
        await catalog.fetch("small")
        monkeypatch.setattr(_disk, "unlink", unlink_behind_another)
        await catalog.invalidate("small")
    assert [] == cached_files(tmp_path)


def test_g7_processes_that_fetch_one_object_at_once_download_it_once(
    server: FaultServer, tmp_path: Path, forks: Forks, tell: Callable[[str], None]
) -> None:
    """However many processes want it, its bytes come over the wire once."""
    size = 64 * MIB
    server.put("bucket", "large", content("large", 1, size))
    children = [
        forks.start("fetch", endpoint=server.endpoint_url, cache_dir=str(tmp_path), names=["large"])
        for _ in range(PROCESSES)
    ]
    assert [{"large": [1]}] * PROCESSES == [child.result()["versions"] for child in children]
    served = bytes_sent(server.requests)
    tell(
        f"bytes served for {PROCESSES} processes that fetch {size // MIB} MiB at once: {served:,} ({served / size:.2f})"
    )
    assert served <= 1.05 * size


def test_g7_processes_that_fetch_many_objects_at_once_download_each_once(
    server: FaultServer, tmp_path: Path, forks: Forks, tell: Callable[[str], None]
) -> None:
    """What another process has fetched since a process looked is not fetched again, only asked for."""
    count, size = 60, 20_000
    names = [f"object{number}" for number in range(count)]
    for name in names:
        server.put("bucket", name, content(name, 1, size))
    server.add_faults(Latency(0.005, times=None))
    arguments = {"endpoint": server.endpoint_url, "cache_dir": str(tmp_path), "names": names}
    children = [forks.start("fetch", **arguments, config={"max_concurrency": 4}) for _ in range(4)]
    assert [{name: [1] for name in names}] * 4 == [child.result()["versions"] for child in children]
    served = bytes_sent(server.requests)
    tell(f"bytes served for 4 processes that fetch {count} objects at once: {served:,} ({served / count / size:.2f})")
    assert count * size == served


def test_g7_another_process_takes_over_when_the_one_that_downloads_is_killed(
    server: FaultServer, tmp_path: Path, forks: Forks, tell: Callable[[str], None]
) -> None:
    """Those that wait for a process that dies go on with what it had."""
    size = 64 * MIB
    server.put("bucket", "large", content("large", 1, size))
    server.add_faults(Slow(2_000_000, times=None))
    arguments = {"endpoint": server.endpoint_url, "cache_dir": str(tmp_path), "names": ["large"]}
    owner = forks.start("fetch", **arguments, config={"part_bytes": MIB})
    server.wait_for(lambda requests: bytes_sent(requests) >= size // 8, timeout_seconds=30)
    others = [forks.start("fetch", **arguments, config={"part_bytes": MIB}) for _ in range(PROCESSES - 1)]
    server.wait_for(lambda requests: bytes_sent(requests) >= size // 2, timeout_seconds=30)
    assert -9 == owner.kill()
    server.clear_faults()
    assert [{"large": [1]}] * len(others) == [child.result()["versions"] for child in others]
    served = bytes_sent(server.requests)
    tell(f"bytes served when the downloading one of {PROCESSES} processes is killed: {served:,} ({served / size:.2f})")
    assert served <= 1.6 * size


def test_g7_nobody_waits_for_ever_for_a_process_that_is_stuck(
    server: FaultServer, tmp_path: Path, forks: Forks, tell: Callable[[str], None]
) -> None:
    """A process that is stopped is waited for only so long; when it goes on it does no harm."""
    size = 16 * MIB
    server.put("bucket", "large", content("large", 1, size))
    server.add_faults(Slow(1_000_000, times=None))
    arguments = {
        "endpoint": server.endpoint_url, "cache_dir": str(tmp_path), "names": ["large"],
        "config": {"part_bytes": MIB, "lock_wait_seconds": 1.0},
    }  # fmt: skip
    owner = forks.start("fetch", **arguments)
    server.wait_for(lambda requests: bytes_sent(requests) >= size // 4, timeout_seconds=30)
    owner.send(signal.SIGSTOP)
    server.clear_faults()
    began = time.monotonic()
    others = [forks.start("fetch", **arguments) for _ in range(2)]
    assert [{"large": [1]}] * 2 == [child.result()["versions"] for child in others]
    tell(f"seconds until others had what a stopped process was downloading: {time.monotonic() - began:.1f}")
    owner.send(signal.SIGCONT)
    assert {"large": [1]} == owner.result()["versions"]
    assert bytes_sent(server.requests) <= 3.05 * size
    assert [] == partial_files(tmp_path)


async def test_g7_tasks_that_fetch_one_object_at_once_download_it_once(server: FaultServer, tmp_path: Path) -> None:
    """Within an event loop too, what many want comes once."""
    size = 8 * MIB
    server.put("bucket", "large", content("large", 1, size))
    found: list[int] = []
    async with AsyncCatalog(
        [Dataset("large", "s3://bucket/large")],
        cache_dir=tmp_path,
        storage=RouterStorage({"s3": S3Storage(endpoint_url=server.endpoint_url)}),
        progress=False,
    ) as catalog:

        async def one() -> None:
            path = await catalog.fetch("large")
            found.append(version_of("large", await anyio.Path(path).read_bytes()))

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(one)
    assert [1] * 20 == found
    assert bytes_sent(server.requests) <= 1.05 * size


@pytest.mark.parametrize("has_own_catalogs", [False, True], ids=["one catalog", "a catalog each"])
def test_g7_threads_that_fetch_one_object_at_once_download_it_once(
    has_own_catalogs: bool,  # noqa: FBT001  # a parameter of the test
    server: FaultServer,
    tmp_path: Path,
    forks: Forks,
) -> None:
    """Threads share a download, whether they share a catalog or only its cache."""
    size = 8 * MIB
    server.put("bucket", "large", content("large", 1, size))
    result = forks.run(
        "fetch", endpoint=server.endpoint_url, cache_dir=str(tmp_path), names=["large"], threads=8,
        has_own_catalogs=has_own_catalogs,
    )  # fmt: skip
    assert {"large": [1] * 8} == result["versions"]
    assert bytes_sent(server.requests) <= 1.05 * size
