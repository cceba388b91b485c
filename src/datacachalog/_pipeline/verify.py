"""Are these bytes the object's? The only place where `Verified` is made."""

from __future__ import annotations

from collections.abc import Callable

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
    if isinstance(staged.content, tuple):
        if staged.length <= _INLINE_BYTES or not _needs_hashing(staged, target):
            return verify_here(staged, target)
        return await anyio.to_thread.run_sync(verify_here, staged, target)
    digests = {}
    for expected in _expected(staged, target):
        algorithm = expected.partition(":")[0]
        if not staged.digest.startswith(f"{algorithm}:"):
            digests[algorithm] = await staged.content.digest(algorithm)
    return _verified(staged, target, digests.__getitem__)


def verify_here(staged: Staged, target: Target) -> Verified:
    """The same for bytes in memory, in this thread.

    Raises:
        IntegrityError: they differ.
    """
    content = staged.content
    assert isinstance(content, tuple)  # noqa: S101  # what is staged on disk is verified by `verify`
    return _verified(staged, target, lambda algorithm: digest_chunks(algorithm, content))


def _expected(staged: Staged, target: Target) -> list[str]:
    return [expected for expected in (staged.metadata.checksum, target.pin) if expected is not None]


def _needs_hashing(staged: Staged, target: Target) -> bool:
    own = staged.digest.partition(":")[0]
    return any(expected.partition(":")[0] != own for expected in _expected(staged, target))


def _verified(staged: Staged, target: Target, digest: Callable[[str], str]) -> Verified:
    uri = target.key.uri
    if staged.length != staged.metadata.size:
        raise IntegrityError(uri, expected=f"{staged.metadata.size} bytes", got=f"{staged.length} bytes")
    verified_by: str | None = None
    for expected in _expected(staged, target):
        algorithm = expected.partition(":")[0]
        got = staged.digest if staged.digest.startswith(f"{algorithm}:") else digest(algorithm)
        if got != expected:
            raise IntegrityError(uri, expected=expected, got=got)
        verified_by = algorithm
    return Verified(target.key, staged.metadata, staged.content, staged.digest, verified_by, target.pin)
