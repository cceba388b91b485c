"""What is a dataset, a version of an object, a cached file, a result? Values that neither wait nor fail late.

All of them are frozen, compare by value and pickle. Sizes are bytes, times are aware UTC datetimes, durations seconds.
An ETag is kept without its quotes and without `W/`, so that two spellings of one validator are equal.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar

from ._archives import FORMATS, SUFFIXES, UnpackOption, format_of
from ._digests import parse_digest
from ._errors import ConfigurationError, FetchAllError, MultiFileDatasetError, PushAllError, redact_uri
from ._sources import SourcePath, is_several, source_text

FetchAction = Literal["downloaded", "revalidated", "cached", "stale"]
"""What a fetch did: brought new bytes; asked and was told that the cached copy is fresh; did not have to ask; could not
ask and served the cached copy."""

PlanAction = Literal["download", "revalidate", "none", "fail"]
"""What a fetch would do: bring the bytes; ask whether the cached copy is fresh; nothing; fail."""


NULL_VERSION = "null"
"""What S3 calls the version that is written while a bucket keeps none: unlike every other, it can be overwritten."""


def normalize_etag(etag: str | None) -> str | None:
    """Take the quotes and the weakness mark off an ETag (RFC 9110, section 8.8.3); an empty one is none."""
    if etag is None:
        return None
    return etag.strip().removeprefix("W/").strip('"') or None


@dataclass(frozen=True, slots=True, repr=False)
class Dataset:
    """A name for a file, or for several, that live somewhere else.

    Args:
        name: how the code calls it; unique in its catalog.
        source: where it is: `s3://bucket/key`, `https://host/path`, `file:///path`, or a path. `*`, `?` and `[…]`
            match within a path segment and `**` across segments; a source that ends in `/` means all files below it. A
            wildcard that is meant literally is written in brackets: `[*]`. In an HTTP(S) source `?` begins the query. A
            path of pathlib, universal_pathlib or cloudpathlib is taken by its URI; one with storage options or a client
            of its own is refused, because a catalog connects by its storage.
        description: one sentence for the people who read the catalog.
        cache_path: where the file is to lie in the cache, relative to the cache directory, instead of the layout's own
            place; a directory for a glob or prefix dataset. Of an archive that is unpacked, where the archive lies.
        reader: what `load()` calls with the path (for several files: with the list of paths).
        checksum: the digest that the file must have, `"sha256:<hex>"`, `"sha512:<hex>"`, `"md5:<hex>"`,
            `"crc64nvme:<base64>"`, `"crc32c:<base64>"` or `"crc32:<base64>"`: a pin. Only for a single file.
        version_id: the version that is meant, in a bucket that keeps versions, instead of the newest. It never changes,
            so once it is cached nothing is asked of the remote. Only for a single file.
        max_age: how long a cached copy is used without asking the remote, in seconds or as a `timedelta`; None means
            what the configuration says.
        tags: words to group datasets by.
        unpack: None hands out the file as it is. `"auto"` unpacks it if its suffix is that of an archive, each file of
            a glob or prefix dataset by its own; `"gzip"`, `"bz2"`, `"xz"`, `"zstd"`, `"zip"` or `"tar"` (compressed or
            not) says what it is. A `checksum` is the archive's.

    Raises:
        ConfigurationError: a value that can't be right.
    """

    name: str
    source: str
    description: str = field(default="", kw_only=True)
    cache_path: str | None = field(default=None, kw_only=True)
    reader: Callable[..., Any] | None = field(default=None, kw_only=True)
    checksum: str | None = field(default=None, kw_only=True)
    version_id: str | None = field(default=None, kw_only=True)
    max_age: float | None = field(default=None, kw_only=True)
    tags: tuple[str, ...] = field(default=(), kw_only=True)
    unpack: UnpackOption | None = field(default=None, kw_only=True)

    def __init__(
        self,
        name: str,
        source: str | os.PathLike[str] | SourcePath,
        *,
        description: str = "",
        cache_path: str | os.PathLike[str] | None = None,
        reader: Callable[..., Any] | None = None,
        checksum: str | None = None,
        version_id: str | None = None,
        max_age: float | timedelta | None = None,
        tags: Iterable[str] = (),
        unpack: UnpackOption | None = None,
    ) -> None:
        if not isinstance(name, str) or not name.strip() or name != name.strip() or not name.isprintable():
            raise ConfigurationError(
                f"a dataset's name is a printable text without space around it, at least one character: got {name!r}"
            )
        source = source_text(source)
        if not isinstance(source, str) or not source.strip():
            raise ConfigurationError(f"dataset {name!r}: the source is empty")
        if isinstance(max_age, timedelta):
            max_age = max_age.total_seconds()
        if max_age is not None and (not isinstance(max_age, int | float) or not max_age >= 0):
            raise ConfigurationError(f"dataset {name!r}: max_age is at least 0 seconds: got {max_age!r}")
        if isinstance(tags, str):
            raise ConfigurationError(f"dataset {name!r}: tags is a sequence of words, not one text: got {tags!r}")
        if reader is not None and not callable(reader):
            raise ConfigurationError(f"dataset {name!r}: reader is a callable that takes a path: got {reader!r}")
        if checksum is not None:
            try:
                checksum = parse_digest(str(checksum))
            except ValueError as error:
                raise ConfigurationError(f"dataset {name!r}: {error}") from None
        if version_id is not None and (not isinstance(version_id, str) or not version_id):
            raise ConfigurationError(f"dataset {name!r}: version_id is a version's id as text: got {version_id!r}")
        set_field = object.__setattr__
        set_field(self, "name", name)
        set_field(self, "source", source)
        set_field(self, "description", description)
        set_field(self, "cache_path", None if cache_path is None else os.fspath(cache_path))
        set_field(self, "reader", reader)
        set_field(self, "checksum", checksum)
        set_field(self, "version_id", version_id)
        set_field(self, "max_age", max_age)
        set_field(self, "tags", tuple(tags))
        set_field(self, "unpack", unpack)
        for pin, value in (("checksum", checksum), ("version_id", version_id)):
            if value is not None and self.is_multi_file:
                raise ConfigurationError(f"dataset {name!r}: a {pin} pins one file, {redact_uri(source)} may be many")
        if unpack not in (None, "auto", *FORMATS):
            known = ", ".join(map(repr, FORMATS))
            raise ConfigurationError(f"dataset {name!r}: unpack is None, 'auto', or one of {known}: got {unpack!r}")
        if unpack == "auto" and not self.is_multi_file and format_of(unpack, source) is None:
            raise ConfigurationError(
                f"dataset {name!r}: {redact_uri(source)} has none of the suffixes {', '.join(SUFFIXES)}:"
                f" say what it is, unpack={FORMATS[0]!r} for example, or leave unpack out"
            )

    def __repr__(self) -> str:
        shown = {each.name: getattr(self, each.name) for each in fields(self)} | {"source": redact_uri(self.source)}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def is_multi_file(self) -> bool:
        """Whether the source is a glob or a prefix, which may match any number of files."""
        return is_several(self.source)


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """What the remote says of one version of an object.

    Args:
        etag: its validator without quotes; None where the remote gives none.
        last_modified: when it was written, to the remote's precision; None where it doesn't say.
        size: bytes.
        version_id: the version's name in a versioned bucket.
        checksum: the digest that the remote has stored for the whole object, as in `Dataset.checksum`.
        parts_checksum: what the remote has stored instead for an object that was uploaded in parts: the digest of their
            digests, and behind a `-` how many they are, `"crc32:<base64>-12"`.
    """

    etag: str | None
    last_modified: datetime | None
    size: int
    version_id: str | None = None
    checksum: str | None = None
    parts_checksum: str | None = None

    def is_same_version(self, other: FileMetadata | CacheMetadata) -> bool:
        """Compare by ETag first; by time and size where one of the two has no ETag (RFC 9110, section 8.8)."""
        if self.etag is not None and other.etag is not None:
            return self.etag == other.etag and self.size == other.size
        return self.last_modified is not None and (self.last_modified, self.size) == (other.last_modified, other.size)


@dataclass(frozen=True, slots=True)
class CacheMetadata:
    """What the cache knows of one of its files: the JSON sidecar.

    Args:
        source: the object's URI.
        etag: the validator of the version cached.
        last_modified: when that version was written remotely.
        size: bytes.
        cached_at: when the file was published here.
        digest: of the file's bytes, as in `Dataset.checksum`.
        verified_by: what the bytes were compared with before they were published: the digest algorithm of the pin, of
            the checksum stored remotely or of the ETag; None if the remote offered nothing but the length.
        mtime_ns: the file's modification time as published; a file that has another one is not this file.
        version_id: the version's name in a versioned bucket.
        pin: the `Dataset.checksum` that the bytes were compared with, if there was one.
    """

    source: str
    etag: str | None
    last_modified: datetime | None
    size: int
    cached_at: datetime
    digest: str
    verified_by: str | None = None
    mtime_ns: int = 0
    version_id: str | None = None
    pin: str | None = None


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of an object in a versioned bucket, or the mark that it was deleted.

    Args:
        version_id: its name; `"null"` for what was written while the bucket kept no versions, which alone can be
            overwritten.
        last_modified: when it was written, to the remote's precision; an upload in parts counts from its beginning.
        etag: its validator without quotes; None for a delete marker.
        size: bytes; 0 for a delete marker.
        is_latest: whether it is what a fetch without a version means.
        is_delete_marker: whether it says that the object was deleted, and has no bytes.
    """

    version_id: str
    last_modified: datetime
    etag: str | None
    size: int
    is_latest: bool
    is_delete_marker: bool


