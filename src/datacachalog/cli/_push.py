"""`catalog push`: how does a local file become the remote's? In one step, and never over somebody else's version."""

from __future__ import annotations

from pathlib import Path

import click

from ._chosen import open_catalog
from ._options import Settings, catalog_command, dataset_name
from ._output import print_json, print_lines, size_text


@catalog_command("push")
@dataset_name
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--overwrite", is_flag=True, help="Write even if somebody else has written since.")
@click.pass_obj
def command(settings: Settings, name: str, file: Path, *, overwrite: bool) -> None:
    """Write a local file to the remote of a dataset.

    Refuses to replace a version that isn't the cached one: fetch it first, or say --overwrite. The file stays yours; a
    copy of it is in the cache, so that the next fetch downloads nothing.

    \b
    Examples:
      catalog push customers new-customers.csv
      catalog push core/customers new-customers.csv --overwrite
    """  # noqa: D301  # \\b is click's mark for lines that stay as they are
    with open_catalog(settings) as catalog:
        written = catalog.push(name, file.absolute(), on_conflict="overwrite" if overwrite else "raise")
    if settings.json:
        print_json(
            {
                "name": name,
                "etag": written.etag,
                "version_id": written.version_id,
                "size": written.size,
                "last_modified": None if written.last_modified is None else written.last_modified.isoformat(),
            }
        )
        return
    version = "" if written.version_id is None else f", version {written.version_id}"
    print_lines(f"{name}: pushed, {size_text(written.size)}{version}")
