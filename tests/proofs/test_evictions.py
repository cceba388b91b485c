"""Do processes that fetch and evict at once ever lose what they were just given?

Each of them fetches from a cache that is far too small for all, evicts, cleans and holds files open, and reads each
file that it is given within the grace period: it must be there, and right (G1, G4).
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from datacachalog import FileCache
from datacachalog.cache import _evictor

from ._child import version_of
from .conftest import Forks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="made of forks")

PROCESSES = 4
SECONDS = 4.0


def test_g4_processes_that_evict_at_once_never_lose_what_they_were_just_given(
    tmp_path: Path, forks: Forks, tell: Callable[[str], None]
) -> None:
    """A path that a fetch returns is there for the grace period, and one that is held is there until it is let go."""
    chance = random.Random()
    children = [
        forks.start("evict", cache_dir=str(tmp_path / "cache"), seed=chance.getrandbits(32), seconds=SECONDS)
        for _ in range(PROCESSES)
    ]
    counts = sum((Counter(child.result()) for child in children), Counter[str]())
    cache = FileCache(tmp_path / "cache")
    entries = asyncio.run(cache.entries())
    for entry in entries:
        version_of(entry.path.name, entry.path.read_bytes())
    found = list(_evictor.files(cache._ground, cache._usage.times()))
    assert counts["evicted"] > 0
    assert {str(entry.path) for entry in entries} == {str(cache.cache_dir / candidate.place) for candidate in found}
    tell(
        f"evictions: {SECONDS:g} s, {PROCESSES} processes, {counts['files']} files looked at that were just given,"
        f" {counts['evicted']} evicted by evict() alone, {counts['downloaded']} fetched anew"
        f" ({counts['too late']} were looked at after the grace period, and gone)"
    )
