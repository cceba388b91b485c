"""What does a failure of S3, or of the way to it, mean to a caller? Mapped here, once.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html for the codes; RFC 9110 for the statuses.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any

from .._errors import (
    AccessDeniedError,
    BucketNotFoundError,
    ConfigurationError,
    CredentialsError,
    DatacachalogError,
    InvalidSourceError,
    ObjectNotFoundError,
    StorageError,
    StorageUnreachableError,
    ThrottledError,
    VersionNotFoundError,
    redact_uri,
)

_THROTTLED = frozenset(
    {
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "TooManyRequests",
        "TooManyRequestsException",
        "BandwidthLimitExceeded",
    }
)
_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "MissingSecurityHeader",
        "NotSignedUp",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
_HINT_OF_CODE = {
    "ExpiredToken": "log in again or renew the token",
    "InvalidObjectState": "the object is archived: restore it first",
    "InvalidAccessKeyId": "the store doesn't know this access key: check the profile, the environment and endpoint_url",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set S3Storage(region=…)",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "SignatureDoesNotMatch": "the secret key is wrong",
}
_REDIRECT_HINT = (
    "the bucket is in another region, or the store at another address: set S3Storage(region=…) or its endpoint_url"
)
_URL = re.compile(r"""https?://[^\s"'<>]+""")


@contextmanager
def s3_failures(uri: str) -> Iterator[None]:
    """Map what botocore, aiohttp and the network raise. The first use imports them: make it in a worker thread.

    Raises:
        StorageError: or below, by what the remote said.
        InvalidSourceError: a bucket name or key that S3 can't have.
        ConfigurationError: settings that botocore refuses.
    """
    import aiohttp
    import botocore.exceptions as boto
    from botocore.parsers import ResponseParserError

    try:
        yield
    except DatacachalogError:
        raise
    except boto.ClientError as error:
        raise error_of_answer(uri, error.response) from error
    except (
        boto.NoCredentialsError,
        boto.PartialCredentialsError,
        boto.CredentialRetrievalError,
        boto.TokenRetrievalError,
        boto.SSOError,
        boto.ProfileNotFound,
        boto.NoAuthTokenError,
    ) as error:
        hint = "log in or set a profile, S3Storage(profile=…), or S3Storage(anonymous=True) for public data"
        raise CredentialsError(uri, _text(error), hint=hint) from error
    except (
        boto.HTTPClientError,
        boto.ConnectionError,
        aiohttp.ClientError,
        TimeoutError,
        OSError,
    ) as error:
        raise StorageUnreachableError(
            uri, _text(error) or type(error).__name__, hint="check the network and the endpoint"
        ) from error
    except boto.ParamValidationError as error:
        raise InvalidSourceError(uri, _text(error)) from error
    except boto.BotoCoreError as error:
        raise ConfigurationError(f"{redact_uri(uri)}: {_text(error)}") from error
    except (ResponseParserError, ValueError, LookupError) as error:
        raise StorageUnreachableError(
            uri,
            f"what answered can't be understood as S3: {_text(error)}",
            hint="check the endpoint, and whether a proxy or a login page answers in its place",
        ) from error


def error_of_answer(uri: str, answer: Mapping[str, Any], *, doing: str = "read") -> DatacachalogError:
    """Give the error that an answer of S3 means. A HEAD has no body: there the code is the status."""
    code = str(answer.get("Error", {}).get("Code", ""))
    metadata = answer.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    said = _URL.sub(lambda match: redact_uri(match[0]), str(answer.get("Error", {}).get("Message", ""))).rstrip(".")
    cause = f"{status} {code}: {said}" if code != str(status) else f"{status} {said}"
    hint = _HINT_OF_CODE.get(code, _REDIRECT_HINT if 300 <= status < 400 else "")
    retry_after_seconds = parse_retry_after(metadata.get("HTTPHeaders", {}).get("retry-after"))
    if code == "InvalidBucketName":
        return InvalidSourceError(uri, cause)
    if code == "NoSuchBucket":
        return BucketNotFoundError(uri, cause, hint="check the bucket's name and endpoint_url")
    if code == "NoSuchVersion":
        return VersionNotFoundError(uri, cause)
    if code == "NoSuchKey" or status == 404:
        return ObjectNotFoundError(uri, cause, hint="check the key; a cached copy, if there is one, is kept")
    if code in _CREDENTIALS or status == 401:
        return CredentialsError(uri, cause, hint=hint)
    if code in _THROTTLED or status == 429:
        return ThrottledError(uri, cause, hint="lower max_concurrency", retry_after_seconds=retry_after_seconds)
    if status == 403:
        return AccessDeniedError(uri, cause, hint=hint or f"the credentials in use may not {doing} it")
    if status >= 500 or code == "RequestTimeout":
        return StorageUnreachableError(uri, cause, retry_after_seconds=retry_after_seconds)
    return StorageError(uri, cause, hint=hint)


def parse_retry_after(value: str | None) -> float | None:
    """Read a Retry-After header, seconds or a date (RFC 9110, section 10.2.3), as seconds from now."""
    if not value:
        return None
    try:
        if value.strip().isdigit():
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _text(error: BaseException) -> str:
    return _URL.sub(lambda match: redact_uri(match[0]), str(error))
