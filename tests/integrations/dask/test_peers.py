"""What comes from another host, and what when that host is wrong, slow or dead."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import anyio.lowlevel
import pytest

from datacachalog import AsyncCatalog, CatalogConfig, Dataset, FileMetadata, IntegrityError
from datacachalog.integrations.dask._peers import (
    PIECE_BYTES,
    NeighbourFailedError,
    Offer,
    Peers,
    PeerStorage,
    Pending,
    Withheld,
)
from datacachalog.ports import NotModified, ReadRequest, ReadResponse
from datacachalog.testing import MemoryStorage
from datacachalog.testing.contracts import SeekableListingContract

URI = "mem://bucket/data.bin"
CONTENT = bytes(range(256)) * 4096 * 5 + b"and a rest"  # five pieces and a bit
NEWER = CONTENT[::-1]


@dataclass
class Neighbour:
    """One other host.

    Args:
        content: what it has.
        metadata: what it says of that.
        answers: given first, one a question.
        pieces: so many it gives before it dies.
    """

    content: bytes = CONTENT
    metadata: FileMetadata | None = None
    answers: list[object] = field(default_factory=list)
    pieces: int = 1_000_000
    asked: int = 0
    taken_bytes: int = 0


class FakeNeighbours:
    def __init__(self, *hosts: Neighbour) -> None:
        self.hosts = hosts

    async def ask(self, host: int, uri: str, version_id: str | None) -> Offer | Pending | Withheld:
        neighbour = self.hosts[host]
        neighbour.asked += 1
        await anyio.lowlevel.checkpoint()
        answer = neighbour.answers.pop(0) if neighbour.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer or (Withheld() if neighbour.metadata is None else Offer(neighbour.metadata, 1))

    async def take(self, host: int, uri: str, version_id: str | None, mtime_ns: int, start: int, stop: int) -> bytes:
        neighbour = self.hosts[host]
        await anyio.lowlevel.checkpoint()
        if neighbour.pieces <= 0:
            raise NeighbourFailedError
        neighbour.pieces -= 1
        assert stop - start <= PIECE_BYTES
        neighbour.taken_bytes += stop - start
        return neighbour.content[start:stop]


@pytest.fixture
def store() -> MemoryStorage:
    storage = MemoryStorage()
    storage.put(URI, CONTENT)
    return storage


def offered(store: MemoryStorage, **changes: object) -> FileMetadata:
    """What a host says that has fetched the object, and compared it."""
    return replace(store._objects.find(URI, None)[1], **changes)


def storage_of(store: MemoryStorage, *hosts: Neighbour, patience_seconds: float = 30) -> PeerStorage:
    numbers = list(range(len(hosts)))
    return PeerStorage(store, Peers(FakeNeighbours(*hosts), lambda uri, version_id: numbers, patience_seconds))


def catalog_of(tmp_path, storage: PeerStorage, **dataset: object) -> AsyncCatalog:
    return AsyncCatalog(
        [Dataset("data", URI, **dataset)],
        cache_dir=tmp_path / "cache",
        storage=storage,
        config=CatalogConfig(part_bytes=2 * PIECE_BYTES, retries=0),
        progress=False,
    )


def store_bytes(store: MemoryStorage) -> int:
    return sum((len(CONTENT) if r.stop is None else min(r.stop, len(CONTENT))) - r.start for r in store.requests)


class TestPeerStorageWithoutNeighbours(SeekableListingContract):
    @pytest.fixture
    def memory(self):
        return MemoryStorage()

    @pytest.fixture
    def storage(self, memory):
        return storage_of(memory)

    @pytest.fixture
    def seed(self, memory):
        async def seed(key, data):
            memory.put(f"mem://bucket/{key}", data)
            return f"mem://bucket/{key}"

        return seed

    @pytest.fixture
    def delete(self, memory):
        async def delete(uri):
            memory.delete(uri)

        return delete


@pytest.mark.parametrize("content", [CONTENT, b"small", b""])
async def test_what_a_neighbour_has_is_not_asked_of_the_store(tmp_path, store, content):
    """The bytes, and what is known of them, come from the neighbour; the store gets no request."""
    store.put(URI, content)
    storage = storage_of(store, Neighbour(content, offered(store)))
    async with catalog_of(tmp_path, storage) as catalog:
        assert content == (await catalog.fetch("data")).read_bytes()
    assert ([], len(content)) == (store.requests, storage.peers.received.total())
    # The copy is as good as one from the store: that has the version which it says.
    async with catalog_of(tmp_path, store) as catalog:
        assert ["revalidated"] == [result.action for result in (await catalog.fetch_all()).values()]


async def test_a_neighbour_confirms_that_a_copy_is_fresh(tmp_path, store):
    """A copy of the version that the neighbour has confirmed is asked for nowhere else."""
    async with catalog_of(tmp_path, store) as catalog:
        await catalog.fetch("data")
    store.clear_requests()
    storage = storage_of(store, Neighbour(CONTENT, offered(store)))
    async with catalog_of(tmp_path, storage) as catalog:
        report = await catalog.fetch_all()
    assert ("revalidated", []) == (report["data"].action, store.requests)


async def test_a_neighbour_is_waited_for_while_it_gets_on(tmp_path, store):
    """A file that has yet to come is waited for as long as its host makes any progress."""
    waits = [Pending(news) for news in range(20)]
    neighbour = Neighbour(CONTENT, offered(store), answers=list(waits))
    async with catalog_of(tmp_path, storage_of(store, neighbour, patience_seconds=0)) as catalog:
        await catalog.fetch("data")
    assert ([], len(waits) + 1) == (store.requests, neighbour.asked)


async def test_a_neighbour_without_progress_is_passed_over(tmp_path, store):
    """Nobody waits for ever: the next source is asked, the store at last."""
    stuck = Neighbour(answers=[Pending(7)] * 100)
    async with catalog_of(tmp_path, storage_of(store, stuck, patience_seconds=0)) as catalog:
        assert CONTENT == (await catalog.fetch("data")).read_bytes()
    assert (2, len(CONTENT)) == (stuck.asked, store_bytes(store))


@pytest.mark.parametrize("answer", [Withheld(), NeighbourFailedError()])
async def test_the_next_source_is_asked_where_one_has_nothing(tmp_path, store, answer):
    """A neighbour that won't have the file, or is dead, is no reason to ask the store if there is another one."""
    other = Neighbour(CONTENT, offered(store))
    async with catalog_of(tmp_path, storage_of(store, Neighbour(answers=[answer]), other)) as catalog:
        assert CONTENT == (await catalog.fetch("data")).read_bytes()
    assert ([], len(CONTENT)) == (store.requests, other.taken_bytes)


