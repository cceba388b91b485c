"""What is asked for over HTTP, of whom, and with whose password? From the text of a URL, without asking anybody.

The path and the query are sent as they stand (a signature may be one of exactly this spelling); only what no URL can
have is percent-encoded. User and password never get into what is sent as a URL, nor to another origin.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import quote, unquote, urljoin

from .._errors import ConfigurationError, InvalidSourceError

Credential: TypeAlias = tuple[str, str] | str | Mapping[str, str]
"""User and password (RFC 7617), a bearer token (RFC 6750), or headers, `{"X-Api-Key": …}`."""

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::([0-9]{0,5}))?")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_KEPT = "!#$%&'()*+,/:;=?@[]~"  # what RFC 3986 reserves; the rest of ASCII that is no letter or digit is encoded
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class Address:
    """An address of HTTP.

    Args:
        origin: scheme, host and port: what credentials are for (RFC 9110, section 4.3.1).
        target: path and query, encoded.
        user: user and password that stood in the URL.
    """

    origin: str
    target: str = field(repr=False)
    user: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """What is asked for."""
        return self.origin + self.target


def parse_address(uri: str) -> Address:
    """Read a URL.

    Raises:
        InvalidSourceError: it is none of HTTP.
    """
    scheme, separator, rest = uri.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _PORTS:
        raise InvalidSourceError(uri, "an HTTP source is http://host/path or https://host/path")
    authority, target = _cut(rest.partition("#")[0])
    user, has_user, host = authority.rpartition("@")
    name, colon, password = user.partition(":")
    try:
        target = quote(_STRAY_PERCENT.sub("%25", target), safe=_KEPT)
        origin = _origin(scheme, host)
    except ValueError as error:
        raise InvalidSourceError(uri, str(error)) from None
    return Address(origin, target, (unquote(name), unquote(password)) if has_user and (name or colon) else None)


def redirected(address: Address, location: str) -> Address:
    """Give where a redirect leads (RFC 9110, section 10.2.2).

    What is in the place's own user part is left out: whoever redirects doesn't say who we are.

    Raises:
        InvalidSourceError: it leads to what is no URL of HTTP, or from HTTPS to HTTP.
    """
    to = parse_address(urljoin(address.url, location))
    if address.origin.startswith("https:") and not to.origin.startswith("https:"):
        raise InvalidSourceError(
            to.url, "the remote redirects from https to http, where anybody could change the bytes"
        )
    return Address(to.origin, to.target, address.user if to.origin == address.origin else None)


def origin_of(url: str) -> str:
    """Give the origin that a key of `HTTPStorage(credentials=…)` means.

    Raises:
        ConfigurationError: it has a path, or is no origin of HTTP.
    """
    try:
        address = parse_address(url)
    except InvalidSourceError as error:
        raise ConfigurationError(f"credentials are for an origin like 'https://host': {error.reason}") from None
    if address.target != "/" or address.user is not None:
        raise ConfigurationError(
            f"credentials are for a whole origin like 'https://host:port', without user and path: got {address.origin}"
            " with more than that"
        )
    return address.origin


def headers_of(credential: object) -> dict[str, str]:
    """Give the headers that a credential is sent in.

    Raises:
        ConfigurationError: it is none.
    """
    match credential:
        case (str(user), str(password)):
            text = base64.b64encode(f"{user}:{password}".encode()).decode()
            headers = {"Authorization": f"Basic {text}"}
        case str(token):
            headers = {"Authorization": f"Bearer {token}"}
        case Mapping():
            headers = dict(credential)
        case _:
            kind = type(credential).__name__
            raise ConfigurationError(
                f"a credential is (user, password), a bearer token, or a mapping of headers: got a value of type {kind}"
            )
    for name, value in headers.items():
        is_text = isinstance(name, str) and isinstance(value, str)
        if not is_text or not _HEADER_NAME.fullmatch(name) or not value.isascii() or not value.isprintable():
            raise ConfigurationError("a credential that can't be sent: a header is printable ASCII, on one line")
    return headers


def _cut(rest: str) -> tuple[str, str]:
    """Cut authority from path and query, whose path is `/` if it is empty."""
    match = re.search(r"[/?]", rest)
    if match is None:
        return rest, "/"
    target = rest[match.start() :]
    return rest[: match.start()], target if target.startswith("/") else f"/{target}"


def _origin(scheme: str, host: str) -> str:
    try:
        ascii_host = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise ValueError("its host's name is none") from None
    match = _HOST.fullmatch(ascii_host)
    if match is None:
        raise ValueError("its host's name or its port is none")
    port = int(match[2] or _PORTS[scheme])
    if not 0 < port < 65536:
        raise ValueError("its port is none")
    return f"{scheme}://{match[1].lower()}" + ("" if port == _PORTS[scheme] else f":{port}")
