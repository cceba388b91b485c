"""datacachalog: a name in, a local `Path` with the right bytes out.

Importing this package costs almost nothing: each public name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._catalog import AsyncCatalog as AsyncCatalog
    from ._config import CatalogConfig as CatalogConfig
    from ._errors import AccessDeniedError as AccessDeniedError
    from ._errors import ArchiveError as ArchiveError
    from ._errors import ArchiveTooLargeError as ArchiveTooLargeError
    from ._errors import BucketNotFoundError as BucketNotFoundError
    from ._errors import CacheError as CacheError
    from ._errors import CacheFullError as CacheFullError
    from ._errors import CatalogFileError as CatalogFileError
    from ._errors import ClosedError as ClosedError
    from ._errors import ConfigurationError as ConfigurationError
    from ._errors import CredentialsError as CredentialsError
    from ._errors import DatacachalogError as DatacachalogError
    from ._errors import DatasetNotFoundError as DatasetNotFoundError
    from ._errors import DuplicateDatasetError as DuplicateDatasetError
    from ._errors import EmptyGlobMatchError as EmptyGlobMatchError
    from ._errors import FetchAllError as FetchAllError
    from ._errors import IntegrityError as IntegrityError
    from ._errors import InvalidSourceError as InvalidSourceError
    from ._errors import LockMismatchError as LockMismatchError
    from ._errors import MultiFileDatasetError as MultiFileDatasetError
    from ._errors import ObjectNotFoundError as ObjectNotFoundError
    from ._errors import PushAllError as PushAllError
    from ._errors import PushConflictError as PushConflictError
    from ._errors import StaleDataWarning as StaleDataWarning
    from ._errors import StorageError as StorageError
    from ._errors import StorageUnreachableError as StorageUnreachableError
    from ._errors import ThrottledError as ThrottledError
    from ._errors import TransferError as TransferError
    from ._errors import UnsafePathError as UnsafePathError
    from ._errors import VersioningNotSupportedError as VersioningNotSupportedError
    from ._errors import VersionNotFoundError as VersionNotFoundError
    from ._models import CacheInfo as CacheInfo
    from ._models import CacheMetadata as CacheMetadata
    from ._models import Dataset as Dataset
    from ._models import DatasetStatus as DatasetStatus
    from ._models import FetchReport as FetchReport
    from ._models import FetchResult as FetchResult
    from ._models import FileMetadata as FileMetadata
    from ._models import Freshness as Freshness
    from ._models import ObjectVersion as ObjectVersion
    from ._models import Plan as Plan
    from ._models import PlanStep as PlanStep
    from ._models import PushReport as PushReport
    from ._sync import Catalog as Catalog
    from .cache import FileCache as FileCache
    from .ports import CachePort as CachePort
    from .ports import Observer as Observer
    from .ports import Reader as Reader
    from .ports import StoragePort as StoragePort
    from .storage import FilesystemStorage as FilesystemStorage
    from .storage import RouterStorage as RouterStorage
    from .storage import S3Storage as S3Storage

__version__ = "0.1.0"

_MODULE_OF_NAME = {
    "AsyncCatalog": "_catalog",
    "Catalog": "_sync",
    "CatalogConfig": "_config",
    "FileCache": "cache",
    "FilesystemStorage": "storage",
    "RouterStorage": "storage",
    "S3Storage": "storage",
    **dict.fromkeys(("CachePort", "Observer", "Reader", "StoragePort"), "ports"),
    **dict.fromkeys(
        (
            "CacheInfo",
            "CacheMetadata",
            "Dataset",
            "DatasetStatus",
            "FetchReport",
            "FetchResult",
            "FileMetadata",
            "Freshness",
            "ObjectVersion",
            "Plan",
            "PlanStep",
            "PushReport",
        ),
        "_models",
    ),
    **dict.fromkeys(
        (
            "AccessDeniedError",
            "ArchiveError",
            "ArchiveTooLargeError",
            "BucketNotFoundError",
            "CacheError",
            "CacheFullError",
            "CatalogFileError",
            "ClosedError",
            "ConfigurationError",
            "CredentialsError",
            "DatacachalogError",
            "DatasetNotFoundError",
            "DuplicateDatasetError",
            "EmptyGlobMatchError",
            "FetchAllError",
            "IntegrityError",
            "InvalidSourceError",
            "LockMismatchError",
            "MultiFileDatasetError",
            "ObjectNotFoundError",
            "PushAllError",
            "PushConflictError",
            "StaleDataWarning",
            "StorageError",
            "StorageUnreachableError",
            "ThrottledError",
            "TransferError",
            "UnsafePathError",
            "VersionNotFoundError",
            "VersioningNotSupportedError",
        ),
        "_errors",
    ),
}

__all__ = sorted(_MODULE_OF_NAME)


def __getattr__(name: str) -> object:
    module = _MODULE_OF_NAME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
