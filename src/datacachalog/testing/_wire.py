"""How do HTTP/1.1 messages come from a socket? As much of RFC 9112 as S3's clients use, in blocking calls."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from selectors import EVENT_READ, DefaultSelector
from urllib.parse import parse_qsl, unquote

_HEAD_MAX_BYTES = 64 * 1024
_RECEIVE_BYTES = 64 * 1024


class WireError(Exception):
    """What was received is no HTTP request, or not all of one."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The beginning of a request.

    Args:
        method: in capitals.
        path: unquoted, with its leading `/`.
        query: unquoted; a name without a value has the empty one.
        headers: names in lower case.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


def parse_head(head: bytes) -> RequestHead:
    """Read the request line and the headers.

    Raises:
        WireError: that's no request.
    """
    lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, version = lines[0].split(" ")
        path, _, query = target.partition("?")
        if not version.startswith("HTTP/1.") or not path.startswith("/"):
            raise ValueError(version)
        unquoted = unquote(path, errors="strict")
    except ValueError as error:
        raise WireError(f"no request line: {lines[0]!r}") from error
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise WireError(f"no header: {line!r}")
        headers[name.lower()] = value.strip()
    return RequestHead(method, unquoted, dict(parse_qsl(query, keep_blank_values=True)), headers)


def decode_aws_chunked(body: bytes) -> tuple[bytes, dict[str, str]]:
    """Decode a body that is sent in signed or unsigned chunks, and its trailing headers.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html

    Raises:
        WireError: it isn't encoded so.
    """
    view, position, chunks = memoryview(body), 0, []
    while True:
        end = body.find(b"\r\n", position)
        try:
            size = int(body[position:end].partition(b";")[0], 16)
        except ValueError as error:
            raise WireError("an aws-chunked body without a chunk's size") from error
        position = end + 2
        if size == 0:
            break
        if position + size + 2 > len(body):
            raise WireError("an aws-chunked body that ends within a chunk")
        chunks.append(view[position : position + size])
        position += size + 2
    trailers = {}
    for line in body[position:].decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            trailers[name.strip().lower()] = value.strip()
    return b"".join(chunks), trailers


class Connection:
    """One accepted connection."""

    def __init__(self, accepted: socket.socket) -> None:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = accepted
        self._received = bytearray()

    def read_head(self) -> bytes | None:
        """Give the next request's head, without its empty line; None if the client is done.

        Raises:
            WireError: too long, or cut off.
            OSError: the connection broke.
        """
        searched = 0
        while (end := self._received.find(b"\r\n\r\n", searched)) < 0:
            if len(self._received) > _HEAD_MAX_BYTES:
                raise WireError("the head of the request is too long")
            searched = max(0, len(self._received) - 3)
            if not self._receive():
                if self._received:
                    raise WireError("the request was cut off")
                return None
        head = bytes(self._received[:end])
        del self._received[: end + 4]
        return head

    def read_body(self, headers: Mapping[str, str]) -> bytes:
        """Give the request's body.

        Raises:
            WireError: malformed, or cut off.
            OSError: the connection broke.
        """
        is_chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        try:
            length = int(headers.get("content-length", "0"))
        except ValueError as error:
            raise WireError("Content-Length is no number") from error
        if (is_chunked or length) and headers.get("expect", "").lower() == "100-continue":
            self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return self._read_chunked() if is_chunked else self._read_exactly(length)

    def _read_chunked(self) -> bytes:
        chunks = []
        while True:
            try:
                size = int(self._read_line().partition(b";")[0], 16)
            except ValueError as error:
                raise WireError("a chunked body without a chunk's size") from error
            if size == 0:
                break
            chunks.append(self._read_exactly(size))
            self._read_exactly(2)
        while self._read_line():
            pass
        return b"".join(chunks)

    def _read_line(self) -> bytes:
        while (end := self._received.find(b"\r\n")) < 0:
            if not self._receive():
                raise WireError("the request was cut off")
        line = bytes(self._received[:end])
        del self._received[: end + 2]
        return line

    def _read_exactly(self, size: int) -> bytes:
        taken = bytes(self._received[:size])
        del self._received[:size]
        if len(taken) == size:
            return taken
        body = bytearray(size)
        body[: len(taken)] = taken
        with memoryview(body) as view:
            position = len(taken)
            while position < size:
                count = self._socket.recv_into(view[position:])
                if not count:
                    raise WireError("the request was cut off")
                position += count
        return bytes(body)

    def _receive(self) -> bool:
        data = self._socket.recv(_RECEIVE_BYTES)
        self._received += data
        return bool(data)

    def send(self, data: bytes | memoryview) -> None:
        """Send all of it.

        Raises:
            OSError: the client is gone.
        """
        self._socket.sendall(data)

    def has_left(self) -> bool:
        """Whether the client has closed its side. Does not wait."""
        with DefaultSelector() as selector:
            selector.register(self._socket, EVENT_READ)
            if not selector.select(0):
                return False
        try:
            return not self._socket.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def finish(self) -> None:
        """End the connection in order (FIN), now, whoever else holds a copy of the descriptor."""
        # It may be closed already, by the client or by us.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Break the connection (RST)."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        """Close the socket, in order."""
        self.finish()
        self._socket.close()
