"""How do the bytes of a file get to the remote? All of them, in one step, and only in the place of what was expected.

What is there is asked before anything is written, and compared with the version that the file is based on; the write
then carries the same demand, so that a store that heeds it refuses what has become wrong in between. A store that
doesn't heed it leaves the moment between the question and the write; for an upload in parts the question is asked again
right before its end.

An answer that is lost leaves open whether the object was written. Before it is tried again, what is there is compared
with what was sent: by its checksum, or by the ETag that the store must have given it.
"""

from __future__ import annotations

import hashlib
import math
import mimetypes
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeAlias, assert_never

import anyio

from .._digests import DEFAULT_CRC, DIGEST_BYTES, crc_functions, digest_chunks, format_crc, parse_crc
from .._errors import (
    DatacachalogError,
    ObjectNotFoundError,
    PushConflictError,
    StorageError,
    StorageUnreachableError,
    ThrottledError,
    TransferError,
)
from .._events import TransferAdvanced, TransferStarted
from .._models import CacheMetadata, FileMetadata
from .._threads import to_its_end
from ..ports import (
    ConditionsUnsupported,
    Content,
    Snapshot,
    Upload,
    UploadedPart,
    WritableSession,
    WriteOutcome,
    WriteRefused,
    WriteRequest,
    Written,
)
from .requests import Requests, Retries
from .resolve import Target
from .transfer import _single_error
from .workers import each

_READ_BYTES = 512 * 1024
"""How much is read and handed over at once; so memory is bounded by the parts in flight times this."""

_PARTS_IN_FLIGHT = 8
_ABORT_SECONDS = 5.0
_CONTRADICTIONS = 2
_MIB = 1024 * 1024

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_LEAST_PART_BYTES = 5 * _MIB
_MOST_PART_BYTES = 5 * 1024 * _MIB
_MOST_PARTS = 10_000

_TYPE_OF_ENCODING = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
    "br": "application/x-brotli",
}


# -- decided without asking anybody


def part_size(size: int, part_bytes: int) -> int:
    """Compute how large the parts of an upload are: as large as is wanted, within what S3 allows.

    Args:
        size: of the object; one that is no larger than a part is written in one piece.
        part_bytes: what is wanted.

    Raises:
        ValueError: larger than any object can be.
    """
    if size > _MOST_PARTS * _MOST_PART_BYTES:
        raise ValueError(f"{size:,} bytes are more than {_MOST_PARTS:,} parts of {_MOST_PART_BYTES:,} bytes")
    least = max(part_bytes, _LEAST_PART_BYTES, math.ceil(size / _MOST_PARTS))
    # What was only computed is rounded up to whole megabytes, which stores and disks like better.
    rounded = least if least == part_bytes else math.ceil(least / _MIB) * _MIB
    return min(rounded, _MOST_PART_BYTES)


def content_type_of(uri: str) -> str:
    """Guess the media type by the name. Reads the system's list at first use: for a worker thread.

    A compressed file is of its compression's type: it is to be given back as it is.
    """
    kind, encoding = mimetypes.guess_type(uri.rpartition("/")[2])
    if encoding is not None:
        return _TYPE_OF_ENCODING.get(encoding, "application/octet-stream")
    return kind or "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Anything:
    """Whatever is there is overwritten."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing is there, as far as we know."""


@dataclass(frozen=True, slots=True)
class Version:
    """That version is there, as far as we know."""

    metadata: CacheMetadata


Expected: TypeAlias = Anything | Nothing | Version
"""What the file that is pushed was based on."""


def is_as_expected(expected: Expected, found: FileMetadata | None) -> bool:
    """Whether what was found may be overwritten; None is nothing."""
    match expected:
        case Anything():
            return True
        case Nothing():
            return found is None
        case Version(metadata):
            return found is not None and found.is_same_version(metadata)
        case _:
            assert_never(expected)


def multipart_etag(parts: Sequence[UploadedPart]) -> str | None:
    """Compute the ETag that an upload gets whose parts' ETags are their MD5s; None if they are something else."""
    etags = [part.etag or "" for part in parts]
    if not all(re.fullmatch(r"[0-9a-fA-F]{32}", etag) for etag in etags):
        return None
    digest = hashlib.md5(b"".join(map(bytes.fromhex, etags)), usedforsecurity=False)
    return f"{digest.hexdigest()}-{len(etags)}"


# -- what is sent