class Freshness(Enum):
    """How a cached copy relates to the remote (the words of RFC 9111)."""

    FRESH = "fresh"
    """The remote has the cached version, or the freshness window is still open."""
    STALE = "stale"
    """The remote has another version."""
    MISSING = "missing"
    """Nothing is cached."""
    UNKNOWN = "unknown"
    """The remote is gone or could not be asked."""


@dataclass(frozen=True, slots=True)
class DatasetStatus:
    """How one dataset stands, without a download.

    Args:
        name: the dataset.
        source: its source.
        freshness: how the cached copy relates to the remote; of several files, the least fresh one's.
        path: the cached file; None if nothing is cached, and for glob and prefix datasets. Of an archive what was
            unpacked of it; None if that has to be done (again).
        size: bytes, cached; of the remote if nothing is cached; None if neither is known.
        cached_at: when it was published here; of several files, the oldest.
        reason: why it is what it is.
        last_modified: when the bytes that `size` counts were written remotely, to the remote's precision; of several
            files, the newest. None where that isn't known.
    """

    name: str
    source: str
    freshness: Freshness
    path: Path | None
    size: int | None
    cached_at: datetime | None
    reason: str
    last_modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class FetchResult(os.PathLike[str]):
    """What became of one dataset. It can be opened like a path: `open(report["customers"])`.

    Args:
        name: the dataset.
        paths: its files, sorted by key; one for a dataset of a single file; those of an unpacked archive, sorted by
            their names in it.
        action: what was done; of several files, the one that cost most.
        bytes_downloaded: body bytes received for it, those received again after a break included.
        reason: why that was done.
        verified_by: what the bytes were compared with before they were published (`CacheMetadata.verified_by`); of
            several files, None as soon as one of them had nothing but its length.
        is_multi_file: whether it is a glob or prefix dataset, which has no single `path`.
        directory: the directory that `paths` lie in, if it is an archive of many files that was unpacked.
    """

    name: str
    paths: tuple[Path, ...]
    action: FetchAction
    bytes_downloaded: int
    reason: str
    verified_by: str | None = None
    is_multi_file: bool = False
    directory: Path | None = None

    @property
    def path(self) -> Path:
        """The single file; of an unpacked archive of many files the directory that they lie in.

        Raises:
            MultiFileDatasetError: it is a glob or prefix dataset; use `paths`.
        """
        if self.is_multi_file:
            raise MultiFileDatasetError(self.name, "use .paths")
        return self.paths[0] if self.directory is None else self.directory

    def __fspath__(self) -> str:
        return str(self.path)


