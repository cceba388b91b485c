"""What does S3 answer to a listing? Pages of keys in the order of their bytes, and a token to go on with."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC
from urllib.parse import quote

from ._messages import XMLNS, Answer, Request, xml_answer, xml_text
from ._objects import ObjectStore, S3Error, StoredVersion

_LISTING_MAX_KEYS = 1000


def list_objects(store: ObjectStore, request: Request) -> Answer:
    """List objects (ListObjectsV2)."""
    query = request.query
    prefix, count, spell = query.get("prefix", ""), _max_keys(query), _spelling(query)
    after = query.get("start-after", "")
    if "continuation-token" in query:
        try:
            after = base64.urlsafe_b64decode(query["continuation-token"]).decode()
        except (binascii.Error, ValueError) as error:
            message = "The continuation token provided is incorrect"
            raise S3Error(400, "InvalidArgument", message, fields={"ArgumentName": "continuation-token"}) from error
    found = _entries(store.list_current(request.bucket, prefix, after), prefix, query.get("delimiter", ""), after)
    page = found[:count]
    is_truncated = bool(page) and len(found) > count
    elements = [
        f"<Name>{xml_text(request.bucket)}</Name><Prefix>{spell(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount>",
        f"<MaxKeys>{count}</MaxKeys><IsTruncated>{str(is_truncated).lower()}</IsTruncated>",
        _encoding_type(query),
    ]
    if is_truncated:
        token = base64.urlsafe_b64encode(page[-1][0].encode()).decode()
        elements.append(f"<NextContinuationToken>{token}</NextContinuationToken>")
    for name, version in page:
        if version is None:
            elements.append(f"<CommonPrefixes><Prefix>{spell(name)}</Prefix></CommonPrefixes>")
        else:
            elements.append(
                f"<Contents><Key>{spell(name)}</Key>{_listed(version)}{_listed_checksum(version)}</Contents>"
            )
    return xml_answer(f"<ListBucketResult {XMLNS}>{''.join(elements)}</ListBucketResult>")


def _entries(
    versions: Iterable[StoredVersion], prefix: str, delimiter: str, after: str
) -> list[tuple[str, StoredVersion | None]]:
    """Give what a listing shows: objects by key, and in the place of those that share the next level, its prefix."""
    entries: dict[str, StoredVersion | None] = {}
    for version in versions:
        end = version.key.find(delimiter, len(prefix)) if delimiter else -1
        if end < 0:
            entries[version.key] = version
        elif (common := version.key[: end + len(delimiter)]) != after:
            entries[common] = None
    return list(entries.items())


def list_versions(store: ObjectStore, request: Request) -> Answer:
    """List all versions (ListObjectVersions)."""
    query = request.query
    if query.get("delimiter"):
        raise S3Error(501, "NotImplemented", "A FaultServer lists versions without a delimiter")
    prefix, count, spell = query.get("prefix", ""), _max_keys(query), _spelling(query)
    found = store.list_versions(request.bucket, prefix)
    key_marker, version_marker = query.get("key-marker", ""), query.get("version-id-marker", "")
    first = 0
    if key_marker:
        # Behind the marker's version, or without one behind all versions of the marker's key.
        first = next((i for i, (version, _) in enumerate(found) if version.key > key_marker), len(found))
        named = (i for i, (v, _) in enumerate(found) if (v.key, v.version_id) == (key_marker, version_marker))
        first = next((i + 1 for i in named), first)
    page = found[first : first + count]
    is_truncated = bool(page) and len(found) > first + count
    elements = [
        f"<Name>{xml_text(request.bucket)}</Name><Prefix>{spell(prefix)}</Prefix><KeyMarker>{spell(key_marker)}</KeyMarker>",
        f"<VersionIdMarker>{xml_text(version_marker)}</VersionIdMarker><MaxKeys>{count}</MaxKeys>",
        f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>{_encoding_type(query)}",
    ]
    if is_truncated:
        last = page[-1][0]
        elements.append(f"<NextKeyMarker>{spell(last.key)}</NextKeyMarker>")
        elements.append(f"<NextVersionIdMarker>{last.version_id}</NextVersionIdMarker>")
    for version, is_latest in page:
        name = "DeleteMarker" if version.is_delete_marker else "Version"
        content = _last_modified(version) if version.is_delete_marker else _listed(version)
        elements.append(
            f"<{name}><Key>{spell(version.key)}</Key><VersionId>{version.version_id}</VersionId>"
            f"<IsLatest>{str(is_latest).lower()}</IsLatest>{content}</{name}>"
        )
    return xml_answer(f"<ListVersionsResult {XMLNS}>{''.join(elements)}</ListVersionsResult>")


def _max_keys(query: Mapping[str, str]) -> int:
    given = query.get("max-keys", str(_LISTING_MAX_KEYS))
    if not given.isdigit():
        message = "Provided max-keys not an integer or within integer range"
        raise S3Error(400, "InvalidArgument", message, fields={"ArgumentName": "max-keys"})
    return min(int(given), _LISTING_MAX_KEYS)


def _spelling(query: Mapping[str, str]) -> Callable[[str], str]:
    return (lambda key: quote(key, safe="/")) if query.get("encoding-type") == "url" else xml_text


def _encoding_type(query: Mapping[str, str]) -> str:
    return "<EncodingType>url</EncodingType>" if query.get("encoding-type") == "url" else ""


def _listed(version: StoredVersion) -> str:
    return (
        f"{_last_modified(version)}<ETag>&quot;{version.etag}&quot;</ETag>"
        f"<Size>{len(version.data)}</Size><StorageClass>STANDARD</StorageClass>"
    )


def _listed_checksum(version: StoredVersion) -> str:
    """Say which checksum the object has; S3 lists the algorithm and never the value."""
    kind = "COMPOSITE" if version.is_composite else "FULL_OBJECT"
    names = "".join(f"<ChecksumAlgorithm>{name.upper()}</ChecksumAlgorithm>" for name in version.checksums)
    return f"{names}<ChecksumType>{kind}</ChecksumType>" if names else ""


def _last_modified(version: StoredVersion) -> str:
    moment = version.last_modified.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    return f"<LastModified>{moment}Z</LastModified>"
