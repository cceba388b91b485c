"""The command in this process, and a project for it to work on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from datacachalog.cli._app import run
from datacachalog.cli._schema import schema_of

TOML = """
cache_dir = "cache"

[datasets.customers]
source = "remote/customers.csv"
description = "Who bought something."
tags = ["crm"]

[datasets.orders]
source = "remote/orders/*.csv"

[catalogs.core.datasets.prices]
source = "remote/prices.json"
"""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command said and returned."""

    code: int
    out: str
    err: str

    def value(self, command: str) -> dict[str, Any]:
        """Give the JSON on stdout, which is of the form that the schema promises."""
        value: dict[str, Any] = json.loads(self.out)
        jsonschema.Draft202012Validator(schema_of(command)).validate(value)
        return value


Run = Callable[..., Done]


@pytest.fixture
def catalog(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process."""

    def call(*args: str) -> Done:
        capsys.readouterr()
        code = run(args)
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in the working directory, whose remote is a directory of it."""
    root = tmp_path / "project"
    (root / "remote" / "orders").mkdir(parents=True)
    (root / "remote" / "customers.csv").write_text("id,name\n1,Ada\n")
    (root / "remote" / "orders" / "1.csv").write_text("id\n1\n")
    (root / "remote" / "orders" / "2.csv").write_text("id\n2\n")
    (root / "remote" / "prices.json").write_text("{}")
    (root / "datacachalog.toml").write_text(TOML)
    monkeypatch.chdir(root)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return root
