"""A real terminal to show progress on: a child process on a pseudo-terminal, and the screen that its output makes."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path

import pytest
from rich.cells import cell_len

_TOKEN = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|\x1b([78D])|(\r)|(\n)|([^\x1b\r\n])")

HERE = str(Path(__file__).parent)
"""Where `telling` is, which each script begins with."""

_BEGIN = "from telling import *\n"


class Screen:
    """The part of a VT100 that the output of these tests uses; anything else is an error."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns = columns
        self.rows = rows
        self.cells = [[" "] * columns for _ in range(rows)]
        self.row = self.column = 0
        self.saved = (0, 0)
        self.is_cursor_visible = True
        self.wrapped = 0

    @property
    def lines(self) -> list[str]:
        """The lines, without what is empty on the right and below."""
        return "\n".join("".join(row).rstrip() for row in self.cells).rstrip("\n").split("\n")

    def feed(self, text: str) -> None:
        position = 0
        for match in _TOKEN.finditer(text):
            assert position == match.start(), f"unknown: {text[position : match.start()]!r}"
            position = match.end()
            self._do(*match.groups())
        assert position == len(text), f"unknown: {text[position:]!r}"

    def _do(self, args, control, escape, carriage_return, newline, character) -> None:
        if character:
            self._put(character)
        elif carriage_return:
            self.column = 0
        elif newline or escape == "D":
            self._down()
        elif escape == "7":
            self.saved = (self.row, self.column)
        elif escape == "8":
            self.row, self.column = self.saved
        elif control == "A":
            self.row = max(0, self.row - int(args or 1))
        elif control == "J" and args == "":
            self.cells[self.row][self.column :] = [" "] * (self.columns - self.column)
            for row in self.cells[self.row + 1 :]:
                row[:] = [" "] * self.columns
        elif args == "?25":
            self.is_cursor_visible = control == "h"
        else:
            assert control == "m", (args, control, escape)

    def _down(self) -> None:
        if self.row == self.rows - 1:
            self.cells.append([" "] * self.columns)
            del self.cells[0]
        else:
            self.row += 1

    def _put(self, character: str) -> None:
        width = cell_len(character)
        if self.column + width > self.columns:
            self.wrapped += 1
            self.column = 0
            self._down()
        self.cells[self.row][self.column : self.column + width] = [character] + [""] * (width - 1)
        self.column += width


class TerminalSession:
    """A Python script whose standard error, and standard output unless it is to be a pipe, are a terminal.

    `wait()` in the script waits for `go_on()` here.
    """

    def __init__(self, script: str, *, columns: int, rows: int, env: dict[str, str], is_stdout_piped: bool) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        quiet = ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES", "COLORTERM")
        inherited = {name: value for name, value in os.environ.items() if name not in quiet}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BEGIN + textwrap.dedent(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if is_stdout_piped else slave,
            stderr=slave,
            env=inherited | {"TERM": "xterm-256color", "PYTHONUTF8": "1", "PYTHONPATH": HERE} | env,
        )
        os.close(slave)
        self._size = columns, rows
        self._bytes = b""
        self.stdout = b""

    @property
    def raw(self) -> str:
        """Everything written to the terminal."""
        return self._bytes.decode(errors="replace")

    @property
    def screen(self) -> Screen:
        """The terminal as it is now."""
        screen = Screen(*self._size)
        screen.feed(self.raw)
        return screen

    def until(self, text: str) -> None:
        """Read until that has been written since the script began, and the write that it is in is complete."""
        self._read(lambda: text in self.raw and self.raw.rfind("\x1b[?25l") <= self.raw.rfind("\x1b[?25h"))

    def until_lines(self, is_right) -> None:
        """Read until the screen's lines are right."""
        self._read(lambda: self.raw.endswith(("\x1b[?25h", "\n")) and is_right(self.screen.lines))

    def _read(self, is_enough) -> None:
        until = time.monotonic() + 20
        while not is_enough():
            ready, _, _ = select.select([self._master], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"not in time; written so far: {self.raw!r}"
            assert self._take(), f"the script ended too early: {self.raw!r}"

    def _take(self) -> bool:
        try:
            data = os.read(self._master, 65536)
        except OSError:
            # EIO: the last process on the terminal is gone.
            return False
        self._bytes += data
        return bool(data)

    def go_on(self) -> None:
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def finish(self) -> int:
        """Read to the end, and tell the exit code."""
        while select.select([self._master], [], [], 20)[0] and self._take():
            pass
        self.stdout, _ = self._process.communicate(timeout=20)
        return self._process.returncode

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        os.close(self._master)


@pytest.fixture
def terminal():
    """Start scripts on a terminal."""
    sessions = []

    def start(script, *, columns=80, rows=24, env=None, is_stdout_piped=False) -> TerminalSession:
        session = TerminalSession(script, columns=columns, rows=rows, env=env or {}, is_stdout_piped=is_stdout_piped)
        sessions.append(session)
        return session

    yield start
    for session in sessions:
        session.close()


@pytest.fixture
def run_script():
    """Run scripts whose standard output and error are pipes."""

    def run(script, **env) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", _BEGIN + textwrap.dedent(script)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=os.environ | {"PYTHONUTF8": "1", "PYTHONPATH": HERE} | env,
        )

    return run
