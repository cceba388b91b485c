"""What does S3 answer to a request? From a request and the store's content to an answer, without sockets and faults.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from xml.etree import ElementTree as ET

from ._listings import list_objects, list_versions
from ._messages import XMLNS, Answer, Request, xml_answer, xml_text
from ._objects import CHECKSUM_ALGORITHMS, ObjectStore, S3Error, StoredVersion, checksum_of
from ._wire import WireError, decode_aws_chunked

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_KEPT_HEADERS = frozenset(
    {"content-type", "content-encoding", "content-language", "content-disposition", "cache-control", "expires"}
)
_PARAMETERS = frozenset(
    {
        "continuation-token",
        "delimiter",
        "encoding-type",
        "fetch-owner",
        "key-marker",
        "list-type",
        "location",
        "max-keys",
        "partNumber",
        "prefix",
        "start-after",
        "uploadId",
        "uploads",
        "version-id-marker",
        "versionId",
        "versioning",
        "versions",
        "x-id",
    }
)


def answer_of(store: ObjectStore, request: Request, *, has_checksums_on_ranges: bool) -> Answer:
    """Carry the request out.

    Raises:
        S3Error: it is refused.
    """
    operation = request.operation
    # What S3 knows and this server doesn't must not be taken for something else: PUT ?tagging would write an object.
    unknown = {n for n in request.query if n not in _PARAMETERS and not n.lower().startswith("x-amz-")}
    if unknown:
        raise S3Error(501, "NotImplemented", f"A FaultServer doesn't know {', '.join(sorted(unknown))}")
    if operation in ("GetObject", "HeadObject"):
        return _get_object(store, request, has_checksums_on_ranges=has_checksums_on_ranges)
    handler = _HANDLERS.get(operation)
    if handler is None or "x-amz-copy-source" in request.headers:
        raise S3Error(501, "NotImplemented", "A FaultServer doesn't do that")
    return handler(store, request)


# -- reading objects


def _get_object(store: ObjectStore, request: Request, *, has_checksums_on_ranges: bool) -> Answer:
    version = store.find(request.bucket, request.key, request.query.get("versionId"))
    headers = _version_headers(version, is_versioned=store.is_versioned(request.bucket))
    _check_read_conditions(request, version, headers)
    size = len(version.data)
    wanted = _part_of(request, version) or _range_of(request, size)
    start, stop = wanted or (0, size)
    has_checksums = request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED"
    if has_checksums and (stop - start == size or has_checksums_on_ranges):
        headers |= _checksum_headers(version)
    headers |= {"Accept-Ranges": "bytes", **version.headers}
    headers.setdefault("content-type", "binary/octet-stream")
    if version.part_sizes and "partNumber" in request.query:
        headers["x-amz-mp-parts-count"] = str(len(version.part_sizes))
    if wanted is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    body = [] if request.method == "HEAD" else [memoryview(version.data)[start:stop]]
    return Answer(200 if wanted is None else 206, headers, body, stop - start)


def _version_headers(version: StoredVersion, *, is_versioned: bool = False) -> dict[str, str]:
    """Give what tells the version; that it is "null" is told where the bucket keeps versions by now."""
    headers = {
        "ETag": f'"{version.etag}"',
        "Last-Modified": format_datetime(version.last_modified.astimezone(UTC), usegmt=True),
    }
    if is_versioned or version.version_id != "null":
        headers["x-amz-version-id"] = version.version_id
    return headers


def _checksum_headers(version: StoredVersion) -> dict[str, str]:
    headers = {f"x-amz-checksum-{algorithm}": value for algorithm, value in version.checksums.items()}
    if headers:
        headers["x-amz-checksum-type"] = "COMPOSITE" if version.is_composite else "FULL_OBJECT"
    return headers


def _check_read_conditions(request: Request, version: StoredVersion, headers: Mapping[str, str]) -> None:
    """Answer 412 or 304 where the conditions say so (RFC 9110, section 13.2.2), weak ETags like strong ones."""
    asked = request.headers
    message = "At least one of the pre-conditions you specified did not hold"
    written_at = version.last_modified.replace(microsecond=0)
    if "if-match" in asked:
        if not _names_etag(asked["if-match"], version.etag):
            raise S3Error(412, "PreconditionFailed", message, fields={"Condition": "If-Match"})
    elif (limit := _date(asked.get("if-unmodified-since"))) and written_at > limit:
        raise S3Error(412, "PreconditionFailed", message, fields={"Condition": "If-Unmodified-Since"})
    if "if-none-match" in asked:
        is_unmodified = _names_etag(asked["if-none-match"], version.etag)
    else:
        limit = _date(asked.get("if-modified-since"))
        is_unmodified = limit is not None and written_at <= limit
    if is_unmodified:
        raise S3Error(304, "NotModified", "Not Modified", headers=headers)


def _names_etag(condition: str, etag: str) -> bool:
    return any(_bare_etag(named) in ("*", etag) for named in condition.split(","))


def _bare_etag(etag: str) -> str:
    return etag.strip().removeprefix("W/").strip('"')


def _date(value: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(value) if value else None
    except ValueError:
        return None


def _part_of(request: Request, version: StoredVersion) -> tuple[int, int] | None:
    """Give the bytes of the part that is asked for, or None for none.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    """
    asked = request.query.get("partNumber")
    if asked is None:
        return None
    sizes = version.part_sizes or (len(version.data),)
    if not asked.isdigit() or not 1 <= int(asked) <= len(sizes):
        raise S3Error(416, "InvalidPartNumber", "The requested partnumber is not satisfiable")
    stop = sum(sizes[: int(asked)])
    return stop - sizes[int(asked) - 1], stop


def _range_of(request: Request, size: int) -> tuple[int, int] | None:
    """Give the bytes asked for, or None for all: without a range, or with one that can't be read (RFC 9110, 14.2)."""
    asked = request.headers.get("range")
    match = _RANGE.fullmatch(asked.replace(" ", "")) if asked else None
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size - int(last))
    stop = min(int(last) + 1, size) if first and last else size
    if start >= size:
        fields = {"RangeRequested": asked or "", "ActualObjectSize": str(size)}
        headers = {"Content-Range": f"bytes */{size}"}
        raise S3Error(416, "InvalidRange", "The requested range is not satisfiable", fields=fields, headers=headers)
    return start, stop


