"""How are blobs read from Azure? By its REST API; the validator is the ETag, a version's name its version id."""

from __future__ import annotations

import base64
import functools
import os
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from .._config import CatalogConfig
from .._digests import parse_digest
from .._errors import ConfigurationError, CredentialsError, InvalidSourceError
from .._models import FileMetadata, normalize_etag
from .._threads import forks_held_back
from ..ports import ListPage, ReadRequest, VersionPage
from ._azure_accounts import Account, account_of, split_azure_uri
from ._azure_listing import AzureListing, parse_listing
from ._azure_writing import AzureWriting
from ._long_reads import LongReads
from ._redacting import text_of
from ._rest import Asked, Head, Refusal, http_date, refused, rest_failures, retry_after
from ._tokens import Token, Tokens

if TYPE_CHECKING:
    from ._rest import Headers

_SCOPE = "https://storage.azure.com/.default"
_VERSION = "2023-11-03"
_VERSION_WITH_START = "2026-02-06"  # the first whose listings can begin behind any name


@dataclass(frozen=True, slots=True)
class AzureStorage:
    """Azure Blob Storage, and Data Lake Storage Gen2. Needs the extra `azure`.

    Without a key or a signature, credentials are those of azure-identity's `DefaultAzureCredential`: environment,
    workload and managed identity, `az login` and the like; refreshed while running. Where the account is not given
    here, `AZURE_STORAGE_CONNECTION_STRING`, or `AZURE_STORAGE_ACCOUNT` with `AZURE_STORAGE_KEY` or
    `AZURE_STORAGE_SAS_TOKEN`, say it. A key or a signature is used for its own account only.

    Args:
        account: the storage account that `az://container/key` is in.
        account_key: its key.
        sas_token: a shared access signature instead.
        connection_string: says all of that in one text; not with the others.
        anonymous: send requests without credentials, for public containers.
        endpoint_url: another address of the account than Azure's: `http://127.0.0.1:10000/devstoreaccount1`.

    Raises:
        ConfigurationError: settings that contradict each other.
    """

    account: str | None = field(default=None, kw_only=True)
    account_key: str | None = field(default=None, kw_only=True, repr=False)
    sas_token: str | None = field(default=None, kw_only=True, repr=False)
    connection_string: str | None = field(default=None, kw_only=True, repr=False)
    anonymous: bool = field(default=False, kw_only=True)
    endpoint_url: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        secrets = [self.account_key, self.sas_token, self.connection_string]
        if len([secret for secret in secrets if secret is not None]) > 1:
            raise ConfigurationError("AzureStorage takes one of account_key, sas_token and connection_string")
        if self.anonymous and any(secret is not None for secret in secrets):
            raise ConfigurationError("AzureStorage(anonymous=True) shows no credentials: it can't use any")
        if self.account is not None and self.connection_string is not None:
            raise ConfigurationError("AzureStorage takes an account or a connection_string, which has its account")
        if self.account is None and (self.account_key is not None or self.sas_token is not None):
            raise ConfigurationError("AzureStorage needs the account that the key or the signature is of")
        if self.endpoint_url is not None and ("@" in self.endpoint_url or "?" in self.endpoint_url):
            raise ConfigurationError("endpoint_url takes neither user and password nor a query: use sas_token=…")
        account_of(self, {})  # refuses what can't be read

    @asynccontextmanager
    async def connect(self, config: CatalogConfig) -> AsyncIterator[AzureSession]:
        """Open a way to the store; nothing is sent, nor any library imported, before the first request."""
        session = AzureSession(self, config)
        try:
            yield session
        finally:
            await session.aclose()


