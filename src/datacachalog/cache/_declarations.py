"""Whose data is in a cache that several catalogs share? Each catalog that uses it writes down which datasets it has.

A declaration is a file: the project, the datasets, and since when; its modification time says when it was last used.
What is declared is kept when another catalog cleans the cache. A declaration is out of date only when a later one of
the same project has taken its place: it has at least one dataset name in common with it, and the older one was not used
any more since the later one was first used. So neither another project, nor another catalog of the same project that is
still in use, loses anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass

from ..ports import Declaration
from . import _disk

FORMAT = 1
_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class Declared:
    """A declaration as it lies there.

    Args:
        path: its file.
        declaration: what it says.
        since_ns: when it was first made, as POSIX nanoseconds.
        used_ns: when it was last made.
    """

    path: str
    declaration: Declaration
    since_ns: int
    used_ns: int


def declare(directory: str, declaration: Declaration, temporary: str) -> None:
    """Write down that the datasets are in use now.

    Args:
        directory: of the declarations.
        declaration: which datasets.
        temporary: a name for a new file until it is whole.

    Raises:
        OSError: it can't be written.
    """
    values = [declaration.project, [list(dataset) for dataset in declaration.datasets]]
    name = hashlib.sha256(json.dumps(values).encode()).hexdigest()[:32]
    path = os.path.join(directory, name + _SUFFIX)
    now = time.time_ns()
    if _read(path) is None:
        text = json.dumps({"format": FORMAT, "project": values[0], "since_ns": now, "datasets": values[1]}, indent=1)
        with _disk.create(temporary) as file:
            _disk.write_all(file, [text.encode()])
        _disk.replace(temporary, path)
    _disk.set_mtime(path, now)


def out_of_date(directory: str, latest: Declaration) -> tuple[list[Declared], list[Declared]]:
    """Give the declarations whose place `latest` has taken, and all others."""
    everything = [found for name in _names(directory) if (found := _read(os.path.join(directory, name))) is not None]
    own = [found for found in everything if found.declaration == latest]
    old = [found for found in everything if own and _is_replaced(found, own[0])]
    return old, [found for found in everything if found not in old]


def _is_replaced(found: Declared, latest: Declared) -> bool:
    names, latest_names = ({name for name, _ in each.declaration.datasets} for each in (found, latest))
    return (
        found.declaration != latest.declaration
        and found.declaration.project == latest.declaration.project
        and not names.isdisjoint(latest_names)
        and found.used_ns < latest.since_ns
    )


def _names(directory: str) -> list[str]:
    with suppress(OSError):
        return [name for name in os.listdir(directory) if name.endswith(_SUFFIX)]
    return []


def _read(path: str) -> Declared | None:
    try:
        with open(path, "rb", buffering=0) as file:
            values = json.loads(file.read())
            used_ns = os.fstat(file.fileno()).st_mtime_ns
        if values["format"] != FORMAT:
            return None
        datasets = tuple((str(name), str(source)) for name, source in values["datasets"])
        return Declared(path, Declaration(str(values["project"]), datasets), int(values["since_ns"]), used_ns)
    except (OSError, ValueError, TypeError, KeyError):
        return None
