"""How are objects read from S3, and from what speaks like it? Through aiobotocore, one request a call.

The client is made at the first request, in a worker thread: importing botocore and reading its models takes up to a
second, and nothing may stop the event loop that long. botocore's own retries are off: the pipeline retries, in one
place and for every storage, and counts what it sends.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio

from .._config import CatalogConfig
from .._digests import parse_digest
from .._errors import ConfigurationError, InvalidSourceError
from .._models import FileMetadata, normalize_etag
from .._threads import forks_held_back, in_daemon_thread
from ..ports import (
    ListedObject,
    ListPage,
    NotModified,
    RangeNotSatisfiable,
    ReadOutcome,
    ReadRequest,
    ReadResponse,
    VersionChanged,
)
from ._s3_failures import error_of_answer, s3_failures
from ._s3_writing import S3Writing

_CHECKSUM_FIELDS = {
    "ChecksumCRC64NVME": "crc64nvme",
    "ChecksumCRC32C": "crc32c",
    "ChecksumCRC32": "crc32",
    "ChecksumSHA256": "sha256",
    "ChecksumSHA1": "sha1",
}
_HEADER_OF_ARGUMENT = {
    "Range": "range",
    "IfMatch": "if-match",
    "IfNoneMatch": "if-none-match",
    "RequestPayer": "x-amz-request-payer",
}
_KEY_OF_THE_CUSTOMER = frozenset({"SSECustomerAlgorithm", "SSECustomerKey"})
_ENCRYPTION_OF_NEW_OBJECTS = frozenset(
    {"ServerSideEncryption", "SSEKMSKeyId", "SSEKMSEncryptionContext", "BucketKeyEnabled"}
)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_OUTCOME_OF_STATUS: Mapping[int, ReadOutcome] = {
    304: NotModified(),
    412: VersionChanged(),
    416: RangeNotSatisfiable(),
}


@dataclass(frozen=True, slots=True)
class S3Storage:
    """Amazon S3, and stores that speak its protocol.

    Credentials, region, endpoint, proxies and CA bundle come from botocore's whole chain (environment, profiles, SSO,
    web identity, container and instance roles, refreshed while running); these arguments are for what must be explicit.

    Args:
        profile: a profile of the shared configuration files.
        endpoint_url: another store than Amazon's: `http://localhost:9000`. `AWS_ENDPOINT_URL_S3` does the same.
        region: the bucket's region; needed where none is configured. A wrong one costs a redirect.
        anonymous: send unsigned requests, for public buckets.
        session: an `aiobotocore.session.AioSession` to take credentials and configuration from; not with `profile`.
        requester_pays: accept the costs of reading a requester-pays bucket.
        server_side_encryption: S3's own argument names and values for encrypted objects. Reading needs some only for
            keys that the customer keeps: `{"SSECustomerAlgorithm": "AES256", "SSECustomerKey": …}`. What is pushed is
            encrypted with that key, or as the others say: `{"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": …}`
            (also `SSEKMSEncryptionContext`, `BucketKeyEnabled`). None means as the bucket says.
        addressing_style: `"path"` (`host/bucket/key`), `"virtual"` (`bucket.host/key`) or `"auto"`.

    Raises:
        ConfigurationError: settings that contradict each other.
    """

    profile: str | None = field(default=None, kw_only=True)
    endpoint_url: str | None = field(default=None, kw_only=True)
    region: str | None = field(default=None, kw_only=True)
    anonymous: bool = field(default=False, kw_only=True)
    session: Any = field(default=None, kw_only=True, repr=False)
    requester_pays: bool = field(default=False, kw_only=True)
    server_side_encryption: Mapping[str, Any] | None = field(default=None, kw_only=True, repr=False)
    addressing_style: Literal["auto", "path", "virtual"] = field(default="auto", kw_only=True)

    def __post_init__(self) -> None:
        if self.session is not None and self.profile is not None:
            raise ConfigurationError("S3Storage takes a session or a profile, not both: the session has its profile")
        if self.anonymous and self.profile is not None:
            raise ConfigurationError("S3Storage(anonymous=True) signs nothing: it can't use a profile")
        if self.endpoint_url is not None and "@" in self.endpoint_url.partition("://")[2].partition("/")[0]:
            raise ConfigurationError("endpoint_url takes no user and password: S3 knows access keys only")
        if self.addressing_style not in ("auto", "path", "virtual"):
            raise ConfigurationError(f"addressing_style is 'auto', 'path' or 'virtual': got {self.addressing_style!r}")
        unknown = set(self.server_side_encryption or {}) - _KEY_OF_THE_CUSTOMER - _ENCRYPTION_OF_NEW_OBJECTS
        if unknown:
            known = ", ".join(sorted(_KEY_OF_THE_CUSTOMER | _ENCRYPTION_OF_NEW_OBJECTS))
            raise ConfigurationError(f"server_side_encryption takes {known}: got {min(unknown)!r}")

    @property
    def key_of_the_customer(self) -> Mapping[str, Any]:
        """What is sent with every request for an object that is encrypted with the customer's key."""
        settings = self.server_side_encryption or {}
        return {name: value for name, value in settings.items() if name in _KEY_OF_THE_CUSTOMER}

    @asynccontextmanager
    async def connect(self, config: CatalogConfig) -> AsyncIterator[S3Session]:
        """Open a way to the store; nothing is sent, nor botocore imported, before the first request."""
        async with AsyncExitStack() as stack:
            yield S3Session(self, config, stack)


