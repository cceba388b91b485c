"""How does a real S3 gateway come to be on this machine, for the time of a test run?

One Ceph monitor, one OSD that keeps its objects in memory, and the RADOS gateway, all children of this process, on free
ports of 127.0.0.1, with everything they write in one temporary directory.

Every child has the parent-death signal, so nothing stays behind even when the test run itself is killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = {
    "ceph-mon": "ceph-mon",
    "monmaptool": "ceph-base",
    "ceph-authtool": "ceph-common",
    "ceph-osd": "ceph-osd",
    "ceph": "ceph-common",
    "radosgw": "radosgw",
    "radosgw-admin": "ceph-common",
    "setpriv": "util-linux",
}
"""The programs that are needed, and the Debian packages that have them."""

ACCESS_KEY = "test"
SECRET_KEY = "testtest"
MEMORY_BYTES = 6 * 1024**3
"""What the OSD says it can hold. It takes memory only for what is there."""

_ENTITIES = ("mon.", "client.admin", "client.rgw", "osd.0")

_CONFIG = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port}/0]
keyring = {directory}/keyring
auth allow insecure global id reclaim = true
ms bind ipv4 = true
public addr = 127.0.0.1
cluster addr = 127.0.0.1
run dir = {directory}/run
admin socket =
pid file =
log file = {directory}/log/$name.log
log to stderr = false
err to stderr = true
mon data = {directory}/mon
mon data avail crit = 1
# The monitor is alone: there is nobody to gather changes for, and a start makes about twenty.
paxos propose interval = 0.05
paxos min wait = 0.01
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 2000
osd data = {directory}/osd
osd objectstore = memstore
memstore device bytes = {memory_bytes}
osd crush initial weight = 1
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd max object name len = 256
osd max object namespace len = 64
osd check max object name len on startup = false
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{rgw_port}
rgw data = {directory}/rgw
rgw crypt require ssl = false
rgw enable usage log = false
rgw thread pool size = 64
"""


class RgwError(RuntimeError):
    """The gateway didn't start; the text has the end of each log."""


def missing_packages() -> list[str]:
    """Give the Debian packages that would have to be installed."""
    return sorted({package for program, package in PACKAGES.items() if shutil.which(program, path=_path()) is None})


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway: where it listens, and who may ask."""

    endpoint_url: str
    access_key: str
    secret_key: str
    start_seconds: float


@contextlib.contextmanager
def running_gateway(*, deadline_seconds: float = 120.0) -> Iterator[Gateway]:
    """Start a gateway in a temporary directory; stop it and remove the directory at the end.

    Args:
        deadline_seconds: for the whole start.

    Raises:
        RgwError: a step of the start failed or took too long.
    """
    started_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rgw-", ignore_cleanup_errors=True) as name:
        cluster = _Cluster(Path(name), started_at + deadline_seconds)
        try:
            endpoint_url = cluster.start()
            yield Gateway(endpoint_url, ACCESS_KEY, SECRET_KEY, time.monotonic() - started_at)
        finally:
            cluster.stop()


@dataclass
class _Cluster:
    directory: Path
    deadline: float
    children: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)

    def start(self) -> str:
        # Both ports are held until both are known, so they can't be the same one.
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            mon_port, rgw_port = one.getsockname()[1], other.getsockname()[1]
        fsid, osd_id = str(uuid.uuid4()), str(uuid.uuid4())
        for part in ("run", "log", "mon", "osd", "rgw"):
            (self.directory / part).mkdir()
        self._config.write_text(
            _CONFIG.format(
                fsid=fsid, mon_port=mon_port, rgw_port=rgw_port, directory=self.directory, memory_bytes=MEMORY_BYTES
            )
        )
        key = self._run("ceph-authtool", "--gen-print-key").strip()
        capabilities = "".join(f'    caps {service} = "allow *"\n' for service in ("mon", "osd", "mgr"))
        (self.directory / "keyring").write_text("".join(f"[{e}]\n    key = {key}\n{capabilities}" for e in _ENTITIES))
        monmap = str(self.directory / "monmap")
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}/0]", monmap)
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", str(self.directory / "keyring"))
        self._spawn("ceph-mon", "-i", "a", "-f")
        self._run("ceph", "osd", "new", osd_id)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_id)
        self._spawn("ceph-osd", "-i", "0", "-f")
        # It waits for the OSD, and makes the pools, the realm and the zone that the gateway would make otherwise.
        self._run(
            *("radosgw-admin", "-n", "client.rgw", "user", "create", "--uid=test", "--display-name=test"),
            *(f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}"),
        )
        self._spawn("radosgw", "-n", "client.rgw", "-f")
        endpoint_url = f"http://127.0.0.1:{rgw_port}"
        self._wait_for(f"answer from {endpoint_url}", lambda: _answers(endpoint_url))
        return endpoint_url

    def stop(self) -> None:
        # The OSD has nothing to save: its objects are in memory.
        for _, child in reversed(self.children):
            child.kill()
        for _, child in self.children:
            child.wait()

    @property
    def _config(self) -> Path:
        return self.directory / "ceph.conf"

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "CEPH_CONF": str(self._config), "PATH": _path()}

    def _seconds_left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def _run(self, *command: str) -> str:
        """Run one step to its end, and give what it printed."""
        try:
            done = subprocess.run(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=self._seconds_left(),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise self._error(f"{command[0]} did not end in time", error.output or b"") from error
        if done.returncode != 0:
            raise self._error(f"{' '.join(command)} ended with {done.returncode}", done.stdout)
        return done.stdout.decode()

    def _spawn(self, *command: str) -> None:
        """Start a daemon as a child in the foreground: its process id is known, and nobody has to look for it."""
        with (self.directory / "log" / f"{command[0]}.out").open("wb") as output:
            child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.children.append((command[0], child))

    def _wait_for(self, what: str, is_there: Callable[[], bool]) -> None:
        while not is_there():
            for name, child in self.children:
                if child.poll() is not None:
                    raise self._error(f"{name} ended with {child.returncode} while waiting for an {what}")
            if not self._seconds_left():
                raise self._error(f"no {what} in time")
            time.sleep(0.05)

    def _error(self, reason: str, output: bytes = b"") -> RgwError:
        parts = [reason]
        if output.strip():
            parts.append(output.decode(errors="replace").strip())
        for log in sorted((self.directory / "log").iterdir()):
            parts += [f"end of {log.name}:", *log.read_text(errors="replace").splitlines()[-15:]]
        return RgwError("\n".join(parts))


def _path() -> str:
    # The daemons are in /usr/sbin on some systems, which isn't in everybody's PATH.
    return f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"


def _answers(url: str) -> bool:
    try:
        with _OPENER.open(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True  # it says no, so it is there
    except OSError:
        return False


# A proxy of the machine's is no way to 127.0.0.1.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
