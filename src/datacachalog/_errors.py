"""What can go wrong, by type: a caller that treats two cases differently can tell them apart without reading the text.

::

    DatacachalogError
    ├─ DatasetNotFoundError(KeyError)          the catalog has no dataset of that name
    ├─ DuplicateDatasetError(ValueError)       two datasets of one name, or two that claim one cached file
    ├─ MultiFileDatasetError(TypeError)        a glob or prefix dataset where one file was asked for
    ├─ ConfigurationError(ValueError)          a setting that can't be right
    │  ├─ CatalogFileError                     … in a catalog file or data lock file: which file, which line
    │  └─ InvalidSourceError                   … a source that no storage understands
    ├─ StorageError                            the remote, or the way to it
    │  ├─ ObjectNotFoundError(FileNotFoundError)
    │  ├─ BucketNotFoundError(FileNotFoundError)
    │  ├─ VersionNotFoundError
    │  ├─ AccessDeniedError(PermissionError)
    │  ├─ CredentialsError(PermissionError)
    │  ├─ StorageUnreachableError(ConnectionError)
    │  ├─ ThrottledError
    │  ├─ VersioningNotSupportedError
    │  └─ TransferError(OSError)               gave up after the retries
    ├─ IntegrityError                          bytes that aren't what the remote says they are
    ├─ ArchiveError                            an archive that can't be unpacked
    │  └─ ArchiveTooLargeError                 one that would be larger than the limits
    ├─ EmptyGlobMatchError                     a pattern that matches nothing
    ├─ LockMismatchError                       something differs from what the data lock file names
    ├─ PushConflictError                       somebody else wrote since
    ├─ CacheError                              the cache directory
    │  ├─ CacheFullError(OSError)
    │  └─ UnsafePathError(ValueError)          a path that would leave the cache directory
    ├─ FetchAllError(ExceptionGroup)           what failed in a fetch_all, and the report of the rest
    ├─ PushAllError(ExceptionGroup)            the same of a push_all
    └─ ClosedError                             the catalog is closed, or called where it would wait for itself

    StaleDataWarning(UserWarning)              a cached copy was served because the remote did not answer

Every error pickles with its facts, so it survives a process pool. No text holds credentials: `redact_uri` takes the
user part and the query off every URI before it is put into one.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ._models import FetchReport, PushReport


def redact_uri(uri: str) -> str:
    """Take what may be secret off a URI: the user part, and the query of an HTTP(S) URI (signatures, tokens)."""
    scheme, separator, _ = uri.partition("://")
    if not separator:
        return uri
    if scheme.lower() not in ("http", "https"):
        authority, slash, key = uri[len(scheme) + 3 :].partition("/")
        user, at, host = authority.rpartition("@")
        # abfss://container@account.…: there it is no user that stands before the host.
        shown = f"{user}{at}" if scheme.lower() == "abfss" and ":" not in user else ""
        return f"{scheme}://{shown}{host}{slash}{key}"
    # By hand: a URL that urlsplit refuses must not replace the error whose text it is for.
    path, query, _ = re.sub(r"#.*", "", uri[len(scheme) + 3 :], flags=re.DOTALL).partition("?")
    authority, slash, key = path.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{key}{'?…' if query else ''}"


def _rebuild(cls: type[DatacachalogError], args: tuple[object, ...], state: dict[str, Any]) -> DatacachalogError:
    """Make an error again from its pickled form without running its constructor, which takes facts and not texts."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class DatacachalogError(Exception):
    """Anything that datacachalog raises on purpose."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())


class DatasetNotFoundError(DatacachalogError, KeyError):
    """The catalog has no dataset of that name.

    Attributes:
        name: the name asked for.
        close_names: the catalog's names that look like it, best first.
    """

    def __init__(self, name: str, names: Iterable[str] = ()) -> None:
        known = list(names)
        self.name = name
        self.close_names = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
        if self.close_names:
            hint = "did you mean " + " or ".join(repr(close) for close in self.close_names) + "?"
        elif known:
            shown = ", ".join(repr(n) for n in known[:5]) + (", …" if len(known) > 5 else "")
            hint = f"the catalog has {shown}"
        else:
            hint = "the catalog is empty"
        super().__init__(f"no dataset named {name!r}: {hint}")


class DuplicateDatasetError(DatacachalogError, ValueError):
    """Two datasets of one catalog have the same name, or claim the same cached file."""


class MultiFileDatasetError(DatacachalogError, TypeError):
    """A glob or prefix dataset was asked for as one file.

    Attributes:
        name: the dataset.
    """

    def __init__(self, name: str, source: str, *, hint: str = "use fetch_files()") -> None:
        self.name = name
        super().__init__(f"dataset {name!r} ({redact_uri(source)}) may be many files: {hint}")


class ConfigurationError(DatacachalogError, ValueError):
    """A setting, of a dataset or of the catalog, that can't be right."""


