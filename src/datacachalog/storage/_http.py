"""How are files read from a web server? With aiohttp, and by what the server's validators allow to promise.

Read only. What an answer means is `_http_answers`, without a socket; what is asked of whom is `_http_address`. aiohttp
is imported when something is first asked, in a worker thread. The pipeline retries, not this.

A redirect is followed within the one request that it belongs to, and so is the second question that two cases take: a
HEAD that the server refuses, and credentials that have expired. Neither passwords nor headers of ours go to another
origin than they are for.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from .._config import CatalogConfig
from .._errors import CredentialsError, InvalidSourceError, StorageError, VersioningNotSupportedError
from .._models import FileMetadata
from .._sources import file_name
from .._threads import forks_held_back, in_daemon_thread
from ..ports import (
    ListPage,
    NotModified,
    RangeNotSatisfiable,
    ReadOutcome,
    ReadRequest,
    ReadResponse,
    VersionChanged,
)
from ._http_address import Address, Credential, headers_of, origin_of, parse_address, redirected
from ._http_answers import (
    Validator,
    bytes_of,
    caveat_of_unmodified,
    condition,
    encoding_of,
    is_contradicted,
    metadata_of,
    validator_of,
)
from ._http_failures import error_of_status, http_failures
from ._redacting import cause_of
from ._spool import spooled

if TYPE_CHECKING:
    import aiohttp

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 10
_HEAD_REFUSED = frozenset({403, 405, 501})  # 403: a signed URL is signed for one method
_READ_AHEAD_BYTES = 256 * 1024
_SMALL_BYTES = 16 * 1024
_OWN_HEADERS = {
    "User-Agent": "datacachalog",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "Want-Repr-Digest": "sha-256=9, sha-512=5",  # RFC 9530, section 4
}


@dataclass(frozen=True, slots=True)
class HTTPStorage:
    """Files of web servers, by their URLs. Read only: HTTP can neither list nor, safely, write.

    A user and password in the URL are sent as basic authentication. Proxies come from the environment (`HTTPS_PROXY`,
    `NO_PROXY`), authorities of one's own from `SSL_CERT_FILE`.

    Args:
        credentials: whom to be for whom: origin, `"https://data.example.org"`, → `(user, password)`, a bearer token, or
            headers like `{"X-Api-Key": …}`; or a callable that gives one of these. It is called in a worker thread,
            when one is first needed, and again when the server refuses what it gave (401). They are sent to that origin
            alone, whatever redirects to where. A storage that is pickled takes them along, of a callable its name.

    Raises:
        ConfigurationError: a key that is no origin, or a value that is no credential.
    """

    credentials: Mapping[str, Credential | Callable[[], Credential]] | None = field(
        default=None, kw_only=True, repr=False
    )

    def __post_init__(self) -> None:
        if self.credentials is not None:
            for credential in self.credentials.values():
                if not callable(credential):
                    headers_of(credential)
            by_origin = {origin_of(url): credential for url, credential in self.credentials.items()}
            object.__setattr__(self, "credentials", by_origin)

    @asynccontextmanager
    async def connect(self, config: CatalogConfig) -> AsyncIterator[HTTPSession]:
        """Open a way to the servers; nothing is sent, nor aiohttp imported, before the first request."""
        session = HTTPSession(self, config)
        try:
            yield session
        finally:
            with anyio.CancelScope(shield=True):
                await session.aclose()


class HTTPSession:
    """An open way to web servers, on one event loop."""

    def __init__(self, storage: HTTPStorage, config: CatalogConfig) -> None:
        self._credentials = storage.credentials or {}
        self._config = config
        self._client: aiohttp.ClientSession | None = None
        self._lock = anyio.Lock()
        self._given: dict[str, dict[str, str]] = {}

    async def head(self, uri: str, *, version_id: str | None = None) -> FileMetadata:
        """Ask what the file is (HEAD; where that is refused or says no length, a GET of one byte).

        Raises:
            StorageError: or below: no such file, no permission, no answer; or the server doesn't tell the length.
            InvalidSourceError: no URL of HTTP.
        """
        address = _address(uri, version_id)
        client = await self._opened()
        with http_failures(uri):
            async with self._sent(client, "HEAD", uri, address, {}) as answer:
                found = _found(answer, address)
                if found is not None:
                    return found
                if answer.status != 200 and answer.status not in _HEAD_REFUSED:
                    raise error_of_status(uri, answer.status, answer.headers)
            async with self._sent(client, "GET", uri, address, {"Range": "bytes=0-0"}) as answer:
                found = _found(answer, address)
                if found is not None:
                    return found
                if answer.status not in (200, 206):
                    raise error_of_status(uri, answer.status, answer.headers)
        raise StorageError(uri, "the remote doesn't tell how long it is, or sends it encoded", hint="fetch it to see")

    @asynccontextmanager
    async def read(self, request: ReadRequest) -> AsyncIterator[ReadOutcome]:
        """Ask for bytes (GET). Leaving before they are all read closes the connection.

        A body of which the server doesn't tell the length, or that it compresses although asked not to, is taken to its
        end first, into a temporary file.

        Raises:
            StorageError: or below: no such file, no permission, no answer; from the chunks too.
            InvalidSourceError: no URL of HTTP.
        """
        address = _address(request.uri, request.version_id)
        client = await self._opened()
        async with AsyncExitStack() as stack:
            with http_failures(request.uri):
                outcome = await self._outcome(client, request, address, stack)
            yield outcome

    async def list_page(self, prefix: str, *, token: str | None = None) -> ListPage:  # noqa: ARG002  # the port's
        """Say that HTTP can't list.

        Raises:
            InvalidSourceError: always.
        """
        raise InvalidSourceError(
            prefix, "HTTP can't list: no wildcards and no '/' at the end, but a dataset for each file"
        )

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def _outcome(
        self, client: aiohttp.ClientSession, request: ReadRequest, address: Address, stack: AsyncExitStack
    ) -> ReadOutcome:
        uri, known, demanded = request.uri, request.if_none_match, request.if_match
        headers: dict[str, str] = {}
        if request.start or request.stop is not None:
            headers["Range"] = f"bytes={request.start}-{'' if request.stop is None else request.stop - 1}"
        if demanded is not None:
            headers |= condition(demanded, must_match=True)
        asking = {} if known is None else condition(known, must_match=False)
        answer = await stack.enter_async_context(self._sent(client, "GET", uri, address, headers | asking))
        if known is not None and answer.status == 304:
            if not is_contradicted(known, answer.headers):
                return NotModified(caveat_of_unmodified(known, answer.headers))
            answer = await stack.enter_async_context(self._sent(client, "GET", uri, address, headers))
        if answer.status == 412 and demanded is not None:
            return VersionChanged()
        if answer.status == 416 and "Range" in headers:
            return RangeNotSatisfiable()
        if answer.status not in (200, 206):
            raise error_of_status(uri, answer.status, answer.headers)
        return await _response(request, address, answer, stack)

    @asynccontextmanager
    async def _sent(
        self, client: aiohttp.ClientSession, method: str, uri: str, address: Address, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request, to where redirects lead; closes the answer, whose connection is kept if it was read."""
        for _ in range(_MOST_REDIRECTS + 1):
            answer = await self._authorized(client, method, uri, address, headers)
            try:
                location = answer.headers.get("Location")
                if answer.status not in _REDIRECTS or location is None:
                    yield answer
                    return
                address = _redirected(uri, address, location)
                await _read_small(answer)
            finally:
                answer.close()
        raise StorageError(uri, f"more than {_MOST_REDIRECTS} redirects, the last to {address.origin}")

    async def _authorized(
        self, client: aiohttp.ClientSession, method: str, uri: str, address: Address, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """Send a request with the origin's credentials; once more with others, if what gives them has others."""
        credentials = await self._credentials_for(uri, address, refused=None)
        answer = await self._send(client, method, address, {**headers, **credentials})
        if answer.status == 401 and callable(self._credentials.get(address.origin)) and address.user is None:
            answer.close()
            credentials = await self._credentials_for(uri, address, refused=credentials)
            answer = await self._send(client, method, address, {**headers, **credentials})
        return answer

    async def _credentials_for(
        self, uri: str, address: Address, *, refused: Mapping[str, str] | None
    ) -> Mapping[str, str]:
        if address.user is not None:
            return headers_of(address.user)
        credential = self._credentials.get(address.origin)
        if credential is None:
            return {}
        if not callable(credential):
            return headers_of(credential)
        async with self._lock:  # those who were refused at once ask once
            given = self._given.get(address.origin)
            if given is None or given is refused:
                try:
                    value = await anyio.to_thread.run_sync(credential, abandon_on_cancel=True)
                except Exception as error:  # noqa: BLE001  # the user's own function may raise whatever it likes
                    text = f"what gives the credentials for {address.origin} failed: {type(error).__name__}"
                    raise CredentialsError(uri, text) from cause_of(error)
                self._given[address.origin] = given = headers_of(value)
            return given

    async def _send(
        self, client: aiohttp.ClientSession, method: str, address: Address, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        import yarl  # loaded by now, with aiohttp

        return await client.request(
            method,
            yarl.URL(address.url, encoded=True),
            headers=headers,
            allow_redirects=False,
            proxy=_proxy_for(address),
        )

    async def _opened(self) -> aiohttp.ClientSession:
        if self._client is not None:
            return self._client
        async with self._lock:
            if self._client is None:
                # Left to itself when cancelled: it only reads.
                context = await in_daemon_thread(_load)
                import aiohttp

                timeouts = aiohttp.ClientTimeout(
                    total=None,
                    sock_connect=self._config.connect_timeout_seconds,
                    sock_read=self._config.read_timeout_seconds,
                )
                self._client = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0, ssl=context),  # the pipeline limits
                    timeout=timeouts,
                    headers=_OWN_HEADERS,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                    read_bufsize=_READ_AHEAD_BYTES,
                )
            return self._client


