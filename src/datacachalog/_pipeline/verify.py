"""Are these bytes the object's? The only place where `Verified` is made."""

from __future__ import annotations

import anyio.to_thread

from .._digests import digest_chunks
from .._errors import IntegrityError
from ..ports import Verified
from .resolve import Target
from .transfer import Staged
from .upload import InMemory, Outgoing, Uploaded

_SPOILT = "what the remote has received is not the file that was sent: push it again"
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


async def verify_pin(file: Outgoing, pin: str, uri: str) -> None:
    """Compare a file that is to be pushed with the dataset's pin.

    Raises:
        IntegrityError: they differ.
    """
    got = await _digest_of(file, pin.partition(":")[0])
    if got != pin:
        raise IntegrityError(uri, expected=pin, got=got, what="the file to be pushed is not what the dataset pins")


async def verify_uploaded(uploaded: Uploaded, file: Outgoing, target: Target) -> Verified:
    """Compare what was sent with the checksum that the store computed of what it received, if it tells one.

    Raises:
        IntegrityError: they differ: the remote holds other bytes than the file.
    """
    metadata, uri = uploaded.metadata, target.key.uri
    verified_by: str | None = None
    if metadata.size != file.size:
        raise IntegrityError(uri, expected=f"{file.size} bytes", got=f"{metadata.size} bytes", what=_SPOILT)
    if metadata.checksum is not None:
        verified_by = metadata.checksum.partition(":")[0]
        sent = uploaded.crc if uploaded.crc.startswith(f"{verified_by}:") else await _digest_of(file, verified_by)
        if sent != metadata.checksum:
            raise IntegrityError(uri, expected=sent, got=metadata.checksum, what=_SPOILT)
    content = (file.data,) if isinstance(file, InMemory) else file
    return Verified(target.key, metadata, content, uploaded.crc, verified_by, target.pin)


async def _digest_of(file: Outgoing, algorithm: str) -> str:
    if isinstance(file, InMemory):
        return await file.digest(algorithm)
    return await file.digest(algorithm, 0, file.size)


async def _digest(staged: Staged, algorithm: str) -> str:
    if staged.digest.startswith(f"{algorithm}:"):
        return staged.digest
    if not isinstance(staged.content, tuple):
        return await staged.content.digest(algorithm)
    if staged.length <= _INLINE_BYTES:
        return digest_chunks(algorithm, staged.content)
    return await anyio.to_thread.run_sync(digest_chunks, algorithm, staged.content)
