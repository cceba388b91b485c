"""How does a read get to S3 with as little work as possible? Signed here, over connections of our own.

A call of botocore's client resolves endpoint rules, builds a user agent, runs hooks and parses dates, which takes a
millisecond. All of that comes out the same for every object of a bucket. So it is done once: either the settings leave
nothing to find out (`_s3_settings`), or the client sends the first request and what it has resolved is noted right
before that is signed. What follows is signed with the credentials of the moment and sent over our own connections,
short answers on the event loop, long ones in worker threads.

What calls for more is left to the client, which is asked the same again: redirects, refused signatures and tokens,
proxies, S3 Express, several regions at once, keys of the customer's own.
"""

from __future__ import annotations

import ssl
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from .._config import CatalogConfig
from ._bulk import BulkAnswer, BulkConnections
from ._connections import Answer, Connections
from ._http1 import Origin
from ._multiplexed import Exchange, Way, way_to
from ._s3_settings import CertainSettings, tls_context
from ._sigv4 import Credentials, Signer, encode_path, encode_query

_SIGNED_VERSIONS = frozenset({"s3v4", "v4"})
LEFT_TO_THE_CLIENT = frozenset({301, 302, 307, 308, 400, 401})
_ERROR_BYTES = 64 * 1024
_SIGNING_NOTES = "before-sign.s3"
_USER_AGENT = "datacachalog"

_FIELD_OF_HEADER = {
    "content-range": "ContentRange",
    "etag": "ETag",
    "x-amz-version-id": "VersionId",
    "x-amz-checksum-type": "ChecksumType",
    "x-amz-checksum-crc64nvme": "ChecksumCRC64NVME",
    "x-amz-checksum-crc32c": "ChecksumCRC32C",
    "x-amz-checksum-crc32": "ChecksumCRC32",
    "x-amz-checksum-sha256": "ChecksumSHA256",
    "x-amz-checksum-sha1": "ChecksumSHA1",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-customer-algorithm": "SSECustomerAlgorithm",
}

CredentialsSource = Callable[[], Awaitable[Credentials | None]]


@dataclass(frozen=True, slots=True)
class _Route:
    """Where the objects of a bucket are, and how requests to them are signed."""

    origin: Origin
    host: str
    path: str
    user_agent: str
    signer: Signer | None

    def request(
        self,
        credentials: Credentials | None,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> bytes:
        """Write a request, signed if the bucket's requests are."""
        path, arguments = self._path_of(key), encode_query(query)
        sent: Mapping[str, str] = {**headers, "user-agent": self.user_agent, "accept-encoding": "identity"}
        if self.signer is None or credentials is None:
            sent = {**sent, "host": self.host}
        else:
            sent = self.signer.sign(credentials, method, self.host, path, arguments, sent)
        target = f"{path}?{arguments}" if arguments else path
        lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in sent.items()], "", ""]
        text = "\r\n".join(lines)
        if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
            raise ValueError("a header of the request would be two")
        return text.encode("latin-1")

    def _path_of(self, key: str) -> str:
        """Give the path of an object, or of the bucket if there is no key."""
        return self.path + encode_path(key) if key else self.path.rstrip("/") or "/"


@dataclass(slots=True)
class _Request:
    """What aiobotocore's HTTP session looks at of a request."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: Any
    stream_output: bool = True


@dataclass(frozen=True, slots=True)
class BodyAnswer:
    """What came back of a request with a body: the status, and the fields by botocore's names."""

    status: int
    fields: Mapping[str, Any]


class ThreadedWire:
    """The short way to one bucket for worker threads, with the credentials of the moment when it was made."""

    def __init__(self, route: _Route, credentials: Credentials | None, way: Way) -> None:
        self._route = route
        self._credentials = credentials
        self._way = way

    def begin(self, key: str, query: Mapping[str, str], headers: Mapping[str, str], most_bytes: int) -> Exchange:
        """Begin a GET in this thread: see `Way.begin`."""
        return self._way.begin(self._route.request(self._credentials, "GET", key, query, headers), most_bytes)


