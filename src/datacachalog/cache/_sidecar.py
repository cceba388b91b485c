"""What is written about a cached file, and is it still that file? JSON beside it, under `.datacachalog/meta`.

A sidecar that can't be read, of another format or of another object means: not cached. It never means an error.
"""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import datetime

from .._models import CacheMetadata

FORMAT = 1
_FIELDS = tuple(field.name for field in fields(CacheMetadata))
_KNOWN = frozenset(_FIELDS)
_TIMES = ("last_modified", "cached_at")
_encode = json.JSONEncoder(ensure_ascii=False).encode
_decode = json.JSONDecoder().decode


def encode(metadata: CacheMetadata) -> bytes:
    """Write a sidecar, a field a line."""
    lines = [f'"format": {FORMAT}', *(f'"{name}": {_value(getattr(metadata, name))}' for name in _FIELDS)]
    return ("{" + ",\n ".join(lines) + "}\n").encode("utf-8", "surrogatepass")


def _value(value: datetime | str | int | None) -> str:
    if value is None:
        return "null"
    if isinstance(value, datetime):
        value = value.isoformat()
    return _encode(value) if isinstance(value, str) else str(value)


def decode(text: bytes) -> CacheMetadata | None:
    """Read a sidecar; None if it isn't one of this format, whole and with the right types."""
    try:
        values = _decode(text.decode("utf-8", "surrogatepass"))
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            return None
        for name in _TIMES:
            values[name] = None if values[name] is None else datetime.fromisoformat(values[name])
        if not values.keys() <= _KNOWN:
            values = {name: value for name, value in values.items() if name in _KNOWN}
        metadata = CacheMetadata(**values)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    is_whole = (
        isinstance(metadata.source, str)
        and isinstance(metadata.digest, str)
        and type(metadata.size) is int
        and type(metadata.mtime_ns) is int
        and _is_text(metadata.etag)
        and _is_text(metadata.verified_by)
        and _is_text(metadata.version_id)
        and _is_text(metadata.pin)
        # A time without a zone can't be compared with one that has it.
        and metadata.cached_at is not None
        and metadata.cached_at.tzinfo is not None
        and (metadata.last_modified is None or metadata.last_modified.tzinfo is not None)
    )
    return metadata if is_whole else None


def _is_text(value: str | None) -> bool:
    return value is None or isinstance(value, str)
