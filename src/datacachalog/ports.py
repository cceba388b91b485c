"""What must a storage, a cache, a reader or an observer be able to do? The seams, each of five methods at most.

A storage and a cache are settings: immutable, picklable, safe to copy into a forked child. What lives (connections,
tasks) belongs to the session that a catalog opens from them on its own event loop and closes when it is closed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeAlias, runtime_checkable

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
from ._models import CacheMetadata, FileMetadata, ObjectVersion

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
        pump: where a storage can do that: gives the same bytes instead of `chunks`, piece by piece, to a function that
            it calls in a worker thread of its own. A piece is valid during that call only. Cancelled, it ends when the
            call that is running has ended.
        caveat: what the remote's validator doesn't let the storage promise of these bytes, for people to read.
    """

    metadata: FileMetadata
    start: int
    stop: int
    chunks: AsyncIterator[bytes]
    is_pinnable: bool = True
    pump: Callable[[Callable[[memoryview], None]], Awaitable[None]] | None = None
    caveat: str = ""


@dataclass(frozen=True, slots=True)
class NotModified:
    """The remote still has the version of `if_none_match` (304).

    Args:
        caveat: as of `ReadResponse`.
    """

    caveat: str = field(default="", compare=False)


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


@dataclass(frozen=True, slots=True)
class ThreadedAnswer:
    """An answer that a worker thread got.

    Args:
        outcome: what it says; None if it has to be asked for from the event loop.
        content: all the bytes of a `ReadResponse` that has no more of them than was wanted in memory. Else they can be
            had from the event loop.
        close: gives the connection back, or up if bytes are still to come. To be called once, in any thread.
    """

    outcome: ReadOutcome | None
    content: tuple[bytes, ...] | None
    close: Callable[[], None]


class ThreadedRead(Protocol):
    """One read on its way, which never waits; it is used by one thread.

    `waits_for` says what its socket has to be ready for (`selectors.EVENT_READ` or `EVENT_WRITE`) before `advance` is
    worth a call; `due`, in seconds of `time.monotonic()`, until when.
    """

    @property
    def waits_for(self) -> int: ...  # noqa: D102  # said above

    @property
    def due(self) -> float: ...  # noqa: D102  # said above

    def fileno(self) -> int:
        """Give the descriptor of the socket that it waits for; it may be another one after each `advance`."""
        ...

    def advance(self) -> ThreadedAnswer | None:
        """Go on as far as it goes; None: it waits for something. Raises what `StorageSession.read` raises."""
        ...

    def give_up(self) -> NoReturn:
        """End it, because it is overdue: raises `StorageUnreachableError`."""
        ...

    def close(self) -> None:
        """End it, wherever it is."""
        ...


class ThreadedReads(Protocol):
    """Reads objects in worker threads, without the event loop; several at once."""

    def begin(self, request: ReadRequest, most_bytes: int) -> ThreadedRead:
        """Begin a read in this thread; what is only a part, or more than `most_bytes`, is given before it is here."""
        ...


@runtime_checkable
class ThreadedSession(Protocol):
    """A session whose objects worker threads can read by themselves: what makes many small ones cheap."""

    async def threaded(self, uri: str) -> ThreadedReads | None:
        """Give what reads objects beside this one (of the same bucket, say) for the moment; None if nothing does."""
        ...


@runtime_checkable
class SeekableListing(Protocol):
    """A session that can begin a listing behind any key: then one request tells what many HEADs would tell.

    For a session where a listing costs as much as asking for each object (a file system), or can only be read from its
    beginning, there is nothing to do here. A listing is as current as a `head` at the same moment.
    """

    def is_seekable(self, root: str) -> bool:
        """Whether the objects below `root`, a URI as far as the `/` before the keys, can be listed in this way."""
        ...

    async def list_after(self, prefix: str, start_after: str, limit: int) -> ListPage:
        """List the objects whose URI begins with `prefix` and comes after `start_after`, by the bytes of their keys.

        Args:
            prefix: at least the root.
            start_after: a URI below the same root; no such object need exist.
            limit: how many objects are wanted, at least 1. A store may give fewer, and say that there are more.
        """
        ...


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """One version, or delete marker, of a listing of versions."""

    uri: str
    version: ObjectVersion


@dataclass(frozen=True, slots=True)
class VersionPage:
    """One answer of a listing of versions: by key, the newest first; and how to ask for more (None: that's all)."""

    versions: tuple[ListedVersion, ...]
    next_token: str | None


@runtime_checkable
class VersionedSession(Protocol):
    """A session of a storage that keeps what is overwritten and deleted. Raises what a `StorageSession` raises."""

    async def version_page(self, prefix: str, *, after: str | None = None, token: str | None = None) -> VersionPage:
        """List the versions of the objects whose URI begins with `prefix`, in at most one request.

        Args:
            prefix: what the URIs begin with.
            after: leave out the objects up to this URI, itself included; only a hint, a page may begin before it.
            token: go on where the page with this `next_token` ended; it goes before `after`.

        Raises:
            VersioningNotSupportedError: the store keeps no versions.
        """
        ...


