"""Where is the project's catalog file? Directories are looked at and two files read; nothing is imported or run.

Invariant: what is found by looking lies in the project's root, symbolic links followed. What is named explicitly may
lie anywhere.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ._catalog_file import CatalogFile, Key, parse_catalog_file
from ._errors import CatalogFileError, ConfigurationError
from ._sources import absolute_path

FILE_NAME = "datacachalog.toml"
_PYPROJECT = "pyproject.toml"
_TABLE = ("tool", "datacachalog")


@dataclass(frozen=True, slots=True)
class Project:
    """A project, and the catalog file that was found in it.

    Args:
        root: absolute.
        file: None if the project has none.
        table: where in the file the catalog is.
        is_named: whether somebody named the file, so that it may be anywhere.
    """

    root: Path
    file: Path | None
    table: Key = ()
    is_named: bool = False


def find_project(start: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> Project:
    """Find the project's root and its catalog file.

    The root is the nearest directory, from `start` upwards, that has a `datacachalog.toml`, a `[tool.datacachalog]` in
    its `pyproject.toml`, or a `.datacachalog/`; only if there is none, the nearest with `.git` or `pyproject.toml`;
    else `start` itself. A `.datacachalog/` beside a `CACHEDIR.TAG` belongs to a cache and marks no project.

    Args:
        start: where to begin; None means what `DATACACHALOG_CATALOG` (a file) or `DATACACHALOG_ROOT` (the root) say,
            else the working directory.
        environ: None means the process's.

    Raises:
        ConfigurationError: a directory or file that is named explicitly is not there.
        CatalogFileError: a catalog file that leads outside the root.
    """
    environ = os.environ if environ is None else environ
    if start is None:
        if named := environ.get("DATACACHALOG_CATALOG"):
            return named_project(named)
        if root := environ.get("DATACACHALOG_ROOT"):
            directory = _directory(root, "DATACACHALOG_ROOT")
            return _in_directory(directory) or Project(directory, None)
    directory = _directory(os.curdir if start is None else start, "the start of the search")
    upwards = [directory, *directory.parents]
    for parent in upwards:
        if project := _in_directory(parent):
            return project
    fallbacks = (parent for parent in upwards if any((parent / name).exists() for name in (".git", _PYPROJECT)))
    return Project(next(fallbacks, directory), None)


def named_project(path: str | os.PathLike[str]) -> Project:
    """Give the project of a catalog file, or of a root, that somebody named.

    Raises:
        ConfigurationError: it is not there.
    """
    file = Path(absolute_path(path))
    if file.is_dir():
        return _in_directory(Path(os.path.realpath(file))) or Project(file, None)
    if not file.is_file():
        hint = (
            "a Python catalog (module:attribute) is never imported by looking for a file; " if ":" in file.name else ""
        )
        raise ConfigurationError(f"no catalog file at {file}: {hint}name a TOML file, or write one with 'catalog init'")
    return Project(file.parent, file, _TABLE if file.name == _PYPROJECT else (), is_named=True)


def read_catalog_file(project: Project, environ: Mapping[str, str] | None = None) -> CatalogFile:
    """Read the catalog file of a project.

    Args:
        project: as it was found.
        environ: where `${NAME}` is looked up; None means the process's.

    Raises:
        ConfigurationError: there is none, or an environment variable that can't be right.
        CatalogFileError: it can't be read, or says something impossible.
    """
    if project.file is None:
        raise ConfigurationError(
            f"no catalog file: neither {FILE_NAME} nor [tool.datacachalog] in {_PYPROJECT} is in {project.root} or a"
            " directory above it; write one with 'catalog init', or name one with DATACACHALOG_CATALOG"
        )
    text = _read(project.file)
    environ = os.environ if environ is None else environ
    return parse_catalog_file(text, file=project.file, root=project.root, environ=environ, table=project.table)


def _directory(path: str | os.PathLike[str], what: str) -> Path:
    directory = Path(os.path.realpath(os.path.expanduser(os.fspath(path))))
    if directory.is_file():
        return directory.parent
    if not directory.is_dir():
        raise ConfigurationError(f"{what} is a directory: there is none at {directory}")
    return directory


def _in_directory(directory: Path) -> Project | None:
    """Give the project whose root is this directory, if it is one."""
    file = directory / FILE_NAME
    if file.is_file():
        _check_found(file, directory)
        return Project(directory, file)
    pyproject = directory / _PYPROJECT
    if _has_table(pyproject, directory):
        _check_found(pyproject, directory)
        return Project(directory, pyproject, _TABLE)
    if (directory / ".datacachalog").is_dir() and not (directory / "CACHEDIR.TAG").exists():
        return Project(directory, None)
    return None


def _has_table(pyproject: Path, directory: Path) -> bool:
    if not pyproject.is_file() or not _is_inside(pyproject, directory):
        return False
    try:
        text = _read(pyproject)
    except CatalogFileError:  # not ours, as far as can be told
        return False
    if "datacachalog" not in text:
        return False
    try:
        tool = tomllib.loads(text).get("tool", {})
    except tomllib.TOMLDecodeError:
        # Whatever it means to say of us is said with its line when it is read as the catalog file.
        return "[tool.datacachalog" in text
    return isinstance(tool, dict) and "datacachalog" in tool


def _is_inside(file: Path, directory: Path) -> bool:
    return Path(os.path.realpath(file)).is_relative_to(directory)


def _check_found(file: Path, directory: Path) -> None:
    """Refuse a catalog file that nobody named and that somebody else may have put there.

    Raises:
        CatalogFileError: it leads outside its directory, or lies where everybody may write and belongs to another user.
    """
    naming = "name it with --catalog or DATACACHALOG_CATALOG if it is meant"
    if not _is_inside(file, directory):
        raise CatalogFileError(f"a symbolic link that leads outside {directory}: {naming}", file=file)
    if hasattr(os, "geteuid") and directory.stat().st_mode & 0o002 and file.stat().st_uid != os.geteuid():
        raise CatalogFileError(f"of another user, in a directory that everybody may write to: {naming}", file=file)


def _read(file: Path) -> str:
    try:
        content = file.read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise CatalogFileError(f"can't be read: {error.strerror}", file=file) from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CatalogFileError("not UTF-8, in which TOML is written", file=file, line=line) from None
