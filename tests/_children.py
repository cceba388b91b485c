"""Programs that use a catalog, in processes of their own: interrupted, forked, ended in the middle, and watched.

A program that hangs is ended with the tracebacks of all its threads, and fails its test.
"""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from datacachalog import Catalog, CatalogConfig, Dataset, RouterStorage, S3Storage
from datacachalog.testing import FaultServer, ServedRequest

MIB = 1024 * 1024
DEADLINE_SECONDS = 30.0
NAMES = ("big", "big2", "small", "small2", "small3", "small4")

PRELUDE = f"""\
import asyncio, fcntl, os, signal, sys, termios, threading, time
from datacachalog import *

if os.isatty(0) and os.getsid(0) == os.getpid():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # Ctrl-C there shall come here

def make(kind=Catalog, *, progress=False, **settings):
    storage = RouterStorage({{"s3": S3Storage(endpoint_url=os.environ["TEST_ENDPOINT"])}})
    datasets = [Dataset(name, f"s3://bucket/{{name}}.bin") for name in {NAMES!r}]
    config = CatalogConfig(**settings)
    return kind(datasets, cache_dir=os.environ["TEST_CACHE"], storage=storage, config=config, progress=progress)

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # whole, also while other threads and processes speak
"""


@cache
def _noise() -> bytes:
    return os.urandom(64 * MIB)


@dataclass
class Lab:
    """A server that the programs fetch from, and the cache that they share."""

    server: FaultServer
    directory: Path
    content: dict[str, bytes] = field(default_factory=dict)

    @property
    def cache_dir(self) -> Path:
        return self.directory / "cache"

    def put(self, name: str, size: int) -> bytes:
        self.content[name] = content = name.encode() + _noise()[len(name) : size]
        self.server.put("bucket", f"{name}.bin", content)
        return content

    def catalog(self, *, cache_dir: Path | None = None, **settings: object) -> Catalog:
        """A catalog of this process on the same datasets and, if no other is given, the same cache."""
        return Catalog(
            [Dataset(name, f"s3://bucket/{name}.bin") for name in NAMES],
            cache_dir=cache_dir or self.cache_dir,
            storage=RouterStorage({"s3": S3Storage(endpoint_url=self.server.endpoint_url)}),
            config=CatalogConfig(**settings),
            progress=False,
        )

    def wait_until_sent(self, key: str, at_least: int) -> None:
        """Wait until the server has sent so many bytes of an object."""

        def has_come_so_far(requests: Sequence[ServedRequest]) -> bool:
            return sum(request.bytes_sent for request in requests if request.key == key) >= at_least

        self.server.wait_for(has_come_so_far, timeout_seconds=DEADLINE_SECONDS)

    @contextmanager
    def program(
        self, script: str, *arguments: str, options: Sequence[str] = (), has_terminal: bool = False
    ) -> Iterator[Program]:
        """Run a program; its warnings are errors. It is ended, at the latest, when the context is left."""
        path = self.directory / f"program{len(list(self.directory.glob('program*.py')))}.py"
        path.write_text(PRELUDE + textwrap.dedent(script))
        program = Program([sys.executable, "-X", "faulthandler", "-W", "error", *options, str(path), *arguments],
                          self._environment(), has_terminal=has_terminal)  # fmt: skip
        try:
            yield program
        finally:
            program.end()

    def run(self, script: str, *arguments: str, options: Sequence[str] = ()) -> Ended:
        """Run a program to its end."""
        with self.program(script, *arguments, options=options) as program:
            return program.wait()

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "TEST_ENDPOINT": self.server.endpoint_url,
            "TEST_CACHE": str(self.cache_dir),
            "TERM": "xterm-256color",
        }


@dataclass(frozen=True)
class Ended:
    """What became of a program."""

    status: int
    output: str
    errors: str
    seconds_to_leave: float
    """Since the last signal that it was sent."""


class Program:
    """A program that runs."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], *, has_terminal: bool) -> None:
        self._terminal: int | None = None
        self._taken = {"output": b"", "errors": b""}
        self._signalled_at = time.monotonic()
        if has_terminal:
            self._terminal, slave = pty.openpty()
            self.terminal_settings = termios.tcgetattr(slave)
            self._process = subprocess.Popen(
                command, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
            )
            os.close(slave)
            self._pipes = {self._terminal: "output"}
        else:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                start_new_session=True, bufsize=0,
            )  # fmt: skip
            assert self._process.stdout is not None
            assert self._process.stderr is not None
            self._pipes = {self._process.stdout.fileno(): "output", self._process.stderr.fileno(): "errors"}

    @property
    def output(self) -> str:
        return self._taken["output"].decode()

    @property
    def errors(self) -> str:
        return self._taken["errors"].decode()

    def wait_for_output(self, text: str) -> None:
        """Wait until it has said that."""
        self._wait_for("output", text)

    def wait_for_errors(self, text: str) -> None:
        """Wait until it has written that to standard error."""
        self._wait_for("errors", text)

    def _wait_for(self, stream: str, text: str) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while text.encode() not in self._taken[stream]:
            if not self._pipes or not self._take(deadline):
                self._fail(f"it never said {text!r}")

    def interrupt(self) -> None:
        """Press Ctrl-C: a signal to all of the program's processes, by the terminal if it has one."""
        self._signalled_at = time.monotonic()
        if self._terminal is not None:
            os.write(self._terminal, b"\x03")
        else:
            os.killpg(self._process.pid, signal.SIGINT)

    def terminate(self) -> None:
        """Ask it to end, as an operator or a container's end does."""
        self._signalled_at = time.monotonic()
        self._process.terminate()

    def settings_now(self) -> list[object]:
        """The terminal's settings."""
        assert self._terminal is not None
        return termios.tcgetattr(self._terminal)

    def wait(self, *, seconds: float = DEADLINE_SECONDS) -> Ended:
        """Wait until it has ended."""
        deadline = time.monotonic() + seconds
        ended_at = None
        while ended_at is None:
            self._take(min(deadline, time.monotonic() + 0.02))
            if self._process.poll() is not None:
                ended_at = time.monotonic()
            elif time.monotonic() > deadline:
                self._fail(f"it did not end within {seconds:g} s")
        # A forked process that it left behind would keep the pipes open.
        while self._pipes and self._take(time.monotonic() + 5):
            pass
        if self._pipes:
            self._fail("it left a process behind")
        return Ended(self._process.returncode, self.output, self.errors, ended_at - self._signalled_at)

    def end(self) -> None:
        """End what still runs."""
        if self._process.poll() is None or self._pipes:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None

    def _take(self, deadline: float) -> bool:
        """Take what it says next; False if it said nothing until then, or has said all."""
        ready, _, _ = select.select(list(self._pipes), [], [], max(0.0, deadline - time.monotonic()))
        for descriptor in ready:
            try:
                piece = os.read(descriptor, 65536)
            except OSError:  # a terminal that nobody has open any more
                piece = b""
            self._taken[self._pipes[descriptor]] += piece
            if not piece:
                del self._pipes[descriptor]
        return bool(ready)

    def _fail(self, reason: str) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGABRT)  # faulthandler writes the tracebacks
        while self._pipes and self._take(time.monotonic() + 2):
            pass
        said = "\n".join(f"--- {name}\n{text.decode(errors='replace')}" for name, text in self._taken.items())
        pytest.fail(f"{reason}\n{said}")
