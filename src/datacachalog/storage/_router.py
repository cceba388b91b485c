"""Which storage does a source belong to? The one of its scheme."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from .._config import CatalogConfig
from .._errors import ConfigurationError, InvalidSourceError, VersioningNotSupportedError
from .._models import FileMetadata
from .._sources import SCHEME
from ..ports import ListPage, ReadOutcome, ReadRequest, StoragePort, StorageSession, VersionedSession, VersionPage
from ._filesystem import FilesystemStorage
from ._s3 import S3Storage

_LATER = {"gs": "gcs", "az": "azure", "abfss": "azure", "http": "HTTP", "https": "HTTP"}


@dataclass(frozen=True, slots=True)
class RouterStorage:
    """A storage for each scheme.

    Args:
        storages: scheme → storage; `"file"` serves plain paths too. None means `s3` and `file` with their defaults.

    Raises:
        ConfigurationError: no storage at all, or a scheme with `://`.
    """

    storages: Mapping[str, StoragePort]

    def __init__(self, storages: Mapping[str, StoragePort] | None = None) -> None:
        if storages is None:
            storages = {"s3": S3Storage(), "file": FilesystemStorage()}
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

    async def version_page(self, prefix: str, *, after: str | None = None, token: str | None = None) -> VersionPage:
        """Ask the storage of the scheme for a listing of versions.

        Raises:
            VersioningNotSupportedError: it keeps none.
        """
        session = self._of(prefix)
        if not isinstance(session, VersionedSession):
            raise VersioningNotSupportedError(prefix, "the storage of this scheme keeps no versions")
        return await session.version_page(prefix, after=after, token=token)

    def _of(self, uri: str) -> StorageSession:
        scheme, separator, _ = uri.partition("://")
        scheme = scheme.lower() if separator else "file"
        session = self._sessions.get(scheme)
        if session is None:
            has = ", ".join(f"{name}://" for name in self._sessions)
            later = f"; the extra {_LATER[scheme]!r} is not part of this version" if scheme in _LATER else ""
            raise InvalidSourceError(
                uri,
                f"no storage for {scheme}:// here, only for {has}{later};"
                f" pass storage=RouterStorage({{{scheme!r}: …}}) to add one",
            )
        return session