_Result = TypeVar("_Result")


class _Report(Mapping[str, _Result]):
    """What became of all datasets of an operation. One that failed raises its error when it is asked for."""

    __slots__ = ()
    results: Mapping[str, _Result]
    errors: Mapping[str, Exception]

    def __getitem__(self, name: str) -> _Result:
        if name not in self.results and name in self.errors:
            raise self.errors[name]
        return self.results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __contains__(self, name: object) -> bool:
        return name in self.results

    def _failures_text(self) -> str:
        names = ", ".join(repr(name) for name in list(self.errors)[:5]) + (", …" if len(self.errors) > 5 else "")
        return f"{len(self.errors)} of {len(self.errors) + len(self.results)} datasets failed ({names})"


@dataclass(frozen=True, slots=True)
class FetchReport(_Report[FetchResult]):
    """What became of all datasets of a `fetch_all`: a mapping from name to result, in the order of the catalog.

    Args:
        results: those that are there.
        errors: those that failed: name → exception.
        requests: how many requests were sent to the remote, repeated ones included.
        seconds: from the call to its return.
    """

    results: Mapping[str, FetchResult]
    errors: Mapping[str, Exception]
    requests: int
    seconds: float

    @property
    def bytes_downloaded(self) -> int:
        """Body bytes received for all datasets."""
        return sum(result.bytes_downloaded for result in self.results.values())

    def raise_for_errors(self) -> None:
        """Raise a `FetchAllError` if a dataset failed.

        Raises:
            FetchAllError: with every error, and this report as `.report`.
        """
        if self.errors:
            raise FetchAllError(self._failures_text(), list(self.errors.values()), self)


