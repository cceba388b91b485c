"""How is a small file written so that nobody ever reads half of it? Beside its place, and then renamed into it."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress


def replace_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file, or another in its place, in one step. Blocks.

    Args:
        path: the file; a symbolic link is replaced, not followed.
        content: all of it.

    Raises:
        OSError: it can't be written; what was there is there still.
    """
    temporary = f"{os.fspath(path)}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
