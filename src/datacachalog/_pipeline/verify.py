"""Are these bytes the object's? The only place where `Verified` is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import anyio.to_thread

from .._digests import PartsChecksum, digest_chunks
from .._errors import IntegrityError
from .._models import NULL_VERSION
from ..ports import Verified
from .resolve import Target
from .transfer import NotThatVersionError, Staged
from .upload import InMemory, Outgoing, Uploaded

_SPOILT = "what the remote has received is not the file that was sent: push it again"
_INLINE_BYTES = 64 * 1024  # hashing that much takes less time than handing it to a thread


async def verify(staged: Staged, target: Target) -> Verified:
    """Compare the bytes with all that is known of them: version, length, the remote's own checksum, and every pin.

    Raises:
        IntegrityError: they differ.
        NotThatVersionError: they haven't the ETag that the target demands, of a store that didn't look at it.
    """
    others = _algorithms(staged, target) - {staged.digest.partition(":")[0]}
    if isinstance(staged.content, tuple):
        if staged.length <= _INLINE_BYTES or not others:
            return verify_here(staged, target)
        return await anyio.to_thread.run_sync(verify_here, staged, target)
    digests = {algorithm: await staged.content.digest(algorithm, 0, staged.length) for algorithm in others}
    return _verified(staged, target, digests.__getitem__)


def verify_here(staged: Staged, target: Target) -> Verified:
    """The same for bytes in memory, in this thread.

    Raises:
        IntegrityError: they differ.
        NotThatVersionError: they haven't the ETag that the target demands.
    """
    content = staged.content
    assert isinstance(content, tuple)  # noqa: S101  # what is staged on disk is verified by `verify`
    return _verified(staged, target, lambda algorithm: digest_chunks(algorithm, content))


def _expected(staged: Staged, target: Target) -> list[str]:
    """Give the digests that the whole must have."""
    locked = target.locked.digest if target.locked else None
    return [expected for expected in (staged.metadata.checksum, target.pin, locked) if expected is not None]


def _checksum_of_one_part(staged: Staged) -> PartsChecksum | None:
    """Give the checksum of the parts' checksums, if the whole is the only part."""
    text = staged.metadata.parts_checksum
    found = None if text is None else PartsChecksum.parse(text)
    return found if found is not None and found.parts == 1 else None


def _algorithms(staged: Staged, target: Target) -> set[str]:
    expected = _expected(staged, target)
    of_one_part = _checksum_of_one_part(staged)
    return {digest.partition(":")[0] for digest in expected} | ({of_one_part.algorithm} if of_one_part else set())


def _verified(staged: Staged, target: Target, digest: Callable[[str], str]) -> Verified:
    uri, version_id, metadata = target.key.uri, target.key.version_id, staged.metadata
    if target.if_match not in (None, metadata.etag):
        raise NotThatVersionError
    if version_id is not None:
        # A store that doesn't know versions would give the newest.
        if version_id not in (NULL_VERSION, metadata.version_id):
            raise IntegrityError(uri, expected=f"version {version_id}", got=f"version {metadata.version_id}")
        metadata = replace(metadata, version_id=version_id)
    if staged.length != metadata.size:
        raise IntegrityError(uri, expected=f"{metadata.size} bytes", got=f"{staged.length} bytes")

    def digest_by(algorithm: str) -> str:
        return staged.digest if staged.digest.startswith(f"{algorithm}:") else digest(algorithm)

    verified_by = staged.verified_by
    of_one_part = _checksum_of_one_part(staged)
    if of_one_part is not None:
        verified_by = of_one_part.algorithm
        found = PartsChecksum.of([digest_by(verified_by)])
        if found != of_one_part:
            raise IntegrityError(uri, expected=str(of_one_part), got=str(found))
    for expected in _expected(staged, target):
        algorithm = expected.partition(":")[0]
        got = digest_by(algorithm)
        if got != expected:
            raise IntegrityError(uri, expected=expected, got=got)
        verified_by = algorithm
    return Verified(target.key, metadata, staged.content, staged.digest, verified_by, target.pin)


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
