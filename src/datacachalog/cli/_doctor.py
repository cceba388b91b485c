"""`catalog doctor`: is everything here as a catalog needs it? Cache, storages, clock and credentials."""

from __future__ import annotations

import importlib.metadata
import platform
import textwrap
from collections.abc import Iterator
from typing import Any

import click

from .._errors import DatacachalogError
from .._sources import split_uri
from ._chosen import chosen_datasets, open_catalog, own_arguments, s3_storage
from ._options import FOUND, Settings, catalog_command
from ._output import STATE_COLORS, print_json, print_lines, print_table
from ._probes import Check, probe_clock, probe_credentials, probe_directory, probe_storages

_LIBRARIES = (
    "datacachalog", "aiobotocore", "botocore", "aiohttp", "anyio", "awscrt", "rich", "click",
    "pandas", "polars", "pyarrow", "duckdb", "geopandas",
)  # fmt: skip


@catalog_command("doctor")
@click.pass_obj
def command(settings: Settings) -> int:
    """Check this machine: cache, storages, clock, credentials.

    Shows the versions of what is installed too, and where credentials come from, never what they are. Exits with 3 if
    something fails. With --offline, nothing is sent.

    \b
    Examples:
      catalog doctor
      catalog doctor --json > report.json
    """  # noqa: D301  # \\b is click's mark for lines that stay as they are
    versions = dict(_versions())
    checks: list[Check] = []
    try:
        chosen = chosen_datasets(settings)
        with open_catalog(settings, chosen) as catalog:
            own = own_arguments(catalog)
    except DatacachalogError as error:
        checks.append(("catalog", "failed", str(error)))
    else:
        checks.append(("catalog", "ok", chosen.summary()))
        if (directory := getattr(own["cache"], "cache_dir", None)) is not None:
            checks += probe_directory(directory)
        checks += probe_storages(own["storage"], {split_uri(dataset.source)[0] for dataset in chosen.datasets})
        storage = s3_storage(own["storage"])
        if storage is not None and any(dataset.source.startswith("s3://") for dataset in chosen.datasets):
            checks += _s3(storage, is_offline=settings.offline)
    is_ok = all(state != "failed" for _, state, _ in checks)
    if settings.json:
        print_json(
            {
                "is_ok": is_ok,
                "checks": [check_value(check) for check in checks],
                "versions": versions,
            }
        )
    else:
        print_table(("CHECK", "STATE", "DETAIL"), checks, STATE_COLORS)
        print_lines("", textwrap.fill(", ".join(f"{name} {version}" for name, version in versions.items()), 80))
    return 0 if is_ok else FOUND


def check_value(check: Check) -> dict[str, str]:
    """Give what JSON says of a check."""
    return dict(zip(("name", "state", "detail"), check, strict=True))


def _versions() -> Iterator[tuple[str, str]]:
    yield "Python", platform.python_version()
    yield "system", f"{platform.system()} {platform.release()}"
    for name in _LIBRARIES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


def _s3(storage: Any, *, is_offline: bool) -> list[Check]:
    from botocore.session import Session

    if is_offline:
        return [("endpoint", "skipped", "offline"), ("credentials", "skipped", "offline")]
    session = Session(profile=storage.profile)
    return [
        *probe_clock(session, storage.endpoint_url, storage.region),
        probe_credentials(session, is_anonymous=storage.anonymous),
    ]
