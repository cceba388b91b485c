"""Files of web servers: the rules of every storage, and what each server's answers allow to promise."""

from __future__ import annotations

import base64
import gzip
import hashlib
import pickle
import ssl
import tempfile
import threading
from collections.abc import Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import IO

import anyio
import pytest

from datacachalog import (
    AccessDeniedError,
    AsyncCatalog,
    CatalogConfig,
    ConfigurationError,
    CredentialsError,
    Dataset,
    Freshness,
    IntegrityError,
    InvalidSourceError,
    ObjectNotFoundError,
    StorageError,
    StorageUnreachableError,
    ThrottledError,
    TransferError,
    VersioningNotSupportedError,
)
from datacachalog.ports import NotModified, RangeNotSatisfiable, ReadRequest, ReadResponse, VersionChanged
from datacachalog.storage import HTTPStorage
from datacachalog.storage._http_answers import NONE, RECENT, TIMED, WEAK
from datacachalog.testing import Cut, FaultServer, IgnoreRange, NoEtag, Stall, Swap, WeakEtag
from datacachalog.testing.contracts import Delete, ReadableStorageContract, Seed

from ._web import Asked, chunked, days_ago, part_of, reply, web_server

SMALL = b"id,name\n1,Ada\n" * 10
LARGE = bytes(range(256)) * 256 * 48  # 3 MiB: more than stays in memory
CONFIG = CatalogConfig(retries=1, part_bytes=1024 * 1024, connect_timeout_seconds=5, read_timeout_seconds=5)


class TestHTTPStorage(ReadableStorageContract):
    """Against a server that knows ranges, strong ETags and conditions."""

    @pytest.fixture
    def storage(self) -> HTTPStorage:
        return HTTPStorage()

    @pytest.fixture
    def seed(self, server: FaultServer) -> Seed:
        async def seed(key: str, data: bytes) -> str:
            server.put("bucket", key, data)
            return f"{server.endpoint_url}/bucket/{key}"

        return seed

    @pytest.fixture
    def delete(self, server: FaultServer) -> Delete:
        async def delete(uri: str) -> None:
            server.delete("bucket", uri.partition("/bucket/")[2])

        return delete

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        "key", ["with space.csv", "plus+plus.csv", "100%.csv", "ümlaut-日本-🦆.csv", "a//b/./c.csv"]
    )
    async def test_what_no_url_can_have_is_encoded(self, storage, seed, config, key):
        """What can't stand in a URL is sent percent-encoded."""
        uri = await seed(key, SMALL)
        async with storage.connect(config) as session:
            assert len(SMALL) == (await session.head(uri)).size


@asynccontextmanager
async def session_of(storage: HTTPStorage | None = None, config: CatalogConfig = CONFIG):
    async with (storage or HTTPStorage()).connect(config) as session:
        yield session


async def read(session, uri: str, **request):
    """The outcome, and the bytes if it has any."""
    async with session.read(ReadRequest(uri=uri, **request)) as outcome:
        if not isinstance(outcome, ReadResponse):
            return outcome, b""
        return outcome, b"".join([chunk async for chunk in outcome.chunks])


@pytest.fixture
def make_catalog(tmp_path) -> Callable[..., AsyncCatalog]:
    def make(*sources: str, storage: HTTPStorage | None = None, config: CatalogConfig = CONFIG, **of_dataset):
        datasets = [Dataset(chr(ord("a") + number), source, **of_dataset) for number, source in enumerate(sources)]
        return AsyncCatalog(datasets, cache_dir=tmp_path / "cache", storage=storage, config=config, progress=False)

    return make


async def fetched(catalog: AsyncCatalog, name: str = "a"):
    """The result, and the file's bytes."""
    result = (await catalog.fetch_all([name], on_error="collect"))[name]
    return result, result.path.read_bytes()


# -- validators


async def test_g1_parts_are_of_one_strong_etag(server, make_catalog):
    """With a strong ETag a large file comes in parts, each demanding that version."""
    server.put("bucket", "a", LARGE)
    async with make_catalog(f"{server.endpoint_url}/bucket/a") as catalog:
        result, data = await fetched(catalog)
        again, _ = await fetched(catalog)
    gets = [request for request in server.requests if request.method == "GET"]
    assert ([3, LARGE, "not cached", "revalidated"]) == [len(gets) - 1, data, result.reason, again.action]
    etag = server.put("bucket", "a", LARGE).etag
    assert [f'"{etag}"'] * 2 == [request.headers["if-match"] for request in gets[1:3]]


