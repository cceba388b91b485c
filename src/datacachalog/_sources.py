"""What does the text of a source say? One spelling for each, without asking anybody."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import unquote

from ._errors import ConfigurationError, InvalidSourceError, redact_uri

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
"""What a scheme may be (RFC 3986, section 3.1)."""


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

    Args:
        source: as the dataset has it; a relative path is relative to the working directory of now.

    Raises:
        InvalidSourceError: wildcards in a bucket's name, or no scheme before `://`.
    """
    scheme, separator, rest = source.partition("://")
    if not separator or scheme.lower() == "file":
        # The last slash says that all files below are meant.
        path = absolute_path(local_path(source)) + ("/" if source.endswith(("/", os.sep)) else "")
        return path.replace(os.sep, "/")
    if not SCHEME.fullmatch(scheme):
        raise InvalidSourceError(source, f"{scheme!r} is not a scheme")
    if any(wildcard in rest.partition("/")[0] for wildcard in "*?["):
        raise InvalidSourceError(source, "wildcards are for keys, not for the bucket's name")
    return f"{scheme.lower()}://{rest}"


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
