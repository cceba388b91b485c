"""How are requests sent to a store that is spoken to by REST, and what do its answers mean? Google's and Azure's alike.

aiohttp sends them. It is imported when the first is sent, in a worker thread. Nothing is tried again here but once with
new credentials where the old ones are refused: the pipeline retries.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from .._config import CatalogConfig
from .._errors import (
    AccessDeniedError,
    BucketNotFoundError,
    CredentialsError,
    DatacachalogError,
    ObjectNotFoundError,
    StorageError,
    StorageUnreachableError,
    ThrottledError,
    VersionNotFoundError,
)
from .._models import FileMetadata
from .._threads import forks_held_back, in_daemon_thread
from ..ports import (
    Content,
    NotModified,
    RangeNotSatisfiable,
    ReadOutcome,
    ReadRequest,
    ReadResponse,
    VersionChanged,
)
from ._bodies import Body
from ._http_fields import parse_retry_after
from ._long_reads import LongReads
from ._redacting import cause_of, text_of
from ._s3_settings import tls_context

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from multidict import CIMultiDictProxy

    Headers: TypeAlias = CIMultiDictProxy[str]

_MOST_ERROR_BYTES = 64 * 1024
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_LONG_BYTES = 1024 * 1024
_INLINE_BYTES = 64 * 1024  # a millisecond's work, which takes less time than handing it to a thread
_OUTCOME_OF_STATUS: Mapping[int, ReadOutcome] = {
    304: NotModified(),
    412: VersionChanged(),
    416: RangeNotSatisfiable(),
}


@dataclass(frozen=True, slots=True)
class TakenAnswer:
    """An answer that was read to its end."""

    status: int
    headers: Headers
    body: bytes


_Result = TypeVar("_Result")

Head: TypeAlias = tuple[str, dict[str, str]]
"""A URL and headers, ready to be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, before it is signed.

    Args:
        uri: what it is about.
        method: of HTTP.
        url: with its query, encoded.
        headers: in lower case.
        body: what is sent; a function gives it from the beginning each time it is called.
    """

    uri: str
    method: str = "GET"
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[], AsyncIterator[bytes | memoryview]] | bytes = b""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a store says when it says no: the status, its own code and text, and how long it asks to wait."""

    status: int
    code: str
    message: str
    retry_after_seconds: float | None = None

    def error(self, uri: str, version_id: str | None = None, *, doing: str = "read") -> DatacachalogError:
        """Give the error that it means.

        Args:
            uri: the object that was asked for.
            version_id: which version of it, if it was one.
            doing: what was to be done with it.
        """
        said = text_of(ValueError(self.message)).strip().rstrip(".")
        cause = f"{self.status} {self.code}".rstrip() + (f": {said}" if said else "")
        if self.status == 404 and self.code in _NO_BUCKET:
            return BucketNotFoundError(uri, cause, hint="check its name and endpoint_url")
        if version_id is not None and (self.status == 404 or self.code in _IS_NO_VERSION):
            return VersionNotFoundError(uri, f"version {version_id}: {cause}", hint="versions() lists those there are")
        if self.status == 404:
            return ObjectNotFoundError(uri, cause, hint="check the key; a cached copy, if there is one, is kept")
        if self.status == 401 or self.code in _CREDENTIALS:
            return CredentialsError(uri, cause, hint="log in, or give the storage other credentials")
        if self.status == 429 or self.code in _THROTTLED:  # one of Google's is a 403
            hint = "lower max_concurrency"
            return ThrottledError(uri, cause, hint=hint, retry_after_seconds=self.retry_after_seconds)
        if self.status == 403:
            return AccessDeniedError(uri, cause, hint=f"the credentials in use may not {doing} it")
        if self.status >= 500 or self.status == 408:
            return StorageUnreachableError(uri, cause, retry_after_seconds=self.retry_after_seconds)
        return StorageError(uri, cause)


# https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes,
# https://cloud.google.com/storage/docs/json_api/v1/status-codes
_NO_BUCKET = frozenset({"ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled", "NoSuchBucket"})
_CREDENTIALS = frozenset({"AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation"})
_IS_NO_VERSION = frozenset({"InvalidQueryParameterValue", "OutOfRangeQueryParameterValue"})
_THROTTLED = frozenset({"ServerBusy", "rateLimitExceeded", "userRateLimitExceeded"})