@pytest.mark.parametrize(
    ("fault", "caveat"), [(WeakEtag(method=None, times=None), WEAK), (NoEtag(method=None, times=None), RECENT)]
)
async def test_g1_without_a_strong_validator_all_comes_in_one_answer(server, make_catalog, fault, caveat):
    """Nothing could be demanded of parts; and the result says what isn't promised."""
    server.put("bucket", "a", LARGE)
    server.add_faults(fault)
    async with make_catalog(f"{server.endpoint_url}/bucket/a") as catalog:
        result, data = await fetched(catalog)
    assert (LARGE, f"not cached; {caveat}") == (data, result.reason)
    assert ["bytes=0-1048575", None] == [request.range for request in server.requests]


async def test_g1_what_is_left_of_a_weak_version_is_not_gone_on_with(server, make_catalog):
    """Another file may have the same weak ETag, so the next fetch takes all of it again."""
    server.put("bucket", "a", LARGE)
    server.add_faults(WeakEtag(method=None, times=None), Stall(after_bytes=2_500_000, nth=2))
    async with make_catalog(f"{server.endpoint_url}/bucket/a") as catalog:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(catalog.fetch, "a")
            await anyio.to_thread.run_sync(server.wait_for, lambda requests: any(one.is_stalled for one in requests))
            tasks.cancel_scope.cancel()
        result, data = await fetched(catalog)
    assert (LARGE, len(LARGE)) == (data, result.bytes_downloaded)


async def test_time_is_a_validator_when_it_is_old_enough(make_catalog):
    """Without an ETag, Last-Modified of yesterday holds parts together and revalidates, in its own headers."""
    modified = days_ago(1)

    def answer(asked: Asked) -> bytes:
        if asked.headers.get("if-modified-since") == modified:
            return reply(304, Last_Modified=modified)
        return part_of(LARGE, asked, Last_Modified=modified)

    async with web_server(answer) as web, make_catalog(f"{web.url}/a") as catalog:
        result, data = await fetched(catalog)
        again, _ = await fetched(catalog)
        status = await catalog.status()
    assert (LARGE, f"not cached; {TIMED}") == (data, result.reason)
    assert ("revalidated", f"the remote has the cached version; {TIMED}") == (again.action, again.reason)
    assert 2 == web.headers("if-unmodified-since").count(modified)
    assert Freshness.FRESH == status[0].freshness


async def test_file_that_was_written_just_now_is_fetched_again(make_catalog):
    """Within its second it may be written once more without another time (RFC 9110, section 8.8.2.2)."""
    contents = [b"first", b"other"]
    modified = days_ago(0)
    answer = lambda asked: reply(200, contents.pop(0), Last_Modified=modified)  # noqa: E731
    async with web_server(answer) as web, make_catalog(f"{web.url}/a") as catalog:
        first, _ = await fetched(catalog)
        _, data = await fetched(catalog)
    assert (f"not cached; {RECENT}", b"other") == (first.reason, data)


async def test_file_that_an_older_one_replaces_is_seen(make_catalog):
    """A server that finds the older file "not modified since" is asked once more, without that condition."""
    old, new = days_ago(9), days_ago(1)
    files = {"now": (new, b"newer")}

    def answer(asked: Asked) -> bytes:
        modified, data = files["now"]
        if "if-modified-since" in asked.headers:
            return reply(304, Last_Modified=modified)
        return reply(200, data, Last_Modified=modified)

    async with web_server(answer) as web, make_catalog(f"{web.url}/a") as catalog:
        await fetched(catalog)
        files["now"] = (old, b"older")
        result, data = await fetched(catalog)
    assert ("downloaded", b"older") == (result.action, data)


async def test_without_a_validator_each_fetch_downloads(make_catalog):
    """Nothing can be asked; the result says so, and only the length is compared."""
    async with web_server(lambda asked: reply(200, SMALL)) as web, make_catalog(f"{web.url}/a") as catalog:
        results = [(await fetched(catalog))[0] for _ in range(2)]
        assert [f"not cached; {NONE}", "downloaded"] == [results[0].reason, results[1].action]
        assert [None, None] == [result.verified_by for result in results]


