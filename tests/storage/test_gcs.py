"""What Google Cloud Storage is asked, and what its answers mean; the contracts run against an emulator elsewhere."""

from __future__ import annotations

import json
import pickle
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import unquote

import pytest

from datacachalog import (
    AccessDeniedError,
    BucketNotFoundError,
    CatalogConfig,
    ConfigurationError,
    CredentialsError,
    InvalidSourceError,
    ObjectNotFoundError,
    StorageError,
    StorageUnreachableError,
    ThrottledError,
    VersionNotFoundError,
)
from datacachalog._digests import digest_chunks
from datacachalog._pipeline.upload import InMemory
from datacachalog.ports import (
    NotModified,
    ReadRequest,
    ReadResponse,
    UploadedPart,
    VersionChanged,
    WriteRefused,
    WriteRequest,
    Written,
)
from datacachalog.storage import GCSStorage
from datacachalog.storage._tokens import Token

from ._scripted import Answer, Scripted, Sent, scripted_server

URI = "gs://bucket/dir/x.csv"
MIB = 1024 * 1024
RESOURCE = {
    "name": "dir/x.csv",
    "size": "7",
    "generation": "11",
    "updated": "2026-11-28T06:01:03.361Z",
    "crc32c": "yZRlqg==",
}


@pytest.fixture
def google() -> Iterator[Scripted]:
    with scripted_server() as server:
        server.answer = lambda _: Answer(body=json.dumps(RESOURCE).encode())
        yield server


@pytest.fixture
def storage(google: Scripted) -> GCSStorage:
    return GCSStorage(endpoint_url=google.url, anonymous=True)


def content(data: bytes) -> InMemory:
    return InMemory(data, digest_chunks("crc64nvme", (data,)))


def media(sent: Sent) -> Answer:
    """Answer as Google does to both its APIs, with a generation and a range."""
    start, stop = (int(text) for text in sent.headers["range"].removeprefix("bytes=").split("-"))
    headers = {
        "content-range": f"bytes {start}-{stop}/{8 * MIB}",
        "x-goog-generation": "11",
        "x-goog-hash": "crc32c=yZRlqg==",
        "etag": '"any"',
        "last-modified": "Sat, 28 Nov 2026 06:01:03 GMT",
    }
    return Answer(206, bytes(stop + 1 - start), headers)


# -- settings


def test_settings_pickle_and_are_equal():
    """A storage is a setting."""
    storage = GCSStorage(service_account="key.json")
    assert storage == pickle.loads(pickle.dumps(storage))


@pytest.mark.parametrize(
    "settings", [{"anonymous": True, "service_account": "key.json"}, {"endpoint_url": "http://user:word@host"}]
)
def test_settings_that_contradict_each_other_are_refused(settings):
    """No credentials and some, and credentials where none are used."""
    with pytest.raises(ConfigurationError):
        GCSStorage(**settings)


async def test_emulator_of_the_environment_is_asked_without_credentials(google, monkeypatch):
    """As Google's own libraries do."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google.url.removeprefix("http://"))
    async with GCSStorage().connect(CatalogConfig()) as session:
        metadata = await session.head(URI)
    assert ("11", False) == (metadata.etag, "authorization" in google.sent[0].headers)


@pytest.mark.parametrize("uri", ["gs://bucket", "gs://bucket/", "gs:///key", "s3://bucket/key", "/path"])
async def test_source_without_an_object_is_refused(storage, uri):
    """Before anything is sent."""
    async with storage.connect(CatalogConfig()) as session:
        with pytest.raises(InvalidSourceError):
            await session.head(uri)


# -- credentials


class Found:
    """Credentials as a library finds them: `tokens` one after the other."""

    def __init__(self, *tokens: str, seconds: float = 3600.0) -> None:
        self.tokens = list(tokens)
        self.seconds = seconds

    def __call__(self, _: object) -> Found:
        return self

    def give(self) -> Token:
        return Token(self.tokens.pop(0), time.time() + self.seconds)


async def test_token_that_is_refused_is_replaced_once(google, monkeypatch):
    """It is looked for again, and the request is repeated; a second refusal is an error of the credentials."""
    found = Found("old", "new", "newer")
    monkeypatch.setattr("datacachalog.storage._gcs._finder", lambda _: found.give)

    def answer(sent: Sent) -> Answer:
        is_good = sent.headers["authorization"] == "Bearer new"
        return Answer(body=json.dumps(RESOURCE).encode()) if is_good else Answer(401)

    google.answer = answer
    async with GCSStorage(endpoint_url=google.url).connect(CatalogConfig()) as session:
        await session.head(URI)
        google.answer = lambda _: Answer(401)
        with pytest.raises(CredentialsError) as caught:
            await session.head(URI)
    assert ([], 4, URI) == (found.tokens, len(google.sent), caught.value.uri)


async def test_g13_token_is_shown_nowhere(google, monkeypatch):
    """Neither by the error of a refused one, nor by its value."""
    found = Found("secret-1", "secret-2")
    monkeypatch.setattr("datacachalog.storage._gcs._finder", lambda _: found.give)
    google.answer = lambda sent: Answer(401, json.dumps({"error": {"message": "Invalid Credentials"}}).encode())
    async with GCSStorage(endpoint_url=google.url).connect(CatalogConfig()) as session:
        with pytest.raises(CredentialsError) as caught:
            await session.head(URI)
    assert "secret" not in f"{caught.value} {caught.value!r} {Token('secret-3', None)!r}"


async def test_library_that_is_missing_is_named(monkeypatch):
    """An extra that isn't installed is a matter of the settings, and the text says which."""
    monkeypatch.setitem(sys.modules, "google.auth", None)
    async with GCSStorage().connect(CatalogConfig()) as session:
        with pytest.raises(ConfigurationError, match=r"datacachalog\[gcs\]"):
            await session.head(URI)


