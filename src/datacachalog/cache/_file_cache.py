"""How does a file get into the cache, and out of it, so that a reader never sees half of one?

Invariants, none of which depends on a lock:

- A data file is written under a name of its own and put in place by one rename; a reader sees all of it or none.
- Every published file gets a modification time that no other has: the sidecar that names it belongs to this file and to
  no other, even if two processes publish two versions at once and their renames interleave. What doesn't match is
  absent, never wrong.
- A file that was written out of order is brought to disk (fsync) before the rename: after a power cut it could have
  its size and hold zeros where a part was. One that was written in one go has either its bytes or not its size, and a
  rename or a sidecar that is lost leaves a file absent: they need no fsync to be safe.
- Nothing is written through a symbolic link inside the cache directory.
"""

from __future__ import annotations

import errno
import functools
import os
import shutil
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from .._archives import UnpackFormat
from .._chance import chance
from .._digests import CrcAlgorithm, digest_file
from .._errors import ArchiveError, CacheError, IntegrityError, UnsafePathError, redact_uri
from .._models import CacheMetadata, FileMetadata
from .._sources import absolute_path
from .._threads import to_its_end
from ..ports import (
    Bounds,
    Busy,
    CacheEntry,
    CacheKey,
    Claim,
    Declaration,
    Lease,
    Unpacked,
    Verified,
    VersionChangedError,
)
from . import _disk, _sidecar
from ._claims import key_hash, lock_file
from ._cleaning import clean_leftovers, clean_sidecars, clean_trees, clean_undeclared
from ._declarations import declare, out_of_date
from ._evictor import Eviction, Evictor, evictor_of, files
from ._failures import cache_failures
from ._hops import in_thread
from ._layout import CACHE_TAG, STATE_DIRECTORY, first_place, key_at, places
from ._leases import hold, let_go
from ._manifest import Limits
from ._partials import Partial, begin, in_progress, missing_range, resumable
from ._processes import tag
from ._reads import read_in_thread
from ._recent import MOST_AT_ONCE, Recent, recent_of
from ._removal import Ground, is_as_published, remove_entry
from ._snapshots import Copying, LocalCopy
from ._staging import StagedFile
from ._unpacked import UnpackedTrees, has_decayed, remove_trees, unpacking_limiter
from ._usage import Usage, usage_of

_READ_ONLY = os.O_RDONLY | getattr(os, "O_BINARY", 0)
_META = f"{STATE_DIRECTORY}/meta"
_PARTIAL = f"{STATE_DIRECTORY}/partial"
_LEASE = f"{STATE_DIRECTORY}/lease"
_TEMPORARY = f"{STATE_DIRECTORY}/new"
_USAGE = f"{STATE_DIRECTORY}/usage"
_CATALOGS = f"{STATE_DIRECTORY}/catalogs"
_TAG_TEXT = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# This directory holds copies that can be fetched again: backups may leave it out (https://bford.info/cachedir/).\n"
)
# The place is held by something else: a file where a directory is needed, or the other way round.
_OCCUPIED = frozenset({errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY})
_UNHOLDABLE = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ})

_LOOKUPS_A_HOP = 200
"""So many sidecars are read in one hop, a hundredth of a second's work: then other reads have their turn."""

_SIDECAR_BYTES = 16 * 1024  # what is read at once; sidecars have half a kilobyte

_Result = TypeVar("_Result")

_known_directories: dict[str, tuple[int, int, float]] = {}
"""Directories of caches that were looked at and are no links, with all that leads there: path → device, inode, when."""

_KNOWN_SECONDS = 1.0  # the number of an inode may be given to another directory
_KNOWN_DIRECTORIES_MAX = 4096


