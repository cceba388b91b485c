"""How do short answers come over HTTP/1.1? On the event loop, over connections that are kept for the next request.

One answer at a time on a connection. Whoever gets an answer closes it: a connection whose answer was read to its end is
kept, any other one is given up. A kept connection that the server has closed meanwhile is not a failure: the request,
which asks and changes nothing, is sent once more over a new one (RFC 9112, section 9.3.1).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

import aiohappyeyeballs

from ._http1 import ChunkedBody, ConnectionEndedError, Head, HttpError, Origin, parse_head

IDLE_SECONDS = 10.0
"""How long a connection is kept without a request: less than servers do (S3 about 20 s)."""

_BUFFERED_BYTES = 1024 * 1024  # more than that isn't read ahead of who takes it


class Connections:
    """Connections to servers, on one event loop.

    Args:
        connect_timeout_seconds: to connect, TLS handshake included.
        read_timeout_seconds: without a byte received.
        tls: gives the settings of TLS connections.
    """

    def __init__(
        self,
        *,
        connect_timeout_seconds: float,
        read_timeout_seconds: float,
        tls: Callable[[], Awaitable[ssl.SSLContext]],
    ) -> None:
        self._connect_timeout_seconds = connect_timeout_seconds
        self._read_timeout_seconds = read_timeout_seconds
        self._tls = tls
        self._idle: dict[Origin, deque[_Connection]] = {}

    async def send(self, origin: Origin, request: bytes, *, is_head_request: bool) -> Answer:
        """Send a request without a body, and wait for the head of its answer.

        Cancelling it closes the connection.

        Raises:
            TimeoutError: no connection, or no byte, in time.
            OSError: no connection, or it broke.
            ssl.SSLError: the server isn't who it should be.
        """
        connection = self._kept(origin)
        if connection is not None:
            try:
                return await connection.exchange(request, is_head_request=is_head_request)
            except ConnectionError:
                if connection.has_answered:
                    raise
                self._drop(origin)  # the others were closed in the same moment, most likely
        connection = await self._connected(origin)
        return await connection.exchange(request, is_head_request=is_head_request)

    def close(self) -> None:
        """Close the connections that are kept."""
        for origin in list(self._idle):
            self._drop(origin)

    def keep(self, connection: _Connection) -> None:
        """Take a connection back whose answer is whole."""
        self._idle.setdefault(connection.origin, deque()).append(connection)

    def _kept(self, origin: Origin) -> _Connection | None:
        idle = self._idle.get(origin)
        now = asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()  # the one used last, so that the others grow old and are closed
            if connection.is_open and now - connection.used_at < IDLE_SECONDS:
                return connection
            connection.abort()
        return None

    def _drop(self, origin: Origin) -> None:
        for connection in self._idle.pop(origin, ()):
            connection.abort()

    async def _connected(self, origin: Origin) -> _Connection:
        context = await self._tls() if origin.is_tls else None
        loop = asyncio.get_running_loop()
        connected = await connected_socket(origin, self._connect_timeout_seconds)
        try:
            async with asyncio.timeout(self._connect_timeout_seconds):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self, origin, loop, self._read_timeout_seconds),
                    sock=connected,
                    ssl=context,
                    server_hostname=origin.host if context is not None else None,
                )
        except BaseException as error:
            connected.close()
            if isinstance(error, TimeoutError):
                raise no_connection(origin, self._connect_timeout_seconds) from error
            raise
        return connection


async def connected_socket(origin: Origin, timeout_seconds: float) -> socket.socket:
    """Connect to the address of a host that answers first (RFC 8305); the socket doesn't block.

    Raises:
        TimeoutError: none answered in time.
        OSError: the host has no address, or refused.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_seconds):
            addresses = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            connected = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=0.25)
    except TimeoutError as error:
        raise no_connection(origin, timeout_seconds) from error
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def no_connection(origin: Origin, timeout_seconds: float) -> TimeoutError:
    """Say that a host didn't answer in time."""
    return TimeoutError(f"no connection to {origin.host}:{origin.port} within {timeout_seconds:g} s")