async def test_credentials_that_are_nowhere_are_missed(tmp_path):
    """With what can be done about it."""
    async with GCSStorage(service_account=tmp_path / "none.json").connect(CatalogConfig()) as session:
        with pytest.raises(CredentialsError, match="application-default login"):
            await session.head(URI)


# -- refusals


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (404, {"message": "No such object: bucket/dir/x.csv"}, ObjectNotFoundError),
        (404, {"message": "The specified bucket does not exist."}, BucketNotFoundError),
        (401, {"message": "Anonymous caller"}, CredentialsError),
        (403, {"message": "no access"}, AccessDeniedError),
        (403, {"message": "slow", "errors": [{"reason": "rateLimitExceeded"}]}, ThrottledError),
        (429, {"message": "slow"}, ThrottledError),
        (503, {"message": "later"}, StorageUnreachableError),
        (400, {"message": "what?"}, StorageError),
        (500, None, StorageUnreachableError),
    ],
)
async def test_refusal_is_told_by_type(google, storage, status, error, expected):
    """With what Google says, and how long it asks to wait."""
    body = b"<html>" if error is None else json.dumps({"error": error}).encode()
    google.answer = lambda _: Answer(status, body, {"retry-after": "7"})
    async with storage.connect(CatalogConfig()) as session:
        with pytest.raises(StorageError) as caught:
            await session.head(URI)
    assert (expected, URI) == (type(caught.value), caught.value.uri)
    assert getattr(caught.value, "retry_after_seconds", 7.0) == 7.0
    assert error is None or error["message"].rstrip(".") in str(caught.value)


async def test_answer_that_is_none_is_no_answer(google, storage):
    """A login page in the place of a listing, say."""
    google.answer = lambda _: Answer(200, b"<html>please log in</html>")
    async with storage.connect(CatalogConfig()) as session:
        with pytest.raises(StorageUnreachableError, match="can't be understood"):
            await session.list_page("gs://bucket/")


async def test_version_that_is_none_is_told_without_asking(google, storage):
    """A generation is a number."""
    async with storage.connect(CatalogConfig()) as session:
        with pytest.raises(VersionNotFoundError):
            await session.head(URI, version_id="deleted-11")
    assert [] == google.sent


# -- reading


async def test_generation_is_demanded_and_what_is_stored_is_asked_for(google, storage):
    """Not what Google would make of it by decompressing."""
    google.answer = lambda _: Answer(412)
    async with storage.connect(CatalogConfig()) as session:
        async with session.read(ReadRequest(uri=URI, stop=10, if_match="10")) as outcome:
            assert VersionChanged() == outcome
        google.answer = lambda _: Answer(304)
        async with session.read(ReadRequest(uri=URI, stop=10, if_none_match="11")) as outcome:
            assert NotModified() == outcome
    first, second = google.sent
    assert ("/storage/v1/b/bucket/o/dir%2Fx.csv", "bytes=0-9", "gzip") == (
        first.path,
        first.headers["range"],
        first.headers["accept-encoding"],
    )
    assert ("10", "11") == (first.query["ifGenerationMatch"], second.query["ifGenerationNotMatch"])


