"""Which commands are there, and what does the process say and return when one of them fails?

A command is a module of its own that is imported when it is asked for, so that none pays for the others' imports.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from .. import DatacachalogError, __version__

_COMMANDS = {"demo": "_demo"}
"""Command → its module, which has the command as `command`."""

INTERRUPTED = 130
"""The exit code after Ctrl-C, as a shell gives it: 128 + SIGINT."""


class _LazyGroup(click.Group):
    """A group that imports a command's module when the command is called, or the list of commands is shown."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Name the commands, without an import."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        """Import one command; None if there is none of that name."""
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = import_module(f".{module}", __package__).command
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="datacachalog", message="%(prog)s %(version)s")
def app() -> None:
    """Fetch named datasets from object storage into a local cache."""


def run(args: Sequence[str] | None = None) -> int:
    """Run a command line and give its exit code; errors are one line on stderr, never a traceback.

    Args:
        args: the arguments; None means the process's own.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal or pipe that can't write a character gets a question mark instead of a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = app.main(args, prog_name="catalog", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    except DatacachalogError as error:
        _show(error)
        return 1
    return code if isinstance(code, int) else 0


def _show(error: DatacachalogError) -> None:
    click.echo(f"Error: {error}", err=True)
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            click.echo(f"  {one}", err=True)
