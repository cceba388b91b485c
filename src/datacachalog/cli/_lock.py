"""`catalog lock`: which versions are to be fetched from now on? Those of today, written down in a file."""

from __future__ import annotations

import click

from ._chosen import chosen_datasets, chosen_names, open_catalog
from ._options import Settings, catalog_command, dataset_names
from ._output import print_json, print_paths


@catalog_command("lock")
@dataset_names()
@click.option("--path", metavar="FILE", type=click.Path(dir_okay=False), help="Write this file instead.")
@click.pass_obj
def command(settings: Settings, names: tuple[str, ...], path: str | None) -> None:
    """Write down the newest versions in the data lock file.

    Fetches the datasets, writes datacachalog.lock beside the catalog file, and prints its path. With
    DATACACHALOG_FROZEN=1, or frozen = true in [config], exactly what it says is fetched.

    \b
    Examples:
      catalog lock
      DATACACHALOG_FROZEN=1 catalog fetch --all
    """  # noqa: D301  # \\b is click's mark for lines that stay as they are
    chosen = chosen_datasets(settings)
    with open_catalog(settings, chosen) as catalog:
        written = catalog.lock(chosen_names(names, chosen.datasets), path)
    if settings.json:
        print_json({"file": str(written)})
    else:
        print_paths([written])
