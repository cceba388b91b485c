"""A storage in memory, for tests of code that uses a catalog: no network, no files, every request on record."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from anyio.lowlevel import checkpoint

from .._config import CatalogConfig
from .._digests import digest_chunks
from .._errors import ObjectNotFoundError, VersioningNotSupportedError, VersionNotFoundError
from .._models import NULL_VERSION, FileMetadata, ObjectVersion
from ..ports import (
    Content,
    ListedObject,
    ListedVersion,
    ListPage,
    NotModified,
    RangeNotSatisfiable,
    ReadOutcome,
    ReadRequest,
    ReadResponse,
    Upload,
    UploadedPart,
    VersionChanged,
    VersionPage,
    WriteOutcome,
    WriteRefused,
    WriteRequest,
    Written,
)


@dataclass(frozen=True, slots=True)
class StorageRequest:
    """One request that a `MemoryStorage` was sent.

    Args:
        method: `"GET"` is a read, `"PUT"` a write in one piece; `"BEGIN"`, `"PART"`, `"COMPLETE"` and `"ABORT"` belong
            to an upload in parts.
        uri: the object; the prefix of a listing.
        start: first byte asked for, inclusive; 0 for what is no read.
        stop: exclusive; None means to the end.
        if_match: the validator of `ReadRequest.if_match`.
        if_none_match: the validator of `ReadRequest.if_none_match`.
        version_id: the version asked for.
        token: where a listing goes on.
        start_after: behind which URI a listing begins.
        after: behind which URI a listing of versions begins.
    """

    method: Literal["GET", "HEAD", "LIST", "PUT", "BEGIN", "PART", "COMPLETE", "ABORT"]
    uri: str
    start: int = 0
    stop: int | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    version_id: str | None = None
    token: str | None = None
    start_after: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class _Version:
    """What an object was from some moment on; a `metadata` of None marks a deletion."""

    data: bytes
    metadata: FileMetadata | None
    version_id: str
    last_modified: datetime

    def listed(self, *, is_latest: bool) -> ObjectVersion:
        if self.metadata is None:
            return ObjectVersion(self.version_id, self.last_modified, None, 0, is_latest, is_delete_marker=True)
        etag, size = self.metadata.etag, self.metadata.size
        return ObjectVersion(self.version_id, self.last_modified, etag, size, is_latest, is_delete_marker=False)


def _version_of(
    data: bytes,
    *,
    is_versioned: bool,
    last_modified: datetime | None = None,
    has_etag: bool = True,
    has_checksum: bool = True,
) -> _Version:
    written_at = last_modified or datetime.now(UTC)
    metadata = FileMetadata(
        etag=hashlib.md5(data, usedforsecurity=False).hexdigest() if has_etag else None,
        last_modified=written_at,
        size=len(data),
        version_id=uuid.uuid4().hex if is_versioned else None,
        checksum=digest_chunks("crc64nvme", (data,)) if has_checksum else None,
    )
    return _Version(data, metadata, metadata.version_id or NULL_VERSION, written_at)


class _Objects:
    """The content of a `MemoryStorage`, and the record of its requests: what the storage and its sessions share."""

    def __init__(self, *, is_versioned: bool, page_size: int) -> None:
        self.is_versioned = is_versioned
        self._page_size = page_size
        # Re-entrant and held for dictionary operations only, so that it can be taken on an event loop.
        self._lock = threading.RLock()
        self._versions: dict[str, list[_Version]] = {}
        self._requests: list[StorageRequest] = []
        self._uploads: dict[str, dict[int, bytes]] = {}

    def append(self, uri: str, version: _Version) -> None:
        with self._lock:
            kept = self._versions.get(uri, []) if self.is_versioned else []
            self._versions[uri] = [*kept, version]

    def write(self, request: WriteRequest, data: bytes) -> WriteOutcome:
        with self._lock:
            try:
                found = self.find(request.uri, None)[1]
            except ObjectNotFoundError:
                found = None
            etag = None if found is None else found.etag
            if (request.must_be_new and found is not None) or request.if_match not in (None, etag):
                return WriteRefused()
            version = _version_of(data, is_versioned=self.is_versioned)
            self.append(request.uri, version)
        assert version.metadata is not None  # noqa: S101  # it is no deletion
        return Written(version.metadata)

    def begin_upload(self) -> str:
        with self._lock:
            upload_id = uuid.uuid4().hex
            self._uploads[upload_id] = {}
            return upload_id

    def parts_of(self, upload: Upload) -> dict[int, bytes]:
        with self._lock:
            if upload.upload_id not in self._uploads:
                raise ObjectNotFoundError(upload.uri, "no such upload")
            return self._uploads[upload.upload_id]

    def end_upload(self, upload: Upload) -> None:
        with self._lock:
            self._uploads.pop(upload.upload_id, None)

    def open_uploads(self) -> int:
        with self._lock:
            return len(self._uploads)

    def delete(self, uri: str, last_modified: datetime) -> None:
        with self._lock:
            if self.is_versioned and uri in self._versions:
                self.append(uri, _Version(b"", None, uuid.uuid4().hex, last_modified))
            else:
                self._versions.pop(uri, None)

    def record(self, request: StorageRequest) -> None:
        with self._lock:
            self._requests.append(request)

    def requests(self) -> list[StorageRequest]:
        with self._lock:
            return list(self._requests)

    def clear_requests(self) -> None:
        with self._lock:
            self._requests.clear()

    def find(self, uri: str, version_id: str | None) -> tuple[bytes, FileMetadata]:
        if version_id is not None and not self.is_versioned:
            raise VersioningNotSupportedError(uri, "this MemoryStorage keeps no versions", hint="set is_versioned=True")
        with self._lock:
            versions = list(self._versions.get(uri, ()))
        if version_id is not None:
            for version in versions:
                if version.metadata is not None and version.metadata.version_id == version_id:
                    return version.data, version.metadata
            raise VersionNotFoundError(uri, f"no version {version_id}")
        if not versions or versions[-1].metadata is None:
            raise ObjectNotFoundError(uri, "no such object", hint="write it with MemoryStorage.put()")
        return versions[-1].data, versions[-1].metadata

    def page(self, prefix: str, after: str | None, limit: int | None) -> ListPage:
        with self._lock:
            newest = {uri: versions[-1].metadata for uri, versions in self._versions.items()}
        # Listings give neither versions nor checksums, as S3's don't.
        found = [
            ListedObject(uri, replace(metadata, version_id=None, checksum=None))
            for uri, metadata in sorted(newest.items())
            if metadata is not None and uri.startswith(prefix) and (after is None or uri > after)
        ]
        page = tuple(found[: self._page_size if limit is None else min(limit, self._page_size)])
        return ListPage(page, page[-1].uri if len(found) > len(page) else None)

    def version_page(self, prefix: str, after: str | None, token: str | None) -> VersionPage:
        if not self.is_versioned:
            raise VersioningNotSupportedError(
                prefix, "this MemoryStorage keeps no versions", hint="set is_versioned=True"
            )
        with self._lock:
            kept = sorted((uri, versions) for uri, versions in self._versions.items() if uri.startswith(prefix))
        found = [
            ListedVersion(uri, version.listed(is_latest=version is versions[-1]))
            for uri, versions in kept
            for version in reversed(versions)
        ]
        first = sum(listed.uri <= (after or "") for listed in found) if token is None else int(token)
        stop = first + self._page_size
        return VersionPage(tuple(found[first:stop]), str(stop) if stop < len(found) else None)


class MemoryStorage:
    """A `StoragePort` whose objects are in memory, under any scheme: `mem://bucket/key`, `s3://bucket/key`.

    Safe to use from several threads and event loops at once. It is a fake with content, not a setting: unlike the
    storages for production it can't be pickled, and a forked child gets a copy that goes its own way.

    Args:
        is_versioned: keep every version, as a bucket with versioning does; else a version can't be asked for.
        page_size: how many objects a page of a listing has at most.
        chunk_bytes: how many bytes a chunk of a body has at most.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, *, is_versioned: bool = False, page_size: int = 1000, chunk_bytes: int = 64 * 1024) -> None:
        if page_size < 1 or chunk_bytes < 1:
            raise ValueError(f"page_size and chunk_bytes are at least 1: got {page_size!r} and {chunk_bytes!r}")
        self._objects = _Objects(is_versioned=is_versioned, page_size=page_size)
        self._chunk_bytes = chunk_bytes

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a MemoryStorage can't be pickled: its objects are in the memory of this process")

    # -- what a test does

    def put(
        self,
        uri: str,
        data: bytes,
        *,
        last_modified: datetime | None = None,
        has_etag: bool = True,
        has_checksum: bool = True,
    ) -> FileMetadata:
        """Write an object.

        Args:
            uri: any URI.
            data: its content.
            last_modified: aware; None means now.
            has_etag: False makes an object without a validator of its own, as some stores do; else it is the MD5.
            has_checksum: False makes an object whose digest the remote doesn't know; else it is the CRC64NVME.
        """
        version = _version_of(
            bytes(data),
            is_versioned=self._objects.is_versioned,
            last_modified=last_modified,
            has_etag=has_etag,
            has_checksum=has_checksum,
        )
        self._objects.append(uri, version)
        assert version.metadata is not None  # noqa: S101  # it is no deletion
        return version.metadata

    def delete(self, uri: str, *, last_modified: datetime | None = None) -> None:
        """Delete an object; in a versioned storage its versions stay. One that isn't there is no error.

        Args:
            uri: the object.
            last_modified: when the delete marker says that this was, aware; None means now.
        """
        self._objects.delete(uri, last_modified or datetime.now(UTC))

    @property
    def open_uploads(self) -> int:
        """How many uploads in parts were neither completed nor aborted."""
        return self._objects.open_uploads()

    @property
    def requests(self) -> list[StorageRequest]:
        """Every request so far, in the order of arrival."""
        return self._objects.requests()

    def clear_requests(self) -> None:
        """Forget the requests so far."""
        self._objects.clear_requests()

    # -- the port

    @asynccontextmanager
    async def connect(self, config: CatalogConfig) -> AsyncIterator[MemorySession]:  # noqa: ARG002  # the port's
        """Open a way to the objects."""
        yield MemorySession(self._objects, self._chunk_bytes)