def _load() -> ssl.SSLContext:
    """Import what is needed, and read the authorities that are trusted. In a thread."""
    with forks_held_back():
        import urllib.request  # noqa: F401  # these are used on the event loop, where nothing may be read

        import aiohttp  # noqa: F401  # the same
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _address(uri: str, version_id: str | None) -> Address:
    if version_id is not None:
        raise VersioningNotSupportedError(uri, "HTTP knows no versions but the newest")
    return parse_address(uri)


def _redirected(uri: str, address: Address, location: str) -> Address:
    try:
        return redirected(address, location)
    except InvalidSourceError as error:
        to = error.uri.partition("?")[0]
        raise StorageError(uri, f"a redirect that isn't followed, to {to}: {error.reason}") from None


def _proxy_for(address: Address) -> str | None:
    # Loaded by now. typeshed has only forgotten the second.
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    scheme, _, host = address.origin.partition("://")
    proxies = getproxies_environment()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or proxy_bypass_environment(host, proxies):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


async def _read_small(answer: aiohttp.ClientResponse) -> None:
    """Read what is said beside a redirect, so that the connection is kept."""
    if answer.content_length is not None and answer.content_length <= _SMALL_BYTES:
        await answer.read()


def _found(answer: aiohttp.ClientResponse, address: Address) -> FileMetadata | None:
    """Give what an answer says of the file; None if it is none, or doesn't tell the size of what would be fetched."""
    size: int | None = None
    if answer.status == 416 and answer.headers.get("Content-Range", "").strip() == "bytes */0":
        size = 0
    elif answer.status in (200, 206) and not encoding_of(answer.headers, _name(address)):
        found = bytes_of(answer.status, answer.headers)
        size = None if found is None else found[2]
    if size is None:
        return None
    return metadata_of(answer.headers, size, validator_of(answer.headers, size), is_decoded=False)


