"""Where may the members of an archive lie? A pure judgement of their names, one after the other (G8).

An archive comes from outside, and so do the names in it. Invariants:

- A member's place is relative, has no `..`, and every part of it is the name of a file or directory of this archive.
- No two members have one place, nor places that some file system takes for one (case, Unicode composition), and none
  lies below a file. So an archive gives the same tree everywhere, or is refused.
"""

from __future__ import annotations

import os
import re
import unicodedata

from .._errors import UnsafePathError, redact_uri
from ._layout import encode_segment

_MOST_LEVELS = 100  # what walks a tree later needs a level of the interpreter's stack for each


class Members:
    """The names of one archive that were judged so far.

    Args:
        uri: the archive, for the texts of errors.
    """

    def __init__(self, uri: str, *, is_windows: bool = os.name == "nt") -> None:
        self._uri = uri
        self._is_windows = is_windows
        self._seen: dict[str, tuple[str, bool]] = {}

    def place(self, name: str, *, is_directory: bool) -> tuple[str, list[str]]:
        """Give where a member lies, with `/`, and which directories are to be made for it, outermost first.

        The directory of the archive itself is the empty place.

        Raises:
            UnsafePathError: the name would lead outside, can't be held, or is another member's.
        """
        parts = re.split(r"[/\\]", name)
        if "\0" in name:
            raise self.refusal(name, "its name holds a NUL")
        if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[/\\]", name):
            raise self.refusal(name, "its name is absolute")
        if ".." in parts:
            raise self.refusal(name, "its name leads out of the directory, by '..'")
        segments = [segment for segment in name.split("/") if segment not in ("", ".")]
        if not segments and not is_directory:
            raise self.refusal(name, "it has no name")
        if len(segments) > _MOST_LEVELS:
            raise self.refusal(name, f"it lies more than {_MOST_LEVELS} directories deep")
        if self._is_windows and any(not _is_holdable_on_windows(segment) for segment in segments):
            raise self.refusal(name, "Windows can't hold its name")
        new_directories = []
        for count in range(1, len(segments) + 1):
            place = "/".join(segments[:count])
            needs_directory = is_directory or count < len(segments)
            if self._take(name, place, is_directory=needs_directory) and needs_directory:
                new_directories.append(place)
        return "/".join(segments), new_directories

    def refusal(self, name: str, reason: str) -> UnsafePathError:
        """Say why a member is refused."""
        return UnsafePathError(
            f"{redact_uri(self._uri)} is not unpacked, because of its member {name!r}: {reason};"
            " nothing was written. Fetch the archive itself with unpack=None"
        )

    def _take(self, name: str, place: str, *, is_directory: bool) -> bool:
        """Note that a place is taken; whether it was free."""
        folded = _folded(place)
        if folded not in self._seen:
            self._seen[folded] = (place, is_directory)
            return True
        other, other_is_directory = self._seen[folded]
        if other != place:
            raise self.refusal(name, f"it differs from {other!r} by nothing that every file system can tell")
        if other_is_directory is not is_directory:
            raise self.refusal(name, f"{place!r} is both a file and a directory")
        if not is_directory:
            raise self.refusal(name, "there are two of that name")
        return False


def _folded(place: str) -> str:
    """Give the spelling that two names share which some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", place).casefold())


def _is_holdable_on_windows(segment: str) -> bool:
    plain = segment.replace("%", "_")  # which the layout escapes for a reason of its own
    return encode_segment(plain, is_windows=True) == plain