@pytest.mark.parametrize("etag", ['"v1"', 'W/"v1"'])
async def test_server_that_ignores_if_none_match_costs_no_download(make_catalog, etag):
    """The answer's own ETag says that it is the version that we have; its bytes are not read."""
    async with web_server(lambda asked: part_of(SMALL, asked, ETag=etag)) as web, make_catalog(f"{web.url}/a") as c:
        results = [(await fetched(c))[0] for _ in range(2)]
    assert ["downloaded", "revalidated"] == [result.action for result in results]
    assert '"v1"' == web.headers("if-none-match")[1]


async def test_g5_object_replaced_during_the_download_is_begun_again(server, make_catalog):
    """The second version comes whole, and the caller has nothing to handle."""
    other = LARGE[::-1]
    server.put("bucket", "a", LARGE)
    server.add_faults(Swap(other, after_bytes=1000))
    config = CatalogConfig(part_bytes=1024 * 1024, max_concurrency=1)  # the second part is asked for after the first
    async with make_catalog(f"{server.endpoint_url}/bucket/a", config=config) as catalog:
        _, data = await fetched(catalog)
    assert other == data


@pytest.mark.parametrize("validators", [("ETag", '"one"', '"two"'), ("Last-Modified", days_ago(2), days_ago(1))])
async def test_g5_server_that_ignores_demands_is_found_out(make_catalog, validators):
    """A server that gives a part of another version, whatever is demanded, says so by its validator."""
    name, one, two = validators
    versions = [(one, LARGE), (two, LARGE[::-1])]
    served = []

    def answer(asked: Asked) -> bytes:
        served.append(asked)
        etag, data = versions[len(served) > 1]
        return part_of(data, asked, **{name: etag})

    async with web_server(answer) as web, make_catalog(f"{web.url}/a") as catalog:
        _, data = await fetched(catalog)
    assert LARGE[::-1] == data


@pytest.mark.parametrize("part", ['W/"one"', ""], ids=["weak", "none"])
async def test_g1_part_without_the_strong_etag_is_not_taken(make_catalog, part):
    """A proxy that weakens or drops the ETag of a part leaves nobody to say of which version it is."""

    def answer(asked: Asked) -> bytes:
        is_first = asked.range is None or asked.range[0] == 0
        return part_of(LARGE, asked, ETag='"one"' if is_first else part)

    async with web_server(answer) as web, make_catalog(f"{web.url}/a") as catalog:
        with pytest.raises(TransferError, match="keeps changing"):
            await catalog.fetch("a")


async def test_server_without_ranges_is_read_in_one_go(server, make_catalog):
    """The whole object where a range was asked for is the whole object."""
    server.put("bucket", "a", LARGE)
    server.add_faults(IgnoreRange(times=None))
    async with make_catalog(f"{server.endpoint_url}/bucket/a") as catalog:
        _, data = await fetched(catalog)
    assert LARGE == data


async def test_g3_broken_download_goes_on_where_it_broke(server, make_catalog):
    """With a strong ETag only what is missing is asked for again."""
    server.put("bucket", "a", LARGE)
    server.add_faults(Cut(after_bytes=500_000))
    async with make_catalog(f"{server.endpoint_url}/bucket/a") as catalog:
        result, data = await fetched(catalog)
    assert (LARGE, len(LARGE)) == (data, result.bytes_downloaded)


# -- lengths, ranges, encodings


async def test_body_in_chunks_is_taken_to_its_end(make_catalog):
    """Nobody knows its length before; it is staged when it is known, whatever its size."""
    head = reply(200, Content_Length="", Transfer_Encoding="chunked", ETag='"v1"')
    bodies = {"/a": chunked(SMALL, SMALL), "/b": chunked(LARGE[:-5], LARGE[-5:]), "/c": chunked()}
    async with (
        web_server(lambda asked: head + bodies[asked.target]) as web,
        make_catalog(*(f"{web.url}{path}" for path in bodies)) as catalog,
    ):
        found = [await fetched(catalog, name) for name in "abc"]
        again = [(await fetched(catalog, name))[0].action for name in "abc"]
    assert [SMALL * 2, LARGE, b""] == [data for _, data in found]
    assert ["revalidated"] * 3 == again


async def test_chunks_without_their_end_are_not_the_whole(make_catalog):
    """A connection that ends before the last chunk has broken."""
    head = reply(200, Content_Length="", Transfer_Encoding="chunked")
    body = chunked(SMALL, is_whole=False)
    async with web_server(lambda asked: head + body, ends=True) as web, make_catalog(f"{web.url}/a") as catalog:
        with pytest.raises(StorageUnreachableError):
            await catalog.fetch("a")
    assert 2 == len(web.asked)


