"""In which order do the stages run for one operation that pushes?

resolve → snapshot → upload → verify → publish, for each file; one that fails stops no other. The local file is copied
into the cache's own directory first, and what is sent are the bytes of the copy: so what is published with the ETag
that the upload got are the very bytes that were sent, whatever becomes of the local file meanwhile.
"""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import anyio
import anyio.to_thread

from ._digests import DEFAULT_CRC, digest_chunks
from ._errors import (
    AccessDeniedError,
    CacheError,
    ConfigurationError,
    MultiFileDatasetError,
    ObjectNotFoundError,
    StorageError,
    StorageUnreachableError,
    redact_uri,
)
from ._events import DatasetFailed, DatasetFinished, FileFinished
from ._models import Dataset, FileMetadata
from ._pipeline.flight import Flight, claims_of, lock_of
from ._pipeline.requests import Requests
from ._pipeline.resolve import Resolver, Target
from ._pipeline.transfer import crc_here
from ._pipeline.upload import (
    Anything,
    Expected,
    InMemory,
    Nothing,
    Outgoing,
    Version,
    changed_error,
    content_type_of,
    upload,
)
from ._pipeline.verify import verify_pin, verify_uploaded
from ._pipeline.workers import each
from ._sources import absolute_path
from .ports import CacheKey, CachePort, LocalFileChangedError, SnapshotsPort

_IN_MEMORY_BYTES = 1024 * 1024
"""A file up to this size is read once, and kept in memory until it is published."""


@dataclass(frozen=True, slots=True)
class _Local:
    """A file as it was when it was looked at: `data` if it is small, and the media type of what it becomes."""

    path: str
    data: bytes | None
    crc: str
    content_type: str


class Pushing:
    """One operation that pushes. `results` and `errors` grow, by the datasets' names, as it goes on.

    Args:
        resolver: what the datasets mean.
        cache: where the copies lie.
        requests: the way to the remote.
        locks: of the files that are being fetched or pushed on this event loop: one task at a time does so with a file.
        on_conflict: whether what somebody else wrote is an error or overwritten.
    """

    def __init__(
        self,
        resolver: Resolver,
        cache: CachePort,
        requests: Requests,
        locks: weakref.WeakValueDictionary[CacheKey, anyio.Lock],
        on_conflict: Literal["raise", "overwrite"],
    ) -> None:
        self.results: dict[str, FileMetadata] = {}
        self.errors: dict[str, Exception] = {}
        self.bytes_uploaded = 0
        self._resolver = resolver
        self._cache = cache
        self._requests = requests
        self._locks = locks
        self._on_conflict = on_conflict

    async def run(self, files: Sequence[tuple[Dataset, str]]) -> None:
        """Push them all, at once."""
        operation, notify = self._requests.operation, self._requests.notify

        async def one(item: tuple[Dataset, str]) -> None:
            dataset, path = item
            try:
                self.results[dataset.name] = await self._push(dataset, path)
                notify(DatasetFinished(operation=operation, dataset=dataset.name))
            except Exception as error:  # noqa: BLE001  # whatever one file fails with must stop no other
                self.errors[dataset.name] = error
                kind = type(error).__name__
                notify(DatasetFailed(operation=operation, dataset=dataset.name, reason=str(error), error_type=kind))

        await each(files, one, at_once=self._requests.config.max_concurrency)

    async def _push(self, dataset: Dataset, path: str) -> FileMetadata:
        if dataset.is_multi_file:
            raise MultiFileDatasetError(
                dataset.name, dataset.source, hint="push() writes one file, so give that file a dataset of its own"
            )
        target = self._resolver.target(dataset)
        if self._requests.config.offline:
            raise StorageUnreachableError(target.key.uri, "offline: nothing may be pushed")
        self._requests.writer(target.key.uri)
        local = await anyio.to_thread.run_sync(_look_at, path, target.key.uri)
        async with lock_of(self._locks, target.key):
            flight = Flight(target, self._requests, claims_of(self._cache))
            try:
                await flight.wait()
                async with self._outgoing(local, target) as file:
                    return await self._send(file, local.content_type, target)
            finally:
                await flight.release()

    async def _send(self, file: Outgoing, content_type: str, target: Target) -> FileMetadata:
        if target.pin is not None:
            await verify_pin(file, target.pin, target.key.uri)
        uploaded = await upload(target, file, await self._expected(target), content_type, self._requests)
        self.bytes_uploaded += uploaded.sent_bytes
        verified = await verify_uploaded(uploaded, file, target)
        try:
            await self._cache.publish(verified)
        except CacheError as error:
            error.add_note(f"{redact_uri(target.key.uri)} is written all the same; fetch it before it is pushed again")
            raise
        self._requests.notify(
            FileFinished(
                operation=self._requests.operation,
                dataset=target.dataset,
                uri=target.key.uri,
                action="uploaded",
                size_bytes=file.size,
                bytes_uploaded=uploaded.sent_bytes,
            )
        )
        return uploaded.metadata

    async def _expected(self, target: Target) -> Expected:
        if self._on_conflict == "overwrite":
            return Anything()
        [entry] = await self._cache.lookup([target.key])
        return Nothing() if entry is None else Version(entry.metadata)

    @asynccontextmanager
    async def _outgoing(self, local: _Local, target: Target) -> AsyncIterator[Outgoing]:
        """Give the bytes to be sent, which nobody else can change."""
        if local.data is not None:
            yield InMemory(local.data, local.crc)
            return
        if not isinstance(self._cache, SnapshotsPort):
            raise ConfigurationError(f"{type(self._cache).__name__} takes no files over: see ports.SnapshotsPort")
        try:
            async with self._cache.snapshot(local.path) as snapshot:
                yield snapshot
        except LocalFileChangedError:
            raise changed_error(target.key.uri) from None


def _look_at(path: str, uri: str) -> _Local:
    """Read a small file, and see that a large one is a file.

    Raises:
        ObjectNotFoundError: there is none.
        AccessDeniedError: it may not be read.
        ConfigurationError: it is no regular file.
        TransferError: somebody is writing to it.
    """
    crc_here(DEFAULT_CRC)
    try:
        path = absolute_path(path)
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise ConfigurationError(f"{path} is a directory: a push takes one file")
        if not stat.S_ISREG(found.st_mode):  # to open a named pipe would wait for a writer
            raise ConfigurationError(f"{path} is not a regular file, so it can't be pushed")
        if found.st_size > _IN_MEMORY_BYTES:
            return _Local(path, None, "", content_type_of(uri))
        with open(path, "rb", buffering=0) as file:
            data = file.read(_IN_MEMORY_BYTES + 1)
            after = os.fstat(file.fileno())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ObjectNotFoundError(path, "there is no such file to be pushed") from error
    except PermissionError as error:
        raise AccessDeniedError(path, "the file to be pushed may not be read") from error
    except OSError as error:
        raise StorageError(path, f"the file to be pushed can't be read: {error}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path!r} can't be the path of a file: {error}") from error
    if len(data) != found.st_size or (found.st_size, found.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise changed_error(uri)
    return _Local(path, data, digest_chunks(DEFAULT_CRC, (data,)), content_type_of(uri))
