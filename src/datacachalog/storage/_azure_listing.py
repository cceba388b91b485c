"""What does Azure's XML say of the blobs of a container, and of their versions?"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote

from .._digests import parse_digest
from .._models import NULL_VERSION, FileMetadata, ObjectVersion, normalize_etag
from ..ports import ListedObject, ListedVersion


@dataclass(frozen=True, slots=True)
class ListedBlob:
    """One entry of a listing."""

    name: str
    metadata: FileMetadata
    last_modified: datetime
    is_current: bool


@dataclass(frozen=True, slots=True)
class AzureListing:
    """One answer of List Blobs.

    Args:
        root: what the URIs begin with.
        blobs: in the order of the answer.
        next_marker: where it goes on; None at the end.
        is_refused: the store doesn't know what was asked.
    """

    root: str
    blobs: Sequence[ListedBlob]
    next_marker: str | None
    is_refused: bool = False

    def objects(self) -> tuple[ListedObject, ...]:
        """Give the blobs as objects."""
        return tuple(ListedObject(self.root + blob.name, blob.metadata) for blob in self.blobs)

    def versions(self, blobs: Iterable[ListedBlob]) -> tuple[ListedVersion, ...]:
        """Give all versions of some blobs: by name, of one name the newest first."""
        ordered = sorted(blobs, key=lambda blob: blob.metadata.version_id or "", reverse=True)
        ordered.sort(key=lambda blob: not blob.is_current)
        ordered.sort(key=lambda blob: blob.name.encode())
        return tuple(ListedVersion(self.root + blob.name, _version(blob)) for blob in ordered)


def parse_listing(body: bytes, root: str) -> AzureListing:
    """Read an answer (https://learn.microsoft.com/rest/api/storageservices/list-blobs).

    Raises:
        ValueError: it can't be read.
    """
    try:
        document = ET.fromstring(body)  # noqa: S314  # expat bounds its entities
    except ET.ParseError as error:
        raise ValueError(f"the listing is no XML: {error}") from error
    blobs = tuple(
        _blob(element)
        for element in document.iterfind("Blobs/Blob")
        # In an account with a hierarchical namespace directories are listed, too.
        if element.findtext("Properties/ResourceType") != "directory"
        and element.findtext("Metadata/hdi_isfolder") != "true"
    )
    return AzureListing(root, blobs, document.findtext("NextMarker") or None)


def _blob(element: ET.Element) -> ListedBlob:
    named = element.find("Name")
    if named is None or named.text is None:
        raise ValueError("an entry of the listing has no name")
    name = unquote(named.text) if named.get("Encoded") == "true" else named.text
    properties = element.find("Properties")
    if properties is None:
        raise ValueError("an entry of the listing has no properties")
    md5 = properties.findtext("Content-MD5")
    last_modified = parsedate_to_datetime(properties.findtext("Last-Modified") or "")
    version_id = element.findtext("VersionId")
    metadata = FileMetadata(
        normalize_etag(properties.findtext("Etag")),
        last_modified,
        int(properties.findtext("Content-Length") or ""),
        version_id,
        parse_digest(f"md5:{md5}") if md5 else None,
    )
    is_current = version_id is None or element.findtext("IsCurrentVersion") == "true"
    return ListedBlob(name, metadata, last_modified, is_current)


def _version(blob: ListedBlob) -> ObjectVersion:
    metadata = blob.metadata
    version_id = metadata.version_id or NULL_VERSION
    return ObjectVersion(
        version_id, _moment(blob), metadata.etag, metadata.size, blob.is_current, is_delete_marker=False
    )


def _moment(blob: ListedBlob) -> datetime:
    """Give when a version was written: its id is that moment, to a fraction of a microsecond."""
    text = blob.metadata.version_id or ""
    try:
        return datetime.fromisoformat(f"{text[:26]}+00:00" if text.endswith("Z") else text)
    except ValueError:
        return blob.last_modified
