"""Does every example in README and docs do what it says? Each page runs from top to bottom, in its own directory."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import CodeType
from typing import Any

import boto3
import jsonschema
import pytest
from sybil import Document, Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

from datacachalog import Catalog, CatalogConfig
from datacachalog._catalog_file import parse_catalog_file
from datacachalog.cli._app import app, run
from datacachalog.cli._schema import schema_of

ROOT = Path(__file__).parents[2]
MARKDOWN = ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")
PAGES = [*(ROOT / name for name in MARKDOWN), *ROOT.glob("docs/**/*.md")]

NOT_RUN = {
    "none": "drawings and directory trees",
    "json": "read as JSON, not run",
}
"""The languages of code blocks that are not run, and why."""


# -- Python -----------------------------------------------------------------------------------------------------------


class PythonCode:
    """Runs Python as a notebook does: names stay, `await` works outside functions, and what is printed is kept."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner

    def __call__(self, example: Example) -> None:
        # Lines of the traceback are those of the page.
        source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
        code: CodeType = compile(source, example.path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if code.co_flags & inspect.CO_COROUTINE:
                self._runner.run(awaited(code, example.namespace))
            else:
                exec(code, example.namespace)
        example.namespace["__printed__"] = printed.getvalue()


async def awaited(code: CodeType, namespace: dict[str, Any]) -> None:
    await eval(code, namespace)


def compare_output(example: Example) -> str | None:
    """Compare a `text` block with what the Python block before it printed; `...` stands for anything."""
    expected = example.parsed.strip() + "\n"
    actual = example.namespace.pop("__printed__", "").strip() + "\n"
    if doctest.OutputChecker().check_output(expected, actual, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE):
        return None
    return f"expected:\n{expected}\nprinted:\n{actual}"


# -- shell ------------------------------------------------------------------------------------------------------------


def run_console(example: Example) -> str | None:
    """Run a transcript, whose commands begin with `$ `, and compare its output; other shell lines are only checked."""
    if not example.parsed.startswith("$ "):
        return check_shell(example)
    for part in re.split(r"^\$ ", example.parsed, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        expected, actual = settled(shown), settled(output_of(command))
        if not doctest.OutputChecker().check_output(expected, actual, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE):
            return f"$ {command}\nexpected:\n{expected}\nprinted:\n{actual}"
    return None


def output_of(command: str) -> str:
    """Run a command in this process if it is only ours, else in a shell; give both its outputs."""
    if re.fullmatch(r"catalog [^|;&<>$`]*", command):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            run(shlex.split(command)[1:])
        return printed.getvalue()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", command], env=os.environ | {"PATH": path}, stdout=-1, stderr=-2, text=True, check=True
    )
    return done.stdout


def settled(text: str) -> str:
    """Replace what differs from machine to machine and from second to second."""
    text = text.replace(os.getcwd(), "/home/ada/shop").replace(os.environ["HOME"], "/home/ada")
    return re.sub(r"\b\d+ s\b", "0 s", text)


def check_toml(example: Example) -> str | None:
    """Read a TOML block as a catalog file, and compare it with the schema for editors."""
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", example.parsed), "acme-data")
    values = tomllib.loads(example.parsed)
    table = ("tool", "datacachalog") if "tool" in values else ()
    file = Path(example.path)
    parse_catalog_file(example.parsed, file=file, root=file.parent, environ=environ, table=table)
    jsonschema.validate(values.get("tool", {}).get("datacachalog", values), schema_of("catalog-file"))
    (Path.cwd() / "datacachalog.toml").write_text("" if table else example.parsed, encoding="utf-8")
    os.environ |= environ
    return None


def check_shell(example: Example) -> str | None:
    """Compare shell lines with what the project has: they install packages and never end, so they are not run."""
    kinds = (is_install, is_catalog_command, is_srun, is_nox, is_setting, is_plain)
    wrong = [
        line
        for line in example.parsed.strip().splitlines()
        for command in re.split(r"\s+&&\s+", line.partition("  #")[0].strip())
        if not any(is_right(command) for is_right in kinds)
    ]
    return f"these lines are not known to be right: {wrong}" if wrong else None


def is_install(command: str) -> bool:
    match = re.fullmatch(r"(?:\S*/)?pip install ['\"]?(nox|(?:\.|datacachalog)(?:\[(.*)\])?)['\"]?", command)
    if match is None:
        return False
    extras = set((match[2] or "").split(",")) - {""}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return extras <= set(project["optional-dependencies"])


def is_catalog_command(command: str) -> bool:
    match = re.fullmatch(r"(?:\S*/)?catalog ([a-z-]+)(?: .*)?", command)
    return match is not None and match[1] in app.list_commands(None)


def is_srun(command: str) -> bool:
    match = re.fullmatch(r"srun(?: --[a-z-]+=\d+)* (?:python \S+\.py|(catalog .*))", command)
    return match is not None and (match[1] is None or is_catalog_command(match[1]))


def is_nox(command: str) -> bool:
    sessions = re.findall(r"^def ([a-z]+)\(session", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE)
    match = re.fullmatch(r"(?:\S*/)?nox(?: -R)? -s ([a-z]+)(?: -- .*)?", command)
    return match is not None and match[1] in sessions


def is_setting(command: str) -> bool:
    match = re.fullmatch(r"export ([A-Z0-9_]+)=\S+", command)
    if match is None:
        return False
    ours = {f"DATACACHALOG_{field.name.upper()}" for field in fields(CatalogConfig)}
    ours |= {"DATACACHALOG_CATALOG", "DATACACHALOG_ROOT", "DATACACHALOG_CACHE_DIR"}
    return match[1] in ours or re.match(r"AWS_[A-Z]", match[1]) is not None


def is_plain(command: str) -> bool:
    return command in ("", "python3 -m venv .venv") or command.startswith("#")


# -- the pages' surroundings ------------------------------------------------------------------------------------------


@pytest.fixture
def surroundings(tmp_path: Path, moto_endpoint: str, table_libraries: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory, a home of its own, and an S3 server that botocore's chain leads to."""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto_endpoint)


def put_sources(text: str, endpoint_url: str) -> None:
    """Put an object where each S3 source of the page is, with content that its suffix promises."""
    s3 = boto3.client("s3", endpoint_url=endpoint_url)
    for bucket, key in sorted(set(re.findall(r"s3://([a-z0-9.-]+)/([^\s\"'`]*)", text))):
        s3.create_bucket(Bucket=bucket)
        for sample in sample_keys(key):
            s3.put_object(Bucket=bucket, Key=sample, Body=content(Path(sample).suffix))


def sample_keys(key: str) -> list[str]:
    """Give keys that a source's key matches: itself, or two that its wildcards match."""
    if key.endswith("/"):
        return [f"{key}part-1.csv", f"{key}deep/part-2.csv"]
    return sorted({re.sub(r"\*+|\?", digit, re.sub(r"\[(.)[^]]*\]", r"\1", key)) for digit in "12"})


def content(suffix: str) -> bytes:
    if suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"id": [1, 2], "name": ["Ada", "Grace"]}), sink)
        return sink.getvalue().to_pybytes()
    return {".json": b'{"id": 1}\n', ".csv": b"id,name\n1,Ada\n2,Grace\n"}.get(suffix, b"content\n")


