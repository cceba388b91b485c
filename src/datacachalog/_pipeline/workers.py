"""How is the same thing done for many items at once? By as many workers as may be busy, without batches.

A worker takes the next item as soon as it is done with one, so nothing waits for the slowest of a batch; and others on
the event loop have their turn.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import anyio
import anyio.lowlevel

_Item = TypeVar("_Item")

_ITEMS_A_TURN = 100


async def each(items: Sequence[_Item], work: Callable[[_Item], Awaitable[None]], *, at_once: int) -> None:
    """Do the work for each item, `at_once` items at a time."""
    if len(items) == 1:
        await work(items[0])
        return
    queue = iter(enumerate(items))

    async def worker() -> None:
        for number, item in queue:
            await work(item)
            if number % _ITEMS_A_TURN == 0:  # it may be work that had nothing to wait for
                await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        for _ in range(min(len(items), at_once)):
            tasks.start_soon(worker)
    # A group whose tasks were cancelled together with this one may end without a word.
    await anyio.lowlevel.checkpoint_if_cancelled()


async def in_turns(items: Iterable[_Item]) -> AsyncIterator[_Item]:
    """Give the items one by one, for work that waits for nothing; others on the loop have their turn meanwhile."""
    for number, item in enumerate(items, 1):
        yield item
        if number % _ITEMS_A_TURN == 0:
            await anyio.lowlevel.checkpoint()
