"""What does the text of a source say? One spelling for each, without asking anybody.

The spelling of an HTTP(S) source is what it is known by in the cache, in the data lock file and in events, so it has
neither user and password nor the query, where signatures and tokens are: for the query stands its hash. What is sent
to the remote is the source's address.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import unquote

from ._errors import ConfigurationError, InvalidSourceError, redact_uri

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
"""What a scheme may be (RFC 3986, section 3.1)."""

_HIDDEN = re.compile(r"\?query-[0-9a-f]{32}")
_WILDCARD = re.compile(r"[*?\[]")


class SourcePath(Protocol):
    """A path that isn't a local one, of universal_pathlib for example: its text is a URI."""

    @property
    def storage_options(self) -> Mapping[str, Any]:
        """How that library would connect."""
        ...


def source_text(source: str | os.PathLike[str] | SourcePath) -> str:
    """Give the text of a source: a text, or a path of pathlib, universal_pathlib or cloudpathlib.

    The latter two are known by what they have, and not imported. What they connect with is not what a catalog connects
    with, so nothing but the URI can be taken of them.

    Raises:
        ConfigurationError: a path with storage options or a client of its own, which would be lost.
    """
    if isinstance(source, str):
        return source
    options: Mapping[str, Any] | None = getattr(source, "storage_options", None)
    client = getattr(source, "_client", None)
    has_own_client = client is not None and client is not getattr(type(client), "_default_client", None)
    if options or has_own_client:
        own = f"storage options ({', '.join(sorted(options))})" if options else "a client"
        raise ConfigurationError(
            f"{redact_uri(str(source))} has {own} of its own, which a catalog can't use: give the URI as text, and say"
            " how to connect in the catalog's storage, S3Storage(…) for example"
        )
    if hasattr(type(source), "cloud_prefix"):  # cloudpathlib's: os.fspath would download the object
        return str(source)
    is_local = options is None or isinstance(source, os.PathLike)
    return os.fspath(source) if is_local else str(source)  # type: ignore[arg-type]  # what is neither is refused


def split_uri(uri: str) -> tuple[str, str, str]:
    """Split a URI into scheme, authority and key; a plain path has the scheme `file` and no authority."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return "file", "", uri.replace("\\", "/").removeprefix("/") if os.name == "nt" else uri.removeprefix("/")
    authority, _, key = rest.partition("/")
    return scheme.lower(), authority, key


def absolute_path(path: str | os.PathLike[str]) -> str:
    """Give a path without `~`, `.` and `..`; a relative one is relative to the working directory of now."""
    expanded = os.path.expanduser(os.fspath(path))
    # The working directory is asked for only if it matters: that is a system call, and this may run on an event loop.
    return os.path.normpath(expanded if os.path.isabs(expanded) else os.path.join(os.getcwd(), expanded))


def canonical_source(source: str) -> str:
    """Give the one spelling of a source: a local one as an absolute path with `/`, any other as it stands.

    Of an HTTP(S) source nothing that may be secret is left in it: see `web_address`.

    Args:
        source: as the dataset has it; a relative path is relative to the working directory of now.

    Raises:
        InvalidSourceError: wildcards in a bucket's name, no scheme before `://`; an HTTP(S) source without a host, or
            with a fragment.
    """
    scheme, separator, rest = source.partition("://")
    if not separator or scheme.lower() == "file":
        # The last slash says that all files below are meant.
        path = absolute_path(local_path(source)) + ("/" if source.endswith(("/", os.sep)) else "")
        return path.replace(os.sep, "/")
    if not SCHEME.fullmatch(scheme):
        raise InvalidSourceError(source, f"{scheme!r} is not a scheme")
    if is_web(source):
        authority, path, query = _split_web(source)
        return f"{scheme.lower()}://{authority.rpartition('@')[2]}{path}{_hidden(query)}"
    if any(wildcard in rest.partition("/")[0] for wildcard in "*?["):
        raise InvalidSourceError(source, "wildcards are for keys, not for the bucket's name")
    return f"{scheme.lower()}://{rest}"


def web_address(source: str) -> str:
    """Give what the remote is asked for: an HTTP(S) source with its user, password and query.

    Raises:
        InvalidSourceError: as of `canonical_source`.
    """
    authority, path, query = _split_web(source)
    return f"{source.partition('://')[0].lower()}://{authority}{path}{query}"


def is_web(source: str) -> bool:
    """Whether it is an HTTP(S) source, in which `?` begins the query."""
    scheme, separator, _ = source.partition("://")
    return bool(separator) and scheme.lower() in ("http", "https")


def is_several(source: str) -> bool:
    """Whether a source is a glob or a prefix, which may match any number of files.

    An HTTP(S) source with a query is neither, unless its path has a `*` or `[`.
    """
    if source[:4].lower() != "http" or not is_web(source):  # seen at once, as a catalog may have very many
        return source.endswith("/") or _WILDCARD.search(source) is not None
    rest, has_query, _ = source.partition("://")[2].partition("?")
    path = rest.partition("/")[2]
    return _WILDCARD.search(path) is not None or (not has_query and (path == "" or path.endswith("/")))


def file_name(uri: str) -> str:
    """Give the last part of an object's name, without a query."""
    path = uri.partition("?")[0] if is_web(uri) else uri
    return path.replace("\\", "/").rpartition("/")[2]


def _split_web(source: str) -> tuple[str, str, str]:
    """Split an HTTP(S) source into authority, path (`/` if it has none: RFC 9110, section 4.2.3), and query with `?`.

    Raises:
        InvalidSourceError: no host, or a fragment.
    """
    rest = source.partition("://")[2]
    if "#" in rest:
        raise InvalidSourceError(source, "what follows '#' is not asked for: leave it out, or write '#' as %23")
    rest, mark, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    if host in ("", "[") or host.startswith(":") or _WILDCARD.search(host.removeprefix("[")):
        raise InvalidSourceError(source, "it names no host: an HTTP source is https://host/path")
    return authority, f"/{path}", f"{mark}{query}"


def _hidden(query: str) -> str:
    """Give what stands for a query (with its `?`), so that it is told from others and not shown."""
    if not query or _HIDDEN.fullmatch(query):
        return query
    return f"?query-{hashlib.sha256(query.encode(errors='surrogatepass')).hexdigest()[:32]}"


def local_path(uri: str) -> str:
    """Give the path that a plain path or a `file://` URI (RFC 8089) means, with `/`.

    Raises:
        InvalidSourceError: a file of another host.
    """
    if "://" not in uri:
        return uri.replace("\\", "/") if os.name == "nt" else uri
    # By hand: a wildcard may stand in it, so a '?' is part of the path and not the beginning of a query.
    scheme, _, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    if scheme.lower() != "file" or host not in ("", "localhost") or not slash:
        raise InvalidSourceError(uri, "a file is named by a path or by file:///path, of this machine")
    path = unquote(slash + path, errors="surrogateescape")
    return path[1:] if re.match(r"/[A-Za-z]:", path) else path
