"""What has an interrupted download left, and may somebody go on with it? A directory: the data, and a journal of it.

Invariants:

- One process writes a partial: the one whose token is in its name. Another takes it over by renaming it, which only one
  can do, and only after its owner has let go of it (`free`) or has ended. If that can't be told from here (another host
  or container), it must have been silent for a minute, and is copied: its owner may still be writing to the file. What
  another user has left is copied too.
- The journal says what was written, after it was written. It may say too much after a power cut, so what it says is
  read again and compared with its CRC before it is believed.
- A partial is named after the key and the ETag: bytes of two versions never meet.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from io import FileIO

from .._digests import CrcAlgorithm, crc_functions
from .._models import FileMetadata
from ..ports import CacheKey, Segment
from . import _disk
from ._claims import key_hash
from ._processes import Process, is_gone, this_process

DATA = "data"
JOURNAL = "journal"
FORMAT = 1
_FREE = "free-"
_SILENCE_SECONDS = 60.0
_BEGINNING_SECONDS = 60.0
_ABANDONED_SECONDS = 24 * 3600.0
_READ_BYTES = 1024 * 1024
_TICK_NS = 2_000_000_000  # the coarsest clock of a file system in use, FAT's

_mine: set[str] = set()
"""The tokens of the partials that this process is writing."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a journal: what the partial is a part of, and whose it is."""

    uri: str
    version_id: str | None
    etag: str | None
    size: int
    crc_algorithm: CrcAlgorithm
    owner: Process


@dataclass(frozen=True, slots=True)
class Found:
    """A partial as it lies there; what its journal says, not yet compared with the data."""

    path: str
    header: Header
    segments: tuple[Segment, ...]

    @property
    def received_bytes(self) -> int:
        """How many bytes the journal says are there."""
        return sum(segment.stop - segment.start for segment in self.segments)


class Partial:
    """A partial of this process's own."""

    def __init__(self, path: str, header: Header, segments: tuple[Segment, ...], journal: FileIO) -> None:
        self.path = path
        self.header = header
        self.segments = segments
        self._journal = journal

    @property
    def data_path(self) -> str:
        """The file under construction."""
        return os.path.join(self.path, DATA)

    def note(self, segment: Segment) -> None:
        """Write down that these bytes are there; one `write`, so that lines of several threads don't mix."""
        _disk.write_all(self._journal, [_line(segment)])

    def release(self) -> None:
        """Let go of it; a later attempt may take it over."""
        self._journal.close()
        directory, _, name = self.path.rpartition(os.sep)
        stem, _, token = name.rpartition(".")
        _mine.discard(token)
        try:
            _disk.rename_directory(self.path, os.path.join(directory, f"{stem}.{_FREE}{token}"))
        except OSError:  # gone with its directory, or the cache has become read-only: nothing to let go of
            return

    def discard(self) -> None:
        """Remove it."""
        self._journal.close()
        _mine.discard(self.path.rpartition(".")[2])
        _disk.remove_directory(self.path)


def begin(directory: str, key: CacheKey, metadata: FileMetadata, crc_algorithm: CrcAlgorithm) -> Partial:
    """Take over the furthest partial of that version that nobody owns, or begin one.

    Ownerless partials of other versions of the object are of no use any more, and removed.

    Raises:
        OSError: the directory can't be written.
    """
    header = Header(key.uri, key.version_id, metadata.etag, metadata.size, crc_algorithm, this_process())
    for found in sorted(_ownerless(directory, key), key=lambda found: -found.received_bytes):
        if not _is_same(found.header, header):
            if found.header.etag != header.etag:
                _disk.remove_directory(found.path)
            continue
        path = _take_over(found, _new_path(directory, header))
        if path is None:
            continue
        if not _has_data(path, header.size):
            _disk.remove_directory(path)
            continue
        # Its pieces have the CRCs that they have: better another one than the bytes again.
        taken = replace(header, crc_algorithm=found.header.crc_algorithm)
        return _opened(path, taken, tuple(_verified(path, found)))
    path = _new_path(directory, header)
    _disk.make_directory(path)
    _disk.create(os.path.join(path, DATA)).close()
    return _opened(path, header, ())


