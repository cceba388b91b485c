"""What is in an archive? Its members, one after the other, in chunks of at most a MiB.

An archive comes from outside, so nothing that it says is believed: what it declares costs no memory and no time before
it is read, a chunk is decompressed no further than it is asked for, and whatever the libraries raise about it means
that it is damaged. Read in a worker thread, which every read gives the occasion to stop.

Imported when something is unpacked; so the formats' libraries cost nothing before.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from typing import Any, Protocol, TypeVar

from .._archives import UnpackFormat
from .._errors import ArchiveError, ConfigurationError, DatacachalogError
from ._manifest import Limits

CHUNK_BYTES = 1024 * 1024

_READ_BYTES = 256 * 1024
_TAR_BUFFER_BYTES = 32 * 1024  # tarfile moves the whole of it for each header
_LZMA_MEMORY_BYTES = 256 * 1024 * 1024  # `xz -9` takes 65 MiB; the format allows 4 GiB
_TAR_NOTES_MAX_BYTES = 64 * 1024 * 1024  # of all long names and attributes in a tar, which are kept in memory
_TAR_STEP_MAX_BYTES = 2 * CHUNK_BYTES  # of a tar from one header or chunk of a member to the next one
_TAR_REST_MAX_BYTES = 64 * 1024 * 1024  # of padding behind a tar's end mark; usually it is some kilobytes
_DIRECTORY_MAX_BYTES = 64 * 1024 * 1024  # of a zip's list of members, which is read into memory
_ZIP_LISTED = b"PK\x01\x02"  # what each member begins with in the list
# Of these, zipfile decompresses all it has read, however much that becomes: at most a thousandfold of what is read.
_ZIP_STEP_BYTES = {zipfile.ZIP_STORED: CHUNK_BYTES, zipfile.ZIP_DEFLATED: CHUNK_BYTES}
_ZIP_SMALL_STEP_BYTES = 4096
_TAR_NOTES = frozenset(
    (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
)
_MAGIC: tuple[tuple[bytes, UnpackFormat], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)

_Item = TypeVar("_Item")


class StoppedError(Exception):
    """Somebody has asked the thread to stop."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an archive.

    Args:
        name: as the archive has it, unchecked; empty for the one file of an archive that holds one.
        is_directory: whether it is a directory.
        size: how many bytes the archive says that it has; None if it doesn't say.
        kind: what it is if it is neither a file nor a directory, for people to read.
        chunks: its bytes, to be read before the next member is asked for.
    """

    name: str
    is_directory: bool
    size: int | None
    kind: str | None
    chunks: Iterator[bytes]


class ArchiveFile(FileIO):
    """An archive that is open for reading, until it is told to stop.

    Args:
        path: the file.
        is_stopped: whether to stop.
    """

    def __init__(self, path: str, is_stopped: Callable[[], bool]) -> None:
        super().__init__(path)
        self._is_stopped = is_stopped

    def read(self, size: int | None = -1, /) -> bytes:
        """Read so many bytes.

        Raises:
            StoppedError: it was told to stop.
        """
        if self._is_stopped():
            raise StoppedError
        return super().read(size) or b""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place, which the archive may have named itself."""
        try:
            return super().seek(offset, whence)
        except OSError as error:
            raise OSError(f"it names a place that it doesn't have: {error.strerror}") from None  # no error of the disk


def members(file: ArchiveFile, archive_format: UnpackFormat, uri: str, limits: Limits) -> Iterator[Member]:
    """Give the members of an archive in its order.

    Raises:
        ArchiveError: it is damaged, encrypted, or of another format; or it lists more members than the limits allow.
        ConfigurationError: the library for its format isn't installed.
    """
    if archive_format == "zip":
        found = _zip_members(file, uri, limits)
    elif archive_format == "tar":
        found = _tar_members(file, uri)
    else:
        found = _single_member(file, archive_format)
    for member in _read(found, archive_format, uri):
        yield Member(
            member.name, member.is_directory, member.size, member.kind, _read(member.chunks, archive_format, uri)
        )


