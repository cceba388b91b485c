"""How are objects read from Google Cloud Storage? By its JSON API; the validator of a version is its generation.

A generation is a number that no other version of an object has, ever. It comes with every answer and every entry of a
listing, can be demanded of reads and of writes, and names the version in a bucket that keeps old ones. The ETags are of
less use: the two APIs have different ones, and a write can't demand one.
(https://cloud.google.com/storage/docs/metadata#generation-number)
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from .._config import CatalogConfig
from .._digests import parse_digest
from .._errors import ConfigurationError, CredentialsError, InvalidSourceError, VersionNotFoundError
from .._models import FileMetadata
from .._sources import split_uri
from .._threads import forks_held_back
from ..ports import ListPage, ReadRequest, VersionPage
from ._gcs_listing import is_under_construction, parse_objects, parse_versions, resource_metadata
from ._gcs_writing import GCSWriting
from ._long_reads import LongReads
from ._redacting import text_of
from ._rest import Asked, Head, Refusal, http_date, rest_failures, retry_after
from ._tokens import Token, Tokens

if TYPE_CHECKING:
    from ._rest import Headers

_ENDPOINT = "https://storage.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_FIELDS = "name,size,generation,updated,crc32c,md5Hash"
_VERSION_FIELDS = "name,size,generation,timeCreated,timeDeleted"
_GENERATIONS = range(1, 2**63)


@dataclass(frozen=True, slots=True)
class GCSStorage:
    """Google Cloud Storage. Needs the extra `gcs`.

    Credentials are the application default ones of google-auth: `GOOGLE_APPLICATION_CREDENTIALS`, `gcloud auth
    application-default login`, workload identity, the metadata server; refreshed while running.

    Args:
        service_account: the file of a service account's key, or of any other credentials that google-auth can load.
        anonymous: send requests without credentials, for public buckets and emulators.
        endpoint_url: another address than Google's: `http://localhost:4443`. `STORAGE_EMULATOR_HOST` does the same,
            and means anonymous requests where no service account is given.

    Raises:
        ConfigurationError: settings that contradict each other.
    """

    service_account: str | os.PathLike[str] | None = field(default=None, kw_only=True)
    anonymous: bool = field(default=False, kw_only=True)
    endpoint_url: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.anonymous and self.service_account is not None:
            raise ConfigurationError("GCSStorage(anonymous=True) shows no credentials: it can't use a service account")
        if self.endpoint_url is not None and "@" in self.endpoint_url.partition("://")[2].partition("/")[0]:
            raise ConfigurationError("endpoint_url takes no user and password")

    @asynccontextmanager
    async def connect(self, config: CatalogConfig) -> AsyncIterator[GCSSession]:
        """Open a way to the store; nothing is sent, nor any library imported, before the first request."""
        session = GCSSession(self, config)
        try:
            yield session
        finally:
            await session.aclose()


class GCSSession(GCSWriting):
    """An open way to Google Cloud Storage, on one event loop."""

    def __init__(self, storage: GCSStorage, config: CatalogConfig) -> None:
        super().__init__(config)
        emulator = os.environ.get("STORAGE_EMULATOR_HOST", "") if storage.endpoint_url is None else ""
        if emulator and "://" not in emulator:
            emulator = f"http://{emulator}"
        self._endpoint = (storage.endpoint_url or emulator or _ENDPOINT).rstrip("/")
        is_anonymous = storage.anonymous or bool(emulator and storage.service_account is None)
        self._tokens = None if is_anonymous else Tokens(lambda: _finder(storage.service_account))
        self._long = LongReads(config, self._obstore, split_gs_uri, _demand, lambda meta: meta["version"])

    async def head(self, uri: str, *, version_id: str | None = None) -> FileMetadata:
        """Ask what the object is (objects.get), with the CRC32C that Google has of every object.

        Raises:
            StorageError: or below: no such object, no permission, no answer.
            InvalidSourceError: not a `gs://` URI.
        """
        query = {"fields": _FIELDS, **_generation(uri, version_id)}
        answer = await self._taken(Asked(uri=uri, url=self.object_url(uri, query)))
        if answer.status != 200:
            raise self._refusal(answer.status, answer.headers, answer.body).error(uri, version_id)
        with rest_failures(uri):
            return resource_metadata(json.loads(answer.body))

    async def list_page(self, prefix: str, *, token: str | None = None) -> ListPage:
        """List up to 1000 objects (objects.list).

        Raises:
            StorageError: or below: no such bucket, no permission, no answer.
            InvalidSourceError: not a `gs://` URI.
        """
        bucket, _ = split_gs_uri(prefix)
        query = {} if token is None else {"pageToken": token}
        body = await self._list(prefix, f"items({_FIELDS}),nextPageToken", query)
        return await self._parsed(prefix, body, lambda body: parse_objects(json.loads(body), f"gs://{bucket}/"))

    def is_seekable(self, root: str) -> bool:
        """Whether a listing can begin behind any key, in their order: so it is."""
        return root.startswith("gs://")

    async def list_after(self, prefix: str, start_after: str, limit: int) -> ListPage:
        """List up to 1000 objects that come after a key (objects.list with startOffset, which is inclusive).

        Raises:
            StorageError: or below: no such bucket, no permission, no answer.
            InvalidSourceError: not a `gs://` URI.
        """
        bucket, after = split_gs_uri(start_after)
        query = {"startOffset": after, "maxResults": str(min(limit + 1, 1000))}
        body = await self._list(prefix, f"items({_FIELDS}),nextPageToken", query)
        page = await self._parsed(prefix, body, lambda body: parse_objects(json.loads(body), f"gs://{bucket}/"))
        found = tuple(item for item in page.objects if item.uri != start_after)
        # One more than wanted is asked for, because the first may be the one before.
        return ListPage(found[:limit], page.next_token or ("more" if len(found) > limit else None))

    async def version_page(self, prefix: str, *, after: str | None = None, token: str | None = None) -> VersionPage:
        """List the generations of up to 1000 objects (objects.list with versions), in one request for each thousand.

        Google keeps no delete markers: a version that ended more than a second before the next one began, or that
        none follows, was deleted. A bucket that keeps no versions has one of each object.

        Raises:
            StorageError: or below: no such bucket, no permission, no answer.
            InvalidSourceError: not a `gs://` URI.
        """
        bucket, _ = split_gs_uri(prefix)
        start = token if token is not None else "" if after is None else split_gs_uri(after)[1]
        items: list[Mapping[str, Any]] = []
        query = {"versions": "true"} | ({"startOffset": start} if start else {})
        while True:
            listing = await self.listing(prefix, f"items({_VERSION_FIELDS}),nextPageToken", query)
            items += [item for item in listing.get("items", ()) if not is_under_construction(item["name"])]
            page_token = listing.get("nextPageToken")
            # The versions of one object may go on in the next answer, and its newest one comes last.
            last = items[-1]["name"] if items else None
            if page_token is None or (last is not None and last != items[0]["name"]):
                break
            query["pageToken"] = page_token
        whole = items if page_token is None else [item for item in items if item["name"] != last]
        with rest_failures(prefix):
            versions = parse_versions(whole, f"gs://{bucket}/")
        return VersionPage(versions, None if page_token is None else last)

    async def listing(self, prefix: str, fields: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Give an answer of objects.list."""
        listing: dict[str, Any] = await self._parsed(prefix, await self._list(prefix, fields, query), json.loads)
        return listing

    async def _list(self, prefix: str, fields: str, query: Mapping[str, str]) -> bytes:
        bucket, key_prefix = split_gs_uri(prefix)
        arguments = {"prefix": key_prefix, "fields": fields, **query}
        url = f"{self._endpoint}/storage/v1/b/{quote(bucket, safe='')}/o?{urlencode(arguments, quote_via=quote)}"
        answer = await self._taken(Asked(uri=prefix, url=url))
        if answer.status != 200:
            refusal = self._refusal(answer.status, answer.headers, answer.body)
            # All that can't be found of a listing is its bucket.
            raise (replace(refusal, code="NoSuchBucket") if answer.status == 404 else refusal).error(prefix)
        return answer.body

    # -- what `RestSession` asks

    async def _signed(self, asked: Asked) -> Head:
        headers = dict(asked.headers)
        if self._tokens is not None:
            headers["authorization"] = f"Bearer {(await self._token(asked.uri)).value}"
        return asked.url, headers

    async def _token(self, uri: str) -> Token:
        assert self._tokens is not None  # noqa: S101  # the caller has looked
        try:
            return await self._tokens.current()
        except ImportError as error:
            raise ConfigurationError("gs:// needs the extra 'gcs': pip install 'datacachalog[gcs]'") from error
        except Exception as error:  # noqa: BLE001  # whatever google-auth and its transports raise
            hint = "gcloud auth application-default login, GCSStorage(service_account=…), or anonymous=True"
            raise CredentialsError(uri, text_of(error), hint=hint) from None

    def _forget_credentials(self) -> bool:
        if self._tokens is None:
            return False
        self._tokens.forget()
        return True

    def _refusal(self, status: int, headers: Headers, body: bytes) -> Refusal:
        code, message = "", ""
        try:
            error = json.loads(body)["error"]
            message = str(error.get("message", ""))
            code = str(next((each["reason"] for each in error.get("errors", ())), ""))
        except (ValueError, LookupError, TypeError, AttributeError):
            message = body[:200].decode(errors="replace")
        if status == 404 and "bucket does not exist" in message:
            code = "NoSuchBucket"
        return Refusal(status, code, message, retry_after(headers))

    def _read_arguments(self, request: ReadRequest) -> Asked:
        query = {"alt": "media", **_generation(request.uri, request.version_id)}
        for name, etag in (("ifGenerationMatch", request.if_match), ("ifGenerationNotMatch", request.if_none_match)):
            if etag is not None:
                # What is no generation is none that the object ever had.
                query[name] = etag if _is_generation(etag) else "1"
        # What is stored compressed would be given decompressed, and of another length.
        headers = {"accept-encoding": "gzip"}
        if request.stop is not None or request.start > 0:
            headers["range"] = f"bytes={request.start}-{'' if request.stop is None else request.stop - 1}"
        return Asked(uri=request.uri, url=self.object_url(request.uri, query), headers=headers)

    def _read_metadata(self, headers: Headers, size: int, *, is_whole: bool) -> FileMetadata:  # noqa: ARG002  # the CRC32C is always the whole object's
        generation = headers.get("x-goog-generation")
        said = ",".join(headers.getall("x-goog-hash", ()))
        hashes = dict(part.strip().split("=", 1) for part in said.split(",") if "=" in part)
        checksum = parse_digest(f"crc32c:{hashes['crc32c']}") if "crc32c" in hashes else None
        return FileMetadata(generation, http_date(headers), size, generation, checksum)

    def object_url(self, uri: str, query: Mapping[str, str]) -> str:
        bucket, key = split_gs_uri(uri)
        if not key:
            raise InvalidSourceError(uri, "it names a bucket and no object; end it with '/' to mean all its files")
        path = f"{quote(bucket, safe='')}/o/{quote(key, safe='')}"
        return f"{self._endpoint}/storage/v1/b/{path}?{urlencode(query, quote_via=quote)}"

    def _obstore(self, bucket: str, client_options: Mapping[str, Any], retry_config: Mapping[str, Any]) -> Any:
        from obstore.store import GCSStore

        options: Any = {**client_options, "allow_http": self._endpoint.startswith("http://")}
        config: Any = {"base_url": self._endpoint, "skip_signature": self._tokens is None}
        provider: Any = {} if self._tokens is None else {"credential_provider": self._credential}
        return GCSStore(bucket, config=config, client_options=options, retry_config=dict(retry_config), **provider)  # type: ignore[arg-type]  # a TypedDict

    def _credential(self) -> Any:
        assert self._tokens is not None  # noqa: S101  # else it isn't asked
        assert self._tokens.token is not None  # noqa: S101  # looked for before each read
        return self._tokens.token.credential()


