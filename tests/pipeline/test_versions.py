"""Which version of an object was there at some time, and in how many requests that is found out."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from unittest import mock

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from datacachalog import CatalogConfig, Dataset, EmptyGlobMatchError, ObjectVersion, VersionNotFoundError
from datacachalog._pipeline import versions as versions_module
from datacachalog._pipeline.requests import Requests
from datacachalog._pipeline.resolve import Resolver
from datacachalog._pipeline.versions import AsOf, version_at
from datacachalog.testing import MemoryStorage

EPOCH = datetime(2025, 1, 1, tzinfo=UTC)


def at(minute: int) -> datetime:
    return EPOCH + timedelta(minutes=minute)


@given(written=st.lists(st.integers(0, 20), max_size=8), minute=st.integers(-1, 21))
def test_version_at_is_the_newest_that_is_not_too_new(written: list[int], minute: int) -> None:
    """Of a listing, the newest first, it is the first that was written until then; None if all came later."""
    versions = [ObjectVersion(str(m), at(m), "e", 1, False, False) for m in sorted(written, reverse=True)]  # noqa: FBT003
    expected = max((m for m in written if m <= minute), default=None)
    found = version_at(iter(versions), at(minute))
    assert (None if expected is None else at(expected)) == (None if found is None else found.last_modified)


KEYS = st.sampled_from(["a", "ab", "a/a", "a/b", "a/bb", "a/c/a", "a/é", "a/🦆", "b/a", "b/z"])
HISTORIES = st.lists(st.tuples(KEYS, st.booleans(), st.integers(0, 3)), max_size=40)


@settings(deadline=None, max_examples=150)
@given(
    history=HISTORIES,
    wanted=st.lists(KEYS, min_size=1, unique=True),
    elapsed=st.floats(0, 1),
    page_size=st.integers(1, 12),
    row=st.integers(1, 4),
)
def test_g1_as_of_agrees_with_the_history(
    history: list[tuple[str, bool, int]], wanted: list[str], elapsed: float, page_size: int, row: int
) -> None:
    """Whatever was written and deleted, and however the listings are paged, each dataset is what it was then."""
    storage = MemoryStorage(is_versioned=True, page_size=page_size)
    minute, there, moment_there = 0, {}, {}
    moment = int(elapsed * sum(step for _, _, step in history))
    for key, is_deletion, step in history:
        minute += step
        if is_deletion:
            storage.delete(f"mem://x/{key}", last_modified=at(minute))
            there.pop(key, None)
        else:
            there[key] = storage.put(f"mem://x/{key}", b"", last_modified=at(minute)).version_id
        if minute <= moment:
            moment_there = dict(there)
    singles = [Dataset(key, f"mem://x/{key}") for key in wanted]
    glob = Dataset("glob", "mem://x/a/**")

    async def find() -> tuple[dict[str, str | None], int]:
        config = CatalogConfig()
        found: dict[str, str | None] = {}
        async with storage.connect(config) as session:
            requests = Requests(session, config, anyio.CapacityLimiter(9), lambda _: None, 1)
            selection = AsOf(Resolver([*singles, glob], None, 0.0), at(moment))
            with mock.patch.object(versions_module, "KEYS_IN_A_ROW", row):
                await selection.prepare([*singles, glob], requests)
            sent = requests.sent
            for dataset in (*singles, glob):
                try:
                    targets, _ = await selection.targets(dataset, requests)
                    found |= {f"{dataset.name} {t.key.uri[8:]}": t.key.version_id for t in targets}
                except (VersionNotFoundError, EmptyGlobMatchError):
                    pass
        return found, sent

    found, sent = asyncio.run(find())
    expected = {f"{key} {key}": moment_there[key] for key in wanted if key in moment_there}
    assert expected | {f"glob {k}": v for k, v in moment_there.items() if k.startswith("a/")} == found
    pages = max(1, -(-len(history) // page_size))
    assert sent <= len(wanted) * (1 + pages)
