"""Is every fault of the server seen at the socket, by the request it is for, and by no other?"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

from datacachalog.testing import (
    Cut,
    FaultServer,
    IgnoreRange,
    Latency,
    Meanwhile,
    NoEtag,
    Reset,
    Slow,
    Stall,
    Status,
    Swap,
    Throttled,
    WeakEtag,
    WrongBytes,
    WrongChecksum,
    WrongContentRange,
)

_DATA = bytes(range(250)) * 400  # more than goes out with the head


@pytest.fixture
def server(server):
    server.put("bucket", "k.bin", _DATA)
    server.put("bucket", "other", b"other")
    return server


class _Client:
    """A client that hides nothing: one connection, and what was received on it."""

    def __init__(self, server):
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        self.received = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def send(self, line="GET /bucket/k.bin", headers=(), body=b""):
        lines = [f"{line} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def receive(self):
        """Take what there is; False at the end of the connection."""
        data = self._socket.recv(65536)
        self.received += data
        return bool(data)

    def answer(self):
        """The next whole answer: status, headers, body. `EOFError` if the connection ends before."""
        while (end := self.received.find(b"\r\n\r\n")) < 0:
            if not self.receive():
                raise EOFError
        lines = self.received[:end].decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        stop = end + 4 + int(headers.get("content-length", 0))
        while len(self.received) < stop:
            if not self.receive():
                raise EOFError
        body, self.received = self.received[end + 4 : stop], self.received[stop:]
        return int(lines[0].split()[1]), headers, body

    def body_until_the_end(self):
        """The bytes of the body until the connection ends, and how: `FIN` or `RST`."""
        end = "FIN"
        try:
            while self.receive():
                pass
        except ConnectionResetError:
            end = "RST"
        return self.received.partition(b"\r\n\r\n")[2], end


def _ask(server, *arguments):
    with _Client(server) as client:
        client.send(*arguments)
        return client.answer()


# -- the connection


@pytest.mark.parametrize("after_bytes", [0, 1, 70_000, 99_999])
def test_cut_ends_the_connection_in_order_after_so_many_bytes(server, after_bytes):
    """The head announces all bytes, fewer come, and then FIN."""
    server.add_faults(Cut(after_bytes, uri="*/k.bin"))
    with _Client(server) as client:
        client.send()
        assert (_DATA[:after_bytes], "FIN") == client.body_until_the_end()


def test_reset_breaks_the_connection(server):
    """Some bytes come, at most so many, and then RST."""
    server.add_faults(Reset(70_000, uri="*/k.bin"))
    with _Client(server) as client:
        client.send()
        body, end = client.body_until_the_end()
    assert (True, "RST") == (_DATA[:70_000].startswith(body), end)


@pytest.mark.parametrize(("fault", "end"), [(Cut(), "FIN"), (Reset(), "RST")])
def test_connection_may_end_without_an_answer(server, fault, end):
    """Not even a status comes."""
    server.add_faults(fault)
    with _Client(server) as client:
        client.send()
        assert ((b"", end), b"") == (client.body_until_the_end(), client.received)


def test_write_whose_answer_is_lost_was_carried_out(server):
    """The writer doesn't know it, but the object is there."""
    server.add_faults(Cut(method="PUT"))
    with _Client(server) as client:
        client.send("PUT /bucket/new", (), b"new")
        client.body_until_the_end()
    assert server.get("bucket", "new") == b"new"


@pytest.mark.parametrize("after_bytes", [None, 0, 70_000])
def test_stall_lasts_until_it_is_released(server, after_bytes):
    """Exactly so many bytes come, and the rest after the release."""
    server.add_faults(Stall(after_bytes))
    with _Client(server) as client:
        client.send()
        server.wait_for(lambda requests: bool(requests) and requests[0].is_stalled)
        client._socket.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            while client.receive():
                pass
        stalled = client.received.partition(b"\r\n\r\n")[2]
        server.release()
        client._socket.settimeout(10)
        assert (_DATA[: after_bytes or 0], _DATA) == (stalled, client.answer()[2])


def test_stalled_answer_ends_when_the_client_gives_up(server):
    """The server doesn't hold what nobody waits for."""
    server.add_faults(Stall(100))
    with _Client(server) as client:
        client.send()
        server.wait_for(lambda requests: bool(requests) and requests[0].is_stalled)
    (request,) = server.wait_for(lambda requests: requests[0].finished_at is not None)
    assert (100, False) == (request.bytes_sent, request.is_complete)


