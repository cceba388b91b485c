"""Where did the parts end that an object was uploaded in?

Nearly always they are equally large but for the last, so their number and the size of one tell. Where the size that we
ask for is a possible one, it isn't even asked: it is what most people leave at its default on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from .._digests import PartsChecksum
from .._errors import StorageError
from .._models import FileMetadata
from .requests import Requests
from .resolve import Target


async def likely_part_bytes(metadata: FileMetadata, target: Target, requests: Requests) -> int | None:
    """Give the size of all parts but the last, if they may be equally large; one request at most."""
    if metadata.parts_checksum is None:
        return None
    parts, ours = PartsChecksum.parse(metadata.parts_checksum).parts, requests.config.part_bytes
    if parts == 1 or _is_possible(ours, parts, metadata.size):
        return ours
    first_bytes = await _part_bytes(1, metadata, target, requests)
    return first_bytes if first_bytes and _is_possible(first_bytes, parts, metadata.size) else None


def _is_possible(part_bytes: int, parts: int, size: int) -> bool:
    return (parts - 1) * part_bytes < size <= parts * part_bytes


async def _part_bytes(number: int, metadata: FileMetadata, target: Target, requests: Requests) -> int | None:
    if metadata.etag is None:
        return None
    key = target.key
    try:
        return await requests.part_bytes(key.uri, number, etag=metadata.etag, version_id=key.version_id)
    except StorageError:
        return None  # some stores don't know the question, in several ways of saying so


async def all_part_bytes(
    parts: int, metadata: FileMetadata, target: Target, requests: Requests
) -> Sequence[int] | None:
    """Ask for the size of every part; None if that can't be told."""
    sizes = [0] * parts

    async def ask(number: int) -> None:
        sizes[number - 1] = await _part_bytes(number, metadata, target, requests) or 0

    await ask(1)
    if sizes[0] == 0 or sizes[0] == metadata.size:  # that is what a store says that doesn't know of parts
        return None
    async with anyio.create_task_group() as tasks:
        for number in range(2, parts + 1):
            tasks.start_soon(ask, number)
    return sizes if all(sizes) and sum(sizes) == metadata.size else None
