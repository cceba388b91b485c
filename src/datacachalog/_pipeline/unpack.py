"""What does a caller get whose dataset is an archive? What is in it, unpacked once by one of those who want it.

Comes behind the stages of a fetch, and works on whatever copy these have decided to serve: a new one, a fresh one, or
one that is stale. Whoever unpacks it holds the file's claim meanwhile, so that others wait; nothing depends on that.
"""

from __future__ import annotations

from dataclasses import replace

from .._archives import TREES, UnpackFormat
from .._errors import ConfigurationError
from .._events import UnpackStarted
from ..ports import CachePort, Unpacked, UnpackingPort
from .flight import Flight
from .report import FileResult
from .requests import Requests
from .resolve import Target


def unpacking_of(cache: CachePort) -> UnpackingPort:
    """Give the cache, as one that can unpack.

    Raises:
        ConfigurationError: it can't.
    """
    if not isinstance(cache, UnpackingPort):
        raise ConfigurationError(f"{type(cache).__name__} can't unpack archives: see ports.UnpackingPort")
    return cache


async def unpacked_result(
    result: FileResult,
    target: Target,
    archive_format: UnpackFormat,
    requests: Requests,
    cache: CachePort,
    flight: Flight,
) -> FileResult | None:
    """Put what is in an archive in its place in the result; None if the archive has gone or was replaced meanwhile.

    Raises:
        ArchiveError: it can't be unpacked.
        UnsafePathError: one of its members may not be written.
        ConfigurationError: the cache can't unpack, or the library for the format isn't installed.
        CacheError: the cache can't be written.
    """
    unpacking = unpacking_of(cache)

    async def find_or_unpack(*, may_unpack: bool) -> Unpacked | None:
        [entry] = await cache.lookup([target.key])
        # Another catalog may have put another version there meanwhile, and compared it with no pin or lock file.
        if entry is None or entry.metadata.digest != result.metadata.digest:
            return None
        found = await unpacking.unpacked(entry, archive_format)
        if found is not None or not may_unpack:
            return found
        requests.notify(UnpackStarted(operation=requests.operation, dataset=target.dataset, uri=target.key.uri))
        config = requests.config
        return await unpacking.unpack(
            entry, archive_format, max_bytes=config.unpack_max_bytes, max_files=config.unpack_max_files
        )

    found = await find_or_unpack(may_unpack=False)
    if found is None:
        await flight.wait()
        found = await find_or_unpack(may_unpack=True)
    if found is None:
        return None
    members = found.files if archive_format in TREES else None
    return replace(result, path=found.path, archive=result.path, members=members)
