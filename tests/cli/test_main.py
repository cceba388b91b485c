"""The `catalog` command as a whole: what it says, what it returns, and what it doesn't import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import datacachalog

RUN = "from datacachalog.cli import main; main()"


def catalog(*args: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, after some Python."""
    command = [sys.executable, "-c", f"{before}\n{RUN}", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_version_is_that_of_the_package() -> None:
    """`--version` prints the package's version, on stdout."""
    assert (0, f"datacachalog {datacachalog.__version__}\n") == (
        (done := catalog("--version")).returncode,
        done.stdout,
    )


@pytest.mark.parametrize("args", [["--version"], ["--help"], ["demo", "--help"]])
def test_what_needs_no_library_imports_none(args: list[str]) -> None:
    """The version and the help texts are quick: they import nothing that only a command needs."""
    heavy = "{'aiobotocore', 'aiohttp', 'anyio', 'botocore', 'moto', 'pyarrow', 'rich'}"
    watch = f"import atexit, sys; atexit.register(lambda: print(sorted({heavy} & set(sys.modules)), file=sys.stderr))"

    assert "[]\n" == catalog(*args, before=watch).stderr


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_the_help_lists_the_commands(option: str) -> None:
    """Both help options name every command."""
    assert "\n  demo  " in catalog(option).stdout


def test_an_unknown_command_is_a_wrong_call() -> None:
    """A command that isn't there exits with 2 and names what was asked for."""
    done = catalog("fecth")

    assert (2, True) == (done.returncode, "'fecth'" in done.stderr)


def test_without_its_library_the_command_says_what_to_install() -> None:
    """Where click isn't installed, there is one line with the extra's name, and exit code 2."""
    done = catalog("--version", before="import sys; sys.modules['click'] = None")

    assert (2, "catalog: the command line needs an extra: pip install 'datacachalog[cli]'\n") == (
        done.returncode,
        done.stderr,
    )


@pytest.mark.parametrize("module", ["moto", "flask", "pyarrow"])
def test_without_its_libraries_the_demo_says_what_to_install(module: str) -> None:
    """Where one of the demo's libraries isn't installed, there is one line with the extra's name, and exit code 2."""
    done = catalog("demo", before=f"import sys; sys.modules[{module!r}] = None")

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
    done = catalog("demo", before=raising)

    assert (1, "Error: /cache can not be written\n") == (done.returncode, done.stderr)
