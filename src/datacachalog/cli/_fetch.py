"""`catalog fetch`: where are the files? Their paths on standard output, one a line, and nothing else there."""

from __future__ import annotations

from typing import Any

import click

from .._models import FetchReport
from ._chosen import chosen_datasets, chosen_names, open_catalog
from ._options import FAILED, Settings, catalog_command, dataset_names
from ._output import print_json, print_paths, say, show_error, size_text


@catalog_command("fetch")
@dataset_names()
@click.option("--all", "is_all", is_flag=True, help="Fetch every dataset of the catalog.")
@click.option("--force", is_flag=True, help="Download in any case.")
@click.pass_obj
def command(settings: Settings, names: tuple[str, ...], *, is_all: bool, force: bool) -> int:
    """Fetch datasets and print the paths of their files.

    What has not changed is not downloaded. core/ means all datasets of the catalog core. If one dataset fails, the
    others are fetched all the same, and the exit code is 1.

    \b
    Examples:
      path=$(catalog fetch customers)
      catalog fetch --all
      catalog fetch core/ --json
    """  # noqa: D301  # \\b is click's mark for lines that stay as they are
    if is_all == bool(names):
        raise click.UsageError("Name the datasets to fetch, or say --all.")
    chosen = chosen_datasets(settings)
    wanted = chosen_names(names, chosen.datasets)
    with open_catalog(settings, chosen) as catalog:
        report = catalog.fetch_all(wanted, force=force, on_error="collect")
    if settings.json:
        print_json(report_value(report))
    else:
        for name in wanted or report:
            if name in report:
                print_paths(report[name].paths)
    tell_report(settings, report)
    return FAILED if report.errors else 0


def report_value(report: FetchReport) -> dict[str, Any]:
    """Give what JSON says of a report."""
    return {
        "datasets": [
            {
                "name": name,
                "paths": [str(path) for path in result.paths],
                "action": result.action,
                "bytes_downloaded": result.bytes_downloaded,
                "reason": result.reason,
                "verified_by": result.verified_by,
            }
            for name, result in report.items()
        ],
        "errors": [
            {"name": name, "type": type(error).__name__, "message": str(error)} for name, error in report.errors.items()
        ],
        "bytes_downloaded": report.bytes_downloaded,
        "requests": report.requests,
        "seconds": report.seconds,
    }


def tell_report(settings: Settings, report: FetchReport) -> None:
    """Say on standard error what failed, and if more is to be said, what was done and why."""
    if settings.verbose:
        for name, result in report.items():
            say(settings, f"{name}: {result.action}, {size_text(result.bytes_downloaded)}, {result.reason}")
    for name, error in report.errors.items():
        show_error(f"{name}: {error}")
