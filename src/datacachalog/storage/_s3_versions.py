"""What does a listing of versions say? By key, the newest first: the order in which S3 has them.

botocore sorts S3's answer into two lists, of versions and of delete markers, and so loses which of the two came first
where both are of the same second. The order is therefore read from the answer's XML too, before that is parsed.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from typing import Any

from .._models import ObjectVersion, normalize_etag
from ..ports import ListedVersion, VersionPage

ORDER_NOTES = "before-parse.s3.ListObjectVersions"
_ORDER = "DatacachalogOrder"
_LISTS = {"Version": "Versions", "DeleteMarker": "DeleteMarkers"}


def note_order(response_dict: Mapping[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Note which of an answer's entries are versions and which are delete markers; called by botocore."""
    if response_dict["status_code"] != 200:
        return
    try:
        root = ET.fromstring(response_dict["body"])  # noqa: S314  # expat bounds its entities
    except ET.ParseError:
        return  # botocore's own parser says it better
    names = (element.tag.rpartition("}")[2] for element in root)
    customized_response_dict[_ORDER] = [_LISTS[name] for name in names if name in _LISTS]


def version_page(bucket: str, answer: Mapping[str, Any]) -> VersionPage:
    """Read an answer of ListObjectVersions.

    Of one key, the latest comes first, then by time. Where times are equal, the order is that of the answer: S3's own,
    but not that of all who speak like it, some of which list all delete markers behind all versions.
    """
    listed = [ListedVersion(f"s3://{bucket}/{found['Key']}", _version(found)) for found in _in_order(answer)]
    listed.sort(key=lambda item: item.version.last_modified, reverse=True)  # stable, and so are the next two
    listed.sort(key=lambda item: not item.version.is_latest)
    listed.sort(key=lambda item: item.uri.encode())
    token = None
    if answer.get("IsTruncated"):
        token = f"{answer.get('NextVersionIdMarker', '')}\n{answer['NextKeyMarker']}"
    return VersionPage(tuple(listed), token)


def markers(after_key: str | None, token: str | None) -> dict[str, str]:
    """Give the arguments that say where a listing begins or goes on."""
    if token is None:
        return {"KeyMarker": after_key} if after_key else {}
    version_marker, _, key_marker = token.partition("\n")
    return {"KeyMarker": key_marker} | ({"VersionIdMarker": version_marker} if version_marker else {})


def _in_order(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    entries = {name: iter(answer.get(name, ())) for name in _LISTS.values()}
    for name in answer[_ORDER]:
        yield next(entries[name])


def _version(found: Mapping[str, Any]) -> ObjectVersion:
    return ObjectVersion(
        version_id=found["VersionId"],
        last_modified=found["LastModified"],
        etag=normalize_etag(found.get("ETag")),
        size=found.get("Size", 0),
        is_latest=found["IsLatest"],
        is_delete_marker="Size" not in found,
    )
