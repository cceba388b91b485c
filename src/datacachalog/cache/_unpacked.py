"""How does what is in an archive get beside it, so that a reader never sees half of it, or anything changed?

```
@unpacked/<hash of the archive's place>/<format>-<hash of its bytes>/<name>            a file, or a directory of files
                                                                    /.manifest.json   what was put there
.datacachalog/unpacking/<random>/                                                   under construction
```

Invariants, none of which depends on a lock:

- A tree is published by renaming its directory to a name that was free: it is there whole or not at all, and is never
  changed afterwards. Another version, or the same one unpacked again, gets another name.
- It counts only if what lies there is what the manifest says: nothing changed, missing or added, and no links.
- What a fetch has given stays for an hour, even if another version has come since, unless its archive is evicted.
- For eviction a tree has no use, claim or lease of its own: those of its archive's place count. It is removed after the
  archive, while that is still claimed: by then nobody can be given it.
- Nothing is written or removed through a symbolic link inside the cache directory.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path

import anyio
import anyio.lowlevel

from .._archives import UnpackFormat
from .._digests import DEFAULT_CRC, crc_functions, digest_chunks, digest_file
from .._models import CacheMetadata
from .._threads import forks_held_back
from ..ports import CacheEntry, CacheKey, Unpacked
from . import _disk, _manifest
from ._layout import STATE_DIRECTORY, UNPACKED, unpacked_home
from ._manifest import Limits, Manifest
from ._processes import Process, is_gone, this_process

_WORK = f"{STATE_DIRECTORY}/unpacking"
_OWNER = "owner"
_TREE = "tree"
_STEP_BYTES = 1024 * 1024
_KEPT_SECONDS = 3600.0
_USE_SECONDS = 60.0  # to what precision it is noted when a tree was last given to somebody
_SILENCE_SECONDS = 3600.0  # after that, an owner of whom nothing can be told has gone
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY})


@dataclass(frozen=True, slots=True)
class _Work:
    """A tree under construction, and how far it is; of one whose owner can't be read nothing is known but its path."""

    path: str
    uri: str = ""
    owner: Process | None = None
    received_bytes: int = 0

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody works on it any more."""
        gone = None if self.owner is None else is_gone(self.owner)
        return _silent_seconds(self.path) > _SILENCE_SECONDS if gone is None else gone


class UnpackedTrees:
    """What is unpacked in a cache directory. All of it blocks.

    Args:
        cache_dir: the directory.
        make_directory: makes a directory of the cache, through no link, and gives its path.
        note_change: is told how many bytes were added; below 0 if they were removed.
    """

    def __init__(
        self, cache_dir: Path, make_directory: Callable[[str], str], note_change: Callable[[int], None]
    ) -> None:
        self._cache_dir = os.fspath(cache_dir)
        self._make_directory = make_directory
        self._note_change = note_change

    # -- reading

    def find(self, entry: CacheEntry, archive_format: UnpackFormat) -> Unpacked | None:
        """Give what was unpacked of this very archive, if it is there as it was unpacked; note that it is in use."""
        wanted = _tree_name(entry.metadata, archive_format)
        trees = self._trees(entry)
        for tree in trees:
            if _version(os.path.basename(tree)) != wanted:
                continue
            manifest = _manifest.read(tree)
            if (
                manifest is not None
                and manifest.is_of(entry.key.uri, entry.metadata, archive_format)
                and _manifest.is_intact(tree, manifest)
            ):
                _note_use(tree)
                prefix = f"{archive_format}-"
                for other in trees:
                    if other != tree and os.path.basename(other).startswith(prefix) and _is_unused(other):
                        self._note_change(-_remove(other))
                return manifest.unpacked(tree)
        return None

    def all(self) -> list[Unpacked]:
        """Give whatever is unpacked, and has a manifest that can be read."""
        homes = (os.path.basename(path) for path in self._directories(UNPACKED))
        trees = (tree for home in homes for tree in self._directories(f"{UNPACKED}/{home}"))
        manifests = ((tree, _manifest.read(tree)) for tree in trees)
        return [manifest.unpacked(tree) for tree, manifest in manifests if manifest is not None]

    def changed_files(self, unpacked: Unpacked) -> list[Path]:
        """Give the files that don't have the digest that they were unpacked with, and those that were added.

        None of a tree in whose place another one is served already.

        Raises:
            OSError: one of them can't be read.
        """
        tree = str(unpacked.path.parent)
        manifest = _manifest.read(tree)
        if manifest is None or (not _manifest.is_intact(tree, manifest) and self._is_replaced(tree)):
            return []
        digests = {file.place: file.digest for file in manifest.files}
        changed = []
        for place, found in _manifest.contents(tree):
            path = os.path.join(tree, *place.split("/"))
            if stat.S_ISREG(found.st_mode) and digest_file(path, DEFAULT_CRC) == digests.get(place):
                continue
            if not stat.S_ISDIR(found.st_mode):
                changed.append(Path(path))
        return changed

    @staticmethod
    def _is_replaced(tree: str) -> bool:
        """Whether another tree of the same bytes is as it was unpacked."""
        home, name = os.path.split(tree)
        others = [os.path.join(home, other) for other in os.listdir(home) if _version(other) == _version(name)]
        manifests = [(other, _manifest.read(other)) for other in others]
        return any(found is not None and _manifest.is_intact(other, found) for other, found in manifests)

    def in_progress(self, key: CacheKey) -> tuple[Process, int] | None:
        """Tell who is unpacking an object's archive, and how many bytes that are so far."""
        works = [(work.owner, work.received_bytes) for work in self._works() if work.uri == key.uri and work.owner]
        return max((work for work in works if is_gone(work[0]) is not True), key=lambda work: work[1], default=None)

    # -- writing

    def unpack(
        self, entry: CacheEntry, archive_format: UnpackFormat, limits: Limits, is_stopped: Callable[[], bool]
    ) -> Unpacked | None:
        """Unpack an archive and publish what was in it; None if it isn't there as the entry says.

        Raises:
            ArchiveError: it is damaged, encrypted, of another format, or larger than the limits.
            UnsafePathError: one of its members may not be written, or a link in the cache leads elsewhere.
            ConfigurationError: the library for its format isn't installed.
            StoppedError: it was to stop.
            OSError: the disk is full, or something else about it.
        """
        with forks_held_back():
            from ._archive import ArchiveFile
            from ._extraction import Extraction

            crc_functions(DEFAULT_CRC)
        for work in self._works():
            if work.is_abandoned:
                _disk.remove_tree(work.path)
        try:
            file = ArchiveFile(str(entry.path), is_stopped)
        except FileNotFoundError:
            return None
        with file:
            if not _is_as_published(file, entry.metadata):
                return None
            with self._work(entry.key) as (tree, advance):
                manifest = Extraction(entry, archive_format, tree, limits, advance, is_stopped).run(file)
                if not _is_as_published(file, entry.metadata):
                    return None
                return self._publish(tree, manifest, entry, archive_format)

    def _publish(self, tree: str, manifest: Manifest, entry: CacheEntry, archive_format: UnpackFormat) -> Unpacked:
        home = self._make_directory(unpacked_home(self._place(entry)))
        target = os.path.join(home, _tree_name(entry.metadata, archive_format))
        try:
            _disk.rename_directory(tree, target)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            found = self.find(entry, archive_format)  # somebody else was faster
            if found is not None:
                return found
            target = f"{target}.{secrets.token_hex(4)}"  # what lies there was changed
            _disk.rename_directory(tree, target)
        unpacked = manifest.unpacked(target)
        self._note_change(unpacked.size)
        return unpacked

    @contextmanager
    def _work(self, key: CacheKey) -> Iterator[tuple[str, Callable[[int], None]]]:
        """Make an empty directory for a tree, and what notes how far it is; what is left of it is removed."""
        path = os.path.join(self._make_directory(_WORK), secrets.token_hex(8))
        noted_bytes = received_bytes = 0
        try:
            _disk.make_directory(path)
            with _disk.create(os.path.join(path, _OWNER)) as file:
                head = {"uri": key.uri, "owner": asdict(this_process())}
                _disk.write_all(file, [json.dumps(head).encode() + b"\n"])

                def advance(more_bytes: int) -> None:
                    nonlocal noted_bytes, received_bytes
                    received_bytes += more_bytes
                    if received_bytes - noted_bytes >= _STEP_BYTES:
                        _disk.write_all(file, [b"%d\n" % received_bytes])
                        noted_bytes = received_bytes

                tree = os.path.join(path, _TREE)
                _disk.make_directory(tree)
                yield tree, advance
        finally:
            _disk.remove_tree(path)

    # -- paths

    def _place(self, entry: CacheEntry) -> str:
        return os.path.relpath(entry.path, self._cache_dir).replace(os.sep, "/")

    def _trees(self, entry: CacheEntry) -> list[str]:
        return self._directories(unpacked_home(self._place(entry)))

    def _works(self) -> Iterator[_Work]:
        return map(_read_work, self._directories(_WORK))

    def _directories(self, place: str) -> list[str]:
        return _directories(self._cache_dir, place)


