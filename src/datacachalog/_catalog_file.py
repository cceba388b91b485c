"""What does the text of a catalog file say? Values, or an error with its line; nothing is read, opened or imported.

::

    cache_dir = "data/cache"              relative to the project's root, as are sources without a scheme

    [config]                              the fields of CatalogConfig
    max_age_seconds = 60

    [storage.s3]                          the arguments of S3Storage, but for what is secret
    endpoint_url = "http://localhost:9000"

    [datasets.customers]                  the arguments of Dataset, but for what is code
    source = "s3://${BUCKET}/crm/customers.csv"

    [catalogs.core.datasets.customers]    the dataset core/customers
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

from ._config import CatalogConfig
from ._errors import CatalogFileError, ConfigurationError, InvalidSourceError, redact_uri
from ._models import Dataset
from ._sources import canonical_source
from ._toml_lines import lines_of_keys

Key = tuple[str, ...]
"""The way to a value: `("datasets", "customers", "source")`."""

S3_KEYS: Mapping[str, type] = {
    "profile": str,
    "endpoint_url": str,
    "region": str,
    "anonymous": bool,
    "requester_pays": bool,
    "addressing_style": str,
}
"""What `[storage.s3]` may say, and as what: the arguments of `S3Storage` that are neither secret nor code."""

DATASET_KEYS = tuple(field.name for field in fields(Dataset) if field.name not in ("name", "reader"))
"""What a dataset's table may say: the arguments of `Dataset` that are no code."""

_TOP_KEYS = ("cache_dir", "config", "storage", "datasets", "catalogs")
_TEXTS = ("source", "description", "cache_path", "checksum")
_SECRET = re.compile(r"secret|passw|token|access_?key|credential|private_?key", re.IGNORECASE)
_PASSWORD = re.compile(r"://[^/@]*:(?!\$\{)[^/@]*@")
_DOLLAR = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[^}]*)\})?")
_LINE_OF_SYNTAX_ERROR = re.compile(r"\(at line (\d+), column \d+\)")
_KINDS = {str: "a text", bool: "true or false", dict: "a table", list: "an array of texts"}


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """What a catalog file says.

    Args:
        file: the file.
        root: the project's root, which relative paths were joined to.
        datasets: in the order of the file; those of a named catalog as `catalog/dataset`.
        cache_dir: absolute; None if the file doesn't say.
        config: the settings that it has.
        storage: scheme → arguments of the storage.
        lines: the line of each key.
    """

    file: Path
    root: Path
    datasets: tuple[Dataset, ...]
    cache_dir: str | None
    config: Mapping[str, Any]
    storage: Mapping[str, Mapping[str, Any]]
    lines: Mapping[Key, int]

    def error(self, key: Key, reason: str) -> CatalogFileError:
        """Make an error about what the file says under a key."""
        return CatalogFileError(f"{_dotted(key)}: {reason}", file=self.file, line=_line_of(key, self.lines))


def parse_catalog_file(
    text: str, *, file: Path, root: Path, environ: Mapping[str, str], table: Key = ()
) -> CatalogFile:
    """Read the text of a catalog file.

    Args:
        text: TOML.
        file: where it stands, for errors.
        root: what relative paths are relative to; absolute.
        environ: where `${NAME}` is looked up.
        table: where in the text the catalog is: `("tool", "datacachalog")` in a `pyproject.toml`.

    Raises:
        CatalogFileError: it is no TOML, or says something impossible.
        ConfigurationError: an environment variable holds a setting that can't be right.
    """
    try:
        values: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _LINE_OF_SYNTAX_ERROR.search(str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        raise CatalogFileError(f"no valid TOML: {error}", file=file, line=line) from None
    except RecursionError:
        raise CatalogFileError("values that are nested too deeply", file=file) from None
    lines = lines_of_keys(text)
    for part in table:
        if not isinstance(values, dict) or part not in values:
            raise CatalogFileError(f"there is no table [{_dotted(table)}] in it", file=file)
        values = values[part]
    depth = len(table)
    inside = {key[depth:]: line for key, line in lines.items() if key[:depth] == table and len(key) > depth}
    return _Reading(file, root, environ, inside).catalog(values)


def _dotted(key: Key) -> str:
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in key)


def _line_of(key: Key, lines: Mapping[Key, int]) -> int | None:
    """Give the line of a key, of one that isn't there that of the table in which it should be."""
    while key and key not in lines:
        key = key[:-1]
    return lines.get(key)


def _interpolated(text: str, environ: Mapping[str, str]) -> str:
    """Put in environment variables.

    Raises:
        ValueError: one is not set, or a `$` is neither `${NAME}` nor `$$`.
    """

    def value_of(found: re.Match[str]) -> str:
        name = found["name"]
        if found["dollar"]:
            return "$"
        if name is None or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(
                f"{redact_uri(text)!r}: write ${{NAME}} for an environment variable, and $$ for a dollar sign"
            )
        if not environ.get(name):
            state = "empty" if name in environ else "not set"
            raise ValueError(f"the environment variable {name} is {state}{_suggestion(name, environ)}")
        return environ[name]

    return _DOLLAR.sub(value_of, text)


