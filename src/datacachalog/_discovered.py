"""What are the arguments of the catalog that a project's file describes? Argument before environment before file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ._catalog_file import CatalogFile
from ._config import CatalogConfig
from ._discovery import find_project, read_catalog_file
from ._errors import ConfigurationError
from .storage import RouterStorage, S3Storage

ENVIRONMENT_OF_S3: Mapping[str, tuple[str, ...]] = {
    "endpoint_url": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "region": ("AWS_DEFAULT_REGION",),
    "profile": ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID"),
}
"""What of `[storage.s3]` gives way to which environment variables, as botocore reads them."""

_ARGUMENTS = ("cache_dir", "config", "storage", "cache", "progress")
_SETTINGS = tuple(field.name for field in fields(CatalogConfig))


def discovered_arguments(
    start: str | os.PathLike[str] | None, overrides: Mapping[str, Any]
) -> tuple[Path, dict[str, Any]]:
    """Find the project's catalog file; give its directory, and the arguments of its catalog."""
    described = read_catalog_file(find_project(start))
    return described.file.parent, catalog_arguments(described, overrides)


def catalog_arguments(described: CatalogFile, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Give the arguments of the catalog that a file describes.

    Args:
        described: the file.
        overrides: arguments of a catalog, and fields of `CatalogConfig`, that go before it.

    Raises:
        ConfigurationError: an override that there isn't, or a setting that can't be right.
    """
    for name in overrides:
        if name not in _ARGUMENTS + _SETTINGS:
            raise ConfigurationError(
                f"discover() takes the arguments of a catalog ({', '.join(_ARGUMENTS)}) and the settings of"
                f" CatalogConfig: got {name!r}"
            )
    arguments = {name: overrides[name] for name in _ARGUMENTS if name in overrides}
    if arguments.get("config") is None:
        arguments["config"] = CatalogConfig.from_mapping(described.config)
    settings = {name: overrides[name] for name in _SETTINGS if name in overrides}
    arguments["config"] = replace(arguments["config"], **settings)
    if arguments.get("cache") is None and arguments.get("cache_dir") is None:
        arguments["cache_dir"] = os.environ.get("DATACACHALOG_CACHE_DIR") or described.cache_dir
    if arguments.get("storage") is None and described.storage:
        arguments["storage"] = _storage(described)
    return {"datasets": described.datasets, **arguments}


def s3_arguments(described: CatalogFile) -> dict[str, Any]:
    """Give what the file says of S3 and the environment doesn't."""
    return {
        name: value
        for name, value in described.storage.get("s3", {}).items()
        if not any(os.environ.get(variable) for variable in ENVIRONMENT_OF_S3.get(name, ()))
    }


def _storage(described: CatalogFile) -> RouterStorage:
    try:
        return RouterStorage({**RouterStorage().storages, "s3": S3Storage(**s3_arguments(described))})
    except ConfigurationError as error:
        raise described.error(("storage", "s3"), str(error)) from None
