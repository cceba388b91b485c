"""What can be said to every command, before its name or behind it, and which names can it be given?"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from .._errors import DatacachalogError

FAILED, MISUSED, FOUND, INTERRUPTED, CUT_OFF = 1, 2, 3, 130, 141
"""Exit codes: it failed; it was called wrongly, or the catalog is wrong; it found what shouldn't be; Ctrl-C; whoever
read the output went away. The last two are what shells give: 128 + SIGINT, 128 + SIGPIPE."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(slots=True)
class Settings:
    """What was said to the command as a whole."""

    catalog: str | None = None
    cache_dir: str | None = None
    offline: bool = False
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    debug: bool = False


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value and param.name is not None:
        setattr(ctx.ensure_object(Settings), param.name, value)


def shared_options() -> list[click.Parameter]:
    """Make the options that every command takes."""

    def option(*names: str, **attributes: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=_remember, **attributes)

    return [
        option("--catalog", metavar="FILE|MODULE:NAME", help="Use this catalog instead of the project's."),
        option("--cache-dir", metavar="DIR", help="Keep the copies there."),
        option("--offline", is_flag=True, help="Send no request; use what is cached."),
        option("--json", is_flag=True, help="Print the result as JSON."),
        option("-q", "--quiet", is_flag=True, help="Say nothing but the result and errors."),
        option("-v", "--verbose", is_flag=True, help="Say more of what is done, and why."),
        option("--debug", is_flag=True, help="Show the traceback of an error."),
    ]


class Command(click.Command):
    """A command that takes the shared options too, and shows them apart from its own."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._shared = shared_options()
        self.params += self._shared

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options; of the others only that they are there."""
        shared = {parameter.name for parameter in self._shared}
        records = [
            record
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option)
            and parameter.name not in shared
            and (record := parameter.get_help_record(ctx)) is not None
        ]
        with formatter.section("Options"):
            formatter.write_dl(records)
        names = ", ".join(parameter.opts[-1] for parameter in self._shared)
        with formatter.section("Options of every command (see 'catalog --help')"):
            formatter.write_text(names)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, with the library's log on stderr if more is to be said."""
        with _log_lines() if ctx.ensure_object(Settings).verbose else contextlib.nullcontext():
            return super().invoke(ctx)


@contextlib.contextmanager
def _log_lines() -> Iterator[None]:
    logger, handler = logging.getLogger("datacachalog"), logging.StreamHandler(sys.stderr)
    level = logger.level
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def catalog_command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Declare a command; its function's docstring is its help text."""
    return click.command(name, cls=Command)


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001  # click's signature
    from ._chosen import chosen_datasets

    try:
        datasets = chosen_datasets(ctx.ensure_object(Settings)).datasets
    except DatacachalogError:  # what is wrong is said when the command runs
        return []
    given = ctx.params.get("names") or ()
    names = [dataset for dataset in datasets if dataset.name.startswith(incomplete) and dataset.name not in given]
    return [CompletionItem(dataset.name, help=dataset.description or None) for dataset in names]


def dataset_names(*, is_required: bool = False) -> Callable[[_Function], _Function]:
    """Let a command take names of datasets, which the shell can complete."""
    metavar = "NAME..." if is_required else "[NAME]..."
    return click.argument("names", nargs=-1, required=is_required, metavar=metavar, shell_complete=_complete)


def dataset_name(function: _Function) -> _Function:
    """Let a command take the name of one dataset, which the shell can complete."""
    return click.argument("name", shell_complete=_complete)(function)