async def _response(
    request: ReadRequest, address: Address, answer: aiohttp.ClientResponse, stack: AsyncExitStack
) -> ReadOutcome:
    """Say what an answer with bytes means."""
    uri, headers = request.uri, answer.headers
    encoding = encoding_of(headers, _name(address))
    if encoding not in ("", "gzip"):
        raise StorageError(uri, f"the remote sends it encoded ({encoding[:40]}), although it was asked not to")
    found = bytes_of(answer.status, headers)
    if found is None or (encoding and answer.status == 206 and (found[0], found[1]) != (0, found[2])):
        return RangeNotSatisfiable()  # a range that says nothing: the whole is to be asked for
    start, stop, size = found
    chunks = _chunks(uri, answer)
    version = validator_of(headers, size or 0)
    is_spooled = size is None or bool(encoding)
    if size is None and headers.get("Transfer-Encoding", "").strip().lower() != "chunked":
        raise StorageError(
            uri,
            "the remote tells neither the length nor the end, so that a part could be taken for the whole",
            hint="its server has to send Content-Length, or in chunks (RFC 9112, section 6.3)",
        )
    if is_spooled and not _is(version, request.if_none_match):
        body = await stack.enter_async_context(spooled(uri, chunks, is_gzip=bool(encoding)))
        start, stop, size, chunks = 0, body.length, body.length, body.chunks
        version = validator_of(headers, size)
    if _is(version, request.if_none_match):
        return NotModified(version.caveat)
    demanded = request.if_match
    if demanded is not None and not (_is(version, demanded) and (version.is_strong or start == 0)):
        return VersionChanged()
    is_ranged = request.start > 0 or request.stop is not None
    if is_ranged and size is not None and request.start >= size:
        return RangeNotSatisfiable()  # of a server that doesn't do ranges, or answers so for an empty file
    is_pinnable = version.is_strong and not is_spooled and headers.get("Accept-Ranges", "").strip().lower() != "none"
    metadata = metadata_of(headers, size or 0, version, is_decoded=bool(encoding))
    return ReadResponse(metadata, start, stop, chunks, is_pinnable, caveat=version.caveat)


def _is(version: Validator, etag: str | None) -> bool:
    return etag is not None and version.etag == etag


def _name(address: Address) -> str:
    return file_name(address.url)


async def _chunks(uri: str, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Give the bytes as they come."""
    while True:
        with http_failures(uri):
            chunk = await answer.content.readany()
        if not chunk:
            return
        yield chunk
