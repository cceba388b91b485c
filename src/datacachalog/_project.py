"""To which project does a catalog belong? To that of the working directory: nothing is imported or run to find out."""

from __future__ import annotations

import os
import tomllib
from contextlib import suppress
from pathlib import Path

_OWN_MARKS = (".datacachalog", "datacachalog.toml")


def project_root() -> str:
    """Give the project's directory.

    It is what `DATACACHALOG_ROOT` says; else the nearest directory, from the working directory upwards, with a
    `.datacachalog`, a `datacachalog.toml`, or a `[tool.datacachalog]` in its `pyproject.toml`; else the nearest with a
    `.git` or `pyproject.toml`; else the working directory.
    """
    if named := os.environ.get("DATACACHALOG_ROOT", "").strip():
        return os.path.realpath(named)
    start = Path(os.path.realpath(os.curdir))
    upwards = [start, *start.parents]
    own = (path for path in upwards if any((path / mark).exists() for mark in _OWN_MARKS) or _has_table(path))
    others = (path for path in upwards if any((path / mark).exists() for mark in (".git", "pyproject.toml")))
    return str(next(own, None) or next(others, start))


def _has_table(directory: Path) -> bool:
    with suppress(OSError, ValueError):
        return "datacachalog" in tomllib.loads((directory / "pyproject.toml").read_text(encoding="utf-8")).get(
            "tool", {}
        )
    return False
