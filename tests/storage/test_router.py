"""Which storage a source belongs to."""

from __future__ import annotations

import pickle

import pytest

from datacachalog import (
    CatalogConfig,
    ConfigurationError,
    FilesystemStorage,
    InvalidSourceError,
    RouterStorage,
    S3Storage,
)
from datacachalog.ports import ReadRequest, ReadResponse
from datacachalog.storage import AzureStorage, GCSStorage, HTTPStorage
from datacachalog.testing import MemoryStorage


async def read(storage: RouterStorage, uri: str) -> bytes:
    async with storage.connect(CatalogConfig()) as session, session.read(ReadRequest(uri=uri)) as outcome:
        assert isinstance(outcome, ReadResponse)
        return b"".join([chunk async for chunk in outcome.chunks])


async def test_each_scheme_has_its_storage(tmp_path):
    """A source goes to the storage of its scheme, in any case of letters; a plain path to that of `file`."""
    one, other = MemoryStorage(), MemoryStorage()
    one.put("one://bucket/a", b"one")
    other.put("OTHER://bucket/a", b"other")
    (tmp_path / "a").write_bytes(b"file")
    storage = RouterStorage({"one": one, "Other": other, "file": FilesystemStorage()})
    uris = ["one://bucket/a", "OTHER://bucket/a", f"{tmp_path}/a", f"file://{tmp_path}/a"]
    assert [b"one", b"other", b"file", b"file"] == [await read(storage, uri) for uri in uris]


async def test_head_and_listing_are_routed_too():
    """All three questions go the same way."""
    inner = MemoryStorage()
    inner.put("mem://bucket/a", b"content")
    async with RouterStorage({"mem": inner}).connect(CatalogConfig()) as session:
        head = await session.head("mem://bucket/a")
        page = await session.list_page("mem://bucket/")
    assert (7, ["mem://bucket/a"]) == (head.size, [item.uri for item in page.objects])


async def test_a_listing_that_begins_behind_a_key_is_routed_where_there_is_such_a_thing(tmp_path):
    """To the storage of the scheme if it can; files are not listed so."""
    inner = MemoryStorage()
    for name in "abc":
        inner.put(f"mem://bucket/{name}", b"content")
    async with RouterStorage({"mem": inner, "file": FilesystemStorage()}).connect(CatalogConfig()) as session:
        seekable = [session.is_seekable(root) for root in ("mem://bucket/", f"{tmp_path}/")]
        page = await session.list_after("mem://bucket/", "mem://bucket/a", 1)
    assert ([True, False], ["mem://bucket/b"]) == (seekable, [item.uri for item in page.objects])


def test_router_has_all_stores_by_itself():
    """Without arguments it serves S3, Google, Azure, HTTP with and without TLS, files and plain paths."""
    azure, web = AzureStorage(), HTTPStorage()
    clouds = {"s3": S3Storage(), "gs": GCSStorage(), "az": azure, "abfss": azure}
    expected = {**clouds, "https": web, "http": web, "file": FilesystemStorage()}
    assert expected == RouterStorage().storages


@pytest.mark.parametrize("ask", ["head", "read", "list_page"])
async def test_unknown_scheme_names_those_there_are(ask):
    """A scheme without a storage is refused with those that have one, and how to add one."""
    async with RouterStorage().connect(CatalogConfig()) as session:
        questions = {
            "head": lambda: session.head("ftp://host/a"),
            "read": lambda: read(RouterStorage(), "ftp://host/a"),
            "list_page": lambda: session.list_page("ftp://host/a"),
        }
        with pytest.raises(
            InvalidSourceError,
            match=r"no storage for ftp://.*s3://, gs://, az://, abfss://, https://, http://, file://.*RouterStorage\(\{'ftp'",
        ):
            await questions[ask]()


@pytest.mark.parametrize("storages", [{}, {"s3://": S3Storage()}, {"": S3Storage()}, {"a b": S3Storage()}])
def test_router_that_cannot_route_is_refused(storages):
    """At least one storage, and schemes without `://`."""
    with pytest.raises(ConfigurationError):
        RouterStorage(storages)


def test_scheme_may_be_any_that_a_uri_can_have():
    """Letters, digits, `+`, `-` and `.` (RFC 3986, section 3.1)."""
    assert ["git+ssh", "x-y.z"] == list(RouterStorage({"git+ssh": S3Storage(), "x-y.z": S3Storage()}).storages)


def test_router_is_a_setting():
    """It pickles, so that a process pool can have it."""
    storage = RouterStorage({"s3": S3Storage(region="eu-west-1")})
    assert storage == pickle.loads(pickle.dumps(storage))
