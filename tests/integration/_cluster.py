"""A Dask cluster on this machine: a scheduler and workers, each a process; directories of caches stand for hosts."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from distributed import Client

from ..conftest import CREDENTIALS

_SECONDS = 60
_QUIET = {
    "DASK_DISTRIBUTED__DIAGNOSTICS__NVML": "false",
    "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "warning",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "10s",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    **CREDENTIALS,
}
"""What the processes are told: no look for graphics cards, only what goes wrong in their logs, and whose objects."""


@dataclass
class Cluster:
    """A scheduler, its workers, and a client. Whoever makes a worker says which host it stands for."""

    directory: Path
    scheduler_file: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    client: Client = None

    def start(self, program: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start one of Dask's programs."""
        log = (self.directory / f"{program}-{len(self.processes)}.log").open("wb")
        command = [sys.executable, "-m", f"distributed.cli.dask_{program}", *arguments, "--no-dashboard"]
        others = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DATACACHALOG_"))}
        env = others | _QUIET | environment
        with log:
            process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT, cwd=self.directory)
        self.processes.append(process)
        return process

    def cache_dir(self, host: str) -> Path:
        """The cache of a host, whose name every host of the cluster has for itself."""
        return self.directory / host

    def add_workers(self, *hosts: str, is_waited_for: bool = True) -> list[subprocess.Popen[bytes]]:
        """Start a worker on each of these hosts, and wait until the scheduler has them."""
        self.hosts += hosts
        before = 0 if self.client is None else len(self.client.nthreads())
        workers = [
            self.start(
                "worker", "--scheduler-file", str(self.scheduler_file), "--no-nanny", "--nthreads", "1",
                "--host", "127.0.0.1", "--local-directory", str(self.directory / "scratch"),
                DATACACHALOG_CACHE_DIR=str(self.cache_dir(host)),
            )
            for host in hosts
        ]  # fmt: skip
        if is_waited_for:
            self.client.wait_for_workers(before + len(hosts), timeout=_SECONDS)
        return workers

    def kill(self, address: str) -> None:
        """Kill the process of a worker, at once (SIGKILL)."""
        port = int(address.rpartition(":")[2])
        for process in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                for connection in psutil.Process(process.pid).net_connections("tcp"):
                    if connection.status == "LISTEN" and connection.laddr.port == port:
                        process.kill()
                        process.wait()
                        return
        pytest.fail(f"no worker listens on {address}")

    def close(self) -> None:
        """End the client and all processes."""
        if self.client is not None:
            self.client.close()
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()

    def logs(self) -> str:
        """What the processes have written."""
        texts = [f"--- {path.name}\n{path.read_text(errors='replace')}" for path in self.directory.glob("*.log")]
        return "\n".join(texts)


@contextlib.contextmanager
def running_cluster(directory: Path, *hosts: str) -> Iterator[Cluster]:
    """A cluster with a worker for each of these hosts (a name given twice is a host of two workers)."""
    cluster = Cluster(directory, directory / "scheduler.json")
    try:
        cluster.start(
            "scheduler", "--scheduler-file", str(cluster.scheduler_file), "--host", "127.0.0.1", "--port", "0"
        )
        cluster.add_workers(*hosts, is_waited_for=False)
        deadline = time.monotonic() + _SECONDS
        while not _is_written(cluster.scheduler_file):
            assert time.monotonic() < deadline, cluster.logs()
            time.sleep(0.05)
        cluster.client = Client(scheduler_file=str(cluster.scheduler_file), set_as_default=False)
        cluster.client.wait_for_workers(len(hosts), timeout=_SECONDS)
        yield cluster
    finally:
        cluster.close()


def _is_written(file: Path) -> bool:
    try:
        return bool(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False
