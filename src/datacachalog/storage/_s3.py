"""How are objects read from S3, and from what speaks like it? One request a call, the short way where there is one.

What finds out where a bucket is, and with whose credentials, is aiobotocore's client. It is made when it is first
needed, in a worker thread: importing botocore and reading its models takes up to a second, and nothing may stop the
event loop that long. Where it isn't needed (`_s3_settings`) it is not made at all. botocore's own retries are off: the
pipeline retries, in one place and for every storage, and counts what it sends.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, TypeVar

import anyio
import anyio.to_thread

from .._config import CatalogConfig
from .._digests import PartsChecksum, parse_digest
from .._errors import ConfigurationError, InvalidSourceError, VersioningNotSupportedError
from .._models import NULL_VERSION, FileMetadata, normalize_etag
from .._sources import split_uri
from .._threads import forks_held_back, in_daemon_thread
from ..ports import (
    ListPage,
    NotModified,
    RangeNotSatisfiable,
    ReadOutcome,
    ReadRequest,
    ReadResponse,
    ThreadedAnswer,
    VersionChanged,
    VersionPage,
)
from ._bulk import BulkAnswer
from ._connections import Answer
from ._http_fields import content_range, http_date
from ._multiplexed import Exchange
from ._redacting import cause_of, text_of
from ._s3_credentials import has_expired
from ._s3_failures import ChecksumsRefusedError, error_of_answer, s3_failures
from ._s3_listing import looks_whole, parse_list_page
from ._s3_settings import certain_settings
from ._s3_versions import ORDER_NOTES, markers, note_order, version_page
from ._s3_wire import LEFT_TO_THE_CLIENT, ThreadedWire, Wire, answer_fields, error_fields, error_fields_here
from ._s3_writing import S3Writing

_CHECKSUM_FIELDS = {
    "ChecksumCRC64NVME": "crc64nvme",
    "ChecksumCRC32C": "crc32c",
    "ChecksumCRC32": "crc32",
    "ChecksumSHA256": "sha256",
    "ChecksumSHA1": "sha1",
}
_QUERY_OF_ARGUMENT = {
    "ContinuationToken": "continuation-token",
    "EncodingType": "encoding-type",
    "ListType": "list-type",
    "MaxKeys": "max-keys",
    "PartNumber": "partNumber",
    "Prefix": "prefix",
    "StartAfter": "start-after",
    "VersionId": "versionId",
}
_HEADER_OF_ARGUMENT = {
    "Range": "range",
    "IfMatch": "if-match",
    "IfNoneMatch": "if-none-match",
    "ChecksumMode": "x-amz-checksum-mode",
    "RequestPayer": "x-amz-request-payer",
}
_WITH_CHECKSUM = {"ChecksumMode": "ENABLED"}
_LISTING_BODY = "datacachalog listing"
_LONGEST_LISTING_BYTES = 16 * 1024 * 1024  # a thousand keys of 1024 bytes, each written as %XX, have a quarter of that
_INLINE_LISTING_BYTES = 64 * 1024  # a millisecond's work, which takes less time than handing it to a thread
_KEY_OF_THE_CUSTOMER = frozenset({"SSECustomerAlgorithm", "SSECustomerKey"})
_ENCRYPTION_OF_NEW_OBJECTS = frozenset(
    {"ServerSideEncryption", "SSEKMSKeyId", "SSEKMSEncryptionContext", "BucketKeyEnabled"}
)
_LONG_BYTES = 1024 * 1024  # a thread of its own costs as much as a tenth of that on the event loop
_OUTCOME_OF_STATUS: Mapping[int, ReadOutcome] = {
    304: NotModified(),
    412: VersionChanged(),
    416: RangeNotSatisfiable(),
}

_Result = TypeVar("_Result")


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
        wire = Wire(config)
        try:
            async with AsyncExitStack() as stack:
                yield S3Session(self, config, stack, wire)
        finally:
            wire.close()


class S3Session(S3Writing):
    """An open way to S3, on one event loop; its client is made at the first request."""

    def __init__(self, storage: S3Storage, config: CatalogConfig, stack: AsyncExitStack, wire: Wire) -> None:
        self._storage = storage
        self._config = config
        self._stack = stack
        self._wire = wire
        self._lock = anyio.Lock()
        self._client: Any = None
        self._credentials: Any = None
        self._is_begun = False
        self.asks_checksums = True
        """Whether the store knows `x-amz-checksum-mode`; some refuse a request that has it."""

    async def head(self, uri: str, *, version_id: str | None = None) -> FileMetadata:
        """Ask what the object is (HeadObject), with the checksum that S3 has stored for it.

        Raises:
            StorageError: or below: no such object, no permission, no answer.
            InvalidSourceError: not an S3 URI.
        """
        answer = await self._head(uri, self._arguments(uri, version_id), version_id)
        return _metadata(answer, size=answer["ContentLength"], is_whole=True)

    async def part_bytes(self, uri: str, number: int, *, etag: str, version_id: str | None = None) -> int | None:
        """Ask how large a part was that the object was uploaded in (HeadObject with a part's number).

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
        """
        arguments = self._arguments(uri, version_id) | {"PartNumber": number, "IfMatch": f'"{etag}"'}
        answer = await self._head(uri, arguments, version_id)
        return int(answer["ContentLength"]) if normalize_etag(answer.get("ETag")) == etag else None

    async def _head(self, uri: str, arguments: Mapping[str, Any], version_id: str | None) -> Mapping[str, Any]:
        async def ask(mode: Mapping[str, str]) -> Mapping[str, Any]:
            sent = await self._send("HEAD", uri, {**arguments, **mode})
            if sent is None:
                client = await self._connected(uri)
                self._wire.watch(arguments["Bucket"], arguments["Key"])
                return await self._signed(lambda: client.head_object(**arguments, **mode))
            try:
                if sent.head.status not in (200, 206):
                    raise error_of_answer(uri, await error_fields(sent), version_id)
                return _fields(sent.head.headers)
            finally:
                sent.close()

        return await self._asked(uri, version_id, ask)

    @asynccontextmanager
    async def read(self, request: ReadRequest) -> AsyncIterator[ReadOutcome]:
        """Ask for bytes (GetObject). Leaving before they are all read closes the connection.

        Raises:
            StorageError: or below: no such object, no permission, no answer; from the chunks too.
            InvalidSourceError: not an S3 URI.
        """
        arguments = self.read_arguments(request)
        is_long = request.stop is not None and request.start > 0 and request.stop - request.start > _LONG_BYTES

        async def ask(mode: Mapping[str, str]) -> tuple[ReadOutcome, Any]:
            sent = await self._send("GET", request.uri, {**arguments, **mode}, is_long=is_long)
            if sent is None:
                return await self._ask_client(request, arguments, mode)
            try:
                return await _outcome(request, sent), sent
            except BaseException:
                sent.close()
                raise

        body: Any = None
        try:
            outcome, body = await self._asked(request.uri, request.version_id, ask)
            yield outcome
        finally:
            if body is not None:
                body.close()  # keeps the connection only if everything was read

    async def threaded(self, uri: str) -> S3ThreadedReads | None:
        """Give what reads objects of this bucket in worker threads; None if only the client can.

        Raises:
            StorageUnreachableError: no connection.
            CredentialsError: none to be had.
        """
        bucket, _ = split_s3_uri(uri)
        if self._storage.key_of_the_customer:
            return None
        with s3_failures(uri):
            if not self._is_begun:
                await self._begin()
            wire = await self._wire.threaded(bucket)
        return None if wire is None else S3ThreadedReads(self, self._wire, wire)

    async def _ask_client(
        self, request: ReadRequest, arguments: Mapping[str, Any], mode: Mapping[str, str]
    ) -> tuple[ReadOutcome, Any]:
        """Ask the general way; gives the body to be closed too."""
        client = await self._connected(request.uri)
        import botocore.exceptions  # loaded by now

        self._wire.watch(arguments["Bucket"], arguments["Key"])
        try:
            answer = await self._signed(lambda: client.get_object(**arguments, **mode))
        except botocore.exceptions.ClientError as error:
            outcome = _OUTCOME_OF_STATUS.get(error.response["ResponseMetadata"]["HTTPStatusCode"])
            if outcome is None:
                raise
            return outcome, None
        body = answer["Body"].raw_stream
        try:
            return _response(answer, _chunks(request.uri, body.content.readany)), body
        except BaseException:
            body.close()
            raise

    async def list_page(self, prefix: str, *, token: str | None = None) -> ListPage:
        """List up to 1000 objects (ListObjectsV2).

        Raises:
            StorageError: or below: no such bucket, no permission, no answer.
            InvalidSourceError: not an S3 URI.
        """
        return await self._list(prefix, {} if token is None else {"ContinuationToken": token})

    def is_seekable(self, root: str) -> bool:
        """Whether a listing can begin behind any key, in their order; so it is but for directory buckets.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html, StartAfter.
        """
        return root.startswith("s3://") and not root.endswith("--x-s3/")

    async def list_after(self, prefix: str, start_after: str, limit: int) -> ListPage:
        """List up to 1000 objects that come after a key (ListObjectsV2 with StartAfter).

        Raises:
            StorageError: or below: no such bucket, no permission, no answer.
            InvalidSourceError: not an S3 URI.
        """
        return await self._list(prefix, {"StartAfter": split_s3_uri(start_after)[1], "MaxKeys": limit})

    async def _list(self, prefix: str, arguments: Mapping[str, Any]) -> ListPage:
        bucket, key_prefix = split_s3_uri(prefix)
        arguments = {"Bucket": bucket, "Prefix": key_prefix, "EncodingType": "url", **arguments}
        if self._storage.requester_pays:
            arguments["RequestPayer"] = "requester"

        async def ask() -> bytes | None:
            sent = await self._send("GET", prefix, {**arguments, "Key": "", "ListType": 2})
            if sent is None:
                return None
            try:
                if sent.head.status != 200:
                    raise error_of_answer(prefix, await error_fields(sent))
                return await sent.read_all(_LONGEST_LISTING_BYTES)
            finally:
                sent.close()

        with s3_failures(prefix):
            body = await self._signed(ask)
            if body is None:
                client = await self._connected(prefix)  # before it is asked: its credentials may have to be renewed
                answer = await self._signed(lambda: client.list_objects_v2(**arguments))
                body = bytes(answer[_LISTING_BODY])
            if len(body) <= _INLINE_LISTING_BYTES:
                return parse_list_page(body, f"s3://{bucket}/")
            return await anyio.to_thread.run_sync(parse_list_page, body, f"s3://{bucket}/", abandon_on_cancel=True)

    def read_arguments(self, request: ReadRequest) -> dict[str, Any]:
        """Give the arguments of a GetObject."""
        arguments = self._arguments(request.uri, request.version_id)
        if request.stop is not None or request.start > 0:
            last = "" if request.stop is None else request.stop - 1
            arguments["Range"] = f"bytes={request.start}-{last}"
        if request.if_match is not None:
            arguments["IfMatch"] = f'"{request.if_match}"'
        if request.if_none_match is not None:
            arguments["IfNoneMatch"] = f'"{request.if_none_match}"'
        return arguments

    async def version_page(self, prefix: str, *, after: str | None = None, token: str | None = None) -> VersionPage:
        """List up to 1000 versions and delete markers (ListObjectVersions).

        In a bucket that never kept versions, each object has one, `"null"`.

        Raises:
            VersioningNotSupportedError: the store doesn't know this request.
            StorageError: or below: no such bucket, no permission (`s3:ListBucketVersions`), no answer.
            InvalidSourceError: not an S3 URI.
        """
        bucket, key_prefix = split_s3_uri(prefix)
        after_key = None if after is None else split_s3_uri(after)[1]
        arguments = {"Bucket": bucket, "Prefix": key_prefix, **markers(after_key, token)}
        if self._storage.requester_pays:
            arguments["RequestPayer"] = "requester"
        client = await self._connected(prefix)
        import botocore.exceptions  # loaded by now

        with s3_failures(prefix):
            try:
                answer = await self._signed(lambda: client.list_object_versions(**arguments))
            except botocore.exceptions.ClientError as error:
                code = error.response.get("Error", {}).get("Code")
                if code in ("NotImplemented", "MethodNotAllowed"):
                    raise VersioningNotSupportedError(prefix, f"the store can't list versions: {code}") from error
                raise
            return version_page(bucket, answer)

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

    async def _send(
        self, method: str, uri: str, arguments: Mapping[str, Any], *, is_long: bool = False
    ) -> Answer | BulkAnswer | None:
        """Send a request the short way; None if it is for the client to send."""
        if self._storage.key_of_the_customer:
            return None
        if not self._is_begun:
            await self._begin()
        query, headers = _query_and_headers(arguments)
        sent = await self._wire.send(method, arguments["Bucket"], arguments["Key"], query, headers, is_long=is_long)
        if sent is not None and sent.head.status == 403:
            try:
                refusal = await error_fields(sent)
            finally:
                sent.close()
            if self._client is not None:
                from botocore.exceptions import ClientError  # `_signed` may come to other credentials

                raise ClientError(refusal, f"{method.title()}Object")
            if not has_expired(refusal):
                raise error_of_answer(uri, refusal, arguments.get("VersionId"))
            return None  # so may the client
        return sent

    async def _asked(
        self, uri: str, version_id: str | None, ask: Callable[[Mapping[str, str]], Awaitable[_Result]]
    ) -> _Result:
        """Ask for the checksum too; of a store that refuses that, without, and so from then on.

        Raises:
            DatacachalogError: what was asked failed with.
        """
        if self.asks_checksums:
            try:
                with s3_failures(uri, version_id):
                    return await self._signed(lambda: ask(_WITH_CHECKSUM))
            except ChecksumsRefusedError:
                pass
        with s3_failures(uri, version_id):
            result = await self._signed(lambda: ask({}))
        self.asks_checksums = False
        return result

    async def _signed(self, ask: Callable[[], Awaitable[_Result]]) -> _Result:
        """Ask the client, and once more with other credentials where these have expired (`_s3_credentials`)."""
        return await (ask() if self._credentials is None else self._credentials.signed(ask))

    async def _begin(self) -> None:
        """See whether the settings leave anything for the client to find out."""
        storage = self._storage
        if storage.profile is None and storage.session is None:
            settings = await anyio.to_thread.run_sync(
                lambda: certain_settings(
                    endpoint_url=storage.endpoint_url,
                    region=storage.region,
                    is_anonymous=storage.anonymous,
                    addressing_style=storage.addressing_style,
                    environment=os.environ,
                )
            )
            if settings is not None and not self._is_begun:
                self._wire.take_settings(settings)
        self._is_begun = True

    async def _connected(self, uri: str) -> Any:
        if self._client is None:
            async with self._lock:
                if self._client is None:
                    # Left to itself when cancelled: credentials may be looked for where nobody answers.
                    # The client holds no connection before its first request, so nothing leaks.
                    client, *findings = await in_daemon_thread(lambda: self._make_client(uri))
                    self._stack.push_async_exit(client)
                    self._credentials = findings[0]
                    self._wire.take_client(client, *findings)
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
                from botocore.utils import get_environ_proxies

                from ._s3_credentials import SessionCredentials, found_anew

            http_sessions: list[Any] = []

            class HttpSession(AIOHTTPSession):  # type: ignore[misc]  # it has no types
                """The client's own HTTP session, which bodies are to be sent through too."""

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
                found = None if storage.anonymous else await session.get_credentials()
                credentials = None if found is None else SessionCredentials(found, find)
                if credentials is not None:
                    client.meta.events.register("before-sign.s3", credentials.sign_with_these)
                own, ca_bundle = client.meta.config, session.get_config_variable("ca_bundle")

                def proxies_of(url: str) -> object:
                    # A certificate of the client's own is another thing that only the client presents.
                    return own.client_cert or (get_environ_proxies(url) if own.proxies is None else own.proxies)

                return client, credentials, ca_bundle, proxies_of, http_sessions[-1]

            async def find() -> Any:
                if storage.session is not None:
                    return await found_anew(storage.session)
                return await AioSession(profile=storage.profile).get_credentials()

            async def make_if_credentials_are_near() -> Any:
                if not storage.anonymous and await session.get_credentials() is None:
                    return None
                return await make()

            try:
                # Only credentials that come over the network make this wait; only then it takes an event loop.
                client, *findings = _run_without_waiting(make_if_credentials_are_near()) or asyncio.run(make())
            except ValueError as error:  # "Invalid endpoint: …"
                raise ConfigurationError(text_of(error)) from cause_of(error)
            client.meta.events.register("before-call.s3.HeadBucket", _ask_for_the_region_once)
            # With a `*` for the service it goes before what botocore has for all operations of S3: a whole pass
            # over the XML, to see whether a status of 200 stands over an error.
            client.meta.events.register_first("before-parse.*.ListObjectsV2", _keep_listing_as_it_came)
            client.meta.events.register(ORDER_NOTES, note_order)
            return client, *findings


class S3ThreadedReads:
    """Reads objects of one bucket in worker threads."""

    def __init__(self, session: S3Session, wire: Wire, threaded: ThreadedWire) -> None:
        self._session = session
        self._wire = wire
        self._threaded = threaded

    def begin(self, request: ReadRequest, most_bytes: int) -> S3ThreadedRead:
        """Begin to ask for bytes (GetObject), in this thread.

        Raises:
            InvalidSourceError: not an S3 URI.
        """
        arguments = self._session.read_arguments(request)
        mode = _WITH_CHECKSUM if self._session.asks_checksums else {}
        query, headers = _query_and_headers({**arguments, **mode})
        with s3_failures(request.uri):
            exchange = self._threaded.begin(arguments["Key"], query, headers, most_bytes)
        return S3ThreadedRead(request, exchange, lambda: self._wire.forget(arguments["Bucket"]))


class S3ThreadedRead:
    """One GetObject on its way.

    Args:
        request: it.
        exchange: it, on the wire.
        forget: lets the client be asked next about the way to the bucket.
    """

    def __init__(self, request: ReadRequest, exchange: Exchange, forget: Callable[[], None]) -> None:
        self._request = request
        self._exchange = exchange
        self._forget = forget
        self.fileno = exchange.fileno
        self.close = exchange.close

    @property
    def waits_for(self) -> int:
        """What its socket has to be ready for."""
        return self._exchange.waits_for

    @property
    def due(self) -> float:
        """Until when, in seconds of `time.monotonic()`."""
        return self._exchange.due

    def give_up(self) -> NoReturn:
        """End it, because it is overdue.

        Raises:
            StorageUnreachableError: always.
        """
        with s3_failures(self._request.uri):
            self._exchange.give_up()

    def advance(self) -> ThreadedAnswer | None:
        """Go on as far as it goes without waiting; gives the answer if that is here.

        Raises:
            StorageError: or below: no such object, no permission, no answer.
        """
        with s3_failures(self._request.uri):
            answer = self._exchange.advance()
            if answer is None:
                return None
            try:
                outcome = self._outcome(answer)
            except BaseException:
                answer.close()
                raise
        if outcome is None:
            answer.close()
        return ThreadedAnswer(outcome, answer.content, answer.close)

    def _outcome(self, answer: BulkAnswer) -> ReadOutcome | None:
        status = answer.head.status
        if status in LEFT_TO_THE_CLIENT:
            self._forget()
            return None
        outcome = _OUTCOME_OF_STATUS.get(status)
        if outcome is not None or status in (200, 206):
            return outcome or _outcome_of_bytes(self._request, answer)
        if answer.content is None:
            return None  # what it says is still to come
        refusal = error_fields_here(answer)
        error = error_of_answer(self._request.uri, refusal, self._request.version_id)
        if has_expired(refusal) or isinstance(error, ChecksumsRefusedError):
            return None  # the client may come to other credentials; or it is asked without the checksum
        raise error


def _query_and_headers(arguments: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    headers = {header: arguments[name] for name, header in _HEADER_OF_ARGUMENT.items() if name in arguments}
    return {query: str(arguments[name]) for name, query in _QUERY_OF_ARGUMENT.items() if name in arguments}, headers


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


def _keep_listing_as_it_came(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Take a listing away from botocore's parsers, which would take ten times as long as ours."""
    if response_dict["status_code"] == 200:
        body = customized_response_dict[_LISTING_BODY] = response_dict["body"]
        if looks_whole(body):  # an error is botocore's to read, and to repeat the request for
            response_dict["body"] = b""


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Split `s3://bucket/key` into bucket and key; the key is taken as it stands, without unquoting.

    Raises:
        InvalidSourceError: another scheme, or no bucket.
    """
    scheme, bucket, key = split_uri(uri)
    if scheme != "s3" or not bucket:
        raise InvalidSourceError(uri, "an S3 source is s3://bucket/key")
    return bucket, key


async def _outcome(request: ReadRequest, sent: Answer | BulkAnswer) -> ReadOutcome:
    """Say what an answer means.

    Raises:
        DatacachalogError: a refusal.
        ValueError: it can't be understood.
    """
    head = sent.head
    if head.status not in (200, 206):
        outcome = _OUTCOME_OF_STATUS.get(head.status)
        if outcome is None:
            raise error_of_answer(request.uri, await error_fields(sent), request.version_id)
        return outcome
    return _outcome_of_bytes(request, sent)


def _outcome_of_bytes(request: ReadRequest, sent: Answer | BulkAnswer) -> ReadResponse:
    fields = _fields(sent.head.headers)
    if isinstance(sent, Answer):
        return _response(fields, _chunks(request.uri, sent.read))
    if sent.content is not None:
        return _response(fields, _given(sent.content))

    async def pump(sink: Callable[[memoryview], None]) -> None:
        with s3_failures(request.uri):
            await sent.pump(sink)

    return _response(fields, _pumped(request.uri, sent), pump)


def _response(
    answer: Mapping[str, Any],
    chunks: AsyncIterator[bytes],
    pump: Callable[[Callable[[memoryview], None]], Awaitable[None]] | None = None,
) -> ReadResponse:
    given = answer.get("ContentRange")
    size = answer["ContentLength"]
    start, stop, size = (0, size, size) if given is None else content_range(given)
    metadata = _metadata(answer, size=size, is_whole=stop - start == size)
    is_pinnable = not (answer.get("ETag") or "").startswith("W/")
    return ReadResponse(metadata, start, stop, chunks, is_pinnable, pump)


async def _chunks(uri: str, read: Callable[[], Awaitable[bytes]]) -> AsyncIterator[bytes]:
    """Give the bytes as they come: what the socket had, without joining or slicing."""
    while True:
        with s3_failures(uri):
            chunk = await read()
        if not chunk:
            return
        yield chunk


async def _given(content: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    """Give what is here."""
    for piece in content:
        yield piece


async def _pumped(uri: str, sent: BulkAnswer) -> AsyncIterator[bytes]:
    """Give the bytes of a long answer to one who wants them in memory: all of them at once."""
    pieces: list[bytes] = []
    with s3_failures(uri):
        await sent.pump(lambda piece: pieces.append(bytes(piece)))
    for piece in pieces:
        yield piece


def _fields(headers: Mapping[str, str]) -> dict[str, Any]:
    """Give the answer's headers by botocore's names for them, with its length and time."""
    fields = answer_fields(headers)
    fields["ContentLength"] = int(headers["content-length"])
    if "last-modified" in headers:
        fields["LastModified"] = http_date(headers["last-modified"])
    return fields


def _metadata(answer: Mapping[str, Any], *, size: int, is_whole: bool) -> FileMetadata:
    version_id = answer.get("VersionId")
    etag = normalize_etag(answer.get("ETag"))
    return FileMetadata(
        etag=etag,
        last_modified=answer.get("LastModified"),
        size=size,
        version_id=None if version_id == NULL_VERSION else version_id,
        checksum=(_stored_checksum(answer, etag) if is_whole else None) or _md5_of_etag(answer, etag),
        parts_checksum=_parts_checksum(answer) if is_whole else None,
    )


def _parts_checksum(answer: Mapping[str, Any]) -> str | None:
    """Give the checksum of the parts' checksums, if S3 has one: marked with `-<parts>`."""
    for field_name, algorithm in _CHECKSUM_FIELDS.items():
        value = answer.get(field_name)
        if value and "-" in value:
            with suppress(ValueError):
                return str(PartsChecksum.parse(f"{algorithm}:{value}"))
    return None


def _stored_checksum(answer: Mapping[str, Any], etag: str | None) -> str | None:
    """Give the checksum of the whole object, if S3 has one.

    A composite checksum is one of the parts' checksums, not of the object's bytes. S3 marks it with `-<parts>`, but
    not always on a ranged answer, so the type is asked for as well, and a multipart ETag makes one without a type
    suspect (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html).
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
