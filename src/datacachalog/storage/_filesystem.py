"""How are files of a file system read and written as if they were objects? Their validator is size, time and inode.

That says whether a file was written or replaced without reading it. A file that is written while it is read is noticed
by asking again at the end.

A file is written under a name of its own beside its place, brought to the disk, and put in its place in one step. That
nothing is there, or what is expected, is looked at right before that. The first is one step with it, on file systems
that have links; between the second and the renaming another process may write.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import aiofiles
import anyio
import anyio.to_thread

from .._config import CatalogConfig
from .._errors import (
    AccessDeniedError,
    DatacachalogError,
    InvalidSourceError,
    ObjectNotFoundError,
    StorageUnreachableError,
    VersioningNotSupportedError,
)
from .._models import FileMetadata
from .._sources import local_path
from .._threads import to_its_end
from ..ports import (
    Content,
    ListedObject,
    ListPage,
    NotModified,
    RangeNotSatisfiable,
    ReadOutcome,
    ReadRequest,
    ReadResponse,
    Upload,
    UploadedPart,
    VersionChanged,
    VersionChangedError,
    WriteOutcome,
    WriteRefused,
    WriteRequest,
    Written,
)

_CHUNK_BYTES = 1024 * 1024
_UNFINISHED = ".datacachalog-push"  # what a file under construction is called by, and left out of listings
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_UNHOLDABLE = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EILSEQ})


@dataclass(frozen=True, slots=True)
class FilesystemStorage:
    """Files of this machine and of mounted file systems, as plain paths or `file://` URIs."""

    @asynccontextmanager
    async def connect(self, config: CatalogConfig) -> AsyncIterator[FilesystemSession]:  # noqa: ARG002  # the port's
        """Open a way to the files; there is nothing to open."""
        yield FilesystemSession()


class FilesystemSession:
    """An open way to the files of this machine."""

    async def head(self, uri: str, *, version_id: str | None = None) -> FileMetadata:
        """Ask what the file is.

        Raises:
            ObjectNotFoundError: no such file.
            AccessDeniedError: it may not be looked at.
            InvalidSourceError: a directory, or no regular file.
            VersioningNotSupportedError: a version was asked for.
        """
        path = _path_of(uri, version_id)
        with _failures(uri):
            return _metadata(uri, await anyio.to_thread.run_sync(os.stat, path))

    @asynccontextmanager
    async def read(self, request: ReadRequest) -> AsyncIterator[ReadOutcome]:
        """Read bytes of the file.

        Raises:
            ObjectNotFoundError: no such file.
            AccessDeniedError: it may not be read.
            InvalidSourceError: a directory, or no regular file.
            VersioningNotSupportedError: a version was asked for.
        """
        path = _path_of(request.uri, request.version_id)
        with _failures(request.uri):
            # Looked at before it is opened: opening a named pipe would wait for a writer.
            metadata = _metadata(request.uri, await anyio.to_thread.run_sync(os.stat, path))
        if request.if_match is not None and metadata.etag != request.if_match:
            yield VersionChanged()
        elif request.if_none_match is not None and metadata.etag == request.if_none_match:
            yield NotModified()
        elif (request.start or request.stop is not None) and request.start >= metadata.size:
            yield RangeNotSatisfiable()
        else:
            # Shielded: a thread that opens can't be stopped, and its file would be nobody's to close.
            with _failures(request.uri):
                file = await to_its_end(_opened(path), undo=lambda file: file.close())
            try:
                stop = metadata.size if request.stop is None else min(request.stop, metadata.size)
                chunks = _chunks(request.uri, file, metadata, request.start, stop)
                yield ReadResponse(metadata, request.start, stop, chunks)
            finally:
                await to_its_end(file.close())

    async def list_page(self, prefix: str, *, token: str | None = None) -> ListPage:  # noqa: ARG002  # one page is all
        """List the files whose path begins with `prefix`, in one page; symbolic links to directories aren't followed.

        Raises:
            AccessDeniedError: a directory may not be read.
        """
        path = _path_of(prefix, None)
        with _failures(prefix):
            return ListPage(tuple(await anyio.to_thread.run_sync(_walk, path)), None)

    async def write(self, request: WriteRequest, content: Content) -> WriteOutcome:
        """Write a file: beside its place, then into it.

        Raises:
            AccessDeniedError: it may not be written.
            InvalidSourceError: a directory, or no regular file.
        """
        upload = await self.begin_upload(request)
        try:
            await self.write_part(upload, 1, 0, content)
            return await self.complete_upload(upload, request, (), content.crc)
        finally:
            await to_its_end(self.abort_upload(upload))  # what is in its place isn't there any more

    async def begin_upload(self, request: WriteRequest) -> Upload:
        """Make the file that is to be renamed, and the directories on the way to it."""
        path = _path_of(request.uri, None)
        with _failures(request.uri):
            beside = await to_its_end(
                anyio.to_thread.run_sync(_make_beside, path), undo=lambda made: anyio.to_thread.run_sync(_remove, made)
            )
        return Upload(request.uri, beside)

    async def write_part(self, upload: Upload, number: int, start: int, content: Content) -> UploadedPart:
        """Write bytes of the file under construction."""
        with _failures(upload.uri):
            file = await to_its_end(_opened(upload.upload_id, "r+b"), undo=lambda file: file.close())
        try:
            with _failures(upload.uri):
                await file.seek(start)
            async for chunk in content.chunks():
                with _failures(upload.uri):
                    await to_its_end(file.write(chunk))
            with _failures(upload.uri):
                await to_its_end(file.flush())
        finally:
            await to_its_end(file.close())
        return UploadedPart(number, content.size, None, content.crc)

    async def complete_upload(
        self,
        upload: Upload,
        request: WriteRequest,
        parts: Sequence[UploadedPart],  # noqa: ARG002  # they are where they belong already
        crc: str,  # noqa: ARG002  # nobody would compare it
    ) -> WriteOutcome:
        """Put the file in its place."""
        path = _path_of(request.uri, None)
        with _failures(request.uri):
            return await to_its_end(anyio.to_thread.run_sync(_put_in_place, upload.upload_id, path, request))

    async def abort_upload(self, upload: Upload) -> None:
        """Remove the file under construction."""
        with _failures(upload.uri):
            await anyio.to_thread.run_sync(_remove, upload.upload_id)


async def _opened(path: str, mode: Literal["rb", "r+b"] = "rb") -> Any:
    if mode == "rb":
        return await aiofiles.open(path, mode, buffering=0)
    return await aiofiles.open(path, mode)  # buffered: an unbuffered file may write less than it is given


def _path_of(uri: str, version_id: str | None) -> str:
    if version_id is not None:
        raise VersioningNotSupportedError(uri, "a file system keeps no versions")
    return local_path(uri)


def _metadata(uri: str, found: os.stat_result) -> FileMetadata:
    if stat.S_ISDIR(found.st_mode):
        raise InvalidSourceError(uri, "it is a directory; end it with '/' to mean all files below it")
    if not stat.S_ISREG(found.st_mode):
        raise InvalidSourceError(uri, "it is not a regular file")
    return FileMetadata(
        etag=f"{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ino:x}",
        last_modified=datetime.fromtimestamp(found.st_mtime, UTC),
        size=found.st_size,
    )


async def _chunks(uri: str, file: Any, metadata: FileMetadata, start: int, stop: int) -> AsyncIterator[bytes]:
    with _failures(uri):
        await file.seek(start)
    while start < stop:
        with _failures(uri):
            chunk: bytes = await file.read(min(_CHUNK_BYTES, stop - start))
        if not chunk:
            break
        start += len(chunk)
        if start == stop and not await _is_unchanged(uri, file, metadata):
            break
        yield chunk
    if start != stop or not await _is_unchanged(uri, file, metadata):
        raise VersionChangedError(uri)


async def _is_unchanged(uri: str, file: Any, metadata: FileMetadata) -> bool:
    with _failures(uri):
        return _metadata(uri, await anyio.to_thread.run_sync(os.fstat, file.fileno())).etag == metadata.etag


def _walk(prefix: str) -> Iterator[ListedObject] | list[ListedObject]:
    top = prefix.rpartition("/")[0] or "/"
    found: list[ListedObject] = []
    for directory, subdirectories, names in os.walk(top, onerror=_raise_unless_gone):
        here = directory.replace("\\", "/") if os.name == "nt" else directory
        here = here.rstrip("/") + "/"
        # Only the way down to the prefix, and what is below it.
        subdirectories[:] = [d for d in subdirectories if _may_hold(f"{here}{d}/", prefix)]
        for name in names:
            path = here + name
            if path.startswith(prefix) and not name.endswith(_UNFINISHED):
                try:
                    status = os.stat(path)
                except FileNotFoundError:  # a dangling link, or gone since
                    continue
                if stat.S_ISREG(status.st_mode):
                    found.append(ListedObject(path, _metadata(path, status)))
    # The order of S3: by the key's UTF-8 bytes.
    return sorted(found, key=lambda item: os.fsencode(item.uri))


def _may_hold(directory: str, prefix: str) -> bool:
    return directory.startswith(prefix) or prefix.startswith(directory)


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _make_beside(path: str) -> str:
    """Make an empty file in the directory of a file, which a link to it leads to."""
    directory = os.path.dirname(os.path.realpath(path))
    os.makedirs(directory, exist_ok=True)
    beside = os.path.join(directory, f".{secrets.token_hex(8)}{_UNFINISHED}")
    os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    return beside


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _put_in_place(beside: str, path: str, request: WriteRequest) -> WriteOutcome:
    """Bring a file to the disk, and rename it if what is in its place is what is demanded."""
    real_path = os.path.realpath(path)
    with open(beside, "rb+", buffering=0) as file:
        os.fsync(file.fileno())
    try:
        found = os.stat(real_path)
    except FileNotFoundError:
        found = None
    etag = None if found is None else _metadata(request.uri, found).etag
    if (request.must_be_new and found is not None) or (request.if_match not in (None, etag)):
        return WriteRefused()
    if found is not None:
        os.chmod(beside, stat.S_IMODE(found.st_mode))
    written = _metadata(request.uri, os.stat(beside))  # neither a link nor a renaming changes what it is made of
    if request.must_be_new:
        try:
            os.link(beside, real_path)  # unlike a renaming, it doesn't replace what has come there meanwhile
            os.unlink(beside)
        except FileExistsError:
            return WriteRefused()
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            os.replace(beside, real_path)
    else:
        os.replace(beside, real_path)
    _flush_directory(os.path.dirname(real_path))
    return Written(written)


def _flush_directory(path: str) -> None:
    if os.name == "nt":  # its directories can't be opened
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # a file system that has no such thing
        pass
    finally:
        os.close(descriptor)


@contextmanager
def _failures(uri: str) -> Iterator[None]:
    """Map what the file system raises."""
    try:
        yield
    except DatacachalogError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ObjectNotFoundError(uri, "no such file", hint=f"looked for {error.filename}") from error
    except PermissionError as error:
        raise AccessDeniedError(uri, f"{error.strerror} at {error.filename}") from error
    except IsADirectoryError as error:
        raise InvalidSourceError(uri, "it is a directory; end it with '/' to mean all files below it") from error
    except (OSError, ValueError) as error:
        # A ValueError is a NUL or a character that the file system's encoding doesn't have.
        if isinstance(error, ValueError) or error.errno in _UNHOLDABLE:
            raise InvalidSourceError(uri, f"it can't be the path of a file: {error}") from error
        raise StorageUnreachableError(uri, str(error)) from error
