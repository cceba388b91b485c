"""`catalog clean`: what in the cache is of no use to anybody any more?"""

from __future__ import annotations

import click

from ._chosen import open_catalog
from ._options import Settings, catalog_command
from ._output import print_json, print_lines, size_text


@catalog_command("clean")
@click.pass_obj
def command(settings: Settings) -> None:
    """Remove leftovers from the cache.

    That is: unfinished downloads that nobody works at, and copies of datasets that the catalog doesn't have any more.

    \b
    Examples:
      catalog clean
      catalog clean --json | jq .bytes
    """  # noqa: D301  # \\b is click's mark for lines that stay as they are
    with open_catalog(settings) as catalog:
        freed = catalog.clean()
    if settings.json:
        print_json({"bytes": freed})
    else:
        print_lines(f"{size_text(freed)} removed")
