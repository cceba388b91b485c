"""Numbers drawn by chance are nobody else's: not the user's own, nor those of a forked or equally seeded process."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from datacachalog import AsyncCatalog, CatalogConfig, Dataset
from datacachalog.testing import FaultyStorage, MemoryStorage, Unreachable

URI = "s3://bucket/a"


async def fetch(cache_dir: Path, data: bytes) -> Path:
    memory = MemoryStorage()
    memory.put(URI, data)
    storage = FaultyStorage(memory, [Unreachable()])
    config = CatalogConfig(retries=1)
    async with AsyncCatalog(
        [Dataset("a", URI)], cache_dir=cache_dir, storage=storage, config=config, progress=False
    ) as catalog:
        return await catalog.fetch("a")


async def test_g1_files_have_times_of_their_own_whatever_is_seeded(tmp_path):
    """Programs that seed Python's generator alike publish files that can be told apart all the same."""
    fractions = []
    for data in (b"one", b"two"):
        random.seed(42)
        fractions.append((await fetch(tmp_path, data)).stat().st_mtime_ns % 10**9)
    assert 2 == len(set(fractions))


async def test_numbers_of_the_user_are_left_to_him(tmp_path):
    """A fetch, retries included, draws nothing from Python's own generator."""
    random.seed(42)
    before = random.getstate()
    await fetch(tmp_path, b"content")
    assert before == random.getstate()


@pytest.mark.skipif(sys.platform == "win32", reason="made of forks")
def test_forked_children_draw_other_numbers():
    """A child goes on with numbers of its own, and not with its parent's."""
    code = """if True:
        import os
        from datacachalog._chance import chance
        chance.getrandbits(64)
        for _ in range(2):
            child = os.fork()
            if child == 0:
                os.write(1, b"%d " % chance.getrandbits(64))
                os._exit(0)
            os.waitpid(child, 0)
        os.write(1, b"%d" % chance.getrandbits(64))
    """
    drawn = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert (3, 3) == (len(drawn), len(set(drawn)))
