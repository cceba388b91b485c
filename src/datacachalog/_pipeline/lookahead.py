"""What can be learnt of many datasets at once, before each of them is looked at? The copies, and what listings say.

Both save work only: of what isn't found here each dataset asks for itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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


@dataclass(frozen=True, slots=True)
class Copies:
    """What is cached of the datasets whose one object is known.

    Args:
        targets: the objects, by the dataset's name.
        entries: the copies, by key; None where there is none.
    """

    targets: Mapping[str, Target] = field(default_factory=dict)
    entries: Mapping[CacheKey, CacheEntry | None] = field(default_factory=dict)


async def copies_of(datasets: Sequence[Dataset], selection: Selection, cache: CachePort) -> Copies:
    """Read the sidecars of all datasets whose one object is known, together; none of them if one can't be read."""
    targets: dict[str, Target] = {}
    try:
        async for dataset in in_turns(datasets):
            target = selection.known(dataset)
            if target is not None:
                targets[dataset.name] = target
        keys = [target.key for target in targets.values()]
        return Copies(targets, dict(zip(keys, await find_entries(cache, keys), strict=True)) if keys else {})
    except (CacheError, LockMismatchError):
        return Copies()


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
    copies = await copies_of(datasets, selection, cache)
    cached: dict[str, str] = {}
    missing: dict[str, str] = {}
    async for name, target in in_turns(copies.targets.items()):
        if not is_listable(target):
            continue
        match decide_now(target, copies.entries[target.key], is_forced=False, is_offline=requests.config.offline):
            case Revalidate():
                cached[target.key.uri] = name
            case Download():
                missing[target.key.uri] = name
    # Not together: a fetch lists only for what is cached, and a plan is to tell in how many requests.
    confirming = await survey(cached, requests, unlistable)
    sizing = await survey(missing, requests, unlistable)
    return Lookahead(copies.entries, {**sizing.found, **confirming.found}, confirming.asked)


def decide_now(target: Target, entry: CacheEntry | None, *, is_forced: bool, is_offline: bool) -> Decision:
    """Decide what a fetch of a file would do at this moment."""
    age_seconds = 0.0 if entry is None else time.time() - entry.validated_at
    return decide(target, entry, age_seconds=age_seconds, is_forced=is_forced, is_offline=is_offline)
