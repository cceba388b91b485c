"""How a request is sent: counted, within the budget, and again when it fails."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog import AccessDeniedError, CatalogConfig, StorageUnreachableError, ThrottledError
from datacachalog._events import RequestRetried
from datacachalog._pipeline.requests import Requests, retry_delay_seconds
from datacachalog.ports import ReadRequest
from datacachalog.testing import FaultyStorage, MemoryStorage, Throttled, Unreachable

URI = "mem://bucket/a"
CHANCES = st.floats(0, 1, exclude_max=True)


@given(tries=st.integers(1, 60), chance=CHANCES)
def test_delay_grows_and_is_bounded(tries, chance):
    """The wait doubles from a fifth of a second up to 20 seconds, and jitter takes off up to a half."""
    longest = min(0.2 * 2 ** (tries - 1), 20)
    assert longest / 2 <= retry_delay_seconds(tries, None, chance) <= longest


@given(asked=st.floats(0, 120), tries=st.integers(1, 9), chance=CHANCES)
def test_delay_is_never_shorter_than_asked(asked, tries, chance):
    """Retry-After is honoured, and a little is added so that not all come back at once."""
    assert asked <= retry_delay_seconds(tries, asked, chance) <= asked * 1.1


def test_delay_that_is_asked_for_is_bounded():
    """A remote that asks for a day is asked again after two minutes."""
    assert 120.0 == retry_delay_seconds(1, 86400.0, 0.0)


class Sent:
    """Requests over a storage, without waits, and what was told."""

    def __init__(self, storage, monkeypatch, **settings):
        self.storage = storage
        self.config = CatalogConfig(**settings)
        self.events = []
        self.waits = []
        self._sleep = anyio.sleep
        monkeypatch.setattr("anyio.sleep", self._wait)

    async def _wait(self, seconds):
        self.waits.append(seconds)
        await self._sleep(0)

    async def run(self, work):
        limiter = anyio.CapacityLimiter(self.config.max_concurrency)
        async with self.storage.connect(self.config) as session:
            self.requests = Requests(session, self.config, limiter, self.events.append, 5)
            return await work(self.requests)


@pytest.fixture
def memory():
    storage = MemoryStorage()
    storage.put(URI, b"content")
    return storage


async def test_request_that_works_is_counted_once(memory, monkeypatch):
    """No failure, no wait, no event."""
    sent = Sent(memory, monkeypatch)
    metadata = await sent.run(lambda requests: requests.head("a", URI))
    assert (7, 1, [], []) == (metadata.size, sent.requests.sent, sent.events, sent.waits)


@pytest.mark.parametrize("fault", [Unreachable, Throttled])
@pytest.mark.parametrize("method", ["HEAD", "LIST"])
async def test_request_is_sent_again_and_each_try_counts(memory, monkeypatch, fault, method):
    """After three failures the fourth try works: four sent, three waits told, each before it."""
    sent = Sent(FaultyStorage(memory, [fault(method=method, times=3)]), monkeypatch)

    async def work(requests):
        if method == "HEAD":
            return await requests.head("a", URI)
        return await requests.list_page("a", "mem://bucket/", None)

    await sent.run(work)
    told = [(event.operation, event.dataset, event.attempt, event.delay_seconds) for event in sent.events]
    assert (4, [(5, "a", n + 1, sent.waits[n]) for n in range(3)]) == (sent.requests.sent, told)


@pytest.mark.parametrize("retries", [0, 2])
async def test_request_is_given_up_after_the_retries(memory, monkeypatch, retries):
    """After `retries` further tries the last error is raised."""
    sent = Sent(FaultyStorage(memory, [Unreachable(method="HEAD", times=None)]), monkeypatch, retries=retries)
    with pytest.raises(StorageUnreachableError):
        await sent.run(lambda requests: requests.head("a", URI))
    assert (retries + 1, retries) == (sent.requests.sent, len(sent.waits))


async def test_refusal_is_not_tried_again(monkeypatch):
    """What is refused stays refused: only what did not answer, or asked to slow down, is asked again."""

    class Refusing:
        async def head(self, uri, *, version_id=None):
            raise AccessDeniedError(uri, "403")

    class Storage:
        def connect(self, config):
            from contextlib import nullcontext

            return nullcontext(Refusing())

    sent = Sent(Storage(), monkeypatch)
    with pytest.raises(AccessDeniedError):
        await sent.run(lambda requests: requests.head("a", URI))
    assert (1, []) == (sent.requests.sent, sent.waits)


@pytest.mark.parametrize("fault", [Unreachable, Throttled])
async def test_retry_after_is_waited_for(memory, monkeypatch, fault):
    """As long as the remote asks, and not shorter."""
    sent = Sent(FaultyStorage(memory, [fault(method="HEAD", retry_after_seconds=7)]), monkeypatch)
    await sent.run(lambda requests: requests.head("a", URI))
    assert 7 <= sent.waits[0] <= 7.7


async def test_read_is_sent_once_and_counted(memory, monkeypatch):
    """A read that fails is for its caller to repeat: he knows from which byte."""
    sent = Sent(FaultyStorage(memory, [Unreachable()]), monkeypatch)

    async def work(requests):
        with pytest.raises(StorageUnreachableError):
            async with requests.read(ReadRequest(uri=URI)):
                pass

    await sent.run(work)
    assert (1, []) == (sent.requests.sent, sent.waits)


async def test_requests_in_flight_are_bounded(monkeypatch):
    """Reads hold their place in the budget until they are left; waiting between tries holds none."""
    in_flight, most = 0, 0

    class Session:
        async def head(self, uri, *, version_id=None):
            nonlocal in_flight, most
            in_flight += 1
            most = max(most, in_flight)
            await anyio.lowlevel.checkpoint()
            in_flight -= 1
            raise ThrottledError(uri, "503")

    config = CatalogConfig(max_concurrency=3, retries=2)
    sleep = anyio.sleep
    monkeypatch.setattr("anyio.sleep", lambda _: sleep(0))
    told = []
    requests = Requests(Session(), config, anyio.CapacityLimiter(3), told.append, 1)

    async def ask():
        with pytest.raises(ThrottledError):
            await requests.head("a", URI)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(ask)
    assert (3, 30, 20) == (most, requests.sent, sum(isinstance(event, RequestRetried) for event in told))
