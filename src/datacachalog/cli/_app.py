"""Which commands are there, and what does the process say and return when one of them fails?

A command is a module of its own that is imported when it is asked for, so that none pays for the others' imports.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module

import click

from .. import __version__
from .._errors import ConfigurationError, DatacachalogError, DatasetNotFoundError, StaleDataWarning
from ._options import CUT_OFF, FAILED, INTERRUPTED, MISUSED, Settings, shared_options
from ._output import show, show_error

_COMMANDS = (
    "clean", "completion", "demo", "doctor", "evict", "explain", "fetch", "info", "init", "invalidate", "list", "lock",
    "page", "plan", "push", "schema", "status", "sync", "validate", "verify", "versions",
)  # fmt: skip
"""Each is a module of that name behind an underscore, which has the command as `command`."""


class _LazyGroup(click.Group):
    """A group that imports a command's module when the command is called, or the list of commands is shown."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Name the commands, without an import."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        """Import one command; None if there is none of that name."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"._{cmd_name}", __package__).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is called, and say which one might be meant if there is none."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            import difflib

            if close := difflib.get_close_matches(args[0], _COMMANDS, n=1):
                ctx.fail(f"No such command {args[0]!r}: did you mean {close[0]!r}?")
            raise

    def invoke(self, ctx: click.Context) -> object:
        """Run the command and write out what it printed, as long as there is somebody to read it."""
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:  # closed by the shell: `>&-`
                sys.stdout.flush()
        except OSError as error:
            # Also a full disk would be complained of once more at the interpreter's end.
            if error.errno in (errno.EPIPE, errno.ENOSPC):
                _forget_stdout()
            if error.errno == errno.EPIPE:
                raise click.exceptions.Exit(CUT_OFF) from None
            raise
        return result


@click.group(
    cls=_LazyGroup,
    params=shared_options(),
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong call or catalog, 3 something isn't as it should be, 130 Ctrl-C.",
)
@click.version_option(__version__, prog_name="datacachalog", message="%(prog)s %(version)s")
def app() -> None:
    """Fetch named datasets from object storage into a local cache.

    The catalog is the nearest datacachalog.toml, or [tool.datacachalog] in a pyproject.toml, from here upwards. Results
    go to standard output, everything else to standard error.

    \b
    Examples:
      catalog init customers=s3://acme-data/crm/customers.csv
      catalog list
      path=$(catalog fetch customers)
      catalog status --json
    """  # noqa: D301  # \b is click's mark for lines that stay as they are


def run(args: Sequence[str] | None = None) -> int:
    """Run a command line and give its exit code; errors are one line on stderr, never a traceback.

    Args:
        args: the arguments; None means the process's own.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal or pipe that can't write a character gets a question mark instead of a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    settings = Settings()
    with warnings.catch_warnings():
        warnings.simplefilter("always", StaleDataWarning)
        warnings.showwarning = lambda message, *_, **__: None if settings.quiet else show("Warning", message, "yellow")
        try:
            code = app.main(args, prog_name="catalog", standalone_mode=False, obj=settings)
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except (click.Abort, KeyboardInterrupt):
            return INTERRUPTED
        except Exception as error:  # noqa: BLE001  # no traceback, whatever it is
            if settings.debug:
                traceback.print_exc()
            return _failed(error, settings)
    return code if isinstance(code, int) else 0


def _failed(error: Exception, settings: Settings) -> int:
    if not isinstance(error, DatacachalogError):
        hint = "" if settings.debug else " (--debug shows where)"
        show_error(f"{type(error).__name__}: {error}{hint}")
        return FAILED
    show_error(error)
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            click.echo(f"  {one}", err=True)
    return MISUSED if isinstance(error, ConfigurationError | DatasetNotFoundError) else FAILED


def _forget_stdout() -> None:
    """Let what is still to be written go nowhere, so that the interpreter doesn't complain of it at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