def split_gs_uri(uri: str) -> tuple[str, str]:
    """Split `gs://bucket/key` into bucket and key; the key is taken as it stands, without unquoting.

    Raises:
        InvalidSourceError: another scheme, or no bucket.
    """
    scheme, bucket, key = split_uri(uri)
    if scheme != "gs" or not bucket:
        raise InvalidSourceError(uri, "a source of Google Cloud Storage is gs://bucket/key")
    return bucket, key


def _generation(uri: str, version_id: str | None) -> dict[str, str]:
    if version_id is None:
        return {}
    if not _is_generation(version_id):
        raise VersionNotFoundError(uri, f"version {version_id}: it is no generation", hint="versions() lists all")
    return {"generation": version_id}


def _is_generation(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) in _GENERATIONS


def _demand(request: ReadRequest) -> Any:
    return {"version": request.if_match}


def _finder(service_account: str | os.PathLike[str] | None) -> Callable[[], Token]:
    with forks_held_back():
        import google.auth
        from google.auth.transport.requests import Request

    credentials: Any
    if service_account is None:
        credentials, _ = google.auth.default(scopes=[_SCOPE])
    else:
        load: Any = google.auth.load_credentials_from_file
        credentials, _ = load(os.fspath(service_account), scopes=[_SCOPE])

    def give() -> Token:
        credentials.refresh(Request())
        expiry = credentials.expiry  # in UTC, without saying so
        return Token(credentials.token, None if expiry is None else expiry.replace(tzinfo=UTC).timestamp())

    return give