async def test_body_of_no_length_that_ends_with_its_connection_is_refused(make_catalog):
    """A part of it would look like the whole (RFC 9112, section 8), so nothing of it is taken."""
    answer = reply(200, SMALL, Content_Length="")
    async with web_server(lambda asked: answer, ends=True) as web, make_catalog(f"{web.url}/a") as catalog:
        with pytest.raises(StorageError, match="could be taken for the whole"):
            await catalog.fetch("a")
    assert 1 == len(web.asked)


async def test_body_shorter_than_its_length_is_not_the_whole(make_catalog):
    """It is asked for again, and given up."""
    answer = reply(200, SMALL, Content_Length=str(len(SMALL) + 1))
    async with web_server(lambda asked: answer, ends=True) as web, make_catalog(f"{web.url}/a") as catalog:
        with pytest.raises(StorageUnreachableError):
            await catalog.fetch("a")


@pytest.mark.parametrize(
    "useless",
    [
        partial(reply, 206, b"--x", Content_Type="multipart/byteranges; boundary=x"),
        partial(reply, 206, SMALL[:5], Content_Range="bytes 0-4/*"),
    ],
    ids=["multipart", "no size"],
)
async def test_range_of_no_use_is_asked_for_without(make_catalog, useless):
    """Several ranges where one was asked for, or one that doesn't tell the size."""
    answer = lambda asked: useless() if asked.range else reply(200, SMALL, ETag='"v1"')  # noqa: E731
    async with web_server(answer) as web, make_catalog(f"{web.url}/a") as catalog:
        _, data = await fetched(catalog)
    assert (SMALL, [True, False]) == (data, [asked.range is not None for asked in web.asked])


@pytest.mark.parametrize("content_range", ["bytes 5-9/10", "bytes 0-4/3", "nonsense", ""])
async def test_g1_answer_with_other_bytes_than_were_asked_for_is_not_taken(make_catalog, content_range):
    """Bytes whose place isn't known, or is another one, are nobody's."""
    answer = reply(206, b"01234", Content_Range=content_range, ETag='"v1"')
    async with web_server(lambda asked: answer) as web, make_catalog(f"{web.url}/a") as catalog:
        with pytest.raises((StorageUnreachableError, TransferError)):
            await catalog.fetch("a")


async def test_empty_file_is_a_file(make_catalog):
    """It has no first byte, which a server with ranges says by 416."""
    async with web_server(lambda asked: part_of(b"", asked, ETag='"v1"')) as web, make_catalog(f"{web.url}/a") as c:
        _, data = await fetched(c)
    assert b"" == data


async def test_bytes_are_asked_for_as_they_are_meant(make_catalog):
    """No encoding for the way, which would make ranges those of something else."""
    async with web_server(lambda asked: reply(200, SMALL)) as web, make_catalog(f"{web.url}/a") as catalog:
        await catalog.fetch("a")
    assert ["identity"] == web.headers("accept-encoding")


@pytest.mark.parametrize("has_ranges", [True, False])
@pytest.mark.parametrize("members", [1, 2])
async def test_what_is_compressed_for_the_way_is_decompressed(make_catalog, has_ranges, members):
    """By a server that does it unasked; a range of what is compressed is of no use, its digest not the file's."""
    size = len(LARGE) // members
    body = b"".join(gzip.compress(LARGE[start : start + size]) for start in range(0, len(LARGE), size))
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    headers = {"Content_Encoding": "gzip", "ETag": '"v1"', "Repr_Digest": f"sha-256=:{digest}:"}
    config = CatalogConfig(part_bytes=1024, retries=0)

    def answer(asked: Asked) -> bytes:
        if asked.headers.get("if-none-match") == '"v1"':
            return reply(304, ETag='"v1"')
        return part_of(body, asked, **headers) if has_ranges else reply(200, body, **headers)

    async with web_server(answer) as web, make_catalog(f"{web.url}/a.csv", config=config) as catalog:
        _, data = await fetched(catalog)
        again, _ = await fetched(catalog)
    assert (LARGE, "revalidated") == (data, again.action)


