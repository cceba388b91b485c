"""The error tree: builtin parents, facts, texts that say what to do, pickles, and no secrets."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path

import pytest

import datacachalog
from datacachalog import _errors
from datacachalog._errors import (
    ArchiveError,
    ArchiveTooLargeError,
    CatalogFileError,
    DatacachalogError,
    DatasetNotFoundError,
    EmptyGlobMatchError,
    FetchAllError,
    IntegrityError,
    InvalidSourceError,
    LockMismatchError,
    MultiFileDatasetError,
    ObjectNotFoundError,
    PushAllError,
    PushConflictError,
    StorageError,
    StorageUnreachableError,
    ThrottledError,
    redact_uri,
)
from datacachalog._models import FetchReport, PushReport

SECRET = "wJalrXUtnFEMI-never-to-be-seen"
CLASSES = [c for _, c in inspect.getmembers(_errors, inspect.isclass) if issubclass(c, DatacachalogError)]
SPECIAL = {
    "ArchiveError": ArchiveError("s3://bucket/a.zip", "it is no whole zip archive"),
    "ArchiveTooLargeError": ArchiveTooLargeError("s3://bucket/a.zip", "it has too many files", hint="allow more"),
    "CatalogFileError": CatalogFileError("unknown key", file=Path("datacachalog.toml"), line=3),
    "DatasetNotFoundError": DatasetNotFoundError("custmers", ["customers", "orders"]),
    "EmptyGlobMatchError": EmptyGlobMatchError("s3://bucket/*.csv"),
    "LockMismatchError": LockMismatchError("customers", "it has another digest"),
    "FetchAllError": FetchAllError(
        "1 of 1 failed",
        [ObjectNotFoundError("s3://bucket/a", "404")],
        FetchReport({}, {"a": ObjectNotFoundError("s3://bucket/a", "404")}, 1, 0.5),
    ),
    "IntegrityError": IntegrityError("s3://bucket/a", expected="md5:a", got="md5:b"),
    "InvalidSourceError": InvalidSourceError("x://bucket/a", "no such scheme"),
    "MultiFileDatasetError": MultiFileDatasetError("logs", "s3://bucket/logs/"),
    "PushAllError": PushAllError(
        "1 of 1 failed",
        [PushConflictError("s3://bucket/a", expected_etag=None, found_etag="2")],
        PushReport({}, {"a": PushConflictError("s3://bucket/a", expected_etag=None, found_etag="2")}, 1, 0.5, 0),
    ),
    "PushConflictError": PushConflictError("s3://bucket/a", expected_etag="1", found_etag="2"),
    "StorageUnreachableError": StorageUnreachableError("s3://bucket/a", "refused", retry_after_seconds=2.0),
    "ThrottledError": ThrottledError("s3://bucket/a", "503", hint="slow down", retry_after_seconds=3.0),
}


def example(cls: type[DatacachalogError]) -> DatacachalogError:
    if cls.__name__ in SPECIAL:
        return SPECIAL[cls.__name__]
    return cls("s3://bucket/a", "403 AccessDenied") if issubclass(cls, StorageError) else cls("what happened")


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_errors_pickle_with_their_text_and_facts(cls):
    """An error that comes back from a process pool says the same."""
    error = example(cls)
    copy = pickle.loads(pickle.dumps(error))
    facts = {name: str(value) for name, value in vars(error).items()}
    assert (cls, str(error), facts) == (type(copy), str(copy), {name: str(value) for name, value in vars(copy).items()})


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_is_public(cls):
    """What is raised can be caught by its name at the package's root."""
    assert cls is getattr(datacachalog, cls.__name__)


