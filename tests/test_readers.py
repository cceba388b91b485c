"""What `load()` makes of files: by their suffix, among the libraries that are installed, several at once."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from datacachalog import Catalog, ConfigurationError, Dataset
from datacachalog._readers import ReadAs, read_files

pytestmark = pytest.mark.usefixtures("table_libraries")

ROWS = [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Grace"}]
LIBRARIES = ("pandas", "polars", "pyarrow", "duckdb", "geopandas")


def write_text(path: Path, text: str) -> None:
    if path.suffix == ".gz":
        with gzip.open(path, "wt") as file:
            file.write(text)
    else:
        path.write_text(text)


WRITERS: dict[str, Callable[[Path], object]] = {
    "parquet": lambda path: pd.DataFrame(ROWS).to_parquet(path),
    "feather": lambda path: pd.DataFrame(ROWS).to_feather(path),
    "csv": lambda path: write_text(path, "id,name\n1,Ada\n2,Grace\n"),
    "csv.gz": lambda path: write_text(path, "id,name\n1,Ada\n2,Grace\n"),
    "tsv": lambda path: write_text(path, "id\tname\n1\tAda\n2\tGrace\n"),
    "json": lambda path: write_text(path, json.dumps(ROWS)),
    "jsonl": lambda path: write_text(path, "\n".join(map(json.dumps, ROWS))),
    "ndjson.gz": lambda path: write_text(path, "\n".join(map(json.dumps, ROWS))),
}


def written(directory: Path, name: str) -> Path:
    path = directory / name
    WRITERS[name.partition(".")[2]](path)
    return path


def read(*paths: Path, as_: ReadAs | None = None, is_multi_file: bool = False, **arguments: Any) -> Any:
    return read_files(paths, is_multi_file=is_multi_file or len(paths) > 1, as_=as_, arguments=arguments)


def rows(frame: Any) -> list[dict[str, Any]]:
    """The rows of a frame of whatever library, which is of its own kind."""
    if isinstance(frame, pd.DataFrame):
        return frame.astype(object).where(frame.notna(), None).to_dict("records")
    if isinstance(frame, pl.DataFrame):
        return frame.to_dicts()
    if isinstance(frame, pa.Table):
        return frame.to_pylist()
    assert isinstance(frame, duckdb.DuckDBPyRelation)
    return [dict(zip(frame.columns, row, strict=True)) for row in frame.fetchall()]


KINDS = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "arrow": pa.Table, "duckdb": duckdb.DuckDBPyRelation}
READ_BY = {
    "pandas": WRITERS,
    "polars": WRITERS,
    "arrow": [name for name in WRITERS if name != "json"],
    "duckdb": [name for name in WRITERS if name != "feather"],
}


@pytest.mark.parametrize(("as_", "suffix"), [(as_, suffix) for as_, suffixes in READ_BY.items() for suffix in suffixes])
def test_a_file_becomes_a_frame_of_the_library_asked_for(tmp_path: Path, as_: ReadAs, suffix: str) -> None:
    """Each library reads each format that it can read, compressed ones too."""
    frame = read(written(tmp_path, f"a.{suffix}"), as_=as_)
    assert (KINDS[as_], ROWS) == (type(frame), rows(frame))


@pytest.mark.parametrize("as_", KINDS)
def test_several_files_become_one_frame(tmp_path: Path, as_: ReadAs) -> None:
    """The frame has all rows and the union of the columns; what a file lacks is null."""
    (tmp_path / "1.csv").write_text("id,name\n1,Ada\n")
    (tmp_path / "2.csv").write_text("id,born\n2,1906\n")
    (tmp_path / "_SUCCESS").touch()
    frame = read(tmp_path / "1.csv", tmp_path / "2.csv", tmp_path / "_SUCCESS", as_=as_)
    assert [{"id": 1, "name": "Ada", "born": None}, {"id": 2, "name": None, "born": 1906}] == rows(frame)


def test_arguments_go_to_the_librarys_function(tmp_path: Path) -> None:
    """What else `load()` is given reaches the function, and goes before what we would say."""
    assert ["id"] == list(read(written(tmp_path, "a.tsv"), as_="pandas", usecols=["id"]).columns)
    assert 1 == read(written(tmp_path, "b.tsv"), as_="polars", separator=",").width


@pytest.mark.parametrize(
    ("missing", "kind"),
    [((), pd.DataFrame), (("pandas",), pl.DataFrame), (("pandas", "polars"), pa.Table)],
)
def test_the_first_library_that_is_installed_reads_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...], kind: type
) -> None:
    """pandas, else polars, else pyarrow, else duckdb."""
    path = written(tmp_path, "a.parquet")
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    assert kind is type(read(path))


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """With none of them there, the error says which to install, and how."""
    for name in LIBRARIES:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=r"needs pandas or polars or pyarrow or duckdb: pip install 'datacach"):
        read(Path("a.csv"))
    with pytest.raises(ConfigurationError, match=r"needs polars: pip install 'datacachalog\[polars\]'"):
        read(Path("a.csv"), as_="polars")
    with pytest.raises(ConfigurationError, match=r"needs geopandas: pip install 'datacachalog\[geo\]'"):
        read(Path("a.gpkg"))


def test_a_library_that_lacks_another_one_is_an_error_with_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pandas without what it reads Parquet with says so, and the extra has it."""
    path = written(tmp_path, "a.parquet")
    for name in ("pyarrow", "fastparquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=r"pandas can't read a\.parquet here: .*datacachalog\[pandas\]"):
        read(path)


def test_files_of_maps_are_read_by_geopandas(monkeypatch: pytest.MonkeyPatch) -> None:
    """GeoJSON, GeoPackage and FlatGeobuf become a GeoDataFrame."""
    fake = SimpleNamespace(read_file=lambda path: f"frame of {path}", __spec__=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "geopandas", fake)
    assert ["frame of a.geojson", "frame of a.gpkg"] == [read(Path("a.geojson")), read(Path("a.gpkg"))]


def test_json_needs_nothing_but_python(tmp_path: Path) -> None:
    """`.json` is what it says, in any case of letters; arguments go to `json.loads`."""
    path = tmp_path / "a.JSON"
    path.write_text('{"ü": [1, 2.5]}', encoding="utf-8")
    assert ({"ü": [1, 2.5]}, {"ü": [1, "2.5"]}) == (read(path), read(path, parse_float=str))


@pytest.mark.parametrize("suffix", ["txt", "md", "txt.gz"])
def test_text_is_read(tmp_path: Path, suffix: str) -> None:
    """Text is UTF-8 unless said otherwise."""
    path = tmp_path / f"a.{suffix}"
    write_text(path, "Ada")
    assert "Ada" == read(path) == read(path, encoding="latin-1")


def test_text_and_json_of_several_files_are_lists(tmp_path: Path) -> None:
    """What is no frame comes as one value for each file, also of one file that a glob matches."""
    paths = [written(tmp_path, "a.json"), written(tmp_path, "b.jsonl"), written(tmp_path, "c.ndjson.gz")]
    assert [ROWS] * 3 == read(*paths, as_="json")
    assert [json.dumps(ROWS)] == read(paths[0], as_="text", is_multi_file=True)


@pytest.mark.parametrize("name", ["a.bin", "a", ".parquet", "a.tar.gz", "a.gz"])
def test_unknown_suffix_says_what_to_do(name: str) -> None:
    """A file that nobody knows to read asks for a reader, and lists those there are."""
    with pytest.raises(ConfigurationError, match=r"reader=….*\.parquet"):
        read(Path(name))


def test_files_of_several_kinds_make_no_frame() -> None:
    """A glob that mixes formats asks for a reader."""
    with pytest.raises(ConfigurationError, match=r"a\.csv and b\.parquet are no files of one kind"):
        read(Path("a.csv"), Path("b.parquet"))


def test_a_format_that_a_library_does_not_read_is_said() -> None:
    """Asked for a library that doesn't read such files, the error names those that do."""
    with pytest.raises(ConfigurationError, match=r"arrow reads no a\.xlsx: pandas or polars would"):
        read(Path("a.xlsx"), as_="arrow")


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    (tmp_path / "part-1.csv").write_text("id\n1\n")
    (tmp_path / "part-2.csv").write_text("id\n2\n")
    datasets = [
        Dataset("one", tmp_path / "part-1.csv", reader=Path.read_text),
        Dataset("all", tmp_path / "*.csv"),
    ]
    return Catalog(datasets, cache_dir=tmp_path / "cache", progress=False)


def test_load_reads_what_was_fetched(catalog: Catalog) -> None:
    """`load` takes the reader that is given, else what `as_` says, else the dataset's own, else one by suffix."""
    with catalog:
        assert (6, "id\n1\n") == (catalog.load("one", lambda path: len(path.name)) - 4, catalog.load("one"))
        assert [{"id": 1}] == rows(catalog.load("one", as_="polars"))
        assert [1, 2] == list(catalog.load("all")["id"])
        assert 2 == catalog.load("all", len)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [({"as_": "spark"}, "as_ is one of 'pandas'"), ({"reader": len, "as_": "text"}, "a reader or as_, not both")],
)
def test_what_cannot_be_meant_is_refused_before_the_download(
    catalog: Catalog, arguments: dict[str, Any], told: str
) -> None:
    """A kind that there isn't, or two answers to one question, is an error before anything is fetched."""
    with catalog:
        with pytest.raises(ConfigurationError, match=told):
            catalog.load("one", **arguments)
        assert 0 == catalog.cache_info().files
