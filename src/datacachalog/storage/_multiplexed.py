"""How do many short answers come over HTTP/1.1 to one worker thread? Each goes on when its socket has something.

Threads that each wait for one answer pass the interpreter's lock around, once or twice a system call, and that costs
several times the work. One thread that never waits for a single answer does nothing but the work. It learns from each
exchange what it waits for, and comes back when that is there; how the exchange is, only the exchange knows.

An answer that is longer than the asker wants in memory is given as soon as its head is there. Its connection is then
used like any other long one's (`_bulk`).
"""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from collections.abc import Generator
from typing import Any, NoReturn

from ._bulk import BulkAnswer, BulkConnection, BulkConnections
from ._connections import connected_socket, no_connection
from ._http1 import ChunkedBody, ConnectionEndedError, Head, HttpError, Origin, parse_head
from ._http_fields import content_range

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

_BUFFER_BYTES = 64 * 1024  # at once; the allocator has to ask the kernel for much more
_CHUNKED_MOST_BYTES = 1024 * 1024  # of what says nothing of its length: an error, mostly


class Way:
    """A way to a server that worker threads may take by themselves.

    Args:
        owner: whose connections are used.
        origin: the server.
        peer: its address that has answered.
        context: the settings of TLS, if it is spoken.
    """

    def __init__(
        self,
        owner: BulkConnections,
        origin: Origin,
        peer: tuple[socket.AddressFamily, Any],
        context: ssl.SSLContext | None,
    ) -> None:
        self.owner = owner
        self.origin = origin
        self.peer = peer
        self.context = context

    def begin(self, request: bytes, most_bytes: int) -> Exchange:
        """Begin a GET, in this thread, without waiting for anything.

        Args:
            request: it.
            most_bytes: of a body that is wanted in memory; one that doesn't tell its length is taken so in any case,
                and one that is only a part of something never: there are others to be asked for meanwhile.
        """
        return Exchange(self, request, most_bytes)


async def way_to(owner: BulkConnections, origin: Origin, tls: ssl.SSLContext | None) -> Way:
    """See which of the host's addresses answers; the connection is kept for the first who goes that way.

    Raises:
        TimeoutError: none answered in time.
        OSError: the host has no address, or refused.
    """
    connection = owner.take_kept(origin)
    if connection is None:
        connection = owner.new_connection()
        connection.take(await connected_socket(origin, owner.connect_timeout_seconds))
    owner.keep(origin, connection)
    return Way(owner, origin, connection.peer, tls)


