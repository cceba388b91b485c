"""How is a result said? On standard output and nothing else there: as text for people, or as JSON for programs.

The JSON is that of `catalog schema`. A table fits the terminal's width; in a pipe it is whole.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from ._options import Settings

VERSION = 1
"""Of the JSON: raised when a field changes its meaning or goes; new fields may come without."""


_NUMBERS = frozenset({"BYTES", "REQUESTS", "SIZE", "AGE", "CACHED"})
"""Columns that are aligned on the right, and never cut."""

_LEAST_CELLS = 12
"""To this width, and no further, a column is cut for the others' sake."""

_IN_THE_SHELL = (
    (r"push with on_conflict='overwrite'", "push with --overwrite"),
    (r"lock\(\['(.*?)'\]\) on a catalog that is not frozen", r"'DATACACHALOG_FROZEN=0 catalog lock \1'"),
)
"""What the errors advise in Python, and what does the same here."""

STATE_COLORS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "yellow"}
"""Of the states that a check can have."""


def print_json(value: Mapping[str, Any]) -> None:
    """Print a result as JSON."""
    click.echo(json.dumps({"version": VERSION, **value}, indent=2, ensure_ascii=not _is_unicode(sys.stdout)))


def print_lines(*lines: str) -> None:
    """Print a result as text."""
    for line in lines:
        click.echo(line, color=has_colors(sys.stdout))


def print_paths(paths: Iterable[Path]) -> None:
    """Print paths, one a line: the bytes that the file system has, also where they are no text."""
    for path in paths:
        text = str(path)
        try:
            text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
        except UnicodeEncodeError:
            click.echo(os.fsencode(path))
        else:
            click.echo(text)


def say(settings: Settings, line: str) -> None:
    """Tell, on standard error, what is not the result."""
    if not settings.quiet:
        click.echo(line, err=True, color=has_colors(sys.stderr))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], colors: Mapping[str, str] | None = None) -> None:
    """Print a table, its widest columns cut where it wouldn't fit on the terminal.

    Args:
        header: the columns' names.
        rows: their cells.
        colors: the second column's cells that have a colour.
    """
    clean = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(cells_of(row[column]) for row in clean) for column in range(len(header))]
    limit = shutil.get_terminal_size().columns if _is_terminal(sys.stdout) else None
    if limit is not None:
        widths = _fitted(widths, limit, [column for column, name in enumerate(header) if name not in _NUMBERS])
    for number, row in enumerate(clean):
        cells = [_cut(cell, width) for cell, width in zip(row, widths, strict=True)]
        padded = []
        for name, cell, width in zip(header, cells, widths, strict=True):
            space = " " * (width - cells_of(cell))
            padded.append(space + cell if name in _NUMBERS else cell + space)
        line = _cut("  ".join(padded).rstrip(), limit)
        color = colors.get(row[1]) if colors and number else None
        begin = f"{padded[0]}  {cells[1]}"
        if color is not None and line.startswith(begin):
            line = f"{padded[0]}  {click.style(cells[1], fg=color)}{line[len(begin) :]}"
        print_lines(line if number else click.style(line, bold=True))


def _fitted(widths: Sequence[int], limit: int, columns: Sequence[int]) -> list[int]:
    """Narrow the widest of some columns again and again until a line has at most `limit` cells, or says too little."""
    fitted = list(widths)
    while sum(fitted) + 2 * (len(fitted) - 1) > limit:
        widest = max(columns, key=fitted.__getitem__)
        if fitted[widest] <= _LEAST_CELLS:
            break
        fitted[widest] -= 1
    return fitted


def cells_of(text: str) -> int:
    """Count the cells of a terminal that a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _cut(text: str, limit: int | None) -> str:
    if limit is None or cells_of(text) <= limit:
        return text
    kept = text[:limit]
    while cells_of(kept) > limit - 1:
        kept = kept[:-1]
    return f"{kept}…"


def printable(text: str) -> str:
    """Replace what would do something to a terminal."""
    if text.isprintable():
        return text
    from ..progress._wording import printable as replaced

    return replaced(text)


def has_colors(stream: TextIO) -> bool:
    """Tell whether to colour: `NO_COLOR` says no, `FORCE_COLOR` yes, else only a terminal that can."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (_is_terminal(stream) and os.environ.get("TERM") != "dumb")


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # the shell or the program has closed it
        return False


def _is_unicode(stream: TextIO) -> bool:
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"


def show_error(text: object) -> None:
    """Say what failed, on standard error, and what to do in words of the shell."""
    words = str(text)
    for python, shell in _IN_THE_SHELL:
        words = re.sub(python, shell, words)
    show("Error", words, "red")


def show(kind: str, text: object, color: str) -> None:
    """Say a line of a kind on standard error."""
    click.echo(f"{click.style(kind, fg=color)}: {text}", err=True, color=has_colors(sys.stderr))


def size_text(count: int | None) -> str:
    """Say a number of bytes."""
    from ..progress._wording import bytes_text

    return "-" if count is None else bytes_text(count)


def age_text(moment: datetime | None) -> str:
    """Say how long ago something was, in the largest whole unit."""
    if moment is None:
        return "-"
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
