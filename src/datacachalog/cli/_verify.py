"""`catalog verify`: which cached files were changed since they were published? Every byte of the cache is read."""

from __future__ import annotations

import click

from ._chosen import chosen_datasets, chosen_names, open_catalog
from ._options import FOUND, Settings, catalog_command, dataset_names
from ._output import print_json, print_paths, say


@catalog_command("verify")
@dataset_names()
@click.pass_obj
def command(settings: Settings, names: tuple[str, ...]) -> int:
    """Read the cached files and print those that were changed.

    Exits with 3 if there are any. Nothing is asked of the remote. 'catalog invalidate' drops them.

    \b
    Examples:
      catalog verify
      catalog verify customers
    """  # noqa: D301  # \\b is click's mark for lines that stay as they are
    chosen = chosen_datasets(settings)
    with open_catalog(settings, chosen) as catalog:
        changed = catalog.verify(chosen_names(names, chosen.datasets))
    if settings.json:
        print_json({"changed": [str(path) for path in changed]})
    else:
        print_paths(changed)
        say(settings, f"{len(changed)} changed" if changed else "no file was changed")
    return FOUND if changed else 0
