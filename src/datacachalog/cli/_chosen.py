"""Which catalog does the command line mean? A named one, else the project's.

What only looks at the datasets gets them without the catalog, whose import takes as long as everything else.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._catalog_file import CatalogFile
from .._discovery import find_project, named_project, read_catalog_file
from .._errors import ConfigurationError
from .._models import Dataset

if TYPE_CHECKING:
    from .._catalog import AsyncCatalog
    from .._sync import Catalog
    from ..ports import StoragePort
    from ..storage import S3Storage
    from ._options import Settings

_MODULE_ATTRIBUTE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Chosen:
    """The catalog that is meant, as far as it is known without making one.

    Args:
        datasets: in its order.
        file: the catalog file; None for a catalog that is Python.
        python: the object of a catalog that is Python.
    """

    datasets: Sequence[Dataset]
    file: CatalogFile | None
    python: Any = None

    @property
    def where(self) -> str:
        """Where the catalog is written down."""
        return "Python" if self.file is None else str(self.file.file)

    def summary(self) -> str:
        """Say where it is, and how much is in it."""
        count = len(self.datasets)
        return f"{self.where}: {count:,} {'dataset' if count == 1 else 'datasets'}"


def chosen_datasets(settings: Settings) -> Chosen:
    """Find the catalog that is meant and its datasets.

    Raises:
        ConfigurationError: there is none, or it can't be right.
    """
    named = settings.catalog
    if named is not None and _MODULE_ATTRIBUTE.fullmatch(named) and not os.path.exists(named):
        value = _imported(named)
        return Chosen(value if isinstance(value, list) else value.datasets, None, value)
    file = read_catalog_file(find_project() if named is None else named_project(named))
    return Chosen(file.datasets, file)


def open_catalog(settings: Settings, chosen: Chosen | None = None, **arguments: Any) -> Catalog:
    """Make the catalog that is meant, as the command line wants it.

    Args:
        settings: what was said to the command.
        chosen: what `chosen_datasets` has found, if it was asked already.
        **arguments: arguments of the catalog that go before its own.

    Raises:
        ConfigurationError: there is none, or it can't be right.
    """
    from .._sync import Catalog

    chosen = chosen_datasets(settings) if chosen is None else chosen
    overrides: dict[str, Any] = {"progress": False if settings.quiet else "auto"}
    if settings.cache_dir is not None:
        overrides["cache_dir"] = settings.cache_dir
    if settings.offline:
        overrides["offline"] = True
    if chosen.file is not None:
        from .._discovered import catalog_arguments

        catalog = Catalog(**{**catalog_arguments(chosen.file, overrides), **arguments})
        catalog._core._lock_directory = chosen.file.file.parent  # noqa: SLF001  # the command is of this package
        return catalog
    return Catalog(**{**_arguments_of(chosen.python, overrides), **arguments})


def chosen_names(names: Sequence[str], datasets: Iterable[Dataset]) -> list[str] | None:
    """Give the names that are meant: `core/` means all of the catalog `core`, and no name at all means everything."""
    known = [dataset.name for dataset in datasets]
    meant: list[str] = []
    for name in names:
        inside = [one for one in known if one.startswith(name)] if name.endswith("/") and name not in known else []
        meant += inside or [name]
    return list(dict.fromkeys(meant)) or None


def own_arguments(catalog: Catalog | AsyncCatalog) -> dict[str, Any]:
    """Give the arguments that a catalog was made of."""
    core: Any = getattr(catalog, "_core", catalog)
    arguments: dict[str, Any] = core._arguments()  # noqa: SLF001  # the command is of this package
    return arguments


def cache_dir_of(catalog: Catalog) -> Path | None:
    """Give the directory of a catalog's cache; None if it has none."""
    directory: Path | None = getattr(own_arguments(catalog)["cache"], "cache_dir", None)
    return directory


def s3_storage(storage: StoragePort) -> S3Storage | None:
    """Give the S3 storage that a storage is, or leads to."""
    from ..storage import RouterStorage, S3Storage

    found = storage.storages.get("s3") if isinstance(storage, RouterStorage) else storage
    return found if isinstance(found, S3Storage) else None


def _arguments_of(value: Any, overrides: dict[str, Any]) -> dict[str, Any]:
    from .._config import CatalogConfig

    arguments: dict[str, Any] = {"datasets": value} if isinstance(value, list) else own_arguments(value)
    if "cache_dir" in overrides:
        arguments |= {"cache": None, "cache_dir": overrides["cache_dir"]}
    elif isinstance(value, list):
        arguments["cache_dir"] = os.environ.get("DATACACHALOG_CACHE_DIR")
    if overrides.get("offline"):
        arguments["config"] = replace(arguments.get("config") or CatalogConfig(), offline=True)
    return {**arguments, "progress": overrides["progress"]}


def _imported(named: str) -> Any:
    """Import `module:attribute`: a catalog, or the datasets of one; the working directory is looked into first."""
    from .._catalog import AsyncCatalog
    from .._sync import Catalog

    module_name, _, attribute = named.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        value = getattr(import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ConfigurationError(f"--catalog {named}: there is no module {error.name!r}") from None
    except AttributeError:
        raise ConfigurationError(f"--catalog {named}: the module has no {attribute!r}") from None
    if isinstance(value, Catalog | AsyncCatalog):
        return value
    datasets = list(value) if isinstance(value, Iterable) else [value]
    if all(isinstance(one, Dataset) for one in datasets):
        return datasets
    raise ConfigurationError(f"--catalog {named}: a catalog or a list of datasets is expected: got {type(value)}")
