"""Are the promises kept on Google Cloud Storage and on Azure? The same tests for both, against their emulators."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from datacachalog import (
    AsyncCatalog,
    BucketNotFoundError,
    Catalog,
    CatalogConfig,
    Dataset,
    ObjectNotFoundError,
    PushConflictError,
    RouterStorage,
    StaleDataWarning,
    StorageUnreachableError,
)

from ._bucket import MIB, noise, sha256
from ._clouds import Place, new_bucket, new_container
from ._midway import ReplacedMidway
from ._proxy import proxy_to

pytestmark = [
    pytest.mark.usefixtures("obstore_is_up"),
    pytest.mark.leaks,  # obstore ends its connections in threads of its own, some time after nobody needs them any more
]

CONFIG = CatalogConfig(part_bytes=2 * MIB)
"""Parts of a size that obstore receives."""

SIZES = {"in one piece": 70_000, "from the disk": 2 * MIB, "in parts": 12 * MIB}


@pytest.fixture(params=["gs", "az", "abfss"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "gs":
        return new_bucket(request.getfixturevalue("google"))
    return new_container(request.getfixturevalue("azurite"), request.param)


def catalog_of(place: Place, directory: Path, source: str = "x.bin", **arguments) -> AsyncCatalog:
    arguments.setdefault("storage", place.storage())
    arguments.setdefault("config", CONFIG)
    return AsyncCatalog([Dataset("x", place.uri(source))], cache_dir=directory / "cache", **arguments)


@pytest.mark.parametrize("size", [0, 1, 70_000, 2 * MIB, 9 * MIB + 1])
async def test_g1_every_size_arrives_whole(place, tmp_path, size):
    """And is compared with the checksum that the store has."""
    expected = noise(size, seed=size)
    place.put("x.bin", expected)
    async with catalog_of(place, tmp_path) as catalog:
        result = (await catalog.fetch_all())["x"]
        again = await catalog.fetch_all()
    assert (True, "revalidated", 1) == (expected == result.path.read_bytes(), again["x"].action, again.requests)
    assert result.verified_by == ("crc32c" if place.uri("").startswith("gs:") else "md5")


async def test_g5_object_replaced_while_it_is_downloaded_arrives_whole(place, tmp_path):
    """The download starts again with the new version; no torn file, and no error."""
    place.put("x.bin", noise(8 * MIB, seed=1))
    replacement = noise(9 * MIB, seed=2)
    storage = ReplacedMidway(place.storage(), lambda: place.put("x.bin", replacement))
    async with catalog_of(place, tmp_path, storage=storage) as catalog:
        assert sha256(replacement) == sha256((await catalog.fetch("x")).read_bytes())


@pytest.mark.parametrize("is_cut", [True, False], ids=["cut", "stalled"])
async def test_g5_line_that_breaks_is_taken_up_again(place, tmp_path, is_cut):
    """Answers that end in the middle, or go on no more, are asked for again from where they broke."""
    expected = noise(9 * MIB, seed=3)
    place.put("x.bin", expected)
    parts = urlsplit(place.endpoint)
    config = CatalogConfig(part_bytes=2 * MIB, read_timeout_seconds=1.0)
    assert parts.port is not None
    with proxy_to(parts.port) as (proxy, port):
        proxy.after_bytes, proxy.faults, proxy.is_cut = MIB, 3, is_cut
        storage = place.storage(f"http://127.0.0.1:{port}{parts.path}")
        async with catalog_of(place, tmp_path, storage=storage, config=config) as catalog:
            path = await catalog.fetch("x")
    assert (True, True) == (expected == path.read_bytes(), proxy.faults < 0)


async def test_g4_copy_is_served_where_nobody_answers(place, tmp_path):
    """With a warning; without a copy it is an error."""
    place.put("x.bin", b"content")
    async with catalog_of(place, tmp_path) as catalog:
        await catalog.fetch("x")
    nobody = place.storage(f"http://127.0.0.1:1{urlsplit(place.endpoint).path}")
    config = CatalogConfig(retries=0)
    async with catalog_of(place, tmp_path, storage=nobody, config=config) as catalog:
        with pytest.warns(StaleDataWarning):
            assert b"content" == (await catalog.fetch("x")).read_bytes()
    async with catalog_of(place, tmp_path / "other", storage=nobody, config=config) as catalog:
        with pytest.raises(StorageUnreachableError):
            await catalog.fetch("x")


async def test_pattern_brings_the_files_it_means(place, tmp_path):
    """`*` within a segment, `**` across; folder markers are no files."""
    for key in ("logs/1.csv", "logs/2.csv", "logs/deep/3.csv", "logs-old/5.csv", "logs/2.txt"):
        place.put(key, key.encode())
    found = {}
    for pattern in ("logs/*.csv", "logs/**/*.csv", "logs/"):
        async with catalog_of(place, tmp_path, pattern) as catalog:
            found[pattern] = [path.name for path in await catalog.fetch_files("x")]
    assert {
        "logs/*.csv": ["1.csv", "2.csv"],
        "logs/**/*.csv": ["1.csv", "2.csv", "3.csv"],
        "logs/": ["1.csv", "2.csv", "2.txt", "3.csv"],
    } == found


async def test_what_is_missing_is_named(place, tmp_path):
    """A key, and a bucket or container, by its URI."""
    async with catalog_of(place, tmp_path) as catalog:
        with pytest.raises(ObjectNotFoundError) as caught:
            await catalog.fetch("x")
    nowhere = place.uri("*.bin").replace("bucket-", "nothing-").replace("container-", "nothing-")
    async with AsyncCatalog([Dataset("x", nowhere)], cache_dir=tmp_path, storage=place.storage()) as catalog:
        with pytest.raises(BucketNotFoundError):
            await catalog.fetch_files("x")
    assert place.uri("x.bin") == caught.value.uri


@pytest.mark.parametrize("kind", SIZES)
async def test_what_is_pushed_is_there_and_cached(place, tmp_path, kind):
    """Every byte of it; and the next fetch downloads nothing."""
    local = tmp_path / "local.bin"
    local.write_bytes(noise(SIZES[kind], seed=4))
    config = CatalogConfig(part_bytes=5 * MIB)
    async with catalog_of(place, tmp_path, config=config) as catalog:
        await catalog.push("x", local)
        action = (await catalog.fetch_all())["x"].action
    assert (True, "revalidated") == (local.read_bytes() == place.content("x.bin"), action)


@pytest.mark.parametrize("kind", SIZES)
async def test_g9_a_second_writer_between_fetch_and_push_is_not_overwritten(place, tmp_path, kind):
    """The push fails, and names both versions; the next fetch has theirs."""
    local = tmp_path / "local.bin"
    local.write_bytes(noise(SIZES[kind], seed=5))
    place.put("x.bin", b"old")
    async with catalog_of(place, tmp_path) as catalog:
        await catalog.fetch("x")
        place.put("x.bin", b"theirs")
        with pytest.raises(PushConflictError) as caught:
            await catalog.push("x", local)
        assert b"theirs" == (await catalog.fetch("x")).read_bytes()
    assert None not in (caught.value.expected_etag, caught.value.found_etag)


@pytest.mark.skipif(sys.platform == "win32", reason="it has no fork")
def test_g11_forked_child_fetches(place, tmp_path):
    """obstore's threads are not in the child: a large object comes without them, and nothing hangs."""
    expected = noise(9 * MIB, seed=6)
    place.put("x.bin", expected)
    storage = RouterStorage({place.uri("").partition(":")[0]: place.storage()})
    with Catalog(
        [Dataset("x", place.uri("x.bin"))], cache_dir=tmp_path, storage=storage, config=CONFIG, progress=False
    ) as catalog:
        catalog.fetch("x")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads, from Python 3.12 on
            child = os.fork()
        if child == 0:
            is_right = False
            try:
                is_right = catalog.fetch("x", force=True).read_bytes() == expected
            finally:
                os._exit(0 if is_right else 1)
        _, status = os.waitpid(child, 0)
        after = catalog.fetch("x", force=True).read_bytes() == expected
    assert (0, True) == (os.waitstatus_to_exitcode(status), after)
