"""What an answer of HTTP says, without a socket."""

from __future__ import annotations

import base64
import hashlib

import pytest

from datacachalog.storage._http_answers import (
    NONE,
    RECENT,
    TIMED,
    WEAK,
    Validator,
    bytes_of,
    condition,
    encoding_of,
    is_contradicted,
    stated_digest,
    validator_of,
)

THEN, LATER = "Sat, 28 Nov 2026 05:00:00 GMT", "Sat, 28 Nov 2026 05:01:00 GMT"
SOON = "Sat, 28 Nov 2026 05:00:59 GMT"
SHA256 = hashlib.sha256(b"data")
SHA512 = hashlib.sha512(b"data")


def base64_of(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"ETag": '"abc"'}, Validator("abc", is_strong=True, caveat="")),
        ({"ETag": '"abc"', "Last-Modified": THEN}, Validator("abc", is_strong=True, caveat="")),
        ({"ETag": 'W/"abc"'}, Validator("abc", is_strong=False, caveat=WEAK)),
        (
            {"Last-Modified": THEN, "Date": LATER},
            Validator(f"last-modified {THEN}, 7 bytes", is_strong=True, caveat=TIMED),
        ),
        (
            {"ETag": "", "Last-Modified": THEN, "Date": LATER},
            Validator(f"last-modified {THEN}, 7 bytes", is_strong=True, caveat=TIMED),
        ),
        ({"Last-Modified": THEN, "Date": SOON}, Validator(None, is_strong=False, caveat=RECENT)),
        ({"Last-Modified": THEN}, Validator(None, is_strong=False, caveat=RECENT)),
        ({"Last-Modified": LATER, "Date": THEN}, Validator(None, is_strong=False, caveat=RECENT)),
        ({"Last-Modified": "yesterday", "Date": LATER}, Validator(None, is_strong=False, caveat=NONE)),
        ({"ETag": "no quotes"}, Validator(None, is_strong=False, caveat=NONE)),
        ({"ETag": '""'}, Validator(None, is_strong=False, caveat=NONE)),
        ({"ETag": '"\udce4"'}, Validator(None, is_strong=False, caveat=NONE)),
        ({}, Validator(None, is_strong=False, caveat=NONE)),
    ],
)
def test_validator_is_the_best_that_the_answer_has(headers, expected):
    """An ETag goes before a time, and a time counts only a minute later (RFC 9110, section 8.8.2.2)."""
    assert expected == validator_of(headers, 7)


@pytest.mark.parametrize(
    ("etag", "must_match", "expected"),
    [
        ("abc", True, {"If-Match": '"abc"'}),
        ("abc", False, {"If-None-Match": '"abc"'}),
        (f"last-modified {THEN}, 7 bytes", True, {"If-Unmodified-Since": THEN}),
        (f"last-modified {THEN}, 7 bytes", False, {"If-Modified-Since": THEN}),
        ("last-modified never, 7 bytes", False, {"If-None-Match": '"last-modified never, 7 bytes"'}),
    ],
)
def test_version_is_asked_for_by_what_it_is_known_by(etag, must_match, expected):
    """ETags in one pair of headers, times in the other (RFC 9110, section 13.1)."""
    assert expected == condition(etag, must_match=must_match)


@pytest.mark.parametrize(
    ("headers", "expected"), [({}, False), ({"Last-Modified": THEN}, False), ({"Last-Modified": LATER}, True)]
)
def test_unmodified_of_another_time_is_not_believed(headers, expected):
    """A file that an older one has replaced is "not modified since" for a server that compares times by their order."""
    assert expected == is_contradicted(f"last-modified {THEN}, 7 bytes", headers)


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {"Content-Length": "5"}, (0, 5, 5)),
        (200, {}, (0, 0, None)),
        (200, {"Transfer-Encoding": "chunked"}, (0, 0, None)),
        (206, {"Content-Range": "bytes 2-4/9"}, (2, 5, 9)),
        (206, {"Content-Range": "bytes 2-4/*"}, None),
        (206, {"Content-Type": "multipart/byteranges; boundary=x"}, None),
    ],
)
def test_bytes_of_an_answer(status, headers, expected):
    """A range whose size isn't told, and several where one was asked for, are of no use."""
    assert expected == bytes_of(status, headers)


@pytest.mark.parametrize("value", ["", "bytes 4-2/9", "bytes 2-9/9", "items 2-4/9", "bytes 2-4/x", "bytes */9"])
def test_range_that_is_none_is_refused(value):
    """Content-Range of a 206 is a range of the object (RFC 9110, section 14.4)."""
    with pytest.raises(ValueError, match="Content-Range"):
        bytes_of(206, {"Content-Range": value})


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Repr-Digest": f"sha-256=:{base64_of(SHA256.digest())}:"}, f"sha256:{SHA256.hexdigest()}"),
        ({"Repr-Digest": f"sha-512=:{base64_of(SHA512.digest())}:"}, f"sha512:{SHA512.hexdigest()}"),
        (
            {"Repr-Digest": f"sha-512=:{base64_of(SHA512.digest())}:, sha-256=:{base64_of(SHA256.digest())}:"},
            f"sha256:{SHA256.hexdigest()}",
        ),
        ({"Digest": f"unixsum=30637,SHA-256={base64_of(SHA256.digest())}"}, f"sha256:{SHA256.hexdigest()}"),
        ({"Repr-Digest": "crc32c=:AAAAAA==:", "Digest": "unixsum=30637"}, None),
        ({"Repr-Digest": "sha-256=:AAAA:"}, None),
        ({"Repr-Digest": "sha-256"}, None),
        ({}, None),
    ],
)
def test_digest_of_the_whole_is_read(headers, expected):
    """Repr-Digest (RFC 9530) and Digest (RFC 3230), SHA-256 before SHA-512; what can't be one is none."""
    assert expected == stated_digest(headers)


@pytest.mark.parametrize(
    ("encoding", "name", "expected"),
    [
        ("", "a.csv", ""),
        ("identity", "a.csv", ""),
        ("gzip", "a.csv", "gzip"),
        ("x-gzip", "a.csv", "gzip"),
        ("gzip", "a.csv.gz", ""),
        ("x-gzip", "A.TGZ", ""),
        ("br", "a.csv.gz", "br"),
        ("gzip, gzip", "a.csv.gz", "gzip, gzip"),
    ],
)
def test_encoding_that_the_name_has_is_the_files_own(encoding, name, expected):
    """Servers say of `a.csv.gz` that it is gzip, of which nothing is to be undone."""
    assert expected == encoding_of({"Content-Encoding": encoding}, name)
