"""What a script in a child process, or a notebook, needs to tell a display about operations, and to wait for it."""

from __future__ import annotations

import os
import sys
import threading

from datacachalog._events import (
    DatasetFailed,
    DatasetFinished,
    DatasetResolved,
    FileFinished,
    OperationFinished,
    OperationStarted,
    RequestRetried,
    TransferAdvanced,
    TransferStarted,
)
from datacachalog.progress import observer_for

__all__ = [
    "DatasetFailed",
    "DatasetFinished",
    "DatasetResolved",
    "FileFinished",
    "OperationFinished",
    "OperationStarted",
    "RequestRetried",
    "TransferAdvanced",
    "TransferStarted",
    "begin",
    "end",
    "looked_at",
    "observer_for",
    "os",
    "sys",
    "threading",
    "wait",
]


def wait():
    """Wait for the test."""
    sys.stdin.readline()


def begin(tell, *names, size_bytes=40_000_000, received_bytes=10_000_000, kind="fetch"):
    """Tell of an operation in the middle of its transfers."""
    tell(OperationStarted(operation=1, datasets=len(names), kind=kind))
    for name in names:
        tell(DatasetResolved(operation=1, dataset=name, files=1))
        tell(TransferStarted(operation=1, dataset=name, uri=_uri(name), size_bytes=size_bytes))
        tell(TransferAdvanced(operation=1, dataset=name, uri=_uri(name), received_bytes=received_bytes))


def end(tell, *names, size_bytes=40_000_000, is_cancelled=False, action="downloaded"):
    """Tell of its end: these datasets are finished, or it was cancelled."""
    way = f"bytes_{action}"
    for name in names:
        tell(
            FileFinished(
                operation=1, dataset=name, uri=_uri(name), action=action, size_bytes=size_bytes, **{way: size_bytes}
            )
        )
        tell(DatasetFinished(operation=1, dataset=name))
    counts = {"finished": len(names), "failed": 0, "bytes_downloaded": 0} | {way: size_bytes * len(names)}
    tell(OperationFinished(operation=1, seconds=2.0, is_cancelled=is_cancelled, **counts))


def looked_at(tell):
    """Make a function that waits until the display has looked once more."""
    looked = threading.Semaphore(0)
    make_view = tell._make_view
    tell._make_view = lambda: _Looked(make_view(), looked)
    return lambda: looked.acquire(timeout=20)


class _Looked:
    """A view that tells when it has been asked to show something, whether or not it did."""

    def __init__(self, view, looked):
        self.view, self.looked = view, looked
        self.close = view.close

    def seconds_until_due(self, look):
        due_seconds = self.view.seconds_until_due(look)
        if due_seconds:
            self.looked.release()
        return due_seconds

    def show(self, look):
        pace_seconds = self.view.show(look)
        self.looked.release()
        return pace_seconds


def _uri(name):
    return f"s3://user:password@bucket/{name}.parquet"
