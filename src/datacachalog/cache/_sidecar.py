"""What is written about a cached file, and is it still that file? JSON beside it, under `.datacachalog/meta`.

A sidecar that can't be read, of another format or of another object means: not cached. It never means an error.
"""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import datetime
from typing import Any

from .._models import CacheMetadata

FORMAT = 1
_FIELDS = tuple(field.name for field in fields(CacheMetadata))
_TIMES = ("last_modified", "cached_at")
# `indent` would do the same with the slow half of the json module.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",\n ", ": ")).encode
_TEXTS = ("etag", "verified_by", "version_id", "pin")


def encode(metadata: CacheMetadata) -> bytes:
    """Write a sidecar, a field a line."""
    values: dict[str, Any] = {"format": FORMAT, **{name: getattr(metadata, name) for name in _FIELDS}}
    for name in _TIMES:
        values[name] = None if values[name] is None else values[name].isoformat()
    return (_encode(values) + "\n").encode("utf-8", "surrogatepass")


def decode(text: bytes) -> CacheMetadata | None:
    """Read a sidecar; None if it isn't one of this format, whole and with the right types."""
    try:
        values = json.loads(text)
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            return None
        for name in _TIMES:
            values[name] = None if values[name] is None else datetime.fromisoformat(values[name])
        metadata = CacheMetadata(**{name: value for name, value in values.items() if name in _FIELDS})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    is_whole = (
        all(isinstance(value, str) for value in (metadata.source, metadata.digest))
        and all(isinstance(value, int) and value is not True for value in (metadata.size, metadata.mtime_ns))
        and all(isinstance(getattr(metadata, name), str | None) for name in _TEXTS)
        and metadata.cached_at is not None
        # A time without a zone can't be compared with one that has it.
        and all(time is None or time.tzinfo is not None for time in (metadata.cached_at, metadata.last_modified))
    )
    return metadata if is_whole else None
