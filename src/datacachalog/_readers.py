"""Which library reads a file of that suffix? The first one installed; imported only when it is used."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from ._errors import ConfigurationError

# Suffix → (library, the function of it), best first.
_FUNCTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    ".parquet": (("pandas", "read_parquet"), ("polars", "read_parquet"), ("pyarrow.parquet", "read_table")),
    ".feather": (("pandas", "read_feather"), ("polars", "read_ipc"), ("pyarrow.feather", "read_table")),
    ".arrow": (("polars", "read_ipc"), ("pandas", "read_feather"), ("pyarrow.feather", "read_table")),
    ".csv": (("pandas", "read_csv"), ("polars", "read_csv"), ("pyarrow.csv", "read_csv")),
    ".xlsx": (("pandas", "read_excel"), ("polars", "read_excel")),
}


def reader_of(path: Path) -> Callable[..., Any]:
    """Choose a reader by the file's suffix.

    Raises:
        ConfigurationError: no reader for this suffix, or none of its libraries is installed.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _read_json
    if suffix in (".txt", ".md"):
        return _read_text
    functions = _FUNCTIONS.get(suffix)
    if functions is None:
        known = ", ".join(sorted([*_FUNCTIONS, ".json", ".txt", ".md"]))
        raise ConfigurationError(
            f"no reader for {path.name}: pass one, load(name, reader=…); there are readers for {known}"
        )
    for module, function in functions:
        try:
            reader: Callable[..., Any] = getattr(import_module(module), function)
        except ImportError:
            continue
        return reader
    libraries = " or ".join(module.partition(".")[0] for module, _ in functions)
    raise ConfigurationError(f"reading {path.name} needs {libraries}: install one of them, or pass a reader")


def _read_json(path: Path, **kwargs: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8"), **kwargs)


def _read_text(path: Path, encoding: str = "utf-8") -> str:
    return path.read_text(encoding=encoding)
