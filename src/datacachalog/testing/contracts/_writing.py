"""What does the catalog rely on in a storage that can be written?"""

# ruff: noqa: S101, SIM300  # asserts are what tests are made of, and read: expected == actual

from __future__ import annotations

from typing import ClassVar

import pytest

from ..._config import CatalogConfig
from ..._digests import crc_functions, digest_chunks, format_crc, parse_crc
from ..._errors import ObjectNotFoundError
from ..._pipeline.upload import InMemory
from ...ports import (
    ReadRequest,
    ReadResponse,
    StoragePort,
    StorageSession,
    Upload,
    UploadedPart,
    WritableSession,
    WriteOutcome,
    WriteRefused,
    WriteRequest,
    Written,
)
from ._storage import Delete, Seed, StorageContract

_DATA = bytes(range(256)) * 40
_FIRST = b"first-" * 1024 * 1024  # more than the 5 MiB that S3 demands of a part
_SECOND = b"second"


class WritableStorageContract(StorageContract):
    """The rules for a `StoragePort` whose sessions are `WritableSession`s, beside those of `StorageContract`."""

    heeds_if_match_of_parts: ClassVar[bool] = True
    """Whether an upload in parts is refused at its end if something else has come there; some stores don't look."""

    @pytest.mark.anyio
    @pytest.mark.parametrize("data", [_DATA, b""], ids=["some bytes", "none"])
    async def test_what_is_written_can_be_read(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig, data: bytes
    ) -> None:
        """An object in one piece is there when its write returns, as the version that the outcome tells of."""
        uri = await _new_uri(seed, "written.bin")
        async with storage.connect(config) as session:
            outcome = await _writer(session).write(_request(uri), _content(data))
            assert (data, _etag(outcome)) == (await _read(session, uri), (await session.head(uri)).etag)

    @pytest.mark.anyio
    async def test_a_write_replaces_what_was_there(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """Without conditions, whatever is there is overwritten."""
        uri = await seed("replaced.bin", b"old")
        async with storage.connect(config) as session:
            await _writer(session).write(_request(uri), _content(_DATA))
            assert _DATA == await _read(session, uri)

    @pytest.mark.anyio
    async def test_a_new_object_is_written_where_nothing_is(
        self, storage: StoragePort, seed: Seed, delete: Delete, config: CatalogConfig
    ) -> None:
        """`must_be_new` holds where nothing is, or nothing any more."""
        uri = await seed("new.bin", b"old")
        await delete(uri)
        async with storage.connect(config) as session:
            outcome = await _writer(session).write(_request(uri, must_be_new=True), _content(_DATA))
            assert (True, _DATA) == (isinstance(outcome, Written), await _read(session, uri))

    @pytest.mark.anyio
    async def test_a_new_object_is_refused_where_something_is(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """`must_be_new` doesn't hold where something is, which stays as it is."""
        uri = await seed("taken.bin", b"old")
        async with storage.connect(config) as session:
            outcome = await _writer(session).write(_request(uri, must_be_new=True), _content(_DATA))
            assert (WriteRefused(), b"old") == (outcome, await _read(session, uri))

    @pytest.mark.anyio
    async def test_the_version_that_is_meant_is_replaced(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """`if_match` holds for the validator that `head` gives, and for the one that the write before gave."""
        uri = await seed("meant.bin", b"old")
        async with storage.connect(config) as session:
            etag = (await session.head(uri)).etag
            for data in (b"new", b"newer"):
                outcome = await _written_if(session, uri, etag, data)
                etag = _etag(outcome)
            assert b"newer" == await _read(session, uri)

    @pytest.mark.anyio
    async def test_another_version_than_is_meant_is_not_replaced(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """`if_match` doesn't hold for what was there before; what is there stays as it is."""
        uri = await seed("changed.bin", b"old")
        async with storage.connect(config) as session:
            etag = (await session.head(uri)).etag
            await seed("changed.bin", b"theirs")
            outcome = await _writer(session).write(_request(uri, if_match=etag), _content(b"mine"))
            assert (WriteRefused(), b"theirs") == (outcome, await _read(session, uri))

    @pytest.mark.anyio
    async def test_an_object_that_is_gone_is_not_replaced(
        self, storage: StoragePort, seed: Seed, delete: Delete, config: CatalogConfig
    ) -> None:
        """`if_match` doesn't hold where nothing is."""
        uri = await seed("gone.bin", b"old")
        async with storage.connect(config) as session:
            etag = (await session.head(uri)).etag
            await delete(uri)
            outcome = await _writer(session).write(_request(uri, if_match=etag), _content(b"mine"))
            assert WriteRefused() == outcome
            with pytest.raises(ObjectNotFoundError):
                await session.head(uri)

    @pytest.mark.anyio
    async def test_awkward_keys_are_written_as_they_stand(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """A key is taken as it stands: what is written under it is found where `seed` would have put it."""
        uris = [await seed(f"keys/{key}", b"old") for key in self.awkward_keys]
        async with storage.connect(config) as session:
            for uri in uris:
                await _writer(session).write(_request(uri), _content(uri.encode()))
            assert {uri: uri.encode() for uri in uris} == {uri: await _read(session, uri) for uri in uris}

    # -- in parts

    @pytest.mark.anyio
    async def test_parts_make_the_object_whatever_order_they_came_in(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """An upload becomes the object by its completion, as the version that the outcome tells of, if it does."""
        uri = await _new_uri(seed, "parts.bin")
        async with storage.connect(config) as session:
            upload = await _writer(session).begin_upload(_request(uri))
            outcome = await _completed(session, upload, await _parts(session, upload), _request(uri, must_be_new=True))
            assert _etag(outcome) in (None, (await session.head(uri)).etag)
            data = await _read(session, uri)
        assert (len(_FIRST + _SECOND), True) == (len(data), data == _FIRST + _SECOND)

    @pytest.mark.anyio
    async def test_a_part_may_be_written_again(self, storage: StoragePort, seed: Seed, config: CatalogConfig) -> None:
        """What was written last under a number is the part."""
        uri = await _new_uri(seed, "again.bin")
        async with storage.connect(config) as session:
            upload = await _writer(session).begin_upload(_request(uri))
            await _writer(session).write_part(upload, 1, 0, _content(b"other!" * 1024 * 1024))
            await _completed(session, upload, await _parts(session, upload), _request(uri))
            data = await _read(session, uri)
        assert (len(_FIRST + _SECOND), True) == (len(data), data == _FIRST + _SECOND)

    @pytest.mark.anyio
    async def test_nothing_is_seen_of_an_upload_before_its_end(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """Parts are neither read nor listed."""
        beside = await seed("unseen/beside.bin", b"x")
        uri = beside.removesuffix("beside.bin") + "unseen.bin"
        async with storage.connect(config) as session:
            upload = await _writer(session).begin_upload(_request(uri))
            await _parts(session, upload)
            with pytest.raises(ObjectNotFoundError):
                await session.head(uri)
            page = await session.list_page(beside.removesuffix("beside.bin"))
            await _writer(session).abort_upload(upload)
        assert [beside] == [found.uri for found in page.objects]

    @pytest.mark.anyio
    async def test_an_upload_is_refused_where_something_has_come(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """The conditions are those of its end."""
        if not self.heeds_if_match_of_parts:
            return
        uri = await seed("raced.bin", b"old")
        async with storage.connect(config) as session:
            etag = (await session.head(uri)).etag
            upload = await _writer(session).begin_upload(_request(uri, if_match=etag))
            parts = await _parts(session, upload)
            await seed("raced.bin", b"theirs")
            outcomes = [
                await _completed(session, upload, parts, request)
                for request in (_request(uri, if_match=etag), _request(uri, must_be_new=True))
            ]
            await _writer(session).abort_upload(upload)
            assert ([WriteRefused(), WriteRefused()], b"theirs") == (outcomes, await _read(session, uri))

    @pytest.mark.anyio
    async def test_an_upload_that_is_dropped_leaves_what_was_there(
        self, storage: StoragePort, seed: Seed, config: CatalogConfig
    ) -> None:
        """It may be dropped twice."""
        uri = await seed("dropped.bin", b"old")
        async with storage.connect(config) as session:
            upload = await _writer(session).begin_upload(_request(uri))
            await _parts(session, upload)
            for _ in range(2):
                await _writer(session).abort_upload(upload)
            assert b"old" == await _read(session, uri)


def _writer(session: StorageSession) -> WritableSession:
    assert isinstance(session, WritableSession), f"{type(session).__name__} is no WritableSession"
    return session


async def _new_uri(seed: Seed, key: str) -> str:
    """Give the URI of a key, under which nothing is."""
    return (await seed(f"{key}-beside", b"x")).removesuffix("-beside")


def _request(uri: str, *, if_match: str | None = None, must_be_new: bool = False) -> WriteRequest:
    return WriteRequest(uri=uri, content_type="application/octet-stream", if_match=if_match, must_be_new=must_be_new)


def _content(data: bytes) -> InMemory:
    return InMemory(data, digest_chunks("crc64nvme", (data,)))


async def _written_if(session: StorageSession, uri: str, etag: str | None, data: bytes) -> WriteOutcome:
    """Write over that version; a store may refuse it once, to be asked in another spelling."""
    outcome = await _writer(session).write(_request(uri, if_match=etag), _content(data))
    if isinstance(outcome, WriteRefused):
        outcome = await _writer(session).write(_request(uri, if_match=etag), _content(data))
    return outcome


async def _parts(session: StorageSession, upload: Upload) -> list[UploadedPart]:
    second = await _writer(session).write_part(upload, 2, len(_FIRST), _content(_SECOND))
    return [await _writer(session).write_part(upload, 1, 0, _content(_FIRST)), second]


async def _completed(
    session: StorageSession, upload: Upload, parts: list[UploadedPart], request: WriteRequest
) -> WriteOutcome:
    combined = crc_functions("crc64nvme").combine(parse_crc(parts[0].crc), parse_crc(parts[1].crc), parts[1].size)
    return await _writer(session).complete_upload(upload, request, parts, format_crc("crc64nvme", combined))


def _etag(outcome: WriteOutcome) -> str | None:
    assert isinstance(outcome, Written), outcome
    return outcome.metadata.etag


async def _read(session: StorageSession, uri: str) -> bytes:
    async with session.read(ReadRequest(uri=uri)) as outcome:
        assert isinstance(outcome, ReadResponse), outcome
        return b"".join([bytes(chunk) async for chunk in outcome.chunks])
