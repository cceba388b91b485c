"""The live display on a real terminal: what is seen, that it goes away, and that nothing else is harmed."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

ONE = """
tell = observer_for("auto")
print("before", flush=True)
begin(tell, "customers")
wait()
end(tell, "customers")
print("after")
"""


def test_progress_is_shown_below_the_line_of_the_program(terminal):
    """One line for everything and one for the file, in the place where nothing of the program's is."""
    session = terminal(ONE)
    session.until("customers")
    assert ["before", "", "0/1 dataset"] == [line.partition("  ")[0] for line in session.screen.lines[:3]]


def test_a_large_file_has_a_line_with_its_bytes(terminal):
    """Name, bar, and how much of how much."""
    session = terminal(ONE)
    session.until("customers")
    line = session.screen.lines[3]
    assert ("customers", "10.0 of 40.0 MB") == (line.split()[0], " ".join(line.split()[-4:]))


def test_one_summary_line_takes_the_place_of_the_display(terminal):
    """What the program prints next follows it."""
    session = terminal(ONE)
    session.until("customers")
    session.go_on()
    session.finish()
    expected = ["before", "customers: 1 file, 40.0 MB in 2.0 s (20.0 MB/s)", "after"]
    assert expected == session.screen.lines


def test_a_push_is_shown_as_one(terminal):
    """In the lines while it goes on, and in the summary."""
    session = terminal(
        """
tell = observer_for("auto")
begin(tell, "customers", kind="push")
wait()
end(tell, "customers", action="uploaded")
"""
    )
    session.until("customers")
    shown = [line.partition("  ")[0].strip() for line in (line.strip() for line in session.screen.lines[:3]) if line]
    session.go_on()
    session.finish()
    assert ["0/1 dataset pushed", "customers (push)"] == shown
    assert ["customers: 1 file pushed, 40.0 MB in 2.0 s (20.0 MB/s)"] == session.screen.lines


def test_g10_the_cursor_is_visible_after_every_write(terminal):
    """A process may be killed at any time, and leaves a terminal that can be used."""
    session = terminal(ONE)
    session.until("customers")
    assert session.screen.is_cursor_visible


def test_g10_the_cursor_stays_where_the_program_left_it(terminal):
    """The program's next character goes where it would have gone without a display."""
    session = terminal(ONE)
    session.until("customers")
    assert (1, 0) == (session.screen.row, session.screen.column)


def test_g10_a_cancelled_operation_clears_the_screen_and_says_so(terminal):
    """Ctrl-C leaves one line that tells what happened."""
    session = terminal(
        """
        tell = observer_for("auto")
        begin(tell, "customers")
        wait()
        end(tell, is_cancelled=True)
        """
    )
    session.until("customers")
    session.go_on()
    session.finish()
    screen = session.screen
    assert (["customers: cancelled after 2.0 s: 0 files finished, 0 B received"], True) == (
        screen.lines,
        screen.is_cursor_visible,
    )


def test_g10_the_screen_is_cleared_when_the_interpreter_exits_in_the_middle(terminal):
    """An operation that never ended leaves nothing behind."""
    session = terminal(
        """
        tell = observer_for("auto")
        begin(tell, "customers")
        wait()
        print("leaving")
        sys.exit(3)
        """
    )
    session.until("customers")
    session.go_on()
    assert (3, ["leaving"], True) == (session.finish(), session.screen.lines, session.screen.is_cursor_visible)


def test_what_the_program_prints_is_not_mangled(terminal):
    """Several lines in one print go over the display, which comes again below them."""
    session = terminal(
        """
        tell = observer_for("auto")
        begin(tell, "customers")
        wait()
        print("one\\ntwo\\nthree")
        print("four ", end="", flush=True)
        wait()
        print("five", file=sys.stderr)
        end(tell, "customers")
        """
    )
    session.until("customers")
    session.go_on()
    session.until_lines(lambda lines: len(lines) == 6 and lines[5].startswith("  customers"))
    during = session.screen.lines[:4]
    session.go_on()
    session.finish()
    assert (
        ["one", "two", "three", "four"],
        ["one", "two", "three", "four five", "customers: 1 file, 40.0 MB in 2.0 s (20.0 MB/s)"],
    ) == (during, session.screen.lines)