@dataclass(frozen=True, slots=True)
class InMemory:
    """A small file's bytes."""

    data: bytes
    crc: str

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give them, whole."""
        if self.data:
            yield self.data

    async def digest(self, algorithm: str) -> str:
        """Compute another digest."""
        return await anyio.to_thread.run_sync(digest_chunks, algorithm, (self.data,))


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes `start` (inclusive) to `stop` (exclusive) of a copied file, and their CRC."""

    snapshot: Snapshot
    start: int
    stop: int
    crc: str

    @classmethod
    async def of(cls, snapshot: Snapshot, start: int, stop: int) -> Piece:
        """Read it once, for its CRC."""
        return cls(snapshot, start, stop, await snapshot.digest(DEFAULT_CRC, start, stop))

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stop - self.start

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read them, a megabyte at a time."""
        for start in range(self.start, self.stop, _READ_BYTES):
            yield await self.snapshot.read(start, min(start + _READ_BYTES, self.stop))

    async def digest(self, algorithm: str) -> str:
        """Read them for another digest."""
        return await self.snapshot.digest(algorithm, self.start, self.stop)


Outgoing: TypeAlias = InMemory | Snapshot
"""A file to be pushed."""


# -- sending it


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file is written.

    Args:
        metadata: the version that it is now, as far as the store said.
        crc: of the bytes that were sent.
        sent_bytes: how many the store has acknowledged.
    """

    metadata: FileMetadata
    crc: str
    sent_bytes: int


async def upload(target: Target, file: Outgoing, expected: Expected, content_type: str, requests: Requests) -> Uploaded:
    """Write a file to the remote, if what is there is what is expected.

    Cancellation drops the parts that were sent; a request that was sent whole may have written the object all the same.

    Args:
        target: the object.
        file: the bytes.
        expected: what may be overwritten.
        content_type: the object's media type.
        requests: the way to the remote.

    Raises:
        PushConflictError: something else is there.
        ConfigurationError: the storage can only be read.
        StorageError: the remote refused, or did not answer after the retries.
        TransferError: the file has changed since it was copied, or is larger than an object can be.
    """
    return await _Uploading(target, file, expected, content_type, requests).run()


