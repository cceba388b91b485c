"""Which pages are asked for, what do they say, and what do they cost?"""

from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog import AccessDeniedError, CatalogConfig, CredentialsError, FileMetadata, StorageError
from datacachalog._pipeline.requests import Requests
from datacachalog._pipeline.revalidate import (
    LEAST_KEYS,
    PAGE_OBJECTS,
    Position,
    Run,
    after_page,
    just_before,
    next_page,
    plan_runs,
    root_of,
    survey,
)
from datacachalog.ports import ListedObject, ListPage
from datacachalog.testing import FaultyStorage, MemoryStorage, Throttled, Unreachable

ROOT = "s3://bucket/"
keys = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)


def uris(count, prefix="data/"):
    return [f"{ROOT}{prefix}{number:06}" for number in range(count)]


def listing(bucket, ask):
    """A page of a bucket, sorted already."""
    found = [uri for uri in bucket if uri.startswith(ask.prefix) and uri > ask.start_after]
    page = [ListedObject(uri, FileMetadata(uri, None, 1)) for uri in found[: ask.limit]]
    return ListPage(tuple(page), "more" if len(found) > len(page) else None)


def carried_out(run, bucket):
    """All that a run finds, and the pages that it asks for."""
    position, found, asked = Position(), {}, []
    while (ask := next_page(run, position)) is not None:
        asked.append(ask)
        more, position = after_page(run, position, listing(bucket, ask))
        found |= more
    return found, asked


# -- where to begin


@given(keys, keys)
def test_nothing_that_was_wanted_lies_between_the_start_and_the_key(first, second):
    """The start comes before the key, and behind other keys before it, but for some that nobody would use."""
    uri, other = ROOT + first, ROOT + second
    start = just_before(uri, ROOT)
    assert start.encode() < uri.encode()
    assert not (start < other < uri) or "\U0010ffff" in other or uri.startswith(other)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a/b", "a/a\U0010ffff"),
        ("a/", "a.\U0010ffff"),
        ("nul\0", "nul"),
        ("\ue000", "\ud7ff\U0010ffff"),
        ("", ""),
        ("x" * 1024, "x" * 1023 + "w"),
    ],
)
def test_start_is_the_key_less_one(key, expected):
    """Its last character less one; no surrogate, and no longer than a key may be."""
    start = just_before(ROOT + key, ROOT)
    assert (expected if key else ROOT[:-1]) == start.removeprefix(ROOT)


# -- runs


def test_few_keys_are_not_listed():
    """Below the threshold each is asked for; it counts by bucket."""
    few = uris(LEAST_KEYS - 1)
    assert [] == plan_runs([*few, *few, *(uri.replace("bucket", "other") for uri in few)])


@pytest.mark.parametrize(("count", "lengths"), [(16, [16]), (1000, [1000]), (1001, [500, 501]), (10_000, [1000] * 10)])
def test_runs_are_as_even_as_can_be(count, lengths):
    """At most a page each, so that they can be listed at once; no short one at the end."""
    runs = plan_runs(reversed(uris(count)))
    assert (lengths, uris(count)) == ([len(run.uris) for run in runs], [uri for run in runs for uri in run.uris])


def test_each_bucket_has_runs_of_its_own():
    """What begins with another root can't be in the same listing."""
    others = [uri.replace("bucket", "b") for uri in uris(20)]
    assert [Run(ROOT, tuple(uris(20))), Run("s3://b/", tuple(others))] == plan_runs([*uris(20), *others])


def test_key_that_is_no_text_is_left_out():
    """A listing can't have it; the others are listed."""
    assert [Run(ROOT, tuple(uris(20)))] == plan_runs([*uris(20), ROOT + "data/\udcff"])


@given(st.sets(keys, min_size=LEAST_KEYS))
def test_order_of_runs_is_that_of_the_bytes(names):
    """S3 sorts by the bytes of the keys in UTF-8."""
    wanted = [ROOT + name for name in names]
    assert sorted(wanted, key=str.encode) == [uri for run in plan_runs(wanted) for uri in run.uris]


