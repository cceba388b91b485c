"""The text of a source: one spelling each, and nothing asked of anybody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path, PurePosixPath

import cloudpathlib
import pytest
from upath import UPath

from datacachalog import Catalog, ConfigurationError, Dataset, InvalidSourceError
from datacachalog._sources import canonical_source, file_name, is_several, local_path, split_uri, web_address


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
        ("HTTPS://Host:8443/a b%20c", "https://Host:8443/a b%20c"),
        ("https://host", "https://host/"),
        ("http://[::1]:8080/a", "http://[::1]:8080/a"),
        ("https://host/a*b", "https://host/a*b"),
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


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("https://ada:secret@host/a.csv", "https://host/a.csv"),
        ("https://host/a.csv?token=secret", "https://host/a.csv?query-f3ac97547a318f4db4f95d3a5e50fd08"),
        ("https://ada:secret@host?token=secret", "https://host/?query-f3ac97547a318f4db4f95d3a5e50fd08"),
    ],
)
def test_g13_spelling_of_a_web_source_shows_no_secret(source, expected):
    """User, password and query are for the remote alone; the query is told from others by its hash."""
    assert (expected, expected) == (canonical_source(source), canonical_source(canonical_source(source)))


def test_web_source_is_asked_for_with_all_that_it_says():
    """The address has user, password and query as they stand."""
    assert "https://a:b@host/?x=%2F" == web_address("HTTPS://a:b@host?x=%2F")


def test_two_queries_are_two_sources():
    """Also where all the difference is that one has an empty one."""
    sources = [f"https://host/a{query}" for query in ("", "?", "?x=1", "?x=2")]
    assert 4 == len({canonical_source(source) for source in sources})


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("https://host/a#b", "%23"),
        ("https://", "no host"),
        ("https:///a", "no host"),
        ("https://user@/a", "no host"),
        ("https://:80/a", "no host"),
        ("https://ho*t/a", "no host"),
    ],
)
def test_web_source_without_a_host_or_with_a_fragment_is_refused(source, reason):
    """A fragment would not be asked for, so two sources would be one."""
    with pytest.raises(InvalidSourceError, match=reason):
        canonical_source(source)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("s3://bucket/a?", True),
        ("s3://bucket/[a]", True),
        ("https://host/a.csv?x[]=*", False),
        ("https://host/dir/?format=csv", False),
        ("https://[::1]/a.csv", False),
        ("https://host/dir/", True),
        ("https://host", True),
        ("https://host/*.csv?x", True),
    ],
)
def test_question_mark_of_a_web_source_begins_its_query(source, expected):
    """Elsewhere it is a wildcard; so what stands in a query makes no source several."""
    assert expected == is_several(source)


def test_name_of_a_web_source_is_without_its_query():
    """What a suffix is looked for in."""
    assert ["b.csv", "b.csv?c"] == [file_name("https://host/a/b.csv?c=/d.zip"), file_name("s3://bucket/a/b.csv?c")]


def test_one_source_cannot_be_asked_for_as_two_users(tmp_path):
    """They would share the copy, and nothing says who may have it."""
    sources = ["https://ada:1@host/a.csv", "https://eve:2@host/a.csv"]
    with pytest.raises(ConfigurationError, match="another user or password") as caught:
        Catalog([Dataset(str(number), source) for number, source in enumerate(sources)], cache_dir=tmp_path)
    assert "ada" not in str(caught.value)


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
