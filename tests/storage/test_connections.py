"""Connections of our own, short and long answers alike, against real sockets that say exactly what a test wants."""

from __future__ import annotations

import asyncio
import selectors
import ssl
import time
from collections.abc import Awaitable, Callable

import anyio
import anyio.to_thread
import pytest

from datacachalog.storage._bulk import BulkAnswer, BulkConnections
from datacachalog.storage._connections import Connections
from datacachalog.storage._http1 import HttpError, Origin
from datacachalog.storage._multiplexed import way_to

REQUEST = b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


def saying(*answers: bytes) -> Script:
    """Answer every request on every connection with these bytes, each sent by itself."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            for piece in answers:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)

    return script


class Short:
    """Answers that come on the event loop."""

    def __init__(self, tls, read_timeout_seconds: float) -> None:
        self.connections = Connections(connect_timeout_seconds=5, read_timeout_seconds=read_timeout_seconds, tls=tls)

    async def get(self, origin: Origin) -> bytes:
        answer = await self.connections.send(origin, REQUEST, is_head_request=False)
        try:
            return await answer.read_all(10**9)
        finally:
            answer.close()


class Long:
    """Answers that come in worker threads, asked for from the event loop."""

    def __init__(self, tls, read_timeout_seconds: float) -> None:
        self.tls = tls
        self.connections = BulkConnections(
            connect_timeout_seconds=5, read_timeout_seconds=read_timeout_seconds, at_once=4, tls=tls
        )

    async def get(self, origin: Origin) -> bytes:
        answer = await self.connections.send(origin, REQUEST)
        try:
            return await answer.read_all(10**9)
        finally:
            answer.close()


class Multiplexed(Long):
    """Answers that a worker thread asks for and takes whenever something has come."""

    most_bytes = 10**9

    async def get(self, origin: Origin) -> bytes:
        context = await self.tls() if origin.is_tls else None
        way = await way_to(self.connections, origin, context)

        def in_thread() -> BulkAnswer:
            exchange = way.begin(REQUEST, self.most_bytes)
            while (answer := exchange.advance()) is None:
                with selectors.DefaultSelector() as selector:
                    selector.register(exchange.fileno(), exchange.waits_for)
                    if not selector.select(exchange.due - time.monotonic()):
                        exchange.give_up()
            return answer

        answer = await anyio.to_thread.run_sync(in_thread)
        if answer.content is not None:
            return b"".join(answer.content)
        try:
            return await answer.read_all(10**9)
        finally:
            answer.close()


class HandedOver(Multiplexed):
    """Answers whose beginning such a thread has taken, and which turned out to be too long for it."""

    most_bytes = 4


@pytest.fixture(params=[Short, Long, Multiplexed, HandedOver])
def make(request):
    """One of the ways to get an answer; its connections are closed at the end."""
    made = []

    async def no_tls() -> ssl.SSLContext:
        raise AssertionError

    def make(tls=no_tls, read_timeout_seconds: float = 5):
        made.append(request.param(tls, read_timeout_seconds))
        return made[-1]

    yield make
    for way in made:
        way.connections.close()


@pytest.mark.parametrize(
    "answers",
    [
        [OK],
        [OK[:3], OK[3:20], OK[20:-2], OK[-2:]],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nl", b"lo\r\n0\r\n\r\n"],
        [b"HTTP/1.1 100 Continue\r\n\r\n", OK],
    ],
    ids=["at once", "in pieces", "chunked", "after an interim answer"],
)
async def test_an_answer_comes_whole_and_its_connection_is_used_again(make, answers, serving):
    """However the network cuts it; one connection serves one request after the other."""
    connections = 0

    async def script(reader, writer, number):
        nonlocal connections
        connections = number
        await saying(*answers)(reader, writer, number)

    async with serving(script) as origin:
        way = make()
        assert [b"hello"] * 3 == [await way.get(origin) for _ in range(3)]
    assert 1 == connections


async def test_a_kept_connection_that_was_closed_meanwhile_is_no_failure(make, serving):
    """The request goes over a new one."""

    async def script(reader, writer, _):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)  # and closes, without having said so

    async with serving(script) as origin:
        way = make()
        assert [b"hello"] * 3 == [await way.get(origin) for _ in range(3)]


@pytest.mark.parametrize(
    "surplus",
    [b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", OK.replace(b"hello", b"EVIL!")],
    ids=["goodbye", "nobody's answer"],
)
async def test_g1_what_comes_while_nothing_is_asked_is_no_answer(make, serving, surplus):
    """A load balancer says goodbye, or something is wrong with it: the next request goes over a new connection."""
    has_come = asyncio.Event()

    async def script(reader, writer, number):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(OK)
            await writer.drain()
            if number == 1:
                await asyncio.sleep(0.05)
                writer.write(surplus)
                await writer.drain()
                has_come.set()

    async with serving(script) as origin:
        way = make()
        first = await way.get(origin)
        await has_come.wait()
        await asyncio.sleep(0.05)
        assert [b"hello"] * 2 == [first, await way.get(origin)]


async def test_a_new_connection_that_is_closed_without_an_answer_is_a_failure(make, serving):
    """It isn't tried for ever."""

    async def script(reader, writer, _):
        await reader.readuntil(b"\r\n\r\n")

    async with serving(script) as origin:
        with pytest.raises(ConnectionError):
            await make().get(origin)


