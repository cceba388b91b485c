"""What must a storage, a cache, a reader or an observer be able to do? The seams, each of five methods at most.

A storage and a cache are settings: immutable, picklable, safe to copy into a forked child. What lives (connections,
tasks) belongs to the session that a catalog opens from them on its own event loop and closes when it is closed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from ._archives import UnpackFormat
from ._config import CatalogConfig
from ._digests import CrcAlgorithm
from ._events import DatasetFailed as DatasetFailed
from ._events import DatasetFinished as DatasetFinished
from ._events import DatasetResolved as DatasetResolved
from ._events import Event as Event
from ._events import FileFinished as FileFinished
from ._events import OperationFinished as OperationFinished
from ._events import OperationStarted as OperationStarted
from ._events import RequestRetried as RequestRetried
from ._events import TransferAdvanced as TransferAdvanced
from ._events import TransferAwaited as TransferAwaited
from ._events import TransferRestarted as TransferRestarted
from ._events import TransferStarted as TransferStarted
from ._events import UnpackStarted as UnpackStarted
from ._models import CacheMetadata, FileMetadata

Observer: TypeAlias = Callable[[Event], None]
"""Is told what happens, by the events that this module exports too.

Called on the catalog's event loop, so it must return at once; what it raises is logged."""

Reader: TypeAlias = Callable[..., Any]
"""Makes something of a path, or of a list of paths: `pandas.read_parquet`, say. Called in a worker thread."""


# -- storage ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRequest:
    """One read of one object, at most one request on the wire.

    Args:
        uri: the object.
        start: first byte, inclusive.
        stop: end of the bytes wanted, exclusive; None means to the end, asked for without a range.
        if_match: the version that is meant; if the object has another ETag by now, the answer is `VersionChanged`.
        if_none_match: the version that we have; if that is still the newest, the answer is `NotModified`.
        version_id: a version of a versioned bucket instead of the newest.
    """

    uri: str
    start: int = 0
    stop: int | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class ReadResponse:
    """Bytes `start` (inclusive) to `stop` (exclusive) of one version of the object, as they come.

    Args:
        metadata: the version that these bytes are of; `size` is the whole object's. `checksum` only if it is the
            digest of the whole object.
        start: 0 although another start was asked for means that the remote doesn't do ranges.
        stop: exclusive.
        is_pinnable: whether the ETag may be demanded of further requests, in `if_match`; a weak one may not (RFC 9110,
            section 13.1.1).
        chunks: the bytes, to be iterated once. Ends when the remote says that it is the end, which may be too early
            (the reader counts). A connection that breaks raises `StorageUnreachableError`, an object seen to change
            while it is read raises `VersionChangedError`.
    """

    metadata: FileMetadata
    start: int
    stop: int
    chunks: AsyncIterator[bytes]
    is_pinnable: bool = True


@dataclass(frozen=True, slots=True)
class NotModified:
    """The remote still has the version of `if_none_match` (304)."""


@dataclass(frozen=True, slots=True)
class VersionChanged:
    """The remote no longer has the version of `if_match` (412)."""


@dataclass(frozen=True, slots=True)
class RangeNotSatisfiable:
    """The object has no byte at `start` (416): it is empty, or shorter than it was."""


ReadOutcome: TypeAlias = ReadResponse | NotModified | VersionChanged | RangeNotSatisfiable


class VersionChangedError(Exception):
    """Raised by `ReadResponse.chunks` when the object changes while it is read. Never reaches a caller."""


@dataclass(frozen=True, slots=True)
class ListedObject:
    """One object of a listing."""

    uri: str
    metadata: FileMetadata


@dataclass(frozen=True, slots=True)
class ListPage:
    """One answer of a listing: objects in the order of their keys, and how to ask for more (None: that's all)."""

    objects: tuple[ListedObject, ...]
    next_token: str | None


class StorageSession(Protocol):
    """An open way to the objects, on one event loop. Every call is at most one request on the wire.

    Every method raises only the errors of `datacachalog` (`StorageError` and below, `InvalidSourceError`): an adapter
    maps what its library raises, once, at its border. It doesn't retry; the catalog does. Cancellation closes what
    was open.
    """

    async def head(self, uri: str, *, version_id: str | None = None) -> FileMetadata:
        """Ask what the object is, without its bytes; with the checksum that the remote has stored, if it has one."""
        ...

    def read(self, request: ReadRequest) -> AbstractAsyncContextManager[ReadOutcome]:
        """Ask for bytes. Leaving the context before they are all read gives the connection up."""
        ...

    async def list_page(self, prefix: str, *, token: str | None = None) -> ListPage:
        """List the objects whose URI begins with `prefix`, from the beginning or where `token` says."""
        ...


class StoragePort(Protocol):
    """A place where objects are, as settings."""

    def connect(self, config: CatalogConfig) -> AbstractAsyncContextManager[StorageSession]:
        """Open it on the running event loop; must be cheap: connect at the first request."""
        ...


# -- cache ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CacheKey:
    """Which cached file is meant.

    Args:
        uri: the object's URI; what is cached for another URI is never served for this one.
        version_id: a version that is cached beside the newest, never in its place.
        cache_path: a place of the user's own, relative to the cache directory.
        name: for a file of a glob or prefix dataset with such a place: the rest of the key, which lies below it.
    """

    uri: str
    version_id: str | None = None
    cache_path: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A cached file whose size and modification time are those it was published with.

    Args:
        key: what it is the copy of.
        path: the file, absolute.
        metadata: its sidecar.
        validated_at: when the remote last confirmed it, as POSIX seconds.
    """

    key: CacheKey
    path: Path
    metadata: CacheMetadata
    validated_at: float


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes `start` (inclusive) to `stop` (exclusive) of a staged file that are written, and their CRC."""

    start: int
    stop: int
    crc: int


