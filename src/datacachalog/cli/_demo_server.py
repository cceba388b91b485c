"""Where does the demo's S3 come from? moto's server, in a thread of this process, reachable from this machine only."""

from __future__ import annotations

import contextlib
import logging
import os
import urllib.request
from collections.abc import Iterator

from moto.server import ThreadedMotoServer

BUCKET = "acme-lake"


class DemoServer:
    """A running server with one bucket, which everybody on this machine may read."""

    def __init__(self, endpoint_url: str) -> None:
        self.endpoint_url = endpoint_url
        # Whatever proxy the environment names, it is no way to 127.0.0.1.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def put(self, key: str, content: bytes) -> None:
        """Write an object, as somebody else than the catalog would."""
        self._put(f"{self.endpoint_url}/{BUCKET}/{key}", content)

    def _put(self, url: str, content: bytes) -> None:
        headers = {"Content-Type": "application/octet-stream", "x-amz-acl": "public-read"}
        request = urllib.request.Request(url, content, headers, method="PUT")  # noqa: S310  # always http://127.0.0.1
        with self._opener.open(request, timeout=30):
            pass


@contextlib.contextmanager
def running_server() -> Iterator[DemoServer]:
    """Start the server on a free port of 127.0.0.1, make the bucket, and stop the server at the end."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        demo_server = DemoServer(f"http://{host}:{port}")
        demo_server.put("", b"")
        yield demo_server
    finally:
        server.stop()


@contextlib.contextmanager
def own_environment() -> Iterator[None]:
    """Take what the user has set for S3, for proxies and for catalogs out of this process for a while.

    Nothing of it is meant for the demo: a profile that doesn't exist here, a company's endpoint or proxy, or
    `DATACACHALOG_OFFLINE` would stop it.
    """
    before = dict(os.environ)
    for name in before:
        if name.startswith(("AWS_", "DATACACHALOG_")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