@runtime_checkable
class UploadPartsSession(Protocol):
    """A session that can tell how large the parts were that an object was uploaded in.

    Needed to compare an object with `FileMetadata.parts_checksum`.
    """

    async def part_bytes(self, uri: str, number: int, *, etag: str, version_id: str | None = None) -> int | None:
        """Ask for the size of the part of that number, from 1, of the version with that ETag; None: can't be told."""
        ...


class StoragePort(Protocol):
    """A place where objects are, as settings."""

    def connect(self, config: CatalogConfig) -> AbstractAsyncContextManager[StorageSession]:
        """Open it on the running event loop; must be cheap: connect at the first request."""
        ...


# -- writing ----------------------------------------------------------------------------------------------------------


class Content(Protocol):
    """Bytes that are to be written. They don't change, and may be read more than once."""

    @property
    def size(self) -> int:
        """How many they are."""
        ...

    @property
    def crc(self) -> str:
        """Their CRC64NVME, as in `Dataset.checksum`."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Give them from the beginning."""
        ...

    async def digest(self, algorithm: str) -> str:
        """Read them and give another digest of theirs."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteRequest:
    """One object to be written.

    Args:
        uri: the object.
        content_type: its media type.
        if_match: the version that must still be there.
        must_be_new: nothing may be there.
    """

    uri: str
    content_type: str
    if_match: str | None = None
    must_be_new: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """The object is written.

    Args:
        metadata: what the answer says of the version that it is now: no `last_modified` where it says none, and no
            `etag` either where the store is as silent as that. `checksum` is what the store computed.
    """

    metadata: FileMetadata


@dataclass(frozen=True, slots=True)
class WriteRefused:
    """Nothing is written: something else is there than the request demands, or is being written (412, 409)."""


@dataclass(frozen=True, slots=True)
class ConditionsUnsupported:
    """Nothing is written: the store says that it doesn't know `if_match` or `must_be_new` (501)."""


WriteOutcome: TypeAlias = Written | WriteRefused | ConditionsUnsupported


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload in parts that was begun."""

    uri: str
    upload_id: str


@dataclass(frozen=True, slots=True)
class UploadedPart:
    """A part that the store has: `number` counts from 1."""

    number: int
    size: int
    etag: str | None
    crc: str


@runtime_checkable
class WritableSession(Protocol):
    """A way to the objects on which they can be written, too. The rules are those of `StorageSession`.

    An object is replaced in one step: whoever reads it sees the old version or the new one. What a write is cancelled
    in may have been written all the same.
    """

    async def write(self, request: WriteRequest, content: Content) -> WriteOutcome:
        """Write an object in one piece."""
        ...

    async def begin_upload(self, request: WriteRequest) -> Upload:
        """Begin to write an object in parts. Its conditions are for the end."""
        ...

    async def write_part(self, upload: Upload, number: int, start: int, content: Content) -> UploadedPart:
        """Write the part of that number, from 1, whose first byte is the object's byte `start`; or write it again."""
        ...

    async def complete_upload(
        self, upload: Upload, request: WriteRequest, parts: Sequence[UploadedPart], crc: str
    ) -> WriteOutcome:
        """Make the object of its parts, in order; `crc` is that of the whole. One that is refused stays open."""
        ...

    async def abort_upload(self, upload: Upload) -> None:
        """Drop the parts. An upload that isn't there any more is no error."""
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
    def crc_algorithm(self) -> CrcAlgorithm:
        """Which CRC the segments have, the one that was asked for or the one that an earlier attempt has begun with."""
        ...

    @property
    def segments(self) -> Sequence[Segment]:
        """What is written and verified already, from an earlier attempt at the same version; in order."""
        ...

    def part(self, start: int, stop: int) -> AbstractAsyncContextManager[PartWriter]:
        """Give a writer for these bytes: it says what can't be written. Parts don't overlap; each has one writer."""
        ...

    async def digest(self, algorithm: str, start: int, stop: int) -> str:
        """Read bytes `start` (inclusive) to `stop` (exclusive) and give their digest."""
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

    def write_here(self, piece: memoryview) -> None:
        """Append the piece at once, and block meanwhile: to be called in a worker thread."""
        ...


class LocalFileChangedError(Exception):
    """Raised by `SnapshotsPort.snapshot` for a file that changes while it is copied. Never reaches a caller."""


