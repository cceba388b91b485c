"""What happens while a catalog works? Frozen facts, told to an `Observer`; nothing flows back.

Every event carries `operation`, the number of the call it belongs to: calls overlap in an async service. Byte counts
are absolute, so an observer that misses an event, or sees bytes taken back after a broken connection, stays right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ._models import FetchAction


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationStarted:
    """A call began, for that many datasets: `fetch`, `fetch_files`, `fetch_all` or `load`; or `push` or `push_all`."""

    operation: int
    datasets: int
    kind: Literal["fetch", "push"] = "fetch"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetResolved:
    """A dataset turned out to be that many files."""

    operation: int
    dataset: str
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferStarted:
    """The first bytes of a file's new version are on their way, to us or from us; `size_bytes` is the whole file's."""

    operation: int
    dataset: str
    uri: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferAdvanced:
    """So many bytes of the file are here; fewer than before where some have to be read again.

    Of a push: so many bytes has the remote acknowledged.
    """

    operation: int
    dataset: str
    uri: str
    received_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRestarted:
    """The object changed under the download, which starts again with the new version."""

    operation: int
    dataset: str
    uri: str
    restart: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferAwaited:
    """Somebody else, `owner`, is fetching the file; this call waits for it and takes what it publishes.

    Sent again as the owner proceeds: `received_bytes` of `size_bytes` (None: not known yet).
    """

    operation: int
    dataset: str
    uri: str
    owner: str
    received_bytes: int
    size_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRetried:
    """A request failed and is sent again after `delay_seconds`."""

    operation: int
    dataset: str
    uri: str
    attempt: int
    delay_seconds: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackStarted:
    """The file, an archive, is here, and is being unpacked; that may take its time."""

    operation: int
    dataset: str
    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFinished:
    """A file is in the cache, right and whole: `size_bytes` is its size, `bytes_downloaded` what was received.

    Of a push: it is at the remote, too, and `bytes_uploaded` is what was acknowledged.
    """

    operation: int
    dataset: str
    uri: str
    action: FetchAction | Literal["uploaded"]
    size_bytes: int
    bytes_downloaded: int = 0
    bytes_uploaded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFinished:
    """All files of a dataset are there."""

    operation: int
    dataset: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFailed:
    """A dataset failed; `reason` is the text of its error, without secrets, and `error_type` the name of its class."""

    operation: int
    dataset: str
    reason: str
    error_type: str = "Exception"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationFinished:
    """A call ended, by returning, by an error or by cancellation. The last event of its operation, always sent.

    `is_cancelled` tells whether it was cut short; the counts are of datasets.
    """

    operation: int
    seconds: float
    finished: int
    failed: int
    bytes_downloaded: int
    is_cancelled: bool
    bytes_uploaded: int = 0


Event = (
    OperationStarted
    | DatasetResolved
    | TransferStarted
    | TransferAdvanced
    | TransferRestarted
    | TransferAwaited
    | RequestRetried
    | UnpackStarted
    | FileFinished
    | DatasetFinished
    | DatasetFailed
    | OperationFinished
)
