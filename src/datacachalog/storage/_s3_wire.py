"""How does a read get to S3 with as little work as possible? The first of a bucket shows the others the way.

A call of botocore's client resolves endpoint rules, builds a user agent, runs hooks and parses dates, which takes a
millisecond. All of that comes out the same for every object of a bucket, so it is noted when the first request is about
to be signed: the URL up to the key, the region, the signature's version. What follows is signed by botocore's own
signer with the credentials of the moment, and sent through aiobotocore's own HTTP session, so proxies, CA bundles,
timeouts and refreshed tokens stay theirs. An answer that calls for more than that (a redirect, an expired token) is
left to the client, which is asked the same again.
"""

from __future__ import annotations

import functools
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

_KEPT_HEADERS = ("User-Agent",)
_SIGNED_VERSIONS = frozenset({"s3v4", "v4"})
_LEFT_TO_THE_CLIENT = frozenset({301, 302, 307, 308, 400, 401})
_ERROR_BYTES = 64 * 1024
_SIGNING_NOTES = "before-sign.s3"

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


@dataclass(frozen=True, slots=True)
class _Route:
    """Where the objects of a bucket are, and how requests to them are signed."""

    prefix: str
    region: str
    signing_name: str
    is_signed: bool
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, the fields by botocore's names, and the aiohttp response with the body to come."""

    status: int
    fields: Mapping[str, Any]
    response: Any


