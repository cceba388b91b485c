"""`catalog validate`: can everything be fetched? The catalog, the cache, and each dataset's remote; a line for each."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click

from .._models import Dataset, DatasetStatus, Freshness
from ._chosen import cache_dir_of, chosen_datasets, chosen_names, open_catalog
from ._doctor import check_value
from ._options import FOUND, Settings, catalog_command, dataset_names
from ._output import STATE_COLORS, print_json, print_table
from ._probes import Check


@catalog_command("validate")
@dataset_names()
@click.pass_obj
def command(settings: Settings, names: tuple[str, ...]) -> int:
    """Check the catalog, the cache, and each dataset's remote.

    Exits with 3 if something fails; meant for CI. Asks for the metadata of each single file, whatever max_age says, and
    for a listing of each glob or prefix. With --offline, no remote is asked.

    \b
    Examples:
      catalog validate
      catalog validate core/ --json
    """  # noqa: D301  # \\b is click's mark for lines that stay as they are
    chosen = chosen_datasets(settings)
    wanted = chosen_names(names, chosen.datasets)
    asking = [replace(dataset, max_age=0) for dataset in chosen.datasets]
    with open_catalog(settings, chosen, datasets=asking) as catalog:
        datasets = [catalog.get_dataset(name) for name in wanted] if wanted else catalog.datasets
        checks: list[Check] = [
            ("catalog", "ok", chosen.summary()),
            _cache(cache_dir_of(catalog)),
        ]
        if settings.offline:
            found: list[Check] = [
                (dataset.name, "skipped", "offline: the remote may not be asked") for dataset in datasets
            ]
        else:
            statuses = catalog.status([dataset.name for dataset in datasets])
            found = [_reached(catalog.get_dataset(status.name), status) for status in statuses]
    is_ok = all(state != "failed" for _, state, _ in (*checks, *found))
    if settings.json:
        print_json(
            {
                "is_ok": is_ok,
                "checks": [check_value(check) for check in checks],
                "datasets": [check_value(check) for check in found],
            }
        )
    else:
        print_table(("CHECK", "STATE", "DETAIL"), [*checks, *found], STATE_COLORS)
    return 0 if is_ok else FOUND


def _reached(dataset: Dataset, status: DatasetStatus) -> Check:
    if status.freshness is Freshness.UNKNOWN:
        return dataset.name, "failed", status.reason
    return dataset.name, "ok", "can be listed" if dataset.is_multi_file else "can be read"


def _cache(directory: Path | None) -> Check:
    """Tell whether the cache can be written, without making it."""
    if directory is None:
        return "cache", "ok", "no directory"
    there = next(parent for parent in (directory, *directory.parents) if parent.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return "cache", "ok", f"{directory} can be written"
    return "cache", "failed", f"{there} is no directory that can be written"
