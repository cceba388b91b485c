"""`catalog init`: how does a catalog file begin? With what is named on the command line, or with an example."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .._catalog_file import parse_catalog_file
from .._discovery import FILE_NAME
from .._errors import ConfigurationError
from ._options import Settings, catalog_command
from ._output import print_json, print_lines, say

_HEAD = """\
# The datasets of this project: 'catalog list' shows them, and
# 'catalog fetch --all' fetches them. To have an editor help:
# 'catalog schema > datacachalog.schema.json', and as the first line here
# "#:schema ./datacachalog.schema.json"
"""
_EXAMPLE = """
# A source is a URI, or a path that is relative to this file; ${BUCKET} is
# taken from the environment.
# [datasets.customers]
# source = "s3://${BUCKET}/crm/customers.csv"
# description = "Who bought something."
"""


@catalog_command("init")
@click.argument("datasets", nargs=-1, metavar="[NAME=SOURCE]...")
@click.pass_obj
def command(settings: Settings, datasets: tuple[str, ...]) -> None:
    """Write a catalog file, datacachalog.toml, into this directory.

    A file that is there already is left alone. With --catalog FILE, that file is written.

    \b
    Examples:
      catalog init
      catalog init customers=s3://acme-data/customers.csv orders='orders/*.csv'
    """  # noqa: D301  # \\b is click's mark for lines that stay as they are
    sources: dict[str, str] = {}
    for text in datasets:
        name, equals, source = text.partition("=")
        if not equals or not name or not source:
            raise click.BadParameter(f"{text!r} is not NAME=SOURCE", param_hint="NAME=SOURCE")
        if name in sources:
            raise click.BadParameter(f"there are two datasets named {name!r}", param_hint="NAME=SOURCE")
        sources[name] = source
    file = Path(settings.catalog or FILE_NAME).absolute()
    tables = [f"\n[datasets.{_key(name)}]\nsource = {_text(source)}\n" for name, source in sources.items()]
    text = _HEAD + ("".join(tables) or _EXAMPLE)
    # A variable that isn't set here may be set where the catalog is used.
    parse_catalog_file(text, file=file, root=file.parent, environ=_Anything())
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise ConfigurationError(f"{file} is there already: add datasets to it, or remove it first") from None
    if settings.json:
        print_json({"file": str(file), "datasets": list(sources)})
    else:
        print_lines(str(file))
        say(settings, "Now: catalog fetch --all" if sources else "Now write your datasets into it.")


class _Anything(dict[str, str]):
    """An environment in which every variable is set."""

    def get(self, key: str, default: str | None = None) -> str:  # type: ignore[override]  # noqa: ARG002  # a dict's
        return key

    def __missing__(self, key: str) -> str:
        return key


def _text(value: str) -> str:
    """Write a TOML string: JSON's, but that DEL is escaped too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("-", "").replace("_", "").isalnum() else _text(name)
