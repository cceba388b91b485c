"""How a request is sent: counted, within the budget, and again when it fails."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog import (
    AccessDeniedError,
    AsyncCatalog,
    CatalogConfig,
    Dataset,
    RouterStorage,
    S3Storage,
    StaleDataWarning,
    StorageUnreachableError,
    ThrottledError,
)
from datacachalog._events import RequestRetried
from datacachalog._pipeline.requests import Requests, retry_delay_seconds
from datacachalog.ports import ReadRequest
from datacachalog.testing import Cut, FaultyStorage, Meanwhile, MemoryStorage, Status, Throttled, Unreachable

URI = "mem://bucket/a"
CHANCES = st.floats(0, 1, exclude_max=True)


@given(tries=st.integers(1, 60), chance=CHANCES)
def test_delay_grows_and_is_bounded(tries, chance):
    """The wait doubles from a fifth of a second up to 20 seconds, and jitter takes off up to a half."""
    longest = min(0.2 * 2 ** (tries - 1), 20)
    assert longest / 2 <= retry_delay_seconds(tries, None, chance) <= longest


@given(asked=st.floats(0, 86400), tries=st.integers(1, 9), chance=CHANCES)
def test_delay_is_never_shorter_than_asked(asked, tries, chance):
    """Retry-After is honoured, and a little is added so that not all come back at once."""
    assert asked <= retry_delay_seconds(tries, asked, chance) <= asked * 1.1


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


# -- the deadline, as who uses a catalog sees it


class Clock:
    """The clock of the event loop, which goes on by itself and jumps over every wait."""

    def __init__(self, monkeypatch):
        self.skipped_seconds = 0.0
        self.waits = []
        self._sleep, self._current_time = anyio.sleep, anyio.current_time
        monkeypatch.setattr("anyio.sleep", self._wait)
        monkeypatch.setattr("anyio.current_time", lambda: self._current_time() + self.skipped_seconds)

    async def _wait(self, seconds):
        self.waits.append(seconds)
        self.pass_by(seconds)
        await self._sleep(0)

    def pass_by(self, seconds):
        self.skipped_seconds += seconds


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
async def make_catalog(server, tmp_path):
    """Make a catalog of one file in the server's bucket."""
    made = []

    def make(**settings):
        storage = RouterStorage({"s3": S3Storage(endpoint_url=server.endpoint_url)})
        config = CatalogConfig(**settings)
        dataset = Dataset("a", "s3://bucket/a.bin")
        catalog = AsyncCatalog([dataset], cache_dir=tmp_path / "cache", config=config, storage=storage, progress=False)
        made.append(catalog)
        return catalog

    yield make
    for catalog in made:
        await catalog.aclose()


@pytest.mark.parametrize("deadline", [0, 60, 120])
async def test_outage_ends_at_the_deadline(server, make_catalog, clock, deadline):
    """However many tries are allowed, none begins later than the deadline after the first failure."""
    server.add_faults(Status(status=500, times=None))
    with pytest.raises(StorageUnreachableError, match=f"retry_deadline_seconds is {deadline}"):
        await make_catalog(retries=1000, retry_deadline_seconds=deadline).fetch("a")
    assert len(server.requests) == len(clock.waits) + 1
    assert deadline - 1 <= sum(clock.waits) <= deadline


@pytest.mark.parametrize(("status", "expected"), [(503, ThrottledError), (500, StorageUnreachableError)])
async def test_wait_beyond_the_deadline_is_given_up_at_once(server, make_catalog, clock, status, expected):
    """A remote that asks to come back after the deadline is not waited for, and not asked again."""
    server.add_faults(Status(status=status, retry_after_seconds=3600, times=None))
    with pytest.raises(expected, match=r"120 s of it are left, and the remote asks to wait 3,600 s") as caught:
        await make_catalog().fetch("a")
    assert (1, [], 3600) == (len(server.requests), clock.waits, caught.value.retry_after_seconds)


async def test_g4_copy_is_served_at_once_where_the_remote_asks_for_a_long_wait(server, make_catalog, clock):
    """With a copy there is nothing to wait for: it is served, and the warning says what the remote asked for."""
    server.put("bucket", "a.bin", b"content")
    await make_catalog().fetch("a")
    server.add_faults(Status(status=503, retry_after_seconds=3600, times=None))
    with pytest.warns(StaleDataWarning, match="asks to wait 3,600 s"):
        path = await make_catalog().fetch("a")
    assert (b"content", []) == (path.read_bytes(), clock.waits)


async def test_wait_within_the_deadline_is_waited_for(server, make_catalog, clock):
    """A remote that asks for less than the deadline is asked again, not sooner than it said, and in time."""
    server.put("bucket", "a.bin", b"content")
    server.add_faults(Status(status=503, retry_after_seconds=119))
    path = await make_catalog().fetch("a")
    assert (b"content", True) == (path.read_bytes(), 119 <= sum(clock.waits) <= 120)


@pytest.mark.parametrize("cut_after", [10_000, 0])
async def test_bytes_that_come_begin_the_deadline_anew(server, make_catalog, clock, cut_after):
    """A part that gets on with every try, however slowly, is not given up; one that doesn't is."""
    content = bytes(range(256)) * 512
    server.put("bucket", "a.bin", content)
    server.add_faults(
        Meanwhile(nth=2, times=6, action=lambda: clock.pass_by(50)), Cut(nth=2, times=6, after_bytes=cut_after)
    )
    catalog = make_catalog(part_bytes=len(content) // 2, retries=10, retry_deadline_seconds=60)
    if cut_after:
        assert content == (await catalog.fetch("a")).read_bytes()
    else:
        with pytest.raises(StorageUnreachableError, match="retry_deadline_seconds is 60"):
            await catalog.fetch("a")
