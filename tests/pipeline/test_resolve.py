"""Which objects a dataset means, and where they will lie."""

from __future__ import annotations

import pytest

from datacachalog import AsyncCatalog, Dataset
from datacachalog.testing import MemoryStorage


@pytest.mark.parametrize("key", ["a//b.csv", "../b.csv", "./b.csv", "a/../../../b.csv", "new\nline.csv"])
async def test_g8_key_of_any_shape_is_cached_below_a_place_of_ones_own(tmp_path, key):
    """Below a `cache_path` the keys of a glob are data from outside, and mapped like others: inside, and no error."""
    storage = MemoryStorage()
    storage.put("s3://bucket/dir/plain.csv", b"plain")
    storage.put(f"s3://bucket/dir/{key}", b"content")
    dataset = Dataset("logs", "s3://bucket/dir/**/*.csv", cache_path="mine")
    async with AsyncCatalog([dataset], cache_dir=tmp_path / "cache", storage=storage, progress=False) as catalog:
        paths = await catalog.fetch_files("logs")
    assert {b"plain", b"content"} == {path.read_bytes() for path in paths}
    assert all(path.resolve().is_relative_to((tmp_path / "cache" / "mine").resolve()) for path in paths)