def close_catalogs(namespace: dict[str, Any]) -> None:
    """End what the examples leave to the end of the interpreter."""
    for value in namespace.values():
        if isinstance(value, Catalog):
            value.close()
    namespace.clear()


# -- the tests --------------------------------------------------------------------------------------------------------


def parsed(page: Path, runner: asyncio.Runner) -> Document:
    evaluators: dict[str, Callable[[Example], str | None]] = {
        "python": PythonCode(runner),
        "text": compare_output,
        "shell": check_shell,
        "console": run_console,
        "toml": check_toml,
    }
    parsers = [CodeBlockParser(language, evaluator) for language, evaluator in evaluators.items()]
    return Sybil(parsers=parsers, path=str(ROOT)).parse(page)


@pytest.mark.usefixtures("surroundings")
@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_of_a_page_do_what_it_says(page: Path, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python runs and prints what the page shows; shell lines name commands, extras and variables that there are."""
    put_sources(page.read_text(encoding="utf-8"), moto_endpoint)
    with asyncio.Runner() as runner:
        document = parsed(page, runner)
        monkeypatch.setitem(sys.modules, "__main__", type(sys)("__main__"))  # examples may look at their own module
        try:
            for example in document.examples():
                example.evaluate()
        finally:
            close_catalogs(document.namespace)


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_code_block_is_left_unchecked(page: Path) -> None:
    """Each code block is of a language that is run or checked, or of one that there is a reason not to run."""
    languages = set(re.findall(r"^ {0,3}```+([^\s`{]*)$", page.read_text(encoding="utf-8"), re.MULTILINE)) - {""}
    assert languages <= {"python", "text", "shell", "console", "toml", *NOT_RUN}
