"""What is asked of S3, and what is an answer? The values between the wire and the operations."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from xml.sax.saxutils import escape

from ._objects import S3Error
from ._wire import RequestHead

XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
"""The attribute of the root element of S3's XML."""

_VIRTUAL_HOST_SUFFIX = ".localhost"


@dataclass(frozen=True, slots=True)
class Request:
    """A request to S3.

    Args:
        method: HTTP's.
        bucket: empty for a request to the service.
        key: empty for a request to a bucket.
        query: its parameters.
        headers: names in lower case.
        body: decoded from `Transfer-Encoding`, not from `aws-chunked`.
    """

    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def uri(self) -> str:
        """The object, or the bucket with the prefix of a listing."""
        return f"s3://{self.bucket}/{self.key or self.query.get('prefix', '')}"

    @property
    def is_listing(self) -> bool:
        """Whether objects, or their versions, are listed."""
        return self.operation in ("ListObjectsV2", "ListObjectVersions")

    @property
    def operation(self) -> str:
        """S3's name of what is asked for; of a request that isn't understood, the method."""
        if self.key:
            flags = self.query.keys() & {"uploadId", "partNumber", "uploads"}
            return _OBJECT_OPERATIONS.get((self.method, frozenset(flags)), self.method)
        if self.bucket:
            if self.query.get("list-type") == "2":
                flag = "list-type"
            else:
                flag = next((name for name in ("versions", "versioning", "location") if name in self.query), "")
            return _BUCKET_OPERATIONS.get((self.method, flag), self.method)
        return self.method


_OBJECT_OPERATIONS = {
    ("GET", frozenset()): "GetObject",
    ("GET", frozenset({"partNumber"})): "GetObject",
    ("HEAD", frozenset()): "HeadObject",
    ("HEAD", frozenset({"partNumber"})): "HeadObject",
    ("PUT", frozenset()): "PutObject",
    ("DELETE", frozenset()): "DeleteObject",
    ("POST", frozenset({"uploads"})): "CreateMultipartUpload",
    ("PUT", frozenset({"uploadId", "partNumber"})): "UploadPart",
    ("POST", frozenset({"uploadId"})): "CompleteMultipartUpload",
    ("DELETE", frozenset({"uploadId"})): "AbortMultipartUpload",
}
_BUCKET_OPERATIONS = {
    ("GET", "list-type"): "ListObjectsV2",
    ("GET", "versions"): "ListObjectVersions",
    ("GET", "versioning"): "GetBucketVersioning",
    ("PUT", "versioning"): "PutBucketVersioning",
    ("GET", "location"): "GetBucketLocation",
    ("PUT", ""): "CreateBucket",
    ("HEAD", ""): "HeadBucket",
}


@dataclass(slots=True)
class Answer:
    """What S3 answers.

    Args:
        status: HTTP's.
        headers: names as they are sent.
        body: its pieces, for the socket to take without a copy.
        content_length: what the header says; of a HEAD, of the body that isn't sent.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: list[memoryview] = field(default_factory=list)
    content_length: int = 0


def request_of(head: RequestHead, body: bytes = b"") -> Request:
    """Tell bucket and key apart: by the path, or by a `Host` of `bucket.localhost`."""
    host = head.headers.get("host", "").partition(":")[0].lower()
    if host.endswith(_VIRTUAL_HOST_SUFFIX):
        bucket, key = host[: -len(_VIRTUAL_HOST_SUFFIX)], head.path[1:]
    else:
        bucket, _, key = head.path[1:].partition("/")
    return Request(head.method, bucket, key, head.query, head.headers, body)


def require_access_key(request: Request, access_keys: Collection[str], expired_keys: Collection[str]) -> None:
    """Refuse who doesn't sign, or signs with another key; the signature itself isn't checked."""
    given = re.search(r"Credential=([^/,\s]+)/", request.headers.get("authorization", ""))
    credential = given[1] if given else request.query.get("X-Amz-Credential", "").partition("/")[0]
    if not credential:
        raise S3Error(403, "AccessDenied", "Access Denied")
    if credential in access_keys:
        return
    if credential in expired_keys:
        raise S3Error(400, "ExpiredToken", "The provided token has expired.")
    message = "The AWS Access Key Id you provided does not exist in our records."
    raise S3Error(403, "InvalidAccessKeyId", message, fields={"AWSAccessKeyId": credential})


def without_range(request: Request) -> Request:
    """Give the request as it would be without a range."""
    return replace(request, headers={name: value for name, value in request.headers.items() if name != "range"})


def error_answer(request: Request, error: S3Error) -> Answer:
    """Write an error as S3 does; without a body for a HEAD and a 304."""
    headers = dict(error.headers)
    if request.method == "HEAD" or error.status == 304:
        return Answer(error.status, headers)
    fields = {"Code": error.code, "Message": error.message, **error.fields}
    if request.bucket:
        fields["Resource"] = f"/{request.bucket}/{request.key}"
    elements = "".join(f"<{name}>{xml_text(value)}</{name}>" for name, value in fields.items())
    return xml_answer(f"<Error>{elements}</Error>", status=error.status, headers=headers)


def xml_text(text: str) -> str:
    """Escape a text for XML."""
    return escape(text, {"\r": "&#13;"})


def xml_answer(content: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Give an answer whose body is XML."""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{content}'.encode()
    return Answer(status, {**(headers or {}), "content-type": "application/xml"}, [memoryview(body)], len(body))