def test_closing_ends_what_is_stalled_or_slow():
    """A test's end doesn't wait for its faults."""
    with FaultServer(faults=[Stall(nth=1), Latency(3600, nth=2), Slow(1, nth=3)]) as server:
        server.put("bucket", "k.bin", _DATA)
        clients = [_Client(server) for _ in range(3)]
        for client in clients:
            client.send()
        server.wait_for(lambda requests: len(requests) == 3)
        started_at = time.monotonic()
    seconds = time.monotonic() - started_at
    for client in clients:
        client._socket.close()
    assert seconds < 5


def test_latency_delays_the_first_byte(server):
    """The answer begins no earlier."""
    server.add_faults(Latency(0.1))
    started_at = time.monotonic()
    _ask(server)
    assert time.monotonic() - started_at >= 0.1


def test_slow_answer_has_its_rate(server):
    """100 000 bytes at 500 000 bytes a second take a fifth of a second."""
    server.add_faults(Slow(500_000))
    started_at = time.monotonic()
    body = _ask(server)[2]
    assert (_DATA, True) == (body, 0.19 <= time.monotonic() - started_at < 1)


def test_refusing_server_can_not_be_connected_to(server):
    """Connections that are open end, new ones are refused, and after `accept` all is as before, on the same port."""
    with _Client(server) as client:
        client.send()
        client.answer()
        server.refuse()
        ended = not client.receive()
    with pytest.raises(ConnectionRefusedError):
        _ask(server)
    server.accept()
    assert (True, _DATA) == (ended, _ask(server)[2])


def test_fault_may_switch_the_server_off(server):
    """An action may refuse connections, from within the answer that it ends."""
    server.add_faults(Meanwhile(server.refuse, after_bytes=1000))
    with _Client(server) as client:
        client.send()
        client.body_until_the_end()
    with pytest.raises(ConnectionRefusedError):
        _ask(server)


# -- the object


def test_swap_makes_the_new_version_current_within_the_answer(server):
    """This answer stays the old version's, and the next range of it is 412."""
    server.add_faults(Swap(b"new", after_bytes=1000))
    _, headers, body = _ask(server, "GET /bucket/k.bin", ["Range: bytes=0-1999"])
    conditions = ["Range: bytes=2000-3999", f"If-Match: {headers['etag']}"]
    status, _, _ = _ask(server, "GET /bucket/k.bin", conditions)
    assert (_DATA[:2000], 412, b"new") == (body, status, _ask(server)[2])


def test_swap_comes_after_exactly_so_many_bytes(server):
    """While the answer is stalled before them, the old version is current; it changes with the bytes."""
    server.add_faults(Stall(70_000), Swap(b"new", after_bytes=80_000))
    with _Client(server) as client:
        client.send()
        server.wait_for(lambda requests: bool(requests) and requests[0].is_stalled)
        before = server.get("bucket", "k.bin")
        server.release()
        client.answer()
    assert (_DATA, b"new") == (before, server.get("bucket", "k.bin"))


def test_swap_may_delete(server):
    """The object is gone within the answer."""
    server.add_faults(Swap(None))
    _ask(server)
    assert _ask(server)[0] == 404


def test_meanwhile_calls_the_action(server):
    """Anything may happen within an answer."""
    happened = threading.Event()
    server.add_faults(Meanwhile(happened.set, after_bytes=99_000))
    _ask(server)
    assert happened.is_set()


def test_meanwhile_of_an_answer_without_a_body_comes_before_it(server):
    """Whoever has the head of such an answer has all of it and goes on; it would be a race between the two."""
    happened = threading.Event()

    def act() -> None:
        time.sleep(0.2)
        happened.set()

    server.add_faults(Meanwhile(act, method="HEAD"))
    with _Client(server) as client:
        client.send("HEAD /bucket/k.bin")
        assert client.receive()
        assert happened.is_set()


# -- the answer


@pytest.mark.parametrize(
    ("fault", "code", "retry_after"),
    [
        (Status(500), "InternalError", None),
        (Status(503), "SlowDown", None),
        (Status(503, retry_after_seconds=7), "SlowDown", "7"),
        (Status(403), "AccessDenied", None),
        (Status(404), "NoSuchKey", None),
        (Status(429), "TooManyRequests", None),
        (Status(400, code="ExpiredToken"), "ExpiredToken", None),
    ],
)
def test_status_is_answered_instead(server, fault, code, retry_after):
    """With S3's XML, and `Retry-After` where it is scripted."""
    server.add_faults(fault)
    status, headers, body = _ask(server)
    found = re.search(rb"<Code>(.*)</Code>", body)
    assert (fault.status, code, retry_after) == (status, found[1].decode(), headers.get("retry-after"))


def test_write_that_is_refused_is_not_carried_out(server):
    """A status goes before the request."""
    server.add_faults(Status(503, method="PUT"))
    status, _, _ = _ask(server, "PUT /bucket/new", (), b"new")
    assert (503, None) == (status, server.get("bucket", "new"))


