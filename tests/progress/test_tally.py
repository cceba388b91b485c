"""The numbers: right after retries, restarts and failures, and cheap with many files."""

from __future__ import annotations

import pytest

from datacachalog._events import (
    DatasetFailed,
    DatasetFinished,
    DatasetResolved,
    FileFinished,
    OperationFinished,
    OperationStarted,
    RequestRetried,
    TransferAdvanced,
    TransferAwaited,
    TransferRestarted,
    TransferStarted,
    UnpackStarted,
)
from datacachalog.progress._tally import STALLED_SECONDS, WINDOW_SECONDS, Tally

MB = 1_000_000


class Teller:
    """Tells a tally about operations, in short words."""

    def __init__(self) -> None:
        self.tally = Tally()

    def start(self, datasets, operation=1):
        self.tally.fold(OperationStarted(operation=operation, datasets=datasets))

    def resolve(self, dataset, files=1, operation=1):
        self.tally.fold(DatasetResolved(operation=operation, dataset=dataset, files=files))

    def begin(self, dataset, size, uri="", operation=1):
        uri = uri or f"s3://b/{dataset}"
        self.tally.fold(TransferStarted(operation=operation, dataset=dataset, uri=uri, size_bytes=size))

    def advance(self, dataset, received, uri="", operation=1):
        uri = uri or f"s3://b/{dataset}"
        self.tally.fold(TransferAdvanced(operation=operation, dataset=dataset, uri=uri, received_bytes=received))

    def retry(self, dataset):
        self.tally.fold(
            RequestRetried(
                operation=1, dataset=dataset, uri=f"s3://b/{dataset}", attempt=1, delay_seconds=0.1, reason="reset"
            )
        )

    def wait_for(self, dataset, received, size):
        self.tally.fold(
            TransferAwaited(
                operation=1,
                dataset=dataset,
                uri=f"s3://b/{dataset}",
                owner="pid 7",
                received_bytes=received,
                size_bytes=size,
            )
        )

    def restart(self, dataset):
        self.tally.fold(
            TransferRestarted(operation=1, dataset=dataset, uri=f"s3://b/{dataset}", restart=1, reason="new ETag")
        )

    def finish_file(self, dataset, size, uri="", action="downloaded", operation=1):
        self.tally.fold(
            FileFinished(
                operation=operation,
                dataset=dataset,
                uri=uri or f"s3://b/{dataset}",
                action=action,
                size_bytes=size,
                bytes_downloaded=size if action == "downloaded" else 0,
            )
        )

    def finish(self, dataset, size, action="downloaded", operation=1):
        self.finish_file(dataset, size, action=action, operation=operation)
        self.tally.fold(DatasetFinished(operation=operation, dataset=dataset))

    def fail(self, dataset):
        self.tally.fold(DatasetFailed(operation=1, dataset=dataset, reason="gone"))

    def end(self, *, operation=1, seconds=2.0, received=0, is_cancelled=False):
        self.tally.fold(
            OperationFinished(
                operation=operation,
                seconds=seconds,
                finished=0,
                failed=0,
                bytes_downloaded=received,
                is_cancelled=is_cancelled,
            )
        )

    @property
    def progress(self):
        return self.tally.progress(active_limit=5)


@pytest.fixture
def teller():
    return Teller()


def test_counts_datasets_files_and_bytes(teller):
    """A dataset is finished when it says so; its bytes are those of its files under way and downloaded."""
    teller.start(3)
    teller.begin("a", 10 * MB)
    teller.begin("b", 20 * MB)
    teller.advance("b", 5 * MB)
    teller.finish("a", 10 * MB)
    progress = teller.progress
    expected = (3, 1, 1, 15 * MB, 30 * MB)
    actual = (
        progress.datasets,
        progress.datasets_finished,
        progress.files_finished,
        progress.received_bytes,
        progress.total_bytes,
    )
    assert expected == actual


