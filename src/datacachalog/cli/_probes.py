"""What can this machine do that a catalog relies on? Each probe tries it, and leaves nothing behind.

A probe says `ok`, `warning` (it works, but not as well), `failed` or `skipped`, and in words what that means.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._errors import ConfigurationError

if TYPE_CHECKING:
    from ..ports import StoragePort

Check = tuple[str, str, str]
"""What was looked at, how it is, and what that means."""

_LITTLE_SPACE = 1_000_000_000
_SKEW_WARNED_OF, _SKEW_REFUSED = 60.0, 900.0
"""Seconds; S3 refuses requests that were signed more than 15 minutes before or after its time."""

_TRY_TO_LOCK = """
import fcntl, sys
try:
    fcntl.lockf(open(sys.argv[1], "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 7)
except OSError:
    sys.exit(9)
"""


def probe_directory(directory: Path) -> list[Check]:
    """Try on its file system what a cache does in its directory."""
    from ..progress._wording import bytes_text

    there = next(parent for parent in (directory, *directory.parents) if parent.is_dir())
    try:
        free = shutil.disk_usage(there).free
        with tempfile.TemporaryDirectory(prefix=".datacachalog-doctor-", dir=there) as place:
            return [
                ("cache", "ok", f"{directory} can be written"),
                ("free space", "ok" if free > _LITTLE_SPACE else "warning", f"{bytes_text(free)} free"),
                _replacing(Path(place)),
                _times(Path(place)),
                _locks(Path(place)),
            ]
    except OSError as error:
        return [("cache", "failed", f"{there} can't be written: {error.strerror or error}")]


def _replacing(place: Path) -> Check:
    old, new = place / "old", place / "new"
    old.write_bytes(b"old")
    with new.open("wb") as file:
        file.write(b"new")
        os.fsync(file.fileno())
    try:
        with old.open("rb") as reader:
            new.replace(old)
            reads_on = reader.read() == b"old"
    except OSError as error:
        return "replacing files", "warning", f"not while they are open: {error.strerror}"
    if old.read_bytes() != b"new":
        return "replacing files", "failed", "a renamed file doesn't have its bytes"
    if not reads_on:
        return "replacing files", "warning", "who has the old file open sees the new one"
    return "replacing files", "ok", "in one step; who has the old file open reads on"


def _times(place: Path) -> Check:
    file, wanted = place / "time", 1_700_000_000_123_456_789
    file.touch()
    os.utime(file, ns=(wanted, wanted))
    if file.stat().st_mtime_ns == wanted:
        return "file times", "ok", "kept to the nanosecond"
    error_seconds = abs(file.stat().st_mtime_ns - wanted) / 1e9
    return "file times", "warning", f"off by {error_seconds:g} s: an edit within that time at the same size is not seen"


def _locks(place: Path) -> Check:
    if sys.platform == "win32":
        return "locks", "skipped", "not tried on Windows"
    import fcntl

    with (place / "lock").open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 7)
        except OSError as error:
            return "locks", "warning", f"none here ({error.strerror}): each process downloads for itself"
        # Locks are a process's, so only another one can be kept out.
        command = [sys.executable, "-I", "-c", _TRY_TO_LOCK, file.name]
        is_kept_out = subprocess.run(command, check=False, timeout=60).returncode == 9  # noqa: S603  # our own Python
    if is_kept_out:
        return "locks", "ok", "between processes"
    return "locks", "warning", "keep nobody out: each process downloads for itself"


def probe_storages(storage: StoragePort, schemes: Collection[str]) -> list[Check]:
    """Tell which schemes a catalog's storage serves, and load those that installed packages bring.

    Args:
        storage: the catalog's.
        schemes: what the catalog's sources have; another package that can't be loaded harms nobody.
    """
    from ..storage import RouterStorage
    from ..storage._installed import installed_storages

    if not isinstance(storage, RouterStorage):
        return [("storages", "ok", f"{type(storage).__name__}, whatever the scheme")]
    served = ", ".join(f"{scheme}://" for scheme in storage.storages)
    checks: list[Check] = [("storages", "ok", served)]
    for installed in installed_storages():
        name, what = f"{installed.scheme}://", f"{installed.entry_point.value} of {installed.distribution}"
        if installed.scheme in {**RouterStorage().storages, **storage.storages}:
            checks.append((name, "warning", f"{what} is not used: there is one already"))
            continue
        try:
            installed.load()
        except ConfigurationError as error:
            checks.append((name, "failed" if installed.scheme in schemes else "warning", str(error)))
        else:
            checks.append((name, "ok", what))
    return checks


def probe_credentials(session: Any, *, is_anonymous: bool) -> Check:
    """Tell where botocore finds credentials, and never what they are."""
    from botocore.exceptions import BotoCoreError

    if is_anonymous:
        return "credentials", "ok", "none are used: anonymous"
    try:
        credentials = session.get_credentials()
    except BotoCoreError as error:
        return "credentials", "failed", str(error)
    if credentials is None:
        hint = "set AWS_PROFILE or AWS_ACCESS_KEY_ID, or say anonymous = true for public buckets"
        return "credentials", "failed", f"none found: {hint}"
    profile = f", profile {session.profile}" if session.profile else ""
    return "credentials", "ok", f"from {credentials.method}{profile}"


def probe_clock(session: Any, endpoint_url: str | None, region: str | None) -> list[Check]:
    """Ask the endpoint for its time, without credentials, and compare."""
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    config = Config(signature_version=UNSIGNED, connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 1})
    try:
        client = session.create_client("s3", endpoint_url=endpoint_url, region_name=region, config=config)
    except (BotoCoreError, ValueError) as error:
        return [("endpoint", "failed", str(error))]
    url = client.meta.endpoint_url
    try:
        answer = client.list_buckets()
    except ClientError as error:  # it needs no permission: whatever it says has a date
        answer = error.response
    except BotoCoreError as error:
        return [("endpoint", "failed", f"{url} doesn't answer: {error}")]
    finally:
        client.close()
    reached: Check = ("endpoint", "ok", f"{url} answers")
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    if date is None:
        return [reached, ("clock", "skipped", "the endpoint doesn't say its time")]
    skew = time.time() - parsedate_to_datetime(date).timestamp()
    state = "ok" if abs(skew) < _SKEW_WARNED_OF else "warning" if abs(skew) < _SKEW_REFUSED else "failed"
    text = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the endpoint's"
    return [reached, ("clock", state, "as the endpoint's" if abs(skew) < 2 else text)]
