"""What was unpacked where, and is it still that? JSON beside the files, and a walk through them that opens none.

A manifest that can't be read, or is of another format, means: nothing was unpacked. It never means an error.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from .._archives import UnpackFormat
from .._errors import ArchiveTooLargeError
from .._models import CacheMetadata
from ..ports import Unpacked
from . import _disk

NAME = ".manifest.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may come out of an archive: bytes; and files and directories together."""

    max_bytes: int
    max_files: int

    def too_many_bytes(self, uri: str) -> ArchiveTooLargeError:
        """Say that an archive would be too large."""
        hint = "if that is right, raise CatalogConfig(unpack_max_bytes=…)"
        return ArchiveTooLargeError(uri, f"it would be more than {self.max_bytes:,} bytes", hint=hint)

    def too_many_files(self, uri: str) -> ArchiveTooLargeError:
        """Say that there is too much in an archive."""
        hint = "if that is right, raise CatalogConfig(unpack_max_files=…)"
        return ArchiveTooLargeError(uri, f"it has more than {self.max_files:,} files and directories", hint=hint)


@dataclass(frozen=True, slots=True)
class UnpackedFile:
    """A file as it was put there.

    Args:
        place: where it is, relative to the tree and with `/`.
        size: bytes.
        mtime_ns: its modification time, which no other file of the tree has.
        digest: of its bytes.
    """

    place: str
    size: int
    mtime_ns: int
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a tree is of, and what it holds.

    Args:
        source: the archive's URI.
        archive_digest: the digest of its bytes.
        archive_size: how many that are.
        archive_format: as what it was unpacked.
        name: the file or directory that readers get.
        directories: the places of all directories.
        files: the files, sorted by their places.
    """

    source: str
    archive_digest: str
    archive_size: int
    archive_format: str
    name: str
    directories: tuple[str, ...]
    files: tuple[UnpackedFile, ...]

    def is_of(self, source: str, archive: CacheMetadata, archive_format: UnpackFormat) -> bool:
        """Whether it is of this archive, unpacked as that."""
        return (self.source, self.archive_digest, self.archive_size, self.archive_format) == (
            source,
            archive.digest,
            archive.size,
            archive_format,
        )

    def unpacked(self, tree: str) -> Unpacked:
        """Give what a reader gets of it."""
        paths = tuple(Path(tree, *file.place.split("/")) for file in self.files)
        return Unpacked(self.source, Path(tree, self.name), paths, sum(file.size for file in self.files))


def encode(manifest: Manifest) -> bytes:
    """Write a manifest."""
    return json.dumps({"format": FORMAT, **asdict(manifest)}).encode()  # in ASCII: a name may be no text


def read(tree: str) -> Manifest | None:
    """Read the manifest of a tree; None if there is none of this format."""
    try:
        with open(os.path.join(tree, NAME), "rb", buffering=0) as file:
            values = json.loads(file.read())
        if values.pop("format") != FORMAT:
            return None
        files = tuple(UnpackedFile(**values_of_file) for values_of_file in values.pop("files"))
        return Manifest(**{**values, "directories": tuple(values["directories"]), "files": files})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def is_intact(tree: str, manifest: Manifest) -> bool:
    """Whether there is what the manifest says, and nothing else."""
    files = {file.place: (file.size, file.mtime_ns) for file in manifest.files}
    directories = set(manifest.directories)
    try:
        for place, found in contents(tree):
            if stat.S_ISDIR(found.st_mode):
                if place not in directories:
                    return False
                directories.remove(place)
            elif not stat.S_ISREG(found.st_mode) or files.pop(place, None) != (found.st_size, found.st_mtime_ns):
                return False
    except OSError:
        return False
    return not files and not directories


def contents(tree: str) -> Iterator[tuple[str, os.stat_result]]:
    """Give all places in a tree but the manifest's, and what is there; no link is followed.

    Raises:
        OSError: a directory can't be read.
    """
    waiting = [""]
    while waiting:
        directory = waiting.pop()
        for name in os.listdir(os.path.join(tree, *directory.split("/"))):
            place = f"{directory}/{name}" if directory else name
            if place == NAME:
                continue
            path = os.path.join(tree, *place.split("/"))
            yield place, os.lstat(path)
            if _disk.is_directory(path):
                waiting.append(place)