class CatalogFileError(ConfigurationError):
    """A catalog file, or data lock file, that can't be read or says something impossible.

    Attributes:
        file: the file.
        line: its line, from 1, or None where it can't be told.
    """

    def __init__(self, reason: str, *, file: Path, line: int | None = None) -> None:
        self.file = file
        self.line = line
        super().__init__(f"{file}{'' if line is None else f':{line}'}: {reason}")


class InvalidSourceError(ConfigurationError):
    """A source that no storage understands.

    Attributes:
        uri: the source.
        reason: what is wrong with it.
    """

    def __init__(self, uri: str, reason: str) -> None:
        self.uri = redact_uri(uri)
        self.reason = reason
        super().__init__(f"{self.uri!r} is not a usable source: {reason}")


class StorageError(DatacachalogError):
    """The remote refused, or can't be reached.

    Attributes:
        uri: the object, without credentials and query.
        cause: what the remote or the network said, as text.
    """

    def __init__(self, uri: str, cause: str, *, hint: str = "") -> None:
        self.uri = redact_uri(uri)
        self.cause = cause
        super().__init__(f"{self.uri}: {cause}" + (f"; {hint}" if hint else ""))


class ObjectNotFoundError(StorageError, FileNotFoundError):
    """There is no such object (404 NoSuchKey, ENOENT)."""


class BucketNotFoundError(StorageError, FileNotFoundError):
    """There is no such bucket (404 NoSuchBucket)."""


class VersionNotFoundError(StorageError):
    """The object has no such version, or had none at that time."""


class AccessDeniedError(StorageError, PermissionError):
    """The remote knows us and says no (403, EACCES)."""


class CredentialsError(StorageError, PermissionError):
    """There are no credentials, or the remote doesn't accept them."""


class StorageUnreachableError(StorageError, ConnectionError):
    """No answer: refused, reset, timed out, or a 5xx. Worth trying again later.

    Attributes:
        retry_after_seconds: how long the remote asks us to wait, or None.
    """

    def __init__(self, uri: str, cause: str, *, hint: str = "", retry_after_seconds: float | None = None) -> None:
        super().__init__(uri, cause, hint=hint)
        self.retry_after_seconds = retry_after_seconds


class ThrottledError(StorageError):
    """The remote asks us to slow down (429, 503 SlowDown).

    Attributes:
        retry_after_seconds: how long it asks us to wait, or None.
    """

    def __init__(self, uri: str, cause: str, *, hint: str = "", retry_after_seconds: float | None = None) -> None:
        super().__init__(uri, cause, hint=hint)
        self.retry_after_seconds = retry_after_seconds


class VersioningNotSupportedError(StorageError):
    """The store, or the bucket, keeps no versions."""


class TransferError(StorageError, OSError):
    """The transfer was given up after the retries or restarts that the configuration allows."""


class IntegrityError(DatacachalogError):
    """The bytes received, or to be pushed, are not what the remote, or the dataset's pin, says they are.

    Attributes:
        uri: the object.
        expected: the digest or length that was announced.
        got: what was received.
    """

    def __init__(
        self, uri: str, *, expected: str, got: str, what: str = "the bytes received are not the object's"
    ) -> None:
        self.uri = redact_uri(uri)
        self.expected = expected
        self.got = got
        super().__init__(
            f"{self.uri}: {what}: expected {expected}, got {got}; nothing was published, a cached copy is untouched"
        )


