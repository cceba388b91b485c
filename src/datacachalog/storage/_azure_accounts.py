"""Whose account is it, where is it, and how are requests to it signed? Decided without I/O."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from .._errors import ConfigurationError, InvalidSourceError

if TYPE_CHECKING:
    from ._azure import AzureStorage

# https://learn.microsoft.com/azure/storage/common/storage-use-azurite
_DEVELOPMENT = {
    "AccountName": "devstoreaccount1",
    "AccountKey": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "BlobEndpoint": "http://127.0.0.1:10000/devstoreaccount1",
}
_SIGNED_HEADERS = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)
# A token is sent to no other host, whatever a source names.
_DFS_HOST = re.compile(r"([a-z0-9]{3,24})\.dfs\.core\.(windows\.net|chinacloudapi\.cn|usgovcloudapi\.net)")


@dataclass(frozen=True, slots=True)
class Account:
    """A storage account.

    Args:
        name: it.
        endpoint: where its containers are, without a final slash.
        key: signs the requests.
        sas: goes with the requests instead: the query that a shared access signature is.
    """

    name: str
    endpoint: str
    key: bytes | None = field(default=None, repr=False)
    sas: str | None = field(default=None, repr=False)

    def authorization(self, method: str, url: str, headers: Mapping[str, str]) -> str:
        """Sign a request with the account's key.

        https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
        """
        assert self.key is not None  # noqa: S101  # the caller has looked
        parts = urlsplit(url)
        values = [headers.get(name, "") for name in _SIGNED_HEADERS]
        if headers.get("content-length") == "0":
            values[2] = ""
        own = sorted(f"{name}:{value}\n" for name, value in headers.items() if name.startswith("x-ms-"))
        query = sorted((name.lower(), value) for name, value in parse_qsl(parts.query, keep_blank_values=True))
        resource = "".join([f"/{self.name}{parts.path}", *[f"\n{name}:{value}" for name, value in query]])
        text = "\n".join([method, *values, "".join(own) + resource])
        digest = hmac.digest(self.key, text.encode(), hashlib.sha256)
        return f"SharedKey {self.name}:{base64.b64encode(digest).decode()}"


def account_of(storage: AzureStorage, environment: Mapping[str, str]) -> Account | None:
    """Give the account that settings or environment name; None if they name none.

    Raises:
        ConfigurationError: a connection string or a key that can't be read.
    """
    given = storage.connection_string
    is_explicit = storage.account is not None or given is not None
    if not is_explicit:
        given = environment.get("AZURE_STORAGE_CONNECTION_STRING")
    facts = {} if given is None else _facts(given)

    def named(argument: str | None, fact: str, *variables: str) -> str | None:
        found = argument or facts.get(fact)
        if found is None and not is_explicit:
            found = next((environment[name] for name in variables if environment.get(name)), None)
        return found

    endpoint = storage.endpoint_url or facts.get("BlobEndpoint")
    name = named(storage.account, "AccountName", "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")
    if name is None and endpoint is not None:
        name = _account_in(endpoint)
    if name is None:
        return None
    key = named(storage.account_key, "AccountKey", "AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY")
    sas = named(storage.sas_token, "SharedAccessSignature", "AZURE_STORAGE_SAS_TOKEN")
    if endpoint is None:
        suffix = facts.get("EndpointSuffix", "core.windows.net")
        endpoint = f"{facts.get('DefaultEndpointsProtocol', 'https')}://{name}.blob.{suffix}"
    if storage.anonymous:
        key = sas = None
    return Account(name, endpoint.rstrip("/"), _decoded(key), None if sas is None or key else sas.lstrip("?"))


def split_azure_uri(uri: str, account: Account | None) -> tuple[Account, str, str]:
    """Give the account, the container and the key of a URI; the key is taken as it stands.

    `az://container/key` is of the account of the settings; `abfss://container@account.dfs.core.windows.net/key` says
    itself whose it is.

    Args:
        uri: it.
        account: of the settings.

    Raises:
        InvalidSourceError: another scheme, no container, or an account that isn't one of Azure's.
        ConfigurationError: the settings name no account, and neither does the URI.
    """
    scheme, _, rest = uri.partition("://")
    authority, _, key = rest.partition("/")
    if scheme.lower() == "az" and authority and "@" not in authority:
        if account is None:
            raise ConfigurationError(
                "az://container/key needs an account: AzureStorage(account=…) or AZURE_STORAGE_ACCOUNT; or name it in"
                " the source: abfss://container@account.dfs.core.windows.net/key"
            )
        return account, authority, key
    container, _, host = authority.partition("@")
    match = _DFS_HOST.fullmatch(host.lower())
    if scheme.lower() != "abfss" or not container or match is None:
        raise InvalidSourceError(
            uri, "a source of Azure is az://container/key or abfss://container@account.dfs.core.windows.net/key"
        )
    if account is not None and account.name == match[1]:
        return account, container, key
    return Account(match[1], f"https://{match[1]}.blob.core.{match[2]}"), container, key


def _facts(connection_string: str) -> dict[str, str]:
    facts = dict(part.strip().partition("=")[::2] for part in connection_string.split(";") if part.strip())
    if facts.get("UseDevelopmentStorage", "").lower() == "true":
        return _DEVELOPMENT
    if not {"AccountName", "BlobEndpoint"} & facts.keys():
        raise ConfigurationError("the connection string has neither AccountName nor BlobEndpoint")
    return facts


def _account_in(endpoint: str) -> str | None:
    """Give the account that an endpoint is of: the first label of Azure's, the first segment of an emulator's."""
    parts = urlsplit(endpoint)
    segment = parts.path.strip("/").partition("/")[0]
    return segment or (parts.hostname or "").partition(".")[0] or None


def _decoded(key: str | None) -> bytes | None:
    if key is None:
        return None
    try:
        return base64.b64decode(key, validate=True)
    except (ValueError, binascii.Error):
        raise ConfigurationError("the account key is no base64") from None