@pytest.mark.parametrize("spoil", [lambda data: data[:-4], lambda data: b"plain", lambda data: data + b"rest"])
async def test_what_is_compressed_wrongly_is_not_taken(make_catalog, spoil):
    """Half of it, none of it, or something behind it."""
    body = spoil(gzip.compress(SMALL))
    answer = reply(200, body, Content_Encoding="gzip", ETag='"v1"')
    async with web_server(lambda asked: answer) as web, make_catalog(f"{web.url}/a.csv") as catalog:
        with pytest.raises(StorageUnreachableError, match="gzip"):
            await catalog.fetch("a")


async def test_encoding_that_cannot_be_undone_is_refused(make_catalog):
    """Bytes of which nobody knows what they are would be wrong ones."""
    answer = reply(200, b"?", Content_Encoding="br")
    async with web_server(lambda asked: answer) as web, make_catalog(f"{web.url}/a.csv") as catalog:
        with pytest.raises(StorageError, match=r"encoded \(br\)"):
            await catalog.fetch("a")


async def test_compressed_file_stays_one(make_catalog):
    """`a.csv.gz` is what it is called, whatever the server says of its encoding; and can be unpacked."""
    body = gzip.compress(SMALL)
    answer = lambda asked: part_of(body, asked, Content_Encoding="gzip", ETag='"v1"')  # noqa: E731
    async with web_server(answer) as web:
        async with make_catalog(f"{web.url}/a.csv.gz") as catalog:
            _, data = await fetched(catalog)
        async with make_catalog(f"{web.url}/a.csv.gz?x=/y", unpack="auto") as catalog:
            path = await catalog.fetch("a")
    assert (body, "a.csv", SMALL) == (data, path.name, path.read_bytes())


# -- digests


def repr_digest(data: bytes, algorithm: str = "sha256") -> str:
    digest = base64.b64encode(hashlib.new(algorithm, data).digest()).decode()
    return f"{algorithm[:3]}-{algorithm[3:]}=:{digest}:"


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_stated_digest_is_compared(make_catalog, data, algorithm):
    """Repr-Digest is of the whole, also where it comes in parts; the result says that it was compared."""
    answer = lambda asked: part_of(data, asked, ETag='"v1"', Repr_Digest=repr_digest(data, algorithm))  # noqa: E731
    async with web_server(answer) as web, make_catalog(f"{web.url}/a") as catalog:
        result, found = await fetched(catalog)
    assert (data, algorithm) == (found, result.verified_by)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_g1_bytes_of_another_digest_are_not_published(make_catalog, data):
    """What the server states and what it sends differ: nothing is handed out."""
    answer = lambda asked: part_of(data, asked, ETag='"v1"', Repr_Digest=repr_digest(data[1:]))  # noqa: E731
    async with web_server(answer) as web, make_catalog(f"{web.url}/a") as catalog:
        with pytest.raises(IntegrityError):
            await catalog.fetch("a")


async def test_pin_is_compared(make_catalog):
    """A checksum of the dataset's own needs nothing of the server."""
    pins = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in (SMALL, SMALL[1:])]
    async with web_server(lambda asked: reply(200, SMALL)) as web:
        async with make_catalog(f"{web.url}/a", checksum=pins[0]) as catalog:
            result, _ = await fetched(catalog)
        async with make_catalog(f"{web.url}/b", checksum=pins[1]) as catalog:
            with pytest.raises(IntegrityError):
                await catalog.fetch("a")
    assert "sha256" == result.verified_by


# -- head


@pytest.mark.parametrize("status", [403, 405, 501])
async def test_head_that_is_refused_is_a_get_of_one_byte(status):
    """Signed URLs are for one method, and some servers know only one."""

    def answer(asked: Asked) -> bytes:
        return reply(status) if asked.method == "HEAD" else part_of(SMALL, asked, ETag='"v1"')

    async with web_server(answer) as web, session_of() as session:
        found = await session.head(f"{web.url}/a")
    assert (len(SMALL), "v1", [None, "bytes=0-0"]) == (found.size, found.etag, web.headers("range"))


async def test_head_of_an_empty_file_is_zero_bytes():
    """416 tells the size (RFC 9110, section 15.5.17)."""
    answer = lambda asked: reply(405) if asked.method == "HEAD" else part_of(b"", asked)  # noqa: E731
    async with web_server(answer) as web, session_of() as session:
        assert 0 == (await session.head(f"{web.url}/a")).size


