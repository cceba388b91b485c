"""What does a header field of HTTP say? Times, ranges and waits, for every storage that is asked over HTTP."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}


def http_date(text: str) -> datetime:
    """Read a date of HTTP (RFC 9110, section 5.6.7): the form that everybody sends by its places, any other by rule.

    Raises:
        ValueError: it is none.
    """
    if len(text) == 29 and text.endswith(" GMT") and text[8:11] in _MONTHS:
        numbers = text[12:16], text[5:7], text[17:19], text[20:22], text[23:25]
        if all(map(str.isdigit, numbers)):
            year, day, hour, minute, second = map(int, numbers)
            return datetime(year, _MONTHS[text[8:11]], day, hour, minute, second, tzinfo=UTC)
    return parsedate_to_datetime(text)


def content_range(text: str) -> tuple[int, int, int]:
    """Read a Content-Range (RFC 9110, section 14.4): start, stop (exclusive), and size of the whole.

    Raises:
        ValueError: it is none, or doesn't tell the size.
    """
    match = _CONTENT_RANGE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"Content-Range {text!r} can't be read (RFC 9110, section 14.4)")
    return int(match[1]), int(match[2]) + 1, int(match[3])


def parse_retry_after(value: str | None) -> float | None:
    """Read a Retry-After header, seconds or a date (RFC 9110, section 10.2.3), as seconds from now."""
    if not value:
        return None
    try:
        if value.strip().isdigit():
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
