"""Which archives can be unpacked, what does a name say of its format, and what is inside called? Pure.

Two kinds: `gzip`, `bz2`, `xz` and `zstd` hold one file, whose name is the archive's without the suffix; `zip` and `tar`
(compressed or not) hold a tree of files, which lies in a directory named so.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from ._sources import file_name

UnpackFormat: TypeAlias = Literal["gzip", "bz2", "xz", "zstd", "zip", "tar"]
"""What an archive is. A tar says itself how it is compressed."""

UnpackOption: TypeAlias = Literal["auto"] | UnpackFormat
"""What a dataset may say of that: a format, or that the suffix tells it."""

FORMATS: tuple[UnpackFormat, ...] = get_args(UnpackFormat)

TREES: frozenset[UnpackFormat] = frozenset({"zip", "tar"})
"""The formats of archives that hold any number of files."""

# The longer suffixes stand first: `a.tar.gz` is a tar.
_SUFFIXES: dict[str, UnpackFormat] = {
    **dict.fromkeys((".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst"), "tar"),
    **dict.fromkeys((".tar", ".tgz", ".tbz2", ".txz", ".tzst"), "tar"),
    ".zip": "zip",
    ".gz": "gzip",
    ".bz2": "bz2",
    ".xz": "xz",
    ".zst": "zstd",
}

SUFFIXES = tuple(_SUFFIXES)
"""By what `unpack="auto"` knows an archive."""


def format_of(unpack: str | None, uri: str) -> UnpackFormat | None:
    """Tell as what a file is to be unpacked: by the dataset's own word, by its suffix for `"auto"`; None if not."""
    if unpack == "auto":
        return next((meant for suffix, meant in _SUFFIXES.items() if _has_suffix(file_name(uri), suffix)), None)
    return next((known for known in FORMATS if known == unpack), None)


def name_inside(uri: str, archive_format: UnpackFormat) -> str:
    """Give the name of what an archive holds: its own without a suffix of the format, if it has one."""
    name = file_name(uri)
    for suffix, meant in _SUFFIXES.items():
        if meant == archive_format and _has_suffix(name, suffix):
            return name[: -len(suffix)]
    return name


def _name(uri: str) -> str:
    return uri.replace("\\", "/").rpartition("/")[2]


def _has_suffix(name: str, suffix: str) -> bool:
    """Whether a name ends so, with something before it: a file named `.gz` has no suffix."""
    return len(name) > len(suffix) and name.lower().endswith(suffix)