@dataclass(frozen=True, slots=True)
class FileCache:
    """A cache in a directory of plain files.

    Args:
        cache_dir: the directory; made when something is first published. It belongs to the cache.
    """

    cache_dir: Path
    _root: str = field(init=False, repr=False, compare=False)

    def __init__(self, cache_dir: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "cache_dir", Path(absolute_path(cache_dir)))
        object.__setattr__(self, "_root", f"{self.cache_dir}{os.sep}")

    # -- the port: each method is one hop to a worker thread

    async def lookup(self, keys: Sequence[CacheKey]) -> list[CacheEntry | None]:
        """Read the sidecars; None for what is absent, unreadable, of another URI, or not as it was published.

        Raises:
            UnsafePathError: a `cache_path` that leaves the cache directory.
        """
        if len(keys) <= MOST_AT_ONCE:
            recalled = self._recent.recall(keys)
            if recalled is not None:
                await anyio.lowlevel.checkpoint()  # others have their turn, as if there had been something to wait for
                return recalled
            return await read_in_thread(functools.partial(self._find_few, keys))
        found: list[CacheEntry | None] = []
        for start in range(0, len(keys), _LOOKUPS_A_HOP):
            found += await read_in_thread(functools.partial(self._find_all, keys[start : start + _LOOKUPS_A_HOP]))
        return found

    @asynccontextmanager
    async def stage(
        self, key: CacheKey, metadata: FileMetadata, crc_algorithm: CrcAlgorithm
    ) -> AsyncIterator[StagedFile]:
        """Begin a file of that version, or go on with one that was begun.

        What is not published when the context is left stays for a later attempt. It is removed if the version has no
        ETag by which it can be recognised, if another version has taken its place, or if its bytes are wrong.

        Raises:
            CacheFullError: fewer bytes are free than are missing.
            CacheError: the cache directory can't be written.
        """
        partial = await _in_own_thread(lambda: self._begin(key, metadata, crc_algorithm), undo=Partial.release)
        staged = StagedFile(partial)
        is_useful = metadata.etag is not None
        try:
            yield staged
        except (VersionChangedError, IntegrityError):
            is_useful = False
            raise
        finally:
            await _in_own_thread(lambda: _leave(staged, is_useful=is_useful))

    @asynccontextmanager
    async def snapshot(self, path: str) -> AsyncIterator[LocalCopy]:
        """Copy a local file, without its bytes where the file system can; removed at the end unless it is published.

        Raises:
            LocalFileChangedError: it can't be read any more, or is being written to.
            CacheFullError: no space left.
            CacheError: the cache directory can't be written.
        """
        with cache_failures(str(self.cache_dir)):
            copying = await _in_own_thread(lambda: self._begin_copy(path), undo=Copying.discard)
        try:
            with cache_failures(str(self.cache_dir)):
                while await _in_own_thread(copying.step):
                    await anyio.lowlevel.checkpoint_if_cancelled()
                copy = await _in_own_thread(copying.end)
            yield copy
        finally:
            await _in_own_thread(copying.discard)

    async def publish(self, verified: Verified) -> CacheEntry:
        """Put the bytes in their place, in one step that a reader sees whole or not at all.

        Cancelled once it has begun, it is finished first.

        Raises:
            CacheFullError: no space left.
            UnsafePathError: a symbolic link in the cache leads elsewhere.
            CacheError: the cache directory can't be written.
        """
        if isinstance(verified.content, tuple):
            return await in_thread(lambda: self.publish_here(verified))
        return await _in_own_thread(lambda: self.publish_here(verified))

    async def touch(self, entries: Sequence[CacheEntry]) -> None:
        """Note that the remote confirmed these just now; a cache that can't be written stays as it is."""

        def touch_all() -> None:
            for entry in entries:
                self._touch(entry)

        await in_thread(touch_all)

    async def remove(self, keys: Sequence[CacheKey]) -> int:
        """Drop what is cached; returns how many files that were.

        Raises:
            CacheError: the cache directory can't be written.
        """
        return await _in_own_thread(lambda: sum(self._remove(key) for key in keys))

    async def claim(self, key: CacheKey) -> Claim | Busy:
        """Claim a file for this process, without waiting; granted also where nothing can be written or locked."""
        return await in_thread(lambda: self.claim_here(key), undo=self.release_here)

    async def release(self, claim: Claim) -> None:
        """Give a claim back."""
        await in_thread(lambda: self.release_here(claim))

    async def entries(self) -> list[CacheEntry]:
        """List all files cached, of whatever catalog."""
        return await _in_own_thread(lambda: list(self._intact()))

    async def recorded(self) -> list[CacheEntry]:
        """List all files of which a sidecar tells, those included that were changed since they were published."""
        return await _in_own_thread(lambda: [entry for _, entry in self._walk() if entry.path.exists()])

    async def is_intact(self, entry: CacheEntry) -> bool:
        """Read a file and compare it with the digest that it was published with; one that was evicted meanwhile is.

        Raises:
            CacheError: it can't be read.
        """
        algorithm = entry.metadata.digest.partition(":")[0]
        with cache_failures(str(entry.path)):
            # Left to itself when cancelled: it may take long, and only reads.
            try:
                digest = await anyio.to_thread.run_sync(digest_file, str(entry.path), algorithm, abandon_on_cancel=True)
            except FileNotFoundError:
                return True
        return digest == entry.metadata.digest

    # -- what is unpacked of the archives

    async def unpacked(self, entry: CacheEntry, archive_format: UnpackFormat) -> Unpacked | None:
        """Give what was unpacked of this very archive; None if it isn't there as it was unpacked."""
        return await _in_own_thread(lambda: self._trees.find(entry, archive_format))

    async def unpack(
        self, entry: CacheEntry, archive_format: UnpackFormat, *, max_bytes: int, max_files: int
    ) -> Unpacked | None:
        """Unpack a cached archive, in one step that a reader sees whole or not at all.

        As many at a time as there are processors. Cancelled, it stops within a MiB, and leaves nothing.

        Returns:
            What was in it; None if the archive is no longer there as the entry says.

        Raises:
            ArchiveError: it is damaged, encrypted, of another format, or larger than the limits.
            UnsafePathError: one of its members may not be written.
            ConfigurationError: the library for its format isn't installed.
            CacheFullError: no space left.
            CacheError: the cache directory can't be written.
        """
        limits = Limits(max_bytes, max_files)
        stop = threading.Event()

        def work() -> Unpacked | None:
            with cache_failures(str(self.cache_dir)):
                found = self._trees.find(entry, archive_format)  # somebody may have been faster
                if found is not None:
                    return found
                self._create_root()
                try:
                    return self._trees.unpack(entry, archive_format, limits, stop.is_set)
                except ArchiveError:
                    if not has_decayed(entry, stop.is_set):
                        raise
                    self._remove(entry.key)
                    return None

        async with unpacking_limiter():
            return await to_its_end(anyio.to_thread.run_sync(work), interrupt=stop.set)

    async def all_unpacked(self) -> list[Unpacked]:
        """List what was unpacked of all archives, of whatever catalog."""
        return await _in_own_thread(self._trees.all)

    async def changed_files(self, unpacked: Unpacked) -> list[Path]:
        """Read the files and give those that were changed or added since they were unpacked.

        Raises:
            CacheError: one can't be read.
        """
        with cache_failures(str(unpacked.path)):
            # Left to itself when cancelled: it may take long, and only reads.
            return await anyio.to_thread.run_sync(self._trees.changed_files, unpacked, abandon_on_cancel=True)

    @property
    def _trees(self) -> UnpackedTrees:
        return UnpackedTrees(self.cache_dir, self._directory, self._note_change)

    # -- the same, for who is in a worker thread

    def many_here(self) -> AbstractContextManager[None]:
        """Keep, while a thread sees to many files, what each of them needs."""
        return lock_file(self._lock_path).kept_open()

    def claim_here(self, key: CacheKey) -> Claim | Busy:
        """Claim a file for this process, without waiting; granted also where nothing can be written or locked."""
        partials = self._data_path(_PARTIAL)
        try:
            locks = lock_file(self._lock_path)
            if not locks.is_open:
                self._directory(_LEASE)
            is_ours = locks.acquire(key_hash(key.uri, key.version_id))
        except (OSError, UnsafePathError):
            is_ours = True  # whether the cache can be written is for those to say who write to it
        if is_ours:
            entry, found = self._find(key), resumable(partials, key)
            if found is None:
                return Claim(key, entry=entry)
            start, stop = missing_range(found)
            return Claim(key, found.header.etag, start, stop, entry)
        found = in_progress(partials, key)
        if found is None:
            owner, received_bytes = self._trees.in_progress(key) or ("another process", 0)
            return Busy(str(owner), received_bytes, None)
        return Busy(str(found.header.owner), found.received_bytes, found.header.size)

    def release_here(self, claim: Claim | Busy) -> None:
        """Give a claim back, if it is one."""
        if isinstance(claim, Claim):
            lock_file(self._lock_path).release(key_hash(claim.key.uri, claim.key.version_id))

    def publish_here(self, verified: Verified) -> CacheEntry:
        """Put the bytes in their place, in one step that a reader sees whole or not at all.

        Raises:
            CacheFullError: no space left.
            UnsafePathError: a symbolic link in the cache leads elsewhere.
            CacheError: the cache directory can't be written.
        """
        with cache_failures(str(self.cache_dir)), self._temporary(verified) as (temporary, mtime_ns):
            metadata = CacheMetadata(
                source=verified.key.uri,
                etag=verified.metadata.etag,
                last_modified=verified.metadata.last_modified,
                size=verified.metadata.size,
                cached_at=datetime.now(UTC),
                digest=verified.digest,
                verified_by=verified.verified_by,
                mtime_ns=mtime_ns,
                version_id=verified.metadata.version_id,
                pin=verified.pin,
            )
            refusal: OSError | None = None
            for place in places(verified.key):
                if self._is_taken(place, verified.key):
                    continue
                try:
                    path = self._put(place, temporary, metadata)
                    return CacheEntry(verified.key, Path(path), metadata, time.time())
                except OSError as error:
                    if error.errno not in _OCCUPIED | _UNHOLDABLE:
                        raise
                    refusal = error
            raise refusal or CacheError(f"{verified.key.cache_path} in {self.cache_dir} is taken by another object")

    # -- bounds

    async def use(self, paths: Sequence[Path]) -> list[Path]:
        """Note that these files are given to a caller now, and tell which of them are no longer there."""
        prefix = len(self._root)
        places = [str(path)[prefix:].replace(os.sep, "/") for path in paths]
        if self._usage.is_noted(places):
            return []
        return await in_thread(lambda: self._use(paths, places))

    async def evict(self, bounds: Bounds, *, spared: Collection[str] = (), is_thorough: bool = False) -> int:
        """Remove files, the least recently used first, until the bounds are kept or the rest is in use.

        Cancelled, it stops between two files.

        Raises:
            CacheError: the cache directory can't be written.
        """
        if not is_thorough and not await in_thread(lambda: self._evictor.is_over(bounds)):
            return 0

        def evict(is_stopped: Callable[[], bool]) -> int:
            self._prepare_removal()
            return self._evictor.evict(Eviction(bounds, spared, is_stopped), is_thorough=is_thorough)

        return await self._in_stoppable_thread(evict)

    async def hold(self, key: CacheKey) -> Lease:
        """Keep a file from being evicted, in this process and others; where nothing can be written, nothing is."""

        def make() -> Lease:
            with suppress(OSError, UnsafePathError):
                self._create_root()
                return Lease(key, hold(self._directory(_LEASE), key_hash(key.uri, key.version_id)))
            return Lease(key, None)

        return await in_thread(make, undo=_let_go)

    async def let_go(self, lease: Lease) -> None:
        """End a lease."""
        await in_thread(lambda: _let_go(lease))

    async def totals(self) -> tuple[int, int]:
        """Tell how many bytes and how many files there are, of whatever catalog, without reading a sidecar."""

        def count(is_stopped: Callable[[], bool]) -> tuple[int, int]:
            total_bytes = number = 0
            for found in files(self._ground, self._usage.times()):
                total_bytes, number = total_bytes + found.size, number + 1
                if is_stopped():
                    break
            return total_bytes, number + sum(len(unpacked.files) for unpacked in self._trees.all())

        return await self._in_stoppable_thread(count)

    async def declare(self, declaration: Declaration) -> None:
        """Note that a catalog uses the cache now; a cache that can't be written stays as it is."""

        def write() -> None:
            with suppress(OSError, UnsafePathError):
                self._create_root()
                self._directory(_TEMPORARY)
                declare(self._directory(_CATALOGS), declaration, self._ground.temporary_path())

        await in_thread(write)

    async def clean(
        self, declaration: Declaration, meant_by: Callable[[Collection[str]], Callable[[str], bool]]
    ) -> int:
        """Remove what ended processes have left, sidecars without data, and data that nobody declares any more.

        Cancelled, it stops between two files.

        Raises:
            CacheError: the cache directory can't be written.
        """
        await self.declare(declaration)

        def clean(is_stopped: Callable[[], bool]) -> int:
            self._prepare_removal()
            ground, evictor = self._ground, self._evictor
            freed = clean_leftovers(ground, os.path.dirname(self._lock_path), is_stopped)
            freed += clean_sidecars(ground, evictor, is_stopped)
            freed += clean_trees(ground, is_stopped)
            old, others = out_of_date(os.path.join(ground.root, *_CATALOGS.split("/")), declaration)
            if old:
                gone, kept = (
                    meant_by({source for found in some for _, source in found.declaration.datasets})
                    for some in (old, others)
                )
                is_wanted = lambda uri: kept(uri) or not gone(uri)  # noqa: E731  # what is said above
                removed, is_done = clean_undeclared(ground, evictor, is_wanted, is_stopped)
                freed += removed
                for found in old if is_done else ():
                    _disk.remove_file(found.path)
            evictor.survey()
            return freed

        return await self._in_stoppable_thread(clean)

    # -- reading

    def _find_all(self, keys: Sequence[CacheKey]) -> list[CacheEntry | None]:
        return [self._find(key) for key in keys]

    def _find_few(self, keys: Sequence[CacheKey]) -> list[CacheEntry | None]:
        """Look for copies that may be asked for again."""
        found: list[CacheEntry | None] = []
        for key in keys:
            place = first_place(key)
            found.append(self._recent.find(key, self._sidecar_path(place), self._data_path(place), self._find))
        return found

    def _find(self, key: CacheKey) -> CacheEntry | None:
        entry = self._read(first_place(key), key)
        if entry is None:
            others = (self._read(place, key) for place in places(key)[1:])
            entry = next((found for found in others if found is not None), None)
        return entry

    def _read(self, place: str, key: CacheKey | None) -> CacheEntry | None:
        """Read the entry at a place; of any object if no key is given; None if its file isn't as it was published."""
        entry = self._read_sidecar(place, key)
        if entry is None or not is_as_published(self._data_path(place), entry.metadata):
            return None
        return entry

    def _read_sidecar(self, place: str, key: CacheKey | None) -> CacheEntry | None:
        """Read what was written about the file at a place, whatever has become of that file."""
        try:
            # System calls, and no file object that would make twice as many: a catalog may have very many sidecars.
            descriptor = os.open(self._sidecar_path(place), _READ_ONLY)
            try:
                validated_at = os.fstat(descriptor).st_mtime
                text = chunk = os.read(descriptor, _SIDECAR_BYTES)
                while len(chunk) == _SIDECAR_BYTES:
                    chunk = os.read(descriptor, _SIDECAR_BYTES)
                    text += chunk
            finally:
                os.close(descriptor)
        except OSError:
            return None
        metadata = _sidecar.decode(text)
        if metadata is None or (key is not None and not _is_of(metadata, key)):
            return None
        if key is None:
            key = CacheKey(metadata.source, metadata.version_id)
        return CacheEntry(key, Path(self._data_path(place)), metadata, validated_at)

    def _walk(self) -> Iterator[tuple[str, CacheEntry]]:
        """Give every place that has a sidecar, with what that says."""
        top = self._sidecar_root
        for directory, subdirectories, names in os.walk(top):
            subdirectories.sort()
            for name in sorted(names):
                if name.endswith(".json"):
                    place = os.path.relpath(os.path.join(directory, name[: -len(".json")]), top).replace(os.sep, "/")
                    entry = self._read_sidecar(place, None)
                    if entry is not None:
                        metadata = entry.metadata
                        yield place, replace(entry, key=key_at(place, metadata.source, metadata.version_id))

    def _intact(self) -> Iterator[CacheEntry]:
        for _, entry in self._walk():
            if is_as_published(str(entry.path), entry.metadata):
                yield entry

    # -- writing

    def _begin(self, key: CacheKey, metadata: FileMetadata, crc_algorithm: CrcAlgorithm) -> Partial:
        with cache_failures(str(self.cache_dir)):
            partial = begin(self._directory(_PARTIAL), key, metadata, crc_algorithm)
            # Better to say so before the download than at its end; what is written still may not fit.
            missing = metadata.size - sum(segment.stop - segment.start for segment in partial.segments)
            if shutil.disk_usage(self.cache_dir).free < missing:
                partial.release()
                text = f"{missing:,} bytes are needed for {redact_uri(key.uri)}"
                raise OSError(errno.ENOSPC, text, str(self.cache_dir))
            return partial

    def _begin_copy(self, path: str) -> Copying:
        return Copying(path, self._create_temporary())

    def _is_taken(self, place: str, key: CacheKey) -> bool:
        """Whether another object's copy lies there: on a file system that ignores case, say."""
        if (
            key.cache_path is not None and key.name is None
        ):  # the user's choice, who may have given the place to another object before
            return False
        entry = self._read(place, None)
        return entry is not None and entry.metadata.source != key.uri

    def _put(self, place: str, temporary: str, metadata: CacheMetadata) -> str:
        """Put a file in its place, and then its sidecar; returns where that is."""
        data_path, sidecar_path = self._data_path(place), self._sidecar_path(place)
        self._directory(os.path.dirname(place))
        self._directory(os.path.dirname(f"{_META}/{place}"))
        is_there = False
        for target in (data_path, sidecar_path):
            try:
                mode = os.lstat(target).st_mode
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
            is_there = target is sidecar_path
        with self._new_file() as sidecar:
            _disk.write_all(sidecar, [_sidecar.encode(metadata)])
            sidecar.close()
            self._note_publishing(place, metadata.size, is_there=is_there)
            _disk.replace(temporary, data_path)
            _disk.replace(str(sidecar.name), sidecar_path)
        return data_path

    @contextmanager
    def _temporary(self, verified: Verified) -> Iterator[tuple[str, int]]:
        """Give the file to be renamed, whole, and its unique modification time."""
        content, size = verified.content, verified.metadata.size
        if isinstance(content, tuple):
            with self._new_file() as file:
                _disk.write_all(file, content)
                mtime_ns = _stamp(file, size)
                file.close()
                yield str(file.name), mtime_ns
        elif isinstance(content, StagedFile | LocalCopy):
            with FileIO(content.path, "r+b", opener=_disk.open_in_place) as file:
                _disk.flush(file)
                mtime_ns = _stamp(file, size)
            yield content.path, mtime_ns
        else:
            raise TypeError(f"a FileCache publishes what it staged or copied itself, not {type(content).__name__}")

    @contextmanager
    def _new_file(self) -> Iterator[FileIO]:
        """Make a file of a new name, open for writing, which is to be renamed; it is removed if that fails."""
        with self._create_temporary() as file:
            try:
                yield file
            except BaseException:
                file.close()
                _disk.remove_file(str(file.name))
                raise

    def _create_temporary(self) -> FileIO:
        # Names need only differ: one that is there already is refused, and drawing from the system's pool waits.
        name = f"{tag()}.{chance.getrandbits(64):016x}.tmp"  # no secret
        return _disk.create(f"{self._directory(_TEMPORARY)}{os.sep}{name}")

    def _touch(self, entry: CacheEntry) -> None:
        place = entry.path.relative_to(self.cache_dir).as_posix()
        with suppress(OSError):
            if self._is_inside(place):
                _disk.touch(self._sidecar_path(place))

    def _remove(self, key: CacheKey) -> int:
        removed = freed = 0
        with cache_failures(str(self.cache_dir)):
            for place in places(key):
                entry = self._read(place, key)
                if entry is not None and self._is_inside(place):
                    self._directory(_PARTIAL)
                    freed += remove_entry(self._ground, place, lambda _: True) or 0
                    removed += 1
                freed += remove_trees(os.fspath(self.cache_dir), place, source=key.uri)
            self._note_change(-freed)
        return removed

    # -- bounds

    @property
    def _recent(self) -> Recent:
        return recent_of(self._root)

    @property
    def _usage(self) -> Usage:
        return usage_of(os.path.join(self.cache_dir, *_USAGE.split("/")))

    @property
    def _ground(self) -> Ground:
        return Ground(
            os.fspath(self.cache_dir),
            self._sidecar_root,
            self._data_path(_PARTIAL),
            self._data_path(_TEMPORARY),
            self._is_inside,
        )

    @property
    def _evictor(self) -> Evictor:
        usage = os.path.join(self.cache_dir, *_USAGE.split("/"))
        return evictor_of(
            os.fspath(self.cache_dir),
            lambda: Evictor(
                self._ground, usage_of(usage), os.path.dirname(self._lock_path), os.path.join(usage, "oldest")
            ),
        )

    def _use(self, paths: Sequence[Path], places: Sequence[str]) -> list[Path]:
        self._note_use(places)
        # Only now, when whoever evicts can see that it is used: see `_removal`.
        pairs = zip(paths, places, strict=True)
        return [path for path, place in pairs if not os.path.lexists(self._sidecar_path(place))]

    def _note_use(self, places: Sequence[str]) -> None:
        with suppress(UnsafePathError):
            with suppress(OSError):  # read-only, say: then nobody evicts here either
                self._directory(_USAGE)
            self._usage.note(places)

    def _note_publishing(self, place: str, size: int, *, is_there: bool) -> None:
        """Note, before a file is put in its place, that it is used if one was there, and how many bytes are added."""
        if is_there:
            self._note_use([place])
            with suppress(FileNotFoundError):
                size -= os.lstat(self._data_path(place)).st_size
        self._note_change(size)

    def _note_change(self, difference: int) -> None:
        if self._usage.has_account():
            with suppress(OSError, UnsafePathError):
                self._directory(_USAGE)
                self._usage.add(difference)

    def _prepare_removal(self) -> None:
        """Make the directories that it needs, and see that none of them is a link."""
        with cache_failures(os.fspath(self.cache_dir)):
            if self.cache_dir.exists():
                for directory in (_TEMPORARY, _USAGE, _LEASE, _CATALOGS):
                    self._directory(directory)

    async def _in_stoppable_thread(self, work: Callable[[Callable[[], bool]], _Result]) -> _Result:
        """Do work that may take long; cancelled, it is told to stop, and does so after the file that it is at."""
        stop = threading.Event()
        try:
            with cache_failures(os.fspath(self.cache_dir)):
                return await anyio.to_thread.run_sync(work, stop.is_set, abandon_on_cancel=True)
        finally:
            stop.set()

    # -- paths

    @property
    def _sidecar_root(self) -> str:
        return self._data_path(_META)

    def _data_path(self, place: str) -> str:
        return self._root + (place if os.sep == "/" else place.replace("/", os.sep))

    def _sidecar_path(self, place: str) -> str:
        return self._data_path(f"{_META}/{place}.json")

    @property
    def _lock_path(self) -> str:
        return self._data_path(f"{_LEASE}/claims")

    def _create_root(self) -> None:
        os.makedirs(self.cache_dir, exist_ok=True)
        with suppress(FileExistsError), open(os.path.join(self.cache_dir, CACHE_TAG), "xb") as file:
            file.write(_TAG_TEXT)

    def _directory(self, place: str) -> str:
        """Make a directory of the cache, segment by segment, through no symbolic link.

        Raises:
            UnsafePathError: a segment is a link.
            NotADirectoryError: a segment is a file.
        """
        whole = self._data_path(place)
        known = _known_directories.get(whole)
        if known is not None and time.monotonic() - known[2] < _KNOWN_SECONDS:
            try:
                found = os.lstat(whole)
            except OSError:
                pass
            else:
                # Whichever way leads there, it is the one that was looked at.
                if known[1] == found.st_ino and known[0] == found.st_dev and stat.S_ISDIR(found.st_mode):
                    return whole
        self._create_root()
        path = os.fspath(self.cache_dir)
        for segment in filter(None, place.split("/")):
            path = f"{path}{os.sep}{segment}"
            try:
                found = os.lstat(path)
            except FileNotFoundError:
                with suppress(FileExistsError):  # made by somebody else just now
                    _disk.make_directory(path)
                found = os.lstat(path)
            mode = found.st_mode
            if _is_link(path, mode):
                raise UnsafePathError(f"{path} is a link: the cache doesn't write through links; remove it")
            if not stat.S_ISDIR(mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            if path == whole:
                if len(_known_directories) >= _KNOWN_DIRECTORIES_MAX:
                    _known_directories.clear()
                _known_directories[whole] = found.st_dev, found.st_ino, time.monotonic()
        return path

    def _is_inside(self, place: str) -> bool:
        """Whether no directory on the way to the place, and to its sidecar, is a link."""
        for start in (place, f"{_META}/{place}"):
            path = os.fspath(self.cache_dir)
            for segment in start.split("/")[:-1]:
                path = os.path.join(path, segment)
                if _is_link(path, os.lstat(path).st_mode):
                    return False
        return True


async def _in_own_thread(work: Callable[[], _Result], undo: Callable[[_Result], object] | None = None) -> _Result:
    """Do blocking work that may take long; cancelled, it is finished first, and what it got is given back."""

    async def give_back(got: _Result) -> None:
        if undo is not None:
            await anyio.to_thread.run_sync(undo, got)

    return await to_its_end(anyio.to_thread.run_sync(work), give_back)


def _let_go(lease: Lease) -> None:
    if lease.token is not None:
        let_go(lease.token)


def _is_of(metadata: CacheMetadata, key: CacheKey) -> bool:
    """Whether a sidecar is of the key's object; of which version doesn't matter where the newest is meant."""
    return metadata.source == key.uri and key.version_id in (None, metadata.version_id)


def _stamp(file: FileIO, size: int) -> int:
    """Give a file its own modification time, and return it as the file system has kept it.

    The time is some moment of the last second, to the nanosecond, drawn by chance: the clock of a file system may tick
    only every few milliseconds, and two versions published within one tick must not look alike.

    Raises:
        CacheError: the file hasn't the size that it should have.
    """
    nanoseconds = chance.randrange(10**9)
    mtime_ns = (time.time_ns() // 10**9 - 1) * 10**9 + nanoseconds
    _disk.set_mtime(file.fileno() if os.utime in os.supports_fd else str(file.name), mtime_ns)
    found = os.fstat(file.fileno())
    if found.st_size != size:
        raise CacheError(f"{file.name} has {found.st_size} bytes instead of {size}")
    return found.st_mtime_ns


def _leave(staged: StagedFile, *, is_useful: bool) -> None:
    """Keep what is worth going on with; remove what is published, wrong or empty."""
    if is_useful and staged.is_written and os.path.exists(staged.path):
        staged.partial.release()
    else:
        staged.partial.discard()


def _is_link(path: str, mode: int) -> bool:
    is_junction: Callable[[str], bool] | None = getattr(os.path, "isjunction", None)  # Windows, from Python 3.12 on
    return stat.S_ISLNK(mode) or (is_junction is not None and is_junction(path))
