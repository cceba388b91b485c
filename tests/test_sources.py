"""The text of a source: one spelling each, and nothing asked of anybody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path, PurePosixPath

import cloudpathlib
import pytest
from upath import UPath

from datacachalog import Catalog, ConfigurationError, Dataset, InvalidSourceError
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


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: PurePosixPath("/data/a.csv"), "/data/a.csv"),
        (lambda: UPath("s3://bucket/dir/a b%20c.csv"), "s3://bucket/dir/a b%20c.csv"),
        (lambda: UPath("s3://bucket") / "dir" / "*.csv", "s3://bucket/dir/*.csv"),
        (lambda: UPath("https://host/a.csv?x=1"), "https://host/a.csv?x=1"),
        (lambda: UPath("/data/a.csv"), str(Path("/data/a.csv"))),
        (lambda: cloudpathlib.S3Path("s3://bucket/dir/a b%20c.csv"), "s3://bucket/dir/a b%20c.csv"),
        (lambda: cloudpathlib.S3Path("s3://bucket/dir") / "a.csv", "s3://bucket/dir/a.csv"),
    ],
)
def test_path_of_another_library_is_taken_by_its_uri(make, expected):
    """Without asking the store, and without a download, which is what `os.fspath` would do with one of cloudpathlib."""
    assert expected == Dataset("a", make()).source


def test_path_of_a_file_is_the_file(tmp_path):
    """One that universal_pathlib has for `file://` is fetched like any path."""
    (tmp_path / "a b%20.csv").write_bytes(b"content")
    source = UPath(f"file://{tmp_path}/a b%20.csv")
    with Catalog([Dataset("a", source)], cache_dir=tmp_path / "cache", progress=False) as catalog:
        assert b"content" == catalog.fetch("a").read_bytes()


@pytest.mark.parametrize(
    ("make", "own"),
    [
        (lambda _: UPath("s3://bucket/a", anon=True, key="hunter2"), r"storage options \(anon, key\)"),
        (
            lambda tmp: cloudpathlib.S3Client(no_sign_request=True, local_cache_dir=tmp).S3Path("s3://bucket/a"),
            "a client",
        ),
    ],
)
def test_g13_options_that_would_be_lost_are_refused(make, own, tmp_path):
    """A catalog connects by its storage; what a path would connect with is named, without its values."""
    with pytest.raises(ConfigurationError, match=rf"s3://bucket/a has {own} of its own.*S3Storage") as caught:
        Dataset("a", make(tmp_path))
    assert "hunter2" not in str(caught.value)


def test_client_that_cloudpathlib_has_by_default_is_no_option(monkeypatch, tmp_path):
    """A path that was used before has it."""
    client = cloudpathlib.S3Client(local_cache_dir=tmp_path)
    monkeypatch.setattr(cloudpathlib.S3Client, "_default_client", client)
    source = cloudpathlib.S3Path("s3://bucket/a")
    assert client is source.client
    assert "s3://bucket/a" == Dataset("a", source).source


def test_libraries_of_paths_are_not_imported():
    """They are known by what they have."""
    code = (
        "import sys, pathlib; from datacachalog import Dataset; Dataset('a', pathlib.PurePath('a'));"
        "print(sorted({'upath', 'cloudpathlib', 'fsspec'} & set(sys.modules)))"
    )
    assert "[]\n" == subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
