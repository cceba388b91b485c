"""What does progress look like in Jupyter? An output of the calling cell that is updated in place.

A display with an id is a message like any other output: it needs no widgets in the kernel or the front end, may be sent
from any thread, and is kept in the saved notebook as it was last, which is the summary. The cell it belongs to is known
from a context variable (ipykernel 7) or from the kernel's latest request (before).
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from ._wording import (
    bytes_of_text,
    file_fraction,
    file_text,
    fraction,
    line_text,
    summary_text,
)

if TYPE_CHECKING:
    from ._display import Look
    from ._tally import Progress, Summary

_INTERVAL_SECONDS = 0.25
"""Every update is a message to the browser, and stays in its memory."""


class NotebookView:
    """Shows a burst in the output of a cell, as HTML and as plain text."""

    def __init__(self) -> None:
        self._handle: Any = None

    def seconds_until_due(self, look: Look) -> float:  # noqa: ARG002  # due as soon as there is a view
        """See `View`."""
        return 0.0

    def show(self, look: Look) -> float:
        """See `View`."""
        self._update(_text(look.progress), _html(look.progress))
        return _INTERVAL_SECONDS

    def close(self, summary: Summary | None) -> None:
        """See `View`."""
        # An output can't be taken away without the cell's other outputs; an unfinished one is at least true.
        if summary is not None:
            text = summary_text(summary)
            self._update(text, f"<pre>{escape(text)}</pre>")

    def _update(self, text: str, html: str) -> None:
        import IPython.display

        display: Any = IPython.display.display  # it declares no types
        data = {"text/plain": text, "text/html": html}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


def _text(progress: Progress) -> str:
    files = (f"  {file_text(file)}: {bytes_of_text(file)}" for file in progress.active)
    return "\n".join([line_text(progress), *files])


def _html(progress: Progress) -> str:
    rows = [(line_text(progress), fraction(progress))]
    rows += [(f"{file_text(file)}: {bytes_of_text(file)}", file_fraction(file)) for file in progress.active]
    return "".join(
        f'<div><progress max="1" value="{part:.3f}"></progress> <code>{escape(text)}</code></div>'
        for text, part in rows
    )
