"""Which keys does a source with wildcards mean? The same on every storage, because no storage is asked to know it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from .._sources import is_several

_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A glob or prefix source.

    Args:
        prefix: what every match begins with: the URI up to the first wildcard, to be listed.
        base: the last directory of the prefix; what comes after it is a file's own name.
        regex: what a whole URI must match.
    """

    prefix: str
    base: str
    regex: re.Pattern[str]

    def matches(self, uri: str) -> bool:
        """Whether the source means this object. Folder markers (keys that end in `/`) are no files."""
        return not uri.endswith("/") and self.regex.fullmatch(uri) is not None


def parse_pattern(source: str) -> Pattern:
    """Read a source that ends in `/` or holds wildcards.

    `*` and `?` match within a segment, `[abc]`, `[a-z]` and `[!a]` one character of it, `**` across segments, `**/` as
    a segment of its own any number of them, none included. A bracket that is not closed is a bracket.
    """
    if source.endswith("/") and not _WILDCARD.search(source):
        return Pattern(source, source, re.compile(re.escape(source) + ".*", re.DOTALL))
    if source.endswith("/"):
        source += "**"
    parts: list[str] = []
    prefix: str | None = None
    literal = ""
    position = 0
    while position < len(source):
        if source.startswith("**/", position) and (position == 0 or source[position - 1] == "/"):
            expression, width, text = "(?:.*/)?", 3, None
        elif source.startswith("**", position):
            expression, width, text = ".*", 2, None
        elif source[position] == "*":
            expression, width, text = "[^/]*", 1, None
        elif source[position] == "?":
            expression, width, text = "[^/]", 1, None
        elif source[position] == "[" and (found := _character_class(source, position)) is not None:
            expression, width, text = found
        else:
            text = source[position]
            expression, width = re.escape(text), 1
        if text is None and prefix is None:
            prefix = literal
        elif text is not None:
            literal += text
        parts.append(expression)
        position += width
    prefix = literal if prefix is None else prefix
    return Pattern(prefix, prefix[: prefix.rfind("/") + 1], re.compile("".join(parts), re.DOTALL))


def meant_by(sources: Collection[str]) -> Callable[[str], bool]:
    """Give what tells whether an object is one that these sources mean; for many sources and many objects."""
    exact = frozenset(sources)
    patterns = [parse_pattern(source) for source in exact if is_several(source)]
    return lambda uri: uri in exact or any(pattern.matches(uri) for pattern in patterns)


def _character_class(source: str, position: int) -> tuple[str, int, str | None] | None:
    """Read `[…]`: its expression, its width, and the character if it can be only one; None if it isn't closed."""
    close = source.find("]", position + 2)
    body = source[position + 1 : close]
    if close == -1 or "/" in body:
        return None
    negated = body.startswith("!") and len(body) > 1
    if negated:
        body = body[1:]
    if len(body) == 1 and not negated:
        return re.escape(body), close - position + 1, body
    ranges = re.findall(r"(.)-(.)|(.)", body, re.DOTALL)
    if any(first > last for first, last, _ in ranges):
        return None
    members = "".join(f"{re.escape(a)}-{re.escape(b)}" if a else re.escape(single) for a, b, single in ranges)
    expression = f"[^/{members}]" if negated else f"(?!/)[{members}]"
    return expression, close - position + 1, None