# -- writing objects


def _put_object(store: ObjectStore, request: Request) -> Answer:
    store.require_bucket(request.bucket)
    data, checksums = _checked_body(request)
    version = store.put(
        request.bucket,
        request.key,
        data,
        checksums=checksums,
        headers=_kept_headers(request),
        if_match=_write_condition(request, "if-match"),
        if_none_match=_write_condition(request, "if-none-match"),
    )
    return _written(version)


def _written(version: StoredVersion) -> Answer:
    headers = _version_headers(version) | _checksum_headers(version)
    del headers["Last-Modified"]
    return Answer(200, headers)


def _write_condition(request: Request, name: str) -> str | None:
    given = request.headers.get(name)
    return None if given is None else _bare_etag(given)


def _kept_headers(request: Request) -> dict[str, str]:
    kept = {n: v for n, v in request.headers.items() if n in _KEPT_HEADERS or n.startswith("x-amz-meta-")}
    # aws-chunked is how the request was sent, not what the object is.
    encodings = [e.strip() for e in kept.pop("content-encoding", "").split(",") if e.strip() not in ("", "aws-chunked")]
    return kept | ({"content-encoding": ",".join(encodings)} if encodings else {})


def _checked_body(request: Request) -> tuple[bytes, dict[str, str]]:
    """Decode the body and compare it with the checksums that came with it."""
    data, sent = request.body, dict(request.headers)
    is_streamed = sent.get("x-amz-content-sha256", "").startswith("STREAMING-")
    if is_streamed or "aws-chunked" in sent.get("content-encoding", ""):
        try:
            data, trailers = decode_aws_chunked(data)
        except WireError as error:
            raise S3Error(400, "IncompleteBody", str(error)) from error
        sent |= trailers
        if int(sent.get("x-amz-decoded-content-length", len(data))) != len(data):
            raise S3Error(400, "IncompleteBody", "The body has not the length that its header says")
    checksums = {
        name: sent[f"x-amz-checksum-{name}"] for name in CHECKSUM_ALGORITHMS if f"x-amz-checksum-{name}" in sent
    }
    for algorithm, value in checksums.items():
        if checksum_of(algorithm, (data,)) != value:
            message = f"The {algorithm.upper()} you specified did not match the calculated checksum."
            raise S3Error(400, "BadDigest", message)
    if "content-md5" in sent:
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        if base64.b64encode(digest).decode() != sent["content-md5"]:
            raise S3Error(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
    return data, checksums


def _delete_object(store: ObjectStore, request: Request) -> Answer:
    gone = store.delete(request.bucket, request.key, request.query.get("versionId"))
    headers = {}
    if gone is not None and gone.version_id != "null":
        headers["x-amz-version-id"] = gone.version_id
    if gone is not None and gone.is_delete_marker:
        headers["x-amz-delete-marker"] = "true"
    return Answer(204, headers)


def _create_upload(store: ObjectStore, request: Request) -> Answer:
    algorithm = request.headers.get("x-amz-checksum-algorithm")
    kind = request.headers.get("x-amz-checksum-type")
    upload_id = store.create_upload(
        request.bucket,
        request.key,
        algorithm=algorithm.lower() if algorithm else None,
        is_composite=None if kind is None else kind.upper() == "COMPOSITE",
        headers=_kept_headers(request),
    )
    names = (
        f"<Bucket>{xml_text(request.bucket)}</Bucket><Key>{xml_text(request.key)}</Key><UploadId>{upload_id}</UploadId>"
    )
    root = "InitiateMultipartUploadResult"
    return xml_answer(f"<{root} {XMLNS}>{names}</{root}>")


def _upload_part(store: ObjectStore, request: Request) -> Answer:
    number = request.query["partNumber"]
    if not number.isdigit() or not 1 <= int(number) <= 10_000:
        message = "Part number must be an integer between 1 and 10000, inclusive"
        raise S3Error(400, "InvalidArgument", message, fields={"ArgumentName": "partNumber"})
    data, checksums = _checked_body(request)
    etag = store.put_part(request.bucket, request.key, request.query["uploadId"], int(number), data, checksums)
    headers = {"ETag": f'"{etag}"'}
    return Answer(200, headers | {f"x-amz-checksum-{name}": value for name, value in checksums.items()})


def _complete_upload(store: ObjectStore, request: Request) -> Answer:
    try:
        root = ET.fromstring(request.body)  # noqa: S314  # written by the tests' own clients
        parts = [
            (int(part.findtext("{*}PartNumber", "")), _bare_etag(part.findtext("{*}ETag", "")))
            for part in root.iterfind("{*}Part")
        ]
    except (ET.ParseError, ValueError) as error:
        raise S3Error(400, "MalformedXML", "The XML you provided was not well-formed.") from error
    version = store.complete_upload(
        request.bucket,
        request.key,
        request.query["uploadId"],
        parts,
        checksums={n: v for n in CHECKSUM_ALGORITHMS if (v := request.headers.get(f"x-amz-checksum-{n}")) is not None},
        size=int(size) if (size := request.headers.get("x-amz-mp-object-size")) is not None else None,
        if_match=_write_condition(request, "if-match"),
        if_none_match=_write_condition(request, "if-none-match"),
    )
    answer = _written(version)
    root_name = "CompleteMultipartUploadResult"
    elements = f"<Bucket>{xml_text(request.bucket)}</Bucket><Key>{xml_text(request.key)}</Key>"
    elements += f"<ETag>&quot;{version.etag}&quot;</ETag>"
    for algorithm, value in version.checksums.items():
        elements += f"<Checksum{algorithm.upper()}>{value}</Checksum{algorithm.upper()}>"
        elements += f"<ChecksumType>{answer.headers['x-amz-checksum-type']}</ChecksumType>"
    return xml_answer(f"<{root_name} {XMLNS}>{elements}</{root_name}>", headers=answer.headers)


def _abort_upload(store: ObjectStore, request: Request) -> Answer:
    store.abort_upload(request.bucket, request.key, request.query["uploadId"])
    return Answer(204)


# -- buckets


def _create_bucket(store: ObjectStore, request: Request) -> Answer:
    store.create_bucket(request.bucket)
    return Answer(200, {"Location": f"/{request.bucket}"})


def _head_bucket(store: ObjectStore, request: Request) -> Answer:
    store.require_bucket(request.bucket)
    return Answer(200)


def _get_bucket_location(store: ObjectStore, request: Request) -> Answer:
    store.require_bucket(request.bucket)
    return xml_answer(f"<LocationConstraint {XMLNS}/>")


def _get_bucket_versioning(store: ObjectStore, request: Request) -> Answer:
    status = "<Status>Enabled</Status>" if store.is_versioned(request.bucket) else ""
    return xml_answer(f"<VersioningConfiguration {XMLNS}>{status}</VersioningConfiguration>")


def _put_bucket_versioning(store: ObjectStore, request: Request) -> Answer:
    store.require_bucket(request.bucket)
    store.create_bucket(request.bucket, is_versioned=b"<Status>Enabled</Status>" in request.body)
    return Answer(200)


_HANDLERS: Mapping[str, Callable[[ObjectStore, Request], Answer]] = {
    "PutObject": _put_object,
    "DeleteObject": _delete_object,
    "CreateMultipartUpload": _create_upload,
    "UploadPart": _upload_part,
    "CompleteMultipartUpload": _complete_upload,
    "AbortMultipartUpload": _abort_upload,
    "CreateBucket": _create_bucket,
    "HeadBucket": _head_bucket,
    "GetBucketLocation": _get_bucket_location,
    "GetBucketVersioning": _get_bucket_versioning,
    "PutBucketVersioning": _put_bucket_versioning,
    "ListObjectsV2": list_objects,
    "ListObjectVersions": list_versions,
}
