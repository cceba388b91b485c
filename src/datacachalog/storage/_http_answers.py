"""What does an answer of HTTP say of the object: its version, its bytes, its digest? Without a socket.

What is a version, is the question of validators (RFC 9110, section 8.8):

- A strong ETag is one version's: it can be demanded of each part (`If-Match`).
- A weak ETag says that two versions mean the same, not that they have the same bytes: it can be asked with, but nothing
  that is put together of parts.
- A Last-Modified is strong if it is older, by a minute, than the moment of the answer: then no second change in the
  same second can follow. A younger one is no validator here: what it names is fetched again. With it goes the size.
- Without any of them nothing can be asked.

A Last-Modified is kept as an ETag with a space in it, which none of the remote's own can have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from .._digests import parse_digest
from .._models import FileMetadata
from ._http_fields import content_range, http_date

_ETAG = re.compile(r'(W/)?"([\x21\x23-\x7e]+)"')
_DATE = r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"
_TIMED = re.compile(rf"last-modified ({_DATE}), \d+ bytes")
_STRONG_AFTER = timedelta(seconds=60)  # RFC 9110, section 8.8.2.2, for clocks that may differ
_DIGEST_NAMES = {"sha-256": "sha256", "sha-512": "sha512"}
_DIGEST_MEMBER = re.compile(r"([A-Za-z][A-Za-z0-9*_.-]*)=:?([A-Za-z0-9+/]+=*):?")

WEAK = "its ETag is weak: a version that means the same counts as the same"
TIMED = "it has no ETag: a change is seen by its time, in seconds, and its size"
RECENT = "it has no ETag and was written just now: the next fetch downloads it again"
NONE = "it has neither ETag nor time: each fetch downloads it again"


@dataclass(frozen=True, slots=True)
class Validator:
    """What tells a version from others.

    Args:
        etag: as in `FileMetadata.etag`.
        is_strong: whether it may be demanded of parts.
        caveat: what it doesn't promise.
    """

    etag: str | None
    is_strong: bool = field(kw_only=True)
    caveat: str = field(kw_only=True)


def validator_of(headers: Mapping[str, str], size: int) -> Validator:
    """Give the validator of an answer, for an object of that size."""
    given = headers.get("ETag", "").strip()
    etag = _ETAG.fullmatch(given)
    if etag is not None:
        return Validator(etag[2], is_strong=not etag[1], caveat=WEAK if etag[1] else "")
    modified, date = headers.get("Last-Modified", "").strip(), _moment(headers.get("Date"))
    moment = _moment(modified)
    if moment is None or not re.fullmatch(_DATE, modified):
        return Validator(None, is_strong=False, caveat=NONE)
    if date is None or date - moment < _STRONG_AFTER:
        return Validator(None, is_strong=False, caveat=RECENT)
    return Validator(f"last-modified {modified}, {size} bytes", is_strong=True, caveat=TIMED)


def condition(etag: str, *, must_match: bool) -> dict[str, str]:
    """Give the header that demands a version (`must_match`), or asks for any other one."""
    timed = _TIMED.fullmatch(etag)
    if timed is not None:
        return {"If-Unmodified-Since" if must_match else "If-Modified-Since": timed[1]}
    return {"If-Match" if must_match else "If-None-Match": f'"{etag}"'}


def is_contradicted(etag: str, headers: Mapping[str, str]) -> bool:
    """Whether a 304 tells of another version than that one.

    So it is where a file was replaced by an older one, which If-Modified-Since doesn't see (RFC 9110, section 13.1.3).
    """
    timed, modified = _TIMED.fullmatch(etag), headers.get("Last-Modified")
    return timed is not None and modified is not None and modified.strip() != timed[1]


def caveat_of_unmodified(etag: str, headers: Mapping[str, str]) -> str:
    """Give what a 304 doesn't promise."""
    if _TIMED.fullmatch(etag):
        return TIMED
    return WEAK if headers.get("ETag", "").strip().startswith("W/") else ""


def metadata_of(headers: Mapping[str, str], size: int, validator: Validator, *, is_decoded: bool) -> FileMetadata:
    """Give what an answer says of the object."""
    return FileMetadata(
        etag=validator.etag,
        last_modified=_moment(headers.get("Last-Modified")),
        size=size,
        checksum=None if is_decoded else stated_digest(headers),  # of what is encoded, as it was sent
    )


def stated_digest(headers: Mapping[str, str]) -> str | None:
    """Give the digest that an answer states of the whole representation, also if it is a part.

    `Repr-Digest` (RFC 9530), else its forerunner `Digest` (RFC 3230). SHA-256 and SHA-512; the others are checksums
    against accidents that may be wrong themselves, or deprecated.
    """
    for header in ("Repr-Digest", "Digest"):
        stated = {name.lower(): value for name, value in _DIGEST_MEMBER.findall(headers.get(header, ""))}
        for name, algorithm in _DIGEST_NAMES.items():
            if name in stated:
                try:
                    return parse_digest(f"{algorithm}:{stated[name]}")
                except ValueError:
                    continue
    return None


def bytes_of(status: int, headers: Mapping[str, str]) -> tuple[int, int, int | None] | None:
    """Give which bytes an answer brings: start, stop, size of the whole; None where it is of no use as a range.

    A size of None: nobody knows it before the end. Then start and stop mean nothing.

    Raises:
        ValueError: it can't be understood.
    """
    if status == 200:
        length = headers.get("Content-Length")
        if length is None or "Transfer-Encoding" in headers:
            return 0, 0, None
        return 0, int(length), int(length)
    given = headers.get("Content-Range", "")
    # Several ranges where one was asked for, which RFC 9110 forbids (15.3.7.2), or a size that isn't told (14.4).
    if headers.get("Content-Type", "").strip().lower().startswith("multipart/byteranges") or given.endswith("/*"):
        return None
    start, stop, size = content_range(given)
    if not start < stop <= size:
        raise ValueError(f"Content-Range {given!r} is none of any object")
    return start, stop, size


def encoding_of(headers: Mapping[str, str], file_name: str) -> str:
    """Give how the bytes are encoded for their way (RFC 9110, section 8.4); nothing if they are as they are meant.

    Where the file's own name says the same, as `data.csv.gz` does, the encoding is the file's, and stays.
    """
    encodings = [name.strip().lower() for name in headers.get("Content-Encoding", "").split(",")]
    encoding = ", ".join(name.removeprefix("x-") for name in encodings if name not in ("", "identity"))
    return "" if encoding == "gzip" and file_name.lower().endswith((".gz", ".tgz", ".svgz")) else encoding


def _moment(text: str | None) -> datetime | None:
    try:
        moment = http_date(text) if text else None
    except ValueError:
        return None
    return None if moment is None or moment.tzinfo is None else moment