async def test_another_neighbour_gives_what_the_first_one_owes(tmp_path, store):
    """Where a neighbour dies in the middle, the next one goes on at that very byte."""
    dying = Neighbour(CONTENT, offered(store), pieces=3)
    other = Neighbour(CONTENT, offered(store))
    async with catalog_of(tmp_path, storage_of(store, dying, other)) as catalog:
        assert CONTENT == (await catalog.fetch("data")).read_bytes()
    assert ([], len(CONTENT)) == (store.requests, dying.taken_bytes + other.taken_bytes)


async def test_the_store_gives_what_all_neighbours_owe(tmp_path, store):
    """The store is asked for the missing bytes only, and of that version only."""
    dying = Neighbour(CONTENT, offered(store), pieces=3)
    async with catalog_of(tmp_path, storage_of(store, dying)) as catalog:
        assert CONTENT == (await catalog.fetch("data")).read_bytes()
    assert len(CONTENT) == dying.taken_bytes + store_bytes(store)
    assert {offered(store).etag} == {request.if_match for request in store.requests}


async def test_g1_bytes_of_two_versions_never_meet(tmp_path, store):
    """A neighbour that dies with a version that the store no longer has leaves nothing of it."""
    dying = Neighbour(CONTENT, offered(store), pieces=3)
    store.put(URI, NEWER)
    async with catalog_of(tmp_path, storage_of(store, dying)) as catalog:
        assert NEWER == (await catalog.fetch("data")).read_bytes()


async def test_g1_a_neighbour_with_another_version_does_not_go_on_for_the_first(tmp_path, store):
    """What is missing of one version is not taken from a host that has another one."""
    dying = Neighbour(CONTENT, offered(store), pieces=3)
    store.put(URI, NEWER)
    other = Neighbour(NEWER, offered(store))
    async with catalog_of(tmp_path, storage_of(store, dying, other)) as catalog:
        assert NEWER == (await catalog.fetch("data")).read_bytes()


async def test_g1_wrong_bytes_of_a_neighbour_are_refused(tmp_path, store):
    """Bytes that haven't the digest which the neighbour's copy was published with are never published."""
    wrong = Neighbour(b"?" + CONTENT[1:], offered(store))
    async with catalog_of(tmp_path, storage_of(store, wrong)) as catalog:
        with pytest.raises(IntegrityError):
            await catalog.fetch("data")
        assert 0 == (await catalog.cache_info()).files


async def test_g1_a_pin_is_compared_with_what_comes_from_a_neighbour(tmp_path, store):
    """A neighbour whose bytes and digest agree is refused where the dataset says that they are others."""
    other = MemoryStorage()
    other.put(URI, NEWER)
    storage = storage_of(store, Neighbour(NEWER, offered(other)))
    async with catalog_of(tmp_path, storage, checksum=offered(store).checksum) as catalog:
        with pytest.raises(IntegrityError):
            await catalog.fetch("data")


async def test_a_version_that_is_demanded_is_asked_of_the_store_where_the_neighbour_has_another(store):
    """What a lock file names, by its ETag, is taken from a neighbour that has it, and from no other."""
    storage = storage_of(store, Neighbour(NEWER, offered(store, etag="another")))
    request = ReadRequest(uri=URI, stop=10, if_match=offered(store).etag)
    async with storage.connect(CatalogConfig()) as session, session.read(request) as outcome:
        assert isinstance(outcome, ReadResponse)
        assert [CONTENT[:10]] == [bytes(chunk) async for chunk in outcome.chunks]


async def test_an_object_without_an_etag_comes_in_one_answer(tmp_path, store):
    """It comes from one neighbour as a whole, and from the store if that breaks off: nothing tells whose rest it is."""
    store.put(URI, CONTENT, has_etag=False)
    whole, dying = (Neighbour(CONTENT, offered(store), pieces=pieces) for pieces in (1_000, 3))
    async with catalog_of(tmp_path, storage_of(store, whole)) as catalog:
        assert CONTENT == (await catalog.fetch("data")).read_bytes()
    assert [] == store.requests
    catalog = catalog_of(tmp_path, storage_of(store, dying))
    async with AsyncCatalog(**catalog._arguments() | {"config": CatalogConfig(retries=1)}) as patient:
        assert CONTENT == (await patient.fetch("data", force=True)).read_bytes()
    assert [0] == [request.start for request in store.requests]


async def test_freshness_is_asked_of_the_store_where_no_neighbour_tells(store):
    """Without a neighbour the condition goes to the store as it is."""
    storage = storage_of(store, Neighbour(answers=[Withheld()]))
    request = ReadRequest(uri=URI, if_none_match=offered(store).etag)
    async with storage.connect(CatalogConfig()) as session, session.read(request) as outcome:
        assert NotModified() == outcome