def tree_bytes(root: str, place: str) -> int:
    """How many bytes were unpacked of the archive at a place of a cache directory."""
    return sum(_size(tree) for tree in _directories(root, unpacked_home(place)))


def remove_trees(root: str, place: str, *, source: str | None = None) -> int:
    """Remove what was unpacked of the archive at a place of a cache directory; returns how many bytes that were.

    Args:
        root: the cache directory.
        place: the archive's.
        source: only what is of the archive of this URI; None for whatever there is.
    """
    freed = 0
    trees = _directories(root, unpacked_home(place))
    for tree in trees:
        manifest = None if source is None else _manifest.read(tree)
        if manifest is None or manifest.source == source:
            freed += _remove(tree)
    if trees:
        with suppress(OSError):  # another one is in it
            os.rmdir(os.path.dirname(trees[0]))
    return freed


def remove_ownerless(root: str, homes: Collection[str], is_stopped: Callable[[], bool]) -> int:
    """Remove what was unpacked of archives that are no longer there; returns how many bytes that were.

    What was given to somebody within the last hour stays: its archive may be on its way.

    Args:
        root: the cache directory.
        homes: the directories of the archives that are there, relative to the root and with `/`.
        is_stopped: asked after each tree; True ends it.
    """
    freed = 0
    for path in _directories(root, UNPACKED):
        home = f"{UNPACKED}/{os.path.basename(path)}"
        for tree in () if home in homes else _directories(root, home):
            if _is_unused(tree):
                freed += _remove(tree)
            if is_stopped():
                return freed
    return freed


