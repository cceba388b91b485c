"""When something is shown: not for short work, by a thread of its own, and over before the call returns."""

from __future__ import annotations

import threading

import anyio.to_thread
import pytest

from datacachalog._events import (
    DatasetResolved,
    FileFinished,
    OperationFinished,
    OperationStarted,
    RequestRetried,
    TransferAdvanced,
    TransferStarted,
)
from datacachalog.progress._display import Display

URI = "s3://b/a"


class RecordingView:
    """Notes what it is shown; `wait_shown` waits for the next look."""

    def __init__(self, *, due_seconds=0.0, pace_seconds=0.01) -> None:
        self.due_seconds = due_seconds
        self.pace_seconds = pace_seconds
        self.looks = []
        self.summaries = []
        self.made = 0
        self._shown = threading.Condition()

    def __call__(self):
        self.made += 1
        return self

    def seconds_until_due(self, look):
        return self.due_seconds

    def show(self, look):
        with self._shown:
            self.looks.append(look)
            self._shown.notify_all()
        return self.pace_seconds

    def close(self, summary):
        self.summaries.append(summary)

    def wait_shown(self, is_right=lambda look: True):
        with self._shown:
            assert self._shown.wait_for(lambda: self.looks and is_right(self.looks[-1]), timeout=20)


def begin(tell, operation=1):
    tell(OperationStarted(operation=operation, datasets=1))
    tell(DatasetResolved(operation=operation, dataset="a", files=1))
    tell(TransferStarted(operation=operation, dataset="a", uri=URI, size_bytes=10_000_000))


def end(tell, operation=1, *, is_cancelled=False):
    tell(
        OperationFinished(
            operation=operation, seconds=1.0, finished=1, failed=0, bytes_downloaded=1, is_cancelled=is_cancelled
        )
    )


def wait_for_threads():
    for thread in threading.enumerate():
        if thread.name == "datacachalog-progress":
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture
def view():
    return RecordingView()


def test_work_without_a_transfer_makes_no_view(view):
    """A warm fetch shows nothing and costs no thread."""
    tell = Display(view)
    before = threading.active_count()
    tell(OperationStarted(operation=1, datasets=1))
    tell(FileFinished(operation=1, dataset="a", uri=URI, action="cached", size_bytes=10, bytes_downloaded=0))
    during = threading.active_count()
    end(tell)
    assert (0, before) == (view.made, during)


def test_a_short_transfer_makes_no_view(view):
    """What is over in a moment isn't shown."""
    tell = Display(view)
    begin(tell)
    end(tell)
    wait_for_threads()
    assert 0 == view.made


def test_a_longer_transfer_is_shown_and_summed_up_before_the_last_event_returns(view):
    """What the program does next finds the surface as it will stay."""
    tell = Display(view)
    begin(tell)
    view.wait_shown()
    end(tell)
    assert [1.0] == [summary.seconds for summary in view.summaries]


def test_a_cancelled_operation_is_summed_up_too(view):
    """Ctrl-C ends the display like any other end."""
    tell = Display(view)
    begin(tell)
    view.wait_shown()
    end(tell, is_cancelled=True)
    assert [True] == [summary.is_cancelled for summary in view.summaries]


def test_trouble_before_the_first_byte_is_shown(view):
    """Somebody who waits for a remote that doesn't answer sees that it is tried again."""
    tell = Display(view)
    tell(OperationStarted(operation=1, datasets=1))
    tell(RequestRetried(operation=1, dataset="a", uri=URI, attempt=1, delay_seconds=1.0, reason="refused"))
    view.wait_shown()
    end(tell)
    assert 1 == view.looks[-1].progress.retries


def test_a_view_that_is_not_due_shows_nothing(view):
    """Lines for the patient are written only when it takes long."""
    view.due_seconds = 0.01
    tell = Display(view)
    begin(tell)
    end(tell)
    wait_for_threads()
    assert ([], []) == (view.looks, view.summaries)


def test_the_pace_does_not_follow_the_events(view):
    """Ten thousand events in a row are one look, or two."""
    view.pace_seconds = 60.0
    tell = Display(view)
    begin(tell)
    view.wait_shown()
    for received in range(10_000):
        tell(TransferAdvanced(operation=1, dataset="a", uri=URI, received_bytes=received))
    end(tell)
    assert 1 == len(view.looks)


