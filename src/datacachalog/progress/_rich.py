"""What does progress look like on a terminal? One line for everything, and one for each of the most active large files.

Rich knows the terminal (colours, its environment variables, widths of characters) and renders the lines; where they go,
and how the terminal stays in order, is the business of `_terminal`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from io import StringIO
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.file_proxy import FileProxy
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.text import Text

from ._terminal import LiveArea, unwrapped
from ._wording import (
    bytes_of_text,
    count_text,
    failed_text,
    file_fraction,
    file_text,
    fraction,
    left_text,
    rate_text,
    retries_text,
    summary_text,
)

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderResult

    from ._display import Look
    from ._tally import Progress, Summary

_INTERVAL_SECONDS = 0.1
_BAR_COLUMNS = (8, 40)
_NAME_COLUMNS = (12, 32)


def rich_view(stream: Any) -> RichView | None:
    """Make a view on that stream, if Rich says that lines can move there (a terminal, by all that Rich heeds)."""
    # A live display of the program's own may have put its proxy around the stream.
    stream = unwrapped(getattr(stream, "rich_proxied_file", stream))
    if stream is None:
        return None
    page = _Page(stream)
    console = Console(file=page, force_jupyter=False, highlight=False)
    # An old Windows console has no control codes.
    if not console.is_interactive or console.legacy_windows:
        return None
    return RichView(console, page, LiveArea(stream))


class _Page(StringIO):
    """What Rich takes for the terminal and writes to: memory.

    Rich itself must not write to the terminal: it answers a broken pipe by sending standard output to nowhere and
    ending the program.
    """

    def __init__(self, terminal: TextIO) -> None:
        super().__init__()
        self._terminal = terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed gives the None of StringIO's base
        return self._terminal.encoding

    def isatty(self) -> bool:
        return self._terminal.isatty()

    def take(self) -> str:
        """Hand out what has been written since the last time."""
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


class RichView:
    """Shows a burst in a live area of the terminal.

    Args:
        console: knows the terminal, and renders.
        page: where it renders to.
        area: where the lines go.
    """

    def __init__(self, console: Console, page: _Page, area: LiveArea) -> None:
        self._console = console
        self._page = page
        self._area = area
        self._has_drawn = False

    def seconds_until_due(self, look: Look) -> float:  # noqa: ARG002  # due as soon as there is a view
        """See `View`."""
        return 0.0

    def show(self, look: Look) -> float:
        """See `View`."""
        if _is_taken():
            self._area.erase()
            return _INTERVAL_SECONDS
        columns, rows = self._area.size()
        columns, rows = columns or self._console.width, rows or self._console.height
        # The last column stays empty, because some terminals wrap when it is written; one row is the program's.
        frame = _Frame(look.progress, columns=columns - 1, rows=rows - 1)
        lines = self._rendered(frame) if columns > 1 and rows > 1 else []
        self._has_drawn = self._has_drawn or bool(lines)
        self._area.draw(lines)
        return _INTERVAL_SECONDS

    def close(self, summary: Summary | None) -> None:
        """See `View`."""
        if summary is None or not self._has_drawn or _is_taken():
            self._area.close()
            return
        style = "red" if summary.datasets_failed else "yellow" if summary.is_cancelled else ""
        # Wrapped by the terminal if it must be: it stays, so nothing of it may be lost.
        self._area.close("".join(self._rendered(Text(summary_text(summary), style=style))))

    def _rendered(self, renderable: Text | _Frame) -> list[str]:
        self._console.print(renderable, end="", soft_wrap=True)
        return self._encodable(self._page.take()).split("\n")

    def _encodable(self, text: str) -> str:
        encoding = self._console.encoding
        return text if encoding.startswith("utf") else text.encode(encoding, "replace").decode(encoding)


def _is_taken() -> bool:
    """Tell whether a Rich live display of the program's own moves lines: two would destroy each other's."""
    return isinstance(sys.stdout, FileProxy) or isinstance(sys.stderr, FileProxy)


class _Frame:
    """The lines, laid out for a width: names, bars and what is said on the right of them stand below each other.

    Args:
        progress: what to show.
        columns: width of the longest line possible.
        rows: how many lines there may be.
    """

    def __init__(self, progress: Progress, *, columns: int, rows: int) -> None:
        self._progress = progress
        self._columns = columns
        self._active = progress.active[: max(0, rows - 1)]
        self._count = count_text(progress)
        lowest, highest = _NAME_COLUMNS
        self._name_columns = min(max(min(max(lowest, columns // 4), highest), len(self._count)), columns)
        self._facts = self._fitting_facts()
        lowest, highest = _BAR_COLUMNS
        # A part of the width and not what is left over: bars should keep their length while the facts change theirs.
        preferred = max(min((columns - self._name_columns) // 4, highest), lowest)
        room = columns - self._name_columns - len(self._facts) - 3
        self._bar_columns = min(room, preferred) if room >= lowest else 0

    def _fitting_facts(self) -> str:
        """Choose what is said on the right of the first line: what matters least gives way first in a narrow window."""
        progress = self._progress
        ranked = (
            (1, bytes_of_text(progress) if progress.total_bytes else ""),
            (4, rate_text(progress)),
            (3, left_text(progress)),
            (5, retries_text(progress.retries)),
            (2, failed_text(progress.datasets_failed)),
        )
        room = self._columns - self._name_columns - 1
        for lowest_rank in (5, 4, 3, 2, 1):
            facts = "  ".join(fact for rank, fact in ranked if fact and rank <= lowest_rank)
            # A bar matters less than what is done and what failed, and more than the rest.
            if len(facts) + (_BAR_COLUMNS[0] + 2 if lowest_rank > 2 else 0) <= room:
                return facts
        return ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        progress = self._progress
        style = "bold red" if progress.datasets_failed else "bold"
        yield from self._line(Text(self._count, style=style), fraction(progress), self._facts)
        for file in self._active:
            yield Segment.line()
            yield from self._line(Text(f"  {file_text(file)}"), file_fraction(file), bytes_of_text(file))

    def _line(self, name: Text, part: float, facts: str) -> Iterator[Text | ProgressBar | Segment]:
        name.truncate(self._name_columns, overflow="ellipsis", pad=True)
        name.end = ""
        yield name
        room = self._columns - self._name_columns
        if self._bar_columns:
            yield Segment(" ")
            yield ProgressBar(total=1.0, completed=part, width=self._bar_columns)
            room -= self._bar_columns + 1
        said = Text(f"{'  ' if self._bar_columns else ' '}{facts}", end="")
        said.truncate(room, overflow="crop")
        yield said
