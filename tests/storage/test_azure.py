"""What Azure is asked, and what its answers mean; the contracts run against an emulator elsewhere."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator

import pytest

from datacachalog import (
    AccessDeniedError,
    AsyncCatalog,
    BucketNotFoundError,
    CatalogConfig,
    ConfigurationError,
    CredentialsError,
    Dataset,
    InvalidSourceError,
    ObjectNotFoundError,
    StorageError,
    StorageUnreachableError,
    ThrottledError,
    VersionNotFoundError,
)
from datacachalog._digests import digest_chunks
from datacachalog._pipeline.upload import InMemory
from datacachalog.ports import ReadRequest, UploadedPart, VersionChanged, WriteRefused, WriteRequest, Written
from datacachalog.storage import AzureStorage

from ._scripted import Answer, Scripted, Sent, scripted_server

URI = "az://container/dir/x.csv"
KEY = "a2V5"
HEADERS = {"etag": '"0x1"', "last-modified": "Sat, 28 Nov 2026 06:01:03 GMT"}


@pytest.fixture
def azure() -> Iterator[Scripted]:
    with scripted_server() as server:
        server.answer = lambda _: Answer(headers=HEADERS)
        yield server


@pytest.fixture
def storage(azure: Scripted) -> AzureStorage:
    return AzureStorage(account="account", account_key=KEY, endpoint_url=f"{azure.url}/account")


def listing(*blobs: str, marker: str = "") -> Answer:
    text = f"<EnumerationResults><Blobs>{''.join(blobs)}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
    return Answer(body=f'\ufeff<?xml version="1.0" encoding="utf-8"?>{text}'.encode())


def blob(name: str, version: str = "", *, is_current: bool = False, more: str = "") -> str:
    ids = f"<VersionId>{version}</VersionId>" if version else ""
    ids += "<IsCurrentVersion>true</IsCurrentVersion>" if is_current else ""
    known = "<Last-Modified>Sat, 28 Nov 2026 06:01:03 GMT</Last-Modified><Etag>0x1</Etag>"
    properties = f"<Properties>{known}<Content-Length>7</Content-Length>{more}</Properties>"
    return f"<Blob><Name>{name}</Name>{ids}{properties}</Blob>"


# -- settings


def test_settings_pickle_and_show_no_secret():
    """G13: neither key nor signature nor connection string."""
    shown = [
        AzureStorage(account="account", account_key="c2VjcmV0"),
        AzureStorage(account="account", sas_token="sig=c2VjcmV0"),
        AzureStorage(connection_string="AccountName=account;AccountKey=c2VjcmV0"),
    ]
    assert (shown, False) == (pickle.loads(pickle.dumps(shown)), "c2VjcmV0" in repr(shown))


@pytest.mark.parametrize(
    "settings",
    [
        {"account": "a", "account_key": KEY, "sas_token": "sig=x"},
        {"account": "a", "connection_string": f"AccountName=a;AccountKey={KEY}"},
        {"account": "a", "account_key": KEY, "anonymous": True},
        {"account_key": KEY},
        {"account": "a", "account_key": "no base64!"},
        {"account": "a", "endpoint_url": "https://host/?sig=x"},
        {"connection_string": "nothing"},
    ],
)
def test_settings_that_can_not_be_right_are_refused(settings):
    """Two credentials, none where some are needed, and what can't be read."""
    with pytest.raises(ConfigurationError) as caught:
        AzureStorage(**settings)
    assert KEY not in str(caught.value)


async def test_environment_that_can_not_be_read_is_in_nobodys_way(tmp_path, monkeypatch):
    """Only who uses Azure is told of it."""
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "nothing")
    (tmp_path / "a.csv").write_bytes(b"content")
    datasets = [Dataset("a", str(tmp_path / "a.csv")), Dataset("b", URI)]
    async with AsyncCatalog(datasets, cache_dir=tmp_path / "cache") as catalog:
        assert b"content" == (await catalog.fetch("a")).read_bytes()
        with pytest.raises(ConfigurationError, match="connection string"):
            await catalog.fetch("b")


async def test_account_that_nobody_names_is_missed(monkeypatch):
    """With the ways to name it."""
    for name in ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"):
        monkeypatch.delenv(name, raising=False)
    async with AzureStorage().connect(CatalogConfig()) as session:
        with pytest.raises(ConfigurationError, match="AZURE_STORAGE_ACCOUNT"):
            await session.head(URI)


@pytest.mark.parametrize(
    "uri",
    [
        "az://container",
        "az://container/",
        "az:///key",
        "s3://bucket/key",
        "abfss://container/key",
        "abfss://container@account.dfs.core.windows.net.example.org/key",
        "abfss://container@example.org/key",
        "abfss://container@account.dfs.core.windows.net/",
    ],
)
async def test_source_that_names_no_blob_of_azure_is_refused(azure, storage, uri):
    """Before anything is sent: a token is for Azure's own hosts."""
    async with storage.connect(CatalogConfig()) as session:
        with pytest.raises(InvalidSourceError):
            await session.head(uri)
    assert [] == azure.sent


