"""When a token is looked for: once, and again before it expires."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio
import pytest

from datacachalog.storage._tokens import Token, Tokens


class Library:
    """Gives tokens that live as long as it is told."""

    def __init__(self, *lives_seconds: float | None) -> None:
        self.lives = list(lives_seconds)
        self.found = 0

    def find(self) -> Callable[[], Token]:
        self.found += 1
        return self.give

    def give(self) -> Token:
        life = self.lives.pop(0)
        return Token(f"token {len(self.lives)}", None if life is None else time.time() + life)


async def test_token_is_looked_for_once_for_all_who_want_one():
    """However many ask at once, and after that."""
    library = Library(3600)
    tokens = Tokens(library.find)
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(tokens.current)
    assert ("token 0", 1) == ((await tokens.current()).value, library.found)


@pytest.mark.parametrize(("life", "expected"), [(200, 2), (300, 1), (None, 1)])
async def test_token_that_expires_soon_is_replaced(life, expected):
    """Some minutes before, by the credentials that were found; what never expires stays."""
    library = Library(life, 3600)
    tokens = Tokens(library.find)
    values = {(await tokens.current()).value for _ in range(3)}
    assert (expected, 1) == (len(values), library.found)


async def test_token_that_is_forgotten_is_looked_for_from_the_beginning():
    """Another program may have logged in anew."""
    library = Library(3600, 3600)
    tokens = Tokens(library.find)
    await tokens.current()
    tokens.forget()
    await tokens.current()
    assert library.found == 2
