"""Who fetches a file when several want it? One at a time; the others wait for it and take what it publishes.

Within an event loop a lock decides, between loops, threads and processes a claim on the cache. Neither is needed for
the bytes to be right (G2): an owner that makes no progress is waited for only so long, then the work is done twice.
"""

from __future__ import annotations

from collections.abc import MutableMapping

import anyio

from .._events import TransferAwaited
from ..ports import Busy, CacheKey, CachePort, Claim, ClaimsPort
from .requests import Requests
from .resolve import Target

_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 0.25


class Flight:
    """One file's claim, to be taken when it turns out that bytes have to come.

    Args:
        target: the file.
        requests: whose claim it is.
        claims: the cache, if it has claims (`claims_of`).
    """

    def __init__(self, target: Target, requests: Requests, claims: ClaimsPort | None) -> None:
        self.claim = Claim(target.key)
        self._target = target
        self._requests = requests
        self._claims = claims
        self._is_held = False
        self._is_given_up = self._claims is None
        self._passed_up_etag: str | None = None

    async def take(self, etag: str | None) -> bool:
        """Take the claim, if nobody has it: whether this call may go ahead and bring that version.

        It may not if somebody has published the version since it was looked up here. That is said once only: a remote
        that goes on bringing what is cached is let go ahead.
        """
        if not (self._is_held or self._is_given_up):
            await self._ask()
            published = self.claim.entry
            if published is not None and published.metadata.etag == etag != self._passed_up_etag:
                self._passed_up_etag = etag
                return False
        return self._is_held or self._is_given_up

    async def wait(self) -> bool:
        """Wait until the claim can be taken, or its owner makes no progress; whether there was anything to wait for."""
        has_waited = False
        pause = _FIRST_PAUSE_SECONDS
        seen: Busy | None = None
        seen_at = anyio.current_time()
        while not (self._is_held or self._is_given_up):
            busy = await self._ask()
            if busy is None:
                break
            has_waited = True
            now = anyio.current_time()
            if busy != seen:
                seen, seen_at = busy, now
                self._notify(busy)
            elif now - seen_at >= self._requests.config.lock_wait_seconds:
                self._is_given_up = True
            await anyio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
        return has_waited

    def adopt(self, claim: Claim) -> None:
        """Go on with a claim that was taken for this call."""
        self.claim, self._is_held = claim, True

    def forget_partial(self) -> bool:
        """Go on with nothing that an earlier attempt has left; whether there was such a thing."""
        had_partial = self.claim.resumable_etag is not None
        self.claim = Claim(self.claim.key)
        return had_partial

    async def release(self) -> None:
        """Give the claim back, if this call has it."""
        if self._is_held and self._claims is not None:
            self._is_held = False
            with anyio.CancelScope(shield=True):
                await self._claims.release(self.claim)

    async def _ask(self) -> Busy | None:
        """Ask for the claim; None if it is ours now."""
        if self._claims is None:
            return None
        answer = await self._claims.claim(self._target.key)
        if isinstance(answer, Busy):
            return answer
        self.claim, self._is_held = answer, True
        return None

    def _notify(self, busy: Busy) -> None:
        self._requests.notify(
            TransferAwaited(
                operation=self._requests.operation,
                dataset=self._target.dataset,
                uri=self._target.key.uri,
                owner=busy.owner,
                received_bytes=busy.received_bytes,
                size_bytes=busy.size,
            )
        )


def lock_of(locks: MutableMapping[CacheKey, anyio.Lock], key: CacheKey) -> anyio.Lock:
    """Give the lock of a file on this event loop; where nobody holds it, taking it doesn't wait for the loop."""
    return locks.setdefault(key, anyio.Lock(fast_acquire=True))


def claims_of(cache: CachePort) -> ClaimsPort | None:
    """Give the cache as one that has claims; to be asked once, as it takes longer than a claim."""
    return cache if isinstance(cache, ClaimsPort) else None
