"""What does a failure of S3, or of the way to it, mean to a caller? Mapped here, once.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html for the codes; RFC 9110 for the statuses.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
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
from ._http1 import HttpError
from ._http_fields import parse_retry_after
from ._redacting import cause_of, redacted, text_of

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


class ChecksumsRefusedError(StorageError):
    """The store doesn't know what was said of checksums; or, as a HEAD's answer has no words, it may be that."""


class s3_failures:  # noqa: N801  # used like a function
    """Map what botocore, aiohttp and the network raise.

    Args:
        uri: the object that was asked for.
        version_id: which version of it, if it was one.

    Raises:
        StorageError: or below, by what the remote said.
        InvalidSourceError: a bucket name or key that S3 can't have.
        ConfigurationError: settings that botocore refuses.
    """

    __slots__ = ("_uri", "_version_id")

    def __init__(self, uri: str, version_id: str | None = None) -> None:
        self._uri = uri
        self._version_id = version_id

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Raise what an error means in its place."""
        if not isinstance(error, Exception) or isinstance(error, DatacachalogError):
            return
        uri = self._uri
        mapped = _botocores_failure(uri, error, self._version_id) if "botocore" in sys.modules else None
        mapped = mapped or _failure(uri, error)
        if mapped is not None:
            raise mapped from cause_of(error)


def _failure(uri: str, error: Exception) -> DatacachalogError | None:
    """Say what an error of the network means, or of an answer that isn't one."""
    if isinstance(error, ValueError | LookupError | HttpError):
        return StorageUnreachableError(
            uri,
            f"what answered can't be understood as S3: {text_of(error)}",
            hint="check the endpoint, and whether a proxy or a login page answers in its place",
        )
    if isinstance(error, OSError):
        return StorageUnreachableError(
            uri, text_of(error) or type(error).__name__, hint="check the network and the endpoint"
        )
    return None


def _botocores_failure(uri: str, error: Exception, version_id: str | None) -> DatacachalogError | None:
    """Say what an error of botocore or aiohttp means; both are imported by now."""
    import aiohttp
    import botocore.exceptions as boto
    from botocore.parsers import ResponseParserError

    match error:
        case boto.ClientError():
            return error_of_answer(uri, error.response, version_id)
        case (
            boto.NoCredentialsError()
            | boto.PartialCredentialsError()
            | boto.CredentialRetrievalError()
            | boto.TokenRetrievalError()
            | boto.SSOError()
            | boto.ProfileNotFound()
            | boto.NoAuthTokenError()
        ):
            hint = "log in or set a profile, S3Storage(profile=…), or S3Storage(anonymous=True) for public data"
            return CredentialsError(uri, text_of(error), hint=hint)
        case boto.HTTPClientError() | boto.ConnectionError() | aiohttp.ClientError():
            hint = "check the network and the endpoint"
            return StorageUnreachableError(uri, text_of(error) or type(error).__name__, hint=hint)
        case boto.ParamValidationError():
            return InvalidSourceError(uri, text_of(error))
        case boto.BotoCoreError():
            return ConfigurationError(f"{redact_uri(uri)}: {text_of(error)}")
        case ResponseParserError():
            return _failure(uri, ValueError(text_of(error)))
        case _:
            return None


def error_of_answer(
    uri: str, answer: Mapping[str, Any], version_id: str | None = None, *, doing: str = "read"
) -> DatacachalogError:
    """Give the error that an answer of S3 means. A HEAD has no body: there the code is the status.

    Args:
        uri: the object that was asked for.
        answer: as botocore's errors have it.
        version_id: which version of it, if it was one.
        doing: what was to be done with it.
    """
    code = str(answer.get("Error", {}).get("Code", ""))
    metadata = answer.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    said = redacted(str(answer.get("Error", {}).get("Message", ""))).rstrip(".")
    cause = f"{status} {code}: {said}" if code != str(status) else f"{status} {said}"
    hint = _HINT_OF_CODE.get(code, _REDIRECT_HINT if 300 <= status < 400 else "")
    retry_after_seconds = parse_retry_after(metadata.get("HTTPHeaders", {}).get("retry-after"))
    if code == "InvalidBucketName":
        return InvalidSourceError(uri, cause)
    if code == "NoSuchBucket":
        return BucketNotFoundError(uri, cause, hint="check the bucket's name and endpoint_url")
    # No such key has no such version; one that is a delete marker can't be read (405), nor what is no id at all (400).
    is_no_id = code == "InvalidArgument" and "version" in said.lower()
    if code == "NoSuchVersion" or (version_id is not None and (status in (404, 405) or is_no_id)):
        return VersionNotFoundError(uri, f"version {version_id}: {cause}", hint="versions() lists those there are")
    if code == "NoSuchKey" or status == 404:
        return ObjectNotFoundError(uri, cause, hint="check the key; a cached copy, if there is one, is kept")
    if code in _CREDENTIALS or status == 401:
        return CredentialsError(uri, cause, hint=hint)
    if code in _THROTTLED or status == 429:
        return ThrottledError(uri, cause, hint="lower max_concurrency", retry_after_seconds=retry_after_seconds)
    if status == 403:
        denied = f"the credentials in use may not {doing} it"
        if version_id is not None:
            denied += ": a version needs s3:GetObjectVersion"
        return AccessDeniedError(uri, cause, hint=hint or denied)
    if is_about_checksums(answer) or (status == 400 and code == str(status) and not said):
        return ChecksumsRefusedError(uri, cause, hint=hint)
    if status >= 500 or code == "RequestTimeout":
        return StorageUnreachableError(uri, cause, retry_after_seconds=retry_after_seconds)
    return StorageError(uri, cause, hint=hint)


def is_about_checksums(answer: Mapping[str, Any]) -> bool:
    """Whether a refusal says that the store doesn't know checksums, as some don't; not that one is wrong."""
    error = answer.get("Error", {})
    said = f"{error.get('Code', '')} {error.get('Message', '')}"
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return status in (400, 501) and error.get("Code") != "BadDigest" and "checksum" in said.lower()
