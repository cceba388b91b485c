"""The values: what they refuse, how they compare, that they pickle."""

from __future__ import annotations

import os
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from datacachalog import (
    CacheInfo,
    CacheMetadata,
    CatalogConfig,
    ConfigurationError,
    Dataset,
    DatasetStatus,
    FetchAllError,
    FetchReport,
    FetchResult,
    FileMetadata,
    Freshness,
    MultiFileDatasetError,
    ObjectNotFoundError,
    ObjectVersion,
    Plan,
    PlanStep,
    PushReport,
)
from datacachalog._models import normalize_etag

NOW = datetime(2024, 2, 29, tzinfo=UTC)
MD5 = "d41d8cd98f00b204e9800998ecf8427e"


def result(name="a", **changes) -> FetchResult:
    values = {"paths": (Path(f"/cache/{name}"),), "action": "downloaded", "bytes_downloaded": 7, "reason": "not cached"}
    return FetchResult(name, **(values | changes))


VALUES = [
    CacheInfo(1, 1, {"a": 1}),
    CacheMetadata("s3://b/k", "e", NOW, 1, NOW, "md5:x"),
    CatalogConfig(),
    Dataset("a", "s3://b/k", tags=["x"], max_age=timedelta(hours=1), checksum=f"md5:{MD5}", reader=len),
    DatasetStatus("a", "s3://b/k", Freshness.FRESH, Path("/x"), 1, NOW, "why"),
    result(),
    FetchReport({"a": result()}, {"b": ObjectNotFoundError("s3://b/k", "404")}, 2, 0.1),
    PushReport({"a": FileMetadata("e", NOW, 1)}, {"b": ObjectNotFoundError("s3://b/k", "404")}, 2, 0.1, 1),
    FileMetadata("e", NOW, 1),
    ObjectVersion("v", NOW, "e", 1, is_latest=True, is_delete_marker=False),
    PlanStep("a", "s3://b/k", "download", 1, "why", 1),
    Plan((PlanStep("a", "s3://b/k", "download", 1, "why", 1),), 1, 1),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_pickle(value):
    """A value survives a process pool."""
    assert repr(value) == repr(pickle.loads(pickle.dumps(value)))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_frozen(value):
    """No field can be set."""
    with pytest.raises((AttributeError, TypeError)):
        setattr(value, next(iter(type(value).__slots__)), None)


# -- Dataset


@pytest.mark.parametrize("name", ["", " ", " a", "a ", "a\n", "a\x00b", "\x1b[2J", 5, None])
def test_name_that_cannot_be_printed_or_seen_is_refused(name):
    """A name is printable text without space around it."""
    with pytest.raises(ConfigurationError, match="name"):
        Dataset(name, "s3://b/k")


@pytest.mark.parametrize("name", ["a", "customers 2024", "Kunden/Öl", "日本", "a.b-c_d"])
def test_name_may_be_any_text(name):
    """Spaces within, slashes and other scripts are fine."""
    assert name == Dataset(name, "s3://b/k").name


@pytest.mark.parametrize("source", ["", "  ", b"s3://b/k"])
def test_empty_source_is_refused(source):
    """A source says something, and is text."""
    with pytest.raises(ConfigurationError, match="source"):
        Dataset("a", source)


def test_source_may_be_a_path():
    """A `Path` is taken as text."""
    assert str(Path("/data/a.csv")) == Dataset("a", Path("/data/a.csv")).source


@pytest.mark.parametrize("max_age", [-1, -0.001, float("nan"), timedelta(seconds=-1), "60", [1]])
def test_max_age_that_cannot_be_is_refused(max_age):
    """A number of seconds, at least 0; anything else says so."""
    with pytest.raises(ConfigurationError, match="max_age"):
        Dataset("a", "s3://b/k", max_age=max_age)


def test_max_age_may_be_a_timedelta():
    """A `timedelta` is kept in seconds."""
    assert 90.0 == Dataset("a", "s3://b/k", max_age=timedelta(minutes=1.5)).max_age


def test_tags_are_words_and_not_one_text():
    """`tags="raw"` would be three tags; it is refused."""
    with pytest.raises(ConfigurationError, match="tags"):
        Dataset("a", "s3://b/k", tags="raw")


def test_reader_that_cannot_be_called_is_refused():
    """A reader is a callable."""
    with pytest.raises(ConfigurationError, match="reader"):
        Dataset("a", "s3://b/k", reader="pandas.read_csv")


@pytest.mark.parametrize("checksum", ["", "md5", f"md4:{MD5}", "md5:abc", "sha256:" + "g" * 64, 5])
def test_checksum_that_cannot_be_is_refused(checksum):
    """An unknown algorithm or a digest of another length says what is expected, and of which dataset."""
    with pytest.raises(ConfigurationError, match="'a'"):
        Dataset("a", "s3://b/k", checksum=checksum)


def test_checksum_is_kept_in_one_spelling():
    """Capitals and spaces make no other pin."""
    assert f"md5:{MD5}" == Dataset("a", "s3://b/k", checksum=f"MD5: {MD5.upper()}").checksum


@pytest.mark.parametrize("source", ["s3://b/", "s3://b/*.csv", "s3://b/a?", "s3://b/[ab]"])
def test_checksum_of_several_files_is_refused(source):
    """A pin is for one file."""
    with pytest.raises(ConfigurationError, match="pins one file"):
        Dataset("a", source, checksum=f"md5:{MD5}")


@pytest.mark.parametrize(
    ("source", "expected"),
    [("s3://b/k", False), ("s3://b/k/", True), ("s3://b/*", True), ("s3://b/k?", True), ("s3://b/[k]", True)],
)
def test_source_with_wildcards_or_a_last_slash_is_several_files(source, expected):
    """Only such a source may be any number of files."""
    assert expected == Dataset("a", source).is_multi_file


# -- FileMetadata


@pytest.mark.parametrize(
    ("etag", "expected"),
    [
        ('"a"', "a"),
        ('W/"a"', "a"),
        (' W/"a" ', "a"),
        ("a", "a"),
        ('""', None),
        ("", None),
        (None, None),
        ('"a-2"', "a-2"),
    ],
)
def test_etag_is_kept_without_quotes_and_weakness(etag, expected):
    """Two spellings of one validator are equal; an empty one is none."""
    assert expected == normalize_etag(etag)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("e", NOW, 1), ("e", NOW, 1), True),
        (("e", NOW, 1), ("e", None, 1), True),
        (("e", NOW, 1), ("f", NOW, 1), False),
        (("e", NOW, 1), ("e", NOW, 2), False),
        ((None, NOW, 1), ("e", NOW, 1), True),
        ((None, NOW, 1), (None, NOW, 1), True),
        ((None, NOW, 1), (None, NOW, 2), False),
        ((None, NOW, 1), (None, NOW + timedelta(seconds=1), 1), False),
        ((None, None, 1), (None, None, 1), False),
        (("e", None, 1), (None, None, 1), False),
    ],
)
def test_versions_are_compared_by_etag_first(one, other, expected):
    """The ETag decides where both have one, else time and size; what has neither is never the same."""
    assert (expected, expected) == (
        FileMetadata(*one).is_same_version(FileMetadata(*other)),
        FileMetadata(*other).is_same_version(FileMetadata(*one)),
    )


