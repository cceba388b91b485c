"""Is a version here already, as the copy of the newest? Then it is copied within the cache instead of brought again.

The newest's copy is replaced when there is a newer one, and a version's own copy never is, so the one can't stand for
the other. The copy is staged, compared and published like bytes that were brought.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiofiles
import anyio.to_thread

from .._digests import DEFAULT_CRC, crc_algorithm_of, digest_chunks
from .._errors import IntegrityError
from .._models import FileMetadata
from .._threads import to_its_end
from ..ports import CacheEntry, CacheKey, CachePort, Staging
from .plan import missing_ranges
from .resolve import Target
from .transfer import Staged, loaded_crc

_CHUNK_BYTES = 1024 * 1024
"""How much is read and written at once; also the largest file that is copied through memory as a whole."""


async def find_entries(cache: CachePort, keys: Sequence[CacheKey]) -> list[CacheEntry | None]:
    """Look up what is cached; of a version that has no copy of its own, the newest's, if that is of this version."""
    entries = await cache.lookup(keys)
    missing = [
        position
        for position, (key, entry) in enumerate(zip(keys, entries, strict=True))
        if entry is None and key.version_id is not None and key.cache_path is None
    ]
    if missing:
        newest = await cache.lookup([CacheKey(keys[position].uri) for position in missing])
        for position, entry in zip(missing, newest, strict=True):
            if entry is not None and entry.metadata.version_id == keys[position].version_id:
                entries[position] = entry
    return entries


@asynccontextmanager
async def copied(target: Target, entry: CacheEntry, cache: CachePort) -> AsyncIterator[Staged]:
    """Copy a cached file, to be published as another one.

    Raises:
        IntegrityError: the file isn't what it was published as, or can't be read.
        CacheError: the copy can't be written.
    """
    known = entry.metadata
    metadata = FileMetadata(known.etag, known.last_modified, known.size, known.version_id)
    algorithm = known.digest.partition(":")[0]
    crc_algorithm = crc_algorithm_of(known.digest) or DEFAULT_CRC
    await loaded_crc(crc_algorithm)
    if known.size <= _CHUNK_BYTES:
        with _failures(entry):
            content, digest = await anyio.to_thread.run_sync(_read, entry, algorithm)
        _compare(entry, digest)
        yield Staged(metadata, (content,), len(content), digest, 0, known.verified_by)
        return
    with _failures(entry):
        # Shielded: a thread that opens can't be stopped, and its file would be nobody's to close.
        file = await to_its_end(_opened(entry), undo=lambda file: file.close())
    try:
        async with cache.stage(target.key, metadata, crc_algorithm) as staging:
            for start, stop in missing_ranges(known.size, staging.segments, (0, 0), known.size):
                await _copy_range(entry, file, staging, start, stop)
            digest = await staging.digest(algorithm, 0, known.size)
            _compare(entry, digest)
            yield Staged(metadata, staging, known.size, digest, 0, known.verified_by)
    finally:
        await to_its_end(file.close())


async def _copy_range(entry: CacheEntry, file: Any, staging: Staging, start: int, stop: int) -> None:
    async with staging.part(start, stop) as writer:
        with _failures(entry):
            await file.seek(start)
        while start < stop:
            with _failures(entry):
                chunk = await file.read(min(_CHUNK_BYTES, stop - start))
            if not chunk:
                raise IntegrityError(entry.key.uri, expected=f"{entry.metadata.size} bytes", got=f"{start} bytes")
            await writer.write([chunk])
            start += len(chunk)


def _read(entry: CacheEntry, algorithm: str) -> tuple[bytes, str]:
    """Read a small file, and compute its digest. Blocks."""
    with open(entry.path, "rb", buffering=0) as file:
        content = file.read(_CHUNK_BYTES + 1)
    return content, digest_chunks(algorithm, (content,))


async def _opened(entry: CacheEntry) -> Any:
    return await aiofiles.open(entry.path, "rb", buffering=0)


def _compare(entry: CacheEntry, digest: str) -> None:
    if digest != entry.metadata.digest:
        raise IntegrityError(entry.key.uri, expected=entry.metadata.digest, got=digest)


@contextmanager
def _failures(entry: CacheEntry) -> Iterator[None]:
    """Say that the cached file isn't there, or can't be read, as one says that it was changed."""
    try:
        yield
    except OSError as error:
        raise IntegrityError(entry.key.uri, expected=entry.metadata.digest, got=str(error)) from error
