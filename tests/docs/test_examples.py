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
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import CodeType
from typing import Any

import boto3
import jsonschema
import pytest
import yaml
from sybil import Document, Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

from datacachalog import Catalog, CatalogConfig
from datacachalog._catalog_file import parse_catalog_file
from datacachalog.cli._app import app, run
from datacachalog.cli._schema import schema_of
from datacachalog.integrations.fsspec import CatalogFileSystem
from datacachalog.storage._http_address import Address, parse_address

ROOT = Path(__file__).parents[2]
MARKDOWN = ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", "examples/README.md")
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
    text = re.sub(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "2026-07-14 09:30:00 UTC", text)
    text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "some-version-id", text)
    text = re.sub(r"(?m)^clock +ok +.*$", "clock ok", text)
    text = re.sub(r"https?://\S+ answers", "some-endpoint answers", text)
    text = re.sub(r"(?m)^free space +(ok|warning) +[\d.]+ [kMGT]?B free$", "free space ok 0 B free", text)
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


def check_yaml(example: Example) -> str | None:
    """Read the YAML of a CI system, and check the shell lines in it."""
    return wrong_shell_lines("\n".join(shell_lines(yaml.safe_load(example.parsed))))


def shell_lines(value: Any) -> Iterator[str]:
    """Give the commands of a workflow: what stands behind `run`, `script` and `before_script`."""
    if isinstance(value, list):
        for item in value:
            yield from shell_lines(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in ("run", "script", "before_script"):
                yield from [item] if isinstance(item, str) else item
            else:
                yield from shell_lines(item)


def check_shell(example: Example) -> str | None:
    """Compare shell lines with what the project has: they install packages and never end, so they are not run."""
    return wrong_shell_lines(example.parsed)


def wrong_shell_lines(text: str) -> str | None:
    kinds = (is_install, is_catalog_command, is_srun, is_nox, is_setting, is_plain)
    wrong = [
        line
        for line in text.strip().splitlines()
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
    return match[1] in ours or re.match(r"(AWS|AZURE|GOOGLE|STORAGE)_[A-Z]", match[1]) is not None


def is_plain(command: str) -> bool:
    if command in ("", "python3 -m venv .venv", "pytest") or command.startswith("#"):
        return True
    is_own_script = re.fullmatch(r"(srun )?python \w+\.py( \S+)*", command) is not None
    return (
        is_own_script
        or re.fullmatch(r"(test ! -f \S+ \|\| )?tar (--posix -c|-x)f \S+ -C \S+( \w+)?", command) is not None
    )


# -- the pages' surroundings ------------------------------------------------------------------------------------------


@pytest.fixture
def surroundings(
    tmp_path: Path, moto_endpoint: str, table_libraries: None, lasting_helpers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty working directory, a home of its own, and an S3 server that botocore's chain leads to."""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto_endpoint)


@pytest.fixture
def web_of_acme(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A web server that has whatever is asked of a host below acme.example, for what asks with HTTPStorage."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = content(Path(self.path.partition("?")[0]).suffix)
            self.send_response(200)
            for name, value in {"ETag": '"v1"', "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    def address(uri: str) -> Address:
        found = parse_address(uri)
        is_of_acme = ".acme.example" in found.origin
        return replace(found, origin=f"http://127.0.0.1:{server.server_port}") if is_of_acme else found

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setattr("datacachalog.storage._http.parse_address", address)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def lasting_helpers() -> None:
    """Let fsspec and multiprocessing start what they keep, which is no leak of the page that is first to need it."""
    from multiprocessing import resource_tracker

    from fsspec.asyn import get_loop

    get_loop()
    resource_tracker.ensure_running()


def put_sources(text: str, endpoint_url: str) -> None:
    """Put an object where each S3 source of the page is, with content that its suffix promises.

    A bucket whose name ends with `-history` keeps versions.
    """
    s3 = boto3.client("s3", endpoint_url=endpoint_url)
    for bucket, key in sorted(set(re.findall(r"s3://([a-z0-9.-]+)/([^\s\"'`]*)", text))):
        s3.create_bucket(Bucket=bucket)
        if bucket.endswith("-history"):
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        for sample in sample_keys(key):
            s3.put_object(Bucket=bucket, Key=sample, Body=content(Path(sample).suffix), ACL="public-read")


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
    opened = [*namespace.values(), *(fs.catalog for fs in CatalogFileSystem._cache.values())]
    for value in opened:
        if isinstance(value, Catalog):
            value.close()
    CatalogFileSystem.clear_instance_cache()
    namespace.clear()


# -- the tests --------------------------------------------------------------------------------------------------------


def parsed(page: Path, runner: asyncio.Runner) -> Document:
    evaluators: dict[str, Callable[[Example], str | None]] = {
        "python": PythonCode(runner),
        "text": compare_output,
        "shell": check_shell,
        "console": run_console,
        "toml": check_toml,
        "yaml": check_yaml,
    }
    parsers = [CodeBlockParser(language, evaluator) for language, evaluator in evaluators.items()]
    return Sybil(parsers=parsers, path=str(ROOT)).parse(page)


@pytest.mark.usefixtures("surroundings", "web_of_acme")
@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_of_a_page_do_what_it_says(page: Path, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python runs and prints what the page shows; shell lines name commands, extras and variables that there are."""
    put_sources(page.read_text(encoding="utf-8"), moto_endpoint)
    with asyncio.Runner() as runner:
        document = parsed(page, runner)
        monkeypatch.setitem(sys.modules, "__main__", type(sys)("__main__"))  # examples may look at their own module
        document.namespace["__name__"] = "__main__"
        try:
            for example in document.examples():
                example.evaluate()
        finally:
            close_catalogs(document.namespace)


def test_transcripts_are_as_wide_as_a_terminal() -> None:
    """What commands print on the pages fits 80 columns, as it does where they are typed."""
    blocks = [
        block for page in PAGES for block in re.findall(r"(?ms)^```console\n(\$ .*?)^```", page.read_text("utf-8"))
    ]
    printed = [line for block in blocks for line in block.splitlines() if not line.startswith("$ ")]
    assert [] == [line for line in printed if len(line) > 80]


def test_code_fits_the_width_of_a_page() -> None:
    """Code and the examples' files have 96 columns at most, as many as a page shows without scrolling."""
    blocks = [block for page in PAGES for block in re.findall(r"(?ms)^```python\n(.*?)^```", page.read_text("utf-8"))]
    blocks += [file.read_text("utf-8") for file in ROOT.glob("examples/*.py")]
    assert [] == [line for block in blocks for line in block.splitlines() if len(line) > 96]


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_code_block_is_left_unchecked(page: Path) -> None:
    """Each code block is of a language that is run or checked, or of one that there is a reason not to run."""
    languages = set(re.findall(r"^ {0,3}```+([^\s`{]*)$", page.read_text(encoding="utf-8"), re.MULTILINE)) - {""}
    assert languages <= {"python", "text", "shell", "console", "toml", "yaml", *NOT_RUN}
