"""A web server that says, byte for byte, what a test wants: for all that no well-behaved server says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def range(self) -> tuple[int, int] | None:
        """Start and stop of the range that is asked for."""
        if "range" not in self.headers:
            return None
        first, _, last = self.headers["range"].removeprefix("bytes=").partition("-")
        return int(first), int(last) + 1 if last else 10**9


@dataclass(slots=True)
class Web:
    """Where the server is, and what it was asked."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    def headers(self, name: str) -> list[str | None]:
        return [asked.headers.get(name) for asked in self.asked]


def http_date(moment: datetime) -> str:
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def reply(status: int = 200, body: bytes = b"", **headers: str) -> bytes:
    """An answer; `Content_Length=""` leaves that out, and with it the end."""
    named = {"Content-Length": str(len(body)), "Date": http_date(datetime.now(UTC))}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} x", *(f"{name}: {value}" for name, value in named.items() if value), "", ""]
    return "\r\n".join(lines).encode() + body


def part_of(data: bytes, asked: Asked, **headers: str) -> bytes:
    """What a server with ranges answers."""
    if asked.method == "HEAD":
        return reply(200, b"", **({"Content_Length": str(len(data))} | headers))
    if asked.range is None:
        return reply(200, data, **headers)
    start, stop = asked.range[0], min(asked.range[1], len(data))
    if start >= len(data):
        return reply(416, Content_Range=f"bytes */{len(data)}")
    return reply(206, data[start:stop], Content_Range=f"bytes {start}-{stop - 1}/{len(data)}", **headers)


def chunked(*pieces: bytes, is_whole: bool = True) -> bytes:
    """A body in chunks."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return body + (b"0\r\n\r\n" if is_whole else b"")


def days_ago(days: float) -> str:
    return http_date(datetime.now(UTC) - timedelta(days=days))


@asynccontextmanager
async def web_server(
    answer: Callable[[Asked], bytes], *, ends: bool = False, context: ssl.SSLContext | None = None
) -> AsyncIterator[Web]:
    """Serve `answer(asked)`; `ends`: end the connection after each answer."""
    web = Web()
    tasks: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.strip().split("\r\n")
                method, target, _ = first.split(" ")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                web.asked.append(Asked(method, target, headers))
                writer.write(answer(web.asked[-1]))
                await writer.drain()
                if ends:
                    break
        writer.close()
        with suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        web.url = f"http{'s' if context else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield web
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
