"""What does the catalog rely on in a storage?"""

# ruff: noqa: S101, SIM300  # asserts are what tests are made of, and read: expected == actual

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import ClassVar, TypeAlias

import anyio
import anyio.lowlevel
import pytest

from ..._config import CatalogConfig
from ..._errors import ObjectNotFoundError, StorageUnreachableError
from ...ports import (
    ListedObject,
    NotModified,
    RangeNotSatisfiable,
    ReadRequest,
    ReadResponse,
    SeekableListing,
    StoragePort,
    StorageSession,
    VersionChanged,
    VersionChangedError,
)

Seed: TypeAlias = Callable[[str, bytes], Awaitable[str]]
"""Writes an object under a key, replacing it, and gives its URI: `uri = await seed("dir/name", data)`."""

Delete: TypeAlias = Callable[[str], Awaitable[None]]
"""Deletes the object of a URI: `await delete(uri)`."""

_DATA = bytes(range(256)) * 40
_LARGE = 8 * 1024 * 1024  # more than the buffers between the two ends hold


class ReadableStorageContract:
    """The rules for a `StoragePort` that can't list, by its nature, and raises `InvalidSourceError` instead.

    Give the three fixtures. Every object that `seed` writes must get a validator (`FileMetadata.etag`) that is another
    one for other content, and URIs must have the key as it stands: `seed("a b", …)` gives a URI that ends in `a b`.
    """

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Catalogs run on asyncio."""
        return "asyncio"

    @pytest.fixture
    def storage(self) -> StoragePort:
        """Override: give the storage to be tested, with nothing in it."""
        raise NotImplementedError("a StorageContract needs a fixture 'storage' that gives a StoragePort")

    @pytest.fixture
    def seed(self) -> Seed:
        """Override: give an async function that writes an object and gives its URI."""
        raise NotImplementedError("a StorageContract needs a fixture 'seed': async (key, data) -> uri")

    @pytest.fixture
    def delete(self) -> Delete:
        """Override: give an async function that deletes an object."""
        raise NotImplementedError("a StorageContract needs a fixture 'delete': async (uri) -> None")

    @pytest.fixture
    def config(self) -> CatalogConfig:
        """The configuration that the storage is opened with."""
        return CatalogConfig()

    # -- reading

    @pytest.mark.anyio
    async def test_read_without_a_range_gives_the_whole_object(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """A read that names no byte gives all of them, from 0 to the size."""
        uri = await seed("whole.bin", _DATA)
        async with storage.connect(config) as session:
            response, data = await _read(session, ReadRequest(uri=uri))
        assert (0, len(_DATA), _DATA) == (response.start, response.stop, data)

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        ("start", "stop"), [(0, 1), (0, 1000), (1, 2), (1000, 5000), (len(_DATA) - 1, len(_DATA)), (0, len(_DATA))]
    )
    async def test_read_of_a_range_gives_exactly_these_bytes(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig, start: int, stop: int
    ) -> None:
        """A range is bytes `start` inclusive to `stop` exclusive, and the response says so."""
        uri = await seed("range.bin", _DATA)
        async with storage.connect(config) as session:
            response, data = await _read(session, ReadRequest(uri=uri, start=start, stop=stop))
        assert (start, stop, _DATA[start:stop]) == (response.start, response.stop, data)

    @pytest.mark.anyio
    async def test_read_from_a_start_goes_on_to_the_end(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """Without a stop, a read goes to the end of the object."""
        uri = await seed("tail.bin", _DATA)
        async with storage.connect(config) as session:
            response, data = await _read(session, ReadRequest(uri=uri, start=5000))
        assert (5000, len(_DATA), _DATA[5000:]) == (response.start, response.stop, data)

    @pytest.mark.anyio
    async def test_range_that_exceeds_the_object_ends_with_it(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """A range that is longer than the object gives what there is."""
        uri = await seed("short.bin", _DATA)
        async with storage.connect(config) as session:
            response, data = await _read(session, ReadRequest(uri=uri, start=10_000, stop=1_000_000))
        assert (10_000, len(_DATA), _DATA[10_000:]) == (response.start, response.stop, data)

    @pytest.mark.anyio
    async def test_range_response_tells_the_size_of_the_whole_object(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """The metadata of a ranged read are those of the whole object."""
        uri = await seed("size.bin", _DATA)
        async with storage.connect(config) as session:
            response, _ = await _read(session, ReadRequest(uri=uri, start=10, stop=20))
        assert len(_DATA) == response.metadata.size

    @pytest.mark.anyio
    @pytest.mark.parametrize("start", [len(_DATA), len(_DATA) + 1000])
    async def test_range_behind_the_end_is_not_satisfiable(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig, start: int
    ) -> None:
        """A range that begins where no byte is has the outcome `RangeNotSatisfiable`."""
        uri = await seed("behind.bin", _DATA)
        request = ReadRequest(uri=uri, start=start, stop=start + 10)
        async with storage.connect(config) as session, session.read(request) as outcome:
            assert RangeNotSatisfiable() == outcome

    @pytest.mark.anyio
    async def test_range_of_an_empty_object_is_not_satisfiable(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """An empty object has no first byte."""
        uri = await seed("empty.bin", b"")
        request = ReadRequest(uri=uri, start=0, stop=1000)
        async with storage.connect(config) as session, session.read(request) as outcome:
            assert RangeNotSatisfiable() == outcome

    @pytest.mark.anyio
    async def test_empty_object_without_a_range_is_read_as_empty(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """An empty object is an object."""
        uri = await seed("empty.bin", b"")
        async with storage.connect(config) as session:
            response, data = await _read(session, ReadRequest(uri=uri))
        assert (0, 0, b"", 0) == (response.start, response.stop, data, response.metadata.size)

    @pytest.mark.anyio
    async def test_large_object_comes_whole(self, storage: StoragePort, seed: Seed, config: CatalogConfig) -> None:
        """An object that no buffer holds comes in chunks, all of them, in order."""
        expected = _varied(_LARGE)
        uri = await seed("large.bin", expected)
        async with storage.connect(config) as session:
            _, data = await _read(session, ReadRequest(uri=uri))
        assert (len(expected), True) == (len(data), expected == data)

    @pytest.mark.anyio
    async def test_reads_at_the_same_time_do_not_mix(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """A session serves several reads at once, each with its own bytes."""
        uris = [await seed(f"many/{number}.bin", bytes([number]) * 100_000) for number in range(8)]
        found: dict[str, bytes] = {}

        async with storage.connect(config) as session:

            async def read(uri: str) -> None:
                found[uri] = (await _read(session, ReadRequest(uri=uri)))[1]

            async with anyio.create_task_group() as group:
                for uri in uris:
                    group.start_soon(read, uri)
        assert {uri: bytes([number]) * 100_000 for number, uri in enumerate(uris)} == found

    @pytest.mark.anyio
    async def test_session_is_usable_after_a_read_that_was_left_early(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """Who leaves a read early gives up that connection and nothing else."""
        large = await seed("left.bin", _varied(_LARGE))
        small = await seed("next.bin", _DATA)
        async with storage.connect(config) as session:
            async with session.read(ReadRequest(uri=large)) as outcome:
                assert isinstance(outcome, ReadResponse)
                await anext(aiter(outcome.chunks))
            _, data = await _read(session, ReadRequest(uri=small))
        assert data == _DATA

    @pytest.mark.anyio
    async def test_session_is_usable_after_a_read_that_was_cancelled(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """Cancellation closes what was open, and nothing else."""
        large = await seed("cancelled.bin", _varied(_LARGE))
        small = await seed("next.bin", _DATA)
        async with storage.connect(config) as session:
            with anyio.CancelScope() as scope:
                async with session.read(ReadRequest(uri=large)) as outcome:
                    assert isinstance(outcome, ReadResponse)
                    await anext(aiter(outcome.chunks))
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()
            _, data = await _read(session, ReadRequest(uri=small))
        assert data == _DATA

    @pytest.mark.anyio
    async def test_storage_can_be_opened_again(self, storage: StoragePort, seed: Seed, config: CatalogConfig) -> None:
        """A storage is a setting: what lives belongs to the session, so another one can follow."""
        uri = await seed("again.bin", _DATA)
        found = []
        for _ in range(2):
            async with storage.connect(config) as session:
                found.append((await _read(session, ReadRequest(uri=uri)))[1])
        assert [_DATA, _DATA] == found

    # -- validators

    @pytest.mark.anyio
    async def test_read_of_the_version_that_we_have_is_not_modified(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """`if_none_match` with the newest version's validator has the outcome `NotModified`, with a range too."""
        uri = await seed("same.bin", _DATA)
        outcomes = []
        async with storage.connect(config) as session:
            etag = (await session.head(uri)).etag
            for stop in (None, 1000):
                async with session.read(ReadRequest(uri=uri, stop=stop, if_none_match=etag)) as outcome:
                    outcomes.append(outcome)
        assert [NotModified(), NotModified()] == outcomes

    @pytest.mark.anyio
    async def test_empty_object_that_we_have_is_not_modified(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """The validator is compared before the range."""
        uri = await seed("same-empty.bin", b"")
        async with storage.connect(config) as session:
            etag = (await session.head(uri)).etag
            async with session.read(ReadRequest(uri=uri, stop=1000, if_none_match=etag)) as outcome:
                assert NotModified() == outcome

    @pytest.mark.anyio
    async def test_read_of_another_version_than_we_have_brings_it(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """`if_none_match` with an older version's validator brings the newest version's bytes."""
        uri = await seed("newer.bin", _DATA)
        async with storage.connect(config) as session:
            etag = (await session.head(uri)).etag
            await seed("newer.bin", b"new content")
            _, data = await _read(session, ReadRequest(uri=uri, stop=1000, if_none_match=etag))
        assert data == b"new content"

    @pytest.mark.anyio
    async def test_read_of_the_version_that_is_meant_brings_it(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """`if_match` with the newest version's validator brings the bytes."""
        uri = await seed("meant.bin", _DATA)
        async with storage.connect(config) as session:
            etag = (await session.head(uri)).etag
            _, data = await _read(session, ReadRequest(uri=uri, start=100, stop=200, if_match=etag))
        assert data == _DATA[100:200]

    @pytest.mark.anyio
    async def test_read_of_a_version_that_was_replaced_says_so(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """`if_match` with an older version's validator has the outcome `VersionChanged`, and brings no byte."""
        uri = await seed("replaced.bin", _DATA)
        async with storage.connect(config) as session:
            etag = (await session.head(uri)).etag
            await seed("replaced.bin", _DATA[::-1])
            async with session.read(ReadRequest(uri=uri, start=100, stop=200, if_match=etag)) as outcome:
                assert VersionChanged() == outcome

    @pytest.mark.anyio
    async def test_object_replaced_while_it_is_read_is_never_mixed(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """A read brings the bytes of the version it began with, or fails as a changed or broken one."""
        uri = await seed("torn.bin", b"1" * _LARGE)
        chunks: list[bytes] = []
        try:
            async with storage.connect(config) as session, session.read(ReadRequest(uri=uri)) as outcome:
                assert isinstance(outcome, ReadResponse)
                async for chunk in outcome.chunks:
                    if not chunks:
                        await seed("torn.bin", b"2" * _LARGE)
                    chunks.append(chunk)
        except (VersionChangedError, StorageUnreachableError):
            return
        data = b"".join(chunks)
        assert (_LARGE, 0) == (data.count(b"1"), data.count(b"2"))

    # -- metadata

    @pytest.mark.anyio
    async def test_head_and_read_tell_of_the_same_version(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """What `head` says of an object and what comes with its bytes is the same."""
        uri = await seed("meta.bin", _DATA)
        async with storage.connect(config) as session:
            head = await session.head(uri)
            response, _ = await _read(session, ReadRequest(uri=uri, stop=10))
        expected = (head.etag, head.last_modified, head.size, head.version_id)
        found = response.metadata
        assert expected == (found.etag, found.last_modified, found.size, found.version_id)

    @pytest.mark.anyio
    async def test_etag_is_kept_without_quotes_and_weakness(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """An ETag is a text without quotes and without `W/`."""
        uri = await seed("etag.bin", _DATA)
        async with storage.connect(config) as session:
            etag = (await session.head(uri)).etag
        assert etag is not None
        assert etag == etag.strip().removeprefix("W/").strip('"')

    @pytest.mark.anyio
    async def test_other_content_of_the_same_size_is_another_version(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """The validator tells two contents of one size apart, however soon the second one follows."""
        uri = await seed("version.bin", _DATA)
        async with storage.connect(config) as session:
            before = await session.head(uri)
            await seed("version.bin", _DATA[::-1])
            after = await session.head(uri)
        assert not before.is_same_version(after)

    @pytest.mark.anyio
    async def test_last_modified_is_aware_and_utc(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """A time has its zone, and that is UTC; a storage that knows no times gives None."""
        uri = await seed("time.bin", _DATA)
        async with storage.connect(config) as session:
            moment = (await session.head(uri)).last_modified
        assert moment is None or moment.utcoffset() == timedelta(0)

    # -- errors

    @pytest.mark.anyio
    async def test_missing_object_is_not_found(self, storage: StoragePort, seed: Seed, config: CatalogConfig) -> None:
        """Head and read of an object that isn't there raise `ObjectNotFoundError` with its URI."""
        missing = (await seed("present.bin", _DATA)).removesuffix("present.bin") + "missing.bin"
        async with storage.connect(config) as session:
            for ask in (session.head(missing), _read(session, ReadRequest(uri=missing, stop=10))):
                with pytest.raises(ObjectNotFoundError) as caught:
                    await ask
                assert missing == caught.value.uri

    @pytest.mark.anyio
    async def test_deleted_object_is_not_found(
        self, storage: StoragePort, seed: Seed, delete: Delete, config: CatalogConfig
    ) -> None:
        """An object that was there and is gone is not found either."""
        uri = await seed("deleted.bin", _DATA)
        await delete(uri)
        async with storage.connect(config) as session:
            with pytest.raises(ObjectNotFoundError):
                await _read(session, ReadRequest(uri=uri, stop=10))

    @pytest.mark.anyio
    async def test_deleted_object_is_not_found_whatever_we_have(
        self, storage: StoragePort, seed: Seed, delete: Delete, config: CatalogConfig
    ) -> None:
        """A validator doesn't hide that the object is gone."""
        uri = await seed("deleted.bin", _DATA)
        async with storage.connect(config) as session:
            etag = (await session.head(uri)).etag
            await delete(uri)
            with pytest.raises(ObjectNotFoundError):
                await _read(session, ReadRequest(uri=uri, stop=10, if_none_match=etag))

    @pytest.mark.anyio
    async def test_errors_pickle_with_their_facts(
        self, storage: StoragePort, seed: Seed, delete: Delete, config: CatalogConfig
    ) -> None:
        """An error survives a process pool."""
        uri = await seed("gone.bin", _DATA)
        await delete(uri)
        async with storage.connect(config) as session:
            with pytest.raises(ObjectNotFoundError) as caught:
                await session.head(uri)
        copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # pickled in the line itself
        assert (type(caught.value), str(caught.value), uri) == (type(copy), str(copy), copy.uri)


class StorageContract(ReadableStorageContract):
    """The rules for a `StoragePort`: those of `ReadableStorageContract`, and listings.

    Give the three fixtures; override `awkward_keys` and `listed_count` if need be.
    """

    awkward_keys: ClassVar[Sequence[str]] = (
        "with space.csv",
        "plus+plus.csv",
        "100%.csv",
        "percent%20encoded.csv",
        "ümlaut-日本-🦆.csv",
        "dir//double/slash.csv",
        "dir/./dot.csv",
        "a",
        "a/b",
        "quote\"'<&>.csv",
        "question?hash#.csv",
        "equals=comma,semicolon;colon:.csv",
        "tilde~(brackets)[x]{y}.csv",
    )
    """Keys that are often spoilt on their way. Leave out what your storage can't have by its nature."""

    listed_count: ClassVar[int] = 25
    """How many objects are listed; set your storage's page size below it, so that several pages are needed."""

    # -- listings

    @pytest.mark.anyio
    async def test_listing_gives_every_object_once_in_the_order_of_keys(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """All pages together are all objects below the prefix, by the bytes of their keys."""
        keys = [f"list/{number:04d}.bin" for number in range(self.listed_count)]
        uris = [await seed(key, key.encode()) for key in reversed(keys)][::-1]
        async with storage.connect(config) as session:
            found = await _list(session, uris[0].removesuffix("0000.bin"))
        assert uris == [item.uri for item in found]

    @pytest.mark.anyio
    async def test_listing_orders_by_bytes_and_not_by_directories(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """The order is that of the whole keys: `a-b` before `a/b` before `ab`, and capitals first."""
        keys = ["order/B", "order/a-b", "order/a/b", "order/ab", "order/é"]
        uris = [await seed(key, b"x") for key in reversed(keys)][::-1]
        async with storage.connect(config) as session:
            found = await _list(session, uris[0].removesuffix("B"))
        assert uris == [item.uri for item in found]

    @pytest.mark.anyio
    async def test_listing_tells_what_head_tells(self, storage: StoragePort, seed: Seed, config: CatalogConfig) -> None:
        """Size and validator of a listed object are those that `head` gives."""
        uri = await seed("listed/one.bin", _DATA)
        async with storage.connect(config) as session:
            (item,) = await _list(session, uri.removesuffix("one.bin"))
            head = await session.head(uri)
        assert (head.etag, head.size) == (item.metadata.etag, item.metadata.size)

    @pytest.mark.anyio
    async def test_prefix_is_the_beginning_of_the_key_and_no_directory(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """A prefix may end within a name; what doesn't begin with it isn't listed."""
        inside = [await seed(key, b"x") for key in ("pre/fix-1", "pre/fix/2", "pre/fixed")]
        for key in ("pre/fi", "pre/other", "pre", "prefix"):
            # A file system can't have a file `pre` beside a directory `pre`.
            if key != "pre" or "a/b" in self.awkward_keys:
                await seed(key, b"x")
        async with storage.connect(config) as session:
            found = await _list(session, inside[0].removesuffix("-1"))
        assert inside == [item.uri for item in found]

    @pytest.mark.anyio
    async def test_listing_of_nothing_is_empty(self, storage: StoragePort, seed: Seed, config: CatalogConfig) -> None:
        """A prefix that nothing begins with is one empty page, and no error."""
        uri = await seed("something.bin", b"x")
        async with storage.connect(config) as session:
            page = await session.list_page(uri.removesuffix("something.bin") + "nothing/")
        assert ((), None) == (page.objects, page.next_token)

    @pytest.mark.anyio
    async def test_deleted_object_is_not_listed(
        self, storage: StoragePort, seed: Seed, delete: Delete, config: CatalogConfig
    ) -> None:
        """A listing holds what is there now."""
        kept = await seed("some/kept.bin", b"x")
        await delete(await seed("some/gone.bin", b"x"))
        async with storage.connect(config) as session:
            found = await _list(session, kept.removesuffix("kept.bin"))
        assert [kept] == [item.uri for item in found]

    # -- keys

    @pytest.mark.anyio
    async def test_awkward_keys_are_listed_and_read_as_they_stand(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """A key is taken as it stands: what is listed is what was written, and can be read by that URI."""
        written = {await seed(f"keys/{key}", key.encode()): key.encode() for key in self.awkward_keys}
        prefix = next(iter(written)).removesuffix(self.awkward_keys[0])
        async with storage.connect(config) as session:
            listed = await _list(session, prefix)
            found = {item.uri: (await _read(session, ReadRequest(uri=item.uri)))[1] for item in listed}
        assert written == found


class SeekableListingContract(StorageContract):
    """The rules for a storage whose sessions are a `SeekableListing`: those of `StorageContract`, and this one's."""

    @pytest.mark.anyio
    async def test_listing_begins_behind_any_text(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """Behind a key that is there, behind one that isn't, and before all: what comes after, in order."""
        keys = ("seek/A", "seek/a", "seek/a-b", "seek/a/b", "seek/é", "seek/日本")
        uris = [await seed(key, b"x") for key in reversed(keys)][::-1]
        top = uris[0].removesuffix("A")
        starts = {top: 0, uris[0]: 1, uris[0] + "\U0010ffff": 1, f"{uris[1]}-": 2, f"{top}b": 4, uris[-1]: 6}
        async with storage.connect(config) as session:
            found = {start: await _list_after(session, top, start, limit=1000) for start in starts}
        assert {start: uris[first:] for start, first in starts.items()} == found

    @pytest.mark.anyio
    async def test_seeking_listing_gives_what_was_wanted_at_most(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """A page has `limit` objects at most, of the prefix only, and says whether there are more."""
        uris = [await seed(f"limit/{name}", b"x") for name in "abc"]
        await seed("limits/d", b"x")
        top = uris[0].removesuffix("a")
        async with storage.connect(config) as session:
            assert isinstance(session, SeekableListing)
            two = await session.list_after(top, uris[0], 2)
            one = await session.list_after(top, uris[0], 1)
        assert (uris[1:], None) == ([item.uri for item in two.objects], two.next_token)
        assert (uris[1:2], True) == ([item.uri for item in one.objects], one.next_token is not None)

    @pytest.mark.anyio
    async def test_seeking_listing_tells_what_head_tells(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """Size and validator of a listed object are those that `head` gives, so a cached copy can be confirmed."""
        uri = await seed("seen/one.bin", _DATA)
        async with storage.connect(config) as session:
            assert isinstance(session, SeekableListing)
            assert session.is_seekable(uri.removesuffix("seen/one.bin"))
            (item,) = (await session.list_after(uri, uri[:-1], 1)).objects
            head = await session.head(uri)
        assert (uri, head.etag, head.size) == (item.uri, item.metadata.etag, item.metadata.size)


class PicklableStorageContract(StorageContract):
    """The rules for a storage for real use, from several processes: those of `StorageContract`, and pickling."""

    @pytest.mark.anyio
    async def test_copy_from_another_process_reads_the_same(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """A storage is a setting: a pickled copy is as good."""
        uri = await seed("pickled.bin", _DATA)
        copy: StoragePort = pickle.loads(pickle.dumps(storage))  # noqa: S301  # pickled in the line itself
        async with copy.connect(config) as session:
            assert _DATA == (await _read(session, ReadRequest(uri=uri)))[1]


async def _read(session: StorageSession, request: ReadRequest) -> tuple[ReadResponse, bytes]:
    """Read to the end; an outcome without bytes is a failed test."""
    async with session.read(request) as outcome:
        assert isinstance(outcome, ReadResponse), f"{request} has the outcome {outcome}"
        return outcome, b"".join([bytes(chunk) async for chunk in outcome.chunks])


async def _list(session: StorageSession, prefix: str) -> list[ListedObject]:
    """List all pages."""
    page = await session.list_page(prefix)
    found = list(page.objects)
    while page.next_token is not None:
        page = await session.list_page(prefix, token=page.next_token)
        found += page.objects
    return found


async def _list_after(session: StorageSession, prefix: str, start_after: str, *, limit: int) -> list[str]:
    """List all pages behind a URI."""
    assert isinstance(session, SeekableListing)
    found: list[str] = []
    while True:
        page = await session.list_after(prefix, start_after, limit)
        found += [item.uri for item in page.objects]
        if page.next_token is None:
            return found
        start_after = found[-1]


def _varied(size: int) -> bytes:
    """Give bytes in which no two blocks of 4 KiB are equal."""
    return b"".join(number.to_bytes(8, "big") * 512 for number in range(size // 4096))
