"""Which library reads a file of that suffix, and what becomes of several files? Imported only when it is used.

Several files become one frame with the union of their columns, in which what a file lacks is null. Of those, files
whose name begins with `_` or `.` are no data, as Spark and Hive have it.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from ._errors import ConfigurationError

ReadAs: TypeAlias = Literal["pandas", "polars", "arrow", "duckdb", "text", "json"]
"""What `load(as_=…)` can be: a frame of one of these libraries, the text, or what the JSON says."""

_FORMAT_OF_SUFFIX = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".feather": "arrow",
    ".arrow": "arrow",
    ".xlsx": "xlsx",
    ".json": "json",
    ".txt": "text",
    ".md": "text",
    ".geojson": "geo",
    ".gpkg": "geo",
    ".fgb": "geo",
}
_OPENERS: Mapping[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_COMPRESSED = (*_OPENERS, ".zst")

_Arguments: TypeAlias = Mapping[str, Any]
_Functions: TypeAlias = Mapping[str, tuple[str, _Arguments]]
"""Format → the library's function, and arguments for it."""


def read_files(paths: Sequence[Path], *, is_multi_file: bool, as_: ReadAs | None, arguments: Mapping[str, Any]) -> Any:
    """Read the files of a dataset.

    Args:
        paths: the files; only an archive may hold none.
        is_multi_file: whether there might be any number of them; then text and JSON come as lists.
        as_: what to make of them; None means the first installed library that reads their suffix.
        arguments: for the library's function.

    Raises:
        ConfigurationError: nothing reads that suffix, or what does is not installed; or there is no file.
    """
    if as_ in ("text", "json"):
        return _read_plain(paths, as_, is_multi_file=is_multi_file, arguments=arguments)
    if not paths:
        raise ConfigurationError("there is nothing to read: the archive holds no file")
    if is_multi_file:
        paths = [path for path in paths if not path.name.startswith(("_", "."))] or paths
    file_format = _format_of(paths)
    if as_ is None and file_format in ("text", "json"):
        return _read_plain(paths, file_format, is_multi_file=is_multi_file, arguments=arguments)
    library = _library_for(file_format, paths[0], as_)
    try:
        return library.read(paths, file_format, arguments)
    except ImportError as error:  # a library of the library's
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(
            f"{library.module} can't read {paths[0].name} here: {reason}; pip install 'datacachalog[{library.extra}]'"
        ) from error


def check_read_as(as_: str | None, reader: object) -> None:
    """Refuse what can't be meant, before anything is downloaded.

    Raises:
        ConfigurationError: no such kind, or a reader besides.
    """
    kinds = get_args(ReadAs)
    if as_ is not None and as_ not in kinds:
        raise ConfigurationError(f"as_ is one of {', '.join(map(repr, kinds))}: got {as_!r}")
    if as_ is not None and reader is not None:
        raise ConfigurationError(f"load() takes a reader or as_, not both: got as_={as_!r} and {reader!r}")


def _format_of(paths: Sequence[Path]) -> str:
    formats: dict[str | None, Path] = {}
    for path in paths:
        formats.setdefault(_FORMAT_OF_SUFFIX.get(_suffix(path)), path)
    if None in formats:
        known = ", ".join(sorted(_FORMAT_OF_SUFFIX))
        raise ConfigurationError(
            f"no reader for {formats[None].name}: pass one, load(name, reader=…); there are readers for {known}"
        )
    if len(formats) > 1:
        names = " and ".join(path.name for path in list(formats.values())[:2])
        raise ConfigurationError(f"{names} are no files of one kind: pass a reader, load(name, reader=…)")
    [file_format] = formats
    return str(file_format)


def _suffix(path: Path) -> str:
    """Give the suffix that tells the format: that before the one of a compression."""
    return (Path(path.stem).suffix if path.suffix.lower() in _COMPRESSED else path.suffix).lower()


# -- without a library


def _read_plain(paths: Sequence[Path], kind: str, *, is_multi_file: bool, arguments: Mapping[str, Any]) -> Any:
    read = _read_json if kind == "json" else _read_text
    contents = [read(path, **arguments) for path in paths]
    return contents if is_multi_file else contents[0]


def _read_text(path: Path, encoding: str = "utf-8") -> str:
    opened = _OPENERS.get(path.suffix.lower(), open)
    with opened(path, "rt", encoding=encoding) as file:
        return str(file.read())


def _read_json(path: Path, **arguments: Any) -> Any:
    text = _read_text(path)
    if _FORMAT_OF_SUFFIX.get(_suffix(path)) == "jsonl":
        return [json.loads(line, **arguments) for line in text.splitlines() if line.strip()]
    return json.loads(text, **arguments)


# -- with a library