@pytest.mark.parametrize(
    "headers", [{"Content_Length": "", "Transfer_Encoding": "chunked"}, {"Content_Encoding": "gzip"}]
)
async def test_length_that_nobody_tells_makes_a_status_unknown(make_catalog, headers):
    """What would be fetched has no length before it is fetched; it can be fetched all the same."""
    body = gzip.compress(SMALL)
    sent = body if "Content_Encoding" in headers else chunked(SMALL)

    def answer(asked: Asked) -> bytes:
        return reply(200, b"" if asked.method == "HEAD" else sent, **({"Content_Length": str(len(body))} | headers))

    async with web_server(answer) as web, make_catalog(f"{web.url}/a.csv") as catalog:
        await catalog.fetch("a")
        [status] = await catalog.status()
    assert (Freshness.UNKNOWN, True) == (status.freshness, "doesn't tell how long" in status.reason)


# -- redirects


async def test_redirects_are_followed(make_catalog):
    """Relative ones, and to other hosts, with the range and the conditions."""

    def answer(asked: Asked) -> bytes:
        places = {"/a": "b/c?d", "/b/c?d": "/e"}
        if asked.target in places:
            return reply(302, b"<html>", Location=places[asked.target])
        return part_of(SMALL, asked, ETag='"v1"')

    async with web_server(answer) as web, make_catalog(f"{web.url}/a") as catalog:
        _, data = await fetched(catalog)
    assert (SMALL, ["/a", "/b/c?d", "/e"]) == (data, [asked.target for asked in web.asked])


async def test_redirects_have_an_end():
    """A circle is an error, at once."""
    async with web_server(lambda asked: reply(301, Location="/a")) as web, session_of() as session:
        with pytest.raises(StorageError, match="more than 10 redirects"):
            await read(session, f"{web.url}/a")
    assert 11 == len(web.asked)


async def test_g13_credentials_are_not_sent_to_another_host(make_catalog):
    """Neither those of the URL, nor those of the storage, nor headers of one's own."""
    async with web_server(lambda asked: part_of(SMALL, asked)) as other:
        to = reply(307, Location=f"{other.url}/b")
        async with web_server(lambda asked: to) as web:
            host = web.url.removeprefix("http://")
            storage = HTTPStorage(credentials={web.url: {"X-Api-Key": "secret"}})
            async with session_of(storage) as session:
                await read(session, f"{web.url}/a")
                await read(session, f"http://ada:secret@{host}/a")
    assert ["secret", None] == web.headers("x-api-key")
    assert [None, "Basic YWRhOnNlY3JldA=="] == web.headers("authorization")
    assert 2 == len(other.asked)
    assert "secret" not in repr(other.asked) + other.asked[0].headers.get("authorization", "")


async def test_redirect_that_is_not_followed_says_why():
    """Another scheme isn't asked."""
    to = reply(302, Location="ftp://host/a?token=secret")
    async with web_server(lambda asked: to) as web, session_of() as session:
        with pytest.raises(StorageError, match="isn't followed") as caught:
            await read(session, f"{web.url}/a")
    assert "secret" not in str(caught.value)


# -- credentials


async def test_credentials_of_an_origin_are_sent_to_it_alone():
    """A catalog has files of many servers, and each gets its own word."""
    answer = reply(200, SMALL)
    async with (
        web_server(lambda asked: answer) as one,
        web_server(lambda asked: answer) as two,
        session_of(HTTPStorage(credentials={one.url + "/": "token"})) as session,
    ):
        for web in (one, two):
            await read(session, f"{web.url}/a")
    assert (["Bearer token"], [None]) == (one.headers("authorization"), two.headers("authorization"))


async def test_credentials_that_are_refused_are_asked_for_anew():
    """Once for all that were refused meanwhile; what is given then goes for the next requests too."""
    given: list[str] = []

    def token() -> str:
        given.append(f"token-{len(given)}")
        return given[-1]

    def answer(asked: Asked) -> bytes:
        return reply(200, SMALL) if asked.headers.get("authorization") == "Bearer token-1" else reply(401)

    async with web_server(answer) as web, session_of(HTTPStorage(credentials={web.url: token})) as session:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(read, session, f"{web.url}/a")
        await read(session, f"{web.url}/a")
    assert ["token-0", "token-1"] == given


async def test_credentials_that_stay_refused_are_an_error():
    """Asked for anew once, not for ever."""
    async with (
        web_server(lambda asked: reply(401)) as web,
        session_of(HTTPStorage(credentials={web.url: lambda: ("ada", "secret")})) as session,
    ):
        with pytest.raises(CredentialsError):
            await read(session, f"{web.url}/a")
    assert 2 == len(web.asked)