def resumable(directory: str, key: CacheKey) -> Found | None:
    """Give the furthest partial that could be taken over, if there is one with an ETag."""
    candidates = [found for found in _ownerless(directory, key) if found.header.etag is not None]
    return max(candidates, key=lambda found: found.received_bytes, default=None)


def in_progress(directory: str, key: CacheKey) -> Found | None:
    """Give the furthest partial of a key, whoever owns it."""
    return max(_partials(directory, key), key=lambda found: found.received_bytes, default=None)


def missing_range(found: Found) -> tuple[int, int]:
    """Give the first bytes that a partial lacks: start and stop."""
    position = 0
    for segment in found.segments:
        if segment.start > position:
            return position, segment.start
        position = max(position, segment.stop)
    return position, found.header.size


def _is_same(found: Header, wanted: Header) -> bool:
    """Whether it is a part of that version; never without an ETag to tell versions apart."""
    return found.etag is not None and (found.uri, found.version_id, found.etag, found.size) == (
        wanted.uri,
        wanted.version_id,
        wanted.etag,
        wanted.size,
    )


def _partials(directory: str, key: CacheKey) -> Iterator[Found]:
    prefix = key_hash(key.uri, key.version_id) + "."
    for name in _names(directory):
        path = os.path.join(directory, name)
        if name.startswith(prefix) and not os.path.islink(path):
            found = _read_journal(path)
            if found is not None and found.header.uri == key.uri:
                yield found


_listed: dict[str, tuple[int, tuple[str, ...]]] = {}


def _names(directory: str) -> Sequence[str]:
    """List a directory, if it has changed since it was last listed.

    A change within the same tick of the file system's clock would not be seen, so a listing of a directory that had
    just been changed isn't kept.
    """
    try:
        mtime_ns = os.stat(directory).st_mtime_ns
        known = _listed.get(directory)
        if known is not None and known[0] == mtime_ns:
            return known[1]
        now_ns = time.time_ns()
        names = tuple(os.listdir(directory))
    except OSError:
        return ()
    if now_ns - mtime_ns > _TICK_NS:
        _listed[directory] = mtime_ns, names
    return names


def _ownerless(directory: str, key: CacheKey) -> Iterator[Found]:
    return (found for found in _partials(directory, key) if not _is_owned(found))


def _is_owned(found: Found) -> bool:
    token = found.path.rpartition(".")[2]
    if token.startswith(_FREE):
        return False
    if found.header.owner == this_process():
        return token in _mine
    gone = is_gone(found.header.owner)
    if gone is not None:
        return not gone
    return _silent_seconds(found.path) < _SILENCE_SECONDS


def _silent_seconds(path: str) -> float:
    """How long nothing was written to the journal, by the file system's own clock: a new file's time is its now."""
    probe = os.path.join(os.path.dirname(path), secrets.token_hex(8) + ".tmp")
    try:
        _disk.create(probe).close()
        try:
            return os.stat(probe).st_mtime - os.stat(os.path.join(path, JOURNAL)).st_mtime
        finally:
            _disk.remove_file(probe)
    except OSError:
        return 0.0


def _take_over(found: Found, path: str) -> str | None:
    """Make a found partial ours; None if somebody else was faster."""
    is_let_go = os.path.basename(found.path).rpartition(".")[2].startswith(_FREE) or is_gone(found.header.owner) is True
    try:
        if is_let_go and _is_of_this_user(found.path):
            _disk.rename_directory(found.path, path)
            return path
        shutil.copytree(found.path, path, symlinks=True)
    except OSError:
        _disk.remove_directory(path)
        return None
    _disk.remove_directory(found.path)
    return path


def _is_of_this_user(path: str) -> bool:
    """Whether this user made the data; nobody else may set its time (utimensat(2)), which publishing does."""
    return not hasattr(os, "geteuid") or os.lstat(os.path.join(path, DATA)).st_uid == os.geteuid()