@dataclass(frozen=True, slots=True)
class _Library:
    """A library that makes frames.

    Args:
        module: what is imported.
        extra: installs it.
        functions: what reads which format.
        read: reads files of one format into one frame.
    """

    module: str
    extra: str
    functions: _Functions
    read: Callable[[Sequence[Path], str, _Arguments], Any]


def _library_for(file_format: str, example: Path, as_: str | None) -> _Library:
    able = {name: library for name, library in _LIBRARIES.items() if file_format in library.functions}
    if as_ is not None:
        if as_ not in able:
            raise ConfigurationError(f"{as_} reads no {example.name}: {' or '.join(able)} would, or pass a reader")
        able = {as_: able[as_]}
    for library in able.values():
        if _is_installed(library.module):
            return library
    names = " or ".join(library.module for library in able.values())
    extras = " or ".join(f"'datacachalog[{library.extra}]'" for library in able.values())
    raise ConfigurationError(f"reading {example.name} needs {names}: pip install {extras}")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # something without a spec has its name
        return False


def _each(functions: _Functions, module: str, paths: Sequence[Path], file_format: str, given: _Arguments) -> list[Any]:
    function, own = functions[file_format]
    where, _, name = function.rpartition(".")
    read = getattr(import_module(f"{module}.{where}" if where else module), name)
    return [read(path, **{**own, **given}) for path in paths]


_PANDAS: _Functions = {
    "parquet": ("read_parquet", {}),
    "csv": ("read_csv", {}),
    "tsv": ("read_csv", {"sep": "\t"}),
    "json": ("read_json", {}),
    "jsonl": ("read_json", {"lines": True}),
    "arrow": ("read_feather", {}),
    "xlsx": ("read_excel", {}),
}
_POLARS: _Functions = {
    "parquet": ("read_parquet", {}),
    "csv": ("read_csv", {}),
    "tsv": ("read_csv", {"separator": "\t"}),
    "json": ("read_json", {}),
    "jsonl": ("read_ndjson", {}),
    "arrow": ("read_ipc", {}),
    "xlsx": ("read_excel", {}),
}
_ARROW: _Functions = {
    "parquet": ("parquet.read_table", {}),
    "csv": ("csv.read_csv", {}),
    "tsv": ("csv.read_csv", {}),
    "jsonl": ("json.read_json", {}),
    "arrow": ("feather.read_table", {}),
}
_DUCKDB: _Functions = {
    "parquet": ("read_parquet", {"union_by_name": True}),
    "csv": ("read_csv", {"union_by_name": True}),
    "tsv": ("read_csv", {"union_by_name": True, "sep": "\t"}),
    "json": ("read_json", {"union_by_name": True}),
    "jsonl": ("read_json", {"union_by_name": True}),
}
_GEOPANDAS: _Functions = {"geo": ("read_file", {})}


def _read_pandas(paths: Sequence[Path], file_format: str, arguments: _Arguments) -> Any:
    frames = _each(_PANDAS, "pandas", paths, file_format, arguments)
    return frames[0] if len(frames) == 1 else import_module("pandas").concat(frames, ignore_index=True)


def _read_polars(paths: Sequence[Path], file_format: str, arguments: _Arguments) -> Any:
    frames = _each(_POLARS, "polars", paths, file_format, arguments)
    return frames[0] if len(frames) == 1 else import_module("polars").concat(frames, how="diagonal_relaxed")


def _read_arrow(paths: Sequence[Path], file_format: str, arguments: _Arguments) -> Any:
    if file_format == "tsv":
        options = import_module("pyarrow.csv").ParseOptions(delimiter="\t")
        arguments = {"parse_options": options, **arguments}
    tables = _each(_ARROW, "pyarrow", paths, file_format, arguments)
    return (
        tables[0] if len(tables) == 1 else import_module("pyarrow").concat_tables(tables, promote_options="permissive")
    )


def _read_duckdb(paths: Sequence[Path], file_format: str, arguments: _Arguments) -> Any:
    # A connection of its own to the database of `duckdb.sql`: two threads can't share one.
    connection = import_module("duckdb").default_connection().cursor()
    function, own = _DUCKDB[file_format]
    return getattr(connection, function)([str(path) for path in paths], **{**own, **arguments})


def _read_geopandas(paths: Sequence[Path], file_format: str, arguments: _Arguments) -> Any:
    frames = _each(_GEOPANDAS, "geopandas", paths, file_format, arguments)
    return frames[0] if len(frames) == 1 else import_module("pandas").concat(frames, ignore_index=True)


_LIBRARIES = {
    "pandas": _Library("pandas", "pandas", _PANDAS, _read_pandas),
    "polars": _Library("polars", "polars", _POLARS, _read_polars),
    "arrow": _Library("pyarrow", "arrow", _ARROW, _read_arrow),
    "duckdb": _Library("duckdb", "duckdb", _DUCKDB, _read_duckdb),
    "geo": _Library("geopandas", "geo", _GEOPANDAS, _read_geopandas),
}
"""In the order in which they are tried."""
