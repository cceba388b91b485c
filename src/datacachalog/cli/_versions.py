"""`catalog versions`: which versions of a dataset does the remote keep?"""

from __future__ import annotations

import click

from ._chosen import open_catalog
from ._options import Settings, catalog_command, dataset_name
from ._output import print_json, print_table, size_text


@catalog_command("versions")
@dataset_name
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Show the newest N only.")
@click.pass_obj
def command(settings: Settings, name: str, limit: int | None) -> None:
    """Show the versions of a dataset, the newest first.

    For buckets that keep versions.

    \b
    Examples:
      catalog versions customers
      catalog versions customers --limit 5 --json
    """  # noqa: D301  # \\b is click's mark for lines that stay as they are
    with open_catalog(settings) as catalog:
        versions = catalog.versions(name, limit)
    if settings.json:
        print_json(
            {
                "name": name,
                "versions": [
                    {
                        "version_id": version.version_id,
                        "last_modified": version.last_modified.isoformat(),
                        "etag": version.etag,
                        "size": version.size,
                        "is_latest": version.is_latest,
                        "is_delete_marker": version.is_delete_marker,
                    }
                    for version in versions
                ],
            }
        )
        return
    rows = [
        (
            version.version_id,
            "deleted" if version.is_delete_marker else "latest" if version.is_latest else "",
            "-" if version.is_delete_marker else size_text(version.size),
            f"{version.last_modified:%Y-%m-%d %H:%M:%S} UTC",
        )
        for version in versions
    ]
    print_table(("VERSION", "STATE", "SIZE", "WRITTEN"), rows, {"latest": "green", "deleted": "yellow"})