async def test_an_answer_that_ends_too_early_is_a_failure(make, serving):
    """A body shorter than it said is never taken for a whole one."""

    async def script(reader, writer, _):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK[:-2])

    async with serving(script) as origin:
        with pytest.raises(ConnectionError, match="whole"):
            await make().get(origin)


async def test_connection_with_more_bytes_than_announced_is_not_used_again(make, serving):
    """What comes behind an answer is never taken for the next one."""
    connections = 0

    async def script(reader, writer, number):
        nonlocal connections
        connections = number
        await saying(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nEVIL!")(reader, writer, number)

    got = []
    async with serving(script) as origin:
        way = make()
        for _ in range(2):
            try:
                got.append(await way.get(origin))
            except HttpError:
                got.append(b"hello")
    assert ([b"hello"] * 2, 2) == (got, connections)


@pytest.mark.parametrize("sent", [b"", OK[:10], OK[:-1]], ids=["nothing", "half a head", "half a body"])
async def test_silence_ends_after_the_read_timeout(make, sent, serving):
    """A server that says nothing more is waited for so long, and not longer."""

    async def script(reader, writer, _):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        await writer.drain()
        await asyncio.sleep(30)

    async with serving(script) as origin:
        with anyio.fail_after(10), pytest.raises(TimeoutError, match=r"no byte received for 0.2 s"):
            await make(read_timeout_seconds=0.2).get(origin)


async def test_refusal_is_told(make, serving):
    """Nobody listening is an OSError, at once."""
    async with serving(saying(OK)) as origin:
        pass
    with pytest.raises(OSError):
        await make().get(origin)


@pytest.mark.parametrize("sent", [b"", OK[:-1]], ids=["before the answer", "in the body"])
@pytest.mark.parametrize("kind", [Short, Long])
async def test_g10_cancellation_closes_the_connection_at_once(kind, sent, serving):
    """Whoever waits is cancelled promptly, also where a thread waits for the kernel, and the server sees the end."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def script(reader, writer, _):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        await writer.drain()
        began.set()
        await reader.read()
        ended.set()

    async def no_tls() -> ssl.SSLContext:
        raise AssertionError

    async with serving(script) as origin:
        way = kind(no_tls, 30)
        with anyio.fail_after(5):
            task = asyncio.create_task(way.get(origin))
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await ended.wait()


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_tls_is_for_servers_that_are_trusted(make, certificate, is_trusted, serving):
    """An answer over TLS comes like any other; a server that can't prove who it is gets no request."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate / "cert", certificate / "key")
    client_context = ssl.create_default_context(cafile=str(certificate / "cert") if is_trusted else None)
    big = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000
    asked = []

    async def script(reader, writer, number):
        asked.append(number)
        await saying(big)(reader, writer, number)

    async def tls() -> ssl.SSLContext:
        return client_context

    async with serving(script, server_context) as origin:
        way = make(tls)
        if is_trusted:
            assert [b"x" * 1_000_000] * 2 == [await way.get(origin) for _ in range(2)]
            way.connections.close()  # else the server waits for the end of TLS
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                await way.get(origin)
            assert [] == asked


async def test_what_came_over_tls_before_a_break_is_given(certificate, serving):
    """It is gathered to some extent before it is given, and not lost: a download goes on behind it."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate / "cert", certificate / "key")

    async def script(reader, writer, _):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 400_000)
        await writer.drain()
        writer.close()

    async def tls() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(certificate / "cert"))

    received = bytearray()
    async with serving(script, server_context) as origin:
        connections = Long(tls, 5).connections
        answer = await connections.send(origin, REQUEST)
        with pytest.raises(OSError, match=r"whole|EOF"):
            await answer.pump(received.extend)
        answer.close()
    assert b"x" * 400_000 == received