def test_events_that_nobody_looks_at_are_not_kept(view):
    """Memory stays bounded also where a display is never looked at."""
    tell = Display(view)
    tell(OperationStarted(operation=1, datasets=1))
    for received in range(50_000):
        tell(TransferAdvanced(operation=1, dataset="a", uri=URI, received_bytes=received))
    kept = len(tell._burst._queue)
    end(tell)
    assert kept < 10_000


def test_operations_that_overlap_share_one_view(view):
    """Two displays would fight for one surface; the shared one ends with the last operation."""
    tell = Display(view)
    begin(tell, operation=1)
    begin(tell, operation=2)
    view.wait_shown(lambda look: look.progress.datasets == 2)
    end(tell, operation=1)
    summaries_between = list(view.summaries)
    end(tell, operation=2)
    assert (1, [], 1) == (view.made, summaries_between, len(view.summaries))


def test_the_next_operation_begins_with_new_numbers(view):
    """What has ended is summed up and forgotten."""
    tell = Display(view)
    for operation in (1, 2):
        begin(tell, operation=operation)
        view.wait_shown(lambda look, made=operation: view.made == made)
        end(tell, operation=operation)
    assert [1, 1] == [summary.datasets for summary in view.summaries]


def test_events_from_several_threads_add_up(view):
    """An observer may be called from the threads of several event loops."""
    tell = Display(view)
    tell(OperationStarted(operation=0, datasets=0))

    def work(operation):
        begin(tell, operation=operation)
        tell(
            FileFinished(
                operation=operation, dataset="a", uri=URI, action="downloaded", size_bytes=10, bytes_downloaded=10
            )
        )
        end(tell, operation=operation)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    view.wait_shown(lambda look: look.progress.files_finished == 8)
    end(tell, operation=0)
    assert 8 == view.summaries[0].files_downloaded


async def test_it_works_on_an_event_loop(view):
    """There the wait for a moment is a timer of the loop."""
    tell = Display(view)
    begin(tell)
    await anyio.to_thread.run_sync(view.wait_shown)
    end(tell)
    assert 1 == len(view.summaries)


async def test_a_short_transfer_on_an_event_loop_costs_no_thread(view):
    """A thread costs more than many a small transfer."""
    tell = Display(view)
    before = threading.active_count()
    begin(tell)
    during = threading.active_count()
    end(tell)
    assert before == during


def test_a_view_that_fails_is_logged_and_harms_nobody(caplog):
    """A display is never a reason for a fetch to fail."""

    def make_view():
        raise RuntimeError("no surface")

    tell = Display(make_view)
    begin(tell)
    wait_for_threads()
    end(tell)
    assert ["the progress display failed and shows nothing more"] == [record.message for record in caplog.records]


def test_an_end_without_a_beginning_is_ignored(view):
    """An observer that was attached late isn't confused."""
    tell = Display(view)
    end(tell)
    assert 0 == view.made


def test_the_end_does_not_wait_for_a_surface_that_is_stuck():
    """A terminal stopped by Ctrl-S takes no bytes; the call returns all the same."""
    is_stuck, is_free = threading.Event(), threading.Event()

    class StuckView(RecordingView):
        def show(self, look):
            is_stuck.set()
            is_free.wait(60)
            return 1.0

    tell = Display(StuckView())
    begin(tell)
    assert is_stuck.wait(20)
    end(tell)
    is_returned_while_stuck = not is_free.is_set()
    is_free.set()
    wait_for_threads()
    assert is_returned_while_stuck


def test_a_forked_child_begins_anew(run_script):
    """The parent's thread and operations do not exist in the child, and its locks may be taken."""
    done = run_script(
        """
        import warnings
        from datacachalog.progress._display import Display

        class View:
            def seconds_until_due(self, look): return 0.0
            def show(self, look):
                shown.set()
                return 0.001
            def close(self, summary): print("closed", os.getpid() == parent, summary.datasets, flush=True)

        warnings.simplefilter("ignore")
        parent, shown = os.getpid(), threading.Event()
        tell = Display(View)
        begin(tell, "a", "b")
        shown.wait()
        child = os.fork()
        if child == 0:
            shown = threading.Event()
            begin(tell, "a")
            shown.wait()
            end(tell, "a")
            os._exit(0)
        os.waitpid(child, 0)
        end(tell, "a", "b")
        """
    )
    assert (["closed False 1", "closed True 2"], "") == (done.stdout.splitlines(), done.stderr)