def test_a_small_file_that_came_in_one_request_counts_without_having_been_begun(teller):
    """A file may be finished without ever having been told of as under way."""
    teller.start(1)
    teller.finish("a", 1000)
    assert (1000, 1000) == (teller.progress.received_bytes, teller.progress.total_bytes)


@pytest.mark.parametrize("action", ["revalidated", "cached", "stale"])
def test_what_was_not_downloaded_counts_as_file_but_not_as_bytes(teller, action):
    """The bytes are those of downloads only."""
    teller.start(1)
    teller.finish("a", 1000, action=action)
    assert (1, 0) == (teller.progress.files_finished, teller.progress.total_bytes)


def test_a_download_given_up_for_the_cached_copy_leaves_no_bytes(teller):
    """A file that is served stale in the end is not one that was downloaded, whatever had arrived of it."""
    teller.start(1)
    teller.begin("a", 10 * MB)
    teller.advance("a", 4 * MB)
    teller.finish("a", 10 * MB, action="stale")
    assert (0, 0) == (teller.progress.received_bytes, teller.progress.total_bytes)


def test_bytes_read_again_after_a_break_are_not_counted_twice(teller):
    """Byte counts are absolute, and smaller than before after a break."""
    teller.start(1)
    teller.begin("a", 10 * MB)
    for received in (4 * MB, 1 * MB, 6 * MB):
        teller.advance("a", received)
    assert 6 * MB == teller.progress.received_bytes


def test_the_rate_is_not_negative_when_bytes_are_taken_back(teller):
    """The rate counts what arrives, so a break slows it down and never turns it round."""
    teller.start(1)
    teller.begin("a", 10 * MB)
    teller.advance("a", 4 * MB)
    teller.tally.sample(1.0)
    teller.advance("a", 1 * MB)
    teller.tally.sample(2.0)
    assert 0.0 == teller.progress.bytes_per_second


def test_a_restart_begins_with_nothing_and_with_the_new_size(teller):
    """The object of a restarted download is another one: its size replaces the old one's."""
    teller.start(1)
    teller.resolve("a")
    teller.begin("a", 10 * MB)
    teller.advance("a", 9 * MB)
    teller.restart("a")
    teller.begin("a", 3 * MB)
    teller.advance("a", 1 * MB)
    assert (1 * MB, 3 * MB, 1) == (
        teller.progress.received_bytes,
        teller.progress.total_bytes,
        teller.progress.files,
    )


def test_retries_and_restarts_are_counted(teller):
    """Both mean that something had to be done again."""
    teller.start(1)
    teller.begin("a", 10)
    teller.retry("a")
    teller.restart("a")
    assert 2 == teller.progress.retries


def test_the_rate_is_that_of_the_last_seconds(teller):
    """What was fast long ago says nothing about now."""
    teller.start(1)
    teller.begin("a", 1000 * MB)
    for second in range(21):
        teller.advance("a", 10 * MB * second if second <= 10 else 100 * MB + MB * (second - 10))
        teller.tally.sample(float(second))
    assert WINDOW_SECONDS < 10
    assert 1.0 * MB == teller.progress.bytes_per_second


def test_the_rate_falls_to_nothing_when_nothing_arrives(teller):
    """A stalled transfer says so, and tells no time left."""
    teller.start(1)
    teller.resolve("a")
    teller.begin("a", 10 * MB)
    teller.tally.sample(0.0)
    teller.advance("a", 5 * MB)
    for second in (1.0, 4.0, 7.0, 10.0):
        teller.tally.sample(second)
    assert (0.0, None) == (teller.progress.bytes_per_second, teller.progress.seconds_left)


def test_no_time_left_before_all_sizes_are_known(teller):
    """The total grows as sizes become known, and a time told from a part of it would be wrong."""
    teller.start(2)
    teller.resolve("a")
    teller.resolve("b")
    teller.tally.sample(0.0)
    teller.begin("a", 10 * MB)
    teller.advance("a", 5 * MB)
    teller.tally.sample(1.0)
    assert (False, None) == (teller.progress.are_sizes_known, teller.progress.seconds_left)