def _read(items: Iterator[_Item], archive_format: str, uri: str) -> Iterator[_Item]:
    """Give the items; whatever is raised by reading hostile bytes means that they are damaged."""
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except (DatacachalogError, StoppedError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the disk, and not of the bytes
                raise
            raise ArchiveError(uri, f"it is no whole {archive_format} archive: {_said(error)}") from error
        yield item


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _chunks(file: _Readable) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def _sized(chunks: Iterator[bytes], name: str, size: int) -> Iterator[bytes]:
    """Give the chunks of a member, and see that they are as many bytes as the archive says."""
    received = 0
    for chunk in chunks:
        received += len(chunk)
        yield chunk
    if received != size:
        raise EOFError(f"{name!r} has {received:,} bytes and should have {size:,}")


# -- compressed streams


def _single_member(file: ArchiveFile, archive_format: str) -> Iterator[Member]:
    chunks = _chunks(_decompressed(file, archive_format))
    yield Member(name="", is_directory=False, size=None, kind=None, chunks=chunks)


def _decompressed(file: ArchiveFile, archive_format: str) -> _Readable:
    if not file.read(1):
        raise EOFError("it is empty")
    file.seek(0)
    match archive_format:
        case "gzip":
            return gzip.GzipFile(fileobj=file, mode="rb")
        case "bz2":
            return _Decompressed(file, bz2.BZ2Decompressor)
        case "xz":
            return _Decompressed(file, _xz_decompressor, padding=b"\0")
        case "zstd":
            return _Decompressed(file, _zstd_decompressor())
        case _:
            return file


def _xz_decompressor() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY_BYTES)


def _zstd_decompressor() -> Callable[[], Any]:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError as error:
        raise ConfigurationError(
            "unpacking zstd needs Python 3.14 or the extra: pip install 'datacachalog[zstd]';"
            " what was downloaded stays in the cache"
        ) from error
    return zstd.ZstdDecompressor


class _Decompressed:
    """The bytes of a file of one compressed stream, or of several behind each other.

    Like the standard library's own, but it sets a bound to the memory that a stream may ask for, and a file that ends
    early or goes on with something else is an error.

    Args:
        file: the compressed file.
        make: makes what decompresses one stream.
        padding: what may stand behind a stream.
    """

    def __init__(self, file: _Readable, make: Callable[[], Any], padding: bytes = b"") -> None:
        self._file = file
        self._make = make
        self._padding = padding
        self._decompressor = make()

    def read(self, size: int, /) -> bytes:
        """Give at most so many bytes, at least one before the end."""
        while True:
            data = b""
            if self._decompressor.eof:
                data = self._next_stream()
                if not data:
                    return b""
                self._decompressor = self._make()
            elif self._decompressor.needs_input:
                data = self._file.read(_READ_BYTES)
                if not data:
                    raise EOFError("it ends in the middle of its data")
            chunk: bytes = self._decompressor.decompress(data, size)
            if chunk:
                return chunk

    def _next_stream(self) -> bytes:
        """Give the first bytes behind a stream and its padding; none at the end of the file."""
        data: bytes = self._decompressor.unused_data.lstrip(self._padding)
        while not data and (more := self._file.read(_READ_BYTES)):
            data = more.lstrip(self._padding)
        return data


# -- zip


class _ZipBytes:
    """The bytes of a zip, but for a list of members that is too long.

    zipfile reads the list in one piece, whose length the zip itself says, and makes something of each member before it
    can be asked how many there are.
    """

    def __init__(self, file: ArchiveFile, uri: str, limits: Limits) -> None:
        self._file = file
        self._uri = uri
        self._limits = limits
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1, /) -> bytes:
        """Read so many bytes; more than a chunk only if they list no more members than are allowed."""
        if size > _DIRECTORY_MAX_BYTES:
            raise self._limits.too_many_files(self._uri)
        data = self._file.read(size)
        if len(data) > CHUNK_BYTES and data.count(_ZIP_LISTED) > self._limits.max_files:
            raise self._limits.too_many_files(self._uri)
        return data


