"""What a real store makes of a push: versions, conflicts with a second writer, memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread

from datacachalog import (
    AccessDeniedError,
    AsyncCatalog,
    BucketNotFoundError,
    CatalogConfig,
    Dataset,
    PushConflictError,
    S3Storage,
)
from datacachalog.testing.contracts import WritableStorageContract

from ._bucket import MIB, Bucket, noise
from ._contract import GatewayObjects
from ._rgw import Gateway

MEMORY_LIMIT_BYTES = 120_000_000
SIZES = {"in one piece": 70_000, "from the disk": 3 * MIB, "in parts": 12 * MIB}


class TestS3StorageOnRgw(GatewayObjects, WritableStorageContract):
    """Against Ceph, which compares no checksums, and the conditions of an upload in parts neither."""

    heeds_if_match_of_parts = False

    @pytest.fixture
    def storage(self, gateway: Gateway) -> S3Storage:
        return S3Storage(endpoint_url=gateway.endpoint_url, region="us-east-1")


@pytest.fixture(params=SIZES, ids=lambda name: name.replace(" ", "-"))
def local(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "local.bin"
    path.write_bytes(noise(SIZES[request.param], seed=1))
    return path


def content(bucket: Bucket, key: str, **version: str) -> bytes:
    return bucket.client.get_object(Bucket=bucket.name, Key=key, **version)["Body"].read()


def open_uploads(bucket: Bucket) -> list[dict[str, Any]]:
    return bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])


async def test_what_is_pushed_is_there_and_cached(
    bucket: Bucket, storage: S3Storage, tmp_path: Path, local: Path
) -> None:
    """Every byte of it, with the media type of its name; and the next fetch downloads nothing."""
    async with AsyncCatalog([Dataset("x", bucket.uri("x.csv"))], cache_dir=tmp_path / "c", storage=storage) as catalog:
        await catalog.push("x", local)
        report = await catalog.fetch_all()

    kind = bucket.client.head_object(Bucket=bucket.name, Key="x.csv")["ContentType"]
    assert (local.read_bytes(), "text/csv", "revalidated") == (content(bucket, "x.csv"), kind, report["x"].action)


async def test_a_push_adds_a_version_and_tells_which(
    bucket: Bucket, storage: S3Storage, tmp_path: Path, local: Path
) -> None:
    """In a bucket that keeps versions, the older one stays."""
    bucket.keep_versions()
    bucket.put("x.bin", b"old")
    async with AsyncCatalog([Dataset("x", bucket.uri("x.bin"))], cache_dir=tmp_path / "c", storage=storage) as catalog:
        await catalog.fetch("x")
        written = await catalog.push("x", local)

    versions = bucket.client.list_object_versions(Bucket=bucket.name)["Versions"]
    newest = next(version for version in versions if version["IsLatest"])
    assert written.version_id is not None
    assert (2, newest["VersionId"], newest["ETag"]) == (len(versions), written.version_id, f'"{written.etag}"')
    assert local.read_bytes() == content(bucket, "x.bin", VersionId=written.version_id)


@pytest.mark.parametrize("kind", ["plain", "versioned"])
async def test_g9_a_second_writer_between_fetch_and_push_is_not_overwritten(
    bucket: Bucket, storage: S3Storage, tmp_path: Path, local: Path, kind: str
) -> None:
    """The push fails, names both versions, and leaves nothing behind; the next fetch has theirs."""
    if kind == "versioned":
        bucket.keep_versions()
    bucket.put("x.bin", b"old")
    async with AsyncCatalog([Dataset("x", bucket.uri("x.bin"))], cache_dir=tmp_path / "c", storage=storage) as catalog:
        await catalog.fetch("x")
        bucket.put("x.bin", b"theirs")
        with pytest.raises(PushConflictError) as caught:
            await catalog.push("x", local)

        assert b"theirs" == (await catalog.fetch("x")).read_bytes()
    assert None not in (caught.value.expected_etag, caught.value.found_etag)
    assert (b"theirs", []) == (content(bucket, "x.bin"), open_uploads(bucket))


@dataclass(frozen=True)
class WrittenMidway:
    """A way to the same store, where somebody else writes while parts are being sent, or right before a write."""

    storage: S3Storage
    write: Callable[[], object]
    before: str

    @asynccontextmanager
    async def connect(self, config: CatalogConfig) -> AsyncIterator[WrittenMidwaySession]:
        async with self.storage.connect(config) as session:
            yield WrittenMidwaySession(session, self.write, self.before)


class WrittenMidwaySession:
    def __init__(self, session: Any, write: Callable[[], object], before: str) -> None:
        for name in ("head", "read", "list_page", "begin_upload", "abort_upload"):
            setattr(self, name, getattr(session, name))
        self._session = session
        self._write = write
        self._before = before

    async def write(self, *arguments: Any) -> Any:
        return await self._raced("write", arguments)

    async def write_part(self, *arguments: Any) -> Any:
        return await self._raced("write_part", arguments)

    async def complete_upload(self, *arguments: Any) -> Any:
        return await self._raced("complete_upload", arguments)

    async def _raced(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if name == self._before:
            self._before = ""
            await to_thread.run_sync(self._write)
        return await getattr(self._session, name)(*arguments)

    begin_upload: Any
    abort_upload: Any


@pytest.mark.parametrize("had", [None, b"old"], ids=["nothing", "a version"])
@pytest.mark.parametrize(("size", "before"), [(70_000, "write"), (12 * MIB, "write_part")])
async def test_g9_a_second_writer_during_the_push_is_not_overwritten(
    bucket: Bucket, storage: S3Storage, tmp_path: Path, had: bytes | None, size: int, before: str
) -> None:
    """In one piece the store refuses; in parts, what is there is compared again right before the end.

    Not so with versions: there, Ceph 16 compares a condition with the version that is to come, so nothing is refused.
    """
    local = tmp_path / "local.bin"
    local.write_bytes(noise(size, seed=1))
    raced = WrittenMidway(storage, lambda: bucket.put("x.bin", b"theirs"), before)
    async with AsyncCatalog([Dataset("x", bucket.uri("x.bin"))], cache_dir=tmp_path / "c", storage=raced) as catalog:
        if had is not None:
            bucket.put("x.bin", had)
            await catalog.fetch("x")
        with pytest.raises(PushConflictError):
            await catalog.push("x", local)
    assert (b"theirs", []) == (content(bucket, "x.bin"), open_uploads(bucket))


async def test_a_missing_bucket_is_told(storage: S3Storage, tmp_path: Path, local: Path) -> None:
    """Not as an object that isn't there yet."""
    source = "s3://no-such-bucket/x.bin"
    async with AsyncCatalog([Dataset("x", source)], cache_dir=tmp_path / "c", storage=storage) as catalog:
        with pytest.raises(BucketNotFoundError):
            await catalog.push("x", local, on_conflict="overwrite")