def test_time_left_once_all_sizes_are_known(teller):
    """What is missing, at the rate of the last seconds."""
    teller.start(2)
    teller.resolve("a")
    teller.resolve("b")
    teller.tally.sample(0.0)
    teller.begin("a", 10 * MB)
    teller.begin("b", 10 * MB)
    teller.advance("a", 5 * MB)
    teller.tally.sample(1.0)
    assert 3.0 == teller.progress.seconds_left


def test_an_archive_that_is_unpacked_has_a_line(teller):
    """Whatever its size, and whether or not it was downloaded first; it adds no bytes, and hides none."""
    teller.start(2)
    teller.resolve("a")
    teller.resolve("b")
    teller.begin("a", 9)
    for name in ("a", "b"):
        teller.tally.fold(UnpackStarted(operation=1, dataset=name, uri=f"s3://b/{name}"))
    progress = teller.progress
    lines = [(file.dataset, file.is_unpacking) for file in progress.active]
    assert ([("a", True), ("b", True)], 9, True) == (lines, progress.total_bytes, progress.are_sizes_known)


def test_sizes_are_not_known_while_a_dataset_may_be_any_number_of_files(teller):
    """A glob that has not been listed may hide any number of bytes."""
    teller.start(2)
    teller.resolve("a")
    teller.begin("a", 10)
    teller.begin("glob", 10)
    assert not teller.progress.are_sizes_known


def test_the_files_of_a_glob_are_counted_when_they_are_known(teller):
    """Each dataset is one file until it says how many it is."""
    teller.start(2)
    before = teller.progress.files
    teller.resolve("glob", files=500)
    assert (2, 501) == (before, teller.progress.files)


def test_a_failed_dataset_takes_back_what_will_not_come(teller):
    """The total can still be reached after a failure, and what had arrived has arrived."""
    teller.start(2)
    teller.resolve("a")
    teller.resolve("glob", files=10)
    teller.begin("a", 10 * MB)
    teller.begin("glob", 10 * MB, uri="s3://b/1")
    teller.advance("glob", 2 * MB, uri="s3://b/1")
    teller.fail("glob")
    progress = teller.progress
    assert (12 * MB, 1, True, 1) == (
        progress.total_bytes,
        progress.files,
        progress.are_sizes_known,
        progress.datasets_failed,
    )


def test_what_is_told_of_a_dataset_after_its_failure_changes_nothing(teller):
    """Transfers that were under way when a dataset was given up may still report."""
    teller.start(1)
    teller.begin("a", 10 * MB)
    teller.fail("a")
    before = teller.progress
    teller.advance("a", 5 * MB)
    teller.finish_file("a", 10 * MB)
    teller.begin("a", 10 * MB)
    assert before == teller.progress


def test_operations_that_overlap_are_counted_together(teller):
    """Two calls may fetch the same dataset at once; neither takes the other's numbers."""
    teller.start(1, operation=1)
    teller.start(1, operation=2)
    teller.begin("a", 10 * MB, operation=1)
    teller.begin("a", 10 * MB, operation=2)
    teller.advance("a", 4 * MB, operation=2)
    teller.finish("a", 10 * MB, operation=1)
    teller.end(operation=1)
    assert (1, 2, 14 * MB) == (
        teller.progress.datasets_finished,
        teller.progress.datasets,
        teller.progress.received_bytes,
    )


def test_events_of_an_operation_that_is_not_under_way_are_ignored(teller):
    """An observer that was attached late misses nothing that it could show."""
    teller.begin("a", 10 * MB, operation=7)
    teller.end(operation=7)
    assert Teller().progress == teller.progress


def test_only_large_files_get_a_line(teller):
    """Small files are gone before their line could be read."""
    teller.start(2)
    teller.begin("small", 1000)
    teller.begin("large", 10 * MB)
    assert ["large"] == [file.dataset for file in teller.progress.active]


