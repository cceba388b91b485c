"""Are these bytes the object's? The only place where `Verified` is made."""

from __future__ import annotations

from dataclasses import replace

import anyio.to_thread

from .._digests import digest_chunks
from .._errors import IntegrityError
from .._models import NULL_VERSION
from ..ports import Verified
from .resolve import Target
from .transfer import NotThatVersionError, Staged

_INLINE_BYTES = 64 * 1024  # hashing that much takes less time than handing it to a thread


async def verify(staged: Staged, target: Target) -> Verified:
    """Compare the bytes with all that is known of them: version, length, the remote's own checksum, and every pin.

    Raises:
        IntegrityError: they differ.
        NotThatVersionError: they haven't the ETag that the target demands, of a store that didn't look at it.
    """
    uri, version_id, metadata = target.key.uri, target.key.version_id, staged.metadata
    if target.if_match not in (None, metadata.etag):
        raise NotThatVersionError
    if version_id is not None:
        # A store that doesn't know versions would give the newest.
        if version_id not in (NULL_VERSION, metadata.version_id):
            raise IntegrityError(uri, expected=f"version {version_id}", got=f"version {metadata.version_id}")
        metadata = replace(metadata, version_id=version_id)
    if staged.length != staged.metadata.size:
        raise IntegrityError(uri, expected=f"{staged.metadata.size} bytes", got=f"{staged.length} bytes")
    verified_by = staged.verified_by
    for expected in (metadata.checksum, target.pin, target.locked.digest if target.locked else None):
        if expected is not None:
            algorithm = expected.partition(":")[0]
            got = await _digest(staged, algorithm)
            if got != expected:
                raise IntegrityError(uri, expected=expected, got=got)
            verified_by = algorithm
    return Verified(target.key, metadata, staged.content, staged.digest, verified_by, target.pin)


async def _digest(staged: Staged, algorithm: str) -> str:
    if staged.digest.startswith(f"{algorithm}:"):
        return staged.digest
    if not isinstance(staged.content, tuple):
        return await staged.content.digest(algorithm)
    if staged.length <= _INLINE_BYTES:
        return digest_chunks(algorithm, staged.content)
    return await anyio.to_thread.run_sync(digest_chunks, algorithm, staged.content)
