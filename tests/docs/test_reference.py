"""Is the reference complete? It names each public name and each setting, with its default."""

from __future__ import annotations

import os
import re
import typing
from dataclasses import fields
from pathlib import Path

import pytest

import datacachalog
from datacachalog import CatalogConfig

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def test_every_public_name_is_in_the_reference() -> None:
    """What can be imported from `datacachalog` has its place in the reference, and nothing else has."""
    pages = "\n".join((REFERENCE / name).read_text(encoding="utf-8") for name in ("api.md", "errors.md"))
    documented = re.findall(r"^\.\. (?:autoclass|autoexception|autodata|py:type):: (\w+)$", pages, re.MULTILINE)
    assert sorted(datacachalog.__all__) == sorted(documented)


def test_every_event_is_in_the_reference() -> None:
    """An observer's author finds every kind of event that there is."""
    from datacachalog import _events

    page = (REFERENCE / "api.md").read_text(encoding="utf-8")
    kinds = typing.get_args(_events.Event)
    assert [kind.__name__ for kind in kinds] == re.findall(r"_events\.(\w+)$", page, re.MULTILINE)


def test_every_setting_is_in_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has each field with its default, in the order of the code."""
    for name in [name for name in os.environ if name.startswith("DATACACHALOG_")]:
        monkeypatch.delenv(name)
    defaults = CatalogConfig()
    expected = [(field.name, repr(getattr(defaults, field.name)).replace("'", '"')) for field in fields(CatalogConfig)]
    page = (REFERENCE / "configuration.md").read_text(encoding="utf-8")
    assert expected == re.findall(r"^\| `(\w+)` \| `(.+?)` \|", page, re.MULTILINE)
