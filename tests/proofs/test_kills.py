"""What is left when a process is killed at a random moment, or half-way through something large? (G1, G3, G5)

`DATACACHALOG_TEST_KILLS` says how many are killed (50 if it doesn't), `DATACACHALOG_TEST_RESUME_MIB` how large the
large object is (256).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from datacachalog import FileCache
from datacachalog.ports import CacheKey
from datacachalog.testing import FaultServer, ServedRequest, Slow

from ..conftest import partial_files
from ._child import content, version_of
from .conftest import Forks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="made of forks and signals")

KILLS = int(os.environ.get("DATACACHALOG_TEST_KILLS", "50"))
RESUME_BYTES = int(os.environ.get("DATACACHALOG_TEST_RESUME_MIB", "256")) * 1024 * 1024
MIB = 1024 * 1024
KIB = 1024

CONNECTIONS = 17
"""On how many an object's parts come: the first answer's, and sixteen."""

IN_FLIGHT_BYTES = CONNECTIONS * 2 * MIB
"""What a killed process may have received without having noted it: a megabyte gathered on each connection, and what of
the next one is in the buffers of the client and the kernel."""


def test_g3_a_process_killed_at_any_moment_leaves_right_bytes_or_none(
    server: FaultServer, tmp_path: Path, forks: Forks, tell: Callable[[str], None]
) -> None:
    """After each of many kills everything that the cache gives is one whole version, and in the end all is there."""
    chance = random.Random(7)
    sizes = {f"small{n}": 500 * 4**n for n in range(5)} | {f"large{n}": (1 + n) * MIB + 4321 for n in range(3)}
    versions = dict.fromkeys(sizes, 1)
    for name, size in sizes.items():
        server.put("bucket", name, content(name, 1, size))
    server.add_faults(Slow(4_000_000, times=None, uri="*/large*"))
    cache_dir = tmp_path / "cache"
    arguments = {"names": list(sizes), "config": {"part_bytes": 256 * KIB}}
    began = time.monotonic()
    forks.run("fetch", endpoint=server.endpoint_url, cache_dir=str(tmp_path / "measured"), **arguments)
    longest = time.monotonic() - began
    server.clear_requests()
    killed = checked = finished = 0
    while killed < KILLS:
        for name in chance.sample(list(sizes), 2):
            versions[name] += 1
            server.put("bucket", name, content(name, versions[name], sizes[name] + versions[name]))
        child = forks.start("fetch", endpoint=server.endpoint_url, cache_dir=str(cache_dir), **arguments)
        time.sleep(chance.uniform(0, 0.8 * longest))
        if child.kill() == 0:
            finished += 1
        else:
            killed += 1
        checked += check_all(cache_dir, versions)
    result = forks.run("fetch", endpoint=server.endpoint_url, cache_dir=str(cache_dir), **arguments)
    assert {name: [version] for name, version in versions.items()} == result["versions"]
    served = sum(request.bytes_sent for request in server.requests)
    tell(
        f"kills: {killed} processes died at their work, {finished} were faster,"
        f" {checked} cached files were compared byte by byte, {served:,} bytes were served"
    )


def check_all(cache_dir: Path, newest: dict[str, int]) -> int:
    """Compare all that the cache gives, and count it."""
    keys = [CacheKey(f"s3://bucket/{name}") for name in newest]
    entries = [entry for entry in asyncio.run(FileCache(cache_dir).lookup(keys)) if entry is not None]
    for entry in entries:
        name = entry.key.uri.rpartition("/")[2]
        data = entry.path.read_bytes()
        assert version_of(name, data) <= newest[name]
        assert entry.metadata.etag == hashlib.md5(data).hexdigest(), "the bytes are of another version than the ETag"
    return len(entries)


def kill_half_way(server: FaultServer, cache_dir: Path, forks: Forks, name: str, size: int, **config: object) -> None:
    """Kill a process that has received half of an object."""
    child = forks.start("fetch", endpoint=server.endpoint_url, cache_dir=str(cache_dir), names=[name], config=config)
    server.wait_for(lambda requests: bytes_sent(requests, name) >= size // 2, timeout_seconds=60)
    assert -9 == child.kill()
    [journal] = cache_dir.glob(".datacachalog/partial/*/journal")
    assert 2 < len(journal.read_bytes().splitlines()), "nothing is left that could be taken over"


def bytes_sent(requests: Iterable[ServedRequest], name: str) -> int:
    return sum(request.bytes_sent for request in requests if request.key == name)


def test_g3_what_a_killed_process_had_is_not_downloaded_again(
    server: FaultServer, tmp_path: Path, forks: Forks, tell: Callable[[str], None]
) -> None:
    """The process after one that was killed half-way asks only for what was not there yet."""
    server.put("bucket", "large", content("large", 1, RESUME_BYTES))
    server.add_faults(Slow(4_000_000, times=None))
    kill_half_way(server, tmp_path, forks, "large", RESUME_BYTES)
    server.clear_faults()
    result = forks.run("fetch", endpoint=server.endpoint_url, cache_dir=str(tmp_path), names=["large"])
    again = bytes_sent(server.requests, "large") - RESUME_BYTES
    tell(
        f"bytes served again after a kill at half of {RESUME_BYTES // MIB} MiB: {again:,} ({again / RESUME_BYTES:.1%})"
    )
    assert {"large": [1]} == result["versions"]
    assert again <= IN_FLIGHT_BYTES
    assert [] == partial_files(tmp_path)


def test_g5_a_download_resumed_after_the_object_was_replaced_is_all_of_the_new_version(
    server: FaultServer, tmp_path: Path, forks: Forks
) -> None:
    """What is left of a version that is no longer there is thrown away, and nothing of it gets into the new one."""
    size = 16 * MIB
    server.put("bucket", "large", content("large", 1, size))
    server.add_faults(Slow(2_000_000, times=None))
    kill_half_way(server, tmp_path, forks, "large", size, part_bytes=256 * KIB)
    server.clear_faults()
    server.put("bucket", "large", content("large", 2, size))
    result = forks.run(
        "fetch", endpoint=server.endpoint_url, cache_dir=str(tmp_path), names=["large"],
        config={"part_bytes": 256 * KIB},
    )  # fmt: skip
    assert {"large": [2]} == result["versions"]
    assert [] == partial_files(tmp_path)


def change(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def middle_of_first_segment(partial: Path) -> int:
    start, stop, _ = map(int, (partial / "journal").read_bytes().split(b"\n")[1].split())
    return (start + stop) // 2


def edit_journal(partial: Path, edit: Callable[[bytes], bytes]) -> None:
    path = partial / "journal"
    path.write_bytes(edit(path.read_bytes()))


def size_of(partial: Path) -> int:
    return (partial / "data").stat().st_size


DAMAGES: dict[str, Callable[[Path], object]] = {
    "data with one wrong byte": lambda p: change(p / "data", middle_of_first_segment(p), b"\x00\xff"),
    "data of zeros": lambda p: (p / "data").write_bytes(bytes(size_of(p))),
    "data of another file": lambda p: (p / "data").write_bytes(content("other", 1, size_of(p))),
    "data cut short": lambda p: os.truncate(p / "data", size_of(p) // 3),
    "data too long": lambda p: change(p / "data", 5 * MIB, b"garbage behind the end"),
    "data empty": lambda p: os.truncate(p / "data", 0),
    "data missing": lambda p: os.unlink(p / "data"),
    "journal empty": lambda p: os.truncate(p / "journal", 0),
    "journal missing": lambda p: os.unlink(p / "journal"),
    "journal of zeros": lambda p: edit_journal(p, lambda text: bytes(len(text))),
    "journal with a torn last line": lambda p: edit_journal(p, lambda text: text[:-4]),
    "journal with garbage in the middle": lambda p: edit_journal(
        p, lambda text: text[:200] + b"\xff\x00{" + text[260:]
    ),
    "journal with garbage behind": lambda p: edit_journal(p, lambda text: text + b"\x00" * 512),
    "journal that says all is there": lambda p: edit_journal(p, lambda text: text + b"0 4194304 1\n"),
    "journal with numbers too large": lambda p: edit_journal(p, lambda text: text + b"9 99999999999999999999999 1\n"),
    "journal with negative numbers": lambda p: edit_journal(p, lambda text: text + b"-5 -1 -1\n"),
    "journal with overlapping lines": lambda p: edit_journal(
        p, lambda text: text + b"".join(b"%d %d 7\n" % (start, start + 300_000) for start in range(0, 2 * MIB, 99_999))
    ),
    "journal of another format": lambda p: edit_journal(p, lambda text: text.replace(b'"format": 1', b'"format": 2')),
    "journal of another size": lambda p: edit_journal(p, lambda text: text.replace(b"4194304", b"4194305")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_g3_a_damaged_partial_is_never_believed(
    damage: Callable[[Path], object], server: FaultServer, tmp_path: Path, forks: Forks
) -> None:
    """What is left of a download may be cut, overwritten or made up: the file that comes of it is right."""
    size = 4 * MIB
    server.put("bucket", "large", content("large", 1, size))
    server.add_faults(Slow(2_000_000, times=None))
    kill_half_way(server, tmp_path, forks, "large", size, part_bytes=64 * KIB)
    server.clear_faults()
    [partial] = (tmp_path / ".datacachalog" / "partial").iterdir()
    damage(partial)
    for _ in range(2):
        result = forks.run(
            "fetch", endpoint=server.endpoint_url, cache_dir=str(tmp_path), names=["large"],
            config={"part_bytes": 64 * KIB},
        )  # fmt: skip
        assert {"large": [1]} == result["versions"]


def test_g3_a_download_killed_again_and_again_gets_on(server: FaultServer, tmp_path: Path, forks: Forks) -> None:
    """Each of several processes that are killed in turn adds to what the ones before have left."""
    size, part_bytes, kills = 32 * MIB, 256 * KIB, 3
    server.put("bucket", "large", content("large", 1, size))
    arguments = {"names": ["large"], "config": {"part_bytes": part_bytes}}
    server.add_faults(Slow(1_000_000, times=None))
    for _ in range(kills):
        wanted = bytes_sent(server.requests, "large") + size // 4
        child = forks.start("fetch", endpoint=server.endpoint_url, cache_dir=str(tmp_path), **arguments)
        server.wait_for(lambda requests, wanted=wanted: bytes_sent(requests, "large") >= wanted, timeout_seconds=60)
        assert -9 == child.kill()
    server.clear_faults()
    result = forks.run("fetch", endpoint=server.endpoint_url, cache_dir=str(tmp_path), **arguments)
    assert {"large": [1]} == result["versions"]
    # Of each connection a part that was not written yet, and as much again in buffers.
    assert bytes_sent(server.requests, "large") - size <= kills * CONNECTIONS * 2 * part_bytes