class RestSession(ABC):
    """An open way to a store, on one event loop. Its adapter says how requests look and are signed."""

    def __init__(self, config: CatalogConfig) -> None:
        self._config = config
        self._lock = anyio.Lock()
        self._client: ClientSession | None = None
        self._long: LongReads | None = None

    # -- what the adapter says

    @abstractmethod
    async def _signed(self, asked: Asked) -> Head:
        """Give the URL and the headers of a request, with what shows who asks."""

    @abstractmethod
    def _forget_credentials(self) -> bool:
        """Look for other credentials from now on; whether there may be any."""

    @abstractmethod
    def _refusal(self, status: int, headers: Headers, body: bytes) -> Refusal:
        """Read what the store says when it says no."""

    @abstractmethod
    def _read_arguments(self, request: ReadRequest) -> Asked:
        """Give the request of a read."""

    @abstractmethod
    def _read_metadata(self, headers: Headers, size: int, *, is_whole: bool) -> FileMetadata:
        """Say which version the answer to a read is of."""

    # -- reading

    @asynccontextmanager
    async def read(self, request: ReadRequest) -> AsyncIterator[ReadOutcome]:
        """Ask for bytes. Leaving before they are all read closes the connection.

        Raises:
            StorageError: or below: no such object, no permission, no answer; from the chunks too.
            InvalidSourceError: not a URI of this store.
        """
        asked = self._read_arguments(request)
        is_long = request.start > 0 and request.stop is not None and request.stop - request.start > _LONG_BYTES
        if is_long and request.if_match is not None and self._long is not None:
            await self._signed(asked)  # so that there are credentials, and none that are about to expire
            outcome = await self._long.read(request)
            if outcome is not None:
                yield outcome
                return
        async with self._answered(asked) as answer:
            outcome = _OUTCOME_OF_STATUS.get(answer.status)
            if answer.status == 416 and request.if_none_match is not None:
                # An emulator may look at the range before the condition.
                metadata = self._read_metadata(answer.headers, 0, is_whole=False)
                outcome = NotModified() if metadata.etag == request.if_none_match else outcome
            if outcome is None and answer.status not in (200, 206):
                raise (await self._said(request.uri, answer)).error(request.uri, request.version_id)
            with rest_failures(request.uri):
                outcome = outcome or self._outcome_of_bytes(request, answer)
            yield outcome

    def _outcome_of_bytes(self, request: ReadRequest, answer: ClientResponse) -> ReadOutcome:
        response = self._response(request.uri, answer)
        # An emulator may not look at a condition, or give no bytes of what lies behind the end.
        etag = response.metadata.etag
        if etag is not None and etag == request.if_none_match:
            return NotModified()
        if request.if_match not in (None, etag):
            return VersionChanged()
        if answer.status == 206 and response.start == response.stop:
            return RangeNotSatisfiable()
        return response

    def _response(self, uri: str, answer: ClientResponse) -> ReadResponse:
        headers = answer.headers
        if answer.status == 200:
            start, stop = 0, int(headers["content-length"])
            size = stop
        elif match := _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip()):
            start, stop, size = int(match[1]), int(match[2]) + 1, int(match[3])
        else:
            raise ValueError(f"Content-Range {headers.get('content-range')!r} can't be read (RFC 9110, section 14.4)")
        metadata = self._read_metadata(headers, size, is_whole=answer.status == 200)
        return ReadResponse(metadata, start, stop, _chunks(uri, answer))

    # -- sending

    @asynccontextmanager
    async def _answered(self, asked: Asked) -> AsyncIterator[ClientResponse]:
        """Send a request; the connection is kept if its answer is read to the end."""
        client = self._client or await self._connected()
        with rest_failures(asked.uri):
            answer = await self._sent(client, asked)
        try:
            yield answer
        finally:
            answer.close()  # nothing happens if all of it was read

    async def _sent(self, client: ClientSession, asked: Asked) -> ClientResponse:
        from yarl import URL  # aiohttp's own, loaded with it

        is_again = False
        while True:
            url, headers = await self._signed(asked)
            body = asked.body if isinstance(asked.body, bytes) else asked.body()
            answer = await client.request(
                asked.method,
                URL(url, encoded=True),
                headers=headers,
                data=body or None,
                allow_redirects=False,
                proxy=_proxy_of(url),
            )
            if answer.status != 401 or is_again or not self._forget_credentials():
                return answer
            answer.close()
            is_again = True

    async def _parsed(self, uri: str, body: bytes, parse: Callable[[bytes], _Result]) -> _Result:
        """Read an answer's body; a long one in a worker thread."""
        with rest_failures(uri):
            if len(body) <= _INLINE_BYTES:
                return parse(body)
            return await anyio.to_thread.run_sync(parse, body, abandon_on_cancel=True)

    async def _taken(self, asked: Asked) -> TakenAnswer:
        """Send a request, and take the whole answer."""
        async with self._answered(asked) as answer:
            with rest_failures(asked.uri):
                return TakenAnswer(answer.status, answer.headers, await answer.read())

    async def _send_content(self, asked: Asked, content: Content, after: bytes = b"") -> TakenAnswer:
        """Send content, behind what is in the request's body and before what comes `after`; take the whole answer.

        Raises:
            StorageUnreachableError: the other side took nothing any more.
        """
        before = asked.body if isinstance(asked.body, bytes) else b""
        body = Body(content, self._config.read_timeout_seconds)

        async def slices() -> AsyncIterator[bytes | memoryview]:
            if before:
                yield before
            async for piece in body.slices():
                yield piece
            if after:
                yield after

        length = len(before) + content.size + len(after)
        headers = {**asked.headers, "content-length": str(length)}
        with body.patience:
            return await self._taken(replace(asked, headers=headers, body=slices if length else b""))
        raise StorageUnreachableError(asked.uri, f"nothing more was taken for {self._config.read_timeout_seconds} s")

    async def _said(self, uri: str, answer: ClientResponse) -> Refusal:
        body = bytearray()
        with rest_failures(uri):
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > _MOST_ERROR_BYTES:
                    break
        return self._refusal(answer.status, answer.headers, bytes(body))

    async def _connected(self) -> ClientSession:
        async with self._lock:
            if self._client is None:
                context = await in_daemon_thread(_imported)
                import aiohttp  # loaded by now

                config = self._config
                timeout = aiohttp.ClientTimeout(
                    total=None, connect=config.connect_timeout_seconds, sock_read=config.read_timeout_seconds
                )
                self._client = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0, ssl=context),
                    timeout=timeout,
                    auto_decompress=False,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={"User-Agent": "datacachalog", "Accept-Encoding": "identity"},
                    skip_auto_headers=("Content-Type", "Accept"),
                )
        return self._client

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()