def test_range_may_be_ignored(server):
    """200 and the whole object."""
    server.add_faults(IgnoreRange())
    status, headers, body = _ask(server, "GET /bucket/k.bin", ["Range: bytes=10-19"])
    assert (200, None, _DATA) == (status, headers.get("content-range"), body)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [(WrongContentRange(), "bytes 11-20/100000"), (WrongContentRange("bytes 0-9/*"), "bytes 0-9/*")],
)
def test_content_range_may_be_wrong(server, fault, expected):
    """The bytes are those asked for, the header says otherwise."""
    server.add_faults(fault)
    _, headers, body = _ask(server, "GET /bucket/k.bin", ["Range: bytes=10-19"])
    assert (expected, _DATA[10:20]) == (headers["content-range"], body)


@pytest.mark.parametrize("at", [0, 65_536, 99_999])
def test_bytes_may_be_wrong(server, at):
    """The right length, one wrong byte; the object itself is as it was."""
    server.add_faults(WrongBytes(at))
    spoilt, after = _ask(server)[2], _ask(server)[2]
    assert (100_000, [at], _DATA) == (len(spoilt), [i for i, b in enumerate(spoilt) if b != _DATA[i]], after)


def test_checksum_may_be_wrong(server):
    """Well-formed, and not the object's."""
    server.add_faults(WrongChecksum())
    wrong, right = (_ask(server, "GET /bucket/k.bin", ["x-amz-checksum-mode: ENABLED"])[1] for _ in range(2))
    name = "x-amz-checksum-crc64nvme"
    assert (len(right[name]), True) == (len(wrong[name]), right[name] != wrong[name])


def test_etag_may_be_missing(server):
    """As of stores that have none."""
    server.add_faults(NoEtag())
    assert "etag" not in _ask(server)[1]


def test_etag_may_be_weak(server):
    """The same one, marked."""
    server.add_faults(WeakEtag())
    weak, strong = _ask(server)[1]["etag"], _ask(server)[1]["etag"]
    assert f"W/{strong}" == weak


# -- the script


def test_fault_meets_the_nth_request_of_its_object_and_method(server):
    """Others are neither met nor counted."""
    server.add_faults(Status(500, uri="s3://bucket/k.*", nth=2, times=2))
    lines = ["GET /bucket/k.bin", "GET /bucket/other", "HEAD /bucket/k.bin", *["GET /bucket/k.bin"] * 3]
    statuses = []
    for line in lines:
        with _Client(server) as client:
            client.send(line, ["Connection: close"])
            while client.receive():
                pass
            statuses.append(int(client.received.split()[1]))
    assert [200, 200, 200, 500, 500, 200] == statuses


@pytest.mark.parametrize(
    ("method", "line"),
    [
        ("LIST", "GET /bucket?list-type=2&prefix=k"),
        ("ListObjectsV2", "GET /bucket?list-type=2&prefix=k"),
        ("GET", "GET /bucket?list-type=2&prefix=k"),
        ("GetObject", "GET /bucket/k.bin"),
        ("CreateMultipartUpload", "POST /bucket/k.bin?uploads"),
        ("DELETE", "DELETE /bucket/k.bin"),
        (None, "PUT /bucket/k.bin"),
    ],
)
def test_fault_is_for_a_method_or_an_operation(server, method, line):
    """HTTP's names and S3's; a listing has the URI of its prefix."""
    server.add_faults(Status(500, uri="s3://bucket/k*", method=method))
    assert _ask(server, line)[0] == 500


def test_faults_that_meet_one_request_act_together(server):
    """A weak ETag, a wrong byte and a cut."""
    server.add_faults(WeakEtag(), WrongBytes(0), Cut(2))
    with _Client(server) as client:
        client.send()
        body, end = client.body_until_the_end()
    assert (b"\xff\x01", "FIN", True) == (body, end, b"ETag: W/" in client.received)


def test_cleared_faults_meet_nobody(server):
    """A test can end the trouble."""
    server.add_faults(Status(500, times=None))
    server.clear_faults()
    assert _ask(server)[0] == 200


def test_fault_of_a_storage_is_refused(server):
    """What a server can't play is an error, and not silence."""
    with pytest.raises(TypeError, match="Throttled is a fault of a FaultyStorage"):
        server.add_faults(Throttled())


# -- the record


def test_request_is_recorded(server):
    """Method, operation, object, range, status, bytes and headers, without the signature."""
    _ask(server, "GET /bucket/k.bin?x-id=GetObject", ["Range: bytes=0-9", "Authorization: secret", "If-Match: *"])
    (request,) = server.wait_for(lambda requests: requests[-1].is_complete)
    assert ("GET", "GetObject", "bucket", "k.bin", "bytes=0-9", 206, 10, "*", False) == (
        request.method, request.operation, request.bucket, request.key, request.range, request.status,
        request.bytes_sent, request.headers["if-match"], "authorization" in request.headers,
    )  # fmt: skip