@pytest.mark.leaks  # obstore ends its connections in threads of its own, some time after nobody needs them any more
@pytest.mark.usefixtures("obstore_is_up")
async def test_g1_long_part_of_another_generation_is_a_changed_version(google, storage):
    """obstore demands the generation, and what it brings is compared with the demand."""
    google.answer = media
    outcomes = []
    async with storage.connect(CatalogConfig()) as session:
        for generation in ("11", "12"):
            request = ReadRequest(uri=URI, start=2 * MIB, stop=4 * MIB, if_match=generation)
            async with session.read(request) as outcome:
                if isinstance(outcome, ReadResponse):
                    assert 2 * MIB == sum([len(chunk) async for chunk in outcome.chunks])
                outcomes.append(type(outcome))
    paths = {(unquote(sent.path), sent.query["generation"]) for sent in google.sent}
    assert [ReadResponse, VersionChanged] == outcomes
    assert {("/bucket/dir/x.csv", "11"), ("/bucket/dir/x.csv", "12")} == paths


@pytest.mark.leaks  # obstore ends its connections in threads of its own, some time after nobody needs them any more
@pytest.mark.usefixtures("obstore_is_up")
async def test_what_obstore_fails_with_is_asked_again_by_rest(google, storage):
    """Whose answer says what it means; from then on, nothing is asked by obstore."""
    google.answer = lambda sent: media(sent) if sent.path.startswith("/storage/") else Answer(404)
    request = ReadRequest(uri=URI, start=2 * MIB, stop=4 * MIB, if_match="11")
    async with storage.connect(CatalogConfig()) as session:
        for _ in range(2):
            async with session.read(request) as outcome:
                assert isinstance(outcome, ReadResponse)
    assert [False, True, True] == [sent.path.startswith("/storage/") for sent in google.sent]


async def test_without_obstore_all_comes_by_rest(google, storage, monkeypatch):
    """It only makes long parts faster."""
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    google.answer = media
    request = ReadRequest(uri=URI, start=2 * MIB, stop=4 * MIB, if_match="11")
    async with storage.connect(CatalogConfig()) as session, session.read(request) as outcome:
        assert isinstance(outcome, ReadResponse)
    assert ["/storage/v1/b/bucket/o/dir%2Fx.csv"] == [sent.path for sent in google.sent]


# -- listings


async def test_versions_of_one_object_are_never_torn_apart(google, storage):
    """Where an answer ends among them, they come with the next page, the newest first."""
    entries = [("a", 1), ("b", 2), ("b", 3), ("b", 4), ("c", 5)]

    def answer(sent: Sent) -> Answer:
        start = int(sent.query.get("pageToken", 0))
        found = [entry for entry in entries if entry[0] >= sent.query.get("startOffset", "")]
        items = [
            {
                "name": name,
                "generation": str(generation),
                "size": "1",
                "timeCreated": f"2026-11-28T06:00:0{generation}Z",
                **({"timeDeleted": f"2026-11-28T06:00:0{generation + 1}Z"} if generation in (2, 3) else {}),
            }
            for name, generation in found[start : start + 2]
        ]
        more = {"nextPageToken": str(start + 2)} if start + 2 < len(found) else {}
        return Answer(body=json.dumps({"items": items, **more}).encode())

    google.answer = answer
    pages, token = [], None
    async with storage.connect(CatalogConfig()) as session:
        while not pages or token is not None:
            page = await session.version_page("gs://bucket/", token=token)
            pages.append([(item.uri[-1], int(item.version.version_id)) for item in page.versions])
            token = page.next_token
    assert [[("a", 1)], [("b", 4), ("b", 3), ("b", 2), ("c", 5)]] == pages


async def test_deletion_is_what_ended_before_the_next_began(google, storage):
    """Google keeps no delete markers: they are seen by the times."""
    items = [
        {"name": "a", "generation": str(number), "size": "1", "timeCreated": created, "timeDeleted": deleted}
        for number, created, deleted in (
            (1, "2026-11-28T06:00:00Z", "2026-11-28T06:00:10Z"),
            (2, "2026-11-28T06:00:10Z", "2026-11-28T06:00:20Z"),
            (3, "2026-11-28T06:00:30Z", "2026-11-28T06:00:40Z"),
        )
    ]
    google.answer = lambda _: Answer(body=json.dumps({"items": items}).encode())
    async with storage.connect(CatalogConfig()) as session:
        page = await session.version_page("gs://bucket/a")
    found = [(v.version_id, v.last_modified.second, v.is_latest) for v in (item.version for item in page.versions)]
    assert [("deleted-3", 40, True), ("3", 30, False), ("deleted-2", 20, False), ("2", 10, False), ("1", 0, False)] == (
        found
    )