async def _chunks(uri: str, answer: ClientResponse) -> AsyncIterator[bytes]:
    """Give the bytes as they come."""
    while True:
        with rest_failures(uri):
            chunk = await answer.content.readany()
        if not chunk:
            return
        yield chunk


def _imported() -> Any:
    with forks_held_back():
        import aiohttp  # noqa: F401
    return tls_context(os.environ.get("SSL_CERT_FILE") or None)


def _proxy_of(url: str) -> str | None:
    """Give the proxy that the environment names for a URL. aiohttp's own way would look into ~/.netrc too."""
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    parts = urlsplit(url)
    proxies = getproxies_environment()
    if not proxies or (parts.hostname and proxy_bypass_environment(parts.hostname, proxies)):
        return None
    return proxies.get(parts.scheme)


@contextmanager
def rest_failures(uri: str) -> Iterator[None]:
    """Map what aiohttp and the network raise, and what is raised by an answer that is none.

    Raises:
        StorageUnreachableError: no answer, or none that can be understood.
    """
    try:
        yield
    except DatacachalogError:
        raise
    except Exception as error:
        mapped = _unreachable(uri, error)
        if mapped is None:
            raise
        raise mapped from cause_of(error)


def _unreachable(uri: str, error: Exception) -> StorageUnreachableError | None:
    import aiohttp  # loaded by now

    if isinstance(error, aiohttp.ClientError | OSError):
        hint = "check the network and endpoint_url"
        return StorageUnreachableError(uri, text_of(error) or type(error).__name__, hint=hint)
    if isinstance(error, ValueError | LookupError):
        return StorageUnreachableError(
            uri,
            f"what answered can't be understood: {text_of(error)}",
            hint="check endpoint_url, and whether a proxy or a login page answers in its place",
        )
    return None


def http_date(headers: Mapping[str, str]) -> Any:
    """Give when the object was written, as the answer says; None if it doesn't."""
    text = headers.get("last-modified")
    return None if text is None else parsedate_to_datetime(text)


def refused(answer: TakenAnswer) -> bool:
    """Whether an answer is none of success."""
    return not 200 <= answer.status < 300


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Give how long the store asks to wait."""
    return parse_retry_after(headers.get("retry-after"))
