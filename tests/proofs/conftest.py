"""What do the proofs share? Processes that may be killed, and a place to say what was proved with which figures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ..conftest import CREDENTIALS

SCRIPT = Path(__file__).with_name("_child.py")


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Say a figure at the end of the run, and in the report of this test."""
    return lambda text: record_property("figure", text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures, whichever process found them."""
    reports = [report for result in ("passed", "failed") for report in terminalreporter.stats.get(result, [])]
    found = [pair for report in reports if report.when == "call" for pair in report.user_properties]
    figures = [value for name, value in found if name == "figure"]
    if figures:
        terminalreporter.section("what was proved")
        for figure in figures:
            terminalreporter.line(figure)


class ChildFailedError(Exception):
    """A child ended otherwise than it should have."""


@dataclass(frozen=True)
class Child:
    """A process that runs."""

    pid: int
    answer: Path
    errors: Path
    forks: Forks

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> int:
        """Kill it, and give its exit status: `-9`, or 0 if it was faster."""
        self.send(signal.SIGKILL)
        return self.forks.wait(self)

    def result(self) -> Any:
        """Wait until it is done, and give what it returned."""
        status = self.forks.wait(self)
        if status != 0:
            said = self.errors.read_text(errors="replace") if self.errors.exists() else ""
            raise ChildFailedError(f"a child ended with {status}\n{said}")
        return json.loads(self.answer.read_bytes())


class Forks:
    """Starts children that have everything imported already."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = count()
        self._running: set[int] = set()
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(),
        )
        if self._read() != "ready":
            raise ChildFailedError("the script that starts the children didn't start")

    def start(self, task: str, **arguments: Any) -> Child:
        number = next(self._numbers)
        answer = self._directory / f"{number}.json"
        errors = self._directory / f"{number}.txt"
        command = {"start": task, "arguments": arguments, "answer": str(answer), "errors": str(errors)}
        pid = int(self._ask(command))
        self._running.add(pid)
        return Child(pid, answer, errors, self)

    def run(self, task: str, **arguments: Any) -> Any:
        """Run a child to its end, and give what it returned."""
        return self.start(task, **arguments).result()

    def wait(self, child: Child) -> int:
        status = int(self._ask({"wait": child.pid}))
        self._running.discard(child.pid)
        return status

    def end_children(self) -> None:
        """End those that a failed test has left."""
        for pid in list(self._running):
            os.kill(pid, signal.SIGKILL)
            self._ask({"wait": pid})
            self._running.discard(pid)

    def close(self) -> None:
        self.end_children()
        self._process.communicate()

    def _ask(self, command: dict[str, Any]) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildFailedError(f"the script that starts the children ended with {self._process.wait()}")
        return line.strip()


def _environment() -> dict[str, str]:
    """Nothing of the machine's own configuration, as in the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DATACACHALOG_"))}
    without_proxies = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}
    return without_proxies | CREDENTIALS | {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


@pytest.fixture(scope="session")
def _forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    forks = Forks(tmp_path_factory.mktemp("children"))
    yield forks
    forks.close()


@pytest.fixture
def forks(_forks: Forks) -> Iterator[Forks]:
    """A place to start children at, which ends those that are left at the end of the test."""
    yield _forks
    _forks.end_children()