@dataclass(frozen=True, slots=True)
class PushReport(_Report[FileMetadata]):
    """What became of all files of a `push_all`: a mapping from name to what was written, in the order of the catalog.

    Args:
        results: what is written.
        errors: what is not: name → exception.
        requests: how many requests were sent to the remote, repeated ones included.
        seconds: from the call to its return.
        bytes_uploaded: body bytes that the remote has acknowledged.
    """

    results: Mapping[str, FileMetadata]
    errors: Mapping[str, Exception]
    requests: int
    seconds: float
    bytes_uploaded: int

    def raise_for_errors(self) -> None:
        """Raise a `PushAllError` if a file was not written.

        Raises:
            PushAllError: with every error, and this report as `.report`.
        """
        if self.errors:
            raise PushAllError(self._failures_text(), list(self.errors.values()), self)


@dataclass(frozen=True, slots=True)
class PlanStep:
    """What `fetch_all` would do for one dataset: `bytes` to download in `requests`, and why."""

    name: str
    source: str
    action: PlanAction
    bytes: int
    reason: str
    requests: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What `fetch_all` would do, without doing it; `str()` is a table.

    Args:
        steps: one for each dataset, in the order of the catalog.
        requests: how many requests `fetch_all` would send if nothing breaks.
        bytes: how many bytes it would download.
    """

    steps: tuple[PlanStep, ...]
    requests: int
    bytes: int

    def __str__(self) -> str:
        rows = [("NAME", "ACTION", "BYTES", "REQUESTS", "REASON")]
        rows += [(s.name, s.action, f"{s.bytes:,}", f"{s.requests:,}", s.reason) for s in self.steps]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            f"{name:<{widths[0]}}  {action:<{widths[1]}}  {size:>{widths[2]}}  {requests:>{widths[3]}}  {reason}"
            for name, action, size, requests, reason in rows
        ]
        total = f"{len(self.steps):,} datasets, {self.bytes:,} bytes to download in {self.requests:,} requests"
        return "\n".join([*lines, total])


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """What the cache holds.

    Args:
        total_bytes: data files, of this catalog's datasets and of others, archives and what was unpacked of them;
            sidecars and partials are not counted.
        files: how many data files.
        datasets: name → bytes, for the datasets of this catalog; 0 for those that aren't cached.
    """

    total_bytes: int
    files: int
    datasets: Mapping[str, int]
