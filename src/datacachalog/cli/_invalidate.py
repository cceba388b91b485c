"""`catalog invalidate`: which copies are to be dropped, so that the next fetch downloads them?"""

from __future__ import annotations

import click

from ._chosen import chosen_datasets, chosen_names, open_catalog
from ._options import Settings, catalog_command, dataset_names
from ._output import print_json, print_lines


@catalog_command("invalidate")
@dataset_names(is_required=True)
@click.pass_obj
def command(settings: Settings, names: tuple[str, ...]) -> None:
    """Drop what is cached of datasets, so that it is fetched anew.

    \b
    Examples:
      catalog invalidate customers
      catalog invalidate core/
    """  # noqa: D301  # \\b is click's mark for lines that stay as they are
    chosen = chosen_datasets(settings)
    with open_catalog(settings, chosen) as catalog:
        wanted = chosen_names(names, chosen.datasets) or []
        for name in wanted:
            catalog.get_dataset(name)  # a name that there isn't drops nothing at all
        dropped = {name: catalog.invalidate(name) for name in wanted}
    if settings.json:
        print_json({"datasets": [{"name": name, "files": files} for name, files in dropped.items()]})
    else:
        for name, files in dropped.items():
            print_lines(f"{name}: {files} {'file' if files == 1 else 'files'} dropped")