# -- results


def test_result_can_be_opened_like_a_path(tmp_path):
    """A result is an `os.PathLike`."""
    (tmp_path / "a").write_bytes(b"content")
    with open(result(paths=(tmp_path / "a",)), "rb") as file:
        assert file.read() == b"content"


def test_result_of_several_files_has_no_single_path():
    """`.path` and `os.fspath` of a glob's result raise, also when only one file matched."""
    several = result(is_multi_file=True)
    for ask in (lambda: several.path, lambda: os.fspath(several)):
        with pytest.raises(MultiFileDatasetError):
            ask()


def test_report_is_a_mapping_in_the_order_given():
    """Names, results and length are those of what is there."""
    report = FetchReport({"b": result("b"), "a": result("a")}, {}, 2, 0.1)
    assert (["b", "a"], 2, True, False, 14) == (
        list(report),
        len(report),
        "a" in report,
        "c" in report,
        report.bytes_downloaded,
    )


def test_report_raises_the_error_of_a_dataset_that_failed():
    """Asking a report for what failed raises why; for what was never asked, a `KeyError`."""
    error = ObjectNotFoundError("s3://b/k", "404")
    report = FetchReport({}, {"a": error}, 1, 0.1)
    with pytest.raises(ObjectNotFoundError) as caught:
        report["a"]
    assert error is caught.value
    with pytest.raises(KeyError):
        report["b"]


def test_report_with_errors_raises_them_all():
    """`raise_for_errors` raises a group with every error, the names in its text and the report."""
    report = FetchReport({"c": result("c")}, {n: ObjectNotFoundError("s3://b/k", "404") for n in "abdefg"}, 1, 0.1)
    with pytest.raises(FetchAllError, match=r"6 of 7 datasets failed \('a', 'b', 'd', 'e', 'f', …\)") as caught:
        report.raise_for_errors()
    assert (6, report) == (len(caught.value.exceptions), caught.value.report)


def test_report_without_errors_raises_nothing():
    """All well is silence."""
    FetchReport({"a": result()}, {}, 1, 0.1).raise_for_errors()


def test_plan_prints_as_a_table():
    """One line a dataset under its heads, and the sum."""
    steps = (
        PlanStep("a", "s", "download", 1234567, "not cached", 2),
        PlanStep("long name", "s", "none", 0, "offline", 0),
    )
    assert str(Plan(steps, 2, 1234567)).splitlines() == [
        "NAME       ACTION        BYTES  REQUESTS  REASON",
        "a          download  1,234,567         2  not cached",
        "long name  none              0         0  offline",
        "2 datasets, 1,234,567 bytes to download in 2 requests",
    ]