def test_tree_of_the_docstring_is_the_tree():
    """The tree drawn in the module's docstring names every class, with its builtin parent, and no other."""
    drawn = dict(re.findall(r"(\w+Error)(?:\((\w+)\))?", _errors.__doc__.partition("StaleDataWarning")[0]))
    builtin = {
        cls.__name__: next((b.__name__ for b in cls.__bases__ if b.__module__ == "builtins" and b is not Exception), "")
        for cls in CLASSES
    }
    assert builtin == drawn


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("custmers", ["customers", "orders"], "did you mean 'customers'?"),
        ("zzz", ["customers", "orders"], "the catalog has 'customers', 'orders'"),
        ("zzz", [str(n) for n in range(9)], "'4', …"),
        ("zzz", [], "the catalog is empty"),
    ],
)
def test_unknown_dataset_says_what_there_is(name, names, expected):
    """Close names, else some names, else that there are none."""
    assert expected in str(DatasetNotFoundError(name, names))


def test_unknown_dataset_reads_well_although_it_is_a_key_error():
    """`str()` is the text, without the quotes that `KeyError` puts around it."""
    assert str(DatasetNotFoundError("x", ["y"])).startswith("no dataset named 'x'")


def test_glob_where_one_file_is_asked_for_says_what_to_use():
    """The text names the method for several files."""
    assert "use fetch_files()" in str(MultiFileDatasetError("logs", "s3://bucket/logs/"))


def test_catalog_file_error_says_where():
    """File and line come first, as editors want them."""
    assert str(CatalogFileError("unknown key", file=Path("a.toml"), line=3)) == "a.toml:3: unknown key"


def test_group_keeps_its_report_when_it_is_split():
    """`except*` gives groups that still carry the report."""
    error = SPECIAL["FetchAllError"]
    caught = None
    try:
        raise error
    except* ObjectNotFoundError as group:
        caught = group
    assert error.report is caught.report


def test_g13_group_of_failures_shows_no_secret():
    """The text of a group is made of texts without secrets."""
    inner = StorageUnreachableError(f"https://user:{SECRET}@host/a?X-Amz-Signature={SECRET}", "refused")
    assert SECRET not in str(FetchAllError("1 failed", [inner])) + repr(FetchAllError("1 failed", [inner]))


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket/key", "s3://bucket/key"),
        ("s3://bucket/user@host/key", "s3://bucket/user@host/key"),
        ("s3://bucket/what?is=this#", "s3://bucket/what?is=this#"),
        ("/path/a@b?c", "/path/a@b?c"),
        (f"s3://key:{SECRET}@bucket/key", "s3://bucket/key"),
        (f"https://user:{SECRET}@host/a/b", "https://host/a/b"),
        (f"https://host/a?X-Amz-Signature={SECRET}", "https://host/a?…"),
        (f"HTTPS://host:8443/a?token={SECRET}", "HTTPS://host:8443/a?…"),
        (f"https://host/a#{SECRET}", "https://host/a"),
        (f"https://host/a#x?token={SECRET}", "https://host/a"),
        (f"https://[bad/a?token={SECRET}", "https://[bad/a?…"),
        (f"https://user:{SECRET}@[bad/a\n?t={SECRET}", "https://[bad/a\n?…"),
        (f"http://host?token={SECRET}", "http://host?…"),
        ("abfss://container@account/a", "abfss://container@account/a"),
        (f"abfss://user:{SECRET}@account/a", "abfss://account/a"),
    ],
)
def test_g13_uri_is_shown_without_its_secrets(uri, expected):
    """The user part, and the query and fragment of a web address, are taken off; keys stay as they are."""
    assert expected == redact_uri(uri)


@pytest.mark.parametrize("cls", [c for c in CLASSES if issubclass(c, StorageError)], ids=lambda cls: cls.__name__)
def test_g13_no_error_of_a_storage_keeps_the_secrets_of_its_uri(cls):
    """Neither the text nor a fact has the signature of a signed URL."""
    error = cls(f"https://user:{SECRET}@host/a?X-Amz-Signature={SECRET}", "refused")
    assert SECRET not in str(error) + repr(error) + repr(vars(error))
