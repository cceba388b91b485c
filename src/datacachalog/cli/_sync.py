"""`catalog sync`: what has changed? Only that is fetched, and a summary is all that is printed."""

from __future__ import annotations

from collections import Counter

import click

from ._chosen import chosen_datasets, chosen_names, open_catalog
from ._fetch import report_value, tell_report
from ._options import FAILED, Settings, catalog_command, dataset_names
from ._output import print_json, print_lines, size_text


@catalog_command("sync")
@dataset_names()
@click.pass_obj
def command(settings: Settings, names: tuple[str, ...]) -> int:
    """Fetch what is stale or missing, and print a summary.

    Without a NAME it looks at all datasets; core/ means those of the catalog core.

    \b
    Examples:
      catalog sync
      catalog sync --quiet || echo "the data is not up to date"
    """  # noqa: D301  # \\b is click's mark for lines that stay as they are
    chosen = chosen_datasets(settings)
    with open_catalog(settings, chosen) as catalog:
        report = catalog.fetch_all(chosen_names(names, chosen.datasets), on_error="collect")
    if settings.json:
        print_json(report_value(report))
    else:
        for name, result in report.items():
            if result.action in ("downloaded", "stale"):
                print_lines(f"{name}: {result.action}, {size_text(result.bytes_downloaded)}")
        counts = Counter(result.action for result in report.values())
        fresh = counts["revalidated"] + counts["cached"]
        parts = (
            f"{counts['downloaded']} downloaded ({size_text(report.bytes_downloaded)})",
            f"{fresh} up to date",
            f"{counts['stale']} stale" if counts["stale"] else "",
            f"{len(report.errors)} failed" if report.errors else "",
        )
        print_lines(", ".join(part for part in parts if part))
    tell_report(settings, report)
    return FAILED if report.errors else 0
