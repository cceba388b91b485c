"""What does a page of ListObjectsV2 say? A pure function of its bytes.

botocore's parser takes 50 ms for a page of a thousand objects, as it makes a value of each element; here one pass of
expat gives the four that are wanted, in 5 ms. Keys are asked for in URL encoding, because XML has no control characters
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

from .._models import FileMetadata, normalize_etag
from ..ports import ListedObject, ListPage

_ROOT = "ListBucketResult"
_OBJECT = "Contents"
_LONGEST_PROLOGUE = 512  # an XML declaration and the root's name


def looks_whole(body: bytes) -> bool:
    """Whether an answer begins and ends as a page does, by a short look."""
    name = _ROOT.encode()
    return name in body[:_LONGEST_PROLOGUE] and body.rstrip().endswith(name + b">")


def parse_list_page(body: bytes, root: str) -> ListPage:
    """Read a page.

    Args:
        body: the XML.
        root: the URI before the keys: `s3://bucket/`.

    Raises:
        ValueError: it is no such page, or not a whole one.
    """
    from xml.parsers import expat  # loaded by now, by botocore

    objects: list[dict[str, str]] = []
    about: dict[str, str] = {}
    # Elements are put where they belong by how deep they are: the root is 1, and what an object says is 3.
    depth = 0
    target: dict[str, str] = {}
    text: list[str] = []

    def start(name: str, _: Any) -> None:
        nonlocal depth, target
        depth += 1
        if depth == 2:
            target = {}
            if name == _OBJECT:
                objects.append(target)
        elif depth == 1 and name.rpartition(":")[2] != _ROOT:
            raise ValueError(f"a listing was expected, and <{name}> came")
        text.clear()

    def end(name: str) -> None:
        nonlocal depth
        if depth == 3:
            target[name] = "".join(text)
        elif depth == 2 and name != _OBJECT:
            about[name] = "".join(text)
        depth -= 1

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text.append
    try:
        parser.Parse(body, True)  # noqa: FBT003  # expat's: this is all
        is_encoded = about.get("EncodingType") == "url"
        listed = tuple([_listed_object(found, root, is_encoded=is_encoded) for found in objects])
    except (expat.ExpatError, KeyError) as error:
        raise ValueError(f"the listing can't be read: {error}") from error
    is_truncated = about.get("IsTruncated", "").strip() == "true"
    return ListPage(listed, about.get("NextContinuationToken") if is_truncated else None)


def _listed_object(found: dict[str, str], root: str, *, is_encoded: bool) -> ListedObject:
    key = found["Key"]
    time = found.get("LastModified")
    last_modified = None if time is None else datetime.fromisoformat(time.strip())
    if last_modified is not None and last_modified.tzinfo is None:
        last_modified = last_modified.replace(tzinfo=UTC)
    metadata = FileMetadata(normalize_etag(found.get("ETag")), last_modified, int(found["Size"]))
    return ListedObject(root + (unquote_plus(key) if is_encoded else key), metadata)
