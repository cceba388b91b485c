"""What does a failure of an HTTP server, or of the way to it, mean to a caller? Mapped here, once.

Source: RFC 9110, section 15, and RFC 6585 for 429.
"""

from __future__ import annotations

import http
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from .._errors import (
    AccessDeniedError,
    CredentialsError,
    DatacachalogError,
    InvalidSourceError,
    ObjectNotFoundError,
    StorageError,
    StorageUnreachableError,
    ThrottledError,
)
from ._http_fields import parse_retry_after
from ._redacting import cause_of, text_of

_LATER = frozenset({408, 425})


@contextmanager
def http_failures(uri: str) -> Iterator[None]:
    """Map what aiohttp, which is imported by now, and the network raise.

    Raises:
        StorageError: or below, by what happened.
        InvalidSourceError: a URL that can't be asked for.
    """
    import aiohttp

    try:
        yield
    except DatacachalogError:
        raise
    except aiohttp.InvalidURL as error:
        raise InvalidSourceError(uri, "it is no URL that can be asked for") from cause_of(error)
    except (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError) as error:
        hint = "check its certificate; SSL_CERT_FILE names the authorities to be trusted"
        raise StorageUnreachableError(uri, text_of(error), hint=hint) from cause_of(error)
    except aiohttp.ClientResponseError as error:
        # Without its cause: that one holds the request's headers.
        raise StorageUnreachableError(
            uri,
            f"what answered can't be understood as HTTP: {text_of(error)}",
            hint="check the address, and the proxy if there is one",
        ) from None
    except (aiohttp.ClientError, OSError) as error:
        text = text_of(error) or type(error).__name__
        raise StorageUnreachableError(uri, text, hint="check the network and the address") from cause_of(error)
    except (ValueError, LookupError) as error:
        raise StorageUnreachableError(
            uri, f"what answered can't be understood as HTTP: {text_of(error)}", hint="check the address"
        ) from cause_of(error)


def error_of_status(uri: str, status: int, headers: Mapping[str, str]) -> StorageError:
    """Give the error that a status means. What the remote says in words is left out: it may repeat what was sent."""
    try:
        cause = f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        cause = str(status)
    retry_after_seconds = parse_retry_after(headers.get("Retry-After"))
    if status in (404, 410):
        return ObjectNotFoundError(uri, cause, hint="check the address; a cached copy, if there is one, is kept")
    if status == 401:
        hint = "set HTTPStorage(credentials=…) for its origin; the remote wants others, or knows these no more"
        return CredentialsError(uri, cause, hint=hint)
    if status == 407:
        return CredentialsError(uri, cause, hint="the proxy wants a user and a password")
    if status == 403:
        return AccessDeniedError(uri, cause, hint="the credentials in use may not read it, or a signed URL has expired")
    if status == 429:
        return ThrottledError(uri, cause, hint="lower max_concurrency", retry_after_seconds=retry_after_seconds)
    if status >= 500 or status in _LATER:
        return StorageUnreachableError(uri, cause, retry_after_seconds=retry_after_seconds)
    return StorageError(uri, cause)
