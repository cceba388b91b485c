"""The public names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files

import pytest

import datacachalog

PUBLIC = """
AccessDeniedError ArchiveError ArchiveTooLargeError AsyncCatalog BucketNotFoundError CacheError CacheFullError
CacheInfo CacheMetadata CachePort Catalog CatalogConfig CatalogFileError ClosedError ConfigurationError
CredentialsError DatacachalogError Dataset DatasetNotFoundError DatasetStatus DuplicateDatasetError
EmptyGlobMatchError FetchAllError FetchReport FetchResult
FileCache FileMetadata FilesystemStorage Freshness IntegrityError InvalidSourceError LockMismatchError
MultiFileDatasetError ObjectNotFoundError ObjectVersion Observer Plan PlanStep PushAllError PushConflictError PushReport
Reader RouterStorage S3Storage StaleDataWarning StorageError StoragePort StorageUnreachableError ThrottledError
TransferError UnsafePathError VersionNotFoundError VersioningNotSupportedError
"""


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_public_names_are_pinned():
    """A name is added or taken away on purpose."""
    assert sorted(PUBLIC.split()) == sorted(datacachalog.__all__)


@pytest.mark.parametrize("name", datacachalog.__all__)
def test_every_public_name_is_there(name):
    """Each name of `__all__` can be imported, and `dir()` shows it."""
    assert (True, True) == (getattr(datacachalog, name) is not None, name in dir(datacachalog))


def test_unknown_name_is_an_attribute_error():
    """A misspelt name fails like one of any module."""
    with pytest.raises(AttributeError, match="no attribute 'Catalogue'"):
        datacachalog.Catalogue  # noqa: B018  # the access is the test


def test_import_loads_nothing_heavy():
    """`import datacachalog` costs almost nothing: no client, no event loop, no display."""
    heavy = "{'botocore', 'aiobotocore', 'aiohttp', 'rich', 'anyio', 'asyncio', 'aiofiles', 'awscrt', 'click'}"
    assert "[]" == python(f"import datacachalog, sys; print(sorted({heavy} & set(sys.modules)))")


@pytest.mark.parametrize("name", ["Dataset", "CatalogConfig", "S3Storage", "RouterStorage", "Catalog", "AsyncCatalog"])
def test_public_names_load_no_client(name):
    """No name needs botocore, aiohttp or rich before it is used."""
    heavy = "{'botocore', 'aiobotocore', 'aiohttp', 'rich'}"
    assert "[]" == python(f"from datacachalog import {name}; import sys; print(sorted({heavy} & set(sys.modules)))")


def test_import_costs_little():
    """Less than 60 ms of CPU; a tenth of a second as a whole process would be noticed at a prompt."""
    code = "import time; begin = time.process_time(); import datacachalog; print(time.process_time() - begin)"
    assert min(float(python(code)) for _ in range(5)) < 0.06


def test_making_a_catalog_loads_no_client():
    """The client is loaded when something is first asked of S3, in a worker thread."""
    heavy = "{'botocore', 'aiobotocore', 'aiohttp', 'rich'}"
    make = "Catalog([Dataset('a', 's3://bucket/a')], cache_dir='cache')"
    code = f"from datacachalog import Catalog, Dataset; {make}; import sys; print(sorted({heavy} & set(sys.modules)))"
    assert "[]" == python(code)


def test_package_never_imports_its_test_kit():
    """`datacachalog.testing` is for tests."""
    code = "from datacachalog import *; import sys; print('datacachalog.testing' in sys.modules)"
    assert "False" == python(code)


def test_package_says_that_it_is_typed():
    """`py.typed` is installed with it."""
    assert files("datacachalog").joinpath("py.typed").is_file()
