"""Which token says who asks? The one that the cloud's own library finds, kept until shortly before it expires.

Looking for one may take long (another program is started, or a metadata server asked), so it is done in a thread of its
own, which a cancelled caller leaves to itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio

from .._threads import in_daemon_thread

_EARLY_SECONDS = 225.0  # Google's metadata server gives a new token four minutes before the old one expires


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, and when it expires, as POSIX seconds; None means never."""

    value: str = field(repr=False)
    expires_at: float | None

    def credential(self) -> dict[str, object]:
        """Give it as obstore takes it."""
        at = None if self.expires_at is None else datetime.fromtimestamp(self.expires_at, UTC)
        return {"token": self.value, "expires_at": at}


class Tokens:
    """The token of the moment.

    Args:
        find: makes what gives a new token each time it is called; both are called in threads.
    """

    def __init__(self, find: Callable[[], Callable[[], Token]]) -> None:
        self._find = find
        self._give: Callable[[], Token] | None = None
        self._lock = anyio.Lock()
        self.token: Token | None = None

    async def current(self) -> Token:
        """Give a token that doesn't expire soon.

        Raises:
            Exception: what the library raises that finds it.
        """
        if self.token is None or self._is_old(self.token):
            async with self._lock:
                if self.token is None or self._is_old(self.token):
                    self.token = await in_daemon_thread(self._new)
        return self.token

    def forget(self) -> None:
        """Look for another one: this one was refused."""
        self._give = self.token = None

    def _new(self) -> Token:
        if self._give is None:
            self._give = self._find()
        return self._give()

    def _is_old(self, token: Token) -> bool:
        return token.expires_at is not None and time.time() > token.expires_at - _EARLY_SECONDS
