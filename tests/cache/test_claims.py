"""What does a forked child make of its parent's lock file?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from datacachalog.cache._claims import key_hash, lock_file


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # the child only looks at a descriptor
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_g11_child_forked_while_the_lock_file_is_closed_closes_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may have been given its number meanwhile."""
    locks, key = lock_file(str(tmp_path / "claims")), key_hash("s3://bucket/a", None)
    locks.acquire(key)
    close, statuses = os.close, []

    def close_and_fork(handle: int) -> None:
        close(handle)
        monkeypatch.undo()
        other = os.open(os.devnull, os.O_RDONLY)
        assert other == handle
        child = os.fork()
        if child == 0:
            try:
                os.fstat(other)
            except OSError:
                os._exit(1)
            os._exit(0)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        close(other)

    monkeypatch.setattr(os, "close", close_and_fork)
    locks.release(key)
    assert [0] == statuses