def test_g13_storage_shows_no_credential():
    """Neither its text nor its errors; and what is wrong is said when it is made."""
    storage = HTTPStorage(credentials={"https://host": ("ada", "secret")})
    assert "secret" not in repr(storage)
    assert storage == pickle.loads(pickle.dumps(storage))
    with pytest.raises(ConfigurationError) as caught:
        HTTPStorage(credentials={"https://host/path": "secret"})
    assert "secret" not in str(caught.value)


async def test_g13_what_gives_credentials_may_fail():
    """That is said, and by what kind of error, without its text."""

    def fail() -> str:
        raise OSError("https://vault.example/?token=secret")

    async with session_of(HTTPStorage(credentials={"http://127.0.0.1:9": fail})) as session:
        with pytest.raises(CredentialsError, match="OSError") as caught:
            await read(session, "http://127.0.0.1:9/a")
    assert "secret" not in str(caught.value) + repr(caught.value.__cause__)


# -- failures


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, StorageError),
        (401, CredentialsError),
        (403, AccessDeniedError),
        (404, ObjectNotFoundError),
        (407, CredentialsError),
        (408, StorageUnreachableError),
        (410, ObjectNotFoundError),
        (429, ThrottledError),
        (451, StorageError),
        (500, StorageUnreachableError),
        (503, StorageUnreachableError),
        (599, StorageUnreachableError),
        (204, StorageError),
        (300, StorageError),
        (302, StorageError),
        (304, StorageError),
        (412, StorageError),
        (416, StorageError),
    ],
)
async def test_status_has_its_error(status, error):
    """What a caller treats differently differs by type; what the server says in words is not repeated."""
    body = b"" if status in (204, 304) else b"secret"
    async with web_server(lambda asked: reply(status, body, Retry_After="7")) as web, session_of() as session:
        with pytest.raises(error) as caught:
            await read(session, f"{web.url}/a")
    assert error is type(caught.value)
    assert (f"{web.url}/a", True, False) == (
        caught.value.uri,
        str(status) in str(caught.value),
        "secret" in str(caught.value),
    )
    if status in (408, 429, 500, 503):
        assert 7 == caught.value.retry_after_seconds


@pytest.mark.parametrize("nonsense", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b""])
async def test_what_answers_may_be_no_web_server(nonsense):
    """Then it can't be reached."""
    async with web_server(lambda asked: nonsense, ends=True) as web, session_of() as session:
        with pytest.raises(StorageUnreachableError):
            await read(session, f"{web.url}/a")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a", "http://nowhere.invalid/a"])
async def test_nobody_there_is_unreachable(url):
    """No connection, or no such host."""
    async with session_of() as session:
        with pytest.raises(StorageUnreachableError):
            await read(session, url)


async def test_silence_is_unreachable(server):
    """No byte within the configured time, in the middle of a body too."""
    server.put("bucket", "a", LARGE)
    server.add_faults(Stall(), Stall(after_bytes=10, nth=2))
    async with session_of(config=CatalogConfig(read_timeout_seconds=0.2)) as session:
        for _ in range(2):
            with pytest.raises(StorageUnreachableError):
                await read(session, f"{server.endpoint_url}/bucket/a")


async def test_g4_copy_is_served_when_nobody_answers(server, make_catalog):
    """A cached copy outlives its server."""
    server.put("bucket", "a", SMALL)
    async with make_catalog(f"{server.endpoint_url}/bucket/a", config=CatalogConfig(retries=0)) as catalog:
        await catalog.fetch("a")
        await anyio.to_thread.run_sync(server.refuse)
        with pytest.warns(match="may be out of date"):
            result, data = await fetched(catalog)
    assert ("stale", SMALL) == (result.action, data)


# -- what HTTP can't


@pytest.mark.parametrize("source", ["https://host/*.csv", "https://host/dir/", "https://host/[ab].csv", "https://host"])
async def test_wildcards_are_refused(make_catalog, source):
    """HTTP can't list."""
    async with make_catalog(source) as catalog:
        with pytest.raises(InvalidSourceError, match="HTTP can't list"):
            await catalog.fetch_files("a")


async def test_versions_are_refused(make_catalog):
    """HTTP knows the newest."""
    async with make_catalog("https://host/a.csv") as catalog:
        with pytest.raises(VersioningNotSupportedError):
            await catalog.versions("a")
    async with make_catalog("https://host/a.csv", version_id="v1") as catalog:
        with pytest.raises(VersioningNotSupportedError):
            await catalog.fetch("a")