async def test_g13_key_is_used_for_its_own_account_only(azure, monkeypatch):
    """A source of another account is asked for with what azure-identity finds."""
    monkeypatch.setattr("datacachalog.storage._azure._finder", _nothing_found)
    storage = AzureStorage(account="account", account_key=KEY, endpoint_url=azure.url)
    async with storage.connect(CatalogConfig()) as session:
        await session.head("abfss://container@account.dfs.core.windows.net/x.csv")
        with pytest.raises(CredentialsError, match="az login"):
            await session.head("abfss://container@other.dfs.core.windows.net/x.csv")
    assert [True] == [sent.headers["authorization"].startswith("SharedKey account:") for sent in azure.sent]


def _nothing_found() -> None:
    raise RuntimeError("nothing found")


async def test_library_that_is_missing_is_named(monkeypatch):
    """An extra that isn't installed is a matter of the settings, and the text says which."""
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    async with AzureStorage(account="account").connect(CatalogConfig()) as session:
        with pytest.raises(ConfigurationError, match=r"datacachalog\[azure\]"):
            await session.head(URI)


async def test_g13_signature_goes_with_the_request_and_is_shown_nowhere(azure):
    """Not in the error of one that is refused, either."""
    azure.answer = lambda _: Answer(403, headers={"x-ms-error-code": "AuthenticationFailed"})
    storage = AzureStorage(account="account", sas_token="?sv=1&sig=c2VjcmV0", endpoint_url=azure.url)
    async with storage.connect(CatalogConfig()) as session:
        with pytest.raises(CredentialsError) as caught:
            await session.head(URI)
    assert ("c2VjcmV0", False) == (azure.sent[0].query["sig"], "c2VjcmV0" in f"{caught.value} {caught.value!r}")


# -- refusals


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (404, "BlobNotFound", ObjectNotFoundError),
        (404, "ContainerNotFound", BucketNotFoundError),
        (403, "AuthenticationFailed", CredentialsError),
        (403, "AuthorizationPermissionMismatch", AccessDeniedError),
        (503, "ServerBusy", ThrottledError),
        (500, "InternalError", StorageUnreachableError),
        (400, "InvalidInput", StorageError),
    ],
)
async def test_refusal_is_told_by_type(azure, storage, status, code, expected):
    """A HEAD has its code in a header; how long Azure asks to wait is told, too."""
    azure.answer = lambda _: Answer(status, headers={"x-ms-error-code": code, "retry-after": "7"})
    async with storage.connect(CatalogConfig()) as session:
        with pytest.raises(StorageError) as caught:
            await session.head(URI)
    assert (expected, URI, True) == (type(caught.value), caught.value.uri, code in str(caught.value))
    assert getattr(caught.value, "retry_after_seconds", 7.0) == 7.0


@pytest.mark.parametrize(("status", "code"), [(404, "BlobNotFound"), (400, "InvalidQueryParameterValue")])
async def test_version_that_is_none_of_the_blob_is_told(azure, storage, status, code):
    """Whether it is no id at all or one that isn't there."""
    azure.answer = lambda _: Answer(status, headers={"x-ms-error-code": code})
    async with storage.connect(CatalogConfig()) as session:
        with pytest.raises(VersionNotFoundError):
            await session.head(URI, version_id="none")
        with pytest.raises(VersionNotFoundError):
            async with session.read(ReadRequest(uri=URI, stop=10, version_id="none")):
                pass
    assert ["none", "none"] == [sent.query["versionid"] for sent in azure.sent]


async def test_etag_is_demanded(azure, storage):
    """As HTTP has it."""
    azure.answer = lambda _: Answer(412)
    async with (
        storage.connect(CatalogConfig()) as session,
        session.read(ReadRequest(uri=URI, stop=10, if_match="0x1")) as outcome,
    ):
        assert VersionChanged() == outcome
    assert ('"0x1"', "bytes=0-9") == (azure.sent[0].headers["if-match"], azure.sent[0].headers["range"])


# -- listings


async def test_listing_begins_where_it_is_told(azure, storage):
    """By a service version that knows how; what it begins with inclusively is left out."""
    azure.answer = lambda _: listing(blob("a"), blob("b"), blob("c"))
    async with storage.connect(CatalogConfig()) as session:
        page = await session.list_after("az://container/", "az://container/a", 2)
        is_seekable = session.is_seekable("az://container/")
    sent = azure.sent[0]
    assert (["az://container/b", "az://container/c"], None, True) == (
        [item.uri for item in page.objects],
        page.next_token,
        is_seekable,
    )
    assert ("a", "3", "2026-02-06") == (
        sent.query["startFrom"],
        sent.query["maxresults"],
        sent.headers["x-ms-version"],
    )


@pytest.mark.parametrize(
    "answer", [listing(blob("0"), blob("z")), Answer(400, headers={"x-ms-error-code": "InvalidHeaderValue"})]
)
async def test_store_that_can_not_begin_a_listing_there_is_not_asked_again(azure, storage, answer):
    """One that begins at the beginning, and one that doesn't know the service version."""
    azure.answer = lambda _: answer
    async with storage.connect(CatalogConfig()) as session:
        page = await session.list_after("az://container/", "az://container/a", 2)
        assert ((), None, False) == (page.objects, page.next_token, session.is_seekable("az://container/"))


