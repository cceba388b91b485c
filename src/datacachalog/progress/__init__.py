"""How is the work shown to a person? As a Rich live display, a Jupyter display or plain lines, as fits where they look.

All of them go the same way: events are folded to numbers (`_tally`), a thread of the display's own looks at the numbers
now and then (`_display`), and a view puts them on its surface (`_rich` on `_terminal`, `_notebook`, `_plain`) in the
same words (`_wording`). Everything goes to standard error; standard output belongs to the program.

Importing this package imports no Rich; it is loaded when there is something to show on a terminal.
"""

from __future__ import annotations

from ._choose import ProgressOption, observer_for

__all__ = ["ProgressOption", "observer_for"]
