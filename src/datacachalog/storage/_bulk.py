"""How do long answers come over HTTP/1.1? In a worker thread, which takes the bytes from the kernel and writes them.

A blocking socket, one buffer a connection: the kernel fills it, whoever wants the bytes takes them out of it, and both
let go of the interpreter meanwhile. So a gigabyte costs a few thousand steps of Python and no copies, and several
connections use several cores. The event loop only waits, and on cancellation shuts the socket down, which ends the
thread's work at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import ssl
import struct
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from .._threads import to_its_end
from ._connections import IDLE_SECONDS, connected_socket
from ._http1 import ChunkedBody, ConnectionEndedError, Head, HttpError, Origin, parse_head

_BUFFER_BYTES = 256 * 1024  # fits the processor's cache, so that what was received is written without going to memory
_CONNECTING = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", errno.EINPROGRESS)})
_HAS_WAITALL = sys.platform.startswith("linux")

_Result = TypeVar("_Result")
Sink = Callable[[memoryview], None]


class BulkConnections:
    """Connections for long answers, used from the event loop where they were made.

    Args:
        connect_timeout_seconds: to connect, TLS handshake included.
        read_timeout_seconds: without a byte received.
        at_once: how many threads may be busy.
        tls: gives the settings of TLS connections.
    """

    def __init__(
        self,
        *,
        connect_timeout_seconds: float,
        read_timeout_seconds: float,
        at_once: int,
        tls: Callable[[], Awaitable[ssl.SSLContext]],
    ) -> None:
        self.connect_timeout_seconds = connect_timeout_seconds
        self.read_timeout_seconds = read_timeout_seconds
        self._threads = anyio.CapacityLimiter(at_once)
        self._tls = tls
        self._idle: dict[Origin, deque[BulkConnection]] = {}

    async def send(self, origin: Origin, request: bytes) -> BulkAnswer:
        """Send a GET, and wait for the head of its answer.

        Cancelling it closes the connection.

        Raises:
            TimeoutError: no connection, or no byte, in time.
            OSError: no connection, or it broke.
            ssl.SSLError: the server isn't who it should be.
        """
        while (connection := self.take_kept(origin)) is not None:
            try:
                return await self._exchange(connection, origin, request)
            except ConnectionError:
                if connection.has_answered:
                    raise
        connection = self.new_connection()
        return await self._exchange(connection, origin, request)

    def close(self) -> None:
        """Close the connections that are kept."""
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()

    def new_connection(self) -> BulkConnection:
        """Give one that isn't connected yet."""
        return BulkConnection(self.read_timeout_seconds)

    def keep(self, origin: Origin, connection: BulkConnection) -> None:
        """Take a connection back whose answer is whole."""
        self._idle.setdefault(origin, deque()).append(connection)

    async def run(self, connection: BulkConnection, work: Callable[[], _Result]) -> _Result:
        """Do the connection's work in a thread; cancelled, it is interrupted."""
        return await to_its_end(anyio.to_thread.run_sync(work, limiter=self._threads), interrupt=connection.interrupt)

    async def _exchange(self, connection: BulkConnection, origin: Origin, request: bytes) -> BulkAnswer:
        try:
            if connection.is_new:
                context = await self._tls() if origin.is_tls else None
                if not connection.is_connected:
                    connection.take(await connected_socket(origin, self.connect_timeout_seconds))

                def begin() -> Head:
                    connection.prepare(origin.host, context, self.connect_timeout_seconds)
                    return connection.exchange(request)

                head = await self.run(connection, begin)
            else:
                head = await self.run(connection, lambda: connection.exchange(request))
        except BaseException:
            connection.close()
            raise
        return BulkAnswer(self, origin, connection, head)

    def take_kept(self, origin: Origin) -> BulkConnection | None:
        """Give a connection that was kept, if there is one; safe to call in several threads."""
        idle = self._idle.get(origin)
        while idle:
            try:
                connection = idle.pop()
            except IndexError:  # another thread was faster
                break
            if time.monotonic() - connection.used_at < IDLE_SECONDS and connection.is_quiet():
                return connection
            connection.close()
        return None


