"""Do processes that do anything at any time to one cache ever see a wrong byte?

Each of them fetches, forces, fetches offline and invalidates as chance has it, and compares every byte with what it
must be; meanwhile the objects are overwritten, and the processes killed and replaced (G1, G3, G7).

`DATACACHALOG_TEST_STRESS_SECONDS` says for how long (10 if it doesn't); beyond 100 seconds give pytest
`-o faulthandler_timeout=…` as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from datacachalog import FileCache
from datacachalog.ports import CacheKey
from datacachalog.testing import FaultServer

from ._child import Board, content, version_of
from .conftest import Child, Forks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="made of forks and signals")

SECONDS = float(os.environ.get("DATACACHALOG_TEST_STRESS_SECONDS", "10"))
PROCESSES = 8
KIB = 1024
SIZES = {"tiny": 100, "small": 10_000, "middle": 100_000, "large": 1500 * KIB, "larger": 2500 * KIB}
CONFIG = {"part_bytes": 256 * KIB, "restarts": 50, "lock_wait_seconds": 5.0}
TALLY_BYTES = 500


def test_g1_processes_that_do_anything_at_any_time_see_no_wrong_byte(
    server: FaultServer, tmp_path: Path, forks: Forks, tell: Callable[[str], None]
) -> None:
    """Whatever eight processes do to a cache, while objects change and some are killed, each byte given is right."""
    chance = random.Random()
    names = list(SIZES)
    versions = Board.create(str(tmp_path / "board"), names)
    written = Counter[str]()

    def write(name: str) -> None:
        written[name] += 1
        versions.begin(name, written[name])
        server.put("bucket", name, content(name, written[name], SIZES[name] + written[name] % 3))
        versions.end(name, written[name])

    for name in names:
        write(name)
    ends_at = time.monotonic() + SECONDS
    tallies: list[Path] = []

    def start() -> Child:
        tallies.append(tmp_path / f"tally{len(tallies)}")
        tallies[-1].write_bytes(b"{}".ljust(TALLY_BYTES))
        return forks.start(
            "stress", endpoint=server.endpoint_url, cache_dir=str(tmp_path / "cache"), board=str(tmp_path / "board"),
            tally=str(tallies[-1]), names=names, seed=chance.getrandbits(32), config=CONFIG,
            seconds=max(0.0, ends_at - time.monotonic()),
        )  # fmt: skip

    children = [start() for _ in range(PROCESSES)]
    kills = 0
    while time.monotonic() < ends_at - 0.5:
        time.sleep(chance.uniform(0, 0.1))
        if chance.random() < 0.7:
            write(chance.choice(names))
        else:
            number = chance.randrange(PROCESSES)
            status = children[number].kill()
            assert -9 == status, f"a process had ended with {status}\n{children[number].errors.read_text()}"
            kills += 1
            children[number] = start()
        server.clear_requests()
    for child in children:
        child.result()
    versions.close()
    counts = sum((Counter(json.loads(tally.read_bytes())) for tally in tallies), Counter[str]())
    cache = FileCache(tmp_path / "cache")
    for entry in asyncio.run(cache.lookup([CacheKey(f"s3://bucket/{name}") for name in names])):
        if entry is not None:
            counts["bytes"] += len(entry.path.read_bytes())
            version_of(entry.key.uri.rpartition("/")[2], entry.path.read_bytes())
    result = forks.run(
        "fetch", endpoint=server.endpoint_url, cache_dir=str(cache.cache_dir), names=names, config=CONFIG
    )
    assert {name: [written[name]] for name in names} == result["versions"]
    tell(
        f"stress: {SECONDS:g} s, {PROCESSES} processes, {kills} killed, {sum(written.values())} versions written,"
        f" {counts['operations']} operations, {counts['files']} files and {counts['bytes']:,} bytes compared"
        f" ({counts['kept changing']} kept changing, {counts['gone']} were invalidated before they were read)"
    )