class Staging(Protocol):
    """A file under construction, of known size, outside the readers' sight. Parts may be written in any order."""

    @property
    def segments(self) -> Sequence[Segment]:
        """What is written and verified already, from an earlier attempt at the same version; in order."""
        ...

    def part(self, start: int, stop: int) -> AbstractAsyncContextManager[PartWriter]:
        """Open a writer for these bytes. Parts don't overlap; each has one writer."""
        ...

    async def digest(self, algorithm: str) -> str:
        """Read the file once and give its digest."""
        ...


class PartWriter(Protocol):
    """Writes one part of a staged file, from its start onwards."""

    @property
    def segment(self) -> Segment:
        """What is written of the part so far."""
        ...

    async def write(self, chunks: Sequence[bytes]) -> None:
        """Append the chunks. A write that has begun is finished even when the caller is cancelled."""
        ...


@dataclass(frozen=True, slots=True)
class Verified:
    """Bytes that are right. Only `_pipeline.verify` makes them, and `CachePort.publish` takes nothing else.

    Args:
        key: what they are the copy of.
        metadata: the remote version that they are.
        content: in memory, or staged on disk.
        digest: theirs.
        verified_by: what they were compared with; None means: only their length.
        pin: the dataset's own digest that they were compared with, if it has one.
    """

    key: CacheKey
    metadata: FileMetadata
    content: tuple[bytes, ...] | Staging
    digest: str
    verified_by: str | None
    pin: str | None = None


class CachePort(Protocol):
    """Where the copies are. Raises `CacheError` and below only; every method is one hop to a worker thread at most."""

    async def lookup(self, keys: Sequence[CacheKey]) -> list[CacheEntry | None]:
        """Read the sidecars; None for what is absent, unreadable, of another URI, or not as it was published."""
        ...

    def stage(
        self, key: CacheKey, metadata: FileMetadata, crc_algorithm: CrcAlgorithm
    ) -> AbstractAsyncContextManager[Staging]:
        """Begin a file of that version, or go on with one that was begun.

        What is not published when the context is left stays for a later attempt, if the version has an ETag by which
        it can be recognised; else it is removed. So it is when the context is left by `VersionChangedError` or
        `IntegrityError`: then it is of no use, or wrong.
        """
        ...

    async def publish(self, verified: Verified) -> CacheEntry:
        """Put the bytes in their place, in one step that a reader sees whole or not at all."""
        ...

    async def touch(self, entries: Sequence[CacheEntry]) -> None:
        """Note that the remote confirmed these just now. Where the cache can't be written, that is no error."""
        ...

    async def remove(self, keys: Sequence[CacheKey]) -> int:
        """Drop what is cached; returns how many files that were."""
        ...


@runtime_checkable
class CacheInventory(Protocol):
    """A cache that can also say what it holds as a whole."""

    async def entries(self) -> list[CacheEntry]:
        """All files cached, of whatever catalog."""
        ...

    async def recorded(self) -> list[CacheEntry]:
        """The same, and those that were changed since they were published."""
        ...

    async def is_intact(self, entry: CacheEntry) -> bool:
        """Read a file and compare it with the digest that it was published with."""
        ...


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to fetch a file, which one process at a time has.

    Args:
        key: the file.
        resumable_etag: the version of which an earlier attempt has left a part, if one has.
        missing_start: the first byte that it lacks.
        missing_stop: the first byte behind that which it has again, or the end of the file.
    """

    key: CacheKey
    resumable_etag: str | None = None
    missing_start: int = 0
    missing_stop: int = 0


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody else is fetching the file.

    Args:
        owner: who, for people to read.
        received_bytes: how far that is; grows as long as the owner makes progress.
        size: bytes of the whole file; None where it isn't known yet.
    """

    owner: str
    received_bytes: int
    size: int | None


@runtime_checkable
class ClaimsPort(Protocol):
    """A cache that several processes fill together. Claims save work; that files are right never depends on them."""

    async def claim(self, key: CacheKey) -> Claim | Busy:
        """Claim a file, without waiting. A claim ends with its process, if not before.

        Cancelled, it leaves no claim behind.
        """
        ...

    async def release(self, claim: Claim) -> None:
        """Give a claim back."""
        ...


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What was in an archive.

    Args:
        uri: the archive.
        path: the file, absolute; for an archive of many files the directory that they lie in.
        files: the regular files, sorted by their names in the archive.
        size: bytes of all files.
    """

    uri: str
    path: Path
    files: tuple[Path, ...]
    size: int


@runtime_checkable
class UnpackingPort(Protocol):
    """A cache that can also unpack the archives that it holds. `CachePort.remove` drops what was unpacked, too."""

    async def unpacked(self, entry: CacheEntry, archive_format: UnpackFormat) -> Unpacked | None:
        """Give what was unpacked of this very archive; None if it isn't there as it was unpacked."""
        ...

    async def unpack(
        self, entry: CacheEntry, archive_format: UnpackFormat, *, max_bytes: int, max_files: int
    ) -> Unpacked | None:
        """Unpack a cached archive, in one step that a reader sees whole or not at all.

        None if the archive is no longer there as the entry says. Cancelled, it stops soon, and leaves nothing.
        """
        ...

    async def all_unpacked(self) -> list[Unpacked]:
        """List what was unpacked of all archives, of whatever catalog."""
        ...

    async def changed_files(self, unpacked: Unpacked) -> list[Path]:
        """Read the files and give those that were changed or added since they were unpacked."""
        ...