class Wire:
    """Short ways to the buckets of one S3 session.

    Args:
        config: timeouts, and how many requests may be in flight.
    """

    def __init__(self, config: CatalogConfig) -> None:
        self._routes: dict[str, _Route] = {}
        self._certain: CertainSettings | None = None
        self._credentials: CredentialsSource | None = None
        self._signs_with: Any = None
        self._http_session: Any = None
        self._proxies_of: Callable[[str], object] = _no_proxies
        self._asked: ContextVar[tuple[str, str] | None] = ContextVar("asked", default=None)
        self._ca_bundle: str | None = None
        self._context: ssl.SSLContext | None = None
        self._lock = anyio.Lock()
        timeouts = {
            "connect_timeout_seconds": config.connect_timeout_seconds,
            "read_timeout_seconds": config.read_timeout_seconds,
        }
        self._short = Connections(**timeouts, tls=self._tls)
        self._long = BulkConnections(**timeouts, at_once=config.max_concurrency, tls=self._tls)

    def close(self) -> None:
        """Close the connections."""
        self._short.close()
        self._long.close()

    def take_settings(self, settings: CertainSettings) -> None:
        """Go by settings that leave nothing to find out."""
        self._certain, self._ca_bundle = settings, settings.ca_bundle

    def take_client(
        self,
        client: Any,
        credentials: Any,
        ca_bundle: str | None,
        proxies_of: Callable[[str], object],
        http_session: Any,
    ) -> None:
        """Go by what a client resolves for its requests from now on.

        Args:
            client: an aiobotocore S3 client.
            credentials: what gives the credentials of the moment, or None for unsigned requests.
            ca_bundle: a file of certificates of the user's own.
            proxies_of: gives the proxies for a URL, if there are any.
            http_session: what the client sends through, and bodies are to be sent through too.
        """

        async def current() -> Credentials | None:
            if credentials is None:
                return None
            frozen = await credentials.get_frozen_credentials()
            return Credentials(frozen.access_key, frozen.secret_key, frozen.token)

        self._credentials, self._ca_bundle, self._proxies_of = current, ca_bundle, proxies_of
        self._signs_with, self._http_session = credentials, http_session
        for operation in ("GetObject", "HeadObject", "PutObject", "CreateMultipartUpload"):
            client.meta.events.register(f"{_SIGNING_NOTES}.{operation}", self._note)

    def watch(self, bucket: str, key: str) -> None:
        """Say which object this task asks the client for next, so that its way can be noted."""
        self._asked.set((bucket, key))

    async def send(
        self,
        method: str,
        bucket: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        *,
        is_long: bool = False,
    ) -> Answer | BulkAnswer | None:
        """Send a request the short way; None if there is none yet, or if the answer is for the client to deal with.

        Args:
            method: `"GET"` or `"HEAD"`.
            bucket: it.
            key: it, not encoded; empty to ask for the bucket itself.
            query: the arguments of the URL.
            headers: of S3 and of HTTP, in lower case.
            is_long: whether the answer is worth a thread of its own.

        Raises:
            OSError: no connection, no answer.
            botocore.exceptions.BotoCoreError: no credentials.
        """
        way = await self._way_to(bucket)
        if way is None:
            return None
        route, credentials = way
        request = route.request(credentials, method, key, query, headers)
        answer: Answer | BulkAnswer
        if is_long:
            answer = await self._long.send(route.origin, request)
        else:
            answer = await self._short.send(route.origin, request, is_head_request=method == "HEAD")
        if answer.head.status in LEFT_TO_THE_CLIENT:
            self.forget(bucket)
            answer.close()
            return None
        return answer

    def is_signed_over_https(self, bucket: str) -> tuple[bool, bool] | None:
        """Tell of the short way to a bucket whether requests are signed there, and encrypted; None if there is none."""
        route = self._route_to(bucket)
        return None if route is None else (route.signer is not None, route.origin.is_tls)

    async def send_body(
        self, bucket: str, key: str, query: Mapping[str, str], headers: Mapping[str, str], body: Any, payload_hash: str
    ) -> BodyAnswer | None:
        """Send a PUT with a body the short way, and take the whole answer; None as in `send`.

        Args:
            bucket: it.
            key: it, not encoded.
            query: its parameters, not encoded.
            headers: of S3 and of HTTP, in lower case, with the body's length.
            body: bytes, or an asynchronous iterable of them.
            payload_hash: what the signature says of the body: its SHA-256 in hexadecimal, or that it is not signed.

        Raises:
            botocore.exceptions.BotoCoreError: no connection, no answer, no credentials.
        """
        way = None if self._http_session is None else await self._way_to(bucket)
        if way is None:
            return None
        route, credentials = way
        path, arguments = route.path + encode_path(key), encode_query(query)
        sent: Mapping[str, str] = {**headers, "user-agent": route.user_agent}
        if route.signer is not None and credentials is not None:
            sent = route.signer.sign(credentials, "PUT", route.host, path, arguments, sent, payload_hash=payload_hash)
        url = f"{'https' if route.origin.is_tls else 'http'}://{route.host}{path}"
        request = _Request("PUT", f"{url}?{arguments}" if arguments else url, sent, body)
        answer = await self._http_session.send(request)
        response, status = answer.raw, answer.status_code
        try:
            if status in LEFT_TO_THE_CLIENT:
                self.forget(bucket)
                return None
            said = await response.content.read()
        finally:
            response.close()  # gives the connection back if everything was read
        if status == 200:
            return BodyAnswer(status, answer_fields(answer.headers))
        return BodyAnswer(status, _error_fields(status, answer.headers, said))

    async def threaded(self, bucket: str) -> ThreadedWire | None:
        """Give the short way to a bucket for worker threads; None if there is none.

        Raises:
            OSError: no connection.
            botocore.exceptions.BotoCoreError: no credentials.
        """
        way = await self._way_to(bucket)
        if way is None:
            return None
        route, credentials = way
        context = await self._tls() if route.origin.is_tls else None
        return ThreadedWire(route, credentials, await way_to(self._long, route.origin, context))

    def forget(self, bucket: str) -> None:
        """Leave the bucket's next request to the client."""
        self._routes.pop(bucket, None)
        self._certain = None

    async def _way_to(self, bucket: str) -> tuple[_Route, Credentials | None] | None:
        """Give the route to a bucket, with the credentials to sign with if its requests are signed."""
        route = self._route_to(bucket)
        if route is None or route.signer is None:
            return None if route is None else (route, None)
        credentials = await self._current_credentials()
        return None if credentials is None else (route, credentials)

    async def _current_credentials(self) -> Credentials | None:
        if self._certain is not None:
            return self._certain.credentials
        return None if self._credentials is None else await self._credentials()

    async def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            async with self._lock:
                if self._context is None:
                    self._context = await anyio.to_thread.run_sync(tls_context, self._ca_bundle)
        return self._context

    def _route_to(self, bucket: str) -> _Route | None:
        known = self._routes.get(bucket)
        if known is not None:
            return known
        certain = self._certain
        prefix = None if certain is None else certain.prefix_of(bucket)
        if certain is None or prefix is None:
            return None
        signer = None if certain.credentials is None else Signer(certain.region)
        route = self._routes[bucket] = _route(prefix, _USER_AGENT, signer)
        return route

    def _note(self, request: Any, region_name: str, signing_name: str, signature_version: Any, **_: object) -> None:
        """Note where a request of the client is going; called by botocore right before it signs it."""
        import botocore

        asked = self._asked.get()
        if asked is None:
            return
        bucket, key = asked
        encoded = encode_path(key)
        url = request.url.partition("?")[0]
        is_signed = signature_version is not botocore.UNSIGNED
        signing = request.context.get("signing", {})
        # Other signers (S3 Express sessions, several regions at once) sign with more than the credentials.
        is_plain = not is_signed or signature_version in _SIGNED_VERSIONS
        has_own = signing.get("request_credentials") not in (None, self._signs_with) or "identity_cache" in signing
        if not url.endswith("/" + encoded) or not is_plain or has_own or self._proxies_of(url):
            self._routes.pop(bucket, None)
            return
        region = signing.get("region") or region_name
        signer = Signer(region, signing.get("signing_name") or signing_name) if is_signed else None
        user_agent = request.headers.get("User-Agent", _USER_AGENT)
        user_agent = user_agent.decode() if isinstance(user_agent, bytes) else user_agent
        self._routes[bucket] = _route(url[: len(url) - len(encoded)], user_agent, signer)


