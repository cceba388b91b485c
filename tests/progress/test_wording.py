"""The words: short, true, and harmless to a terminal."""

from __future__ import annotations

import pytest

from datacachalog.progress._tally import ActiveFile, Progress, Summary
from datacachalog.progress._wording import (
    bytes_of_text,
    bytes_text,
    clock_text,
    file_fraction,
    file_text,
    fraction,
    line_text,
    printable,
    seconds_text,
    summary_text,
)


def progress(**changes):
    values = {
        "datasets": 12,
        "datasets_finished": 3,
        "datasets_failed": 0,
        "files": 12,
        "files_finished": 3,
        "are_files_known": True,
        "received_bytes": 12_300_000,
        "total_bytes": 61_300_000,
        "are_sizes_known": True,
        "bytes_per_second": 7_000_000.0,
        "seconds_left": 7.0,
        "retries": 0,
        "active": (),
    }
    return Progress(**(values | changes))


def summary(**changes):
    values = {
        "dataset": None,
        "files": 12,
        "files_downloaded": 12,
        "files_fresh": 0,
        "files_stale": 0,
        "datasets": 12,
        "datasets_failed": 0,
        "bytes_downloaded": 61_300_000,
        "seconds": 0.8,
        "retries": 0,
        "is_cancelled": False,
    }
    return Summary(**(values | changes))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (61_300_000, "61.3 MB"),
        (2_500_000_000, "2.5 GB"),
        (10**18, "1000.0 PB"),
    ],
)
def test_bytes_are_said_in_decimal_units(count, text):
    """One decimal, and never 1000 of a unit that has a larger one."""
    assert text == bytes_text(count)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (754, "12:34"), (3723, "1:02:03")])
def test_a_time_to_come_is_said_like_a_clock(seconds, text):
    """Whole seconds."""
    assert text == clock_text(seconds)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (0.8, "0.8 s"), (99.96, "1:40 min"), (3599.9, "1:00:00 h")]
)
def test_a_time_that_passed_is_said_with_its_unit(seconds, text):
    """Tenths of seconds where they matter."""
    assert text == seconds_text(seconds)


def test_a_line_says_all_that_is_known():
    """Datasets, bytes, rate and time left, in this order."""
    assert "3/12 datasets, 12.3 of 61.3 MB, 7.0 MB/s, 0:07 left" == line_text(progress())


def test_retries_and_failures_are_said_when_there_are_some():
    """Both explain why it takes longer, or what will be missing."""
    assert line_text(progress(retries=2, datasets_failed=1)).endswith(", 2 retries, 1 failed")


def test_a_total_that_may_grow_is_marked():
    """An honest total says that it isn't one yet."""
    text = line_text(progress(are_sizes_known=False, seconds_left=None))
    assert "3/12 datasets, 12.3 of 61.3+ MB, 7.0 MB/s" == text


def test_files_are_counted_where_they_are_more_than_datasets():
    """One dataset of 500 files is 500 files of work."""
    text = line_text(progress(datasets=1, datasets_finished=0, files=500, files_finished=40, are_files_known=False))
    assert text.startswith("40/500+ files, ")


def test_without_known_sizes_the_fraction_is_that_of_files():
    """The bytes known at first are few, and nearly all of them are here."""
    assert 0.25 == fraction(progress(are_sizes_known=False))


def test_a_fraction_is_never_above_one():
    """An object may turn out longer than it was said to be."""
    assert 1.0 == fraction(progress(received_bytes=70_000_000))


@pytest.mark.parametrize("dangerous", ["\x1b[31mred", "a\nb", "a\rb", "\u202egnp.exe", "\x9b2J", "tab\there"])
def test_names_can_not_move_the_cursor(dangerous):
    """What isn't printable is shown as a replacement."""
    assert printable(dangerous).isprintable()


def test_a_file_of_several_is_named_without_the_secrets_of_its_uri():
    """Its dataset and the last part of its key; never the user part or a signature."""
    file = ActiveFile(
        dataset="logs",
        uri="https://user:password@host/logs/2024.csv?X-Amz-Signature=abc",
        is_only_file=False,
        owner=None,
        received_bytes=0,
        size_bytes=1,
    )
    assert "logs: 2024.csv?…" == file_text(file)


def test_an_awaited_file_is_named_with_its_owner():
    """Somebody who waits wants to know for whom."""
    file = ActiveFile(
        dataset="logs", uri="s3://b/logs.csv", is_only_file=True, owner="pid 7", received_bytes=10, size_bytes=None
    )
    assert ("logs (by pid 7)", "10 B", 0.0) == (file_text(file), bytes_of_text(file), file_fraction(file))


