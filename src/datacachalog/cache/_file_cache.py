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
import os
import random
import shutil
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from .._archives import UnpackFormat
from .._digests import CrcAlgorithm, digest_file
from .._errors import ArchiveError, CacheError, IntegrityError, UnsafePathError, redact_uri
from .._models import CacheMetadata, FileMetadata
from .._sources import absolute_path
from .._threads import to_its_end
from ..ports import Busy, CacheEntry, CacheKey, Claim, Unpacked, Verified, VersionChangedError
from . import _disk, _sidecar
from ._claims import key_hash, lock_file
from ._failures import cache_failures
from ._hops import in_thread
from ._layout import CACHE_TAG, STATE_DIRECTORY, candidates, key_at
from ._manifest import Limits
from ._partials import Partial, begin, in_progress, missing_range, resumable
from ._staging import StagedFile
from ._unpacked import UnpackedTrees, has_decayed, unpacking_limiter

_META = f"{STATE_DIRECTORY}/meta"
_PARTIAL = f"{STATE_DIRECTORY}/partial"
_LEASE = f"{STATE_DIRECTORY}/lease"
_TAG_TEXT = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# This directory holds copies that can be fetched again: backups may leave it out (https://bford.info/cachedir/).\n"
)
# The place is held by something else: a file where a directory is needed, or the other way round.
_OCCUPIED = frozenset({errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY})
_UNHOLDABLE = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ})

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class FileCache:
    """A cache in a directory of plain files.

    Args:
        cache_dir: the directory; made when something is first published. It belongs to the cache.
    """

    cache_dir: Path

    def __init__(self, cache_dir: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "cache_dir", Path(absolute_path(cache_dir)))

    # -- the port: each method is one hop to a worker thread

    async def lookup(self, keys: Sequence[CacheKey]) -> list[CacheEntry | None]:
        """Read the sidecars; None for what is absent, unreadable, of another URI, or not as it was published.

        Raises:
            UnsafePathError: a `cache_path` that leaves the cache directory.
        """
        return await in_thread(lambda: [self._find(key) for key in keys])

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

    async def publish(self, verified: Verified) -> CacheEntry:
        """Put the bytes in their place, in one step that a reader sees whole or not at all.

        Cancelled once it has begun, it is finished first.

        Raises:
            CacheFullError: no space left.
            UnsafePathError: a symbolic link in the cache leads elsewhere.
            CacheError: the cache directory can't be written.
        """
        if isinstance(verified.content, tuple):
            return await in_thread(lambda: self._publish(verified))
        return await _in_own_thread(lambda: self._publish(verified))

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
        return await in_thread(lambda: self._claim(key), undo=self._unclaim)

    async def release(self, claim: Claim) -> None:
        """Give a claim back."""
        await in_thread(lambda: self._unclaim(claim))

    async def entries(self) -> list[CacheEntry]:
        """List all files cached, of whatever catalog."""
        return await _in_own_thread(lambda: list(self._intact()))

    async def recorded(self) -> list[CacheEntry]:
        """List all files of which a sidecar tells, those included that were changed since they were published."""
        return await _in_own_thread(lambda: [entry for _, entry in self._walk() if entry.path.exists()])

    async def is_intact(self, entry: CacheEntry) -> bool:
        """Read a file and compare it with the digest that it was published with.

        Raises:
            CacheError: it can't be read.
        """
        algorithm = entry.metadata.digest.partition(":")[0]
        with cache_failures(str(entry.path)):
            # Left to itself when cancelled: it may take long, and only reads.
            digest = await anyio.to_thread.run_sync(digest_file, str(entry.path), algorithm, abandon_on_cancel=True)
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
            return await to_its_end(anyio.to_thread.run_sync(work), hurry=stop.set)

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
        return UnpackedTrees(self.cache_dir, self._directory)

    # -- reading

    def _find(self, key: CacheKey) -> CacheEntry | None:
        for place in candidates(key):
            entry = self._read(place, key)
            if entry is not None:
                return entry
        return None

    def _read(self, place: str, key: CacheKey | None) -> CacheEntry | None:
        """Read the entry at a place; of any object if no key is given; None if its file isn't as it was published."""
        entry = self._read_sidecar(place)
        if entry is None or (key is not None and not _is_of(entry.metadata, key)):
            return None
        try:
            found = os.lstat(entry.path)
        except OSError:
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        if (found.st_size, found.st_mtime_ns) != (entry.metadata.size, entry.metadata.mtime_ns):
            return None
        return entry if key is None else replace(entry, key=key)

    def _read_sidecar(self, place: str) -> CacheEntry | None:
        """Read what was written about the file at a place, whatever has become of that file."""
        try:
            with open(self._sidecar_path(place), "rb", buffering=0) as file:
                metadata = _sidecar.decode(file.read())
                validated_at = os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        if metadata is None:
            return None
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
                    entry = self._read_sidecar(place)
                    if entry is not None:
                        metadata = entry.metadata
                        yield place, replace(entry, key=key_at(place, metadata.source, metadata.version_id))

    def _intact(self) -> Iterator[CacheEntry]:
        for place, entry in self._walk():
            if self._read(place, entry.key) is not None:
                yield entry

    # -- writing

    def _begin(self, key: CacheKey, metadata: FileMetadata, crc_algorithm: CrcAlgorithm) -> Partial:
        with cache_failures(str(self.cache_dir)):
            self._create_root()
            partial = begin(self._directory(_PARTIAL), key, metadata, crc_algorithm)
            # Better to say so before the download than at its end; what is written still may not fit.
            missing = metadata.size - sum(segment.stop - segment.start for segment in partial.segments)
            if shutil.disk_usage(self.cache_dir).free < missing:
                partial.release()
                text = f"{missing:,} bytes are needed for {redact_uri(key.uri)}"
                raise OSError(errno.ENOSPC, text, str(self.cache_dir))
            return partial

    def _claim(self, key: CacheKey) -> Claim | Busy:
        partials = os.path.join(self.cache_dir, *_PARTIAL.split("/"))
        try:
            self._create_root()
            self._directory(_LEASE)
            is_ours = lock_file(self._lock_path).acquire(key_hash(key.uri, key.version_id))
        except (OSError, UnsafePathError):
            is_ours = True  # whether the cache can be written is for those to say who write to it
        if is_ours:
            found = resumable(partials, key)
            if found is None:
                return Claim(key)
            start, stop = missing_range(found)
            return Claim(key, found.header.etag, start, stop)
        found = in_progress(partials, key)
        if found is None:
            owner, received_bytes = self._trees.in_progress(key) or ("another process", 0)
            return Busy(str(owner), received_bytes, None)
        return Busy(str(found.header.owner), found.received_bytes, found.header.size)

    def _unclaim(self, claim: Claim | Busy) -> None:
        if isinstance(claim, Claim):
            lock_file(self._lock_path).release(key_hash(claim.key.uri, claim.key.version_id))

    def _publish(self, verified: Verified) -> CacheEntry:
        with cache_failures(str(self.cache_dir)):
            refusal: OSError | None = None
            for place in candidates(verified.key):
                if self._is_taken(place, verified.key):
                    continue
                try:
                    return self._publish_at(place, verified)
                except OSError as error:
                    if error.errno not in _OCCUPIED | _UNHOLDABLE:
                        raise
                    refusal = error
            raise refusal or CacheError(f"{verified.key.cache_path} in {self.cache_dir} is taken by another object")

    def _is_taken(self, place: str, key: CacheKey) -> bool:
        """Whether another object's copy lies there: on a file system that ignores case, say."""
        if (
            key.cache_path is not None and key.name is None
        ):  # the user's choice, who may have given the place to another object before
            return False
        entry = self._read(place, None)
        return entry is not None and entry.metadata.source != key.uri

    def _publish_at(self, place: str, verified: Verified) -> CacheEntry:
        self._create_root()
        data_path, sidecar_path = self._data_path(place), self._sidecar_path(place)
        self._directory(os.path.dirname(place))
        self._directory(os.path.dirname(f"{_META}/{place}"))
        for target in (data_path, sidecar_path):
            if os.path.isdir(target):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
        with self._temporary(verified) as temporary:
            published = os.lstat(temporary)
            if published.st_size != verified.metadata.size:
                raise CacheError(f"{temporary} has {published.st_size} bytes instead of {verified.metadata.size}")
            metadata = CacheMetadata(
                source=verified.key.uri,
                etag=verified.metadata.etag,
                last_modified=verified.metadata.last_modified,
                size=published.st_size,
                cached_at=datetime.now(UTC),
                digest=verified.digest,
                verified_by=verified.verified_by,
                mtime_ns=published.st_mtime_ns,
                version_id=verified.metadata.version_id,
                pin=verified.pin,
            )
            with self._new_file() as sidecar:
                _disk.write_all(sidecar, [_sidecar.encode(metadata)])
                sidecar.close()
                _disk.replace(temporary, data_path)
                _disk.replace(str(sidecar.name), sidecar_path)
        return CacheEntry(verified.key, Path(data_path), metadata, time.time())

    @contextmanager
    def _temporary(self, verified: Verified) -> Iterator[str]:
        """Give the file to be renamed, whole and with its unique modification time."""
        content = verified.content
        if isinstance(content, tuple):
            with self._new_file() as file:
                _disk.write_all(file, content)
                file.close()
                _stamp(str(file.name))
                yield str(file.name)
        elif isinstance(content, StagedFile):
            with FileIO(content.path, "r+b") as file:
                _disk.flush(file)
            _stamp(content.path)
            yield content.path
        else:
            raise TypeError(f"a FileCache publishes what it staged itself, not {type(content).__name__}")

    @contextmanager
    def _new_file(self) -> Iterator[FileIO]:
        """Make a file of a new name, open for writing, which is to be renamed; it is removed if that fails."""
        # Names need only differ: one that is there already is refused, and drawing from the system's pool waits.
        name = f"{random.getrandbits(64):016x}.tmp"  # no secret
        with _disk.create(os.path.join(self._directory(_PARTIAL), name)) as file:
            try:
                yield file
            except BaseException:
                file.close()
                _disk.remove_file(str(file.name))
                raise

    def _touch(self, entry: CacheEntry) -> None:
        with suppress(OSError):
            _disk.touch(self._sidecar_path(entry.path.relative_to(self.cache_dir).as_posix()))

    def _remove(self, key: CacheKey) -> int:
        removed = 0
        with cache_failures(str(self.cache_dir)):
            for place in candidates(key):
                entry = self._read(place, key)
                if entry is None or not self._is_inside(place):
                    continue
                # The sidecar first: without it the data file is nobody's, which is what is wanted.
                for path in (self._sidecar_path(place), str(entry.path)):
                    with suppress(FileNotFoundError):  # somebody else has removed it meanwhile
                        _disk.unlink(path)
                removed += 1
            self._trees.remove(key)
        return removed

    # -- paths

    @property
    def _sidecar_root(self) -> str:
        return os.path.join(self.cache_dir, *_META.split("/"))

    def _data_path(self, place: str) -> str:
        return os.path.join(self.cache_dir, *place.split("/"))

    def _sidecar_path(self, place: str) -> str:
        return os.path.join(self._sidecar_root, *place.split("/")) + ".json"

    @property
    def _lock_path(self) -> str:
        return os.path.join(self.cache_dir, *_LEASE.split("/"), "claims")

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
        path = os.fspath(self.cache_dir)
        for segment in filter(None, place.split("/")):
            path = f"{path}{os.sep}{segment}"
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:
                with suppress(FileExistsError):  # made by somebody else just now
                    _disk.make_directory(path)
                mode = os.lstat(path).st_mode
            if _is_link(path, mode):
                raise UnsafePathError(f"{path} is a link: the cache doesn't write through links; remove it")
            if not stat.S_ISDIR(mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
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


def _is_of(metadata: CacheMetadata, key: CacheKey) -> bool:
    """Whether a sidecar is of the key's object; of which version doesn't matter where the newest is meant."""
    return metadata.source == key.uri and key.version_id in (None, metadata.version_id)


def _stamp(path: str) -> None:
    """Give a file its own modification time.

    The time is some moment of the last second, to the nanosecond, drawn by chance: the clock of a file system may tick
    only every few milliseconds, and two versions published within one tick must not look alike.
    """
    nanoseconds = random.randrange(10**9)  # noqa: S311  # no secret
    _disk.set_mtime(path, (time.time_ns() // 10**9 - 1) * 10**9 + nanoseconds)


def _leave(staged: StagedFile, *, is_useful: bool) -> None:
    """Keep what is worth going on with; remove what is published, wrong or empty."""
    if is_useful and staged.is_written and os.path.exists(staged.path):
        staged.partial.release()
    else:
        staged.partial.discard()


def _is_link(path: str, mode: int) -> bool:
    is_junction: Callable[[str], bool] | None = getattr(os.path, "isjunction", None)  # Windows, from Python 3.12 on
    return stat.S_ISLNK(mode) or (is_junction is not None and is_junction(path))
