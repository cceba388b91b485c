"""Which display does the `progress` argument mean? Decided when there is something to show, not when it is made."""

from __future__ import annotations

import os
import sys
from typing import Any, Literal, TypeAlias

from .._errors import ConfigurationError
from ..ports import Observer
from ._display import Display, View
from ._plain import PlainLines

ProgressOption: TypeAlias = Literal["auto", "rich", "plain"] | bool | Observer
"""What a catalog's `progress` can be; `observer_for` tells what each means."""

_TERMINALS_WITHOUT_CURSOR = frozenset({"dumb", "unknown"})


def observer_for(progress: ProgressOption) -> Observer | None:
    """Make the observer that a catalog's `progress` argument asks for.

    Args:
        progress: `"auto"` or True: a live display if standard error is a terminal or the program runs in a Jupyter
            kernel, else plain lines. `"rich"`: the live display wherever Rich says that one is possible, by its
            environment variables `FORCE_COLOR`, `TTY_COMPATIBLE` and `TTY_INTERACTIVE`, else plain lines. `"plain"`:
            plain lines. False: nothing. A callable: that one.

    Returns:
        A callable that takes every event, from any thread; None if nobody wants to be told.

    Raises:
        ConfigurationError: it is none of these.
    """
    if progress is False:
        return None
    if progress is True or progress == "auto":
        return Display(_fitting_view)
    if progress == "rich":
        return Display(_live_view)
    if progress == "plain":
        return Display(PlainLines)
    if callable(progress):
        return progress
    raise ConfigurationError(
        f"progress is 'auto', 'rich', 'plain', True, False or a callable that takes an event: got {progress!r}"
    )


def _fitting_view() -> View:
    # FORCE_COLOR asks for colours, also in the log file of a build, where lines that move would only be noise: here
    # only a real terminal counts.
    if _is_in_notebook() or _is_terminal(sys.stderr):
        return _live_view()
    return PlainLines()


def _live_view() -> View:
    if _is_in_notebook():
        from ._notebook import NotebookView

        return NotebookView()
    from ._rich import rich_view

    return rich_view(sys.stderr) or PlainLines()


def _is_terminal(stream: Any) -> bool:
    """Tell whether a stream, which may be closed, replaced or None, is a terminal whose cursor can be moved."""
    if os.environ.get("TERM", "").lower() in _TERMINALS_WITHOUT_CURSOR:
        return False
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError, OSError):
        return False


def _is_in_notebook() -> bool:
    """Tell whether this is a Jupyter kernel, without importing IPython into a program that doesn't use it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
