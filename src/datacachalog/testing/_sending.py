"""How does an answer get to the socket: in few calls, without copies, and at the rate that is scripted?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from http import HTTPStatus

from ._messages import Answer
from ._wire import Connection

_PIECE_BYTES = 1024 * 1024
_TOGETHER_BYTES = 64 * 1024  # a body so small is sent in one packet with its head
_SLOW_PIECE_SECONDS = 0.02


class Sender:
    """Gives the bytes of one answer to the kernel: a small answer in one call, a slow one in small pieces.

    Args:
        connection: where they go.
        pause: waits so many seconds.
        bytes_per_second: of a slow answer.
        body_bytes: how many bytes of body there will be.
        before_last: called before the last of them are sent: whoever gets those has the answer.
    """

    def __init__(
        self,
        connection: Connection,
        pause: Callable[[float], None],
        bytes_per_second: float | None,
        body_bytes: int,
        before_last: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._pause = pause
        self._left = body_bytes
        self._before_last: Callable[[], None] | None = before_last
        self._rate = bytes_per_second
        self._head = b""
        self._began_at = 0.0
        self._sent = 0

    def put_head(self, head: bytes) -> None:
        """Take the head, to be sent with the first bytes or by `flush`."""
        self._head = head

    def flush(self) -> None:
        """Send the head if it isn't sent."""
        if self._head:
            self._out(self._head, 0)
            self._head = b""

    def _out(self, data: bytes | memoryview, body_bytes: int) -> None:
        self._left -= body_bytes
        if self._left <= 0 and self._before_last is not None:
            self._before_last()
            self._before_last = None
        self._connection.send(data)

    def send(self, piece: memoryview) -> Iterable[int]:
        """Send all of it and tell after each call to the kernel how many bytes it took."""
        if self._rate is not None:
            yield from self._send_slowly(piece, self._rate)
            return
        if self._head and 0 < len(piece) <= _TOGETHER_BYTES:
            self._out(self._head + piece, len(piece))
            self._head = b""
            yield len(piece)
            return
        self.flush()
        for start in range(0, len(piece), _PIECE_BYTES):
            part = piece[start : start + _PIECE_BYTES]
            self._out(part, len(part))
            yield len(part)

    def _send_slowly(self, piece: memoryview, rate: float) -> Iterable[int]:
        self.flush()
        self._began_at = self._began_at or time.monotonic()
        size = max(1, min(_PIECE_BYTES, int(rate * _SLOW_PIECE_SECONDS)))
        for start in range(0, len(piece), size):
            part = piece[start : start + size]
            self._sent += len(part)
            # By the clock and not by the piece: what one wait takes too long, the next takes less.
            self._pause(max(0.0, self._began_at + self._sent / rate - time.monotonic()))
            self._out(part, len(part))
            yield len(part)


def head_of(answer: Answer) -> bytes:
    """Write the status line and the headers."""
    try:
        phrase = HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {answer.status} {phrase}", "Server: FaultServer", "x-amz-request-id: 0000000000000000"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    if answer.status not in (204, 304):
        lines.append(f"Content-Length: {answer.content_length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
