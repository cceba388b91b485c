"""Is each promise held by a test? The page of guarantees lists them, and what it lists is there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "explanation" / "guarantees.md").read_text(encoding="utf-8")
NUMBERS = [f"G{number}" for number in range(1, 14)]


def sections() -> dict[str, str]:
    """Give the text of the page by the number in its heading."""
    parts = re.split(r"^## (G\d+)\b", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def listed_tests(section: str) -> list[str]:
    _, _, line = section.partition("\nTests:")
    return re.findall(r"`(test_\w+)`", line)


def all_tests() -> list[str]:
    source = "\n".join(path.read_text(encoding="utf-8") for path in sorted(TESTS.rglob("*.py")))
    return re.findall(r"^\s*(?:async )?def (test_\w+)\(", source, re.MULTILINE)


def is_of(number: str, name: str) -> bool:
    return name.startswith(f"test_{number.lower()}_")


def test_the_page_has_every_promise_in_order() -> None:
    """The promises are numbered, and none is left out."""
    assert NUMBERS == list(sections())


def test_every_listed_test_exists() -> None:
    """A test that the page lists is in the tests, under that name."""
    there = all_tests()
    assert [] == [name for section in sections().values() for name in listed_tests(section) if name not in there]


def test_every_promise_lists_a_test_of_its_number_or_is_said_not_to_be_built() -> None:
    """A promise without a test named after it is one that the page says is not built yet."""
    bare = {
        number: [name for name in all_tests() if is_of(number, name)]
        for number, section in sections().items()
        if "Not built yet" not in section and not any(is_of(number, name) for name in listed_tests(section))
    }
    assert {} == bare, "the values are the tests that could be listed"
