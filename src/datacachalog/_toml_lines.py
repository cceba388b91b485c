"""On which line does each key of a TOML text stand? tomllib tells the line of a syntax error only.

Reads texts that tomllib has accepted, so whatever is no key, string or bracket may be passed over.
"""

from __future__ import annotations

import re
import tomllib

_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*'""")
_DOT = re.compile(r"[ \t]*\.[ \t]*")
# A multi-line string may have one or two quotes right before its end.
_STRING = re.compile(r'''"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\])*"|'[^']*\'''', re.DOTALL)
_BARE = re.compile(r"[^,\]}#\n]+")


def lines_of_keys(text: str) -> dict[tuple[str, ...], int]:
    """Give the line, from 1, on which each key first stands; of a table, that of its first header or key.

    Args:
        text: valid TOML.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self.lines: dict[tuple[str, ...], int] = {}
        self._text = text
        self._at = 0
        self._counted_to = 0
        self._line = 1

    def document(self) -> None:
        table: tuple[str, ...] = ()
        while self._next():
            if self._next() == "[":
                brackets = 2 if self._text.startswith("[[", self._at) else 1
                self._at += brackets
                self._skip(_GAP)
                table = self._key(())
                self._at = self._text.index("]", self._at) + brackets
            else:
                self._entry(table)
                # The time of a date that has a space before it, or a comment.
                self._at = self._text.find("\n", self._at) + 1 or len(self._text)

    def _entry(self, table: tuple[str, ...]) -> None:
        path = self._key(table)
        self._at = self._text.index("=", self._at) + 1
        self._value(path)

    def _key(self, table: tuple[str, ...]) -> tuple[str, ...]:
        self._line += self._text.count("\n", self._counted_to, self._at)
        self._counted_to = self._at
        path = table
        while True:
            written = self._skip(_KEY)
            path = (*path, tomllib.loads(f"key = {written}")["key"] if written[0] in "\"'" else written)
            self.lines.setdefault(path, self._line)
            if not self._skip(_DOT):
                return path

    def _value(self, path: tuple[str, ...]) -> None:
        match self._next():
            case "{":
                self._at += 1
                while self._next() != "}":
                    self._entry(path)
                    self._comma()
                self._at += 1
            case "[":
                self._at += 1
                while self._next() != "]":
                    self._value(path)
                    self._comma()
                self._at += 1
            case '"' | "'":
                self._skip(_STRING)
            case _:
                self._skip(_BARE)

    def _comma(self) -> None:
        if self._next() == ",":
            self._at += 1

    def _next(self) -> str:
        """Pass over space, line ends and comments; give the character that follows, or nothing at the end."""
        self._skip(_GAP)
        return self._text[self._at : self._at + 1]

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found[0]
