"""What is written about a cached file, and is it still that file? JSON beside it, under `.datacachalog/meta`.

A sidecar that can't be read, of another format or of another object means: not cached. It never means an error.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from .._models import CacheMetadata

FORMAT = 1
_FIELDS = frozenset(field.name for field in fields(CacheMetadata))
_TIMES = ("last_modified", "cached_at")


def encode(metadata: CacheMetadata) -> bytes:
    """Write a sidecar."""
    values: dict[str, Any] = {"format": FORMAT, **asdict(metadata)}
    for name in _TIMES:
        values[name] = None if values[name] is None else values[name].isoformat()
    return json.dumps(values, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass") + b"\n"


def decode(text: bytes) -> CacheMetadata | None:
    """Read a sidecar; None if it isn't one of this format, whole and with the right types."""
    try:
        values = json.loads(text)
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            return None
        for name in _TIMES:
            values[name] = None if values[name] is None else datetime.fromisoformat(values[name])
        metadata = CacheMetadata(**{name: value for name, value in values.items() if name in _FIELDS})
    except (ValueError, TypeError, KeyError):
        return None
    is_whole = (
        isinstance(metadata.source, str)
        and isinstance(metadata.size, int)
        and isinstance(metadata.mtime_ns, int)
        and isinstance(metadata.cached_at, datetime)
        and isinstance(metadata.digest, str)
    )
    return metadata if is_whole else None