class AzureSession(AzureWriting):
    """An open way to Azure, on one event loop."""

    def __init__(self, storage: AzureStorage, config: CatalogConfig) -> None:
        super().__init__(config)
        self._storage = storage
        self._is_anonymous = storage.anonymous
        self._tokens = Tokens(_finder)
        self._can_seek = True
        self._long = LongReads(config, self._obstore, self._bucket_and_key, _demand, _etag_of)

    @functools.cached_property
    def _account(self) -> Account | None:
        """What settings and environment say, when it is first needed: a variable of others' must not be in the way."""
        return account_of(self._storage, os.environ)

    async def head(self, uri: str, *, version_id: str | None = None) -> FileMetadata:
        """Ask what the blob is (Get Blob Properties), with the MD5 that is stored with it, if there is one.

        Raises:
            StorageError: or below: no such blob, no permission, no answer.
            InvalidSourceError: not a URI of Azure.
        """
        query = {} if version_id is None else {"versionid": version_id}
        answer = await self._taken(Asked(uri=uri, method="HEAD", url=self.blob_url(uri, query)))
        if refused(answer):
            raise self._refusal(answer.status, answer.headers, answer.body).error(uri, version_id)
        with rest_failures(uri):
            return self._read_metadata(answer.headers, int(answer.headers["content-length"]), is_whole=True)

    async def list_page(self, prefix: str, *, token: str | None = None) -> ListPage:
        """List up to 5000 blobs (List Blobs).

        Raises:
            StorageError: or below: no such container, no permission, no answer.
            InvalidSourceError: not a URI of Azure.
        """
        listing = await self._listing(prefix, {} if token is None else {"marker": token})
        return ListPage(listing.objects(), listing.next_marker)

    def is_seekable(self, root: str) -> bool:
        """Whether a listing can begin behind any name: until it is seen that the store doesn't know how."""
        return self._can_seek and root.startswith(("az://", "abfss://"))

    async def list_after(self, prefix: str, start_after: str, limit: int) -> ListPage:
        """List up to 5000 blobs that come after a name (List Blobs with startFrom, which is inclusive).

        A store that doesn't know it gives an empty page, and is not asked again: then each blob has to be asked for.

        Raises:
            StorageError: or below: no such container, no permission, no answer.
            InvalidSourceError: not a URI of Azure.
        """
        _, _, after = split_azure_uri(start_after, self._account)
        query = {"startFrom": after, "maxresults": str(min(limit + 1, 5000))}
        listing = await self._listing(prefix, query, version=_VERSION_WITH_START)
        objects = listing.objects()
        if listing.is_refused or (objects and objects[0].uri.encode() < start_after.encode()):
            self._can_seek = False
            return ListPage((), None)
        found = tuple(item for item in objects if item.uri != start_after)
        return ListPage(found[:limit], listing.next_marker or ("more" if len(found) > limit else None))

    async def version_page(self, prefix: str, *, after: str | None = None, token: str | None = None) -> VersionPage:  # noqa: ARG002  # a hint that Azure has no use for
        """List the versions of up to 5000 blobs (List Blobs with versions), in one request for each five thousand.

        Azure doesn't say when a blob was deleted: its versions are listed, none of which is the latest. A container
        that keeps no versions has one of each blob, `"null"`.

        Raises:
            StorageError: or below: no such container, no permission, no answer.
            InvalidSourceError: not a URI of Azure.
        """
        marker, _, done = ("", "", "") if token is None else token.partition("\n")
        query = {"include": "versions"} | ({"marker": marker} if marker else {})
        listing = await self._listing(prefix, query)
        blobs = [blob for blob in listing.blobs if blob.name != done]
        while listing.next_marker is not None:
            # The versions of the last blob may go on in the next answer.
            last, marker = blobs[-1].name if blobs else done, listing.next_marker
            listing = await self._listing(prefix, {"include": "versions", "marker": marker})
            rest = [blob for blob in listing.blobs if blob.name == last]
            blobs += rest if last != done else []
            if len(rest) < len(listing.blobs):
                return VersionPage(listing.versions(blobs), f"{marker}\n{last}")
        return VersionPage(listing.versions(blobs), None)

    async def _listing(self, prefix: str, query: Mapping[str, str], *, version: str = _VERSION) -> AzureListing:
        account, container, name_prefix = split_azure_uri(prefix, self._account)
        arguments = {"restype": "container", "comp": "list", "prefix": name_prefix, **query}
        url = f"{account.endpoint}/{quote(container, safe='')}?{urlencode(arguments, quote_via=quote)}"
        answer = await self._taken(Asked(uri=prefix, url=url, headers={"x-ms-version": version}))
        root = prefix.removesuffix(name_prefix)
        if answer.status == 400 and version != _VERSION:
            return AzureListing(root, (), None, is_refused=True)
        if refused(answer):
            raise self._refusal(answer.status, answer.headers, answer.body).error(prefix)
        return await self._parsed(prefix, answer.body, lambda body: parse_listing(body, root))

    # -- what `RestSession` asks

    async def _signed(self, asked: Asked) -> Head:
        account, _, _ = split_azure_uri(asked.uri, self._account)
        headers = {"x-ms-version": _VERSION, **asked.headers}
        headers["x-ms-date"] = format_datetime(datetime.now(UTC), usegmt=True)
        url = asked.url
        if account.sas is not None:
            url = f"{url}{'&' if '?' in url else '?'}{account.sas}"
        elif account.key is not None:
            headers["authorization"] = account.authorization(asked.method, url, headers)
        elif not self._is_anonymous:
            headers["authorization"] = f"Bearer {(await self._token(asked.uri)).value}"
        return url, headers

    async def _token(self, uri: str) -> Token:
        try:
            return await self._tokens.current()
        except ImportError as error:
            raise ConfigurationError("az:// needs the extra 'azure': pip install 'datacachalog[azure]'") from error
        except Exception as error:  # noqa: BLE001  # whatever azure-identity and its transports raise
            hint = "az login, AzureStorage(account=…, account_key=…), or anonymous=True for public containers"
            raise CredentialsError(uri, text_of(error).partition("\n")[0], hint=hint) from None

    def _forget_credentials(self) -> bool:
        has_token = self._tokens.token is not None
        self._tokens.forget()
        return has_token

    def _refusal(self, status: int, headers: Headers, body: bytes) -> Refusal:
        code, message = headers.get("x-ms-error-code", ""), ""
        try:
            root = ET.fromstring(body) if body.strip() else None  # noqa: S314  # expat bounds its entities
        except ET.ParseError:
            root = None
        if root is not None:
            # The text goes on with the request's id and time, and with what was signed.
            code = code or root.findtext("Code") or ""
            message = (root.findtext("Message") or "").partition("\n")[0]
        return Refusal(status, code, message, retry_after(headers))

    def _read_arguments(self, request: ReadRequest) -> Asked:
        query = {} if request.version_id is None else {"versionid": request.version_id}
        headers = {}
        if request.stop is not None or request.start > 0:
            headers["range"] = f"bytes={request.start}-{'' if request.stop is None else request.stop - 1}"
        if request.if_match is not None:
            headers["if-match"] = f'"{request.if_match}"'
        if request.if_none_match is not None:
            headers["if-none-match"] = f'"{request.if_none_match}"'
        return Asked(uri=request.uri, url=self.blob_url(request.uri, query), headers=headers)

    def _read_metadata(self, headers: Headers, size: int, *, is_whole: bool) -> FileMetadata:
        md5 = headers.get("x-ms-blob-content-md5") or (headers.get("content-md5") if is_whole else None)
        checksum = None if md5 is None else parse_digest(f"md5:{md5}")
        etag = normalize_etag(headers.get("etag"))
        return FileMetadata(etag, http_date(headers), size, headers.get("x-ms-version-id"), checksum)

    def blob_url(self, uri: str, query: Mapping[str, str]) -> str:
        """Give the URL of a blob.

        Raises:
            InvalidSourceError: not a URI of Azure, or without a blob.
        """
        account, container, key = split_azure_uri(uri, self._account)
        if not key:
            raise InvalidSourceError(uri, "it names a container and no blob; end it with '/' to mean all its files")
        path = "/".join(map(_encoded, key.split("/")))
        url = f"{account.endpoint}/{quote(container, safe='')}/{path}"
        return f"{url}?{urlencode(query, quote_via=quote)}" if query else url

    # -- obstore

    def _bucket_and_key(self, uri: str) -> tuple[str, str]:
        _, _, key = split_azure_uri(uri, self._account)
        return uri.removesuffix(key), key

    def _obstore(self, root: str, client_options: Mapping[str, Any], retry_config: Mapping[str, Any]) -> Any:
        from obstore.store import AzureStore

        account, container, _ = split_azure_uri(root, self._account)
        options: Any = {**client_options, "allow_http": account.endpoint.startswith("http://")}
        shown = self._shown(account)
        return AzureStore(
            container,
            config={"account_name": account.name, "endpoint": account.endpoint, "skip_signature": shown is None},
            client_options=options,
            retry_config=dict(retry_config),  # type: ignore[arg-type]  # a TypedDict
            **({} if shown is None else {"credential_provider": shown}),  # type: ignore[arg-type]
        )

    def _shown(self, account: Account) -> Callable[[], Any] | None:
        """Give what obstore asks for credentials; None if it is to show none."""
        if account.sas is not None:
            return lambda: {"sas_token": account.sas, "expires_at": None}
        if account.key is not None:
            return lambda: {"access_key": base64.b64encode(account.key or b"").decode(), "expires_at": None}
        if self._is_anonymous:
            return None
        return lambda: self._tokens.token and self._tokens.token.credential()


def _encoded(segment: str) -> str:
    # A segment of dots would be taken away on the way.
    return segment.replace(".", "%2E") if segment in (".", "..") else quote(segment, safe="")


def _demand(request: ReadRequest) -> Any:
    demand: dict[str, str] = {"if_match": f'"{request.if_match}"'}
    return demand if request.version_id is None else {**demand, "version": request.version_id}


def _etag_of(meta: Mapping[str, Any]) -> str | None:
    return normalize_etag(meta["e_tag"])


def _finder() -> Callable[[], Token]:
    with forks_held_back():
        from azure.identity import DefaultAzureCredential

    credential = DefaultAzureCredential()

    def give() -> Token:
        token = credential.get_token(_SCOPE)
        return Token(token.token, float(token.expires_on))

    return give