class _Uploading:
    """One file on its way. Each part in flight has a task of its own."""

    def __init__(
        self, target: Target, file: Outgoing, expected: Expected, content_type: str, requests: Requests
    ) -> None:
        self._uri = target.key.uri
        self._target = target
        self._file = file
        self._expected = expected
        self._request = WriteRequest(uri=self._uri, content_type=content_type)
        self._requests = requests
        self._session: WritableSession = requests.writer(self._uri)
        self._sent_bytes = 0

    async def run(self) -> Uploaded:
        file, config = self._file, self._requests.config
        try:
            part_bytes = part_size(file.size, config.part_bytes)
        except ValueError as error:
            raise TransferError(self._uri, str(error)) from None
        await self._look()
        self._requests.notify(
            TransferStarted(
                operation=self._requests.operation,
                dataset=self._target.dataset,
                uri=self._uri,
                size_bytes=file.size,
            )
        )
        if isinstance(file, InMemory):
            return await self._write_whole(file)
        if file.size <= part_bytes:
            piece = await Piece.of(file, 0, file.size)
            await self._check_unchanged(file)
            return await self._write_whole(piece)
        return await self._write_in_parts(file, part_bytes)

    # -- what is there

    async def _found(self) -> FileMetadata | None:
        try:
            return await self._requests.head(self._target.dataset, self._uri)
        except ObjectNotFoundError:
            return None

    async def _look(self) -> None:
        """Ask what is there, and demand of the write that it be that still.

        Raises:
            PushConflictError: it is not what is expected.
        """
        if isinstance(self._expected, Anything):
            return
        found = await self._found()
        if not is_as_expected(self._expected, found):
            raise self._conflict(found)
        etag = None if found is None else found.etag
        self._request = replace(self._request, if_match=etag, must_be_new=found is None)

    def _conflict(self, found: FileMetadata | None) -> PushConflictError:
        expected = self._expected.metadata.etag if isinstance(self._expected, Version) else None
        return PushConflictError(self._uri, expected_etag=expected, found_etag=None if found is None else found.etag)

    # -- writing

    async def _write_whole(self, content: Content) -> Uploaded:
        async def write() -> WriteOutcome:
            return await self._session.write(self._request, content)

        async def is_ours(found: FileMetadata) -> bool:
            return await _has_checksum(found, content.size, content.digest)

        metadata = await self._written(write, is_ours)
        self._acknowledge(content.size)
        return Uploaded(metadata, content.crc, self._sent_bytes)

    async def _write_in_parts(self, file: Snapshot, part_bytes: int) -> Uploaded:
        uri, dataset = self._uri, self._target.dataset

        async def begin() -> Upload:
            return await self._requests.send(lambda: self._session.begin_upload(self._request))

        begun = await self._requests.retried(dataset, uri, begin)
        try:
            parts = await self._write_parts(begun, file, part_bytes)
            crc = _combined_crc(parts)

            async def complete() -> WriteOutcome:
                return await self._session.complete_upload(begun, self._request, parts, crc)

            async def is_ours(found: FileMetadata) -> bool:
                if found.size == file.size and found.etag is not None and found.etag == multipart_etag(parts):
                    return True

                async def digest(algorithm: str) -> str:
                    return crc if crc.startswith(f"{algorithm}:") else await file.digest(algorithm, 0, file.size)

                return await _has_checksum(found, file.size, digest)

            await self._check_unchanged(file)
            await self._look()  # it may have taken long
            metadata = await self._written(complete, is_ours)
        except BaseException:
            await to_its_end(self._abort(begun))
            raise
        return Uploaded(metadata, crc, self._sent_bytes)

    async def _write_parts(self, begun: Upload, file: Snapshot, part_bytes: int) -> list[UploadedPart]:
        parts: dict[int, UploadedPart] = {}

        async def one(number: int) -> None:
            start = (number - 1) * part_bytes
            content = await Piece.of(file, start, min(start + part_bytes, file.size))

            async def write() -> UploadedPart:
                return await self._requests.send(lambda: self._session.write_part(begun, number, start, content))

            parts[number] = await self._requests.retried(self._target.dataset, self._uri, write)
            self._acknowledge(content.size)

        with _single_error():
            await each(range(1, math.ceil(file.size / part_bytes) + 1), one, at_once=_PARTS_IN_FLIGHT)
        return [parts[number] for number in sorted(parts)]

    async def _abort(self, begun: Upload) -> None:
        """Drop the parts, which cost money as long as they are there; what that fails with matters to nobody."""
        with anyio.move_on_after(_ABORT_SECONDS), suppress(DatacachalogError):
            await self._requests.retried(
                self._target.dataset,
                self._uri,
                lambda: self._requests.send(lambda: self._session.abort_upload(begun)),
            )

    async def _written(
        self, write: Callable[[], Awaitable[WriteOutcome]], is_ours: Callable[[FileMetadata], Awaitable[bool]]
    ) -> FileMetadata:
        """Send the request that writes the object until it is written, once, or refused.

        Args:
            write: sends it, with the conditions of `self._request`.
            is_ours: tells whether what is there has the bytes that are sent.
        """
        tries = contradictions = 0
        retries = Retries(self._requests, self._target.dataset, self._uri)
        while True:
            outcome: WriteOutcome | StorageError
            try:
                outcome = await self._requests.send(write)
            except (StorageUnreachableError, ThrottledError) as error:
                tries += 1
                await retries.wait(error)
                outcome = error
            except ObjectNotFoundError as error:  # the upload is gone: completed, perhaps, by a request not answered
                outcome = error
            if isinstance(outcome, Written) and outcome.metadata.etag is not None:
                return outcome.metadata
            found = await self._found()
            if found is not None and (tries or isinstance(outcome, Written | WriteRefused)) and await is_ours(found):
                return found
            match outcome:
                case Written(metadata):
                    return metadata  # somebody has written since; without an ETag the next fetch asks for the bytes
                case ObjectNotFoundError():
                    raise outcome
                case ConditionsUnsupported():
                    self._request = replace(self._request, if_match=None, must_be_new=False)
                case WriteRefused():
                    # The store may refuse what it says is so: somebody's write has come and gone, or it reads an ETag
                    # in another spelling than it writes it. If it goes on so, its conditions are of no use.
                    contradictions += 1
                    if contradictions == _CONTRADICTIONS:
                        self._request = replace(self._request, if_match=None, must_be_new=False)
            if contradictions > _CONTRADICTIONS or not is_as_expected(self._expected, found):
                raise self._conflict(found)

    async def _check_unchanged(self, file: Snapshot) -> None:
        if not await file.is_current():
            raise changed_error(self._uri)

    def _acknowledge(self, size: int) -> None:
        self._sent_bytes += size
        self._requests.notify(
            TransferAdvanced(
                operation=self._requests.operation,
                dataset=self._target.dataset,
                uri=self._uri,
                received_bytes=self._sent_bytes,
            )
        )


def changed_error(uri: str) -> TransferError:
    """Give the error of a file that somebody is writing to."""
    return TransferError(
        uri, "the local file changed while it was pushed: nothing was written", hint="push it when its writer is done"
    )


async def _has_checksum(found: FileMetadata, size: int, digest: Callable[[str], Awaitable[str]]) -> bool:
    """Whether what was found has the digest of what was sent; not, if the store tells none."""
    algorithm = (found.checksum or "").partition(":")[0]
    return found.size == size and algorithm in DIGEST_BYTES and await digest(algorithm) == found.checksum


def _combined_crc(parts: Sequence[UploadedPart]) -> str:
    combine = crc_functions(DEFAULT_CRC).combine
    value = 0
    for part in parts:
        value = combine(value, parse_crc(part.crc), part.size)
    return format_crc(DEFAULT_CRC, value)
