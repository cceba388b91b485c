"""Sidecars: what is written can be read, and what is broken is a miss."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog import CacheMetadata
from datacachalog.cache._sidecar import decode, encode

METADATA = CacheMetadata(
    source='s3://bucket/ü "quoted" \\ key',
    etag="abc-2",
    last_modified=datetime(2024, 2, 29, 12, 30, 45, 123456, tzinfo=UTC),
    size=2**40,
    cached_at=datetime(2024, 3, 1, tzinfo=UTC),
    digest="md5:00",
    verified_by="md5",
    mtime_ns=1709209845123456789,
    version_id="v/1",
    pin="sha256:00",
)
TEXT = st.text(max_size=20) | st.sampled_from(["\udcff", "\ud800", "\x00", "\u2028"])
TIMES = st.datetimes(timezones=st.just(UTC) | st.just(timezone(timedelta(hours=-3, minutes=30))))


def changed(**values) -> bytes:
    return json.dumps(json.loads(encode(METADATA)) | values).encode()


@given(
    st.builds(
        CacheMetadata,
        source=TEXT,
        etag=st.none() | TEXT,
        last_modified=st.none() | TIMES,
        size=st.integers(0, 2**63),
        cached_at=TIMES,
        digest=TEXT,
        verified_by=st.none() | TEXT,
        mtime_ns=st.integers(0, 2**63),
        version_id=st.none() | TEXT,
        pin=st.none() | TEXT,
    )
)
def test_what_is_written_can_be_read(metadata):
    """Any metadata come back as they were: names that are no text and sizes beyond a float included."""
    assert metadata == decode(encode(metadata))


def test_sidecar_is_json_for_people():
    """Names as they are, times as people write them."""
    values = json.loads(encode(METADATA))
    assert (METADATA.source, 2**40, "2024-02-29T12:30:45.123456+00:00") == (
        values["source"],
        values["size"],
        values["last_modified"],
    )
    assert "ü" in encode(METADATA).decode()


def test_unknown_fields_are_left_out():
    """A field that a later version has added does no harm."""
    assert METADATA == decode(changed(added="later"))


@pytest.mark.parametrize("length", [0, 1, 10, 100, -2, -3])
def test_cut_sidecar_is_a_miss(length):
    """A sidecar that a crash cut short is none."""
    assert decode(encode(METADATA)[:length]) is None


@pytest.mark.parametrize(
    "text",
    [
        b"", b"\0" * 500, b"null", b"[]", b"{}", b'"text"', b"5", b"\xff\xfe\xfd", b"{" * 100_000, b"[" * 100_000,
        b"9" * 5000, b'{"format": 1}', b"not json at all", b"\x80\x81", b'{"format": 1, "size": NaN}',
    ],
    ids=range(15),
)  # fmt: skip  # one a line says no more
def test_text_that_is_no_sidecar_is_a_miss(text):
    """Zeros, other JSON, no JSON, too deep or no text: never an error."""
    assert decode(text) is None


@pytest.mark.parametrize("format_", [None, 0, 2, "1", [1]])
def test_sidecar_of_another_format_is_a_miss(format_):
    """A format that this version doesn't know is not guessed at."""
    assert decode(changed(format=format_)) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name in ("source", "digest", "size", "mtime_ns", "cached_at", "last_modified", "etag", "version_id", "pin")
        for value in (1.5, [], {}, True)
    ]
    + [("source", None), ("digest", None), ("size", None), ("mtime_ns", None), ("cached_at", None)]
    + [("source", 5), ("size", "5"), ("size", 1e3), ("etag", 5), ("verified_by", 5), ("mtime_ns", "5"), ("pin", 5)]
    + [("cached_at", "yesterday"), ("cached_at", 5), ("last_modified", ""), ("last_modified", 5)],
)
def test_field_of_another_type_is_a_miss(name, value):
    """Every field has its type, or the sidecar is none."""
    assert decode(changed(**{name: value})) is None


@pytest.mark.parametrize("name", ["cached_at", "last_modified"])
def test_time_without_a_zone_is_a_miss(name):
    """A naive time could not be compared with the others."""
    assert decode(changed(**{name: "2024-02-29T12:30:45"})) is None


@pytest.mark.parametrize("name", ["source", "etag", "size", "mtime_ns", "cached_at", "digest", "last_modified"])
def test_missing_field_is_a_miss_or_has_its_default(name):
    """A field that every sidecar has must be there."""
    values = json.loads(encode(METADATA))
    del values[name]
    found = decode(json.dumps(values).encode())
    assert found is None or (name == "mtime_ns" and found.mtime_ns == 0)
