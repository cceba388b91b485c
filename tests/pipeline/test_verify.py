"""Are these the object's bytes? Length, the remote's checksum, the dataset's pin."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from datacachalog import FileCache, FileMetadata, IntegrityError
from datacachalog._digests import DIGEST_BYTES, digest_chunks
from datacachalog._pipeline.resolve import Target
from datacachalog._pipeline.transfer import Staged
from datacachalog._pipeline.verify import verify
from datacachalog.ports import CacheKey

DATA = (b"some", b"", b" content")
WHOLE = b"".join(DATA)
KEY = CacheKey("s3://bucket/a")
METADATA = FileMetadata("e", datetime(2024, 2, 29, tzinfo=UTC), len(WHOLE))
DIGEST = digest_chunks("crc64nvme", DATA)
STAGED = Staged(METADATA, DATA, len(WHOLE), DIGEST, len(WHOLE))
TARGET = Target("a", KEY, None, 0.0)
LARGE = (bytes(100_000),)


def staged(checksum: str | None, data: tuple[bytes, ...] = DATA) -> Staged:
    size = sum(map(len, data))
    return Staged(replace(METADATA, checksum=checksum, size=size), data, size, digest_chunks("crc64nvme", data), size)


async def test_without_anything_to_compare_with_the_length_is_compared():
    """What has only its length says so: `verified_by` is None."""
    verified = await verify(STAGED, TARGET)
    assert (KEY, METADATA, DATA, DIGEST, None) == (
        verified.key,
        verified.metadata,
        verified.content,
        verified.digest,
        verified.verified_by,
    )


@pytest.mark.parametrize("length", [0, len(WHOLE) - 1, len(WHOLE) + 1])
async def test_g1_other_length_is_refused(length):
    """Fewer or more bytes than announced are not the object."""
    with pytest.raises(IntegrityError) as caught:
        await verify(replace(STAGED, length=length), TARGET)
    assert (f"{len(WHOLE)} bytes", f"{length} bytes") == (caught.value.expected, caught.value.got)


@pytest.mark.parametrize("algorithm", DIGEST_BYTES)
@pytest.mark.parametrize("data", [DATA, LARGE], ids=["small", "large"])
async def test_bytes_with_the_remotes_checksum_are_verified(algorithm, data):
    """Each algorithm is compared, in memory, small or large."""
    verified = await verify(staged(digest_chunks(algorithm, data), data), TARGET)
    assert algorithm == verified.verified_by


@pytest.mark.parametrize("algorithm", DIGEST_BYTES)
@pytest.mark.parametrize("data", [DATA, LARGE], ids=["small", "large"])
async def test_g1_bytes_with_another_checksum_are_refused(algorithm, data):
    """Both digests are told, and the object."""
    expected = digest_chunks(algorithm, [b"other"])
    with pytest.raises(IntegrityError) as caught:
        await verify(staged(expected, data), TARGET)
    assert ("s3://bucket/a", expected, digest_chunks(algorithm, data)) == (
        caught.value.uri,
        caught.value.expected,
        caught.value.got,
    )


async def test_pin_goes_with_what_is_verified():
    """A copy remembers the pin that it was compared with."""
    pin = digest_chunks("sha256", DATA)
    verified = await verify(staged(digest_chunks("md5", DATA)), replace(TARGET, pin=pin))
    assert ("sha256", pin) == (verified.verified_by, verified.pin)


@pytest.mark.parametrize("checksum", [None, digest_chunks("md5", DATA)])
async def test_g1_bytes_that_are_not_the_pinned_ones_are_refused(checksum):
    """The pin counts although the remote's own checksum is right."""
    with pytest.raises(IntegrityError):
        await verify(staged(checksum), replace(TARGET, pin=digest_chunks("sha256", [b"other"])))


async def test_g1_right_pin_does_not_excuse_a_wrong_checksum():
    """Both are compared."""
    with pytest.raises(IntegrityError):
        await verify(staged(digest_chunks("md5", [b"other"])), replace(TARGET, pin=digest_chunks("sha256", DATA)))


@pytest.mark.parametrize("algorithm", DIGEST_BYTES)
async def test_staged_file_is_compared_on_disk(tmp_path, algorithm):
    """A file on disk is read once for a digest that was not computed as it came."""
    cache = FileCache(tmp_path / "cache")
    async with cache.stage(KEY, METADATA, "crc64nvme") as staging:
        async with staging.part(0, len(WHOLE)) as writer:
            await writer.write(DATA)
        on_disk = Staged(
            replace(METADATA, checksum=digest_chunks(algorithm, DATA)), staging, len(WHOLE), DIGEST, len(WHOLE)
        )
        assert algorithm == (await verify(on_disk, TARGET)).verified_by


async def test_empty_object_is_verified():
    """No bytes have a digest too."""
    verified = await verify(staged(digest_chunks("md5", ()), ()), TARGET)
    assert ("md5", 0) == (verified.verified_by, verified.metadata.size)