def _suggestion(word: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {close[0]!r}?" if close else ""


class _Reading:
    """Reads the parsed values of one file; every error has the key and the line of what is wrong."""

    def __init__(self, file: Path, root: Path, environ: Mapping[str, str], lines: Mapping[Key, int]) -> None:
        self._file = file
        self._root = root
        self._environ = environ
        self._lines = lines

    def catalog(self, values: Any) -> CatalogFile:
        top = self._table(values, (), _TOP_KEYS)
        datasets = self._datasets(top, (), prefix="")
        for name, catalog in self._table(top.get("catalogs", {}), ("catalogs",)).items():
            key: Key = ("catalogs", name)
            if not name or "/" in name:
                self._fail(key, "a catalog's name has no '/', which stands between it and its datasets' names")
            datasets += self._datasets(self._table(catalog, key, ("datasets",)), key, prefix=f"{name}/")
        places: dict[str, Key] = {}
        for place, dataset in datasets:
            if (other := places.setdefault(dataset.name, place)) != place:
                self._fail(place, f"there is a dataset named {dataset.name!r} already, {_dotted(other)}")
        cache_dir = None
        if "cache_dir" in top:
            cache_dir = self._path(self._text(top["cache_dir"], ("cache_dir",)))
        return CatalogFile(
            file=self._file,
            root=self._root,
            datasets=tuple(dataset for _, dataset in datasets),
            cache_dir=cache_dir,
            config=self._config(top),
            storage=self._storage(top),
            lines=self._lines,
        )

    # -- datasets

    def _datasets(self, table: Mapping[str, Any], parent: Key, *, prefix: str) -> list[tuple[Key, Dataset]]:
        key = (*parent, "datasets")
        named = self._table(table.get("datasets", {}), key)
        return [
            ((*key, name), self._dataset(f"{prefix}{name}", values, (*key, name))) for name, values in named.items()
        ]

    def _dataset(self, name: str, values: Any, key: Key) -> Dataset:
        if isinstance(values, str):
            self._fail(
                key, f'a dataset is a table: write [{_dotted(key)}] and source = "{redact_uri(values)}" below it'
            )
        if "source" not in self._table(values, key, DATASET_KEYS):
            self._fail(key, 'a dataset has a source: source = "s3://bucket/key"')
        arguments = dict(values)
        source = self._source(arguments.pop("source"), (*key, "source"))
        for argument in _TEXTS[1:]:
            if argument in arguments:
                self._is(arguments[argument], str, (*key, argument))
        if "tags" in arguments:
            tags = self._is(arguments["tags"], list, (*key, "tags"))
            for tag in tags:
                self._is(tag, str, (*key, "tags"))
        if isinstance(arguments.get("max_age"), bool):
            self._fail((*key, "max_age"), "a number of seconds is expected, not true or false")
        try:
            return Dataset(name, source, **arguments)
        except ConfigurationError as error:
            for argument, value in arguments.items():
                try:
                    Dataset(name, source, **{argument: value})
                except ConfigurationError:
                    self._fail((*key, argument), str(error))
            self._fail(key, str(error))

    def _source(self, value: Any, key: Key) -> str:
        source = self._text(value, key)
        try:
            canonical_source(source)
        except InvalidSourceError as error:
            self._fail(key, str(error))
        return source if "://" in source else self._path(source)

    # -- settings

    def _config(self, top: Mapping[str, Any]) -> Mapping[str, Any]:
        config = self._table(top.get("config", {}), ("config",), [field.name for field in fields(CatalogConfig)])
        CatalogConfig()  # what is wrong in the environment is not the file's fault
        for name, value in config.items():
            try:
                CatalogConfig.from_mapping({name: value})
            except ConfigurationError as error:
                self._fail(("config", name), str(error))
        return config

    def _storage(self, top: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
        storage = self._table(top.get("storage", {}), ("storage",), ("s3",))
        read: dict[str, dict[str, Any]] = {}
        for scheme, values in storage.items():
            key = ("storage", scheme)
            read[scheme] = {}
            for name, value in self._table(values, key, S3_KEYS).items():
                self._is(value, S3_KEYS[name], (*key, name))
                read[scheme][name] = self._text(value, (*key, name)) if isinstance(value, str) else value
        return read

    # -- values

    def _table(self, value: Any, key: Key, known: Collection[str] | None = None) -> Mapping[str, Any]:
        table: Mapping[str, Any] = self._is(value, dict, key)
        for name, inner in table.items():
            if known is None or name in known:
                continue
            own_key = (*key, name)
            if _SECRET.search(name):
                self._fail(
                    own_key,
                    "credentials don't belong into a catalog file, which others read: leave them in the environment"
                    " (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or in ~/.aws, and name a profile",
                )
            if not key and isinstance(inner, dict) and "source" in inner:
                self._fail(own_key, f"unknown key: did you mean [datasets.{_dotted(own_key)}]?")
            hint = _suggestion(name, known) or f": the keys here are {', '.join(sorted(known))}"
            self._fail(own_key, f"unknown key{hint}")
        return table

    def _is(self, value: Any, kind: type, key: Key) -> Any:
        if not isinstance(value, kind):
            self._fail(key, f"{_KINDS[kind]} is expected: got {value!r}")
        return value

    def _text(self, value: Any, key: Key) -> str:
        text: str = self._is(value, str, key)
        if _PASSWORD.search(text):
            self._fail(
                key, "a password doesn't belong into a catalog file, which others read: leave it in the environment"
            )
        try:
            return _interpolated(text, self._environ)
        except ValueError as error:
            self._fail(key, str(error))

    def _path(self, path: str) -> str:
        """Give a path that doesn't depend on the working directory; the last slash, which means all files, stays."""
        return path if os.path.isabs(path) or path.startswith("~") or not path else os.path.join(self._root, path)

    def _fail(self, key: Key, reason: str) -> NoReturn:
        name = f"{_dotted(key)}: " if key else ""
        raise CatalogFileError(f"{name}{reason}", file=self._file, line=_line_of(key, self._lines))
