"""The display in Jupyter, in a real kernel: in the calling cell, updated in place, without widgets."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
import pytest

BEGIN = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from telling import *
"""


@pytest.fixture(scope="module")
def run_cells():
    def run(*sources):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in (BEGIN, *sources)])
        nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
        return [cell.outputs for cell in notebook.cells[1:]]

    return run


@pytest.fixture(scope="module")
def cells(run_cells):
    """The outputs of a notebook that fetches in several ways."""
    in_thread = """
tell = observer_for("auto")
wait_look = looked_at(tell)
def fetch():
    begin(tell, "customers")
    wait_look()
    end(tell, "customers")
thread = threading.Thread(target=fetch)
thread.start()
thread.join()
print("done")
"""
    in_loop = """
import asyncio
tell = observer_for("auto")
wait_look = looked_at(tell)
begin(tell, "orders")
await asyncio.to_thread(wait_look)
end(tell, "orders")
"""
    short = """
begin(tell, "short")
end(tell, "short")
"""
    unfinished = """
tell = observer_for("auto")
wait_look = looked_at(tell)
thread = threading.Thread(target=begin, args=(tell, "<b>a</b>\\x1b[1m"))
thread.start()
_ = wait_look()
"""
    modules = "print('ipywidgets' in sys.modules, 'rich' in sys.modules)"
    outputs = run_cells(in_thread, in_loop, short, modules, unfinished)
    return dict(zip(("in_thread", "in_loop", "short", "modules", "unfinished"), outputs, strict=True))


def test_progress_of_another_thread_is_one_output_that_ends_as_the_summary(cells):
    """The events of a blocking call come from the thread of its event loop."""
    display, printed = cells["in_thread"]
    assert ("customers: 1 file, 40.0 MB in 2.0 s (20.0 MB/s)", "done\n") == (display.data["text/plain"], printed.text)


def test_progress_of_an_await_is_in_the_cell_that_awaits(cells):
    """In a running loop nothing is different."""
    (display,) = cells["in_loop"]
    assert "orders: 1 file, 40.0 MB in 2.0 s (20.0 MB/s)" == display.data["text/plain"]


def test_short_work_leaves_no_output(cells):
    """A warm fetch shows nothing."""
    assert [] == cells["short"]


def test_neither_widgets_nor_rich_are_needed(cells):
    """A front end without the widgets extension shows it too."""
    assert "False False\n" == "".join(output.text for output in cells["modules"])


def test_names_are_text_and_not_html(cells):
    """A name can't bring a script into the page."""
    (display,) = cells["unfinished"]
    assert ("&lt;b&gt;a&lt;/b&gt;�[1m" in display.data["text/html"], "<b>" in display.data["text/html"]) == (
        True,
        False,
    )
