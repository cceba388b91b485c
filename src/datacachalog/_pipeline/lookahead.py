"""What can be learnt of many datasets at once, before each of them is looked at? The copies, and what listings say.

Both save work only: of what isn't found here each dataset asks for itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .._errors import CacheError, LockMismatchError
from .._models import Dataset, FileMetadata
from ..ports import CacheEntry, CacheKey, CachePort
from .adopt import find_entries
from .plan import Decision, Download, Revalidate, decide
from .requests import Requests
from .resolve import Selection, Target
from .revalidate import survey
from .workers import in_turns


@dataclass(frozen=True, slots=True)
class Lookahead:
    """What is known before anything was asked for by itself.

    Args:
        entries: the copies of single files, by key; without those that couldn't be read.
        listed: objects by URI, as listings have them.
        asked: how many listings a fetch would ask for, by the URI from which on it would.
    """

    entries: Mapping[CacheKey, CacheEntry | None]
    listed: Mapping[str, FileMetadata]
    asked: Mapping[str, int]


async def entries_of(
    datasets: Sequence[Dataset], selection: Selection, cache: CachePort
) -> dict[CacheKey, CacheEntry | None]:
    """Read the sidecars of all datasets whose one object is known, together; none of them if one can't be read."""
    try:
        known = [selection.known(dataset) async for dataset in in_turns(datasets)]
        keys = [target.key for target in known if target is not None]
        return dict(zip(keys, await find_entries(cache, keys), strict=True)) if keys else {}
    except (CacheError, LockMismatchError):
        return {}


def is_listable(target: Target) -> bool:
    """Whether a listing of what there is now can tell about it."""
    return target.key.version_id is None and target.if_match is None and not target.is_fixed


async def look_ahead(
    datasets: Sequence[Dataset],
    selection: Selection,
    cache: CachePort,
    requests: Requests,
    unlistable: set[str],
) -> Lookahead:
    """Look at what can be looked at together; nothing is asked of the remote while the catalog is offline.

    Args:
        datasets: those that are asked about.
        selection: what they mean.
        cache: where the copies lie.
        requests: the way to the remote.
        unlistable: the beginnings of URIs below which the remote refuses to list; added to.
    """
    entries = await entries_of(datasets, selection, cache)
    cached: dict[str, str] = {}
    missing: dict[str, str] = {}
    async for dataset in in_turns(datasets if entries else ()):
        target = selection.known(dataset)
        if target is None or target.key not in entries or not is_listable(target):
            continue
        match decide_now(target, entries[target.key], is_forced=False, is_offline=requests.config.offline):
            case Revalidate():
                cached[target.key.uri] = dataset.name
            case Download():
                missing[target.key.uri] = dataset.name
    # Not together: a fetch lists only for what is cached, and a plan is to tell in how many requests.
    confirming = await survey(cached, requests, unlistable)
    sizing = await survey(missing, requests, unlistable)
    return Lookahead(entries, {**sizing.found, **confirming.found}, confirming.asked)


def decide_now(target: Target, entry: CacheEntry | None, *, is_forced: bool, is_offline: bool) -> Decision:
    """Decide what a fetch of a file would do at this moment."""
    age_seconds = 0.0 if entry is None else time.time() - entry.validated_at
    return decide(target, entry, age_seconds=age_seconds, is_forced=is_forced, is_offline=is_offline)
