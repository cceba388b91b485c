"""How are files of a file system read as if they were objects? Their validator is size, modification time and inode.

That says whether a file was written or replaced without reading it. A file that is written while it is read is noticed
by asking again at the end.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

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
    ListedObject,
    ListPage,
    NotModified,
    RangeNotSatisfiable,
    ReadOutcome,
    ReadRequest,
    ReadResponse,
    VersionChanged,
    VersionChangedError,
)

_CHUNK_BYTES = 1024 * 1024
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


async def _opened(path: str) -> Any:
    return await aiofiles.open(path, "rb", buffering=0)


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
            if path.startswith(prefix):
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