async def test_directories_are_no_files(azure, storage):
    """An account with a hierarchical namespace lists them."""
    azure.answer = lambda _: listing(
        blob("dir", more="<ResourceType>directory</ResourceType>"),
        blob("dir/x.csv", more="<ResourceType>file</ResourceType>"),
    )
    async with storage.connect(CatalogConfig()) as session:
        page = await session.list_page("az://container/")
    assert ["az://container/dir/x.csv"] == [item.uri for item in page.objects]


async def test_name_that_xml_can_not_hold_is_read(azure, storage):
    """Azure writes it encoded, and says so."""
    azure.answer = lambda _: listing(blob("x").replace("<Name>x", '<Name Encoded="true">a%EF%BF%BEb'))
    async with storage.connect(CatalogConfig()) as session:
        page = await session.list_page("az://container/")
    assert ["az://container/a\ufffeb"] == [item.uri for item in page.objects]


async def test_versions_of_one_blob_are_never_torn_apart(azure, storage):
    """Where an answer ends among them, they are asked for to their end; the newest comes first."""
    answers = {
        "": listing(blob("a", "2026-01-01T00:00:00.0000001Z", is_current=True), blob("b", "v1"), marker="m1"),
        "m1": listing(blob("b", "v2"), blob("b", "v3", is_current=True), blob("c", "v1", is_current=True), marker="m2"),
        "m2": listing(blob("c", "v0")),
    }
    azure.answer = lambda sent: answers[sent.query.get("marker", "")]
    pages, token = [], None
    async with storage.connect(CatalogConfig()) as session:
        while not pages or token is not None:
            page = await session.version_page("az://container/", token=token)
            pages.append([(item.uri[-1], item.version.version_id[-2:]) for item in page.versions])
            token = page.next_token
    assert [[("a", "1Z"), ("b", "v3"), ("b", "v2"), ("b", "v1")], [("c", "v1"), ("c", "v0")]] == pages


async def test_container_without_versions_has_one_of_each(azure, storage):
    """It is the latest, and has the id of what was written while no versions were kept."""
    azure.answer = lambda _: listing(blob("a"))
    async with storage.connect(CatalogConfig()) as session:
        (item,) = (await session.version_page("az://container/a")).versions
    assert ("null", True, "0x1") == (item.version.version_id, item.version.is_latest, item.version.etag)


# -- writing


def content(data: bytes) -> InMemory:
    return InMemory(data, digest_chunks("crc64nvme", (data,)))


@pytest.mark.parametrize(
    ("status", "code"), [(412, "ConditionNotMet"), (409, "BlobAlreadyExists"), (404, "BlobNotFound")]
)
async def test_g9_write_demands_what_is_there(azure, storage, status, code):
    """That nothing is there, or the very version; and Azure is to compare the bytes."""
    async with storage.connect(CatalogConfig()) as session:
        new = WriteRequest(uri=URI, content_type="text/csv", must_be_new=True)
        outcome = await session.write(new, content(b"content"))
        azure.answer = lambda _: Answer(status, headers={"x-ms-error-code": code})
        over = WriteRequest(uri=URI, content_type="text/csv", if_match="0x1")
        refused = await session.write(over, content(b"content"))
    first, second = (sent.headers for sent in azure.sent)
    assert (True, WriteRefused()) == (isinstance(outcome, Written), refused)
    assert ("*", '"0x1"') == (first["if-none-match"], second["if-match"])
    assert ("text/csv", "mgNkuembtIDdJeHwKEyFVQ==") == (first["x-ms-blob-content-type"], first["content-md5"])


async def test_g9_commit_of_blocks_demands_what_is_there(azure, storage):
    """Each upload has ids of its own; blocks that are gone are no conflict, and no success."""
    parts = [UploadedPart(number, 5, None, "crc64nvme:AAAAAAAAAAA=") for number in (1, 2)]
    request = WriteRequest(uri=URI, content_type="text/csv", if_match="0x1")

    def answer(sent: Sent) -> Answer:
        return Answer(201, headers=HEADERS | {"content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="})  # of the list

    azure.answer = answer
    async with storage.connect(CatalogConfig()) as session:
        uploads = [await session.begin_upload(request) for _ in range(2)]
        for upload in uploads:
            await session.write_part(upload, 1, 0, content(b"12345"))
        outcome = await session.complete_upload(uploads[0], request, parts, "")
        azure.answer = lambda _: Answer(400, headers={"x-ms-error-code": "InvalidBlockList"})
        with pytest.raises(ObjectNotFoundError):
            await session.complete_upload(uploads[1], request, parts, "")
    assert isinstance(outcome, Written)
    assert ("0x1", 10, None) == (outcome.metadata.etag, outcome.metadata.size, outcome.metadata.checksum)
    assert '"0x1"' == azure.sent[2].headers["if-match"]
    assert azure.sent[0].query["blockid"] != azure.sent[1].query["blockid"]
