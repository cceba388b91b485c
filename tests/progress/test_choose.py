"""Which display an option means, and what it costs to have one that shows nothing."""

from __future__ import annotations

import pytest

from datacachalog import ConfigurationError
from datacachalog.progress import observer_for
from datacachalog.progress._display import Display


def test_false_is_no_observer():
    """Nobody is told."""
    assert observer_for(progress=False) is None


@pytest.mark.parametrize("option", ["auto", "rich", "plain", True])
def test_a_name_is_a_display(option):
    """Each of the names makes a display."""
    assert isinstance(observer_for(option), Display)


def test_a_callable_is_the_observer():
    """The user's own is taken as it is."""
    events = []
    tell = events.append
    assert tell is observer_for(tell)


def test_a_list_is_all_of_them():
    """Each is told every event, in the order of the list; a display beside a callable too."""
    one, other = [], []
    tell = observer_for([one.append, False, other.append])
    tell("event")
    assert (["event"], ["event"]) == (one, other)
    assert callable(observer_for(["auto", one.append]))
    assert observer_for([False]) is None


def test_one_that_fails_harms_no_other(caplog):
    """It is logged and left out from then on."""
    calls, events = [], []

    def broken(event):
        calls.append(event)
        raise ValueError("broken")

    tell = observer_for([broken, events.append])
    tell(1)
    tell(2)
    assert ([1], [1, 2], 1) == (calls, events, caplog.text.count("ValueError: broken"))


@pytest.mark.parametrize("option", ["tqdm", None, 1, "", b"auto", ["tqdm"]])
def test_anything_else_is_refused_with_the_choices(option):
    """The error names what is possible."""
    with pytest.raises(ConfigurationError, match="'auto', 'rich', 'plain', True, False or a callable"):
        observer_for(option)


def test_importing_the_package_imports_no_rich(run_script):
    """Rich costs more time than the rest of the package; it is imported when it is needed."""
    done = run_script("print(sorted({'rich', 'IPython'} & set(sys.modules)))")
    assert "[]\n" == done.stdout


@pytest.mark.parametrize("env", [{}, {"FORCE_COLOR": "1"}])
def test_without_a_terminal_nothing_is_written_for_short_work_and_no_rich_is_loaded(run_script, env):
    """A log file gets no control codes, also when colours are forced in it."""
    done = run_script(
        """
        tell = observer_for("auto")
        wait_look = looked_at(tell)
        begin(tell, "a")
        wait_look()
        end(tell, "a")
        print("rich" in sys.modules)
        """,
        **env,
    )
    assert ("False\n", "") == (done.stdout, done.stderr)


def test_rich_can_be_forced_where_rich_believes_in_a_terminal(run_script):
    """`"rich"` heeds the environment variables of Rich, where the user insists."""
    done = run_script(
        """
        tell = observer_for("rich")
        wait_look = looked_at(tell)
        begin(tell, "a")
        wait_look()
        end(tell, "a")
        """,
        FORCE_COLOR="1",
        TERM="xterm",
    )
    assert "a: 1 file, 40.0 MB in 2.0 s (20.0 MB/s)" == done.stderr.splitlines()[-1].rpartition("\x1b[J")[2]


def test_a_terminal_that_can_not_move_the_cursor_gets_no_control_codes(terminal):
    """TERM=dumb means plain lines, and none for short work."""
    session = terminal(
        """
        tell = observer_for("auto")
        wait_look = looked_at(tell)
        begin(tell, "a")
        wait_look()
        end(tell, "a")
        """,
        env={"TERM": "dumb"},
    )
    assert (0, "") == (session.finish(), session.raw)