class Snapshot(Protocol):
    """A private copy of a local file, as it was at one moment. What is published of it are these very bytes."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    async def read(self, start: int, stop: int) -> bytes:
        """Read bytes `start` (inclusive) to `stop` (exclusive)."""
        ...

    async def digest(self, algorithm: str, start: int, stop: int) -> str:
        """Read these bytes and give their digest."""
        ...

    async def is_current(self) -> bool:
        """Whether the file, as far as its size, time and inode tell, still is what was copied."""
        ...


@dataclass(frozen=True, slots=True)
class Verified:
    """Bytes that are right. Only `_pipeline.verify` makes them, and `CachePort.publish` takes nothing else.

    Args:
        key: what they are the copy of.
        metadata: the remote version that they are.
        content: in memory, staged on disk, or a copy of a local file.
        digest: theirs.
        verified_by: what they were compared with; None means: only their length.
        pin: the dataset's own digest that they were compared with, if it has one.
    """

    key: CacheKey
    metadata: FileMetadata
    content: tuple[bytes, ...] | Staging | Snapshot
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


@runtime_checkable
class SnapshotsPort(Protocol):
    """A cache that can take a local file over, to publish what was pushed."""

    def snapshot(self, path: str) -> AbstractAsyncContextManager[Snapshot]:
        """Copy a local file, without its bytes where the file system can; removed at the end unless it is published.

        Raises `LocalFileChangedError` if the file changes meanwhile.
        """
        ...


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to fetch a file, which one process at a time has.

    Args:
        key: the file.
        resumable_etag: the version of which an earlier attempt has left a part, if one has.
        missing_start: the first byte that it lacks.
        missing_stop: the first byte behind that which it has again, or the end of the file.
        entry: what is cached of it, looked up after the claim was granted: who had it before may have published the
            file just now. None if nothing is.
    """

    key: CacheKey
    resumable_etag: str | None = None
    missing_start: int = 0
    missing_stop: int = 0
    entry: CacheEntry | None = None


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
    """A cache that can also unpack the archives that it holds.

    `CachePort.remove` drops what was unpacked too, and for a `BoundedCache` it counts, is used, and is evicted as one
    with its archive.
    """

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


@runtime_checkable
class ThreadedCache(Protocol):
    """A cache that worker threads can use by themselves, without the event loop; every method blocks."""

    def many_here(self) -> AbstractContextManager[None]:
        """Keep, while a thread sees to many files, what each of them needs."""
        ...

    def claim_here(self, key: CacheKey) -> Claim | Busy:
        """Claim a file, without waiting for who has it."""
        ...

    def release_here(self, claim: Claim) -> None:
        """Give a claim back."""
        ...

    def publish_here(self, verified: Verified) -> CacheEntry:
        """Put bytes that are in memory in their place."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much of the disk the copies may take.

    Args:
        max_bytes: of all data files together; None for as many as fit.
        min_free_bytes: to be left free in the file system of the cache; None for none.
        grace_seconds: a file that was given to a caller is not evicted within that time.
    """

    max_bytes: int | None = None
    min_free_bytes: int | None = None
    grace_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Lease:
    """Keeps a file from being evicted, until it is let go of or its process ends.

    Args:
        key: the file.
        token: what the cache knows it by; None where nothing could be written.
    """

    key: CacheKey
    token: str | None


@runtime_checkable
class BoundedCache(Protocol):
    """A cache that can be kept within bounds: it knows what is in use, and evicts what was least recently used."""

    async def use(self, paths: Sequence[Path]) -> list[Path]:
        """Note that these files are given to a caller now, and tell which of them are no longer there.

        From then on none of them is evicted within the grace period. Costs no hop for files of which that was noted a
        moment ago. Where nothing can be written, it is no error.
        """
        ...

    async def evict(self, bounds: Bounds, *, spared: Collection[str] = (), is_thorough: bool = False) -> int:
        """Remove files, the least recently used first, until the bounds are kept or the rest is in use.

        Never removes a file that has a lease, is being fetched, or was given to a caller within the grace period.
        Cancelled, it stops between two files.

        Args:
            bounds: what is to be kept.
            spared: the paths of files that may not go.
            is_thorough: look at every file first, instead of trusting what was noted of changes.

        Returns:
            Bytes removed.
        """
        ...

    async def hold(self, key: CacheKey) -> Lease:
        """Keep a file from being evicted, in this process and others, whether it is cached yet or not."""
        ...

    async def let_go(self, lease: Lease) -> None:
        """End a lease."""
        ...

    async def totals(self) -> tuple[int, int]:
        """Tell how many bytes and how many files there are, of whatever catalog, without reading a sidecar."""
        ...


@dataclass(frozen=True, slots=True)
class Declaration:
    """Which datasets a catalog has, so that their data is kept when another catalog cleans the cache.

    Args:
        project: the directory that the catalog belongs to.
        datasets: their names and sources.
    """

    project: str
    datasets: tuple[tuple[str, str], ...]


@runtime_checkable
class CleanableCache(Protocol):
    """A cache that can tell what is of no use to anybody any more, and remove it."""

    async def declare(self, declaration: Declaration) -> None:
        """Note that a catalog uses the cache now. Where nothing can be written, it is no error."""
        ...

    async def clean(
        self, declaration: Declaration, meant_by: Callable[[Collection[str]], Callable[[str], bool]]
    ) -> int:
        """Remove what processes that ended have left, sidecars without data, and data that nobody declares any more.

        Data is removed only if a declaration of the same project had it that this one has replaced, and no other one
        has it. Nothing is removed of which no sidecar tells, that has a lease, or that is being fetched.
        Cancelled, it stops between two files.

        Args:
            declaration: of the catalog that cleans.
            meant_by: gives of some sources what tells whether an object, by its URI, is one of theirs.

        Returns:
            Bytes removed.
        """
        ...
