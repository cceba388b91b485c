"""On which line stands a key? In whatever way TOML lets one write it."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog._toml_lines import lines_of_keys

TEXT = '''# a comment with [brackets] and key = "value"
first = 1  # and one = behind it
when = 1979-05-27 07:32:00
"quoted.key" = "a # that is no comment, = and ] too"
'literal' = 'C:\\'
a.b . "c d" = true
multi = """
not = "a key"
[nor.a.table] \\"""
""""
raw = \'\'\'
not = 1
\'\'\'
list = [
    "]", # ]
    { inner = 1, other = "}" },
    [1, 2],
]
inline = { x = 1, y.z = [ "," ] }
[table]
key = -1.5e3
  [ table . "sub.table" ]
deep = { }
[[array]]
x = 1
[[array]]
y = 2'''


def paths_of(value: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Give the path of each key in a parsed document."""
    if isinstance(value, dict):
        below = [paths_of(inner, (*path, key)) | {(*path, key)} for key, inner in value.items()]
        return set().union(*below)
    if isinstance(value, list):
        return set().union(*(paths_of(inner, path) for inner in value))
    return set()


def test_every_key_has_a_line() -> None:
    """Each key of the parsed document is found, and nothing else is taken for one."""
    assert paths_of(tomllib.loads(TEXT)) == set(lines_of_keys(TEXT))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("first",), 2),
        (("when",), 3),
        (("quoted.key",), 4),
        (("a",), 6),
        (("a", "b", "c d"), 6),
        (("multi",), 7),
        (("raw",), 11),
        (("list", "inner"), 16),
        (("inline", "y", "z"), 19),
        (("table",), 20),
        (("table", "key"), 21),
        (("table", "sub.table", "deep"), 23),
        (("array",), 24),
        (("array", "y"), 27),
    ],
)
def test_the_line_is_that_on_which_the_key_first_stands(path: tuple[str, ...], line: int) -> None:
    """Lines are counted from 1, through strings and arrays of several lines."""
    assert line == lines_of_keys(TEXT)[path]


@given(st.text(alphabet="ab.= \n\t\"'[]{}#,1\\x", max_size=40))
def test_whatever_is_valid_is_read_to_its_end(text: str) -> None:
    """Of any text that tomllib accepts, each key is found."""
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert paths_of(parsed) == set(lines_of_keys(text))
