"""`catalog evict`: how is the cache made smaller? Copies go, the least recently used first."""

from __future__ import annotations

import re

import click

from ._chosen import open_catalog
from ._options import Settings, catalog_command
from ._output import print_json, print_lines, size_text

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def _bytes(text: str) -> int:
    """Read a number of bytes: `1000000`, `10GB`, `512MiB`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", text.strip().lower())
    if found is None or found[2] not in _UNITS:
        raise click.BadParameter(f"{text!r} is no number of bytes: write 1000000, 10GB or 512MiB")
    return int(float(found[1]) * _UNITS[found[2]])


@catalog_command("evict")
@click.option("--max-bytes", type=_bytes, metavar="SIZE", help="What all copies together may have.")
@click.option("--min-free-bytes", type=_bytes, metavar="SIZE", help="What is to be free on the disk.")
@click.pass_obj
def command(settings: Settings, max_bytes: int | None, min_free_bytes: int | None) -> None:
    """Remove copies, the least recently used first.

    Until the cache is within the bounds given, else within those of the settings. Copies in use stay. The copies of all
    catalogs that share the cache count, and may go.

    \b
    Examples:
      catalog evict --max-bytes 10GB
      catalog evict --min-free-bytes 5GB
    """  # noqa: D301  # \\b is click's mark for lines that stay as they are
    with open_catalog(settings) as catalog:
        freed = catalog.evict(max_bytes, min_free_bytes)
    if settings.json:
        print_json({"bytes": freed})
    else:
        print_lines(f"{size_text(freed)} removed")