class S3Session(S3Writing):
    """An open way to S3, on one event loop; its client is made at the first request."""

    def __init__(self, storage: S3Storage, config: CatalogConfig, stack: AsyncExitStack) -> None:
        self._storage = storage
        self._config = config
        self._stack = stack
        self._lock = anyio.Lock()
        self._client: Any = None
        self._wire: Any = None

    async def head(self, uri: str, *, version_id: str | None = None) -> FileMetadata:
        """Ask what the object is (HeadObject), with the checksum that S3 has stored for it.

        Raises:
            StorageError: or below: no such object, no permission, no answer.
            InvalidSourceError: not an S3 URI.
        """
        arguments = self._arguments(uri, version_id)
        client = await self._connected(uri)
        with s3_failures(uri):
            sent = await self._send("HEAD", arguments)
            if sent is None:
                answer = await client.head_object(**arguments, ChecksumMode="ENABLED")
            elif sent.status == 200:
                answer = sent.fields
            else:
                raise error_of_answer(uri, sent.fields)
            return _metadata(answer, size=answer["ContentLength"], is_whole=True)

    @asynccontextmanager
    async def read(self, request: ReadRequest) -> AsyncIterator[ReadOutcome]:
        """Ask for bytes (GetObject). Leaving before they are all read closes the connection.

        Raises:
            StorageError: or below: no such object, no permission, no answer; from the chunks too.
            InvalidSourceError: not an S3 URI.
        """
        arguments = self._arguments(request.uri, request.version_id)
        if request.stop is not None or request.start > 0:
            last = "" if request.stop is None else request.stop - 1
            arguments["Range"] = f"bytes={request.start}-{last}"
        if request.if_match is not None:
            arguments["IfMatch"] = f'"{request.if_match}"'
        if request.if_none_match is not None:
            arguments["IfNoneMatch"] = f'"{request.if_none_match}"'
        client = await self._connected(request.uri)
        import botocore.exceptions  # loaded by now

        outcome: ReadOutcome | None = None
        body: Any = None
        try:
            with s3_failures(request.uri):
                sent = await self._send("GET", arguments)
                if sent is not None:
                    body = sent.response
                    outcome = _OUTCOME_OF_STATUS.get(sent.status)
                    if sent.status in (200, 206):
                        outcome = _response(request, sent.fields, body)
                    elif outcome is None:
                        raise error_of_answer(request.uri, sent.fields)
                else:
                    try:
                        answer = await client.get_object(**arguments, ChecksumMode="ENABLED")
                    except botocore.exceptions.ClientError as error:
                        outcome = _OUTCOME_OF_STATUS.get(error.response["ResponseMetadata"]["HTTPStatusCode"])
                        if outcome is None:
                            raise
                    else:
                        body = answer["Body"].raw_stream
                        outcome = _response(request, answer, body)
            yield outcome
        finally:
            if body is not None:
                body.close()  # gives a connection back to the pool only if everything was read

    async def list_page(self, prefix: str, *, token: str | None = None) -> ListPage:
        """List up to 1000 objects (ListObjectsV2).

        Raises:
            StorageError: or below: no such bucket, no permission, no answer.
            InvalidSourceError: not an S3 URI.
        """
        bucket, key_prefix = split_s3_uri(prefix)
        arguments: dict[str, Any] = {"Bucket": bucket, "Prefix": key_prefix}
        if token is not None:
            arguments["ContinuationToken"] = token
        if self._storage.requester_pays:
            arguments["RequestPayer"] = "requester"
        client = await self._connected(prefix)
        with s3_failures(prefix):
            answer = await client.list_objects_v2(**arguments)
            objects = tuple(
                ListedObject(
                    f"s3://{bucket}/{found['Key']}",
                    FileMetadata(normalize_etag(found.get("ETag")), found.get("LastModified"), found["Size"]),
                )
                for found in answer.get("Contents", ())
            )
        return ListPage(objects, answer.get("NextContinuationToken") if answer.get("IsTruncated") else None)

    def _arguments(self, uri: str, version_id: str | None) -> dict[str, Any]:
        bucket, key = split_s3_uri(uri)
        if not key:
            raise InvalidSourceError(uri, "it names a bucket and no key; end it with '/' to mean all its files")
        arguments: dict[str, Any] = {"Bucket": bucket, "Key": key, **self._storage.key_of_the_customer}
        if version_id is not None:
            arguments["VersionId"] = version_id
        if self._storage.requester_pays:
            arguments["RequestPayer"] = "requester"
        return arguments

    def _metadata(self, answer: Mapping[str, Any], size: int) -> FileMetadata:
        return _metadata(answer, size=size, is_whole=True)

    async def _send(self, method: str, arguments: Mapping[str, Any]) -> Any:
        """Send a request the short way (`_s3_wire`); None if it is for the client to send."""
        self._wire.watch(arguments["Bucket"], arguments["Key"])
        if self._storage.key_of_the_customer:
            return None
        headers = {"x-amz-checksum-mode": "ENABLED"}
        headers |= {header: arguments[name] for name, header in _HEADER_OF_ARGUMENT.items() if name in arguments}
        return await self._wire.send(method, arguments["Bucket"], arguments["Key"], arguments.get("VersionId"), headers)

    async def _connected(self, uri: str) -> Any:
        if self._client is None:
            async with self._lock:
                if self._client is None:
                    # Left to itself when cancelled: credentials may be looked for where nobody answers.
                    # The client holds no connection before its first request, so nothing leaks.
                    client, self._wire = await in_daemon_thread(lambda: self._make_client(uri))
                    self._stack.push_async_exit(client)
                    self._client = client
        return self._client

    def _make_client(self, uri: str) -> Any:
        """Make the client on an event loop of this worker thread; it opens its connections on the loop that uses it.

        Raises:
            CredentialsError: no such profile, or no credentials to be had from it.
            ConfigurationError: settings that botocore refuses.
        """
        with s3_failures(uri):
            with forks_held_back():
                import botocore
                from aiobotocore.config import AioConfig
                from aiobotocore.httpsession import AIOHTTPSession
                from aiobotocore.session import AioSession

                from ._s3_wire import Wire

            http_sessions: list[Any] = []

            class HttpSession(AIOHTTPSession):  # type: ignore[misc]  # it has no types
                """The client's own HTTP session, which the short way is to send through too."""

                def __init__(self, *args: Any, **kwargs: Any) -> None:
                    super().__init__(*args, **kwargs)
                    http_sessions.append(self)

            storage, config = self._storage, self._config
            session = storage.session or AioSession(profile=storage.profile)
            settings = AioConfig(
                connect_timeout=config.connect_timeout_seconds,
                read_timeout=config.read_timeout_seconds,
                max_pool_connections=config.max_concurrency,
                retries={"total_max_attempts": 1},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                user_agent_extra="datacachalog",
                http_session_cls=HttpSession,
                s3={"addressing_style": storage.addressing_style},
                **({"signature_version": botocore.UNSIGNED} if storage.anonymous else {}),
            )

            async def make() -> Any:
                context = session.create_client(
                    "s3", region_name=storage.region, endpoint_url=storage.endpoint_url, config=settings
                )
                client = await context.__aenter__()
                credentials = None if storage.anonymous else await session.get_credentials()
                return client, Wire(client, http_sessions[-1], credentials)

            async def make_if_credentials_are_near() -> Any:
                if not storage.anonymous and await session.get_credentials() is None:
                    return None
                return await make()

            try:
                # Only credentials that come over the network make this wait; only then it takes an event loop.
                client, wire = _run_without_waiting(make_if_credentials_are_near()) or asyncio.run(make())
            except ValueError as error:  # "Invalid endpoint: …"
                raise ConfigurationError(str(error)) from error
            client.meta.events.register("before-call.s3.HeadBucket", _ask_for_the_region_once)
            return client, wire