async def test_parts_under_construction_are_not_listed(google, storage):
    """Neither as objects nor as versions."""
    item = {**RESOURCE, "name": ".datacachalog-push/id/00001", "timeCreated": RESOURCE["updated"]}
    google.answer = lambda _: Answer(body=json.dumps({"items": [item]}).encode())
    async with storage.connect(CatalogConfig()) as session:
        page = await session.list_page("gs://bucket/")
        versions = await session.version_page("gs://bucket/")
    assert ((), ()) == (page.objects, versions.versions)


# -- writing


async def test_g9_write_demands_the_generation(google, storage):
    """That nothing is there, or the very version; and Google is to compare the bytes."""
    async with storage.connect(CatalogConfig()) as session:
        new = WriteRequest(uri=URI, content_type="text/csv", must_be_new=True)
        outcome = await session.write(new, content(b"content"))
        google.answer = lambda _: Answer(412)
        over = WriteRequest(uri=URI, content_type="text/csv", if_match="11")
        refused = await session.write(over, content(b"content"))
    assert isinstance(outcome, Written)
    assert ("11", datetime(2026, 11, 28, 6, 1, 3, tzinfo=UTC)) == (
        outcome.metadata.etag,
        outcome.metadata.last_modified,
    )
    assert (WriteRefused(), ["0", "11"]) == (refused, [sent.query["ifGenerationMatch"] for sent in google.sent])
    said = json.loads(google.sent[0].body.split(b"\r\n\r\n")[1].split(b"\r\n")[0])
    crc = digest_chunks("crc32c", (b"content",)).partition(":")[2]
    assert {"name": "dir/x.csv", "contentType": "text/csv", "crc32c": crc} == said


async def test_g9_composing_demands_the_generation_and_those_of_the_parts(google, storage):
    """What is refused leaves the parts; what is done removes them, by their generations."""
    parts = [UploadedPart(number, 5, str(20 + number), "crc64nvme:AAAAAAAAAAA=") for number in (1, 2)]
    request = WriteRequest(uri=URI, content_type="text/csv", if_match="11")

    def answer(sent: Sent) -> Answer:
        if sent.method == "GET":
            item = {"name": ".datacachalog-push/id/00001", "generation": "21"}
            return Answer(body=json.dumps({"items": [item]}).encode())
        return Answer(204) if sent.method == "DELETE" else Answer(body=json.dumps(RESOURCE).encode())

    async with storage.connect(CatalogConfig()) as session:
        upload = await session.begin_upload(request)
        google.answer = lambda _: Answer(412)
        refused = await session.complete_upload(upload, request, parts, "")
        google.answer = answer
        done = await session.complete_upload(upload, request, parts, "")
    compose = google.sent[0]
    sources = [
        (source["generation"], source["objectPreconditions"]) for source in json.loads(compose.body)["sourceObjects"]
    ]
    assert (WriteRefused(), True) == (refused, isinstance(done, Written))
    assert ("/storage/v1/b/bucket/o/dir%2Fx.csv/compose", "11") == (compose.path, compose.query["ifGenerationMatch"])
    assert [(generation, {"ifGenerationMatch": generation}) for generation in ("21", "22")] == sources
    deleted = [(sent.path, sent.query) for sent in google.sent if sent.method == "DELETE"]
    assert [("/storage/v1/b/bucket/o/.datacachalog-push%2Fid%2F00001", {"generation": "21"})] == deleted


async def test_more_parts_than_are_composed_at_once_are_composed_in_between(google, storage):
    """Thirty-two at a time, in order; only the last request makes the object."""
    parts = [UploadedPart(number, 5, str(number), "crc64nvme:AAAAAAAAAAA=") for number in range(1, 41)]
    google.answer = lambda sent: Answer(body=json.dumps({} if sent.method == "GET" else RESOURCE).encode())
    request = WriteRequest(uri=URI, content_type="text/csv", must_be_new=True)
    async with storage.connect(CatalogConfig()) as session:
        await session.complete_upload(await session.begin_upload(request), request, parts, "")
    composed = [
        ([source["name"].rpartition("/")[2] for source in json.loads(sent.body)["sourceObjects"]], sent.query)
        for sent in google.sent
        if sent.method == "POST"
    ]
    expected = [
        ([f"{number:05}" for number in range(1, 33)], {}),
        ([f"{number:05}" for number in range(33, 41)], {}),
        (["1-00000", "1-00032"], {"ifGenerationMatch": "0"}),
    ]
    assert expected == composed
