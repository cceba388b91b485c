"""The text of a source: one spelling each, and nothing asked of anybody."""

from __future__ import annotations

import pytest

from datacachalog import InvalidSourceError
from datacachalog._sources import canonical_source, local_path, split_uri


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket/a/b", ("s3", "bucket", "a/b")),
        ("S3://bucket//a//b/", ("s3", "bucket", "/a//b/")),
        ("s3://bucket", ("s3", "bucket", "")),
        ("s3:///key", ("s3", "", "key")),
        ("https://host:80/a?b=c://d", ("https", "host:80", "a?b=c://d")),
        ("/data/a.csv", ("file", "", "data/a.csv")),
        ("file:///data/a.csv", ("file", "", "data/a.csv")),
    ],
)
def test_uri_is_split_as_it_stands(uri, expected):
    """Scheme in small letters, authority, and the key without unquoting anything."""
    assert expected == split_uri(uri)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("s3://bucket/a b%20c", "s3://bucket/a b%20c"),
        ("S3://Bucket/Key", "s3://Bucket/Key"),
        ("s3://bucket/a/../b//c", "s3://bucket/a/../b//c"),
        ("s3://bucket/*.csv", "s3://bucket/*.csv"),
        ("data/a.csv", "{here}/data/a.csv"),
        ("./data//b/../a.csv", "{here}/data/a.csv"),
        ("data/", "{here}/data/"),
        ("data/**/*.csv", "{here}/data/**/*.csv"),
        ("/data/a.csv", "/data/a.csv"),
        ("~/a.csv", "{home}/a.csv"),
        ("file:///data/a%20b.csv", "/data/a b.csv"),
        ("FILE:///data/a.csv", "/data/a.csv"),
        ("file://localhost/data/a.csv", "/data/a.csv"),
        ("file:///data/", "/data/"),
        ("file:///data/*.csv", "/data/*.csv"),
        ("file:///data/?.csv", "/data/?.csv"),
        ("file:///data/a#b.csv", "/data/a#b.csv"),
    ],
)
def test_source_has_one_spelling(source, expected, tmp_path, monkeypatch):
    """A local source is an absolute path; another is kept, but for its scheme's letters; a last slash stays."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert expected.format(here=tmp_path / "here", home=tmp_path / "home") == canonical_source(source)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("s3://buck*t/key", "bucket's name"),
        ("s3://[b]ucket/key", "bucket's name"),
        ("://bucket/key", "not a scheme"),
        ("a b://bucket/key", "not a scheme"),
        ("3s://bucket/key", "not a scheme"),
        ("file://server/share", "of this machine"),
        ("file://[server/share", "of this machine"),
        ("file://", "of this machine"),
    ],
)
def test_source_that_says_nothing_is_refused(source, reason):
    """What no storage could read says why."""
    with pytest.raises(InvalidSourceError, match=reason):
        canonical_source(source)


@pytest.mark.parametrize("name", ["a\nb", "a\tb", " a", "a;b", "100%", "a%2", "ü"])
def test_path_of_a_file_uri_keeps_every_character(name):
    """Nothing is dropped on the way: tabs and line ends are characters of a name."""
    assert f"/data/{name}" == local_path(f"file:///data/{name}")


def test_path_of_a_file_uri_may_be_no_text():
    """Bytes that are no UTF-8 are kept as the file system's names have them."""
    assert local_path("file:///data/%ff.bin") == "/data/\udcff.bin"