@pytest.mark.parametrize(
    ("uri", "root"), [("s3://b/k/l", "s3://b/"), ("gs://b/", "gs://b/"), ("/data/a", "/data/"), ("mem://b", "")]
)
def test_root_ends_before_the_key(uri, root):
    """A bucket, or what stands for it."""
    assert root == root_of(uri)


# -- pages


def test_keys_that_are_all_there_is_cost_a_page_a_thousand():
    """10 000 cached files of one prefix: ten listings, all at once."""
    bucket = uris(10_000)
    results = [carried_out(run, bucket) for run in plan_runs(bucket)]
    assert (bucket, 10) == ([uri for found, _ in results for uri in found], sum(len(asked) for _, asked in results))


def test_page_begins_right_before_the_next_wanted_key():
    """However many keys lie between two groups, they are jumped over."""
    wanted = [*uris(30, "a/"), *uris(30, "z/")]
    bucket = sorted([*wanted, *uris(5000, "m/")])
    found, asked = carried_out(Run(ROOT, tuple(wanted)), bucket)
    assert (wanted, ["", "z/0000"]) == (list(found), [ask.prefix.removeprefix(ROOT) for ask in asked])


def test_prefix_is_what_the_keys_share():
    """So that a policy that allows one prefix is enough, and a page ends with it."""
    ask = next_page(Run(ROOT, tuple(uris(20, "a/b/"))), Position())
    assert (f"{ROOT}a/b/0000", 160) == (ask.prefix, ask.limit)


def test_keys_far_apart_cost_a_handful_of_listings():
    """Where few of the entries of a page were wanted, ever more keys are left to be asked for one by one."""
    bucket = uris(200_000)
    wanted = bucket[::200]
    [run] = plan_runs(wanted)
    found, asked = carried_out(run, bucket)
    assert len(asked) <= 6
    assert len(found) >= len(asked)


@given(st.sets(keys, min_size=LEAST_KEYS, max_size=60), st.sets(keys, max_size=60), st.integers(1, 30))
def test_survey_is_right_and_never_dearer_than_a_request_each(names, others, page_objects):
    """What is found is there, what isn't there is never found, and a listing is asked for per wanted key at most."""
    wanted = sorted(ROOT + name for name in names)
    bucket = sorted({ROOT + name for name in others} | set(wanted[::2]))
    run, position, found, pages = Run(ROOT, tuple(wanted)), Position(), {}, 0
    while (ask := next_page(run, position)) is not None:
        whole = listing(bucket, ask)
        objects = whole.objects[:page_objects]  # a store may give fewer than were asked for
        more, after = after_page(run, position, ListPage(objects, whole.next_token or objects != whole.objects or None))
        assert after.index > position.index
        found, position, pages = found | more, after, pages + 1
    assert found.keys() <= set(bucket) & set(wanted)
    assert pages <= len(wanted)
    assert all(metadata.etag == uri for uri, metadata in found.items())


@given(st.sets(keys, min_size=LEAST_KEYS, max_size=60))
def test_all_is_found_where_all_was_wanted(names):
    """A prefix that is cached whole is confirmed whole."""
    wanted = tuple(sorted(ROOT + name for name in names))
    assert set(wanted) == set(carried_out(Run(ROOT, wanted), list(wanted))[0])


def test_page_in_another_order_ends_a_run_in_time():
    """A store that lists as it likes is not asked for ever."""
    run = Run(ROOT, tuple(uris(20)))
    page = ListPage((ListedObject(f"{ROOT}a", FileMetadata("e", None, 1)),), "more")
    position, pages = Position(), 0
    while next_page(run, position) is not None:
        _, position = after_page(run, position, page)
        pages += 1
    assert pages == 1


