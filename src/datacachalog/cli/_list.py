"""`catalog list`: which datasets are there? Answered from the catalog alone; nothing is asked, nothing opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .._errors import redact_uri
from .._models import Dataset
from ._chosen import chosen_datasets
from ._options import Settings, catalog_command
from ._output import print_json, print_table, say


@catalog_command("list")
@click.pass_obj
def command(settings: Settings) -> None:
    """Show the datasets of the catalog.

    \b
    Examples:
      catalog list
      catalog list --json | jq -r '.datasets[].name'
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    chosen = chosen_datasets(settings)
    root = None if chosen.file is None else chosen.file.root
    if settings.json:
        file = None if chosen.file is None else str(chosen.file.file)
        print_json({"file": file, "datasets": [dataset_value(dataset) for dataset in chosen.datasets]})
    elif chosen.datasets:
        rows = [(d.name, _short(d.source, root), _about(d)) for d in chosen.datasets]
        print_table(("NAME", "SOURCE", "DESCRIPTION"), rows)
    else:
        where = "the catalog" if chosen.file is None else chosen.file.file
        say(settings, f"{where} has no datasets yet")


def dataset_value(dataset: Dataset) -> dict[str, Any]:
    """Give what JSON says of a dataset."""
    return {
        "name": dataset.name,
        "source": redact_uri(dataset.source),
        "description": dataset.description,
        "tags": list(dataset.tags),
        "is_multi_file": dataset.is_multi_file,
        "cache_path": dataset.cache_path,
        "checksum": dataset.checksum,
        "max_age": dataset.max_age,
    }


def _short(source: str, root: Path | None) -> str:
    """Give a source as it was written: relative to the project, without a password."""
    return redact_uri(source).removeprefix("" if root is None else f"{root}/")


def _about(dataset: Dataset) -> str:
    tags = " ".join(f"#{tag}" for tag in dataset.tags)
    return "  ".join(part for part in (dataset.description, tags) if part)
