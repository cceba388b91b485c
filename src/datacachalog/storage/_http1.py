"""What does an HTTP/1.1 answer say? Bytes in, values out: no socket, no clock (RFC 9112).

Only what a read needs: one answer at a time, to a GET or a HEAD, with a length, in chunks, or until the end of the
connection. What isn't exactly that is refused: an answer that could be read in two ways is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

HEAD_MAX_BYTES = 64 * 1024
"""How long a head may be; S3's own limit for metadata is 2 KB."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: .*)?")
# A name is a token (RFC 9110, section 5.6.2). Nothing in it can match in two ways, so it takes no more than one look.
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\0]*)(?:\r\n|\Z)")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_NO_BODY = frozenset({204, 304})


class HttpError(OSError):
    """What came is no HTTP/1.1 answer."""


class ConnectionEndedError(ConnectionError):
    """The server ended the connection before its answer was whole."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where requests are sent to (RFC 9110, section 4.3.1)."""

    host: str
    port: int
    is_tls: bool

    @classmethod
    def of_url(cls, url: str) -> Origin:
        """Take it from an absolute `http` or `https` URL.

        Raises:
            ValueError: it has none.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"no http or https URL: {url!r}")
        is_tls = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if is_tls else 80), is_tls)


@dataclass(frozen=True, slots=True)
class Head:
    """The status and the headers of an answer.

    Args:
        status: 200 to 599; the interim answers (1xx) that may come before are passed over.
        headers: their values by name in lower case; the values of a name that comes twice are joined by `", "`.
        length: bytes of the body; None means that only its end tells.
        is_chunked: whether the body comes in chunks.
        is_last: whether the connection ends with this answer.
    """

    status: int
    headers: Mapping[str, str]
    length: int | None
    is_chunked: bool
    is_last: bool


def parse_head(data: bytes | bytearray, *, is_head_request: bool) -> tuple[Head, int] | None:
    """Read a head off the beginning of what has come; None if more of it is to come.

    Returns:
        The head, and where the body begins.

    Raises:
        HttpError: it is none.
    """
    start = 0
    while True:
        end = data.find(b"\r\n\r\n", start)
        if end < 0:
            if len(data) - start > HEAD_MAX_BYTES:
                raise HttpError(f"the answer's head is longer than {HEAD_MAX_BYTES} bytes")
            return None
        first, _, rest = bytes(data[start:end]).partition(b"\r\n")
        match = _STATUS_LINE.fullmatch(first)
        if match is None:
            raise HttpError(f"the answer is not HTTP/1.1: it begins with {first[:60]!r}")
        status = int(match[2])
        start = end + 4
        if status >= 200:
            break
        if status == 101:
            raise HttpError("the server wants another protocol")
    headers = _headers(rest)
    is_chunked = "transfer-encoding" in headers
    if is_chunked and (headers["transfer-encoding"].lower() != "chunked" or "content-length" in headers):
        raise HttpError("the answer's Transfer-Encoding can't be read")
    length: int | None = None
    if is_head_request or status in _NO_BODY:
        length, is_chunked = 0, False
    elif "content-length" in headers:
        length = _length(headers["content-length"])
    connection = headers.get("connection", "").lower()
    keeps_alive = "keep-alive" in connection if match[1] == b"0" else "close" not in connection
    is_delimited = length is not None or is_chunked
    return Head(status, headers, length, is_chunked, is_last=not (keeps_alive and is_delimited)), start


def _headers(text: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    lines = text.decode("latin-1")
    end, match_at = 0, _HEADER.match
    while end < len(lines):
        match = match_at(lines, end)
        if match is None:
            line = lines[end:].partition("\r\n")[0]
            raise HttpError(f"the answer has a header line that is none: {line[:60]!r}")
        end = match.end()
        name, value = match.groups()
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _length(value: str) -> int:
    lengths = {part.strip() for part in value.split(",")}  # several equal ones are one (RFC 9110, section 8.6)
    text = lengths.pop()
    if lengths or _LENGTH.fullmatch(text) is None:
        raise HttpError(f"Content-Length {value[:60]!r} is no length")
    return int(text)


class ChunkedBody:
    """Takes the chunks' frames off a body (RFC 9112, section 7.1). `is_done` once its end has come."""

    def __init__(self) -> None:
        self.is_done = False
        self._pending = bytearray()
        self._left = 0  # of the chunk that is coming, its line end included
        self._is_trailer = False

    def feed(self, data: bytes | bytearray | memoryview) -> bytes:
        """Take what has come, and give what of it is the body.

        Raises:
            HttpError: it isn't framed as chunks, or more comes behind the end.
        """
        pending, body = self._pending, bytearray()
        pending += data
        while pending:
            if self.is_done:
                raise HttpError("bytes came behind the end of the answer")
            if self._left > 2:
                piece = pending[: self._left - 2]
                body += piece
                del pending[: len(piece)]
                self._left -= len(piece)
                continue
            if self._left:
                if len(pending) < 2:
                    break
                if pending[:2] != b"\r\n":
                    raise HttpError("a chunk of the answer is longer than it says")
                del pending[:2]
                self._left = 0
                continue
            line, separator, _ = pending.partition(b"\r\n")
            if not separator:
                if len(pending) > HEAD_MAX_BYTES:
                    raise HttpError("a chunk of the answer has no size")
                break
            del pending[: len(line) + 2]
            if self._is_trailer:
                self.is_done = not line
                continue
            match = _CHUNK_SIZE.fullmatch(line)
            if match is None:
                raise HttpError(f"a chunk of the answer has the size {bytes(line[:60])!r}")
            size = int(match[1], 16)
            self._is_trailer = size == 0
            self._left = size + 2 if size else 0
        return bytes(body)
