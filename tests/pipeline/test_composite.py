"""Is a checksum of the parts' checksums compared? On a real socket, with objects that boto3 has uploaded."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import boto3
import pytest

from datacachalog import AsyncCatalog, CatalogConfig, Dataset, FetchResult, IntegrityError, S3Storage
from datacachalog.cache import _staging
from datacachalog.testing import FaultServer, Status, WrongBytes

KIB = 1024
MIB = 1024 * KIB
RANGE = 64 * KIB
SIZE = 1_500_000
DATA = b"".join(hashlib.sha256(index.to_bytes(8, "big")).digest() for index in range(SIZE // 32 + 1))[:SIZE]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A server that takes parts of any size."""
    with FaultServer(min_part_bytes=1) as server:
        server.create_bucket("bucket")
        yield server


@pytest.fixture
async def catalog(server: FaultServer, tmp_path: Path) -> AsyncIterator[AsyncCatalog]:
    """A catalog that asks for ranges of 64 KiB."""
    storage = S3Storage(endpoint_url=server.endpoint_url, region="us-east-1")
    config = CatalogConfig(part_bytes=RANGE, retries=0)
    datasets = [Dataset("a", "s3://bucket/a")]
    async with AsyncCatalog(
        datasets, cache_dir=tmp_path / "cache", config=config, storage=storage, progress=False
    ) as catalog:
        yield catalog


def client(server: FaultServer) -> Any:
    """Amazon's own client."""
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )


def upload(server: FaultServer, bounds: Sequence[int], algorithm: str) -> None:
    """Upload the data in parts that begin and end there."""
    s3 = client(server)
    place: dict[str, Any] = {"Bucket": "bucket", "Key": "a"}
    place["UploadId"] = s3.create_multipart_upload(**place, ChecksumAlgorithm=algorithm)["UploadId"]
    parts = []
    for number, (start, stop) in enumerate(pairwise(bounds), start=1):
        part = s3.upload_part(**place, PartNumber=number, Body=DATA[start:stop], ChecksumAlgorithm=algorithm)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    s3.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})
    server.clear_requests()


def in_parts_of(part_bytes: int) -> list[int]:
    """Where equal parts end."""
    return [*range(0, SIZE, part_bytes), SIZE]


async def fetched(catalog: AsyncCatalog) -> FetchResult:
    """The result, the bytes looked at."""
    result = (await catalog.fetch_all())["a"]
    assert result.path.read_bytes() == DATA
    return result


def asked_for_parts(server: FaultServer) -> int:
    """How many requests were for the size of a part."""
    return sum("partNumber" in request.query for request in server.requests)


LAYOUTS = {
    "as-we-ask": in_parts_of(RANGE),
    "twice": in_parts_of(2 * RANGE),
    "larger": in_parts_of(RANGE + 10_000),
    "smaller": in_parts_of(40_000),
    "tiny": in_parts_of(7_001),
    "two": [0, 1_000_000, SIZE],
    "one": [0, SIZE],
    "odd": [0, 100_000, 130_000, 500_000, 500_001, SIZE],
    "odd-but-possible": [0, 60_000, *range(60_000 + RANGE, SIZE, RANGE), SIZE],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256"])
async def test_g1_object_is_compared_with_the_checksum_of_its_parts_checksums(
    server: FaultServer, catalog: AsyncCatalog, layout: str, algorithm: str
) -> None:
    """However large the parts were, and whatever their checksums are."""
    upload(server, LAYOUTS[layout], algorithm)
    assert algorithm.lower() == (await fetched(catalog)).verified_by


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("nth", [1, 7, 20])
async def test_g1_wrong_byte_in_any_part_is_noticed(
    server: FaultServer, catalog: AsyncCatalog, layout: str, nth: int, tmp_path: Path
) -> None:
    """A body of the right length with another byte in it is not published."""
    upload(server, LAYOUTS[layout], "CRC32")
    server.add_faults(WrongBytes(nth=nth, at=10))
    with pytest.raises(IntegrityError, match="crc32:"):
        await catalog.fetch("a")
    assert not (tmp_path / "cache" / "bucket" / "a").exists()


async def test_g1_wrong_byte_in_a_small_object_of_one_part_is_noticed(
    server: FaultServer, catalog: AsyncCatalog
) -> None:
    """What writers leave that always upload in parts: one part, and the checksum of its checksum."""
    s3 = client(server)
    upload_id = s3.create_multipart_upload(Bucket="bucket", Key="a", ChecksumAlgorithm="CRC32")["UploadId"]
    part = s3.upload_part(Bucket="bucket", Key="a", UploadId=upload_id, PartNumber=1, Body=b"small")
    s3.complete_multipart_upload(
        Bucket="bucket",
        Key="a",
        UploadId=upload_id,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    server.add_faults(WrongBytes(at=2))
    with pytest.raises(IntegrityError, match=r"crc32:.*-1"):
        await catalog.fetch("a")
    assert b"small" == (await catalog.fetch("a")).read_bytes()


@pytest.mark.parametrize(("layout", "questions"), [("as-we-ask", 0), ("twice", 1), ("two", 1)])
async def test_what_ends_where_the_parts_ended_is_not_read_again(
    server: FaultServer,
    catalog: AsyncCatalog,
    layout: str,
    questions: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The CRCs of the ranges are combined; the size of the parts is asked for where it isn't the usual one."""
    upload(server, LAYOUTS[layout], "CRC32")
    read: list[tuple[int, int]] = []

    def note(path: str, algorithm: str, start: int, stop: int) -> str:
        read.append((start, stop))
        return digest_file(path, algorithm, start, stop)

    digest_file = _staging.digest_file
    monkeypatch.setattr(_staging, "digest_file", note)
    await fetched(catalog)
    assert ([], questions) == (read, asked_for_parts(server))


async def test_store_that_does_not_know_of_parts_is_no_obstacle(server: FaultServer, catalog: AsyncCatalog) -> None:
    """Then the object is vouched for by lengths and ETag, and the result says that it was compared with nothing."""
    upload(server, LAYOUTS["twice"], "CRC32")
    server.add_faults(Status(method="HEAD", status=501, code="NotImplemented", nth=2, times=None))
    assert (await fetched(catalog)).verified_by is None


async def test_what_boto3_uploads_is_compared(server: FaultServer, tmp_path: Path) -> None:
    """With the defaults of both sides, and without a question about parts."""
    data = bytes(MIB) + DATA * 14  # 22 MB: three parts
    (tmp_path / "big").write_bytes(data)
    client(server).upload_file(str(tmp_path / "big"), "bucket", "a")
    server.clear_requests()
    storage = S3Storage(endpoint_url=server.endpoint_url, region="us-east-1")
    async with AsyncCatalog(
        [Dataset("a", "s3://bucket/a")], cache_dir=tmp_path / "cache", storage=storage, progress=False
    ) as catalog:
        result = (await catalog.fetch_all())["a"]
    assert ("crc32", 0, data) == (result.verified_by, asked_for_parts(server), result.path.read_bytes())
