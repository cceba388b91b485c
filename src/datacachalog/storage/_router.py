"""Which storage does a source belong to? The one of its scheme, built in or brought by an installed package."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio.to_thread

from .._config import CatalogConfig
from .._errors import (
    ConfigurationError,
    InvalidSourceError,
    StorageError,
    VersioningNotSupportedError,
    redact_uri,
)
from .._hosted import Hosted
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
from ._installed import GROUP, load_installed
from ._s3 import S3Storage


@dataclass(frozen=True, slots=True)
class RouterStorage:
    """A storage for each scheme.

    A scheme that isn't built in and that `storages` doesn't have is looked for among the storages that installed
    packages bring (entry points of the group `datacachalog.storages`), when a source of it is first used.

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
            storages = _built_in()
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
            yield RouterSession(sessions, _InstalledSessions(config, stack))


def _built_in() -> dict[str, StoragePort]:
    """Give the storages that a catalog has by itself, by scheme; no installed package takes their place."""
    azure, web = AzureStorage(), HTTPStorage()
    return {
        "s3": S3Storage(),
        "gs": GCSStorage(),
        "az": azure,
        "abfss": azure,
        "https": web,
        "http": web,
        "file": FilesystemStorage(),
    }


class _InstalledSessions:
    """Sessions of the storages that installed packages bring: each is opened when a source of its scheme is first used.

    Args:
        config: how they are opened.
        stack: closes them.
    """

    def __init__(self, config: CatalogConfig, stack: AsyncExitStack) -> None:
        self._config = config
        self._stack = stack
        self._hosted: dict[str, Hosted[StorageSession | None]] = {}

    async def of(self, scheme: str) -> StorageSession | None:
        """Give the session for a scheme; None if no package brings a storage for it.

        Raises:
            ConfigurationError: it can't be loaded, or several packages bring one.
        """
        hosted = self._hosted.get(scheme)
        if hosted is None:
            hosted = self._hosted[scheme] = Hosted(self._open(scheme), name=f"datacachalog {scheme} session")
            self._stack.push_async_callback(hosted.aclose)
        return await hosted.opened()

    @asynccontextmanager
    async def _open(self, scheme: str) -> AsyncIterator[StorageSession | None]:
        storage = None if scheme in _built_in() else await anyio.to_thread.run_sync(load_installed, scheme)
        if storage is None:
            yield None
        else:
            async with storage.connect(self._config) as session:
                yield session


class RouterSession:
    """Open ways to several stores."""

    def __init__(self, sessions: Mapping[str, StorageSession], installed: _InstalledSessions) -> None:
        self._sessions = dict(sessions)
        self._installed = installed

    async def head(self, uri: str, *, version_id: str | None = None) -> FileMetadata:
        """Ask the storage of the scheme what the object is."""
        return await (await self._of(uri)).head(uri, version_id=version_id)

    def read(self, request: ReadRequest) -> AbstractAsyncContextManager[ReadOutcome]:
        """Ask the storage of the scheme for bytes."""
        session = self._sessions.get(_scheme_of(request.uri))
        return self._read(request) if session is None else session.read(request)

    @asynccontextmanager
    async def _read(self, request: ReadRequest) -> AsyncIterator[ReadOutcome]:
        async with (await self._of(request.uri)).read(request) as outcome:
            yield outcome

    async def list_page(self, prefix: str, *, token: str | None = None) -> ListPage:
        """Ask the storage of the scheme for a listing."""
        return await (await self._of(prefix)).list_page(prefix, token=token)

    async def threaded(self, uri: str) -> ThreadedReads | None:
        """Ask the storage of the scheme for what reads objects in worker threads."""
        session = await self._of(uri)
        return await session.threaded(uri) if isinstance(session, ThreadedSession) else None

    def is_seekable(self, root: str) -> bool:
        """Whether the storage of the scheme can begin a listing behind any key, as far as that is known yet."""
        session = self._sessions.get(_scheme_of(root))
        return session is None or (isinstance(session, SeekableListing) and session.is_seekable(root))

    async def list_after(self, prefix: str, start_after: str, limit: int) -> ListPage:
        """Ask the storage of the scheme for a listing that begins behind a key; only where `is_seekable`.

        Raises:
            StorageError: it turns out that it can't.
        """
        session = await self._of(prefix)
        root = prefix[: prefix.find("/", prefix.find("://") + 3) + 1]
        if not isinstance(session, SeekableListing) or not session.is_seekable(root):
            raise StorageError(prefix, "the storage of this scheme lists from the beginning only")
        return await session.list_after(prefix, start_after, limit)

    async def part_bytes(self, uri: str, number: int, *, etag: str, version_id: str | None = None) -> int | None:
        """Ask the storage of the scheme how large a part was that the object was uploaded in; None: it can't tell."""
        session = await self._of(uri)
        if not isinstance(session, UploadPartsSession):
            return None
        return await session.part_bytes(uri, number, etag=etag, version_id=version_id)

    async def version_page(self, prefix: str, *, after: str | None = None, token: str | None = None) -> VersionPage:
        """Ask the storage of the scheme for a listing of versions.

        Raises:
            VersioningNotSupportedError: it keeps none.
        """
        session = await self._of(prefix)
        if not isinstance(session, VersionedSession):
            raise VersioningNotSupportedError(prefix, "the storage of this scheme keeps no versions")
        return await session.version_page(prefix, after=after, token=token)

    async def write(self, request: WriteRequest, content: Content) -> WriteOutcome:
        """Have the storage of the scheme write an object."""
        return await (await self._writer(request.uri)).write(request, content)

    async def begin_upload(self, request: WriteRequest) -> Upload:
        """Have the storage of the scheme begin an upload in parts."""
        return await (await self._writer(request.uri)).begin_upload(request)

    async def write_part(self, upload: Upload, number: int, start: int, content: Content) -> UploadedPart:
        """Have the storage of the scheme write a part."""
        return await (await self._writer(upload.uri)).write_part(upload, number, start, content)

    async def complete_upload(
        self, upload: Upload, request: WriteRequest, parts: Sequence[UploadedPart], crc: str
    ) -> WriteOutcome:
        """Have the storage of the scheme complete an upload."""
        return await (await self._writer(upload.uri)).complete_upload(upload, request, parts, crc)

    async def abort_upload(self, upload: Upload) -> None:
        """Have the storage of the scheme drop an upload."""
        await (await self._writer(upload.uri)).abort_upload(upload)

    async def _writer(self, uri: str) -> WritableSession:
        session = await self._of(uri)
        if not isinstance(session, WritableSession):
            raise ConfigurationError(f"{redact_uri(uri)} can't be written: its storage can only be read")
        return session

    async def _of(self, uri: str) -> StorageSession:
        scheme = _scheme_of(uri)
        session = self._sessions.get(scheme)
        if session is None:
            session = await self._installed.of(scheme)
            if session is None:
                raise self._no_storage(uri, scheme)
            self._sessions[scheme] = session
        return session

    def _no_storage(self, uri: str, scheme: str) -> InvalidSourceError:
        has = ", ".join(f"{name}://" for name in self._sessions)
        return InvalidSourceError(
            uri,
            f"no storage for {scheme}:// here, only for {has}; pass storage=RouterStorage({{{scheme!r}: …}}) to"
            f" add one, or install a package that brings one (entry point {GROUP!r})",
        )


def _scheme_of(uri: str) -> str:
    scheme, separator, _ = uri.partition("://")
    return scheme.lower() if separator else "file"