def test_a_line_written_past_the_display_is_not_mangled(terminal):
    """A log handler keeps the stream that it was made with."""
    session = terminal(
        """
        import logging
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        tell = observer_for("auto")
        begin(tell, "customers")
        wait()
        logging.info("a line of the log")
        wait()
        end(tell, "customers")
        """
    )
    session.until("customers")
    session.go_on()
    session.until_lines(lambda lines: lines[0] == "a line of the log" and lines[-1].startswith("  customers"))
    session.go_on()
    session.finish()
    assert ["a line of the log", "customers: 1 file, 40.0 MB in 2.0 s (20.0 MB/s)"] == session.screen.lines


def test_a_program_in_the_middle_of_a_line_keeps_it(terminal):
    """The summary doesn't overwrite what has no line end yet."""
    session = terminal(
        """
        tell = observer_for("auto")
        begin(tell, "customers")
        wait()
        sys.stdout.write("loading ... ")
        sys.stdout.flush()
        end(tell, "customers")
        """
    )
    session.until("customers")
    session.go_on()
    session.finish()
    assert ["loading ...", "customers: 1 file, 40.0 MB in 2.0 s (20.0 MB/s)"] == session.screen.lines


def test_the_streams_are_the_programs_own_again(terminal):
    """What was put in front of them for the time of the display is gone."""
    session = terminal(
        """
        streams = sys.stdout, sys.stderr
        tell = observer_for("auto")
        begin(tell, "customers")
        wait()
        end(tell, "customers")
        print(streams == (sys.stdout, sys.stderr))
        """
    )
    session.until("customers")
    session.go_on()
    session.finish()
    assert "True" == session.screen.lines[-1]


def test_standard_output_in_a_pipe_is_neither_written_nor_replaced(terminal):
    """`python script.py > result` gets the program's bytes and nothing else."""
    session = terminal(
        """
        stdout = sys.stdout
        tell = observer_for("auto")
        begin(tell, "customers")
        wait()
        print("result", stdout is sys.stdout)
        end(tell, "customers")
        """,
        is_stdout_piped=True,
    )
    session.until("customers")
    session.go_on()
    session.finish()
    assert b"result True\n" == session.stdout


@pytest.mark.parametrize("columns", [80, 40, 20, 5, 2])
def test_no_line_is_wider_than_the_terminal(terminal, columns):
    """A line that wraps would push the others away at every redraw."""
    session = terminal(
        """
        names = ["日本語データセットの長い名前", "a-name-that-is-longer-than-most-terminals-can-show", "c"]
        tell = observer_for("auto")
        begin(tell, *names)
        tell(RequestRetried(operation=1, dataset="c", uri="s3://b/c", attempt=1, delay_seconds=1, reason="reset"))
        tell(DatasetFailed(operation=1, dataset="c", reason="gone"))
        wait()
        end(tell, *names)
        """,
        columns=columns,
    )
    session.until("\x1b[?25h")
    wrapped = session.screen.wrapped
    widest = max(cell_len(line) for line in session.screen.lines)
    session.go_on()
    session.finish()
    assert (0, True) == (wrapped, widest < columns)


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_a_low_terminal_shows_fewer_lines(terminal, rows):
    """The program's line stays on the screen, whatever there is to show."""
    session = terminal(
        """
        tell = observer_for("auto")
        print("before")
        begin(tell, *"abcdef")
        wait()
        end(tell, *"abcdef")
        """,
        rows=rows,
    )
    session.until("\x1b[J")
    cursor_row = session.screen.row
    session.go_on()
    session.finish()
    summary = "6 files, 240.0 MB in 2.0 s (120.0 MB/s)"
    assert (True, rows > 1) == (cursor_row <= max(0, rows - 2), summary in session.raw)