def _has_data(path: str, size: int) -> bool:
    """Whether the data is there, a file of its own, and no longer than it is to be.

    It is not there if the owner was killed between putting the file in its place and removing what belongs to it.
    """
    try:
        found = os.lstat(os.path.join(path, DATA))
        return stat.S_ISREG(found.st_mode) and found.st_size <= size
    except FileNotFoundError:
        return False


def _verified(path: str, found: Found) -> Iterator[Segment]:
    """Give the segments whose bytes have the CRC that the journal says."""
    update = crc_functions(found.header.crc_algorithm).update
    with FileIO(os.path.join(path, DATA), opener=_disk.open_in_place) as data:
        position = 0
        for segment in found.segments:
            if segment.start < position:  # overlaps: written by an attempt with other parts
                continue
            data.seek(segment.start)
            left, crc = segment.stop - segment.start, 0
            while left > 0 and (chunk := data.read(min(left, _READ_BYTES))):
                crc = update(chunk, crc)
                left -= len(chunk)
            if left == 0 and crc == segment.crc:
                yield segment
                position = segment.stop


def _opened(path: str, header: Header, segments: tuple[Segment, ...]) -> Partial:
    """Begin the journal anew, with what is verified."""
    token = path.rpartition(".")[2]
    _mine.add(token)
    temporary = os.path.join(path, JOURNAL + ".new")
    _disk.remove_file(temporary)
    journal = _disk.create(temporary)
    try:
        lines = json.dumps({"format": FORMAT, **asdict(header)}, ensure_ascii=False).encode("utf-8", "surrogatepass")
        _disk.write_all(journal, [lines + b"\n", *map(_line, segments)])
        _disk.replace(temporary, os.path.join(path, JOURNAL))
    except BaseException:  # a full disk: then it is nobody's, and a later attempt may take it over
        journal.close()
        _mine.discard(token)
        raise
    return Partial(path, header, segments, journal)


def _new_path(directory: str, header: Header) -> str:
    etag_hash = hashlib.sha256((header.etag or "").encode()).hexdigest()[:16]
    return os.path.join(directory, f"{key_hash(header.uri, header.version_id)}.{etag_hash}.{secrets.token_hex(8)}")


def _line(segment: Segment) -> bytes:
    return b"%d %d %d\n" % (segment.start, segment.stop, segment.crc)


def _read_journal(path: str) -> Found | None:
    """Read a journal; None if there is none, or it isn't one of this format. A torn last line is left out."""
    try:
        with open(os.path.join(path, JOURNAL), "rb") as file:
            head, *lines = file.read().split(b"\n")
        values = json.loads(head)
        if values.pop("format") != FORMAT:
            return None
        header = Header(**{**values, "owner": Process(**values["owner"])})
        latest: dict[int, Segment] = {}
        for line in lines[:-1]:
            start, stop, crc = map(int, line.split())
            latest[start] = Segment(start, stop, crc)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    ordered = sorted(latest.values(), key=lambda segment: segment.start)
    return Found(
        path, header, tuple(segment for segment in ordered if 0 <= segment.start < segment.stop <= header.size)
    )


def ownerless(directory: str) -> Iterator[str]:
    """Give the partials that nobody works at, whatever they are of: let go of, or of a process that has ended.

    One whose owner can't be asked, or that has no journal to name him, must have been left alone for long.
    """
    with suppress(OSError):
        for name in os.listdir(directory):
            path, token = os.path.join(directory, name), name.rpartition(".")[2]
            if token in _mine or not stat.S_ISDIR(os.lstat(path).st_mode):
                continue
            found = _read_journal(path)
            if token.startswith(_FREE):
                yield path
            elif found is None or (gone := is_gone(found.header.owner)) is None:
                if _idle_seconds(path) > (_BEGINNING_SECONDS if found is None else _ABANDONED_SECONDS):
                    yield path
            elif gone or found.header.owner == this_process():
                yield path


def _idle_seconds(path: str) -> float:
    paths = [path, *(os.path.join(path, name) for name in (DATA, JOURNAL) if os.path.lexists(os.path.join(path, name)))]
    return time.time() - max(os.lstat(each).st_mtime for each in paths)
