"""A small file is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from datacachalog._replacing import replace_file


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    """The old content is gone, the new one is there, and so is no other file."""
    (tmp_path / "file").write_bytes(b"old")
    replace_file(tmp_path / "file", b"new")
    assert {"file": b"new"} == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_file_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure at the last step leaves the old content, and no other file."""
    (tmp_path / "file").write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="full"):
        replace_file(tmp_path / "file", b"new")
    assert {"file": b"old"} == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
