"""What a real store keeps of overwritten and deleted objects, and what the catalog makes of it; and the lock file."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from datacachalog import (
    AsyncCatalog,
    CatalogConfig,
    Dataset,
    FetchAllError,
    LockMismatchError,
    S3Storage,
    VersionNotFoundError,
)
from datacachalog.testing.contracts import VersionedStorageContract

from ._bucket import MIB, Bucket, noise, sha256
from ._contract import GatewayObjects

FROZEN = CatalogConfig(frozen=True)


@pytest.fixture
def versioned(bucket: Bucket) -> Bucket:
    bucket.keep_versions()
    return bucket


@pytest.mark.usefixtures("versioned")
class TestVersionsOfTheGateway(GatewayObjects, VersionedStorageContract):
    """The gateway keeps the rules of a versioned storage."""

    @pytest.fixture
    def storage(self, storage: S3Storage) -> S3Storage:
        return storage


async def test_every_version_is_fetched_by_its_id_and_by_its_time(
    versioned: Bucket, storage: S3Storage, tmp_path: Path
) -> None:
    """Large ones in parts; a cached one without a request; a deletion is a version that can't be fetched."""
    contents = [noise(3 * MIB, seed=1), b"small", noise(4 * MIB, seed=2)]
    for content in contents:
        versioned.put("x.bin", content)
    versioned.delete("x.bin")
    config = CatalogConfig(part_bytes=MIB)
    async with AsyncCatalog(
        [Dataset("x", versioned.uri("x.bin"))], cache_dir=tmp_path, storage=storage, config=config, progress=False
    ) as catalog:
        marker, *versions = await catalog.versions("x")
        assert (True, list(map(len, reversed(contents)))) == (
            marker.is_delete_marker and marker.is_latest,
            [version.size for version in versions],
        )
        for version, content in zip(versions, reversed(contents), strict=True):
            path = await catalog.fetch("x", version_id=version.version_id)
            assert sha256(content) == sha256(path.read_bytes())
            assert path == await catalog.fetch("x", as_of=version.last_modified)
        with pytest.raises(VersionNotFoundError):
            await catalog.fetch("x", version_id=marker.version_id)
        with pytest.raises(VersionNotFoundError):
            await catalog.fetch("x", as_of=marker.last_modified)
        with pytest.raises(VersionNotFoundError):
            await catalog.fetch("x", as_of=versions[-1].last_modified - timedelta(seconds=1))
        with pytest.raises(VersionNotFoundError):
            await catalog.fetch("x", version_id="never-was")


async def test_the_whole_catalog_as_it_was(versioned: Bucket, storage: S3Storage, tmp_path: Path) -> None:
    """Objects that share listings, and a glob of them, are those of that time, without what came and went since."""
    keys = [f"dir/{number:02}.csv" for number in range(30)]
    versioned.put_many((key, f"old {key}".encode()) for key in keys)
    versioned.put("marker", b"")
    datasets = [Dataset(key, versioned.uri(key)) for key in keys]
    datasets += [Dataset("all", versioned.uri("dir/*.csv")), Dataset("marker", versioned.uri("marker"))]
    async with AsyncCatalog(datasets, cache_dir=tmp_path, storage=storage, progress=False) as catalog:
        moment = (await catalog.versions("marker"))[0].last_modified
        versioned.put_many((key, f"new {key}".encode()) for key in [*keys, "dir/joined.csv"])
        versioned.delete(keys[0])
        report = await catalog.fetch_all([*keys, "all"], as_of=moment)
        expected = [f"old {key}" for key in keys]
        assert expected == [report[key].path.read_text() for key in keys]
        assert expected == [path.read_text() for path in report["all"].paths]
        again = await catalog.fetch_all([*keys, "all"], as_of=moment)
    assert 2 == again.requests, "a page of the directory, and the glob's"


@pytest.mark.parametrize("keeps_versions", [True, False])
async def test_a_frozen_catalog_fetches_what_is_locked_or_says_what_differs(
    bucket: Bucket, storage: S3Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps_versions
) -> None:
    """With versions whatever came since; without, by ETag as a condition, until the object is another one."""
    monkeypatch.chdir(tmp_path)
    if keeps_versions:
        bucket.keep_versions()
    contents = {"a.csv": b"a", "large.bin": noise(3 * MIB, seed=1), "dir/1.csv": b"1"}
    for key, content in contents.items():
        bucket.put(key, content)
    datasets = [Dataset(name, bucket.uri(name)) for name in ("a.csv", "large.bin", "dir/")]

    def catalog(cache: str, config: CatalogConfig) -> AsyncCatalog:
        return AsyncCatalog(datasets, cache_dir=tmp_path / cache, storage=storage, config=config, progress=False)

    async with catalog("cache", CatalogConfig()) as unfrozen:
        await unfrozen.lock()
    for cache in ("cache", "other"):
        async with catalog(cache, FROZEN) as frozen:
            report = await frozen.fetch_all()
            assert list(contents.values()) == [result.paths[0].read_bytes() for result in report.values()]
            assert (cache == "cache") == (report.requests == 0)
    for key in contents:
        bucket.put(key, b"newer")
    async with catalog("another", FROZEN) as frozen:
        if keeps_versions:
            report = await frozen.fetch_all()
            assert list(contents.values()) == [result.paths[0].read_bytes() for result in report.values()]
        else:
            with pytest.raises(FetchAllError) as caught:
                await frozen.fetch_all()
            assert [LockMismatchError] * 3 == [type(error) for error in caught.value.exceptions]
