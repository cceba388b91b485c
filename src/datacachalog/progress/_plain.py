"""How is progress shown without a terminal? A line now and then: none for short work, rarer the longer it takes."""

from __future__ import annotations

import sys

from ._display import Look
from ._tally import Summary
from ._wording import line_text, summary_text

_LINES_AT_SECONDS = (5.0, 10.0, 20.0, 30.0, 60.0)
"""When a line is written, in seconds from the beginning; after the last one, each minute."""


class PlainLines:
    """Writes lines to standard error, as it is when they are written. What can't be written is left out."""

    def __init__(self) -> None:
        self._due_seconds = _LINES_AT_SECONDS[0]

    def seconds_until_due(self, look: Look) -> float:
        """See `View`."""
        return max(0.0, self._due_seconds - look.elapsed_seconds)

    def show(self, look: Look) -> float:
        """See `View`."""
        self._write(line_text(look.progress))
        elapsed = look.elapsed_seconds
        each_minute = 60.0 * (elapsed // 60.0 + 1.0)
        self._due_seconds = next((due for due in _LINES_AT_SECONDS if due > elapsed), each_minute)
        return self._due_seconds - elapsed

    def close(self, summary: Summary | None) -> None:
        """See `View`."""
        if summary is not None:
            self._write(summary_text(summary))

    def _write(self, text: str) -> None:
        stream = sys.stderr
        if stream is None:
            return
        encoding = getattr(stream, "encoding", None) or "utf-8"
        try:
            stream.write(f"datacachalog: {text}\n".encode(encoding, "replace").decode(encoding))
            stream.flush()
        except (OSError, ValueError):
            # Closed, or the reader of the pipe has gone: nobody is left to tell, and the work goes on.
            return
