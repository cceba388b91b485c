"""Which display does the `progress` argument mean? Decided when there is something to show, not when it is made."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from .._errors import ConfigurationError
from ..ports import Event, Observer
from ._display import Display, View
from ._plain import PlainLines

OneOption: TypeAlias = Literal["auto", "rich", "plain"] | bool | Observer
ProgressOption: TypeAlias = OneOption | Sequence[OneOption]
"""What a catalog's `progress` can be; `observer_for` tells what each means."""

_log = logging.getLogger("datacachalog.progress")

_TERMINALS_WITHOUT_CURSOR = frozenset({"dumb", "unknown"})


def observer_for(progress: ProgressOption) -> Observer | None:
    """Make the observer that a catalog's `progress` argument asks for.

    Args:
        progress: `"auto"` or True: a live display if standard error is a terminal or the program runs in a Jupyter
            kernel, else plain lines. `"rich"`: the live display wherever Rich says that one is possible, by its
            environment variables `FORCE_COLOR`, `TTY_COMPATIBLE` and `TTY_INTERACTIVE`, else plain lines. `"plain"`:
            plain lines. False: nothing. A callable: that one. A sequence of these: all of them.

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
    if isinstance(progress, Sequence) and not isinstance(progress, str | bytes):
        observers = [observer for option in progress if (observer := observer_for(option)) is not None]
        return _Each(observers) if observers else None
    raise ConfigurationError(
        f"progress is 'auto', 'rich', 'plain', True, False or a callable that takes an event, or a list of these: got"
        f" {progress!r}"
    )


class _Each:
    """Tells several observers; one that fails is left out from then on, and harms no other."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def __call__(self, event: Event) -> None:
        for observer in self._observers:
            try:
                observer(event)
            except Exception:  # noqa: BLE001  # whatever an observer fails with harms no other
                _log.exception("an observer failed and is not called any more")
                self._observers = tuple(other for other in self._observers if other is not observer)


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
