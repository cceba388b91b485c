"""`catalog explain`: why is a copy fresh or stale, what would a fetch send, and which setting comes from where?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import click

from .._catalog_file import S3_KEYS, CatalogFile, Key
from .._config import CatalogConfig
from .._errors import redact_uri
from .._models import Dataset
from ._chosen import Chosen, cache_dir_of, chosen_datasets, open_catalog, own_arguments
from ._list import dataset_value
from ._options import Settings, catalog_command, dataset_name
from ._output import age_text, print_json, print_lines, print_table, printable, size_text
from ._plan import step_value
from ._status import status_value

_Origin = tuple[str, object, str]
"""A setting, its value, and where that comes from."""


@catalog_command("explain")
@dataset_name
@click.pass_obj
def command(settings: Settings, name: str) -> None:
    """Say why a copy is fresh or stale, and what a fetch would do.

    And where each setting comes from: an option, a variable, a line of a file, or the default. Asks the remote for
    metadata only.

    \b
    Examples:
      catalog explain customers
      catalog explain core/customers --json
    """  # noqa: D301  # \\b is click's mark for lines that stay as they are
    chosen = chosen_datasets(settings)
    with open_catalog(settings, chosen) as catalog:
        dataset = catalog.get_dataset(name)
        [status], plan = catalog.status([name]), catalog.plan([name])
        origins = list(_origins(settings, chosen, dataset, own_arguments(catalog)["config"], cache_dir_of(catalog)))
    [step] = plan.steps
    if settings.json:
        print_json(
            {
                "dataset": dataset_value(dataset),
                "status": status_value(status),
                "plan": step_value(step),
                "settings": [{"name": key, "value": value, "from": origin} for key, value, origin in origins],
            }
        )
        return
    cached, size = "nothing", ""
    if status.cached_at is not None:
        cached = str(status.path or "its files")
        size = f"{size_text(status.size)}, published {age_text(status.cached_at)} ago"
    requests = f"{step.requests} {'request' if step.requests == 1 else 'requests'}"
    facts = {
        "source": redact_uri(dataset.source),
        "about": dataset.description,
        "cached": cached,
        "size": size,
        "status": f"{status.freshness.value}: {status.reason}",
        "a fetch": f"{step.action}: {step.bytes:,} bytes in {requests}; {step.reason}",
    }
    print_lines(click.style(name, bold=True))
    print_lines(*(f"  {key:<8} {printable(fact)}" for key, fact in facts.items() if fact), "")
    print_table(("SETTING", "VALUE", "FROM"), [(key, str(value), origin) for key, value, origin in origins])


def _origins(
    settings: Settings, chosen: Chosen, dataset: Dataset, config: CatalogConfig, cache_dir: object
) -> Iterator[_Origin]:
    file = chosen.file
    said = {} if file is None else file.config
    yield "cache_dir", None if cache_dir is None else str(cache_dir), _origin_of_cache(settings, chosen)
    settled: dict[str, _Origin] = {}
    for field in fields(CatalogConfig):
        name, value = field.name, getattr(config, field.name)
        variable = f"DATACACHALOG_{name.upper()}"
        if name == "offline" and settings.offline:
            origin = "--offline"
        elif file is None:
            origin = "the Python catalog, or the environment or default that it takes"
        elif os.environ.get(variable, "").strip():
            origin = variable
        else:
            origin = _place(file, ("config", name)) if name in said else "default"
        settled[name] = (name, value, origin)
    if dataset.max_age is None:
        yield "max_age", *settled["max_age_seconds"][1:]
    else:
        own = ("datasets", dataset.name)
        named = ("catalogs", dataset.name.partition("/")[0], "datasets", dataset.name.partition("/")[2])
        key = own if file is None or own in file.lines else named
        yield "max_age", dataset.max_age, "the Python catalog" if file is None else _place(file, (*key, "max_age"))
    yield from settled.values()
    if file is not None and dataset.source.startswith("s3://"):
        yield from _origins_of_s3(file)


def _origins_of_s3(file: CatalogFile) -> Iterator[_Origin]:
    from .._discovered import ENVIRONMENT_OF_S3

    said = file.storage.get("s3", {})
    for name in S3_KEYS:
        variables = [variable for variable in ENVIRONMENT_OF_S3.get(name, ()) if os.environ.get(variable)]
        if variables and variables[0] != "AWS_ACCESS_KEY_ID":
            yield f"s3.{name}", redact_uri(os.environ[variables[0]]), variables[0]
        elif variables:
            yield f"s3.{name}", None, "AWS_ACCESS_KEY_ID, which goes before a profile"
        elif name in said:
            value: Any = said[name]
            yield f"s3.{name}", value, _place(file, ("storage", "s3", name))


def _origin_of_cache(settings: Settings, chosen: Chosen) -> str:
    if settings.cache_dir is not None:
        return "--cache-dir"
    if chosen.file is None:
        return "the Python catalog"
    if os.environ.get("DATACACHALOG_CACHE_DIR"):
        return "DATACACHALOG_CACHE_DIR"
    return _place(chosen.file, ("cache_dir",)) if chosen.file.cache_dir is not None else "default"


def _place(file: CatalogFile, key: Key) -> str:
    return f"{file.file.name}:{file.lines[key]}"
