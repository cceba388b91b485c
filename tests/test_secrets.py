"""Nothing that a catalog says or writes holds a secret (G13): neither errors with all their causes, nor logs."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from datacachalog import AsyncCatalog, CatalogConfig, Dataset, FetchAllError, RouterStorage, S3Storage
from datacachalog.storage import HTTPStorage
from datacachalog.storage._http_address import Credential
from datacachalog.testing import Cut, FaultServer, Reset, Status

SECRET = "wJalrXUtnFEMI-never-to-be-seen"
SIGNED = f"https://bucket.example.org/a.bin?X-Amz-Credential=AKIA&X-Amz-Signature={SECRET}"
QUICK = CatalogConfig(retries=0, part_bytes=1024, connect_timeout_seconds=2)


@contextmanager
def answering(status: int, headers: dict[str, str], body: bytes) -> Iterator[str]:
    """A store, or what stands in its place, that always answers the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815  # the name that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def error_xml(code: str, message: str, **fields: str) -> bytes:
    others = "".join(f"<{name}>{text}</{name}>" for name, text in fields.items())
    escaped = message.replace("&", "&amp;")
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{escaped}</Message>{others}</Error>".encode()


class Heard:
    """All that was said and written while a catalog was used."""

    def __init__(self, tmp_path: Path, log: pytest.LogCaptureFixture, say: Callable[[], str]) -> None:
        self.cache_dir = tmp_path / "cache"
        self.events: list[object] = []
        self.errors: list[BaseException] = []
        self._log = log
        self._say = say

    def catalog(self, storage: S3Storage, *names: str) -> AsyncCatalog:
        return AsyncCatalog(
            [Dataset(name, f"s3://bucket/{name}") for name in names or ("a.bin", "logs/")],
            cache_dir=self.cache_dir,
            storage=RouterStorage({"s3": storage}),
            config=QUICK,
            progress=self.events.append,
        )

    def web_catalog(self, *sources: str, credentials: Mapping[str, Credential] | None = None) -> AsyncCatalog:
        datasets = [Dataset("a.bin", sources[0]), *(Dataset(f"other {source[-1]}", source) for source in sources[1:])]
        storage = HTTPStorage(credentials=credentials)
        return AsyncCatalog(
            datasets,
            cache_dir=self.cache_dir,
            storage=RouterStorage({"http": storage, "https": storage}),
            config=QUICK,
            progress=self.events.append,
        )

    async def use(self, catalog: AsyncCatalog) -> None:
        """Ask for everything that sends a request."""
        async with catalog:
            try:
                await catalog.fetch_all()
            except FetchAllError as error:
                self.errors += [error, *error.report.errors.values()]
                self.events.append(error.report)
            self.events += [await catalog.status(), catalog, catalog.datasets]
            try:
                await catalog.is_stale("a.bin")
            except Exception as error:  # noqa: BLE001  # any that there are
                self.errors.append(error)

    def text(self) -> str:
        shown = ["".join(traceback.format_exception(error)) + repr(vars(error)) for error in self.errors]
        ours = [record for record in self._log.records if record.name.startswith("datacachalog")]
        logged = [self._log.handler.format(record) for record in ours]
        written = [
            f"{path} {path.read_bytes().decode(errors='replace')}"
            for path in self.cache_dir.rglob("*")
            if path.is_file() and ".datacachalog" in path.parts and path.name != "data"
        ]
        return "\n".join([*shown, *logged, *written, *map(repr, self.events), self._say()])