def _remove(tree: str) -> int:
    size = _size(tree)
    _disk.remove_tree(tree)
    return size


def _size(tree: str) -> int:
    manifest = _manifest.read(tree)
    return 0 if manifest is None else sum(file.size for file in manifest.files)


def _directories(root: str, place: str) -> list[str]:
    """Give the paths of the directories in one of the cache, in order; none if a link is on the way to it."""
    path = root
    for segment in place.split("/"):
        path = os.path.join(path, segment)
        if not _disk.is_directory(path):
            return []
    try:
        inner = [os.path.join(path, name) for name in sorted(os.listdir(path))]
    except OSError:
        return []
    return [path for path in inner if _disk.is_directory(path)]


def has_decayed(entry: CacheEntry, is_stopped: Callable[[], bool]) -> bool:
    """Whether an archive isn't what came from the remote, whatever its size and time say. Reads all of it."""
    from ._archive import CHUNK_BYTES, ArchiveFile

    with ArchiveFile(str(entry.path), is_stopped) as file:
        chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
        return digest_chunks(entry.metadata.digest.partition(":")[0], chunks) != entry.metadata.digest


_limiter: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar("datacachalog unpacking")


def unpacking_limiter() -> anyio.CapacityLimiter:
    """Give the event loop's bound to how many archives are unpacked at once: it is the processor that they need."""
    try:
        return _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(os.cpu_count() or 1)
        _limiter.set(limiter)
        return limiter


def _tree_name(archive: CacheMetadata, archive_format: UnpackFormat) -> str:
    """Name a tree after the bytes that it comes from, whatever they are called remotely."""
    digest = hashlib.sha256(f"{archive.digest} {archive.size}".encode()).hexdigest()
    return f"{archive_format}-{digest[:16]}"


def _version(name: str) -> str:
    """Give the part of a tree's name that says of which bytes it is; one that was made again has a further part."""
    return name.partition(".")[0]


def _is_as_published(file: FileIO, archive: CacheMetadata) -> bool:
    found = os.fstat(file.fileno())
    return (found.st_size, found.st_mtime_ns) == (archive.size, archive.mtime_ns)


def _read_work(path: str) -> _Work:
    try:
        with open(os.path.join(path, _OWNER), "rb") as file:
            head, *counts = file.read().split(b"\n")
        values = json.loads(head)
        received_bytes = int(counts[-2]) if len(counts) > 1 else 0
        return _Work(path, values["uri"], Process(**values["owner"]), received_bytes)
    except (OSError, ValueError, TypeError, KeyError):
        return _Work(path)


def _silent_seconds(path: str) -> float:
    """How long nothing was done in a directory."""
    times = [0.0]
    for name in ("", _OWNER, _manifest.NAME):
        with suppress(OSError):
            times.append(os.lstat(os.path.join(path, name)).st_mtime)
    return time.time() - max(times)


def _note_use(tree: str) -> None:
    """Write down that it was given to somebody; where that can't be written, it is not."""
    path = os.path.join(tree, _manifest.NAME)
    with suppress(OSError):
        if time.time() - os.lstat(path).st_mtime > _USE_SECONDS:
            _disk.touch(path)


def _is_unused(tree: str) -> bool:
    return _silent_seconds(tree) > _KEPT_SECONDS + _USE_SECONDS
