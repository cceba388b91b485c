"""Is the reference of the command complete? It shows each command's help text as it is.

`python tests/docs/test_cli_reference.py` writes the help texts into the page again.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from datacachalog.cli._app import app
from datacachalog.cli._options import CUT_OFF, FAILED, FOUND, INTERRUPTED, MISUSED
from datacachalog.cli._schema import schema_of

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGE = REFERENCE / "cli.md"
NAMES = ["", *app.list_commands(None)]


def help_of(name: str) -> str:
    """Give the help text of a command, or of all together, as a terminal of 80 columns shows it."""
    args = [name, "--help"] if name else ["--help"]
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, args, prog_name="catalog").output


def block_of(name: str) -> str:
    return f"```none\n{help_of(name)}```\n"


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_the_help_of_each_command(name: str) -> None:
    """The block of a command is its help text."""
    page = PAGE.read_text(encoding="utf-8")
    heading = f"## `catalog {name}`" if name else "# The command"
    section = page.partition(f"{heading}\n")[2].partition("\n## ")[0]
    assert block_of(name) in section


def test_the_page_has_no_command_that_there_is_not() -> None:
    """Each heading of a command is one of a command that there is, in the order of the help."""
    headings = re.findall(r"^## `catalog (\w+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert NAMES[1:] == headings


def test_the_page_has_every_exit_code() -> None:
    """The table has the codes that the command gives."""
    codes = re.findall(r"^\| (\d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [0, FAILED, MISUSED, FOUND, INTERRUPTED, CUT_OFF] == [int(code) for code in codes]


def test_the_page_of_the_catalog_file_has_every_key() -> None:
    """Each key of the schema, but for the settings that have a page of their own, is in a table."""
    schema = schema_of("catalog-file")
    s3 = schema["properties"]["storage"]["properties"]["s3"]
    keys = {*schema["$defs"]["dataset"]["properties"], *s3["properties"]}
    page = (REFERENCE / "catalog-file.md").read_text(encoding="utf-8")
    tables = "".join(re.findall(r"^## (?:A dataset|`\[storage\.s3\]`)\n.*?(?=^## )", page, re.MULTILINE | re.DOTALL))
    assert sorted(keys) == sorted(re.findall(r"^\| `(\w+)` \|", tables, re.MULTILINE))


def renew() -> None:
    """Write the page's help texts again, in the order of the commands."""
    page = PAGE.read_text(encoding="utf-8").partition("\n## `catalog ")[0]
    page = re.sub(r"```none\nUsage: catalog \[OPTIONS\] COMMAND.*?```\n", lambda _: block_of(""), page, flags=re.DOTALL)
    sections = (f"\n## `catalog {name}`\n\n{block_of(name)}" for name in NAMES[1:])
    PAGE.write_text(page + "".join(sections), encoding="utf-8")


if __name__ == "__main__":
    renew()