@dataclass(slots=True)
class _Request:
    """What aiobotocore's HTTP session looks at of a request."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: Any = None
    stream_output: bool = True


class Wire:
    """Short ways to the buckets of one client.

    Args:
        client: an aiobotocore S3 client; its requests are watched for where they go.
        http_session: the HTTP session that the client sends through.
        credentials: an aiobotocore credentials object, or None for unsigned requests.
    """

    def __init__(self, client: Any, http_session: Any, credentials: Any) -> None:
        self._http_session = http_session
        self._credentials = credentials
        self._routes: dict[str, _Route] = {}
        self._asked: ContextVar[tuple[str, str] | None] = ContextVar("asked", default=None)
        for operation in ("GetObject", "HeadObject", "PutObject", "CreateMultipartUpload"):
            client.meta.events.register(f"{_SIGNING_NOTES}.{operation}", self._note)

    def watch(self, bucket: str, key: str) -> None:
        """Say which object this task asks the client for next, so that its way can be noted."""
        self._asked.set((bucket, key))

    async def send(
        self, method: str, bucket: str, key: str, version_id: str | None, headers: Mapping[str, str]
    ) -> Answer | None:
        """Send a request the short way; None if there is none yet, or if the answer is for the client to deal with.

        Args:
            method: `"GET"` or `"HEAD"`.
            bucket: it.
            key: it, not encoded.
            version_id: a version instead of the newest.
            headers: of S3 and of HTTP, in lower case.

        Raises:
            botocore.exceptions.BotoCoreError: no connection, no answer, no credentials.
        """
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.utils import percent_encode

        route = self._routes.get(bucket)
        if route is None:
            return None
        url = route.prefix + percent_encode(key, safe="/~")
        if version_id is not None:
            url += "?versionId=" + percent_encode(version_id, safe="~")
        request = AWSRequest(method, url, headers={**route.headers, **headers})
        if route.is_signed:
            if self._credentials is None:
                return None
            credentials = await self._credentials.get_frozen_credentials()
            S3SigV4Auth(credentials, route.signing_name, route.region).add_auth(request)
        sent = await self._http_session.send(_Request(method, url, request.headers))
        response, status = sent.raw, sent.status_code
        if status in _LEFT_TO_THE_CLIENT:
            del self._routes[bucket]
            response.close()
            return None
        if status in (200, 206):
            return Answer(status, _fields(sent.headers), response)
        body = await response.content.read(_ERROR_BYTES)
        return Answer(status, _error_fields(status, body, sent.headers), response)

    def is_signed_over_https(self, bucket: str) -> tuple[bool, bool] | None:
        """Tell of the short way to a bucket whether requests are signed there, and encrypted; None if there is none."""
        route = self._routes.get(bucket)
        return None if route is None else (route.is_signed, route.prefix.startswith("https:"))

    async def send_body(
        self, bucket: str, key: str, query: Mapping[str, str], headers: Mapping[str, str], body: Any, payload_hash: str
    ) -> Answer | None:
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
        from botocore.awsrequest import AWSRequest
        from botocore.utils import percent_encode

        route = self._routes.get(bucket)
        if route is None or (route.is_signed and self._credentials is None):
            return None
        url = route.prefix + percent_encode(key, safe="/~")
        if query:
            url += "?" + "&".join(f"{name}={percent_encode(value, safe='~')}" for name, value in query.items())
        request = AWSRequest("PUT", url, headers={**route.headers, **headers})
        if route.is_signed:
            credentials = await self._credentials.get_frozen_credentials()
            _body_signer()(credentials, route.signing_name, route.region, payload_hash).add_auth(request)
        sent = await self._http_session.send(_Request("PUT", url, request.headers, body))
        response, status = sent.raw, sent.status_code
        try:
            if status in _LEFT_TO_THE_CLIENT:
                self._routes.pop(bucket, None)
                return None
            said = await response.content.read()
        finally:
            response.close()  # gives the connection back if everything was read
        if status == 200:
            found = {
                field: sent.headers[header] for header, field in _FIELD_OF_HEADER.items() if header in sent.headers
            }
            return Answer(status, found, response)
        return Answer(status, _error_fields(status, said, sent.headers), response)

    def _note(self, request: Any, region_name: str, signing_name: str, signature_version: Any, **_: object) -> None:
        """Note where a request of the client is going; called by botocore right before it signs it."""
        import botocore
        from botocore.utils import percent_encode

        asked = self._asked.get()
        if asked is None:
            return
        bucket, key = asked
        encoded = percent_encode(key, safe="/~")
        url = request.url.partition("?")[0]
        is_signed = signature_version is not botocore.UNSIGNED
        # Other signers (S3 Express sessions, several regions at once) sign with more than the credentials.
        if not url.endswith("/" + encoded) or (is_signed and signature_version not in _SIGNED_VERSIONS):
            self._routes.pop(bucket, None)
            return
        signing = request.context.get("signing", {})
        if signing.get("request_credentials") is not None or signing.get("identity_cache") is not None:
            self._routes.pop(bucket, None)
            return
        self._routes[bucket] = _Route(
            prefix=url[: len(url) - len(encoded)],
            region=signing.get("region") or region_name,
            signing_name=signing.get("signing_name") or signing_name,
            is_signed=is_signed,
            headers={name: _text(request.headers[name]) for name in _KEPT_HEADERS if name in request.headers},
        )


@functools.cache
def _body_signer() -> Any:
    """Make the signer of requests whose body's digest is known, or needs none."""
    from botocore.auth import S3SigV4Auth

    class BodySigner(S3SigV4Auth):  # type: ignore[misc]  # it has no types
        def __init__(self, credentials: Any, service_name: str, region_name: str, payload_hash: str) -> None:
            super().__init__(credentials, service_name, region_name)
            self._payload_hash = payload_hash

        def payload(self, request: Any) -> str:  # noqa: ARG002  # the base's
            return self._payload_hash

    return BodySigner


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _fields(headers: Mapping[str, str]) -> dict[str, Any]:
    """Give the answer's headers by botocore's names for them."""
    fields: dict[str, Any] = {field: headers[header] for header, field in _FIELD_OF_HEADER.items() if header in headers}
    fields["ContentLength"] = int(headers["content-length"])
    if "last-modified" in headers:
        fields["LastModified"] = parsedate_to_datetime(headers["last-modified"])
    return fields


def _error_fields(status: int, body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    """Give an error's answer as botocore's errors carry it; the code of a HEAD, which has no body, is its status."""
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
