"""How do the floors ask? The least HTTP/1.1 that this benchmark's own server understands: unsigned, nothing checked."""

from __future__ import annotations

import os
import ssl
from urllib.parse import urlsplit


def address_of(endpoint: str) -> tuple[str, int, ssl.SSLContext | None]:
    parts = urlsplit(endpoint)
    context = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"]) if parts.scheme == "https" else None
    return str(parts.hostname), int(parts.port or 0), context


def request(bucket: str, key: str, host: str, start: int, stop: int) -> bytes:
    return (
        f"GET /{bucket}/{key} HTTP/1.1\r\nHost: {host}\r\nRange: bytes={start}-{stop - 1}\r\n\r\n"  # nothing else
    ).encode()


def body_of(received: bytes | memoryview) -> int:
    """Give where the body begins in a first piece of an answer; the head is not answered in two pieces here.

    Raises:
        RuntimeError: another answer than the wanted bytes.
    """
    head, found, _ = bytes(received[:1024]).partition(b"\r\n\r\n")
    if not found or not head.startswith(b"HTTP/1.1 206"):
        raise RuntimeError(f"unexpected answer: {head[:200]!r}")
    return len(head) + 4


def pieces(keys: list[str], size: int, part: int) -> list[tuple[str, int, int]]:
    """Give key, start and stop of each request."""
    return [(key, start, min(start + part, size)) for key in keys for start in range(0, size, part)]