class Exchange:
    """One request and its answer; to be used by one thread.

    `waits_for` says what its socket, `fileno()`, has to be ready for before `advance` is worth a call, and `due` until
    when, in seconds of `time.monotonic()`.
    """

    def __init__(self, way: Way, request: bytes, most_bytes: int) -> None:
        self.waits_for = 0
        self.due = 0.0
        self._way = way
        self._request = request
        self._most_bytes = most_bytes
        self._connection: BulkConnection | None = None
        self._steps = self._go()

    def fileno(self) -> int:
        """Give the descriptor to watch."""
        assert self._connection is not None  # noqa: S101  # there is one as soon as it waits for something
        return self._connection.connected.fileno()

    def advance(self) -> BulkAnswer | None:
        """Go on as far as it goes without waiting; gives the answer if that is here.

        Raises:
            OSError: no connection, or it broke.
            HttpError: the answer is none.
        """
        try:
            self.waits_for = next(self._steps)
        except StopIteration as finished:
            answer: BulkAnswer = finished.value
            return answer
        except BaseException:
            self.close()
            raise
        return None

    def give_up(self) -> NoReturn:
        """End it, because it is overdue.

        Raises:
            TimeoutError: always.
        """
        connection = self._connection
        self.close()
        if connection is None or connection.is_new:
            raise no_connection(self._way.origin, self._way.owner.connect_timeout_seconds)
        raise TimeoutError(f"no byte received for {self._way.owner.read_timeout_seconds:g} s")

    def close(self) -> None:
        """End it, wherever it is."""
        self._steps.close()
        if self._connection is not None:
            self._connection.close()

    def _go(self) -> Generator[int, None, BulkAnswer]:
        owner, origin = self._way.owner, self._way.origin
        while (connection := owner.take_kept(origin)) is not None:
            self._connection = connection
            try:
                return (yield from self._exchange(connection))
            except ConnectionError:
                connection.close()
                if connection.has_answered:
                    raise
        connection = self._connection = owner.new_connection()
        return (yield from self._exchange(connection))

    def _exchange(self, connection: BulkConnection) -> Generator[int, None, BulkAnswer]:
        way = self._way
        connection.has_answered = connection.is_whole = False
        if connection.is_new:
            self.due = time.monotonic() + way.owner.connect_timeout_seconds
            yield from connection.opened(way.peer, way.origin.host, way.context)
        connection.dont_block()
        connected = connection.connected
        self.due = time.monotonic() + way.owner.read_timeout_seconds
        yield from _send(connected, self._request)
        yield READ  # it is not there yet
        head, leading = yield from self._head(connection, connected)
        answer = BulkAnswer(way.owner, way.origin, connection, head)
        if not head.is_chunked and (head.length is None or head.length > self._most_bytes or _is_part(head)):
            connection.expect(head, leading)
            return answer
        answer.content = yield from self._body(connected, head, leading)
        connection.is_whole = True
        connection.used_at = time.monotonic()
        answer.close()
        return answer

    def _head(self, connection: BulkConnection, connected: socket.socket) -> Generator[int, None, tuple[Head, bytes]]:
        received = b""
        while True:
            received += yield from self._received(connected)
            connection.has_answered = True
            parsed = parse_head(received, is_head_request=False)
            if parsed is not None:
                head, begin = parsed
                return head, received[begin:]

    def _body(self, connected: socket.socket, head: Head, leading: bytes) -> Generator[int, None, tuple[bytes, ...]]:
        if head.is_chunked:
            return ((yield from self._chunks(connected, leading)),)
        assert head.length is not None  # noqa: S101  # the caller has seen to it
        pieces = [leading] if leading else []
        missing = head.length - len(leading)
        while missing > 0:
            pieces.append((yield from self._received(connected)))
            missing -= len(pieces[-1])
        if missing < 0:
            raise HttpError("more bytes came than the answer had announced")
        return tuple(pieces)

    def _chunks(self, connected: socket.socket, leading: bytes) -> Generator[int, None, bytes]:
        chunks = ChunkedBody()
        body = chunks.feed(leading)
        while not chunks.is_done:
            body += chunks.feed((yield from self._received(connected)))
            if len(body) > _CHUNKED_MOST_BYTES:
                raise HttpError("the answer says nothing of its length, and is too long")
        return body

    def _received(self, connected: socket.socket) -> Generator[int, None, bytes]:
        """Take what has come, when something has come."""
        while True:
            try:
                piece = connected.recv(_BUFFER_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                yield READ
            except ssl.SSLWantWriteError:
                yield WRITE
            else:
                if not piece:
                    raise ConnectionEndedError("the server ended the connection before its answer was whole")
                self.due = time.monotonic() + self._way.owner.read_timeout_seconds
                return piece


def _is_part(head: Head) -> bool:
    given = head.headers.get("content-range") if head.status == 206 else None
    if given is None:
        return False
    try:
        start, stop, size = content_range(given)
    except ValueError:  # for who understands the answer to say
        return False
    return stop - start < size


def _send(connected: socket.socket, request: bytes) -> Generator[int, None, None]:
    left = memoryview(request)
    while left:
        try:
            left = left[connected.send(left) :]
        except (BlockingIOError, ssl.SSLWantWriteError):
            yield WRITE
        except ssl.SSLWantReadError:
            yield READ
