"""What shall go wrong, with which request, and when? Frozen values, and the script that counts the requests.

One vocabulary for both places where faults are made: `FaultyStorage` (in Python, any storage) and `FaultServer` (on a
socket, S3). Every fault says itself which requests it is for; a request may meet several faults at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong with the requests that match.

    Args:
        uri: which objects: a pattern as in `fnmatch`, case matters, for the whole URI (`"s3://bucket/a.bin"`,
            `"*/a.bin"`). A request to a bucket has the URI of the bucket, a listing that of its prefix.
        method: which requests: `"GET"`, `"HEAD"`, `"LIST"`; on a `FaultServer` any HTTP method or name of an S3
            operation (`"UploadPart"`). None means all.
        nth: the first of the matching requests that meets the fault, from 1.
        times: how many matching requests, from that one on, meet it; None means all.

    Raises:
        ValueError: `nth` or `times` below 1, a number of bytes or seconds below 0, or a rate that isn't above 0.
    """

    uri: str = "*"
    method: str | None = "GET"
    nth: int = 1
    times: int | None = 1

    def __post_init__(self) -> None:
        if self.nth < 1 or (self.times is not None and self.times < 1):
            raise ValueError(f"nth and times count from 1: got nth={self.nth!r}, times={self.times!r}")
        for name in ("after_bytes", "seconds", "at", "retry_after_seconds"):
            value = getattr(self, name, None)
            if value is not None and value < 0:
                raise ValueError(f"{name} is at least 0: got {value!r}")
        rate = getattr(self, "bytes_per_second", None)
        if rate is not None and not rate > 0:
            raise ValueError(f"bytes_per_second is above 0: got {rate!r}")

    def is_for(self, uri: str, names: Iterable[str]) -> bool:
        """Whether a request for `uri`, called by any of `names`, is one of those meant."""
        return (self.method is None or self.method in names) and fnmatchcase(uri, self.uri)

    def is_due(self, count: int) -> bool:
        """Whether the `count`-th matching request, from 1, meets the fault."""
        return count >= self.nth and (self.times is None or count < self.nth + self.times)


# -- everywhere --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Latency(Fault):
    """The answer begins later by so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cut(Fault):
    """The body ends after `after_bytes` bytes as if that were all: an orderly end of the connection (FIN), too early.

    None means before the answer: the request was carried out, nobody learns it.
    """

    after_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Reset(Fault):
    """The connection breaks after `after_bytes` bytes of the body (RST; a `StorageUnreachableError`).

    None means before the answer. A reset discards what the receiver's kernel hasn't handed over yet, so the client of
    a `FaultServer` sees at most so many bytes.
    """

    after_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Stall(Fault):
    """After `after_bytes` bytes of the body nothing more comes; None means not even the answer.

    In a `FaultyStorage` until the reader is cancelled. On a `FaultServer` until `release()`, until the client gives
    up or until the server is closed.
    """

    after_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class WrongBytes(Fault):
    """The body has its right length, but the byte at offset `at` of it is another one (all its bits inverted)."""

    at: int = 0


@dataclass(frozen=True, slots=True)
class Meanwhile(Fault):
    """When `after_bytes` bytes of the body have been given, `action` is called, and then the body goes on.

    Say, to put a new version of the object in its place: the rest of this body stays the old version's, and what is
    asked for next is the new one. Of an answer without a body it is called before the answer is sent. The action runs
    where the body is made: on the event loop for a `FaultyStorage`, in a thread of the server for a `FaultServer`.
    """

    action: Callable[[], object]
    after_bytes: int = 0


# -- only in a storage -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unreachable(Fault):
    """No answer: a `StorageUnreachableError`, as after a refused connection or a 5xx."""

    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Throttled(Fault):
    """The remote asks to slow down: a `ThrottledError`."""

    retry_after_seconds: float | None = None


# -- only on a server --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Status(Fault):
    """The request is not carried out but answered with this status and, unless it is a HEAD, S3's XML.

    Args:
        status: the HTTP status.
        code: S3's code; None means the usual one of the status (`SlowDown` for 503).
        retry_after_seconds: the value of `Retry-After`; None means no such header.
    """

    status: int
    code: str | None = None
    retry_after_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Swap(Fault):
    """The object gets the new content `data` (None: is deleted) after `after_bytes` bytes of its body were sent.

    The rest of this answer stays the old version's, as on S3.
    """

    data: bytes | None
    after_bytes: int = 0


@dataclass(frozen=True, slots=True)
class IgnoreRange(Fault):
    """A request for a range is answered with 200 and the whole object."""


@dataclass(frozen=True, slots=True)
class WrongContentRange(Fault):
    """The 206 has another `Content-Range`: `value`, or for None one that is shifted by a byte."""

    value: str | None = None


@dataclass(frozen=True, slots=True)
class WrongChecksum(Fault):
    """The `x-amz-checksum-…` headers have well-formed values that are not the object's."""


@dataclass(frozen=True, slots=True)
class NoEtag(Fault):
    """The answer has no `ETag`."""


@dataclass(frozen=True, slots=True)
class WeakEtag(Fault):
    """The `ETag` is marked as weak: `W/"…"`."""


@dataclass(frozen=True, slots=True)
class Slow(Fault):
    """The body comes at so many bytes a second, on each connection for itself."""

    bytes_per_second: float


class FaultScript:
    """Counts, for every fault, the requests that it is for. Safe to use from several threads."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        # Re-entrant, as the actions of faults may add faults.
        self._lock = threading.RLock()
        self._counted: list[tuple[Fault, list[int]]] = []
        self.add(*faults)

    def add(self, *faults: Fault) -> None:
        """Append faults; they count from now on."""
        with self._lock:
            self._counted.extend((fault, [0]) for fault in faults)

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._counted.clear()

    def take(self, uri: str, *names: str) -> tuple[Fault, ...]:
        """Count a request for `uri`, called by any of `names`, and give the faults that it meets, in their order."""
        due = []
        with self._lock:
            for fault, count in self._counted:
                if fault.is_for(uri, names):
                    count[0] += 1
                    if fault.is_due(count[0]):
                        due.append(fault)
        return tuple(due)