def _no_proxies(url: str) -> None:
    """Know of none."""


def _route(prefix: str, user_agent: str, signer: Signer | None) -> _Route:
    parts = urlsplit(prefix)
    origin = Origin.of_url(prefix)
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    if origin.port != (443 if origin.is_tls else 80):
        host = f"{host}:{origin.port}"
    return _Route(origin, host, parts.path, user_agent, signer)


async def error_fields(answer: Answer | BulkAnswer) -> dict[str, Any]:
    """Give an error's answer as botocore's errors carry it."""
    head = answer.head
    return _error_fields(head.status, head.headers, await answer.read_all(_ERROR_BYTES))


def error_fields_here(answer: BulkAnswer) -> dict[str, Any]:
    """The same, of an answer whose body is here."""
    return _error_fields(answer.head.status, answer.head.headers, b"".join(answer.content or ())[:_ERROR_BYTES])


def _error_fields(status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    # The code of a HEAD, which has no body, is its status.
    code, message = str(status), ""
    try:
        root = ET.fromstring(body) if body.strip() else None  # noqa: S314  # expat bounds its entities
    except ET.ParseError:
        root = None
    if root is not None:
        code, message = root.findtext("Code") or code, root.findtext("Message") or ""
    return {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": dict(headers)},
    }


def answer_fields(headers: Mapping[str, str]) -> dict[str, Any]:
    """Give an answer's headers by botocore's names for them."""
    return {field: headers[header] for header, field in _FIELD_OF_HEADER.items() if header in headers}
