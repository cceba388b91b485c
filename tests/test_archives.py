"""The names of archives: what they say of the format, and what is inside called."""

from __future__ import annotations

import pytest

from datacachalog._archives import format_of, name_inside


@pytest.mark.parametrize(
    ("name", "expected", "inside"),
    [
        ("data.csv.gz", "gzip", "data.csv"),
        ("data.csv.bz2", "bz2", "data.csv"),
        ("data.csv.xz", "xz", "data.csv"),
        ("data.csv.zst", "zstd", "data.csv"),
        ("data.zip", "zip", "data"),
        ("data.tar", "tar", "data"),
        ("data.tar.gz", "tar", "data"),
        ("data.tgz", "tar", "data"),
        ("data.tar.bz2", "tar", "data"),
        ("data.tbz2", "tar", "data"),
        ("data.tar.xz", "tar", "data"),
        ("data.txz", "tar", "data"),
        ("data.tar.zst", "tar", "data"),
        ("data.tzst", "tar", "data"),
        ("DATA.CSV.GZ", "gzip", "DATA.CSV"),
        ("v1.2.tar.gz", "tar", "v1.2"),
        (".hidden.gz", "gzip", ".hidden"),
    ],
)
def test_suffix_tells_the_format_and_is_taken_off(name, expected, inside):
    """`auto` goes by the suffix, whatever its case; a tar is a tar, however it is compressed."""
    uri = f"s3://bucket/some.zip/{name}"
    assert (expected, inside) == (format_of("auto", uri), name_inside(uri, expected))


@pytest.mark.parametrize("name", ["data.csv", "data", "gz", ".gz", ".tar.gz"[:4], "data.gz.csv", "data.7z", ""])
def test_other_names_are_no_archives(name):
    """A file without such a suffix, or that is called nothing else, is none."""
    assert format_of("auto", f"s3://bucket/dir/{name}") is None


@pytest.mark.parametrize(
    ("unpack", "name", "inside"),
    [
        ("gzip", "data.tar.gz", "data.tar"),
        ("gzip", "data.csv", "data.csv"),
        ("tar", "data.bin", "data.bin"),
        ("tar", "data.gz", "data.gz"),
        ("zip", "book.xlsx", "book.xlsx"),
    ],
)
def test_word_of_the_dataset_goes_before_the_suffix(unpack, name, inside):
    """What the dataset says is done; only a suffix of that format is taken off."""
    assert (unpack, inside) == (format_of(unpack, f"s3://b/{name}"), name_inside(f"s3://b/{name}", unpack))


def test_nothing_is_unpacked_unasked():
    """None means as it is."""
    assert format_of(None, "s3://bucket/data.zip") is None
