"""Are these bytes the object's, of which the remote knows only the checksum of its parts' checksums?

S3 calls it composite; it is what boto3 leaves on what it uploads in parts. It can be compared by who knows where the
parts ended. A wrong guess of that can't match, so only what does not match is compared part by part as the remote says
they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from .._digests import PartsChecksum, crc_algorithm_of, format_crc, parse_crc
from .._errors import IntegrityError
from .requests import Requests
from .resolve import Target
from .transfer import Staged, loaded_crc
from .uploaded_parts import all_part_bytes, likely_part_bytes


async def compare_parts(staged: Staged, target: Target, requests: Requests) -> Staged:
    """Compare what is staged on disk with the checksum of its parts' checksums, if the remote has one.

    What came in ranges that end where the parts ended isn't read again, if the checksum is a CRC.

    Returns:
        What was staged, `verified_by` set; as it was if the remote doesn't tell where the parts ended.

    Raises:
        IntegrityError: they differ.
        CacheError: the bytes can't be read.
    """
    metadata = staged.metadata
    if metadata.parts_checksum is None or isinstance(staged.content, tuple):
        return staged
    expected = PartsChecksum.parse(metadata.parts_checksum)
    if expected.parts == 1:
        return staged  # its only part is the whole: `verify` compares that
    likely_bytes = staged.upload_part_bytes or await likely_part_bytes(metadata, target, requests)
    if likely_bytes is not None:
        starts = range(0, metadata.size, likely_bytes)
        if await _parts_checksum(staged, expected.algorithm, [*starts, metadata.size]) == expected:
            return replace(staged, verified_by=expected.algorithm)
    sizes = await all_part_bytes(expected.parts, metadata, target, requests)
    if sizes is None:
        return staged
    got = await _parts_checksum(staged, expected.algorithm, list(accumulate(sizes, initial=0)))
    if got != expected:
        raise IntegrityError(target.key.uri, expected=str(expected), got=str(got))
    return replace(staged, verified_by=expected.algorithm)


async def _parts_checksum(staged: Staged, algorithm: str, bounds: Sequence[int]) -> PartsChecksum:
    """Compute the checksum of the parts' checksums, of parts that begin and end at these bytes."""
    content = staged.content
    assert not isinstance(content, tuple)  # noqa: S101  # what is in memory has one part
    crc_algorithm = crc_algorithm_of(f"{algorithm}:")
    if crc_algorithm is None:
        return PartsChecksum.of([await content.digest(algorithm, start, stop) for start, stop in pairwise(bounds)])
    combine = (await loaded_crc(crc_algorithm)).combine
    segments = staged.segments if staged.digest.startswith(f"{algorithm}:") else ()
    digests: list[str] = []
    index = 0
    for start, stop in pairwise(bounds):
        value, position = 0, start
        while index < len(segments) and segments[index].start < start:
            index += 1  # it crosses the bound, so its CRC is of no use
        while index < len(segments) and segments[index].stop <= stop:
            segment = segments[index]
            if position < segment.start:
                between = parse_crc(await content.digest(algorithm, position, segment.start))
                value = combine(value, between, segment.start - position)
            value = combine(value, segment.crc, segment.stop - segment.start)
            position = segment.stop
            index += 1
        if position < stop:
            value = combine(value, parse_crc(await content.digest(algorithm, position, stop)), stop - position)
        digests.append(format_crc(crc_algorithm, value))
    return PartsChecksum.of(digests)