def test_a_file_keeps_its_line_while_it_is_under_way(teller):
    """Lines that change places can't be read, so a larger file waits for a line that is free."""
    teller.start(7)
    for name in "abcde":
        teller.begin(name, 10 * MB)
    first = [file.dataset for file in teller.progress.active]
    teller.begin("f", 900 * MB)
    assert first == [file.dataset for file in teller.progress.active]


def test_a_finished_file_gives_its_line_to_the_next(teller):
    """A line is free when its file is done."""
    teller.start(6)
    for name in "abcdef":
        teller.begin(name, 10 * MB)
    waiting = ({*"abcdef"} - {file.dataset for file in teller.progress.active}).pop()
    gone = teller.progress.active[0].dataset
    teller.finish(gone, 10 * MB)
    teller.advance(waiting, 1 * MB)
    assert {*"abcdef"} - {gone} == {file.dataset for file in teller.progress.active}


def test_a_stalled_file_gives_its_line_to_one_that_moves(teller):
    """The lines are for the most active files."""
    teller.start(6)
    for name in "abcdef":
        teller.begin(name, 10 * MB)
    teller.tally.sample(0.0)
    waiting = ({*"abcdef"} - {file.dataset for file in teller.progress.active}).pop()
    teller.advance(waiting, 1 * MB)
    teller.tally.sample(STALLED_SECONDS + 1)
    assert waiting in {file.dataset for file in teller.progress.active}


def test_a_file_that_somebody_else_fetches_proceeds_as_it_does(teller):
    """Who waits for another process sees how far that one is, and what it had before is not a rate."""
    teller.start(1)
    teller.resolve("a")
    teller.wait_for("a", 6 * MB, 10 * MB)
    teller.tally.sample(0.0)
    teller.wait_for("a", 8 * MB, 10 * MB)
    teller.tally.sample(1.0)
    progress = teller.progress
    assert (8 * MB, 10 * MB, 2.0 * MB, 1.0) == (
        progress.received_bytes,
        progress.total_bytes,
        progress.bytes_per_second,
        progress.seconds_left,
    )


def test_an_awaited_file_has_a_line_that_names_its_owner(teller):
    """Whatever its size, somebody waits for it."""
    teller.start(1)
    teller.wait_for("a", 0, None)
    assert [("a", "pid 7", None)] == [(file.dataset, file.owner, file.size_bytes) for file in teller.progress.active]


def test_sizes_are_not_known_while_an_owner_has_not_told_one(teller):
    """A file of unknown size may hide any number of bytes."""
    teller.start(1)
    teller.resolve("a")
    teller.wait_for("a", 0, None)
    before = teller.progress.are_sizes_known
    teller.wait_for("a", 0, 10 * MB)
    assert (False, True) == (before, teller.progress.are_sizes_known)


def test_a_file_taken_over_from_its_owner_begins_with_nothing(teller):
    """What a process that died had received is not what this one has."""
    teller.start(1)
    teller.wait_for("a", 6 * MB, 10 * MB)
    teller.begin("a", 10 * MB)
    assert (0, 10 * MB, [None]) == (
        teller.progress.received_bytes,
        teller.progress.total_bytes,
        [file.owner for file in teller.progress.active],
    )


def test_an_awaited_file_leaves_no_bytes_when_it_is_there(teller):
    """Its bytes were downloaded by its owner."""
    teller.start(1)
    teller.wait_for("a", 6 * MB, None)
    teller.finish("a", 10 * MB, action="cached")
    assert (0, 0, True) == (
        teller.progress.received_bytes,
        teller.progress.total_bytes,
        teller.progress.are_sizes_known,
    )


def test_ten_thousand_files_add_up(teller):
    """Every file is counted once, and nothing is under way in the end."""
    teller.start(1)
    teller.resolve("many", files=10_000)
    for number in range(10_000):
        teller.begin("many", 2 * MB, uri=f"s3://b/{number}")
    for number in range(10_000):
        teller.advance("many", 1 * MB, uri=f"s3://b/{number}")
        teller.finish_file("many", 2 * MB, uri=f"s3://b/{number}")
    progress = teller.progress
    assert (10_000, 10_000, 20_000 * MB, 20_000 * MB, ()) == (
        progress.files,
        progress.files_finished,
        progress.received_bytes,
        progress.total_bytes,
        progress.active,
    )


