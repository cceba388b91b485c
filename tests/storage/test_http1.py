"""HTTP/1.1 answers, taken apart without a socket."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog.storage._http1 import HEAD_MAX_BYTES, ChunkedBody, HttpError, Origin, parse_head


def parsed(text: str, *, is_head_request: bool = False):
    found = parse_head(text.encode("latin-1"), is_head_request=is_head_request)
    assert found is not None
    return found[0]


def test_head_is_read():
    """Status, headers by lower-case name, length, and where the body begins."""
    data = b'HTTP/1.1 206 Partial Content\r\nETag: "x"\r\nContent-Length: 3\r\nX-Two:  a \r\nx-two: b\r\n\r\nabc'
    head, begin = parse_head(data, is_head_request=False)
    assert (206, 3, False, False) == (head.status, head.length, head.is_chunked, head.is_last)
    assert ({"etag": '"x"', "content-length": "3", "x-two": "a, b"}, b"abc") == (head.headers, data[begin:])


@given(st.integers(0, 53))
def test_head_that_is_still_coming_is_none_yet(cut):
    """Of any beginning of a head nothing is said."""
    assert (
        parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 12345678901234567\r\n\r\n"[:cut], is_head_request=False) is None
    )


def test_interim_answers_are_passed_over():
    """1xx answers come before the one that counts (RFC 9110, section 15.2)."""
    interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    head = parsed(f"{interim}HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    assert (200, {"content-length": "0"}) == (head.status, head.headers)


@pytest.mark.parametrize(
    ("text", "is_head_request"),
    [
        ("304 Not Modified\r\nContent-Length: 9", False),
        ("204 No Content", False),
        ("200 OK\r\nContent-Length: 9", True),
    ],
)
def test_answers_without_a_body_have_none(text, is_head_request):
    """304, 204 and the answer to a HEAD end with their head, whatever length they name (RFC 9112, section 6.3)."""
    assert 0 == parsed(f"HTTP/1.1 {text}\r\n\r\n", is_head_request=is_head_request).length


@pytest.mark.parametrize(
    ("text", "is_last"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1", False),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: Close", True),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1", True),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive", False),
        ("HTTP/1.1 200 OK", True),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", False),
    ],
)
def test_it_is_known_whether_the_connection_goes_on(text, is_last):
    """RFC 9112, section 9.3; a body that only its end delimits takes the connection along."""
    assert is_last == parsed(f"{text}\r\n\r\n").is_last


@pytest.mark.parametrize(
    "text",
    [
        "HTTP/2 200 OK",
        "<html>",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 200OK",
        "HTTP/1.1 101 Switching Protocols",
        "HTTP/1.1 200 OK\r\nContent-Length: -1",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 2",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nContent-Length: 1x",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip",
        "HTTP/1.1 200 OK\r\nA: b\r\n folded",
        "HTTP/1.1 200 OK\r\nA : b",
        "HTTP/1.1 200 OK\r\nno colon",
        "HTTP/1.1 200 OK\r\nA: b\nC: d",
        "HTTP/1.1 200 OK\r\nA: \0",
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(text):
    """An answer that isn't exactly one is none: the next one's bytes must never be taken for this one's."""
    with pytest.raises(HttpError):
        parse_head(f"{text}\r\n\r\n".encode(), is_head_request=False)


def test_equal_lengths_are_one():
    """A length that is said twice alike is that length (RFC 9110, section 8.6)."""
    assert 5 == parsed("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n").length


def test_head_without_an_end_is_refused():
    """A head may not fill the memory."""
    with pytest.raises(HttpError, match="longer"):
        parse_head(b"HTTP/1.1 200 OK\r\nA: " + b"x" * HEAD_MAX_BYTES, is_head_request=False)


@pytest.mark.parametrize("line", ["x:" + " " * 60_000 + "\0", "x" * 60_000, "x: " + "a " * 30_000 + "\0"])
def test_a_line_that_is_none_takes_one_look(line):
    """However long it is: it is read on the event loop, and by a pattern that could look at it for minutes."""
    with pytest.raises(HttpError, match="none"):
        parse_head(f"HTTP/1.1 200 OK\r\n{line}\r\n\r\n".encode(), is_head_request=False)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_an_error(data):
    """Whatever comes, nothing else is raised."""
    with contextlib.suppress(HttpError):
        parse_head(data + b"\r\n\r\n", is_head_request=False)


# -- chunks


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_chunks_are_joined_however_they_come(chunks, data):
    """The body is the chunks' bytes, cut by the network in any places."""
    framed = b"".join(b"%x;name=value\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: x\r\n\r\n"
    body, got = ChunkedBody(), b""
    while framed:
        cut = data.draw(st.integers(1, len(framed)))
        got += body.feed(framed[:cut])
        framed = framed[cut:]
    assert (b"".join(chunks), True) == (got, body.is_done)


@pytest.mark.parametrize(
    "framed", [b"x\r\nabc", b"3\r\nabcd\r\n", b"-1\r\n", b"\r\n", b"0\r\n\r\nmore", b"3 \r\r\nabc"]
)
def test_bytes_that_are_no_chunks_are_refused(framed):
    """A frame that isn't exact may hide another answer."""
    with pytest.raises(HttpError):
        ChunkedBody().feed(framed)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://127.0.0.1:9000/b/", Origin("127.0.0.1", 9000, is_tls=False)),
        ("https://bucket.s3.amazonaws.com/", Origin("bucket.s3.amazonaws.com", 443, is_tls=True)),
        ("http://[::1]/", Origin("::1", 80, is_tls=False)),
    ],
)
def test_origin_of_a_url(url, origin):
    """Host and port, the scheme's own one where none is named."""
    assert origin == Origin.of_url(url)


@pytest.mark.parametrize("url", ["ftp://host/", "nothing", "http://"])
def test_other_urls_have_no_origin(url):
    """Only http and https are spoken here."""
    with pytest.raises(ValueError, match="URL"):
        Origin.of_url(url)
