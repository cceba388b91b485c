"""Where in the cache does an object's copy lie? A pure function of its key.

The path is the bucket and the whole key, so nothing collides and the name and the suffix survive. Invariants:

- The path stays inside: no segment is empty, `.`, `..`, a reserved top-level name or holds a separator.
- It can be read back: what a file system can't hold is written `%XX`, and a `%` that looks like such an escape is
  escaped itself. `%2F` alone stands for an empty segment (`a//b`), which no other key can produce.
- What has no such path (over-long names, names that are no text) or finds it taken (`a` next to `a/b`; names that are
  equal but for case on a file system that ignores it) lies at `@alt/<hash of the key>/<name>` instead; its sidecar
  says what it is.
- What stands for the query of an HTTP(S) source is a segment before the name, `dir/%3Fquery-…/name.csv`: so the suffix
  survives. No path of a source has such a segment: it has no `?`, and its `%` is escaped.
- What is unpacked of an archive lies apart, below `@unpacked/<hash of the archive's place>`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from functools import lru_cache

from .._errors import UnsafePathError
from .._sources import file_name, is_web, split_uri
from ..ports import CacheKey

STATE_DIRECTORY = ".datacachalog"
CACHE_TAG = "CACHEDIR.TAG"
UNPACKED = "@unpacked"

_SEGMENT_MAX_BYTES = 240  # 255 less what the sidecar's suffix and the escapes of a short name need
_PATH_MAX_BYTES = 3000  # PATH_MAX is 4096 on Linux; the cache directory's own path comes before
_WINDOWS_PATH_MAX = 150  # MAX_PATH is 260 unless long paths are switched on

_UNHOLDABLE = re.compile(r"%(?=[0-9A-Fa-f]{2})|[\x00-\x1f\x7f/]")
_ENCODED_SOMEWHERE = re.compile(r"%[0-9A-Fa-f]{2}|[\x00-\x1f\x7f]|(?:^|/)\.{0,2}(?:/|\Z)")
_PLAIN_BUCKET = re.compile(
    r"[a-z0-9][a-z0-9.-]*"
)  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_WINDOWS_UNHOLDABLE = re.compile(r'%(?=[0-9A-Fa-f]{2})|[\x00-\x1f\x7f/<>:"\\|?*]|[. ]$')
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_WINDOWS_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?=\.|$)")


def candidates(key: CacheKey, *, is_windows: bool = os.name == "nt") -> Iterator[str]:
    """Give the places, relative to the cache directory and with `/`, where the copy may lie, best first.

    Raises:
        UnsafePathError: `cache_path` would leave the cache directory.
    """
    if key.cache_path is not None and key.name is None:
        yield _own_place(key.cache_path, is_windows=is_windows)
        return
    if key.cache_path is not None and key.name is not None:
        # The place is a setting, and refused if it isn't safe; the name below it comes from outside, and is encoded.
        names = [encode_segment(segment, is_windows=is_windows) for segment in key.name.split("/")]
        path = "/".join([_own_place(key.cache_path.rstrip("/"), is_windows=is_windows), *names])
    else:
        path = _path(key, is_windows=is_windows)
    if _is_holdable(path, _WINDOWS_PATH_MAX if is_windows else _PATH_MAX_BYTES):
        yield path
    yield _alternate(key, is_windows=is_windows)


@lru_cache(maxsize=4096)
def places(key: CacheKey) -> tuple[str, ...]:
    """Give the candidates of a key on this system; the same ones are asked for several times while a file is fetched.

    Raises:
        UnsafePathError: `cache_path` would leave the cache directory.
    """
    return tuple(candidates(key))


@lru_cache(maxsize=4096)
def first_place(key: CacheKey) -> str:
    """Give the best of them, where nearly every copy lies; the others take as long to compute again."""
    return next(candidates(key))


def key_at(place: str, uri: str, version_id: str | None) -> CacheKey:
    """Give the key of an object whose copy lies at a place: its own one, or one below a `cache_path`."""
    for key in (CacheKey(uri), CacheKey(uri, version_id)):
        if place in places(key):
            return key
    base, separator, rest = place.partition("/")
    return CacheKey(uri, None, base, "/".join(map(decode_segment, rest.split("/"))) if separator else None)


def encode_segment(segment: str, *, is_windows: bool = os.name == "nt") -> str:
    """Write one segment of a key so that a file system can hold it and `decode_segment` gives it back."""
    if segment == "":
        return "%2F"
    if segment in (".", ".."):
        return "%2E" * len(segment)
    encoded = (_WINDOWS_UNHOLDABLE if is_windows else _UNHOLDABLE).sub(lambda m: f"%{ord(m[0]):02X}", segment)
    if is_windows and _WINDOWS_DEVICE.match(encoded):
        encoded = _escape_first(encoded)
    return encoded


def decode_segment(encoded: str) -> str:
    """Read a segment back."""
    if encoded == "%2F":
        return ""
    return re.sub(r"%([0-9A-Fa-f]{2})", lambda m: chr(int(m[1], 16)), encoded)


def _escape_first(segment: str) -> str:
    return f"%{ord(segment[0]):02X}{segment[1:]}"


def _path(key: CacheKey, *, is_windows: bool) -> str:
    scheme, authority, path = split_uri(key.uri)
    # Nearly all keys are such that every segment stays as it is: seen in one look, as a catalog may have very many.
    is_plain = scheme == "s3" and key.version_id is None and not is_windows and authority != CACHE_TAG.casefold()
    if is_plain and _PLAIN_BUCKET.fullmatch(authority) and not _ENCODED_SOMEWHERE.search(path):
        return f"{authority}/{path}"
    return "/".join(_segments(key, is_windows=is_windows))


def _segments(key: CacheKey, *, is_windows: bool) -> list[str]:
    scheme, authority, path = split_uri(key.uri)
    mark = query = ""
    if is_web(key.uri):
        path, mark, query = path.partition("?")
    encoded = [encode_segment(segment, is_windows=is_windows) for segment in path.split("/")]
    if mark:
        # Written so everywhere: a '?' in a path is a wildcard for many a library.
        encoded.insert(-1, encode_segment(mark + query, is_windows=is_windows).replace("?", "%3F", 1))
    if scheme == "s3":
        bucket = encode_segment(authority, is_windows=is_windows)
        if bucket.startswith("@") or bucket.casefold() in (STATE_DIRECTORY, CACHE_TAG.casefold()):
            bucket = _escape_first(bucket)
        encoded.insert(0, bucket)
    elif authority:
        encoded[:0] = [f"@{scheme}", encode_segment(authority, is_windows=is_windows)]
    else:
        encoded.insert(0, f"@{scheme}")
    if key.version_id is not None:
        # The version is always the last segment but one, so no other key's version has this path.
        encoded.insert(-1, encode_segment(key.version_id, is_windows=is_windows))
        encoded.insert(0, "@versions")
    return encoded


def _is_holdable(path: str, longest: int) -> bool:
    """Whether the path is short enough, and text: the name of a local file may have bytes that are none."""
    if path.isascii() and len(path) <= min(longest, _SEGMENT_MAX_BYTES):
        return True
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return False
    return len(encoded) <= longest and all(len(segment) <= _SEGMENT_MAX_BYTES for segment in encoded.split(b"/"))


def unpacked_home(place: str) -> str:
    """Give the directory for what is unpacked of the archive at a place, relative to the cache directory and with `/`.

    A hash, because trees would lie in each other where the place of one archive goes on behind another's, and because
    the paths in an archive need the length.
    """
    return f"{UNPACKED}/{hashlib.sha256(place.encode(errors='surrogatepass')).hexdigest()[:32]}"


def _identity(key: CacheKey) -> str:
    identity = f"{key.uri}\0{key.version_id or ''}".encode(errors="surrogatepass")
    return hashlib.sha256(identity).hexdigest()[:32]


def _alternate(key: CacheKey, *, is_windows: bool) -> str:
    return f"@alt/{_identity(key)}/{short_name(file_name(key.uri), is_windows=is_windows)}"


def short_name(last: str, *, is_windows: bool = os.name == "nt") -> str:
    """Write a name so that any file system holds it, with its suffix, in some 140 bytes; not to be read back."""
    name = encode_segment(last.encode(errors="xmlcharrefreplace").decode(), is_windows=is_windows)
    stem, dot, suffix = name.rpartition(".")
    if dot and len(suffix.encode()) <= 40:
        return f"{_shortened(stem)}{dot}{suffix}"
    return _shortened(name)


def _shortened(name: str) -> str:
    """Cut a name at 100 bytes, not within a character or an escape."""
    kept = name.encode()[:100].decode(errors="ignore")
    return re.sub(r"%[0-9A-Fa-f]?$", "", kept) if kept != name else name


def _own_place(given: str, *, is_windows: bool) -> str:
    """Take the user's own place as it is, or refuse it: it is a setting, not data from outside."""
    path = given.replace("\\", "/") if is_windows else given
    segments = path.split("/")
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        reason = "it is absolute"
    elif any(segment in ("", ".", "..") for segment in segments):
        reason = "it has an empty segment, '.' or '..'"
    elif "\0" in path or any(encode_segment(s, is_windows=is_windows) != s for s in segments):
        reason = "it has a name that the file system can't hold"
    elif segments[0].casefold() in (STATE_DIRECTORY, CACHE_TAG.casefold()) or segments[0].startswith("@"):
        reason = f"names that begin with '@', {STATE_DIRECTORY} and {CACHE_TAG} are the cache's own"
    else:
        return path
    raise UnsafePathError(f"cache_path {given!r} can't be used: {reason}; give a path relative to the cache directory")
