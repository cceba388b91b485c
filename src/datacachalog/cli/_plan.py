"""`catalog plan`: what would a fetch do, in requests and bytes? Nothing is downloaded."""

from __future__ import annotations

from typing import Any

import click

from .._errors import redact_uri
from .._models import PlanStep
from ._chosen import chosen_datasets, chosen_names, open_catalog
from ._options import Settings, catalog_command, dataset_names
from ._output import print_json, print_lines, print_table

_COLORS = {"download": "yellow", "fail": "red"}


@catalog_command("plan")
@dataset_names()
@click.pass_obj
def command(settings: Settings, names: tuple[str, ...]) -> None:
    """Show what a fetch would do and why, without doing it.

    Asks the remote for metadata only. Without a NAME it plans all datasets; core/ means those of the catalog core.

    \b
    Examples:
      catalog plan
      catalog plan --json | jq .bytes
    """  # noqa: D301  # \\b is click's mark for lines that stay as they are
    chosen = chosen_datasets(settings)
    with open_catalog(settings, chosen) as catalog:
        plan = catalog.plan(chosen_names(names, chosen.datasets))
    if settings.json:
        steps = [step_value(step) for step in plan.steps]
        print_json({"steps": steps, "requests": plan.requests, "bytes": plan.bytes})
        return
    print_table(
        ("NAME", "ACTION", "BYTES", "REQUESTS", "REASON"),
        [(step.name, step.action, f"{step.bytes:,}", f"{step.requests:,}", step.reason) for step in plan.steps],
        _COLORS,
    )
    print_lines(str(plan).rpartition("\n")[2])


def step_value(step: PlanStep) -> dict[str, Any]:
    """Give what JSON says of a step."""
    return {
        "name": step.name,
        "source": redact_uri(step.source),
        "action": step.action,
        "bytes": step.bytes,
        "requests": step.requests,
        "reason": step.reason,
    }
