"""How do the members of an archive become files? In a directory that nobody reads, within limits.

Invariants:

- Every file is new and made here, below the directory given; its mode, owner, time and kind are not the archive's.
- Each gets a modification time that no other of the tree has, so that two that were swapped are seen.
- What an archive says of its size is checked against the limits before it is written, and what comes out while it is.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .._archives import TREES, UnpackFormat, name_inside
from .._digests import DEFAULT_CRC, crc_functions, format_crc
from .._errors import redact_uri
from ..ports import CacheEntry
from . import _disk, _manifest
from ._archive import ArchiveFile, Member, StoppedError, members
from ._layout import short_name
from ._manifest import Limits, Manifest, UnpackedFile
from ._members import Members

_LEFT_FREE_BYTES = 64 * 1024 * 1024  # a disk that is full to the last byte harms others
_CHECK_FREE_BYTES = 16 * 1024 * 1024
_FLUSH_BYTES = 1024 * 1024  # a smaller file is written in one go
_UNHOLDABLE = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ})


class Extraction:
    """Writes what is in one archive.

    Args:
        entry: the archive.
        archive_format: as what to read it.
        tree: an empty directory, for what is in it and the manifest of that.
        limits: how much it may be.
        advance: is told how many bytes were written.
        is_stopped: whether to stop.
    """

    def __init__(
        self,
        entry: CacheEntry,
        archive_format: UnpackFormat,
        tree: str,
        limits: Limits,
        advance: Callable[[int], object],
        is_stopped: Callable[[], bool],
    ) -> None:
        self._entry = entry
        self._uri = entry.key.uri
        self._archive_format = archive_format
        self._tree = tree
        self._limits = limits
        self._advance = advance
        self._is_stopped = is_stopped
        self._members = Members(self._uri)
        self._update = crc_functions(DEFAULT_CRC).update
        self._name = _own_name(self._uri, archive_format)
        self._directories: list[str] = []
        self._files: list[UnpackedFile] = []
        self._members_seen = 0
        self._written_bytes = 0
        self._unchecked_bytes = 0
        # Some moment before now, as of every file that is published, and another one for each file.
        self._mtime_ns = (time.time_ns() // 10**9 - 2) * 10**9 + random.randrange(10**9)  # noqa: S311  # no secret

    def run(self, file: ArchiveFile) -> Manifest:
        """Write it all, and say what that is.

        Raises:
            ArchiveError: the archive is damaged, encrypted or of another format, or larger than the limits.
            UnsafePathError: one of its members may not be written.
            ConfigurationError: the library for its format isn't installed.
            StoppedError: it was to stop.
            OSError: the disk is full, or something else about it.
        """
        if self._archive_format in TREES:
            self._make_directory(self._name)
        for member in members(file, self._archive_format, self._uri, self._limits):
            self._add(member)
        return self._finish()

    def _add(self, member: Member) -> None:
        self._members_seen += 1
        if self._members_seen > self._limits.max_files:  # directories may be listed again, and cost memory
            raise self._limits.too_many_files(self._uri)
        if member.kind is not None:
            raise self._members.refusal(member.name, f"it is {member.kind}")
        place = self._name
        if self._archive_format in TREES:
            inner, new_directories = self._members.place(member.name, is_directory=member.is_directory)
            for directory in new_directories:
                with self._name_failures(member.name):
                    self._make_directory(f"{self._name}/{directory}")
            place = f"{self._name}/{inner}"
        if not member.is_directory:
            self._write(place, member)

    def _finish(self) -> Manifest:
        archive = self._entry.metadata
        manifest = Manifest(
            source=self._uri,
            archive_digest=archive.digest,
            archive_size=archive.size,
            archive_format=self._archive_format,
            name=self._name,
            directories=tuple(self._directories),
            files=tuple(sorted(self._files, key=lambda file: file.place.encode(errors="surrogatepass"))),
        )
        with _disk.create(os.path.join(self._tree, _manifest.NAME)) as file:
            _disk.write_all(file, [_manifest.encode(manifest)])
        return manifest

    def _make_directory(self, place: str) -> None:
        self._check_count()
        _disk.make_directory(self._path(place))
        self._directories.append(place)

    def _write(self, place: str, member: Member) -> None:
        self._check_count()
        self._check_room(member.size or 0)
        path = self._path(place)
        size = crc = 0
        with self._name_failures(member.name):
            file = _disk.create(path)
        with file:
            for chunk in member.chunks:
                if self._is_stopped():
                    raise StoppedError
                self._check_room(len(chunk))
                _disk.write_all(file, [chunk])
                crc = self._update(chunk, crc)
                size += len(chunk)
                self._written_bytes += len(chunk)
                self._advance(len(chunk))
            if size > _FLUSH_BYTES:
                _disk.flush(file)
        self._mtime_ns += 1000  # what the coarsest of today's file systems can tell apart, NTFS, is 100
        _disk.set_mtime(path, self._mtime_ns)
        self._files.append(UnpackedFile(place, size, os.lstat(path).st_mtime_ns, format_crc(DEFAULT_CRC, crc)))

    @contextmanager
    def _name_failures(self, name: str) -> Iterator[None]:
        """Map what the file system raises where it can't hold a name; wrap nothing else in it."""
        try:
            yield
        except OSError as error:
            if error.errno not in _UNHOLDABLE:
                raise
            raise self._members.refusal(name, f"its name can't be held here: {error.strerror}") from error

    def _check_count(self) -> None:
        # The directory of the archive itself is none in it.
        if len(self._files) + len(self._directories) >= self._limits.max_files + (self._archive_format in TREES):
            raise self._limits.too_many_files(self._uri)

    def _check_room(self, more_bytes: int) -> None:
        """See that so many bytes more are within the limit, and find room on the disk."""
        if self._written_bytes + more_bytes > self._limits.max_bytes:
            raise self._limits.too_many_bytes(self._uri)
        self._unchecked_bytes += more_bytes
        if self._unchecked_bytes >= _CHECK_FREE_BYTES:
            self._unchecked_bytes = 0
            if shutil.disk_usage(self._tree).free < more_bytes + _LEFT_FREE_BYTES:
                text = f"unpacking {redact_uri(self._uri)} would leave fewer than {_LEFT_FREE_BYTES:,} bytes free"
                raise OSError(errno.ENOSPC, text, self._tree)

    def _path(self, place: str) -> str:
        return os.path.join(self._tree, *place.split("/"))


def _own_name(uri: str, archive_format: UnpackFormat) -> str:
    """Name what readers get so that it isn't taken for the manifest."""
    name = short_name(name_inside(uri, archive_format))
    return f"%2E{name[1:]}" if name.casefold() == _manifest.NAME else name