class ArchiveError(DatacachalogError):
    """An archive came whole from the remote, and can't be unpacked: damaged, encrypted, or of another format.

    Attributes:
        uri: the archive.
        reason: what is wrong with it.
    """

    def __init__(self, uri: str, reason: str, *, hint: str = "fetch the archive itself with unpack=None") -> None:
        self.uri = redact_uri(uri)
        self.reason = reason
        super().__init__(f"{self.uri} can't be unpacked: {reason}; nothing was published; {hint}")


class ArchiveTooLargeError(ArchiveError):
    """An archive would be more, unpacked, than `unpack_max_bytes` or `unpack_max_files` allow."""


class EmptyGlobMatchError(DatacachalogError):
    """A glob or prefix matches no object.

    Attributes:
        uri: the pattern.
    """

    def __init__(self, uri: str) -> None:
        self.uri = redact_uri(uri)
        super().__init__(
            f"nothing matches {self.uri}: '*', '?' and '[]' match within one path segment, '**' across segments"
        )


class LockMismatchError(DatacachalogError):
    """A frozen catalog can't give what the data lock file names: the catalog, or the remote, differs from it.

    Attributes:
        dataset: the dataset's name; None if there is no lock file at all.
        difference: what differs, as text.
    """

    def __init__(self, dataset: str | None, difference: str) -> None:
        self.dataset = dataset
        self.difference = difference
        if dataset is None:
            super().__init__(difference)
        else:
            hint = f"if it is right as it is now, lock([{dataset!r}]) on a catalog that is not frozen says so"
            super().__init__(f"dataset {dataset!r} is not what the data lock file names: {difference}; {hint}")


class PushConflictError(DatacachalogError):
    """Somebody else wrote the object since it was cached.

    Attributes:
        uri: the object.
        expected_etag: the ETag of the version that the write was based on, or None for "nothing there".
        found_etag: the ETag that is there now, or None.
    """

    def __init__(self, uri: str, *, expected_etag: str | None, found_etag: str | None) -> None:
        self.uri = redact_uri(uri)
        self.expected_etag = expected_etag
        self.found_etag = found_etag
        found = "nothing" if found_etag is None else f"ETag {found_etag}"
        if expected_etag is None:
            what = f"is there already: expected nothing, as nothing of it is cached, found {found}"
        else:
            what = f"was changed by somebody else: expected ETag {expected_etag}, found {found}"
        super().__init__(f"{self.uri} {what}; fetch it and merge, or push with on_conflict='overwrite'")


class CacheError(DatacachalogError):
    """The cache directory can't be read or written."""


class CacheFullError(CacheError, OSError):
    """The cache's file system, or its quota, is full."""


class UnsafePathError(CacheError, ValueError):
    """A name that would be written outside the cache directory."""


class ClosedError(DatacachalogError):
    """The catalog can't be used here or any more; the text says what to do instead."""


class _WithReport(ExceptionGroup[Exception]):
    """What failed of an operation, and the report of everything."""

    report: Any

    def __new__(cls, message: str, exceptions: Sequence[Exception], report: object = None) -> Self:  # noqa: ARG004  # what __init__ takes
        return super().__new__(cls, message, exceptions)

    def __init__(self, message: str, exceptions: Sequence[Exception], report: object = None) -> None:
        super().__init__(message, exceptions)
        if report is not None:
            self.report = report

    def __str__(self) -> str:
        return ExceptionGroup.__str__(self)

    def derive(self, excs: Sequence[Exception]) -> Self:  # type: ignore[override]  # never a BaseException
        """Keep the report when the group is split by `except*`."""
        return type(self)(self.message, excs, getattr(self, "report", None))


class FetchAllError(_WithReport, DatacachalogError, ExceptionGroup[Exception]):
    """Some datasets of a `fetch_all` failed; all others are done.

    Attributes:
        report: the whole report: results by name, and `report.errors` by name.
    """

    report: FetchReport


class PushAllError(_WithReport, DatacachalogError, ExceptionGroup[Exception]):
    """Some files of a `push_all` were not written; all others are.

    Attributes:
        report: the whole report: what was written by name, and `report.errors` by name.
    """

    report: PushReport


class StaleDataWarning(UserWarning):
    """A cached copy was served although the remote could not be asked whether it is still the newest."""