class Answer:
    """An answer, whose body is still coming. `close` it."""

    def __init__(self, connection: _Connection, head: Head) -> None:
        self.head = head
        self._connection: _Connection | None = connection

    async def read(self) -> bytes:
        """Give what has come of the body, as it came; nothing at its end.

        Raises:
            TimeoutError: nothing came in time.
            OSError: the connection broke, or ended too early.
        """
        return b"" if self._connection is None else await self._connection.read()

    async def read_all(self, most_bytes: int) -> bytes:
        """Give the rest of the body, but not much more than `most_bytes` of it."""
        body = bytearray()
        while len(body) < most_bytes and (piece := await self.read()):
            body += piece
        return bytes(body)

    def close(self) -> None:
        """Keep the connection for the next request if all of the body was received, else give it up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.finish()


class _Connection(asyncio.Protocol):
    """One connection, and the answer that is coming over it."""

    def __init__(
        self, owner: Connections, origin: Origin, loop: asyncio.AbstractEventLoop, read_timeout_seconds: float
    ) -> None:
        self.origin = origin
        self.is_open = True
        self.used_at = 0.0
        self.has_answered = False
        self._owner = owner
        self._loop = loop
        self._read_timeout_seconds = read_timeout_seconds
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: OSError | None = None
        self._begin()

    def _begin(self) -> None:
        self._unread = bytearray()
        self._head: Head | None = None
        self._is_head_request = False
        self._left: int | None = None
        self._chunked: ChunkedBody | None = None
        self._is_whole = False
        self._pieces: deque[bytes] = deque()
        self._buffered_bytes = 0
        self._is_paused = False

    # -- the one who asks

    async def exchange(self, request: bytes, *, is_head_request: bool) -> Answer:
        """Send a request and wait for the head of its answer."""
        self._begin()
        self.has_answered = False
        self._is_head_request = is_head_request
        assert self._transport is not None  # noqa: S101  # `create_connection` has called `connection_made`
        self._transport.write(request)
        self.used_at = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_at(self.used_at + self._read_timeout_seconds, self._look_at_the_clock)
        while self._head is None:
            if self._error is not None:
                raise self._error
            await self._wait()
        return Answer(self, self._head)

    async def read(self) -> bytes:
        """Give what has come of the body; nothing at its end."""
        while not self._pieces:
            if self._is_whole:
                return b""
            if self._error is not None:
                raise self._error
            await self._wait()
        piece = self._pieces.popleft()
        self._buffered_bytes -= len(piece)
        if self._is_paused and self._buffered_bytes < _BUFFERED_BYTES and self._transport is not None:
            self._is_paused = False
            self.used_at = self._loop.time()  # what it waited for us is no silence of the server's
            self._transport.resume_reading()
        return piece

    def finish(self) -> None:
        """Give the connection back, or up."""
        if self._is_whole and self.is_open and self._head is not None and not self._head.is_last:
            self.used_at = self._loop.time()
            self._owner.keep(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Close it at once."""
        self.is_open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: OSError) -> None:
        if self._error is None:
            self._error = error
        self.abort()
        self._wake()

    def _look_at_the_clock(self) -> None:
        self._timer = None
        if self._waiter is None and not self._is_paused and (self._is_whole or self._head is None):
            return  # nothing is asked for
        due = self.used_at + self._read_timeout_seconds
        if self._is_paused or self._loop.time() < due:
            due = max(due, self._loop.time() + self._read_timeout_seconds / 4)
            self._timer = self._loop.call_at(due, self._look_at_the_clock)
        else:
            self._fail(TimeoutError(f"no byte received for {self._read_timeout_seconds:g} s"))

    # -- the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the way to the server."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits that no more will come; for a body without a length that is its end."""
        self.is_open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._head is not None and self._left is None and self._chunked is None and exc is None:
            self._is_whole = True
        elif not self._is_whole and self._error is None:
            ended = ConnectionEndedError("the server ended the connection before its answer was whole")
            self._error = exc if isinstance(exc, OSError) else ended
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        self.used_at = self._loop.time()
        self.has_answered = True
        try:
            if self._head is None:
                self._take_head(data)
            else:
                self._take_body(data)
        except HttpError as error:
            self._fail(error)
        else:
            self._wake()

    def _take_head(self, data: bytes) -> None:
        received: bytes | bytearray = data
        if self._unread:
            self._unread += data
            received = self._unread
        parsed = parse_head(received, is_head_request=self._is_head_request)
        if parsed is None:
            if received is data:
                self._unread += data
            return
        self._head, begin = parsed
        self._left = self._head.length
        self._chunked = ChunkedBody() if self._head.is_chunked else None
        self._is_whole = self._left == 0 and self._chunked is None
        if begin < len(received):
            self._take_body(bytes(memoryview(received)[begin:]))
        self._unread = bytearray()

    def _take_body(self, data: bytes) -> None:
        if self._is_whole:
            raise HttpError("more bytes came than the answer had announced")
        if self._chunked is not None:
            data = self._chunked.feed(data)
            self._is_whole = self._chunked.is_done
        elif self._left is not None:
            if len(data) > self._left:
                raise HttpError("more bytes came than the answer had announced")
            self._left -= len(data)
            self._is_whole = self._left == 0
        if data:
            self._pieces.append(data)
            self._buffered_bytes += len(data)
            if self._buffered_bytes > _BUFFERED_BYTES and not self._is_whole and self._transport is not None:
                self._is_paused = True
                self._transport.pause_reading()
