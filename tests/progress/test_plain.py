"""Plain lines: none for short work, rarer the longer it takes, and never a reason to fail."""

from __future__ import annotations

import io
import sys

import pytest

from datacachalog._events import OperationFinished, OperationStarted, TransferAdvanced, TransferStarted
from datacachalog.progress._display import Look
from datacachalog.progress._plain import PlainLines
from datacachalog.progress._tally import Tally


@pytest.fixture
def tally():
    tally = Tally()
    tally.fold(OperationStarted(operation=1, datasets=2))
    tally.fold(TransferStarted(operation=1, dataset="a", uri="s3://b/a", size_bytes=40_000_000))
    tally.fold(TransferAdvanced(operation=1, dataset="a", uri="s3://b/a", received_bytes=10_000_000))
    return tally


def look(tally, elapsed_seconds):
    return Look(progress=tally.progress(active_limit=5), elapsed_seconds=elapsed_seconds)


def test_nothing_is_due_in_the_first_seconds(tally):
    """Short work leaves no line in anybody's log."""
    assert 2.0 == PlainLines().seconds_until_due(look(tally, 3.0))


def test_lines_are_due_at_growing_intervals(tally, capsys):
    """After 5, 10, 20, 30 and 60 seconds, and then each minute."""
    view = PlainLines()
    now, times = 0.0, []
    while now < 200:
        now += view.seconds_until_due(look(tally, now))
        times.append(now)
        now += view.show(look(tally, now))
    assert [5, 10, 20, 30, 60, 120, 180] == times


def test_a_line_that_comes_late_is_not_followed_by_those_missed(tally, capsys):
    """A machine that slept doesn't write a burst of lines when it wakes."""
    assert 20.0 == PlainLines().show(look(tally, 100.0))


def test_a_line_goes_to_standard_error(tally, capsys):
    """Standard output belongs to the program."""
    PlainLines().show(look(tally, 5.0))
    captured = capsys.readouterr()
    assert ("", "datacachalog: 0/2 datasets, 10.0 of 40.0+ MB\n") == (captured.out, captured.err)


def test_the_summary_is_the_last_line(tally, capsys):
    """Somebody who saw lines sees that it is over."""
    tally.fold(
        OperationFinished(
            operation=1, seconds=8.0, finished=0, failed=0, bytes_downloaded=16_000_000, is_cancelled=True
        )
    )
    PlainLines().close(tally.summary(8.0))
    assert "datacachalog: cancelled after 8.0 s: 0 files finished, 16.0 MB received\n" == capsys.readouterr().err


def test_an_unfinished_end_leaves_no_summary(capsys):
    """At the exit of the interpreter nobody knows what it came to."""
    PlainLines().close(None)
    assert "" == capsys.readouterr().err


def test_a_closed_standard_error_is_no_error(tally, monkeypatch):
    """A daemon may close its streams."""
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    assert 5.0 == PlainLines().show(look(tally, 5.0))


def test_a_missing_standard_error_is_no_error(tally, monkeypatch):
    """A program without a console has none."""
    monkeypatch.setattr(sys, "stderr", None)
    assert 5.0 == PlainLines().show(look(tally, 5.0))


def test_a_name_that_the_encoding_lacks_is_replaced(monkeypatch):
    """A log file in ASCII can't hold every name."""
    tally = Tally()
    tally.fold(OperationStarted(operation=1, datasets=1))
    tally.fold(TransferStarted(operation=1, dataset="データ", uri="s3://b/a", size_bytes=1))
    tally.fold(
        OperationFinished(operation=1, seconds=1.0, finished=1, failed=0, bytes_downloaded=1000, is_cancelled=False)
    )
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="ascii"))
    PlainLines().close(tally.summary(1.0))
    assert b"datacachalog: ???: nothing downloaded in 1.0 s\n" == raw.getvalue()
