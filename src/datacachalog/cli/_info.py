"""`catalog info`: what does the cache hold, and where? Nothing is asked of the remote."""

from __future__ import annotations

import click

from ._chosen import cache_dir_of, open_catalog
from ._options import Settings, catalog_command
from ._output import print_json, print_lines, print_table, size_text


@catalog_command("info")
@click.pass_obj
def command(settings: Settings) -> None:
    """Show what the cache holds, and where it is.

    \b
    Examples:
      catalog info
      du -sh "$(catalog info --json | jq -r .cache_dir)"
    """  # noqa: D301  # \\b is click's mark for lines that stay as they are
    with open_catalog(settings) as catalog:
        info, directory = catalog.cache_info(), cache_dir_of(catalog)
    if settings.json:
        print_json(
            {
                "cache_dir": None if directory is None else str(directory),
                "total_bytes": info.total_bytes,
                "files": info.files,
                "datasets": [{"name": name, "bytes": size} for name, size in info.datasets.items()],
            }
        )
        return
    print_table(("NAME", "CACHED"), [(name, size_text(size)) for name, size in info.datasets.items()])
    files = f"{info.files:,} {'file' if info.files == 1 else 'files'}"
    print_lines(f"{directory or 'the cache'}: {files}, {size_text(info.total_bytes)}")
