"""Are these bytes the object's? The only place where `Verified` is made."""

from __future__ import annotations

import anyio.to_thread

from .._digests import digest_chunks
from .._errors import IntegrityError
from ..ports import Verified
from .resolve import Target
from .transfer import Staged

_INLINE_BYTES = 64 * 1024  # hashing that much takes less time than handing it to a thread


async def verify(staged: Staged, target: Target) -> Verified:
    """Compare the bytes with all that is known of them: length, the dataset's pin, the remote's own checksum.

    Raises:
        IntegrityError: they differ.
    """
    uri = target.key.uri
    if staged.length != staged.metadata.size:
        raise IntegrityError(uri, expected=f"{staged.metadata.size} bytes", got=f"{staged.length} bytes")
    verified_by: str | None = None
    for expected in (staged.metadata.checksum, target.pin):
        if expected is not None:
            algorithm = expected.partition(":")[0]
            got = await _digest(staged, algorithm)
            if got != expected:
                raise IntegrityError(uri, expected=expected, got=got)
            verified_by = algorithm
    return Verified(target.key, staged.metadata, staged.content, staged.digest, verified_by, target.pin)


async def _digest(staged: Staged, algorithm: str) -> str:
    if staged.digest.startswith(f"{algorithm}:"):
        return staged.digest
    if not isinstance(staged.content, tuple):
        return await staged.content.digest(algorithm)
    if staged.length <= _INLINE_BYTES:
        return digest_chunks(algorithm, staged.content)
    return await anyio.to_thread.run_sync(digest_chunks, algorithm, staged.content)
