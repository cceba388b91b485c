"""How is the same thing done for many items at once? By as many workers as may be busy, without batches.

A worker takes the next item as soon as it is done with one, so nothing waits for the slowest of a batch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio
import anyio.lowlevel

_Item = TypeVar("_Item")


async def each(items: Sequence[_Item], work: Callable[[_Item], Awaitable[None]], *, at_once: int) -> None:
    """Do the work for each item, `at_once` items at a time."""
    if len(items) == 1:
        await work(items[0])
        return
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    async with anyio.create_task_group() as tasks:
        for _ in range(min(len(items), at_once)):
            tasks.start_soon(worker)
    # A group whose tasks were cancelled together with this one may end without a word.
    await anyio.lowlevel.checkpoint_if_cancelled()
