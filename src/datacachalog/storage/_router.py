"""Which storage does a source belong to? The one of its scheme."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from .._config import CatalogConfig
from .._errors import ConfigurationError, InvalidSourceError, VersioningNotSupportedError, redact_uri
from .._models import FileMetadata
from .._sources import SCHEME
from ..ports import (
    Content,
    ListPage,
    ReadOutcome,
    ReadRequest,
    SeekableListing,
    StoragePort,
    StorageSession,
    ThreadedReads,
    ThreadedSession,
    Upload,
    UploadedPart,
    UploadPartsSession,
    VersionedSession,
    VersionPage,
    WritableSession,
    WriteOutcome,
    WriteRequest,
)
from ._azure import AzureStorage
from ._filesystem import FilesystemStorage
from ._gcs import GCSStorage
from ._http import HTTPStorage
from ._s3 import S3Storage


@dataclass(frozen=True, slots=True)
class RouterStorage:
    """A storage for each scheme.

    Args:
        storages: scheme → storage; `"file"` serves plain paths too. None means `s3`, `gs`, `az`, `abfss`, `https`,
            `http` and `file` with their defaults; where one needs an extra that isn't installed, its first request says
            which.

    Raises:
        ConfigurationError: no storage at all, or a scheme with `://`.
    """

    storages: Mapping[str, StoragePort]

    def __init__(self, storages: Mapping[str, StoragePort] | None = None) -> None:
        if storages is None:
            azure, web = AzureStorage(), HTTPStorage()
            storages = {
                "s3": S3Storage(),
                "gs": GCSStorage(),
                "az": azure,
                "abfss": azure,
                "https": web,
                "http": web,
                "file": FilesystemStorage(),
            }
        if not storages:
            raise ConfigurationError("a RouterStorage needs at least one storage")
        for scheme in storages:
            if not SCHEME.fullmatch(scheme):
                raise ConfigurationError(f"a scheme is written without '://': got {scheme!r}")
        object.__setattr__(self, "storages", {scheme.lower(): storage for scheme, storage in storages.items()})

    @asynccontextmanager
    async def connect(self, config: CatalogConfig) -> AsyncIterator[RouterSession]:
        """Open them all, which is cheap: each connects at its first request."""
        async with AsyncExitStack() as stack:
            sessions = {
                scheme: await stack.enter_async_context(storage.connect(config))
                for scheme, storage in self.storages.items()
            }
            yield RouterSession(sessions)


class RouterSession:
    """Open ways to several stores."""

    def __init__(self, sessions: Mapping[str, StorageSession]) -> None:
        self._sessions = sessions

    async def head(self, uri: str, *, version_id: str | None = None) -> FileMetadata:
        """Ask the storage of the scheme what the object is."""
        return await self._of(uri).head(uri, version_id=version_id)

    def read(self, request: ReadRequest) -> AbstractAsyncContextManager[ReadOutcome]:
        """Ask the storage of the scheme for bytes."""
        return self._of(request.uri).read(request)

    async def list_page(self, prefix: str, *, token: str | None = None) -> ListPage:
        """Ask the storage of the scheme for a listing."""
        return await self._of(prefix).list_page(prefix, token=token)

    async def threaded(self, uri: str) -> ThreadedReads | None:
        """Ask the storage of the scheme for what reads objects in worker threads."""
        session = self._of(uri)
        return await session.threaded(uri) if isinstance(session, ThreadedSession) else None

    def is_seekable(self, root: str) -> bool:
        """Whether the storage of the scheme can begin a listing behind any key."""
        session = self._sessions.get(_scheme_of(root))
        return session is not None and isinstance(session, SeekableListing) and session.is_seekable(root)

    async def list_after(self, prefix: str, start_after: str, limit: int) -> ListPage:
        """Ask the storage of the scheme for a listing that begins behind a key; only where `is_seekable`."""
        session = self._of(prefix)
        assert isinstance(session, SeekableListing)  # noqa: S101  # what `is_seekable` has said
        return await session.list_after(prefix, start_after, limit)

    async def part_bytes(self, uri: str, number: int, *, etag: str, version_id: str | None = None) -> int | None:
        """Ask the storage of the scheme how large a part was that the object was uploaded in; None: it can't tell."""
        session = self._of(uri)
        if not isinstance(session, UploadPartsSession):
            return None
        return await session.part_bytes(uri, number, etag=etag, version_id=version_id)

    async def version_page(self, prefix: str, *, after: str | None = None, token: str | None = None) -> VersionPage:
        """Ask the storage of the scheme for a listing of versions.

        Raises:
            VersioningNotSupportedError: it keeps none.
        """
        session = self._of(prefix)
        if not isinstance(session, VersionedSession):
            raise VersioningNotSupportedError(prefix, "the storage of this scheme keeps no versions")
        return await session.version_page(prefix, after=after, token=token)

    async def write(self, request: WriteRequest, content: Content) -> WriteOutcome:
        """Have the storage of the scheme write an object."""
        return await self._writer(request.uri).write(request, content)

    async def begin_upload(self, request: WriteRequest) -> Upload:
        """Have the storage of the scheme begin an upload in parts."""
        return await self._writer(request.uri).begin_upload(request)

    async def write_part(self, upload: Upload, number: int, start: int, content: Content) -> UploadedPart:
        """Have the storage of the scheme write a part."""
        return await self._writer(upload.uri).write_part(upload, number, start, content)

    async def complete_upload(
        self, upload: Upload, request: WriteRequest, parts: Sequence[UploadedPart], crc: str
    ) -> WriteOutcome:
        """Have the storage of the scheme complete an upload."""
        return await self._writer(upload.uri).complete_upload(upload, request, parts, crc)

    async def abort_upload(self, upload: Upload) -> None:
        """Have the storage of the scheme drop an upload."""
        await self._writer(upload.uri).abort_upload(upload)

    def _writer(self, uri: str) -> WritableSession:
        session = self._of(uri)
        if not isinstance(session, WritableSession):
            raise ConfigurationError(f"{redact_uri(uri)} can't be written: its storage can only be read")
        return session

    def _of(self, uri: str) -> StorageSession:
        scheme = _scheme_of(uri)
        session = self._sessions.get(scheme)
        if session is None:
            has = ", ".join(f"{name}://" for name in self._sessions)
            raise InvalidSourceError(
                uri,
                f"no storage for {scheme}:// here, only for {has};"
                f" pass storage=RouterStorage({{{scheme!r}: …}}) to add one",
            )
        return session


def _scheme_of(uri: str) -> str:
    scheme, separator, _ = uri.partition("://")
    return scheme.lower() if separator else "file"
