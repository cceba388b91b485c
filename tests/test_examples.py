"""Do the examples print what they say, and end as they should? Each runs as a person runs it, in a process of its own.

`python tests/test_examples.py` writes the notebook's outputs into it again.
"""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import nbclient
import nbformat
import pytest

from ._children import Program

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


@contextmanager
def running(name: str, **environment: str) -> Iterator[Program]:
    """Run an example; its warnings are errors."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")]
    program = Program(command, os.environ | environment, has_terminal=False)
    try:
        yield program
    finally:
        program.end()


def shown(name: str) -> dict[str, str]:
    """Give what the top of an example shows: its commands, and what they print."""
    docstring = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text(encoding="utf-8"))) or ""
    block = "".join(f"{line[4:]}\n" for line in docstring.splitlines() if line.startswith("    "))
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("name", ["script", "flow", "torch_dataset"])
def test_example_prints_what_its_top_shows(name: str) -> None:
    """The command at the top prints the lines below it, nothing else, and succeeds."""
    with running(name) as program:
        ended = program.wait()
    assert shown(name) == {f"python examples/{name}.py": ended.output}
    assert (0, "") == (ended.status, ended.errors)


@pytest.mark.parametrize("signal", ["interrupt", "terminate"])
def test_service_does_its_jobs_until_it_is_asked_to_stop(signal: str) -> None:
    """All jobs run with one catalog; Ctrl-C, and a signal to terminate, end it without a word of error."""
    expected = shown("async_service")["python examples/async_service.py"].replace("^C", "")
    with running("async_service") as program:
        for line in set(expected.splitlines()) - {"stopped"}:
            program.wait_for_output(f"{line}\n")
        getattr(program, signal)()
        ended = program.wait()
    assert set(expected.splitlines()) == set(ended.output.splitlines())
    assert "stopped" == ended.output.splitlines()[-1]
    assert (0, "") == (ended.status, ended.errors)
    assert ended.seconds_to_leave < 2


def test_web_service_serves_a_dataset_over_http() -> None:
    """Its endpoint answers from a dataset, over a real socket, as its top shows; Ctrl-C ends it."""
    [(command, answer)] = [(k, v) for k, v in shown("fastapi_app").items() if k.startswith("curl")]
    with running("fastapi_app", PORT="0") as program:
        program.wait_for_errors("Uvicorn running on ")
        found = re.search(r"http://127\.0\.0\.1:\d+", program.errors)
        assert found is not None
        url = command.removeprefix("curl ").replace("http://127.0.0.1:8000", found[0])
        assert json.loads(answer) == get(url)
        assert {"customers": "fresh", "prices": "fresh"} == get(f"{found[0]}/data")
        with pytest.raises(HTTPError, match="404") as refused:
            get(f"{found[0]}/customers/9")
        refused.value.close()
        program.interrupt()
        ended = program.wait()
    assert 0 == ended.status
    assert "Finished server process" in ended.errors.splitlines()[-1]


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)


# -- the notebook -----------------------------------------------------------------------------------------------------

NOTEBOOK = EXAMPLES / "notebook.ipynb"


async def executed() -> nbformat.NotebookNode:
    """Run all cells in a new kernel, in the notebook's directory."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(EXAMPLES)}}
    )
    async with client.async_setup_kernel():
        for index, cell in enumerate(notebook.cells):
            await client.async_execute_cell(cell, index)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
    return notebook


def outputs(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """Give the texts that each cell shows."""
    return [
        [output.get("text") or output.get("data", {}).get("text/plain") or output["output_type"] for output in outputs]
        for outputs in (cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    ]


async def test_notebook_shows_what_its_cells_print() -> None:
    """Its stored outputs, which people see without running it, are those of a new run."""
    assert outputs(nbformat.read(NOTEBOOK, as_version=4)) == outputs(await executed())


# -- the list ---------------------------------------------------------------------------------------------------------


def test_readme_lists_each_example() -> None:
    """Each example has its line, with the command that its top shows."""
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    commands = dict(re.findall(r"^\| \[`([\w.]+)`\]\(\1\) \|.*\| `\.venv/bin/(.*)` \|$", readme, re.MULTILINE))
    scripts = {path.name for path in EXAMPLES.glob("[!_]*.py")}
    assert {*scripts, NOTEBOOK.name} == set(commands)
    assert commands[NOTEBOOK.name] in NOTEBOOK.read_text(encoding="utf-8")
    assert scripts == {name for name in scripts if commands[name] in shown(name.removesuffix(".py"))}


if __name__ == "__main__":
    nbformat.write(asyncio.run(executed()), NOTEBOOK)
