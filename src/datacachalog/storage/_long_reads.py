"""How do the long parts of a large object come from Google and Azure? Through obstore, outside the interpreter.

It receives them in threads of its own, decrypted and counted, while Python waits. Only what demands a certain version
is asked this way, and the answer is compared with the demand. obstore tells few refusals apart, and nothing of how long
a store asks to wait, and an emulator may not speak the other API that it uses; what it fails with is therefore asked
again by REST, which can say what it means, and the session goes on by REST alone. So does a forked child of a process
that has loaded obstore: its threads are not there, and it would wait for them for ever.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

import anyio

from .._config import CatalogConfig
from .._errors import StorageUnreachableError
from .._models import FileMetadata
from .._threads import forks_held_back, in_daemon_thread
from ..ports import ReadOutcome, ReadRequest, ReadResponse, VersionChanged
from ._redacting import text_of

if TYPE_CHECKING:
    from obstore import GetOptions

_CHUNK_BYTES = 256 * 1024  # a megabyte costs 40 MB more, of 16 parts in flight, and is no faster

_is_inherited = False
"""Whether this process was forked from one that had obstore loaded."""


class LongReads:
    """Stores of obstore, one a bucket, made when they are first needed.

    Args:
        config: timeouts.
        make: gives the store of a URI's bucket, by obstore's client options and retry settings; called in a thread.
        split: gives bucket and key of a URI.
        demand: gives obstore's options that demand the version of a request.
        etag_of: says what obstore's metadata have as our ETag.
    """

    def __init__(
        self,
        config: CatalogConfig,
        make: Callable[[str, Mapping[str, Any], Mapping[str, Any]], Any],
        split: Callable[[str], tuple[str, str]],
        demand: Callable[[ReadRequest], GetOptions],
        etag_of: Callable[[Mapping[str, Any]], str | None],
    ) -> None:
        self._make = make
        self._split = split
        self._demand = demand
        self._etag_of = etag_of
        self._stores: dict[str, Any] = {}
        self._lock = anyio.Lock()
        self._is_off = _is_inherited
        self._client_options = {
            "connect_timeout": f"{config.connect_timeout_seconds}s",
            "read_timeout": f"{config.read_timeout_seconds}s",
            "timeout": "365days",  # a part may take as long as bytes are coming
            "default_headers": {"accept-encoding": "gzip", "user-agent": "datacachalog"},
        }

    async def read(self, request: ReadRequest) -> ReadOutcome | None:
        """Ask for a part of a certain version; None if it has to be asked by REST.

        Raises:
            StorageUnreachableError: from the chunks: the connection broke.
        """
        if self._is_off:
            return None
        bucket, key = self._split(request.uri)
        store = self._stores.get(bucket) or await self._made(bucket)
        if store is None:
            return None
        import obstore  # loaded by now
        from obstore.exceptions import BaseError

        assert request.stop is not None  # noqa: S101  # only such parts are asked for this way
        options: GetOptions = {**self._demand(request), "range": (request.start, request.stop)}
        try:
            result = await obstore.get_async(store, key, options=options)
        except ValueError:  # a key that obstore can't hold: with an empty segment, say
            return None
        except (BaseError, OSError):
            self._is_off = True
            return None
        meta = result.meta
        etag, (start, stop) = self._etag_of(meta), result.range
        if etag != request.if_match:
            return VersionChanged()
        metadata = FileMetadata(etag, meta["last_modified"], meta["size"], request.version_id)
        return ReadResponse(metadata, start, stop, self._chunks(request.uri, result))

    async def _made(self, bucket: str) -> Any:
        async with self._lock:
            if bucket not in self._stores and not self._is_off:
                try:
                    self._stores[bucket] = await in_daemon_thread(lambda: self._make_here(bucket))
                except ImportError:
                    self._is_off = True
        return self._stores.get(bucket)

    def _make_here(self, bucket: str) -> Any:
        with forks_held_back():
            import obstore.store  # noqa: F401
        return self._make(bucket, self._client_options, {"max_retries": 0})

    async def _chunks(self, uri: str, result: Any) -> AsyncIterator[bytes]:
        from obstore.exceptions import BaseError

        stream = result.stream(min_chunk_size=_CHUNK_BYTES)
        while True:
            try:
                chunk = await anext(stream)
            except StopAsyncIteration:
                return
            except (BaseError, OSError) as error:
                # Its text shows the whole URL several times, with what may be secret in it.
                said = text_of(error).partition("\n")[0]
                raise StorageUnreachableError(uri, said, hint="check the network and endpoint_url") from None
            yield chunk


def _after_fork_in_child() -> None:
    global _is_inherited
    _is_inherited = _is_inherited or "obstore" in sys.modules


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
