"""`catalog schema`: of which form is a catalog file, or what a command prints as JSON?"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import click

from ._output import print_lines

CATALOG_FILE = "catalog-file"


def names() -> list[str]:
    """Name what there is a schema of: the catalog file, and each command that prints JSON."""
    return [CATALOG_FILE, *(name for name in _read("commands")["$defs"] if not name.startswith("_"))]


def schema_of(name: str) -> dict[str, Any]:
    """Give the JSON Schema of the catalog file, or of a command's output."""
    return _read(CATALOG_FILE) if name == CATALOG_FILE else {**_read("commands"), "$ref": f"#/$defs/{name}"}


def _read(name: str) -> dict[str, Any]:
    text = files("datacachalog").joinpath("schemas", f"{name}.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@click.command("schema")
@click.argument("name", required=False, default=CATALOG_FILE, metavar="[NAME]")
def command(name: str) -> None:
    """Print a JSON Schema: of the catalog file, or of a command.

    That of the command NAME is of what it prints with --json.

    \b
    Examples:
      catalog schema > datacachalog.schema.json     # for editors that know TOML
      catalog schema status
    """  # noqa: D301  # \\b is click's mark for lines that stay as they are
    if name not in names():
        raise click.BadParameter(f"{name!r} is none of {', '.join(names())}", param_hint="NAME")
    print_lines(json.dumps(schema_of(name), indent=2))