def test_the_summary_of_nothing_downloaded_tells_no_rate():
    """Nothing came over the wire, so there is none."""
    text = summary_text(summary(files_downloaded=0, files_fresh=1, bytes_downloaded=0))
    assert "nothing downloaded in 0.8 s, 1 up to date" == text


def test_the_summary_says_files_bytes_time_and_rate():
    """One line for what was done."""
    assert "12 files, 61.3 MB in 0.8 s (76.6 MB/s)" == summary_text(summary())


def test_summary_of_a_few_bytes_has_no_rate() -> None:
    """What takes the time of a few bytes is to ask for them, so a rate would mislead."""
    text = summary_text(summary(files_downloaded=1, bytes_downloaded=999_999))
    assert "1 file, 1.0 MB in 0.8 s" == text


def test_the_summary_of_one_dataset_begins_with_its_name():
    """In a script with several calls, each line tells what it is about."""
    assert "customers: 1 file, 61.3 MB in 0.8 s (76.6 MB/s)" == summary_text(
        summary(dataset="customers", files_downloaded=1)
    )


def test_the_summary_says_what_was_fresh_stale_retried_and_failed():
    """Only what there was of it."""
    text = summary_text(summary(files_fresh=3, files_stale=1, retries=1, datasets_failed=2))
    assert text.endswith("(76.6 MB/s), 3 up to date, 1 stale, 1 retry, 2 failed")


def test_the_summary_says_that_it_was_cancelled():
    """And how far it had come."""
    text = summary_text(summary(is_cancelled=True, files_downloaded=2, bytes_downloaded=4_000_000))
    assert "cancelled after 0.8 s: 2 files finished, 4.0 MB received" == text


def test_the_summary_of_nothing_but_failures_does_not_boast():
    """No file came, so there is no rate to tell."""
    assert "nothing downloaded in 0.8 s, 2 failed" == summary_text(summary(files_downloaded=0, datasets_failed=2))


def test_a_file_that_is_being_unpacked_says_so():
    """It is here, and no more bytes of it will come."""
    file = ActiveFile(
        dataset="survey",
        uri="s3://bucket/survey.zip",
        is_only_file=True,
        owner=None,
        received_bytes=1,
        size_bytes=1,
        is_unpacking=True,
    )
    assert "survey (unpacking)" == file_text(file)


def test_a_push_says_that_it_is_one():
    """What is counted goes the other way."""
    assert "3/12 datasets pushed, 12.3 of 61.3 MB, 7.0 MB/s, 0:07 left" == line_text(progress(is_push=True))


def test_a_pushed_file_is_told_from_a_fetched_one():
    """Both may be under way at once."""
    file = ActiveFile(
        dataset="logs",
        uri="s3://b/logs.csv",
        is_only_file=True,
        owner=None,
        received_bytes=0,
        size_bytes=1,
        is_push=True,
    )
    assert "logs (push)" == file_text(file)


PUSHED = {"files_downloaded": 0, "files_uploaded": 2, "bytes_downloaded": 0, "bytes_uploaded": 8_000_000}


def test_the_summary_of_a_push_says_what_was_pushed():
    """Files, bytes, time and rate."""
    assert "2 files pushed, 8.0 MB in 0.8 s (10.0 MB/s)" == summary_text(summary(**PUSHED, is_push=True))


def test_the_summary_of_a_push_that_failed_says_that_nothing_was_pushed():
    """Instead of that nothing was downloaded."""
    nothing = PUSHED | {"files_uploaded": 0, "bytes_uploaded": 0}
    assert "nothing pushed in 0.8 s, 1 failed" == summary_text(summary(**nothing, is_push=True, datasets_failed=1))


def test_the_summary_of_a_cancelled_push_says_what_was_sent():
    """And how far it had come."""
    text = summary_text(summary(**PUSHED, is_push=True, is_cancelled=True))
    assert "cancelled after 0.8 s: 2 files finished, 8.0 MB sent" == text


def test_the_summary_of_both_ways_says_both():
    """Operations that overlap have one summary; the rate is that of all bytes."""
    text = summary_text(summary(**PUSHED | {"files_downloaded": 1, "bytes_downloaded": 4_000_000}))
    assert "1 file, 4.0 MB, 2 files pushed, 8.0 MB in 0.8 s (15.0 MB/s)" == text
