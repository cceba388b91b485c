"""`catalog status`: which copies are fresh? The remote is asked, nothing is downloaded."""

from __future__ import annotations

from typing import Any

import click

from .._errors import redact_uri
from .._models import DatasetStatus, Freshness
from ._chosen import chosen_datasets, chosen_names, open_catalog
from ._options import FOUND, Settings, catalog_command, dataset_names
from ._output import age_text, print_json, print_table, size_text

COLORS = {"fresh": "green", "stale": "yellow", "missing": "blue", "unknown": "red"}


@catalog_command("status")
@dataset_names()
@click.option("--check", is_flag=True, help="Exit with 3 unless every dataset is fresh.")
@click.pass_obj
def command(settings: Settings, names: tuple[str, ...], *, check: bool) -> int:
    """Show which copies are fresh, stale or missing.

    Asks the remote for metadata only. Without a NAME it shows all datasets; core/ means those of the catalog core.

    \b
    Examples:
      catalog status
      catalog status customers --json
      catalog status --check || catalog sync
    """  # noqa: D301  # \\b is click's mark for lines that stay as they are
    chosen = chosen_datasets(settings)
    with open_catalog(settings, chosen) as catalog:
        statuses = catalog.status(chosen_names(names, chosen.datasets))
    if settings.json:
        print_json({"datasets": [status_value(status) for status in statuses]})
    else:
        rows = [(s.name, s.freshness.value, size_text(s.size), age_text(s.cached_at), s.reason) for s in statuses]
        print_table(("NAME", "STATUS", "SIZE", "AGE", "REASON"), rows, COLORS)
    return FOUND if check and any(status.freshness is not Freshness.FRESH for status in statuses) else 0


def status_value(status: DatasetStatus) -> dict[str, Any]:
    """Give what JSON says of a status."""
    return {
        "name": status.name,
        "source": redact_uri(status.source),
        "freshness": status.freshness.value,
        "path": None if status.path is None else str(status.path),
        "size": status.size,
        "cached_at": None if status.cached_at is None else status.cached_at.isoformat(),
        "reason": status.reason,
        "last_modified": None if status.last_modified is None else status.last_modified.isoformat(),
    }
