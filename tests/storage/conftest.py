"""What the tests of the storages share."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import pytest

from datacachalog.storage._http1 import Origin

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user of this machine may enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that only who is told of it trusts."""
    directory = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", directory / "key", "-out", directory / "cert"]
    subprocess.run(command, check=True, capture_output=True)
    return directory


@pytest.fixture
def serving() -> Callable[..., AbstractAsyncContextManager[Origin]]:
    """Start servers that say exactly what a test wants."""
    return _serving


@asynccontextmanager
async def _serving(script: Script, context: ssl.SSLContext | None = None):
    """A server that runs `script(reader, writer, n)` for its n-th connection, from 1."""
    count = 0
    served: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        served.add(asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await script(reader, writer, count)
        writer.close()
        with suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield Origin("127.0.0.1", server.sockets[0].getsockname()[1], is_tls=context is not None)
        for task in served:
            task.cancel()
        await asyncio.gather(*served)
