"""What is decided about an upload before anything is sent?"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest

from datacachalog import CacheMetadata, FileMetadata
from datacachalog._pipeline.upload import (
    Anything,
    Nothing,
    Version,
    content_type_of,
    is_as_expected,
    multipart_etag,
    part_size,
)
from datacachalog.ports import UploadedPart

MIB = 1024**2
GIB = 1024**3
TIB = 1024**4
DEFAULT = 8 * MIB
THEN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size", "part_bytes", "expected"),
    [
        (0, DEFAULT, DEFAULT),
        (GIB, DEFAULT, DEFAULT),
        (10_000 * DEFAULT, DEFAULT, DEFAULT),
        (10_000 * DEFAULT + 1, DEFAULT, 9 * MIB),
        (5 * TIB, DEFAULT, 525 * MIB),
        (GIB, 1024, 5 * MIB),
        (GIB, 7_000_000, 7_000_000),
        (GIB, 10 * GIB, 5 * GIB),
        (10_000 * 5 * GIB, DEFAULT, 5 * GIB),
    ],
)
def test_parts_grow_with_the_file(size: int, part_bytes: int, expected: int) -> None:
    """As large as is wanted, 5 MiB to 5 GiB, and never more than 10 000 of them."""
    assert expected == part_size(size, part_bytes)


@pytest.mark.parametrize("size", [1, GIB, 80 * GIB, 5 * TIB, 10_000 * 5 * GIB])
def test_no_object_takes_more_parts_than_there_are_numbers(size: int) -> None:
    """10 000 is the last one."""
    assert -(-size // part_size(size, DEFAULT)) <= 10_000


def test_a_file_larger_than_any_object_is_refused() -> None:
    """Before anything is sent."""
    with pytest.raises(ValueError, match="more than 10,000 parts"):
        part_size(10_000 * 5 * GIB + 1, DEFAULT)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket/a.csv", "text/csv"),
        ("s3://bucket/a.json", "application/json"),
        ("s3://bucket/a.csv.gz", "application/gzip"),
        ("s3://bucket/a.tar.xz", "application/x-xz"),
        ("s3://bucket/a.no-such-suffix", "application/octet-stream"),
        ("s3://bucket/dir.csv/a", "application/octet-stream"),
        ("/data/a.txt", "text/plain"),
    ],
)
def test_the_media_type_follows_from_the_name(uri: str, expected: str) -> None:
    """What is compressed is given back compressed, so it is of its compression's type."""
    assert expected == content_type_of(uri)


def part(etag: str | None) -> UploadedPart:
    return UploadedPart(1, 5, etag, "crc64nvme:AAAAAAAAAAA=")


def test_the_etag_of_an_upload_follows_from_its_parts() -> None:
    """The MD5 of their MD5s, and how many they are."""
    digests = [hashlib.md5(data).digest() for data in (b"one", b"two")]
    expected = f"{hashlib.md5(b''.join(digests)).hexdigest()}-2"
    assert expected == multipart_etag([part(digest.hex()) for digest in digests])


@pytest.mark.parametrize("etag", [None, "", "something-else"])
def test_other_etags_tell_nothing(etag: str | None) -> None:
    """Encrypted parts have ETags that are no MD5."""
    assert multipart_etag([part(etag)]) is None


def cached(etag: str | None) -> Version:
    return Version(CacheMetadata("s3://b/k", etag, THEN, 3, THEN, "crc64nvme:AAAAAAAAAAA="))


@pytest.mark.parametrize(
    ("expected", "found", "is_expected"),
    [
        (Anything(), None, True),
        (Anything(), FileMetadata("x", THEN, 3), True),
        (Nothing(), None, True),
        (Nothing(), FileMetadata("x", THEN, 3), False),
        (cached("x"), FileMetadata("x", None, 3), True),
        (cached("x"), FileMetadata("y", THEN, 3), False),
        (cached("x"), None, False),
        (cached(None), FileMetadata("y", THEN, 3), True),
        (cached(None), FileMetadata("y", THEN, 4), False),
    ],
)
def test_g9_only_what_is_expected_may_be_overwritten(expected, found, is_expected) -> None:
    """By ETag; by time and size where there is none."""
    assert is_expected == is_as_expected(expected, found)