async def test_a_stranger_may_not_write(bucket: Bucket, gateway: Gateway, tmp_path: Path, local: Path) -> None:
    """Who may not write is told that."""
    stranger = S3Storage(endpoint_url=gateway.endpoint_url, region="us-east-1", anonymous=True)
    async with AsyncCatalog([Dataset("x", bucket.uri("x.bin"))], cache_dir=tmp_path / "c", storage=stranger) as catalog:
        with pytest.raises(AccessDeniedError):
            await catalog.push("x", local, on_conflict="overwrite")


def test_a_gibibyte_is_pushed_in_little_memory(
    bucket: Bucket, gateway: Gateway, tmp_path: Path, note_figure: Callable[[str, str], None]
) -> None:
    """G12: the whole process that pushes 1 GiB never has more than 120 MB in memory."""
    local = tmp_path / "large.bin"
    local.touch()
    os.truncate(local, 1024 * MIB)
    script = Path(__file__).with_name("_measured_push.py")
    command = [
        sys.executable,
        str(script),
        gateway.endpoint_url,
        bucket.uri("large.bin"),
        str(tmp_path / "c"),
        str(local),
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout
    shutil.rmtree(tmp_path / "c")
    size = bucket.client.head_object(Bucket=bucket.name, Key="large.bin")["ContentLength"]
    bucket.delete("large.bin")
    figures = json.loads(output)
    note_figure(
        "memory, push of 1 GiB",
        f"peak {figures['after'] / 1e6:.0f} MB, {figures['before'] / 1e6:.0f} MB of them before the push;"
        f" {figures['requests']} requests, {figures['seconds']:.2f} s",
    )

    assert (1024 * MIB, True) == (size, figures["after"] <= MEMORY_LIMIT_BYTES)
