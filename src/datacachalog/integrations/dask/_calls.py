"""How do the workers of a `warm` hear from their caller and from each other? By handlers beside Dask's own.

What is sent travels on Dask's connections, so it is encrypted and authenticated as they are. A handler knows only what
was begun with the same token, and gives bytes only of files that were fetched for it.
"""

from __future__ import annotations

import weakref
from typing import Any

import anyio
from distributed import Worker
from distributed.protocol.serialize import to_serialize

from ._here import cache_here
from ._hosts import HostOf, Seat, seat_of
from ._operation import Operation, Order, Said
from ._peers import NeighbourFailedError, Offer, Pending, Withheld

SAY = "datacachalog_say"
_OFFER = "datacachalog_offer"
_PIECE = "datacachalog_piece"

_ASK_SECONDS = 10.0
"""A neighbour that hasn't answered a question by then is dead: it would have said that it has no answer yet."""

_TAKE_SECONDS = 60.0
"""So long may a piece take: less than 20 kB/s is no help."""


class _Desk:
    """The operations of one worker, and the handlers by which they are reached."""

    def __init__(self, worker: Worker) -> None:
        self._worker = weakref.ref(worker)
        self._operations: dict[str, Operation] = {}
        worker.handlers |= {SAY: self.say, _OFFER: self.offer, _PIECE: self.piece}

    async def begin(self, order: Order, host: int) -> None:
        for token in [token for token, operation in self._operations.items() if operation.is_forgotten]:
            await self.end(token)
        worker = self._worker()
        if worker is not None:
            await self.end(order.token)  # what this worker fetched goes before what it is to look at
            self._operations[order.token] = Operation(order, worker, host, _Rpc(worker, order))

    async def end(self, token: str) -> None:
        operation = self._operations.pop(token, None)
        if operation is not None:
            await operation.end()

    def _served(self, token: str) -> Operation | None:
        operation = self._operations.get(token)
        return None if operation is None or operation.is_forgotten else operation

    # -- the handlers

    async def say(self, token: str) -> dict[str, Any]:
        operation = self._operations.get(token)
        return {"said": to_serialize(None if operation is None else operation.say())}

    async def offer(self, token: str, uri: str, version_id: str | None) -> dict[str, Any]:
        operation = self._served(token)
        # One that isn't known has yet to begin.
        answer = Pending(0) if operation is None else await operation.offer(uri, version_id)
        return {"answer": to_serialize(answer)}

    async def piece(
        self, token: str, uri: str, version_id: str | None, mtime_ns: int, start: int, stop: int
    ) -> dict[str, Any]:
        operation = self._served(token)
        piece = None if operation is None else await operation.piece(uri, version_id, mtime_ns, start, stop)
        return {"piece": None if piece is None else to_serialize(piece)}


class _Rpc:
    """The way to the other hosts of a call."""

    def __init__(self, worker: Worker, order: Order) -> None:
        self._worker = weakref.ref(worker)
        self._order = order

    async def ask(self, host: int, uri: str, version_id: str | None) -> Offer | Pending | Withheld:
        answer: Offer | Pending | Withheld = await self._call(
            host, _OFFER, _ASK_SECONDS, "answer", uri=uri, version_id=version_id
        )
        return answer

    async def take(self, host: int, uri: str, version_id: str | None, mtime_ns: int, start: int, stop: int) -> bytes:
        piece: bytes | None = await self._call(
            host, _PIECE, _TAKE_SECONDS, "piece",
            uri=uri, version_id=version_id, mtime_ns=mtime_ns, start=start, stop=stop,
        )  # fmt: skip
        if piece is None or len(piece) == 0:
            raise NeighbourFailedError
        return piece

    async def _call(self, host: int, handler: str, seconds: float, field: str, **arguments: Any) -> Any:
        worker = self._worker()
        if worker is None:
            raise NeighbourFailedError
        neighbour = worker.rpc(self._order.addresses[host])
        try:
            with anyio.fail_after(seconds):
                answer = await getattr(neighbour, handler)(token=self._order.token, **arguments)
        except Exception as error:  # whatever is wrong over there, there are other sources
            raise NeighbourFailedError from error
        return answer[field]


_desks: weakref.WeakKeyDictionary[Worker, _Desk] = weakref.WeakKeyDictionary()


# -- what the caller runs on the workers


async def tell_seat(order: Order, host_of: HostOf, dask_worker: Worker) -> Seat:
    """Tell which cache this worker has. Dask gives `dask_worker`."""
    return await seat_of(dask_worker, cache_here(order.catalog, order.cache_dir, dask_worker), host_of)


async def begin(order: Order, host: int | None, dask_worker: Worker) -> None:
    """Begin an operation, which goes on by itself.

    Args:
        order: what to do.
        host: the number of this worker's host; None if that is its place in the order's addresses, which goes to all
            workers in one message.
        dask_worker: this one; Dask gives it.
    """
    desk = _desks.get(dask_worker)
    if desk is None:
        desk = _desks[dask_worker] = _Desk(dask_worker)
    if host is None:
        address = dask_worker.contact_address or dask_worker.address
        host = order.addresses.index(address) if order.addresses else 0
    await desk.begin(order, host)


async def end(token: str, dask_worker: Worker) -> None:
    """End an operation. Dask gives `dask_worker`."""
    desk = _desks.get(dask_worker)
    if desk is not None:
        await desk.end(token)


def said_of(answer: Any) -> Said | None:
    """Read what a worker answered to `SAY`; None if it knows nothing of the call."""
    said: Said | None = answer["said"] if isinstance(answer, dict) and "said" in answer else None
    return said