def _run_without_waiting(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that has nothing to wait for; None if it turns out to need an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value
    except Exception:  # noqa: BLE001  # it is run once more, on a loop, and fails there with its own error if it must
        return None
    coroutine.close()
    return None


def _ask_for_the_region_once(params: Mapping[str, Any], **_: Any) -> None:
    """Keep botocore from following the redirect of its own question after the bucket's region.

    It answers a redirect by a HeadBucket, and a redirect of that by another one, until the stack is full: so it went
    with an endpoint that redirects everything, from HTTP to HTTPS say.
    """
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Split `s3://bucket/key` into bucket and key; the key is taken as it stands, without unquoting.

    Raises:
        InvalidSourceError: another scheme, or no bucket.
    """
    scheme, separator, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme.lower() != "s3" or not separator or not bucket:
        raise InvalidSourceError(uri, "an S3 source is s3://bucket/key")
    return bucket, key


def _response(request: ReadRequest, answer: Mapping[str, Any], body: Any) -> ReadResponse:
    content_range = answer.get("ContentRange")
    if content_range is None:
        start, stop, size = 0, answer["ContentLength"], answer["ContentLength"]
    elif match := _CONTENT_RANGE.fullmatch(content_range.strip()):
        start, stop, size = int(match[1]), int(match[2]) + 1, int(match[3])
    else:
        raise ValueError(f"Content-Range {content_range!r} can't be read (RFC 9110, section 14.4)")
    metadata = _metadata(answer, size=size, is_whole=stop - start == size)
    is_pinnable = not (answer.get("ETag") or "").startswith("W/")
    return ReadResponse(metadata, start, stop, _chunks(request.uri, body), is_pinnable)


async def _chunks(uri: str, body: Any) -> AsyncIterator[bytes]:
    """Give the bytes as they come: what the socket had, without joining or slicing."""
    content = body.content
    while True:
        with s3_failures(uri):
            chunk = await content.readany()
        if not chunk:
            return
        yield chunk


def _metadata(answer: Mapping[str, Any], *, size: int, is_whole: bool) -> FileMetadata:
    version_id = answer.get("VersionId")
    etag = normalize_etag(answer.get("ETag"))
    return FileMetadata(
        etag=etag,
        last_modified=answer.get("LastModified"),
        size=size,
        version_id=None if version_id == "null" else version_id,
        checksum=(_stored_checksum(answer, etag) if is_whole else None) or _md5_of_etag(answer, etag),
    )


def _stored_checksum(answer: Mapping[str, Any], etag: str | None) -> str | None:
    """Give the checksum of the whole object, if S3 has one.

    A composite checksum is one of the parts' checksums, and says nothing about the object's bytes. S3 marks it with
    `-<parts>`, but not always on a ranged answer, so the type is asked for as well, and a multipart ETag makes one
    without a type suspect (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html).
    """
    kind = answer.get("ChecksumType")
    if kind == "COMPOSITE" or (kind is None and etag is not None and "-" in etag):
        return None
    for field_name, algorithm in _CHECKSUM_FIELDS.items():
        value = answer.get(field_name)
        if value and "-" not in value:
            try:
                return parse_digest(f"{algorithm}:{value}")
            except ValueError:
                continue
    return None


def _md5_of_etag(answer: Mapping[str, Any], etag: str | None) -> str | None:
    """Give the MD5 that the ETag of an object uploaded in one piece is.

    Not so where it is encrypted with a key of KMS or of the customer
    (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html).
    """
    is_plain = answer.get("ServerSideEncryption") in (None, "AES256") and not answer.get("SSECustomerAlgorithm")
    if etag is None or not is_plain or not re.fullmatch(r"[0-9a-fA-F]{32}", etag):
        return None
    return f"md5:{etag.lower()}"
