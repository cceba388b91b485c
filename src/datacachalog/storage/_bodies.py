"""How is a body handed to the connection? In slices, each of which has to leave in the time that an answer may take."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import anyio

from ..ports import Content

_SLICE_BYTES = 256 * 1024
"""How much is handed to the connection at once: where not even that much leaves in the time that an answer may take,
the connection is given up."""


class Body:
    """A body on its way: `patience` is cancelled when the other side takes nothing any more."""

    def __init__(self, content: Content, timeout_seconds: float) -> None:
        self.patience = anyio.CancelScope()
        self._content = content
        self._timeout_seconds = timeout_seconds

    async def slices(self) -> AsyncIterator[memoryview]:
        """Give the bytes in slices, without copying them."""
        async for chunk in self._content.chunks():
            view = memoryview(chunk)
            for start in range(0, len(chunk), _SLICE_BYTES):
                self.patience.deadline = anyio.current_time() + self._timeout_seconds
                yield view[start : start + _SLICE_BYTES]
            self.patience.deadline = math.inf  # the next chunk may come slowly; after the last, it's for the answer
