"""What does Google's JSON say of objects and of their generations?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from .._digests import parse_digest
from .._models import FileMetadata, ObjectVersion
from ..ports import ListedObject, ListedVersion, ListPage

UNDER_CONSTRUCTION = ".datacachalog-push/"
"""Below this lie the parts of objects that are being pushed; listings leave them out."""

_DELETED = timedelta(seconds=1)  # between the end of an overwritten version and the next one's beginning: no time


def is_under_construction(key: str) -> bool:
    """Whether an object is a part of one that is being pushed."""
    return key.startswith(UNDER_CONSTRUCTION)


def resource_metadata(resource: Mapping[str, Any]) -> FileMetadata:
    """Read an object's resource (https://cloud.google.com/storage/docs/json_api/v1/objects#resource).

    Raises:
        LookupError: it has no size or no generation.
        ValueError: a number or a time can't be read.
    """
    checksum = f"crc32c:{resource['crc32c']}" if resource.get("crc32c") else None
    generation = str(resource["generation"])
    # To the second, as the header of a download has it.
    updated = _moment(resource["updated"]).replace(microsecond=0) if "updated" in resource else None
    return FileMetadata(
        generation, updated, int(resource["size"]), generation, None if checksum is None else parse_digest(checksum)
    )


def parse_objects(listing: Mapping[str, Any], root: str) -> ListPage:
    """Read an answer of objects.list.

    Args:
        listing: it.
        root: what the URIs begin with.
    """
    found = (item for item in listing.get("items", ()) if not is_under_construction(item["name"]))
    objects = tuple(ListedObject(root + item["name"], resource_metadata(item)) for item in found)
    return ListPage(objects, listing.get("nextPageToken"))


def parse_versions(items: Iterable[Mapping[str, Any]], root: str) -> tuple[ListedVersion, ...]:
    """Read all entries of some objects in an answer of objects.list with versions, in the order of their names."""
    versions: list[ListedVersion] = []
    for name, group in groupby(items, lambda item: item["name"]):
        oldest_first = sorted(group, key=lambda item: int(item["generation"]))
        versions += [ListedVersion(root + name, version) for version in reversed(list(_history(oldest_first)))]
    return tuple(versions)


def _history(oldest_first: list[Mapping[str, Any]]) -> Iterator[ObjectVersion]:
    """Give versions and deletions, the oldest first."""
    for item, follower in zip(oldest_first, [*oldest_first[1:], None], strict=True):
        generation = str(item["generation"])
        ended = _moment(item["timeDeleted"]) if "timeDeleted" in item else None
        created = _moment(item["timeCreated"])
        yield ObjectVersion(generation, created, generation, int(item["size"]), ended is None, is_delete_marker=False)
        if ended is not None and (follower is None or _moment(follower["timeCreated"]) - ended > _DELETED):
            yield ObjectVersion(f"deleted-{generation}", ended, None, 0, follower is None, is_delete_marker=True)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
