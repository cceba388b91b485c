"""An S3 server on a real socket that answers wrongly, late, half or not at all, just as a test says.

A thread accepts, and each connection has a thread with a blocking socket: bodies go to the kernel straight from the
object's memory with the interpreter lock released, so hundreds of connections and gigabytes are no trouble.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Self, TypeAlias

import anyio
import anyio.to_thread

from .._models import FileMetadata
from ._faults import (
    Cut,
    Fault,
    FaultScript,
    IgnoreRange,
    Latency,
    Meanwhile,
    NoEtag,
    Reset,
    Slow,
    Stall,
    Status,
    Swap,
    WeakEtag,
    WrongBytes,
    WrongChecksum,
    WrongContentRange,
)
from ._listener import Listener, bound_socket
from ._messages import Answer, Request, error_answer, request_of, require_access_key, without_range
from ._objects import ObjectStore, S3Error, StoredVersion
from ._operations import answer_of
from ._sending import Sender, head_of
from ._spoiling import scripted_error, spoil
from ._wire import Connection, WireError, parse_head

ServerFault: TypeAlias = (
    Cut
    | IgnoreRange
    | Latency
    | Meanwhile
    | NoEtag
    | Reset
    | Slow
    | Stall
    | Status
    | Swap
    | WeakEtag
    | WrongBytes
    | WrongChecksum
    | WrongContentRange
)
"""What can go wrong on a `FaultServer`."""

_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRequest:
    """One request that a `FaultServer` received, as it stands at the moment of asking.

    Args:
        method: HTTP's.
        operation: S3's name of what was asked for: `"GetObject"`, `"ListObjectsV2"`.
        bucket: empty for a request to the service.
        key: empty for a request to a bucket.
        range: the `Range` header, or None.
        query: the parameters.
        headers: the request's headers, names in lower case; without `Authorization`.
        faults: what it met.
        connection: the number of its connection, from 1.
        started_at: when its head was there, by `time.monotonic()`.
        status: what was answered; None while nothing is.
        bytes_sent: of the body, given to the kernel.
        is_stalled: whether a `Stall` holds it now, so that `release()` would let it go on.
        finished_at: when the server was done with it; None while it isn't.
        is_complete: whether the whole answer was given to the kernel.
    """

    method: str
    operation: str
    bucket: str
    key: str
    range: str | None
    query: Mapping[str, str]
    headers: Mapping[str, str]
    faults: tuple[Fault, ...]
    connection: int
    started_at: float
    status: int | None
    bytes_sent: int
    is_stalled: bool
    finished_at: float | None
    is_complete: bool


@dataclass(slots=True)
class _Exchange:
    """A request on its way through the server."""

    request: Request
    faults: tuple[Fault, ...]
    connection: int
    started_at: float
    status: int | None = None
    bytes_sent: int = 0
    is_stalled: bool = False
    finished_at: float | None = None
    is_complete: bool = False
    is_in_flight: bool = True

    def snapshot(self) -> ServedRequest:
        request = self.request
        return ServedRequest(
            method=request.method,
            operation=request.operation,
            bucket=request.bucket,
            key=request.key,
            range=request.headers.get("range"),
            query=request.query,
            headers={name: value for name, value in request.headers.items() if name != "authorization"},
            faults=self.faults,
            connection=self.connection,
            started_at=self.started_at,
            status=self.status,
            bytes_sent=self.bytes_sent,
            is_stalled=self.is_stalled,
            finished_at=self.finished_at,
            is_complete=self.is_complete,
        )


class _ConnectionEndedError(Exception):
    """The connection is not to be used any more."""


class FaultServer:
    """An S3 server on 127.0.0.1, on a port of its own, for tests.

    ::

        with FaultServer(faults=[Cut(after_bytes=1000, uri="*/big.bin", nth=2)]) as server:
            server.put("bucket", "big.bin", data)
            S3Storage(endpoint_url=server.endpoint_url, ...)

    It runs in threads of its own, so synchronous code, event loops and other processes can use it alike; on an event
    loop say `async with`, which doesn't block the loop. The methods that wait (`wait_for`, `refuse`) are then for a
    worker thread; all others only touch memory. Speaks HTTP/1.1 without TLS; bucket in the path, or in a `Host` of
    `bucket.localhost`. Signatures are not checked.

    Args:
        faults: what goes wrong. Those that meet one request act together; `Status` goes before the others.
        access_key: the only access key that is served, until `issue_access_key` or `expire_access_key`;
            None serves everybody.
        default_checksum: which checksum is stored for an object whose writer gives none, as S3 does; None for a store
            that doesn't.
        has_checksums_on_ranges: answer a request for a part with the checksum of the whole, which S3 does not.
        min_part_bytes: the least size of a part of an upload that is not its last; S3 says 5 MiB.
        heeds_write_conditions: refuse a write whose `If-Match` or `If-None-Match` does not hold; some stores do not.

    Raises:
        TypeError: a fault that only a `FaultyStorage` can make.
    """

    def __init__(
        self,
        *,
        faults: Iterable[ServerFault] = (),
        access_key: str | None = None,
        default_checksum: str | None = "crc64nvme",
        has_checksums_on_ranges: bool = False,
        min_part_bytes: int = 5 * 1024 * 1024,
        heeds_write_conditions: bool = True,
    ) -> None:
        self._store = ObjectStore(
            default_checksum=default_checksum,
            min_part_bytes=min_part_bytes,
            heeds_write_conditions=heeds_write_conditions,
        )
        self._script = FaultScript()
        self._access_keys = None if access_key is None else frozenset({access_key})
        self._expired_keys: frozenset[str] = frozenset()
        self._has_checksums_on_ranges = has_checksums_on_ranges
        # Re-entrant and held for a few statements only, so that it can be taken on an event loop.
        self._changed = threading.Condition(threading.RLock())
        self._exchanges: list[_Exchange] = []
        self._in_flight = 0
        self._max_in_flight = 0
        self._connection_count = 0
        self._connections: dict[Connection, threading.Thread] = {}
        self._closing = threading.Event()
        self._released = threading.Event()
        self._address: tuple[str, int] | None = None
        self._listener: Listener | None = None
        self._placeholder: socket.socket | None = None
        self.add_faults(*faults)

    # -- life

    def __enter__(self) -> Self:
        if self._address is not None:
            raise RuntimeError("a FaultServer can be started once: make another one")
        self._listen(("127.0.0.1", 0))
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return await anyio.to_thread.run_sync(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.close)

    def close(self) -> None:
        """End all connections and the threads that serve them. A second call does nothing."""
        self._closing.set()
        self._stop_listening()
        self._drop_connections()
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None

    def refuse(self) -> None:
        """From now on refuse connections; those that are open end. The port stays this server's."""
        self._stop_listening()
        if self._placeholder is None:
            # Bound but not listening: the kernel refuses, and nobody else gets the port.
            self._placeholder = bound_socket(self._bound_address())
        self._drop_connections()

    def accept(self) -> None:
        """Accept connections again after `refuse()`, on the same port."""
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None
            self._listen(self._bound_address())

    def _listen(self, address: tuple[str, int]) -> None:
        bound = bound_socket(address)
        self._address = bound.getsockname()
        self._listener = Listener(bound, self._begin_connection)

    def _stop_listening(self) -> None:
        # Taken under the lock, as a fault's action may do this in a thread of the server while a test closes it.
        with self._changed:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def _drop_connections(self) -> None:
        with self._changed:
            threads = list(self._connections.values())
            for connection in self._connections:
                connection.finish()
        for thread in threads:
            # The action of a fault may call this in the thread of its own connection.
            if thread is not threading.current_thread():
                thread.join()

    def _bound_address(self) -> tuple[str, int]:
        if self._address is None:
            raise RuntimeError("the FaultServer was not started: use it in a with statement")
        return self._address

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return self._bound_address()[1]

    @property
    def endpoint_url(self) -> str:
        """What S3's clients call `endpoint_url`."""
        return f"http://127.0.0.1:{self.port}"

    # -- what the store holds

    def create_bucket(self, bucket: str, *, is_versioned: bool | None = None) -> None:
        """Make a bucket, or switch the versioning of one; None leaves that as it is, and off for a new one."""
        self._store.create_bucket(bucket, is_versioned=is_versioned)

    def put(
        self,
        bucket: str,
        key: str,
        data: bytes,
        *,
        part_bytes: int | None = None,
        last_modified: datetime | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> FileMetadata:
        """Write an object, without a request and without faults; a bucket that isn't there is made.

        Args:
            bucket: its bucket.
            key: any text; taken as it stands.
            data: its content.
            part_bytes: write it as an upload in parts of this size, which gives it the ETag of one; None in one piece.
            last_modified: aware; None means now. Only in one piece.
            headers: what is answered with it: `content-type`, `content-encoding`, `x-amz-meta-…`.
        """
        self._store.create_bucket(bucket)
        if part_bytes is None:
            version = self._store.put(bucket, key, bytes(data), headers=headers, last_modified=last_modified)
        elif last_modified is not None:
            raise ValueError("an upload in parts is finished now: last_modified is for an object in one piece")
        else:
            version = self._put_in_parts(bucket, key, bytes(data), part_bytes, headers or {})
        return _metadata(version)

    def _put_in_parts(
        self, bucket: str, key: str, data: bytes, part_bytes: int, headers: Mapping[str, str]
    ) -> StoredVersion:
        upload_id = self._store.create_upload(bucket, key, algorithm=None, is_composite=None, headers=headers)
        named = []
        for number, start in enumerate(range(0, max(len(data), 1), part_bytes), start=1):
            part = data[start : start + part_bytes]
            named.append((number, self._store.put_part(bucket, key, upload_id, number, part, {})))
        return self._store.complete_upload(bucket, key, upload_id, named)

    def get(self, bucket: str, key: str, *, version_id: str | None = None) -> bytes | None:
        """Give an object's content; None if it isn't there."""
        try:
            return self._store.find(bucket, key, version_id).data
        except S3Error:
            return None

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object; in a versioned bucket its versions stay. One that isn't there is no error."""
        with suppress(S3Error):
            self._store.delete(bucket, key)

    def open_uploads(self, bucket: str) -> list[str]:
        """List the keys of the uploads that were neither completed nor aborted."""
        return self._store.open_uploads(bucket)

    # -- what goes wrong

    def issue_access_key(self, access_key: str) -> None:
        """From now on serve this access key too.

        Raises:
            ValueError: everybody is served.
        """
        with self._changed:
            self._access_keys = self._served_keys() | {access_key}

    def expire_access_key(self, successor: str) -> None:
        """From now on serve no access key but this; who signs with an old one is told that it has expired.

        Raises:
            ValueError: everybody is served.
        """
        with self._changed:
            self._expired_keys |= self._served_keys() - {successor}
            self._access_keys = frozenset({successor})

    def _served_keys(self) -> frozenset[str]:
        if self._access_keys is None:
            raise ValueError("this FaultServer serves every access key: make it with access_key=…")
        return self._access_keys

    def add_faults(self, *faults: ServerFault) -> None:
        """Append faults; they count from now on.

        Raises:
            TypeError: a fault that only a `FaultyStorage` can make.
        """
        for fault in faults:
            if not isinstance(fault, ServerFault):
                raise TypeError(f"{type(fault).__name__} is a fault of a FaultyStorage, not of a FaultServer")
        self._script.add(*faults)

    def clear_faults(self) -> None:
        """From the next request on nothing goes wrong."""
        self._script.clear()

    def release(self) -> None:
        """Let the answers go on that are stalled now."""
        with self._changed:
            released, self._released = self._released, threading.Event()
        released.set()

    # -- what happened

    @property
    def requests(self) -> list[ServedRequest]:
        """Every request so far, in the order of arrival, as it stands now."""
        with self._changed:
            return [exchange.snapshot() for exchange in self._exchanges]

    @property
    def max_concurrent_requests(self) -> int:
        """The most requests that were in the server at one time, from their head to the end of their answer."""
        with self._changed:
            return self._max_in_flight

    @property
    def connections_opened(self) -> int:
        """How many connections were accepted."""
        with self._changed:
            return self._connection_count

    def clear_requests(self) -> None:
        """Forget the requests so far and the most at one time; those that are being answered still count."""
        with self._changed:
            self._exchanges = []
            self._max_in_flight = self._in_flight

    def wait_for(
        self, condition: Callable[[Sequence[ServedRequest]], bool], *, timeout_seconds: float = 10.0
    ) -> list[ServedRequest]:
        """Wait until the requests are as wanted, and give them. Blocks the thread.

        Args:
            condition: is called with the requests whenever one arrives, advances or ends.
            timeout_seconds: how long at most.

        Raises:
            TimeoutError: it didn't come to that.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self.requests), timeout_seconds):
                raise TimeoutError(f"not within {timeout_seconds} s; the requests were {self.requests}")
            return self.requests

    # -- serving: all below runs in the threads of the server

    def _begin_connection(self, accepted: socket.socket) -> None:
        connection = Connection(accepted)
        with self._changed:
            if self._closing.is_set():
                connection.close()
                return
            self._connection_count += 1
            number = self._connection_count
            thread = threading.Thread(
                target=self._serve, args=(connection, number), name=f"FaultServer connection {number}", daemon=True
            )
            self._connections[connection] = thread
            thread.start()

    def _serve(self, connection: Connection, number: int) -> None:
        try:
            while (head := connection.read_head()) is not None:
                self._exchange(connection, number, head)
        except (OSError, WireError, _ConnectionEndedError):
            # The client is gone, talks nonsense, or a fault has ended the connection: nobody is left to be told.
            pass
        finally:
            with self._changed:
                del self._connections[connection]
                connection.close()

    def _exchange(self, connection: Connection, number: int, head_bytes: bytes) -> None:
        head = parse_head(head_bytes)
        request = request_of(head)
        names = [request.method, request.operation, *(["LIST"] if request.is_listing else [])]
        exchange = _Exchange(request, self._script.take(request.uri, *names), number, time.monotonic())
        with self._changed:
            self._exchanges.append(exchange)
            self._in_flight += 1
            self._max_in_flight = max(self._max_in_flight, self._in_flight)
            self._changed.notify_all()
        try:
            request = request_of(head, connection.read_body(head.headers))
            for fault in exchange.faults:
                if isinstance(fault, Latency):
                    self._pause(fault.seconds)
            self._deliver(connection, exchange, self._answer(request, exchange.faults))
            with self._changed:
                exchange.is_complete = True
        finally:
            with self._changed:
                exchange.finished_at = time.monotonic()
                self._changed.notify_all()
            self._end_flight(exchange)
        if request.headers.get("connection", "").lower() == "close":
            raise _ConnectionEndedError

    def _answer(self, request: Request, faults: Iterable[Fault]) -> Answer:
        if any(isinstance(fault, IgnoreRange) for fault in faults):
            request = without_range(request)
        try:
            for fault in faults:
                if isinstance(fault, Status):
                    raise scripted_error(fault)
            with self._changed:
                access_keys, expired_keys = self._access_keys, self._expired_keys
            if access_keys is not None:
                require_access_key(request, access_keys, expired_keys)
            answer = answer_of(self._store, request, has_checksums_on_ranges=self._has_checksums_on_ranges)
        except S3Error as error:
            answer = error_answer(request, error)
        for fault in faults:
            spoil(answer, fault)
        return answer

    def _deliver(self, connection: Connection, exchange: _Exchange, answer: Answer) -> None:
        """Send the answer, and do what is due at its bytes."""
        body_bytes = sum(len(body) for body in answer.body)
        due: list[Cut | Reset | Stall | Meanwhile | Swap] = []
        for fault in exchange.faults:
            if not isinstance(fault, Cut | Reset | Stall | Meanwhile | Swap):
                continue
            # Who has the head of an answer without a body has all of it, and goes on.
            is_too_late_after = body_bytes == 0 and isinstance(fault, Meanwhile | Swap) and fault.after_bytes == 0
            if fault.after_bytes is None or is_too_late_after:
                self._act(connection, exchange, fault)
            else:
                due.append(fault)
        due.sort(key=_offset)
        rates = [fault.bytes_per_second for fault in exchange.faults if isinstance(fault, Slow)]
        rate = min(rates, default=None)
        sender = Sender(connection, self._pause, rate, body_bytes, lambda: self._end_flight(exchange))
        sender.put_head(head_of(answer))
        with self._changed:
            exchange.status = answer.status
        position = 0
        for body in answer.body:
            piece = body
            while due and _offset(due[0]) <= position + len(piece):
                stop = _offset(due[0]) - position
                self._send(sender, exchange, piece[:stop])
                position, piece = position + stop, piece[stop:]
                sender.flush()
                self._act(connection, exchange, due.pop(0))
            self._send(sender, exchange, piece)
            position += len(piece)
        sender.flush()
        for fault in due:
            if _offset(fault) <= position:
                self._act(connection, exchange, fault)

    def _end_flight(self, exchange: _Exchange) -> None:
        """Count a request no longer as in flight: who has all of its answer may send the next one."""
        with self._changed:
            if exchange.is_in_flight:
                exchange.is_in_flight = False
                self._in_flight -= 1

    def _send(self, sender: Sender, exchange: _Exchange, piece: memoryview) -> None:
        for sent in sender.send(piece):
            with self._changed:
                exchange.bytes_sent += sent
                self._changed.notify_all()

    def _act(self, connection: Connection, exchange: _Exchange, fault: Fault) -> None:
        """Do what a fault does at its byte; what ends the connection raises."""
        match fault:
            case Swap(data=data):
                request = exchange.request
                if data is None:
                    self._store.delete(request.bucket, request.key)
                else:
                    self._store.put(request.bucket, request.key, data)
            case Meanwhile(action=action):
                action()
            case Stall():
                self._stall(connection, exchange)
            case Reset():
                connection.reset()
                raise _ConnectionEndedError
            case _:
                raise _ConnectionEndedError

    def _stall(self, connection: Connection, exchange: _Exchange) -> None:
        with self._changed:
            released = self._released
            exchange.is_stalled = True
            self._changed.notify_all()
        try:
            while not released.wait(_POLL_SECONDS):
                if self._closing.is_set() or connection.has_left():
                    raise _ConnectionEndedError
        finally:
            with self._changed:
                exchange.is_stalled = False

    def _pause(self, seconds: float) -> None:
        if self._closing.wait(seconds):
            raise _ConnectionEndedError


def _offset(fault: Cut | Reset | Stall | Meanwhile | Swap) -> int:
    return fault.after_bytes or 0


def _metadata(version: StoredVersion) -> FileMetadata:
    algorithm, value = next(iter(version.checksums.items()), ("", ""))
    return FileMetadata(
        etag=version.etag,
        last_modified=version.last_modified,
        size=len(version.data),
        version_id=None if version.version_id == "null" else version.version_id,
        checksum=f"{algorithm}:{value}" if value and not version.is_composite and algorithm.startswith("crc") else None,
    )
