"""What has to be done for a file, and why? Decided from values alone: no clock, no path, no waiting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .._errors import redact_uri
from .._models import Dataset, FileMetadata, PlanAction, PlanStep
from ..ports import CacheEntry, Segment
from .resolve import Target


@dataclass(frozen=True, slots=True)
class UseCached:
    """Serve the cached copy without a request of its own; `because` says what allows that."""

    entry: CacheEntry
    reason: str
    because: Literal["max_age", "listing", "offline", "fixed"] = "max_age"


@dataclass(frozen=True, slots=True)
class Adopt:
    """Copy a cached file of this very version that lies in the newest's place, where it will be replaced one day."""

    entry: CacheEntry
    reason: str


@dataclass(frozen=True, slots=True)
class Revalidate:
    """Ask whether the cached copy is the newest; if not, the same answer brings the new bytes."""

    entry: CacheEntry
    reason: str


@dataclass(frozen=True, slots=True)
class Download:
    """Bring the bytes; `servable` is the cached copy to fall back on, if there is one that may be served."""

    servable: CacheEntry | None
    reason: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No request is allowed and nothing is cached."""

    reason: str


Decision = UseCached | Adopt | Revalidate | Download | Unavailable


def decide(
    target: Target, entry: CacheEntry | None, *, age_seconds: float, is_forced: bool, is_offline: bool
) -> Decision:
    """Decide what a fetch of this file does.

    Args:
        target: the file.
        entry: its cached copy, if there is a good one; of a version, the newest's copy may be that.
        age_seconds: since the remote confirmed that copy.
        is_forced: bring the bytes in any case.
        is_offline: send no request.
    """
    if entry is not None and target.pin is not None and not _is_pinned(entry, target.pin):
        entry_note = "the cached copy isn't what the checksum pins"
        return Unavailable(entry_note) if is_offline else Download(None, entry_note)
    if entry is not None and target.locked is not None and not target.locked.is_of(entry.metadata):
        entry_note = "the cached copy isn't what the data lock file names"
        return Unavailable(entry_note) if is_offline else Download(None, entry_note)
    if entry is not None and target.is_fixed and not (is_forced and not is_offline):
        if entry.key.version_id != target.key.version_id:
            return Adopt(entry, "the cached copy of the newest is this version")
        named = "the data lock file names the cached version" if target.locked else "a version never changes"
        return UseCached(entry, named, "fixed")
    if is_offline:
        return (
            Unavailable("offline, and nothing is cached") if entry is None else UseCached(entry, "offline", "offline")
        )
    if entry is None:
        return Download(None, "not cached")
    # Where one version is demanded, another is no fallback.
    servable = None if target.if_match is not None else entry
    if is_forced:
        return Download(servable, "forced")
    if 0 <= age_seconds < target.max_age_seconds:
        return UseCached(entry, f"confirmed {age_seconds:.0f} s ago, max_age is {target.max_age_seconds:g} s")
    if target.listed is not None:
        if target.listed.is_same_version(entry.metadata):
            return UseCached(entry, "the listing has the cached version", "listing")
        return Download(servable, "the listing has another version")
    if entry.metadata.etag is None:
        return Download(entry, "the cached copy has no ETag to ask with")
    return Revalidate(entry, "max_age is over" if target.max_age_seconds else "always asked (max_age 0)")


def _is_pinned(entry: CacheEntry, pin: str) -> bool:
    """Whether the copy was compared with this very pin; a copy of other algorithms is compared by a new download."""
    return entry.metadata.pin == pin


def is_fresh(entry: CacheEntry, remote: FileMetadata) -> bool:
    """Whether the cached copy is the version that the remote has now."""
    return remote.is_same_version(entry.metadata)


def requests_to_download(size: int, part_bytes: int) -> int:
    """Count the requests of a download: one for what fits in a part; else one a part, and one for the checksum.

    An empty object has no first byte: after that answer it is asked for once more, without a range.
    """
    if size == 0:
        return 2
    return 1 if size <= part_bytes else math.ceil(size / part_bytes) + 1


def missing_ranges(
    size: int,
    segments: Sequence[Segment],
    offered: tuple[int, int],
    part_bytes: int,
    upload_part_bytes: int | None = None,
) -> list[tuple[int, int]]:
    """Divide what is missing of a file into ranges to ask for.

    Args:
        size: bytes of the whole file.
        segments: what is there, in order, not overlapping.
        offered: a range that is about to come without being asked for again, start and stop.
        part_bytes: the largest range to ask for.
        upload_part_bytes: the size of the parts that it was uploaded in, if ranges are to end where they ended.

    Returns:
        The ranges; first the offered one, if nothing of it is there already.
    """
    gaps: list[tuple[int, int]] = []
    position = 0
    for start, stop in [*((segment.start, segment.stop) for segment in segments), (size, size)]:
        if start > position:
            gaps.append((position, start))
        position = stop
    ranges: list[tuple[int, int]] = []
    for start, stop in gaps:
        rest = [(start, stop)]
        if start <= offered[0] < offered[1] <= stop:
            ranges.insert(0, offered)
            rest = [(start, offered[0]), (offered[1], stop)]
        for first, end in rest:
            while first < end:
                stop = min(_range_stop(first, part_bytes, upload_part_bytes), end)
                ranges.append((first, stop))
                first = stop  # the rest of it
    return ranges


def _range_stop(start: int, part_bytes: int, upload_part_bytes: int | None) -> int:
    if upload_part_bytes is None:
        return start + part_bytes
    whole_parts_bytes = max(1, part_bytes // upload_part_bytes) * upload_part_bytes
    return min(start + part_bytes, (start // whole_parts_bytes + 1) * whole_parts_bytes)


@dataclass(frozen=True, slots=True)
class FileOutlook:
    """What is known of one file before anything is done: the decision, and what the remote has if it was asked.

    Args:
        decision: it.
        remote: the version there.
        is_listed: a listing of many objects confirms the copy, so no request of its own is needed.
    """

    decision: Decision
    remote: FileMetadata | None
    is_listed: bool = False


def plan_step(dataset: Dataset, files: Sequence[FileOutlook], *, listings: int, part_bytes: int) -> PlanStep:
    """Sum up what a fetch of the dataset would do.

    Args:
        dataset: it.
        files: its files.
        listings: how many requests it takes to list them.
        part_bytes: size of a range.
    """
    action: PlanAction = "none"
    size = 0
    requests = listings
    reasons: list[str] = []
    for file in files:
        step_action, step_size, step_requests, reason = _file_step(file, part_bytes)
        size += step_size
        requests += step_requests
        reasons.append(reason)
        if _WEIGHT[step_action] > _WEIGHT[action]:
            action = step_action
    reason = reasons[0] if len(set(reasons)) == 1 else _counted(reasons)
    return PlanStep(dataset.name, redact_uri(dataset.source), action, size, reason, requests)


_WEIGHT: dict[PlanAction, int] = {"none": 0, "revalidate": 1, "download": 2, "fail": 3}


def _file_step(file: FileOutlook, part_bytes: int) -> tuple[PlanAction, int, int, str]:
    decision, remote = file.decision, file.remote
    match decision:
        case UseCached(reason=reason) | Adopt(reason=reason):
            return "none", 0, 0, reason
        case Unavailable(reason):
            return "fail", 0, 0, reason
        case Revalidate() if file.is_listed:
            return "revalidate", 0, 0, "the listing has the cached version"
        case Revalidate(entry, _):
            if remote is None or is_fresh(entry, remote):
                return "revalidate", 0, 1, "the remote has the cached version"
            return (
                "download",
                remote.size,
                requests_to_download(remote.size, part_bytes),
                "the remote has another version",
            )
        case Download(_, reason):
            if remote is None:
                return "download", 0, 1, reason
            return "download", remote.size, requests_to_download(remote.size, part_bytes), reason


def _counted(reasons: Sequence[str]) -> str:
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    return "; ".join(f"{count} files: {reason}" for reason, count in counts.items())
