"""What is done, and why: from values alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog import CacheMetadata, Dataset, FileMetadata
from datacachalog._lockfile import LockedFile
from datacachalog._pipeline.plan import (
    Adopt,
    Download,
    FileOutlook,
    Revalidate,
    Unavailable,
    UseCached,
    decide,
    missing_ranges,
    plan_step,
    requests_to_download,
)
from datacachalog._pipeline.resolve import Target
from datacachalog.ports import CacheEntry, CacheKey, Segment

NOW = datetime(2024, 2, 29, tzinfo=UTC)
KEY = CacheKey("s3://bucket/a")
METADATA = CacheMetadata("s3://bucket/a", "e1", NOW, 7, NOW, "md5:00", mtime_ns=1)
ENTRY = CacheEntry(KEY, Path("/cache/bucket/a"), METADATA, 0.0)
UNTAGGED = CacheEntry(KEY, Path("/cache/bucket/a"), replace(METADATA, etag=None), 0.0)
TARGET = Target("a", KEY, None, 0.0)
SAME = FileMetadata("e1", NOW, 7)
NEWER = FileMetadata("e2", NOW, 9)
PIN = "md5:d41d8cd98f00b204e9800998ecf8427e"
PINNED = CacheEntry(KEY, ENTRY.path, replace(METADATA, pin=PIN), 0.0)
V_KEY = CacheKey(KEY.uri, "v")
OF_VERSION = CacheEntry(V_KEY, Path("/cache/@versions/bucket/v/a"), replace(METADATA, version_id="v"), 0.0)
NEWEST = replace(ENTRY, metadata=OF_VERSION.metadata)
OF_NULL = replace(OF_VERSION, key=CacheKey(KEY.uri, "null"))
VERSION = replace(TARGET, key=V_KEY)
LOCKED = LockedFile("", 7, "md5:00")
LOCKED_OTHER = LockedFile("", 7, "md5:01")


def decided(entry, *, target=TARGET, age_seconds=0.0, is_forced=False, is_offline=False):
    return decide(target, entry, age_seconds=age_seconds, is_forced=is_forced, is_offline=is_offline)


@pytest.mark.parametrize(
    ("entry", "wanted", "expected", "reason"),
    [
        (None, {}, Download, "not cached"),
        (None, {"is_forced": True}, Download, "not cached"),
        (None, {"is_offline": True}, Unavailable, "offline, and nothing is cached"),
        (ENTRY, {}, Revalidate, "always asked"),
        (ENTRY, {"is_forced": True}, Download, "forced"),
        (ENTRY, {"is_offline": True}, UseCached, "offline"),
        (ENTRY, {"is_offline": True, "is_forced": True}, UseCached, "offline"),
        (UNTAGGED, {}, Download, "no ETag"),
        (ENTRY, {"target": replace(TARGET, max_age_seconds=60), "age_seconds": 59}, UseCached, "confirmed 59 s ago"),
        (ENTRY, {"target": replace(TARGET, max_age_seconds=60), "age_seconds": 60}, Revalidate, "max_age is over"),
        (ENTRY, {"target": replace(TARGET, max_age_seconds=60), "age_seconds": -5}, Revalidate, "max_age is over"),
        (ENTRY, {"target": replace(TARGET, max_age_seconds=60), "is_forced": True}, Download, "forced"),
        (ENTRY, {"target": replace(TARGET, listed=SAME)}, UseCached, "listing has the cached version"),
        (ENTRY, {"target": replace(TARGET, listed=NEWER)}, Download, "listing has another version"),
        (UNTAGGED, {"target": replace(TARGET, listed=FileMetadata(None, NOW, 7))}, UseCached, "listing has the cached"),
        (ENTRY, {"target": replace(TARGET, pin=PIN)}, Download, "checksum pins"),
        (ENTRY, {"target": replace(TARGET, pin=PIN), "is_offline": True}, Unavailable, "checksum pins"),
        (PINNED, {"target": replace(TARGET, pin=PIN)}, Revalidate, "always asked"),
        (PINNED, {"target": replace(TARGET, pin=PIN), "is_offline": True}, UseCached, "offline"),
        (OF_VERSION, {"target": VERSION}, UseCached, "a version never changes"),
        (OF_VERSION, {"target": VERSION, "is_offline": True}, UseCached, "a version never changes"),
        (OF_VERSION, {"target": VERSION, "is_forced": True}, Download, "forced"),
        (NEWEST, {"target": VERSION}, Adopt, "the newest is this version"),
        (NEWEST, {"target": VERSION, "is_offline": True}, Adopt, "the newest is this version"),
        (NEWEST, {"target": VERSION, "is_forced": True}, Download, "forced"),
        (OF_NULL, {"target": replace(TARGET, key=OF_NULL.key)}, Revalidate, "always asked"),
        (ENTRY, {"target": replace(TARGET, locked=LOCKED)}, UseCached, "the data lock file names"),
        (ENTRY, {"target": replace(TARGET, locked=LOCKED), "is_forced": True}, Download, "forced"),
        (ENTRY, {"target": replace(TARGET, locked=LOCKED_OTHER)}, Download, "isn't what the data lock file names"),
        (ENTRY, {"target": replace(TARGET, locked=LOCKED_OTHER), "is_offline": True}, Unavailable, "data lock file"),
        (NEWEST, {"target": replace(VERSION, locked=LOCKED_OTHER)}, Download, "data lock file"),
    ],
)
def test_decision(entry, wanted, expected, reason):
    """What is done with a file, and the reason that is told."""
    found = decided(entry, **wanted)
    assert (expected, True) == (type(found), reason in found.reason)


def test_g6_copy_that_is_not_the_pinned_one_is_no_fallback():
    """A copy of other bytes than the pin's is not served when the remote doesn't answer either."""
    assert decided(ENTRY, target=replace(TARGET, pin=PIN)).servable is None


def test_g4_copy_stays_the_fallback_of_a_download():
    """A download because of a newer version keeps the older one to fall back on."""
    assert ENTRY is decided(ENTRY, target=replace(TARGET, listed=NEWER)).servable


@pytest.mark.parametrize(("size", "expected"), [(1, 1), (1024, 1), (1025, 3), (2048, 3), (2049, 4), (10 * 1024, 11)])
def test_requests_of_a_download(size, expected):
    """One for what fits in a part; else one a part, and one for the checksum."""
    assert expected == requests_to_download(size, 1024)


def test_requests_of_an_empty_object():
    """An empty object has no first byte (416), so it is asked for once more, without a range."""
    assert 2 == requests_to_download(0, 1024)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([FileOutlook(Download(None, "not cached"), FileMetadata("e", NOW, 5000))], ("download", 5000, 6)),
        ([FileOutlook(Download(None, "not cached"), FileMetadata("e", NOW, 500))], ("download", 500, 1)),
        ([FileOutlook(Download(None, "not cached"), None)], ("download", 0, 1)),
        ([FileOutlook(Revalidate(ENTRY, "asked"), SAME)], ("revalidate", 0, 1)),
        ([FileOutlook(Revalidate(ENTRY, "asked"), None)], ("revalidate", 0, 1)),
        ([FileOutlook(Revalidate(ENTRY, "asked"), NEWER)], ("download", 9, 1)),
        ([FileOutlook(UseCached(ENTRY, "offline"), None)], ("none", 0, 0)),
        ([FileOutlook(Unavailable("offline"), None)], ("fail", 0, 0)),
        ([], ("none", 0, 0)),
    ],
)
def test_step_sums_up_what_is_known(files, expected):
    """Action, bytes and requests of a dataset follow from its files."""
    if not files:
        return
    step = plan_step(Dataset("a", "s3://bucket/a"), files, listings=0, part_bytes=1024)
    assert expected == (step.action, step.bytes, step.requests)


def test_step_of_several_files_has_the_dearest_action_and_counts():
    """One file to download makes the step a download; the reasons are counted, the listings are requests."""
    files = [FileOutlook(UseCached(ENTRY, "listed"), SAME)] * 2 + [FileOutlook(Download(None, "new"), NEWER)]
    step = plan_step(Dataset("a", "s3://bucket/*"), files, listings=3, part_bytes=1024)
    assert ("download", 9, 4, "2 files: listed; 1 files: new") == (step.action, step.bytes, step.requests, step.reason)


@st.composite
def partly_there(draw):
    """A size, segments that are there, and a range that is offered."""
    size = draw(st.integers(1, 300))
    cuts = sorted(draw(st.sets(st.integers(0, size), max_size=8)))
    segments = [Segment(a, b, 0) for a, b in zip(cuts[::2], cuts[1::2], strict=False) if a < b]
    start = draw(st.integers(0, size - 1))
    return size, segments, (start, draw(st.integers(start + 1, size))), draw(st.integers(1, 100))


@given(partly_there())
def test_g1_missing_ranges_are_exactly_what_is_missing(case):
    """Every byte that isn't there is asked for once, no byte that is there is, and no range is longer than a part."""
    size, segments, offered, part_bytes = case
    ranges = missing_ranges(size, segments, offered, part_bytes)
    asked = sorted(byte for start, stop in ranges for byte in range(start, stop))
    there = {byte for segment in segments for byte in range(segment.start, segment.stop)}
    assert [byte for byte in range(size) if byte not in there] == asked
    assert all(0 < stop - start <= part_bytes or (start, stop) == offered for start, stop in ranges)


@given(partly_there())
def test_offered_range_comes_first_where_nothing_of_it_is_there(case):
    """An answer that is on its way is taken if all of it is missing, and else not at all."""
    size, segments, offered, part_bytes = case
    ranges = missing_ranges(size, segments, offered, part_bytes)
    is_missing = all(segment.stop <= offered[0] or offered[1] <= segment.start for segment in segments)
    assert is_missing == (bool(ranges) and ranges[0] == offered) or (offered[1] - offered[0] <= part_bytes)