class BulkAnswer:
    """An answer, whose body is still coming, or is here as `content`. `close` it."""

    def __init__(
        self,
        owner: BulkConnections,
        origin: Origin,
        connection: BulkConnection,
        head: Head,
    ) -> None:
        self.head = head
        self.content: tuple[bytes, ...] | None = None
        self._is_closed = False
        self._owner = owner
        self._origin = origin
        self._connection = connection

    async def pump(self, sink: Sink) -> None:
        """Give all of the body to `sink`, which is called in a worker thread, piece by piece.

        A piece is valid during that call only. Cancelling it ends the connection and waits for the call that runs.

        Raises:
            TimeoutError: nothing came in time.
            OSError: the connection broke, or ended too early.
            Exception: what `sink` raises.
        """
        await self._owner.run(self._connection, lambda: self._connection.pump(sink))

    async def read_all(self, most_bytes: int) -> bytes:
        """Give the body, but not more than `most_bytes` of it."""
        body = bytearray()
        await self.pump(lambda piece: body.extend(piece[: most_bytes - len(body)]))
        return bytes(body)

    def close(self) -> None:
        """Keep the connection for the next request if all of the body was received, else give it up."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._connection.is_whole and not self.head.is_last:
            self._owner.keep(self._origin, self._connection)
        else:
            self._connection.close()


class BulkConnection:
    """One connection, used by one thread at a time; only `interrupt` may be called meanwhile.

    It blocks, unless it was told not to.
    """

    def __init__(self, read_timeout_seconds: float) -> None:
        self.is_new = True
        self.is_whole = False
        self.has_answered = False
        self.used_at = 0.0
        self._read_timeout_seconds = read_timeout_seconds
        self._socket: socket.socket | None = None
        self._blocks: bool | None = None
        self._waits_for_all = False
        self._buffer = memoryview(b"")
        self._leading = b""
        self._head: Head | None = None
        self._failure: OSError | None = None

    def take(self, connected: socket.socket) -> None:
        """Take the socket to use."""
        self._socket = connected
        self.used_at = time.monotonic()

    @property
    def is_connected(self) -> bool:
        """Whether it has its socket."""
        return self._socket is not None

    @property
    def connected(self) -> socket.socket:
        """Its socket, once it has one."""
        assert self._socket is not None  # noqa: S101  # it is connected
        return self._socket

    @property
    def peer(self) -> tuple[socket.AddressFamily, Any]:
        """The server's address."""
        return self.connected.family, self.connected.getpeername()

    # -- in the thread

    def opened(
        self, peer: tuple[socket.AddressFamily, Any], host: str, context: ssl.SSLContext | None
    ) -> Generator[int, None, None]:
        """Connect to that address if it isn't connected, and begin TLS where it is wanted, without blocking.

        Yields:
            What it waits for: `selectors.EVENT_READ` or `EVENT_WRITE`.
        """
        if self._socket is None:
            family, address = peer
            self._socket = socket.socket(family, socket.SOCK_STREAM)
            self.dont_block()
            code = self._socket.connect_ex(address)
            if code in _CONNECTING:
                yield selectors.EVENT_WRITE
                code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.dont_block()
        if context is not None:
            shaken = self._wrap(host, context)
            while True:
                try:
                    shaken.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    yield selectors.EVENT_READ
                except ssl.SSLWantWriteError:
                    yield selectors.EVENT_WRITE
        self.is_new = False

    def prepare(self, host: str, context: ssl.SSLContext | None, timeout_seconds: float) -> None:
        """Begin TLS where it is wanted, and block from then on."""
        if context is not None:
            self.connected.settimeout(timeout_seconds)
            self._wrap(host, context).do_handshake()
        self.is_new = False
        self._block()

    def _wrap(self, host: str, context: ssl.SSLContext) -> ssl.SSLSocket:
        wrapped = context.wrap_socket(self.connected, server_hostname=host, do_handshake_on_connect=False)
        self._socket = wrapped
        return wrapped

    def dont_block(self) -> None:
        """Let no call wait from now on."""
        if self._blocks is not False:
            self._blocks = False
            self.connected.settimeout(0)

    def is_quiet(self) -> bool:
        """Whether nothing has come since the last answer: neither its end, nor bytes that would be the next one's."""
        self.dont_block()
        try:
            self.connected.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            pass
        return False

    def _block(self) -> None:
        """Let calls wait as long as is waited for a byte."""
        if self._blocks:
            return
        self._blocks = True
        if not self._buffer:
            self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._waits_for_all = _HAS_WAITALL and not isinstance(self.connected, ssl.SSLSocket)
        if self._waits_for_all:
            # The kernel itself waits only so long; then it may also wait until the buffer is full.
            self.connected.settimeout(None)
            timeout = struct.pack("@ll", *divmod(max(1, int(self._read_timeout_seconds * 1e6)), 1_000_000))  # timeval
            self.connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
            self.connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        else:
            self.connected.settimeout(self._read_timeout_seconds)

    def expect(self, head: Head, leading: bytes) -> None:
        """Go on with an answer whose head has been taken off it: `pump` gives its body, which begins so."""
        self._head, self._leading = head, leading

    def exchange(self, request: bytes) -> Head:
        """Send a request and take the head of its answer."""
        self._block()
        self.is_whole = self.has_answered = False
        with self._timeouts():
            self.connected.sendall(request)
            received = bytearray()
            while True:
                count = self.connected.recv_into(self._buffer)
                if not count:
                    raise ConnectionEndedError("the server ended the connection before its answer")
                self.has_answered = True
                received += self._buffer[:count]
                parsed = parse_head(received, is_head_request=False)
                if parsed is not None:
                    break
        head, begin = parsed
        self.expect(head, bytes(memoryview(received)[begin:]))
        return head

    def pump(self, sink: Sink) -> None:
        """Give all of the body to `sink`."""
        assert self._head is not None  # noqa: S101  # it has been taken off the answer
        self._block()
        if self._head.is_chunked:
            self._pump_chunks(sink)
        elif self._head.length is None:
            raise HttpError("the answer says nothing of its length")
        else:
            self._pump_length(sink, self._head.length)
        self.is_whole = True
        self.used_at = time.monotonic()

    def _pump_length(self, sink: Sink, left: int) -> None:
        if len(self._leading) > left:
            raise HttpError("more bytes came than the answer had announced")
        if self._leading:
            left -= len(self._leading)
            sink(memoryview(self._leading))
        while left:
            piece = self._receive(min(left, _BUFFER_BYTES))
            left -= len(piece)
            sink(piece)

    def _pump_chunks(self, sink: Sink) -> None:
        body = ChunkedBody()
        piece = memoryview(self._leading)
        while True:
            if data := body.feed(piece):
                sink(memoryview(data))
            if body.is_done:
                return
            piece = self._receive_some()

    def _receive(self, wanted_bytes: int) -> memoryview:
        """Take so many bytes, or what comes of them before the connection breaks."""
        count = 0
        if self._failure is not None:
            raise self._failure
        try:
            with self._timeouts():
                if self._waits_for_all:
                    count = self.connected.recv_into(self._buffer[:wanted_bytes], wanted_bytes, socket.MSG_WAITALL)
                else:
                    # TLS gives a record at a time, of 16 KiB (RFC 8446, section 5.1).
                    while count < wanted_bytes and (
                        taken := self.connected.recv_into(self._buffer[count:wanted_bytes])
                    ):
                        count += taken
        except OSError as failure:
            if not count:
                raise
            self._failure = failure  # of what comes next
        return self._given(count)

    def _receive_some(self) -> memoryview:
        """Take what there is."""
        with self._timeouts():
            return self._given(self.connected.recv_into(self._buffer))

    def _given(self, count: int) -> memoryview:
        if not count:
            raise ConnectionEndedError("the server ended the connection before its answer was whole")
        return self._buffer[:count]

    @contextlib.contextmanager
    def _timeouts(self) -> Any:
        try:
            yield
        except (TimeoutError, BlockingIOError) as error:
            text = f"no byte received for {self._read_timeout_seconds:g} s"
            raise TimeoutError(text) from error

    # -- from the event loop

    def interrupt(self) -> None:
        """End what the thread is waiting for."""
        connected = self._socket
        if connected is not None:
            with contextlib.suppress(OSError):
                # Of the plain class: the one of TLS sockets takes away what the thread is using.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it; no thread uses it any more."""
        if self._socket is not None:
            self._socket.close()