def test_record_tells_what_was_met(server):
    """Which faults, on which connection, and that the answer wasn't complete."""
    fault = Cut(10)
    server.add_faults(fault)
    with _Client(server) as client:
        client.send()
        client.body_until_the_end()
    (request,) = server.wait_for(lambda requests: requests[0].finished_at is not None)
    assert ((fault,), 1, 10, False, True) == (
        request.faults, request.connection, request.bytes_sent, request.is_complete,
        request.started_at <= request.finished_at <= time.monotonic(),
    )  # fmt: skip


def test_connection_is_kept_for_the_next_request(server):
    """Several requests on one connection, errors among them."""
    statuses = []
    with _Client(server) as client:
        for line in (
            "GET /bucket/k.bin",
            "GET /bucket/no",
            "PUT /bucket/new",
            "DELETE /bucket/new",
            "GET /bucket/k.bin",
        ):
            client.send(line)
            statuses.append(client.answer()[0])
    assert ([200, 404, 200, 204, 200], 1) == (statuses, server.connections_opened)


def test_most_requests_at_one_time_are_known(server):
    """The high-water mark, whatever comes and goes."""
    server.add_faults(Stall(times=None))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(_Client(server)) for _ in range(5)]
        for client in clients:
            client.send()
        server.wait_for(lambda requests: [True] * 5 == [request.is_stalled for request in requests])
        server.release()
        for client in clients:
            client.answer()
    server.clear_faults()
    _ask(server)
    assert server.max_concurrent_requests == 5


def test_cleared_record_is_empty(server):
    """A test can look at the requests of one step only."""
    _ask(server)
    server.wait_for(lambda requests: requests[-1].is_complete)
    server.clear_requests()
    assert ([], 0) == (server.requests, server.max_concurrent_requests)


def test_waiting_for_what_does_not_come_ends(server):
    """With `TimeoutError`, and the requests in its text."""
    with pytest.raises(TimeoutError, match="the requests were"):
        server.wait_for(lambda requests: bool(requests), timeout_seconds=0.01)


# -- the server


def test_hundreds_of_connections_at_once(server):
    """All are served, and kept."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(_Client(server)) for _ in range(300)]
        for _ in range(2):
            for client in clients:
                client.send("GET /bucket/other")
            assert {b"other"} == {client.answer()[2] for client in clients}


def test_threads_of_a_client_do_not_mix(server):
    """Each request gets its own bytes."""
    for number in range(8):
        server.put("bucket", f"{number}", bytes([number]) * 100_000)
    with ThreadPoolExecutor(8) as pool:
        bodies = list(pool.map(lambda n: _ask(server, f"GET /bucket/{n % 8}")[2], range(64)))
    assert [bytes([n % 8]) * 100_000 for n in range(64)] == bodies


def test_other_process_can_use_it(server):
    """It is a server on a socket like any other."""
    script = "import sys, urllib.request as r; sys.stdout.buffer.write(r.urlopen(sys.argv[1]).read())"
    url = f"{server.endpoint_url}/bucket/k.bin"
    finished = subprocess.run([sys.executable, "-c", script, url], capture_output=True, check=True, timeout=30)
    assert _DATA == finished.stdout


async def test_async_server_does_not_block_the_loop():
    """`async with` starts and ends it in worker threads; the watch for blocking calls of these tests is silent."""
    async with FaultServer() as server:
        server.put("bucket", "k.bin", b"data")
        async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
            await stream.send(b"GET /bucket/k.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            received = b"".join([chunk async for chunk in stream])
    assert received.endswith(b"\r\n\r\ndata")


@pytest.mark.parametrize("garbage", [b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/2\r\n\r\n", b"x" * 70_000, b"GET / HT"])
def test_garbage_ends_its_connection_only(server, garbage):
    """Whoever doesn't speak HTTP is let go; the others are served."""
    with _Client(server) as client:
        client._socket.sendall(garbage)
        client._socket.shutdown(socket.SHUT_WR)
        client.body_until_the_end()
    assert _ask(server)[0] == 200


def test_server_can_not_be_started_twice(server):
    """It has one life, and says so."""
    with pytest.raises(RuntimeError, match="started once"):
        server.__enter__()


def test_server_that_was_not_started_says_so():
    """There is no port yet."""
    with pytest.raises(RuntimeError, match="with statement"):
        FaultServer().endpoint_url  # noqa: B018  # reading it is what is tested


def test_closing_twice_is_no_error():
    """The second time nothing is left to do."""
    with FaultServer() as server:
        server.close()
    assert server.connections_opened == 0
