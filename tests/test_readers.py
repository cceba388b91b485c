"""Which reader for which suffix."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from datacachalog import ConfigurationError
from datacachalog._readers import reader_of


def test_json_is_read(tmp_path):
    """`.json` needs nothing but Python, in any case of letters."""
    path = tmp_path / "a.JSON"
    path.write_text('{"ü": [1, 2.5]}', encoding="utf-8")
    assert {"ü": [1, 2.5]} == reader_of(path)(path)


def test_json_takes_the_readers_arguments(tmp_path):
    """Keyword arguments go to the reader."""
    path = tmp_path / "a.json"
    path.write_text("[1.5]")
    assert ["1.5"] == reader_of(path)(path, parse_float=str)


@pytest.mark.parametrize("suffix", ["txt", "md"])
def test_text_is_read(tmp_path, suffix):
    """Text is UTF-8 unless said otherwise."""
    path = tmp_path / f"a.{suffix}"
    path.write_bytes("ü".encode("latin-1"))
    assert reader_of(path)(path, encoding="latin-1") == "ü"


def test_table_is_read_by_the_library_that_is_installed(tmp_path, monkeypatch):
    """pandas, else polars, else pyarrow."""
    import pyarrow as pa
    from pyarrow import parquet

    for name in ("pandas", "polars"):
        monkeypatch.setitem(sys.modules, name, None)
    table, path = pa.table({"x": [1, 2]}), tmp_path / "a.parquet"
    parquet.write_table(table, path)
    assert table == reader_of(path)(path)


def test_best_library_is_preferred(monkeypatch):
    """With pandas there, pandas is taken."""

    class Pandas:
        read_csv = staticmethod(json.loads)

    monkeypatch.setitem(sys.modules, "pandas", Pandas)
    assert json.loads is reader_of(Path("a.csv"))


def test_missing_libraries_are_named(monkeypatch):
    """With none of them there, the error says which to install."""
    for name in ("pandas", "polars", "pyarrow", "pyarrow.csv"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match="pandas or polars or pyarrow"):
        reader_of(Path("a.csv"))


@pytest.mark.parametrize("name", ["a.bin", "a", ".parquet", "a.tar.gz"])
def test_unknown_suffix_says_what_to_do(name):
    """A file that nobody knows to read asks for a reader, and lists those there are."""
    with pytest.raises(ConfigurationError, match=r"reader=….*\.parquet"):
        reader_of(Path(name))