def test_names_are_shown_as_they_are_and_can_do_nothing(terminal):
    """Markup is text, and control characters are replaced."""
    session = terminal(
        """
        names = ["[bold]a[/bold]", ":smile:", "x\\x1b[2Jy"]
        tell = observer_for("auto")
        begin(tell, *names)
        wait()
        end(tell, *names)
        """
    )
    session.until("smile")
    assert ["[bold]a[/bold]", ":smile:", "x�[2Jy"] == [line.split()[0] for line in session.screen.lines[2:5]]


def test_g13_nothing_of_a_uri_but_its_last_part_is_shown(terminal):
    """User parts and signatures don't reach the screen."""
    session = terminal(
        """
        tell = observer_for("auto")
        tell(OperationStarted(operation=1, datasets=1))
        tell(DatasetResolved(operation=1, dataset="d", files=2))
        secret = "https://user:password@host/part-1?X-Amz-Signature=abcdef"
        tell(TransferStarted(operation=1, dataset="d", uri=secret, size_bytes=40_000_000))
        wait()
        end(tell, is_cancelled=True)
        """
    )
    session.until("part-1")
    session.go_on()
    session.finish()
    assert [] == [secret for secret in ("user", "password", "Signature", "abcdef") if secret in session.raw]


def test_no_color_means_no_colors(terminal):
    """NO_COLOR takes the colours, not the display."""
    session = terminal(ONE, env={"NO_COLOR": "1"})
    session.until("customers")
    assert "\x1b[3" not in session.raw


def test_colors_are_used_on_a_terminal(terminal):
    """Without NO_COLOR there are some."""
    session = terminal(ONE)
    session.until("customers")
    assert "\x1b[3" in session.raw


def test_a_live_display_of_the_program_has_the_terminal_for_itself(terminal):
    """Two that move lines on one terminal would destroy each other's, so this one stays silent."""
    session = terminal(
        """
        from rich.console import Console
        from rich.live import Live
        with Live("theirs", console=Console(stderr=True), auto_refresh=False):
            tell = observer_for("auto")
            wait_look = looked_at(tell)
            begin(tell, "customers")
            wait_look()
            end(tell, "customers")
        """
    )
    assert (0, False) == (session.finish(), "customers" in session.raw)


def test_a_standard_error_that_breaks_stops_the_display_and_nothing_else(terminal):
    """A display that can't write is no reason to fail."""
    session = terminal(
        """
        tell = observer_for("auto")
        wait_look = looked_at(tell)
        begin(tell, "customers")
        wait_look()
        wait()
        os.close(2)
        wait_look()
        wait_look()
        end(tell, "customers")
        print("fetched", sys.stdout is sys.__stdout__)
        """,
        is_stdout_piped=True,
    )
    session.until("customers")
    session.go_on()
    session.finish()
    assert b"fetched True\n" == session.stdout


def test_a_forked_child_can_print_while_the_parent_shows_progress(terminal):
    """The lock that the drawing thread may hold doesn't exist in the child."""
    session = terminal(
        """
        import warnings
        warnings.simplefilter("ignore")
        tell = observer_for("auto")
        begin(tell, "customers")
        wait()
        for number in range(20):
            child = os.fork()
            if child == 0:
                print("child", number, flush=True)
                os._exit(0)
            os.waitpid(child, 0)
        end(tell, "customers")
        """
    )
    session.until("customers")
    session.go_on()
    assert (0, 20) == (session.finish(), session.raw.count("child "))


def test_an_encoding_without_the_signs_gets_others(terminal):
    """The bars of a terminal in ASCII are made of ASCII."""
    session = terminal(ONE, env={"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    session.until("customers")
    session.go_on()
    session.finish()
    assert session.raw.isascii()
