"""The `catalog` command as a whole: what it says, what it returns, and what it doesn't import."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import datacachalog
from datacachalog.cli._app import app

from ..conftest import wait_until

RUN = "from datacachalog.cli import main; main()"


def process(*args: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, after some Python."""
    command = [sys.executable, "-c", f"{before}\n{RUN}", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_version_is_that_of_the_package() -> None:
    """`--version` prints the package's version, on stdout."""
    assert (0, f"datacachalog {datacachalog.__version__}\n") == (
        (done := process("--version")).returncode,
        done.stdout,
    )


@pytest.mark.parametrize("args", [["--version"], ["--help"], ["list"]])
@pytest.mark.usefixtures("project")
def test_what_needs_no_library_imports_none(args: list[str]) -> None:
    """The version, the help and the list are quick: they import nothing that only other commands need."""
    heavy = (
        "{'asyncio', 'datacachalog._catalog', 'aiobotocore', 'aiohttp', 'anyio', 'botocore', 'moto', 'pyarrow', 'rich'}"
    )
    watch = f"import atexit, sys; atexit.register(lambda: print(sorted({heavy} & set(sys.modules)), file=sys.stderr))"

    assert "[]\n" == process(*args, before=watch).stderr


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_the_help_lists_the_commands(option: str) -> None:
    """Both help options name every command, and say in one line what it does."""
    lines = process(option).stdout.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert app.list_commands(None) == [line.split()[0] for line in lines]
    assert [] == [line for line in lines if line.endswith("...")]


def test_an_unknown_command_is_a_wrong_call() -> None:
    """A command that isn't there exits with 2 and names what was asked for."""
    done = process("fecth")

    assert (2, True) == (done.returncode, "'fecth'" in done.stderr)


def test_without_its_library_the_command_says_what_to_install() -> None:
    """Where click isn't installed, there is one line with the extra's name, and exit code 2."""
    done = process("--version", before="import sys; sys.modules['click'] = None")

    assert (2, "catalog: the command line needs an extra: pip install 'datacachalog[cli]'\n") == (
        done.returncode,
        done.stderr,
    )


@pytest.mark.parametrize("module", ["moto", "flask", "pyarrow"])
def test_without_its_libraries_the_demo_says_what_to_install(module: str) -> None:
    """Where one of the demo's libraries isn't installed, there is one line with the extra's name, and exit code 2."""
    done = process("demo", before=f"import sys; sys.modules[{module!r}] = None")

    hint = f"Error: the demo needs an extra: pip install 'datacachalog[demo]' (there is no {module})\n"
    assert (2, hint) == (done.returncode, done.stderr)


def test_an_error_is_a_line_and_not_a_traceback(tmp_path: pytest.TempPathFactory) -> None:
    """What the package raises on purpose is said in one line, with exit code 1."""
    raising = (
        "import click, datacachalog, datacachalog.cli._app as app\n"
        "@click.command\n"
        "def command(): raise datacachalog.CacheError('/cache can not be written')\n"
        "app.app.add_command(command)\n"
        "app._LazyGroup.get_command = lambda self, ctx, name: command\n"
    )
    done = process("demo", before=raising)

    assert (1, "Error: /cache can not be written\n") == (done.returncode, done.stderr)


# -- in this process


@pytest.mark.parametrize("name", app.list_commands(None))
def test_every_command_has_a_help_text_with_an_example(catalog, name) -> None:
    """The help fits 80 columns, and shows how the command is called."""
    done = catalog(name, "--help")
    assert (0, []) == (done.code, [line for line in done.out.splitlines() if len(line) > 80])
    assert name == "demo" or f"catalog {name}" in done.out.partition("Examples:")[2]


@pytest.mark.parametrize("args", [["--json", "--cache-dir", "x", "info"], ["info", "--cache-dir", "x", "--json"]])
def test_shared_options_stand_before_the_command_or_behind_it(project, catalog, args) -> None:
    """`--json`, `--cache-dir` and the others mean the same in both places."""
    assert str(project / "x") == catalog(*args).value("info")["cache_dir"]


def test_a_misspelt_command_is_answered_with_the_one_meant(catalog) -> None:
    """The command that is meant is named."""
    done = catalog("fecth")
    assert (2, "", True) == (done.code, done.out, "No such command 'fecth': did you mean 'fetch'?" in done.err)


@pytest.mark.parametrize("args", [["status", "custmers"], ["fetch", "custmers"], ["explain", "custmers"]])
def test_a_misspelt_dataset_is_answered_with_the_one_meant(project, catalog, args) -> None:
    """It is a wrong call, with close names."""
    expected = (2, "", "Error: no dataset named 'custmers': did you mean 'customers'?\n")
    assert expected == ((done := catalog(*args)).code, done.out, done.err)


def test_a_wrong_catalog_file_is_a_wrong_call(project, catalog) -> None:
    """File, line and key are in the one line."""
    (project / "datacachalog.toml").write_text("\n[datasets.a]\nsorce = 'x'")
    done = catalog("list")
    told = f"Error: {project}/datacachalog.toml:3: datasets.a.sorce: unknown key: did you mean 'source'?\n"
    assert (2, "", told) == (done.code, done.out, done.err)


def test_without_a_catalog_the_error_says_how_to_make_one(tmp_path, monkeypatch, catalog) -> None:
    """Where there is no catalog file, `catalog init` is named."""
    monkeypatch.chdir(tmp_path)
    done = catalog("list")
    assert (2, True) == (done.code, "catalog init" in done.err)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command with a bug in it."""
    monkeypatch.setattr("datacachalog.cli._list.chosen_datasets", lambda settings: {}["key"])


def test_a_bug_is_a_line_too(broken, catalog) -> None:
    """What nobody expected is no traceback either, and says how to get one."""
    assert (1, "Error: KeyError: 'key' (--debug shows where)\n") == ((done := catalog("list")).code, done.err)


def test_debug_shows_the_traceback(broken, catalog) -> None:
    """With `--debug`, the traceback comes before the line."""
    err = catalog("list", "--debug").err
    assert (True, True) == (err.startswith("Traceback"), err.endswith("\nError: KeyError: 'key'\n"))


@pytest.mark.parametrize(
    ("environment", "is_colored"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colors_are_for_terminals_and_those_who_force_them(
    project, catalog, monkeypatch, environment, is_colored
) -> None:
    """A pipe gets none, unless `FORCE_COLOR` says so; `NO_COLOR` goes before it."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = catalog("validate")
    assert (is_colored, is_colored) == ("\x1b[32mok\x1b[0m" in done.out, "\x1b[31mError" in catalog("fetch", "x").err)


@pytest.fixture
def python_catalog(project: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with catalogs of each kind, in the working directory."""
    name = f"catalogs_{os.getpid()}"
    (project / f"{name}.py").write_text(
        "from datacachalog import *\n"
        "datasets = (Dataset('one', 'remote/customers.csv'),)\n"
        "blocking = Catalog(datasets, cache_dir='own', config=CatalogConfig(retries=1))\n"
        "awaited = AsyncCatalog(datasets, cache_dir='own')\n"
        "number = 1\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


@pytest.mark.parametrize(("attribute", "directory"), [("datasets", None), ("blocking", "own"), ("awaited", "own")])
def test_a_catalog_may_be_python_if_it_is_named(project, catalog, python_catalog, attribute, directory) -> None:
    """`--catalog module:attribute` takes a catalog of either kind, or datasets; options go before its arguments."""
    args = ("--catalog", f"{python_catalog}:{attribute}")
    assert None is (value := catalog("list", "--json", *args).value("list"))["file"]
    assert ["one"] == [dataset["name"] for dataset in value["datasets"]]
    if directory is not None:
        assert str(project / directory) == catalog("info", "--json", *args).value("info")["cache_dir"]
    path = catalog("fetch", "one", "--cache-dir", "other", *args).out.strip()
    assert Path(path).is_relative_to(project / "other")
    offline = catalog("fetch", "one", "--cache-dir", "other", "--offline", "--json", *args).value("fetch")
    assert ("cached", 0) == (offline["datasets"][0]["action"], offline["requests"])
    assert 0 == catalog("explain", "one", *args).code


@pytest.mark.parametrize(
    ("attribute", "told"), [("number", "a catalog or a list of datasets is expected"), ("nobody", "has no 'nobody'")]
)
def test_what_is_no_catalog_is_refused(catalog, python_catalog, attribute, told) -> None:
    """An attribute that is something else, or isn't there, is a wrong call."""
    done = catalog("list", "--catalog", f"{python_catalog}:{attribute}")
    assert (2, True) == (done.code, told in done.err)
    assert "no module 'no_such_module'" in catalog("list", "--catalog", "no_such_module:x").err


def test_the_catalog_file_may_be_named(project, tmp_path, monkeypatch, catalog) -> None:
    """`--catalog FILE` works from anywhere, and relative paths are those of the file's directory."""
    monkeypatch.chdir(tmp_path)
    done = catalog("fetch", "customers", "--catalog", str(project / "datacachalog.toml"))
    assert f"{project}/cache/@file{project}/remote/customers.csv\n" == done.out
    assert 2 == catalog("list", "--catalog", "nowhere.toml").code


def completions(args: list[str], incomplete: str) -> list[str]:
    from click.shell_completion import ShellComplete

    return [item.value for item in ShellComplete(app, {}, "catalog", "").get_completions(args, incomplete)]


def test_datasets_are_completed(project, tmp_path) -> None:
    """Commands, options, and the names of the catalog that is meant, each once."""
    other = tmp_path / "other.toml"
    other.write_text("datasets.abc.source = 'x'")
    assert ["status"] == completions([], "sta")
    assert ["customers", "core/prices"] == completions(["fetch"], "c")
    assert ["core/prices"] == completions(["fetch", "customers"], "c")
    assert ["abc"] == completions(["--catalog", str(other), "explain"], "")
    assert "--force" in completions(["fetch"], "--f")
    (project / "datacachalog.toml").write_text("x = ")
    assert [] == completions(["fetch"], "c")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(catalog, shell) -> None:
    """The script asks the command itself, in the shell's own way."""
    assert f"_CATALOG_COMPLETE={shell}_complete" in catalog("completion", shell).out


# -- as a process


@pytest.mark.usefixtures("project")
def test_whoever_reads_only_the_first_line_gets_it_and_no_complaint(project: Path) -> None:
    """`catalog list | head -1`: the command ends quietly when its reader has gone."""
    many = "".join(f"datasets.d{n}.source = '{'x' * 100}'\n" for n in range(5000))
    (project / "datacachalog.toml").write_text(many)
    command = [sys.executable, "-c", RUN, "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout.readline().startswith("NAME")
        running.stdout.close()
        assert (141, "") == (running.wait(timeout=60), running.stderr.read())


@pytest.mark.usefixtures("project")
def test_closed_outputs_are_no_errors() -> None:
    """`catalog list >&- 2>&-`: what nobody wants to read is not written, and that is all."""
    done = subprocess.run(["sh", "-c", '"$0" -c "$1" list >&- 2>&-', sys.executable, RUN], timeout=60, check=False)
    assert 0 == done.returncode


SILENT = """
from contextlib import asynccontextmanager
from dataclasses import dataclass
import anyio
from datacachalog import Catalog, Dataset

@dataclass(frozen=True)
class Silent:
    @asynccontextmanager
    async def connect(self, config):
        yield self

    @asynccontextmanager
    async def read(self, request):
        open("asked", "w").close()
        await anyio.sleep_forever()
        yield

catalog = Catalog([Dataset("a", "silent://a")], cache_dir="cache", storage=Silent())
"""


def test_g10_ctrl_c_ends_a_fetch_quietly(project: Path) -> None:
    """Exit code 130, no traceback, and nothing on standard output."""
    (project / "silent.py").write_text(SILENT)
    command = [sys.executable, "-c", RUN, "fetch", "a", "--catalog", "silent:catalog"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            wait_until((project / "asked").exists, seconds=30)
            running.send_signal(signal.SIGINT)
            stdout, stderr = running.communicate(timeout=30)
        finally:
            running.kill()
    assert (130, "", False) == (running.returncode, stdout, "Traceback" in stderr)


def on_a_terminal(*args: str) -> list[str]:
    """Run the command on a terminal of 80 columns, and give the lines that it shows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    command = [sys.executable, "-c", RUN, *args]
    subprocess.run(command, stdout=theirs, env=environment | {"TERM": "xterm"}, timeout=60, check=True)
    os.close(theirs)
    seen = b""
    while len(seen) < 10_000:
        try:
            seen += os.read(ours, 10_000)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    return seen.decode().splitlines()


def test_a_table_is_cut_where_the_terminal_ends(project: Path) -> None:
    """On a terminal of 80 columns no line is longer, and there are colours; in a pipe nothing is cut."""
    (project / "datacachalog.toml").write_text(f"[datasets.long]\nsource = 'x'\ndescription = '{'日本 ' * 40}'")
    header, row = on_a_terminal("list")
    assert (True, True) == (header.startswith("\x1b[1mNAME"), row.endswith("…"))
    assert 80 >= sum(1 if character.isascii() or character == "…" else 2 for character in row)


def test_long_names_do_not_push_the_numbers_off_the_terminal(project: Path) -> None:
    """Where a table is too wide, its widest columns share the room, and what is short or a number stays whole."""
    name, source = "a_name_as_long_as_people_have_them_in_their_projects", f"remote/{'deep/' * 20}file.csv"
    (project / "datacachalog.toml").write_text(f"[datasets.{name}]\nsource = '{source}'\n[datasets.b]\nsource = 'x'")
    header, row, *_ = (re.sub(r"\x1b\[\d*m", "", line) for line in on_a_terminal("plan"))
    assert "NAME                        ACTION  BYTES  REQUESTS  REASON" == header
    assert f"{name[:25]}…  fail        0         0  {project}"[:79] + "…" == row