@pytest.fixture
def heard(tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Heard:
    caplog.set_level(logging.DEBUG, logger="datacachalog")

    def said() -> str:
        captured = capsys.readouterr()
        return captured.out + captured.err

    return Heard(tmp_path, caplog, said)


@pytest.mark.parametrize("status", [301, 307, 400, 403, 404, 500, 503])
async def test_g13_a_signed_url_in_an_answer_is_shown_nowhere(heard: Heard, status: int) -> None:
    """A store, or a proxy before it, that answers with a signed URL: no error, cause, event or log repeats it."""
    body = error_xml(
        "TemporaryRedirect" if status < 400 else "Odd", f"go to {SIGNED} instead", Endpoint=SIGNED.replace("&", "&amp;")
    )
    with answering(status, {"Location": SIGNED, "Content-Type": "application/xml"}, body) as url:
        await heard.use(heard.catalog(S3Storage(endpoint_url=url)))
    assert len(heard.errors) >= 2
    assert SECRET not in heard.text()


async def test_g13_what_a_store_says_of_a_signature_is_shown_nowhere(heard: Heard) -> None:
    """S3 explains a wrong signature with the request that it saw, the session's token included."""
    seen = f"GET /a.bin x-amz-security-token:{SECRET}"
    body = error_xml("SignatureDoesNotMatch", "not the signature", CanonicalRequest=seen, StringToSign=seen)
    with answering(403, {"Content-Type": "application/xml"}, body) as url:
        await heard.use(heard.catalog(S3Storage(endpoint_url=url)))
    assert SECRET not in heard.text()


@pytest.mark.parametrize("place", ["127.0.0.1:{port}", "127.0.0.1:9", "nowhere.invalid", "no host/", ""])
async def test_g13_a_password_in_the_environments_endpoint_is_shown_nowhere(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Whether somebody refuses there, nobody listens, or there can be no such place: no error or cause shows it."""
    with answering(403, {}, error_xml("AccessDenied", "no")) as url:
        port = url.rpartition(":")[2]
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://user:{SECRET}@{place.format(port=port)}")
        await heard.use(heard.catalog(S3Storage()))
    assert len(heard.errors) >= 2
    assert SECRET not in heard.text()


@pytest.mark.parametrize(
    "fault",
    [
        None,
        Cut(after_bytes=700, times=None, nth=2),
        Reset(method=None, times=None),
        Status(status=400, code="ExpiredToken", method=None, times=None),
        Status(status=403, code="AccessDenied", method=None, times=None),
    ],
    ids=lambda fault: getattr(fault, "code", None) or type(fault).__name__,
)
async def test_g13_credentials_are_shown_nowhere(
    heard: Heard, server: FaultServer, monkeypatch: pytest.MonkeyPatch, fault: Cut | Reset | Status | None
) -> None:
    """Whatever happens to the requests that they sign, keys and tokens are in no error, event, log or file."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    server.put("bucket", "a.bin", bytes(range(256)) * 20)
    server.put("bucket", "logs/1", b"small")
    if fault is not None:
        server.add_faults(fault)
    storage = S3Storage(
        endpoint_url=server.endpoint_url,
        server_side_encryption={"SSECustomerAlgorithm": "AES256", "SSECustomerKey": SECRET.ljust(32)},
    )
    await heard.use(heard.catalog(storage))
    assert SECRET not in heard.text()


@pytest.mark.parametrize("status", [200, 206, 301, 307, 401, 403, 404, 429, 500])
@pytest.mark.parametrize("place", ["user", "query", "credentials"])
async def test_g13_secrets_of_a_url_are_shown_nowhere(heard: Heard, status: int, place: str) -> None:
    """User, password and query of a source, and credentials beside it: whatever is answered, nothing repeats them."""
    headers = {"Location": SIGNED, "ETag": '"1"', "Content-Range": "bytes 0-4/5", "WWW-Authenticate": SECRET}
    with answering(status, headers, SECRET.encode()[:5] if status in (200, 206) else SECRET.encode()) as url:
        host = url.removeprefix("http://")
        credentials: dict[str, Credential] = {url: SECRET}
        source = {
            "user": f"http://user:{SECRET}@{host}/a.bin",
            "query": f"http://{host}/a.bin?X-Amz-Signature={SECRET}",
            "credentials": f"{url}/a.bin",
        }[place]
        catalog = heard.web_catalog(source, credentials=credentials if place == "credentials" else None)
        await heard.use(catalog)
        async with catalog:
            heard.events += [str(await catalog.plan()), await catalog.plan(), await catalog.cache_info()]
    assert SECRET not in heard.text()
    assert not any(SECRET in str(path) for path in heard.cache_dir.rglob("*"))


@pytest.mark.parametrize("place", ["nowhere.invalid", "127.0.0.1:9", "127.0.0.1:port", "no host", "[::1"])
async def test_g13_secrets_of_a_url_that_leads_nowhere_are_shown_nowhere(heard: Heard, place: str) -> None:
    """Whether there is no such host, or none can be: no error or cause shows them."""
    sources = [f"http://user:{SECRET}@{place}/a.bin?b", f"https://{place}/a.bin?token={SECRET}"]
    await heard.use(heard.web_catalog(*sources))
    assert len(heard.errors) >= 2
    assert SECRET not in heard.text()


async def test_g13_a_failing_observer_is_logged_without_secrets(
    heard: Heard, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one thing that the package logs, an observer's failure, shows the observer's error and no credentials."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", SECRET)
    server.put("bucket", "a.bin", b"content")

    def fail(event: object) -> None:
        raise ValueError("this observer is broken")

    async with AsyncCatalog(
        [Dataset("a.bin", "s3://bucket/a.bin")],
        cache_dir=heard.cache_dir,
        storage=S3Storage(endpoint_url=server.endpoint_url),
        progress=fail,
    ) as catalog:
        await catalog.fetch("a.bin")
    assert (True, False) == ("this observer is broken" in heard.text(), SECRET in heard.text())