class MemorySession:
    """An open way to the objects of a `MemoryStorage`."""

    def __init__(self, objects: _Objects, chunk_bytes: int) -> None:
        self._objects = objects
        self._chunk_bytes = chunk_bytes

    async def head(self, uri: str, *, version_id: str | None = None) -> FileMetadata:
        """Ask what the object is.

        Raises:
            ObjectNotFoundError: no such object.
            VersionNotFoundError: no such version.
            VersioningNotSupportedError: a version of a storage that keeps none.
        """
        self._objects.record(StorageRequest("HEAD", uri, version_id=version_id))
        await checkpoint()
        return self._objects.find(uri, version_id)[1]

    @asynccontextmanager
    async def read(self, request: ReadRequest) -> AsyncIterator[ReadOutcome]:
        """Read bytes; those of the version that is there now, even if the object is replaced meanwhile.

        Raises:
            ObjectNotFoundError: no such object.
            VersionNotFoundError: no such version.
            VersioningNotSupportedError: a version of a storage that keeps none.
        """
        self._objects.record(
            StorageRequest(
                "GET",
                request.uri,
                request.start,
                request.stop,
                request.if_match,
                request.if_none_match,
                request.version_id,
            )
        )
        await checkpoint()
        data, metadata = self._objects.find(request.uri, request.version_id)
        is_ranged = request.start > 0 or request.stop is not None
        if request.if_match is not None and request.if_match != metadata.etag:
            yield VersionChanged()
        elif request.if_none_match is not None and request.if_none_match == metadata.etag:
            yield NotModified()
        elif is_ranged and request.start >= metadata.size:
            yield RangeNotSatisfiable()
        else:
            stop = metadata.size if request.stop is None else min(request.stop, metadata.size)
            yield ReadResponse(metadata, request.start, stop, self._chunks(data, request.start, stop))

    async def list_page(self, prefix: str, *, token: str | None = None) -> ListPage:
        """List objects by the beginning of their URI."""
        self._objects.record(StorageRequest("LIST", prefix, token=token))
        await checkpoint()
        return self._objects.page(prefix, token, None)

    def is_seekable(self, root: str) -> bool:  # noqa: ARG002  # the port's
        """Say that every listing can begin behind any key."""
        return True

    async def list_after(self, prefix: str, start_after: str, limit: int) -> ListPage:
        """List objects by the beginning of their URI, from behind a URI on."""
        self._objects.record(StorageRequest("LIST", prefix, start_after=start_after))
        await checkpoint()
        return self._objects.page(prefix, start_after, limit)

    async def version_page(self, prefix: str, *, after: str | None = None, token: str | None = None) -> VersionPage:
        """List versions by the beginning of their objects' URI.

        Raises:
            VersioningNotSupportedError: the storage keeps none.
        """
        self._objects.record(StorageRequest("LIST", prefix, token=token, after=after))
        await checkpoint()
        return self._objects.version_page(prefix, after, token)

    async def write(self, request: WriteRequest, content: Content) -> WriteOutcome:
        """Write an object in one piece."""
        self._record("PUT", request)
        data = b"".join([bytes(chunk) async for chunk in content.chunks()])
        await checkpoint()
        return self._objects.write(request, data)

    async def begin_upload(self, request: WriteRequest) -> Upload:
        """Begin an upload in parts."""
        self._objects.record(StorageRequest("BEGIN", request.uri))
        await checkpoint()
        return Upload(request.uri, self._objects.begin_upload())

    async def write_part(self, upload: Upload, number: int, start: int, content: Content) -> UploadedPart:
        """Keep a part.

        Raises:
            ObjectNotFoundError: the upload is gone.
        """
        self._objects.record(StorageRequest("PART", upload.uri, start, start + content.size))
        data = b"".join([bytes(chunk) async for chunk in content.chunks()])
        await checkpoint()
        self._objects.parts_of(upload)[number] = data
        return UploadedPart(number, len(data), hashlib.md5(data, usedforsecurity=False).hexdigest(), content.crc)

    async def complete_upload(
        self,
        upload: Upload,
        request: WriteRequest,
        parts: Sequence[UploadedPart],
        crc: str,  # noqa: ARG002  # the port's
    ) -> WriteOutcome:
        """Make the object of its parts.

        Raises:
            ObjectNotFoundError: the upload is gone.
        """
        self._record("COMPLETE", request)
        await checkpoint()
        kept = self._objects.parts_of(upload)
        outcome = self._objects.write(request, b"".join(kept[part.number] for part in parts))
        if isinstance(outcome, Written):
            self._objects.end_upload(upload)
        return outcome

    async def abort_upload(self, upload: Upload) -> None:
        """Drop the parts."""
        self._objects.record(StorageRequest("ABORT", upload.uri))
        await checkpoint()
        self._objects.end_upload(upload)

    def _record(self, method: Literal["PUT", "COMPLETE"], request: WriteRequest) -> None:
        if_none_match = "*" if request.must_be_new else None
        self._objects.record(
            StorageRequest(method, request.uri, if_match=request.if_match, if_none_match=if_none_match)
        )

    async def _chunks(self, data: bytes, start: int, stop: int) -> AsyncIterator[bytes]:
        for position in range(start, stop, self._chunk_bytes):
            await checkpoint()
            yield data[position : min(position + self._chunk_bytes, stop)]
