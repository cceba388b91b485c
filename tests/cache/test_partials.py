"""What an interrupted download has left: who may go on with it, and when."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import anyio
import pytest

from datacachalog import FileCache, FileMetadata
from datacachalog.cache._partials import JOURNAL
from datacachalog.cache._processes import Process, this_process
from datacachalog.ports import CacheKey, Claim

KEY = CacheKey("s3://bucket/a.bin")
DATA = bytes(range(256)) * 8
METADATA = FileMetadata("etag", None, len(DATA))
HERE = this_process()
HOST = HERE.host
ELSEWHERE = Process("another-host/boot/pid:[1]", HERE.number, HERE.started)
ENDED = Process(HOST, 2**22 - 1, 1)
REUSED = Process(HOST, HERE.number, HERE.started + 1)


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "cache")


async def write(cache: FileCache, stop: int) -> Path:
    """Leave a partial with so many bytes, and give its directory."""
    async with cache.stage(KEY, METADATA, "crc64nvme") as staging, staging.part(0, len(DATA)) as part:
        await part.write([DATA[:stop]])
    [partial] = (cache.cache_dir / ".datacachalog" / "partial").iterdir()
    return partial


def owned_by(partial: Path, owner: Process, *, silent_seconds: float = 0.0) -> Path:
    """Make it look as if that process were writing it, and had written so long ago."""
    name = partial.name.replace(".free-", ".")
    journal = partial.rename(partial.with_name(name)) / JOURNAL
    head, *lines = journal.read_bytes().split(b"\n")
    values = json.loads(head) | {"owner": asdict(owner)}
    journal.write_bytes(b"\n".join([json.dumps(values).encode(), *lines]))
    written_at = journal.stat().st_mtime - silent_seconds
    os.utime(journal, (written_at, written_at))
    return journal.parent


async def begun_with(cache: FileCache) -> int:
    """How many bytes another attempt begins with, and what the claim says of them beforehand."""
    claim = await cache.claim(KEY)
    assert isinstance(claim, Claim)
    await cache.release(claim)
    async with cache.stage(KEY, METADATA, "crc64nvme") as staging:
        begun = sum(segment.stop - segment.start for segment in staging.segments)
    assert begun == (0 if claim.resumable_etag is None else claim.missing_start)
    return begun


@pytest.mark.parametrize(
    ("owner", "silent_seconds", "expected"),
    [
        (ENDED, 0, 1000),
        (REUSED, 0, 1000),
        (Process(HOST, os.getppid(), 0), 0, 0),
        (Process(HOST, os.getppid(), 0), 3600, 0),
        (ELSEWHERE, 0, 0),
        (ELSEWHERE, 50, 0),
        (ELSEWHERE, 70, 1000),
    ],
    ids=["ended", "number used again", "alive", "alive and silent", "elsewhere", "elsewhere 50 s", "elsewhere 70 s"],
)
async def test_partial_is_taken_over_only_from_who_cannot_be_writing_it(cache, owner, silent_seconds, expected):
    """From a process that has ended, at once; from one that can't be asked, after a minute of silence; else not."""
    partial = owned_by(await write(cache, 1000), owner, silent_seconds=silent_seconds)
    assert (expected, expected == 0) == (await begun_with(cache), partial.exists())


async def test_g1_owner_elsewhere_that_writes_on_does_not_reach_what_was_taken_over(cache):
    """A process on another host that was silent and is not dead writes to a file that nobody reads any more."""
    partial = owned_by(await write(cache, 1000), ELSEWHERE, silent_seconds=3600)
    still_open = os.open(partial / "data", os.O_RDWR)
    async with cache.stage(KEY, METADATA, "crc64nvme") as staging:
        assert 1000 == sum(segment.stop - segment.start for segment in staging.segments)
        os.write(still_open, bytes(1000))
        os.close(still_open)
        assert DATA[:1000] == (await anyio.Path(staging.path).read_bytes())[:1000]


@pytest.mark.parametrize("clock", [-86400, 86400], ids=["a day back", "a day ahead"])
async def test_wrong_clock_takes_nothing_from_a_live_owner(cache, monkeypatch, clock):
    """Silence is measured by the file system's clock on both sides; the machine's own may be wrong."""
    now = time.time
    owned_by(await write(cache, 1000), ELSEWHERE)
    monkeypatch.setattr(time, "time", lambda: now() + clock)
    assert 0 == await begun_with(cache)