# -- asking


async def surveyed(storage, wanted, unlistable=None, **settings):
    """What is found, how many requests that took, and the roots that are not to be listed again."""
    unlistable = set() if unlistable is None else unlistable
    config = CatalogConfig(**settings)
    events = []
    async with storage.connect(config) as session:
        requests = Requests(session, config, anyio.CapacityLimiter(config.max_concurrency), events.append, 5)
        result = await survey(dict.fromkeys(wanted, "name"), requests, unlistable)
    return result, requests.sent, unlistable, events


@pytest.fixture
def memory():
    storage = MemoryStorage()
    for uri in uris(40):
        storage.put(uri, b"content")
    return storage


async def test_survey_tells_what_the_listings_say(memory):
    """One request for forty objects; it counts for the one from which on it was asked."""
    result, sent, unlistable, events = await surveyed(memory, [*uris(40), ROOT + "data/gone"])
    assert (uris(40), {uris(1)[0]: 1}, 1) == (list(result.found), result.asked, sent)
    assert (set(), [], ["LIST"]) == (unlistable, events, [request.method for request in memory.requests])


class Refusing:
    """A storage whose listings are refused."""

    def __init__(self, error, *, is_seekable=True):
        self._error, self._is_seekable = error, is_seekable

    @asynccontextmanager
    async def connect(self, config):
        yield self

    def is_seekable(self, root):
        return self._is_seekable

    async def list_after(self, prefix, start_after, limit):
        raise self._error


@pytest.mark.parametrize(
    ("error", "is_remembered"),
    [
        (AccessDeniedError(ROOT, "403"), True),
        (StorageError(ROOT, "501 NotImplemented"), True),
        (CredentialsError(ROOT, "ExpiredToken"), False),
    ],
)
async def test_refusal_says_nothing_and_is_remembered_if_it_will_last(error, is_remembered):
    """Who may not list, or can't, isn't asked again while the session lasts; others may be able to later."""
    storage = Refusing(error)
    result, sent, unlistable, _ = await surveyed(storage, uris(40))
    assert ({}, 1, {ROOT} if is_remembered else set()) == (result.found, sent, unlistable)
    assert (0 if is_remembered else 1) == (await surveyed(storage, uris(40), unlistable))[1]


async def test_session_that_is_not_seekable_is_not_asked():
    """A file system, say, where asking for each costs less."""
    storage = Refusing(AssertionError("not to be asked"), is_seekable=False)
    assert 0 == (await surveyed(storage, uris(40)))[1]


@pytest.mark.parametrize("fault", [Unreachable, Throttled])
@pytest.mark.parametrize(("times", "found"), [(1, 40), (2, 0)])
async def test_listing_without_an_answer_is_asked_for_twice(memory, monkeypatch, fault, times, found):
    """Then each object is asked for, as often as the configuration says."""
    monkeypatch.setattr("datacachalog._pipeline.requests._FIRST_DELAY_SECONDS", 0.0)
    storage = FaultyStorage(memory, [fault(method="LIST", times=times)])
    result, sent, unlistable, events = await surveyed(storage, uris(40))
    assert (found, 2, set(), ["name"]) == (len(result.found), sent, unlistable, [event.dataset for event in events])


async def test_without_retries_a_listing_is_asked_for_once(memory):
    """`retries=0` means it."""
    storage = FaultyStorage(memory, [Unreachable(method="LIST", times=None)])
    assert 1 == (await surveyed(storage, uris(40), retries=0))[1]


async def test_survey_keeps_to_the_budget(memory):
    """Its listings run at once, within the limit of all requests."""
    for uri in uris(3000):
        memory.put(uri, b"")
    result, sent, _, _ = await surveyed(memory, uris(3000), max_concurrency=1)
    assert (3000, 3, PAGE_OBJECTS) == (len(result.found), sent, max(len(run.uris) for run in plan_runs(uris(3000))))