def _zip_members(file: ArchiveFile, uri: str, limits: Limits) -> Iterator[Member]:
    with zipfile.ZipFile(_ZipBytes(file, uri, limits)) as archive:
        for info in archive.infolist():
            if info.flag_bits & 0x1:
                raise ArchiveError(uri, f"its member {info.orig_filename!r} is encrypted")
            # Written on Unix, the upper half of the attributes is the file's mode; zero where there is none.
            mode = info.external_attr >> 16
            file_type = stat.S_IFMT(mode)
            kind = None if file_type in (0, stat.S_IFREG, stat.S_IFDIR) else _kind_of_mode(file_type)
            # Its own name for it, before zipfile cuts it at a NUL and turns its separators.
            chunks = _sized(_zip_chunks(archive, info), info.orig_filename, info.file_size)
            yield Member(info.orig_filename, info.is_dir(), info.file_size, kind, chunks)


def _kind_of_mode(file_type: int) -> str:
    return {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}.get(
        file_type, "a device"
    )


def _zip_chunks(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    step = _ZIP_STEP_BYTES.get(info.compress_type, _ZIP_SMALL_STEP_BYTES)
    with archive.open(info) as member:
        while chunk := member.read(step):
            yield chunk


# -- tar


class _TarBytes:
    """The bytes of a tar, as long as they bring it on: tarfile reads the map of a sparse file however long it is."""

    def __init__(self, file: _Readable) -> None:
        self.file = file
        self._left_bytes = _TAR_STEP_MAX_BYTES

    def go_on(self) -> None:
        """Allow another step: there is a header, or a chunk of a member."""
        self._left_bytes = _TAR_STEP_MAX_BYTES

    def read(self, size: int, /) -> bytes:
        """Give at most so many bytes."""
        self._left_bytes -= size
        if self._left_bytes < 0:
            raise EOFError("one of its headers is too long")
        return self.file.read(size)


def _tar_members(file: ArchiveFile, uri: str) -> Iterator[Member]:
    head = file.read(8)
    file.seek(0)
    compression = next((found for magic, found in _MAGIC if head.startswith(magic)), "none")
    stream = _TarBytes(_decompressed(file, compression))
    has_ended = False
    notes_bytes = 0

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Header:
            nonlocal has_ended, notes_bytes
            # tarfile takes a torn or missing header for the end; this is the true one (POSIX pax, "End of archive").
            has_ended = len(buf) == tarfile.BLOCKSIZE and not any(buf)
            header = super().frombuf(buf, encoding, errors)
            notes_bytes += header.size if header.type in _TAR_NOTES else 0
            if header.size < 0 or notes_bytes > _TAR_NOTES_MAX_BYTES:
                raise ArchiveError(uri, f"a header of it says that {header.size:,} bytes follow")
            stream.go_on()
            return header

    # As a stream, so that it is read once and forwards only, whatever the offsets in it say.
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_TAR_BUFFER_BYTES, tarinfo=Header) as archive:  # type: ignore[call-overload]
        for info in archive:
            chunks = _sized(_tar_chunks(archive, info, stream), info.name, info.size)
            yield Member(info.name, info.isdir(), info.size, _kind_of_tar(info), chunks)
    if not has_ended:
        raise EOFError("it ends without its end mark")
    rest = 0
    for chunk in _chunks(stream.file):  # what compressed it has its checksum at the very end
        rest += len(chunk)
        if rest > _TAR_REST_MAX_BYTES:
            raise EOFError(f"it goes on for more than {_TAR_REST_MAX_BYTES:,} bytes behind its end mark")


def _kind_of_tar(info: tarfile.TarInfo) -> str | None:
    if info.isreg() or info.isdir():
        return None
    if info.issym():
        return "a symbolic link"
    if info.islnk():
        return "a hard link"
    return "a pipe" if info.isfifo() else "a device" if info.isdev() else f"of an unknown type, {info.type!r}"


def _tar_chunks(archive: tarfile.TarFile, info: tarfile.TarInfo, stream: _TarBytes) -> Iterator[bytes]:
    member = archive.extractfile(info)
    if member is not None:
        for chunk in _chunks(member):
            stream.go_on()
            yield chunk