async def test_push_is_refused(make_catalog, tmp_path):
    """Nothing is written over HTTP."""
    (tmp_path / "a.csv").write_bytes(SMALL)
    async with web_server(lambda asked: reply(404)) as web, make_catalog(f"{web.url}/a.csv") as catalog:
        with pytest.raises(ConfigurationError, match="can only be read"):
            await catalog.push("a", tmp_path / "a.csv")
    assert ["HEAD"] == [asked.method for asked in web.asked]


# -- the way


async def test_proxy_of_the_environment_is_asked(monkeypatch):
    """For the hosts that aren't left out."""
    async with web_server(lambda asked: reply(200, SMALL)) as proxy, session_of() as session:
        monkeypatch.setenv("http_proxy", proxy.url.removeprefix("http://"))
        monkeypatch.setenv("no_proxy", "direct.invalid")
        _, data = await read(session, "http://somewhere.invalid/a")
        with pytest.raises(StorageUnreachableError):
            await read(session, "http://direct.invalid/a")
    assert (SMALL, ["http://somewhere.invalid/a"]) == (data, [asked.target for asked in proxy.asked])


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_tls_is_for_servers_that_are_trusted(certificate, monkeypatch, is_trusted):
    """Authorities of one's own are named in the environment."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert", certificate / "key")
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert"))
    async with web_server(lambda asked: reply(200, SMALL), context=context) as web, session_of() as session:
        if is_trusted:
            assert SMALL == (await read(session, f"{web.url}/a"))[1]
        else:
            with pytest.raises(StorageUnreachableError, match="SSL_CERT_FILE"):
                await read(session, f"{web.url}/a")


async def test_connection_is_kept(server):
    """Also behind a redirect, an outcome without bytes, and a body that was read."""
    server.put("bucket", "a", SMALL)
    async with session_of() as session:
        uri = f"{server.endpoint_url}/bucket/a"
        etag = (await session.head(uri)).etag
        outcomes = [
            (await read(session, uri, **request))[0]
            for request in ({}, {"if_none_match": etag}, {"start": 5, "stop": 9}, {"if_none_match": etag})
        ]
    assert [NotModified(), 5, NotModified()] == [outcomes[1], outcomes[2].start, outcomes[3]]
    assert 1 == server.connections_opened


async def test_outcomes_of_a_range():
    """Behind the end, and of another version."""
    async with web_server(lambda asked: part_of(SMALL, asked, ETag='"v1"')) as web, session_of() as session:
        behind, _ = await read(session, f"{web.url}/a", start=1000, stop=2000)
        other, _ = await read(session, f"{web.url}/a", start=5, stop=10, if_match="v2")
    assert (RangeNotSatisfiable(), VersionChanged()) == (behind, other)


async def test_g8_urls_stay_inside_the_cache(make_catalog, tmp_path):
    """Dots, slashes and queries of a URL are names like others."""
    paths = ["/../../a", "/a//../b", "/%2e%2e/a?../../x", "/a?x=/../../../y", "/?x"]
    async with (
        web_server(lambda asked: reply(200, asked.target.encode())) as web,
        make_catalog(*(f"{web.url}{path}" for path in paths)) as catalog,
    ):
        report = await catalog.fetch_all()
    found = [result.path for result in report.values()]
    assert paths == [path.read_text() for path in found]
    assert all(path.resolve().is_relative_to(tmp_path / "cache" / "@http") for path in found)


async def test_g10_cancelled_fetch_leaves_no_file(make_catalog, monkeypatch):
    """What came of a body without a length is closed, and so gone; the catalog goes on."""
    head = reply(200, Content_Length="", Transfer_Encoding="chunked")
    bodies = [chunked(LARGE, is_whole=False), chunked(SMALL)]
    files: list[IO[bytes]] = []
    is_made = threading.Event()
    make = tempfile.TemporaryFile

    def made(*args, **kwargs):
        files.append(make(*args, **kwargs))
        is_made.set()
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", made)
    async with web_server(lambda asked: head + bodies.pop(0)) as web, make_catalog(f"{web.url}/a") as catalog:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(catalog.fetch, "a")
            assert await anyio.to_thread.run_sync(is_made.wait, 10)
            tasks.cancel_scope.cancel()
        _, data = await fetched(catalog)
    assert (SMALL, [True]) == (data, [file.closed for file in files])
