"""What is the digest of these bytes? The algorithms that S3 stores and that people pin, in one spelling.

The CRCs are computed at memory speed by awscrt and can be combined: the CRC of a file follows from those of its parts,
in whatever order these arrived, without reading anything twice. MD5 and the SHAs need the bytes in order.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

CrcAlgorithm: TypeAlias = Literal["crc64nvme", "crc32c", "crc32"]

DIGEST_BYTES = {"crc64nvme": 8, "crc32c": 4, "crc32": 4, "sha256": 32, "sha512": 64, "sha1": 20, "md5": 16}
"""The algorithms, and how many bytes a digest of each has."""

DEFAULT_CRC: CrcAlgorithm = "crc64nvme"
"""What a file's digest is computed with when nothing else is asked for: S3's own default since December 2024."""

_READ_BYTES = 256 * 1024


class CrcFunctions(NamedTuple):
    """`update(chunk, previous)` and `combine(first, second, bytes of the second)`."""

    update: Callable[[bytes | memoryview, int], int]
    combine: Callable[[int, int, int], int]


@functools.cache
def crc_functions(algorithm: CrcAlgorithm) -> CrcFunctions:
    """Give the functions of a CRC: `update(chunk, previous)` and `combine(first, second, bytes of second)`.

    The first call imports awscrt, some 30 ms of reading: make it in a worker thread.
    """
    from awscrt import checksums

    return {
        "crc64nvme": CrcFunctions(checksums.crc64nvme, checksums.combine_crc64nvme),
        "crc32c": CrcFunctions(checksums.crc32c, checksums.combine_crc32c),
        "crc32": CrcFunctions(checksums.crc32, checksums.combine_crc32),
    }[algorithm]


def crc_algorithm_of(digest: str | None) -> CrcAlgorithm | None:
    """Tell which CRC a digest is; None if it isn't one."""
    algorithm = (digest or "").partition(":")[0]
    return next((crc for crc in get_args(CrcAlgorithm) if crc == algorithm), None)


def format_crc(algorithm: CrcAlgorithm, value: int) -> str:
    """Write a CRC as S3 does: big-endian, base64."""
    return format_digest(algorithm, value.to_bytes(DIGEST_BYTES[algorithm], "big"))


def parse_crc(digest: str) -> int:
    """Read a CRC as `format_crc` writes it."""
    return int.from_bytes(_raw(digest), "big")


def format_digest(algorithm: str, digest: bytes) -> str:
    """Write a digest the way S3 and people do: base64 for the CRCs, hexadecimal for the others."""
    text = base64.b64encode(digest).decode() if algorithm.startswith("crc") else digest.hex()
    return f"{algorithm}:{text}"


def parse_digest(text: str) -> str:
    """Give a digest, in hexadecimal or base64, in its canonical spelling.

    Raises:
        ValueError: unknown algorithm, or a value of another length; the text says which.
    """
    algorithm, separator, value = text.partition(":")
    algorithm = algorithm.strip().lower()
    if not separator or algorithm not in DIGEST_BYTES:
        raise ValueError(f"a checksum is '<algorithm>:<digest>' with one of {', '.join(DIGEST_BYTES)}: got {text!r}")
    width = DIGEST_BYTES[algorithm]
    value = value.strip()
    try:
        # The base64 of 4 bytes is as long as their hexadecimal, but ends in "==".
        is_hexadecimal = len(value) == 2 * width and not value.endswith("=")
        digest = bytes.fromhex(value) if is_hexadecimal else base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        digest = b""
    if len(digest) != width:
        raise ValueError(f"a {algorithm} digest is {width} bytes in hexadecimal or base64: got {value!r}")
    return format_digest(algorithm, digest)


class PartsChecksum(NamedTuple):
    """The checksum of the checksums of an object's parts: what S3 calls composite.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
    """

    digest: str
    """As `format_digest` writes it."""
    parts: int
    """How many they are, at least 1."""

    @property
    def algorithm(self) -> str:
        """What the parts, and then their checksums, were digested with."""
        return self.digest.partition(":")[0]

    def __str__(self) -> str:
        return f"{self.digest}-{self.parts}"

    @classmethod
    def of(cls, digests: Sequence[str]) -> PartsChecksum:
        """Compute it from the digests of the parts, in order, all of one algorithm."""
        algorithm = digests[0].partition(":")[0]
        return cls(digest_chunks(algorithm, map(_raw, digests)), len(digests))

    @classmethod
    def parse(cls, text: str) -> PartsChecksum:
        """Read what `str` gives, or S3 has in its headers behind the name of an algorithm and a colon.

        Raises:
            ValueError: it is something else.
        """
        digest, separator, parts = text.rpartition("-")
        if not separator or not re.fullmatch("[1-9][0-9]{0,4}", parts):
            raise ValueError(f"the checksum of parts ends in their number: got {text!r}")
        return cls(parse_digest(digest), int(parts))


def _raw(digest: str) -> bytes:
    algorithm, _, value = digest.partition(":")
    return base64.b64decode(value) if algorithm.startswith("crc") else bytes.fromhex(value)


def digest_chunks(algorithm: str, chunks: Iterable[bytes]) -> str:
    """Compute the digest of the chunks, one after the other."""
    crc = crc_algorithm_of(f"{algorithm}:")
    if crc is not None:
        update, value = crc_functions(crc).update, 0
        for chunk in chunks:
            value = update(chunk, value)
        return format_crc(crc, value)
    hasher = hashlib.new(algorithm, usedforsecurity=False)
    for chunk in chunks:
        hasher.update(chunk)
    return format_digest(algorithm, hasher.digest())


def digest_file(path: str, algorithm: str, start: int = 0, stop: int | None = None) -> str:
    """Compute the digest of a file, or of its bytes `start` (inclusive) to `stop` (exclusive). Blocks."""
    with open(path, "rb", buffering=0) as file:
        file.seek(start)

        def read() -> bytes:
            return file.read(_READ_BYTES if stop is None else min(_READ_BYTES, stop - file.tell()))

        return digest_chunks(algorithm, iter(read, b""))