def test_the_summary_of_one_operation_has_its_own_time_and_name(teller):
    """The operation knows best how long it took."""
    teller.start(1)
    teller.finish("a", 10 * MB)
    teller.end(seconds=0.5, received=10 * MB)
    summary = teller.tally.summary(99.0)
    assert ("a", 0.5, 1, 10 * MB) == (
        summary.dataset,
        summary.seconds,
        summary.files_downloaded,
        summary.bytes_downloaded,
    )


def test_the_summary_of_several_operations_has_the_time_of_all(teller):
    """Operations that overlap take as long as from the first start to the last end."""
    for operation in (1, 2):
        teller.start(1, operation=operation)
        teller.finish("ab"[operation - 1], 10, operation=operation)
    teller.end(operation=1)
    teller.end(operation=2)
    summary = teller.tally.summary(3.0)
    assert (3.0, None, 2) == (summary.seconds, summary.dataset, summary.files_downloaded)


def test_the_summary_tells_what_was_fresh_stale_failed_and_cancelled(teller):
    """Nothing that the caller may want to look into is left out."""
    teller.start(5)
    teller.finish("a", 10, action="cached")
    teller.finish("b", 10, action="revalidated")
    teller.finish("c", 10, action="stale")
    teller.fail("d")
    teller.end(is_cancelled=True)
    summary = teller.tally.summary(3.0)
    assert (2, 1, 1, True) == (
        summary.files_fresh,
        summary.files_stale,
        summary.datasets_failed,
        summary.is_cancelled,
    )


def push(tally, size=40 * MB, acknowledged=40 * MB, operation=1):
    """Tell of a push from its beginning to the end of its file."""
    file = {"operation": operation, "dataset": "a", "uri": "s3://b/a"}
    tally.fold(OperationStarted(operation=operation, datasets=1, kind="push"))
    tally.fold(TransferStarted(**file, size_bytes=size))
    tally.fold(TransferAdvanced(**file, received_bytes=acknowledged))
    if acknowledged == size:
        tally.fold(FileFinished(**file, action="uploaded", size_bytes=size, bytes_uploaded=size))
        tally.fold(DatasetFinished(operation=operation, dataset="a"))


def test_a_push_is_measured_by_what_the_remote_has_acknowledged(teller):
    """Its file is marked as one that goes the other way."""
    push(teller.tally, acknowledged=10 * MB)
    progress = teller.progress
    assert (10 * MB, 40 * MB, True) == (progress.received_bytes, progress.total_bytes, progress.is_push)
    assert [True] == [file.is_push for file in progress.active]


def test_a_pushed_file_is_finished(teller):
    """It counts as a file and by its bytes."""
    push(teller.tally)
    progress = teller.progress
    found = (progress.files_finished, progress.datasets_finished, progress.received_bytes, progress.total_bytes)
    assert (1, 1, 40 * MB, 40 * MB) == found


def test_the_summary_of_a_push_counts_what_was_sent(teller):
    """And nothing as downloaded."""
    push(teller.tally)
    teller.tally.fold(
        OperationFinished(
            operation=1, seconds=2.0, finished=1, failed=0, bytes_downloaded=0, is_cancelled=False,
            bytes_uploaded=40 * MB,
        )
    )  # fmt: skip
    summary = teller.tally.summary(3.0)
    found = (summary.is_push, summary.files_uploaded, summary.bytes_uploaded, summary.files_downloaded)
    assert (True, 1, 40 * MB, 0) == found


def test_a_fetch_beside_a_push_is_no_push(teller):
    """Operations that overlap are counted together."""
    push(teller.tally)
    teller.start(1, operation=2)
    assert not teller.progress.is_push
