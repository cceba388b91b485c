"""How far is the work? Folds events to numbers: pure, without a clock, at a constant cost an event.

A tally covers one burst: operations that overlap are counted together, and a new tally begins once all of them ended.
What has ended leaves only its numbers behind, so memory follows what is under way.

Two counts of bytes are kept, because two questions are asked. `received_bytes` is how much of the files is here; it
goes down when bytes have to be read again, or when an object is replaced under its download. The rate counts every
byte that arrived, once or twice, so it never turns negative.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from heapq import nlargest
from typing import assert_never

from .._events import (
    DatasetFailed,
    DatasetFinished,
    DatasetResolved,
    Event,
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

LARGE_BYTES = 1_000_000
"""From this size on, a file under way is worth a line of its own."""

WINDOW_SECONDS = 5.0
"""The rate is that of so long a time before now."""

STALLED_SECONDS = 3.0
"""A file that got no byte for so long gives its line to one that does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveFile:
    """One file under way.

    Args:
        dataset: the dataset that it is of.
        uri: the object.
        is_only_file: its dataset is this one file.
        owner: who fetches it, if this catalog only waits for it.
        received_bytes: how much of it is here; of a push, how much the remote has acknowledged.
        size_bytes: of the whole file; None while an owner hasn't told.
        is_unpacking: it is here, and being unpacked.
        is_push: it goes to the remote.
    """

    dataset: str
    uri: str
    is_only_file: bool
    owner: str | None
    received_bytes: int
    size_bytes: int | None
    is_unpacking: bool = False
    is_push: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a burst of operations is.

    Args:
        datasets: how many were asked for.
        datasets_finished: of these, done.
        datasets_failed: of these, given up.
        files: how many files they are, as far as known; at least one for each dataset not yet resolved.
        files_finished: of these, in the cache, whether they had to be downloaded or not; of a push, at the remote.
        are_files_known: every dataset has said how many files it is.
        received_bytes: bytes of the files downloaded, and of those under way, that are here.
        total_bytes: size of the same files.
        are_sizes_known: no more files will join `total_bytes`.
        bytes_per_second: of the last seconds; None before there is anything to measure.
        seconds_left: None where it can't be told: not all sizes are known, or nothing arrives.
        retries: requests sent again, and downloads begun again with a new version.
        active: the most active large files, those that came first on top.
        is_push: nothing but pushes.
    """

    datasets: int
    datasets_finished: int
    datasets_failed: int
    files: int
    files_finished: int
    are_files_known: bool
    received_bytes: int
    total_bytes: int
    are_sizes_known: bool
    bytes_per_second: float | None
    seconds_left: float | None
    retries: int
    active: tuple[ActiveFile, ...]
    is_push: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a burst of operations came to.

    Args:
        dataset: the dataset, if there was only one.
        files: how many there are, as far as known.
        files_downloaded: of these, brought from the remote.
        files_fresh: of these, already there, and the newest as far as the catalog had to ask.
        files_stale: of these, served as they were cached because the remote could not be asked.
        datasets: how many were asked for.
        datasets_failed: of these, given up.
        bytes_downloaded: everything received, also what was received twice or in vain.
        seconds: from the first call to the end of the last one.
        retries: requests sent again, and downloads begun again with a new version.
        is_cancelled: at least one of the calls was cut short.
        files_uploaded: of the files, written to the remote.
        bytes_uploaded: everything that the remote has acknowledged of them.
        is_push: nothing but pushes.
    """

    dataset: str | None
    files: int
    files_downloaded: int
    files_fresh: int
    files_stale: int
    datasets: int
    datasets_failed: int
    bytes_downloaded: int
    seconds: float
    retries: int
    is_cancelled: bool
    files_uploaded: int = 0
    bytes_uploaded: int = 0
    is_push: bool = False


@dataclass(slots=True, eq=False)
class _File:
    dataset: _Dataset
    uri: str
    size_bytes: int | None
    received_bytes: int = 0
    owner: str | None = None
    moved_at: float = 0.0
    is_active: bool = True
    is_unpacking: bool = False


@dataclass(slots=True, eq=False)
class _Dataset:
    name: str
    is_push: bool
    resolved_files: int | None = None
    started_files: int = 0
    finished_files: int = 0
    is_settled: bool = False
    active: dict[str, _File] = field(default_factory=dict)

    @property
    def expected_files(self) -> int:
        """How many files to count for it: those that there are once that is settled, at least one until it is known."""
        if self.is_settled:
            return self.finished_files
        return max(1 if self.resolved_files is None else self.resolved_files, self.started_files)


@dataclass(slots=True, eq=False)
class _Operation:
    unnamed_datasets: int
    is_push: bool
    datasets: dict[str, _Dataset] = field(default_factory=dict)


def _has_line(file: _File) -> bool:
    """Whether a file is worth a line: it is large, or something else takes its time."""
    return file.owner is not None or file.is_unpacking or _size(file) >= LARGE_BYTES


def _size(file: _File) -> int:
    return file.size_bytes or 0


class Tally:
    """The numbers of one burst of operations. Not safe to be used from two threads at once."""

    def __init__(self) -> None:
        self._operations: dict[int, _Operation] = {}
        self._operations_started = 0
        self._operations_finished = 0
        self._pushes = 0
        self._operation_seconds = 0.0
        self._datasets = 0
        self._datasets_finished = 0
        self._datasets_failed = 0
        self._datasets_unresolved = 0
        self._dataset_name: str | None = None
        self._files = 0
        self._files_started = 0
        self._files_unsized = 0
        self._files_downloaded = 0
        self._files_fresh = 0
        self._files_stale = 0
        self._files_uploaded = 0
        self._received_bytes = 0
        self._total_bytes = 0
        self._arrived_bytes = 0
        self._bytes_downloaded = 0
        self._bytes_uploaded = 0
        self._retries = 0
        self._is_cancelled = False
        self._samples: deque[tuple[float, int]] = deque()
        self._moved: dict[_File, None] = {}  # in the order in which they moved
        self._rows: list[_File] = []

    # -- what happened ------------------------------------------------------------------------------------------------

    def fold(self, event: Event) -> None:
        """Take one event in. One of an operation that is not under way is ignored."""
        if isinstance(event, OperationStarted):
            self._start(event)
            return
        operation = self._operations.get(event.operation)
        if operation is None:
            return
        if isinstance(event, OperationFinished):
            self._finish(operation, event)
            return
        dataset = operation.datasets.get(event.dataset) or self._dataset(operation, event.dataset)
        # The branches stand in the order of their frequency.
        match event:
            case TransferAdvanced():
                if (file := dataset.active.get(event.uri)) is not None:
                    self._receive(file, event.received_bytes)
            case FileFinished():
                self._finish_file(dataset, event)
            case TransferStarted():
                self._start_file(dataset, event)
            case DatasetResolved():
                self._resolve(dataset, event.files)
            case DatasetFinished():
                self._datasets_finished += not dataset.is_settled
                self._settle(dataset)
            case DatasetFailed():
                self._datasets_failed += not dataset.is_settled
                self._settle(dataset)
            case TransferRestarted():
                self._retries += 1
                if (file := dataset.active.get(event.uri)) is not None:
                    self._receive(file, 0)
            case TransferAwaited():
                self._await_file(dataset, event)
            case RequestRetried():
                self._retries += 1
            case UnpackStarted():
                self._unpack_file(dataset, event)
            case _:
                assert_never(event)

    def _start(self, event: OperationStarted) -> None:
        is_push = event.kind == "push"
        self._operations[event.operation] = _Operation(event.datasets, is_push)
        self._operations_started += 1
        self._pushes += is_push
        self._datasets += event.datasets
        self._datasets_unresolved += event.datasets
        self._files += event.datasets

    def _finish(self, operation: _Operation, event: OperationFinished) -> None:
        del self._operations[event.operation]
        for dataset in operation.datasets.values():
            self._settle(dataset)
        self._datasets_unresolved -= operation.unnamed_datasets
        self._files -= operation.unnamed_datasets
        self._operations_finished += 1
        self._operation_seconds = event.seconds
        self._bytes_downloaded += event.bytes_downloaded
        self._bytes_uploaded += event.bytes_uploaded
        self._is_cancelled = self._is_cancelled or event.is_cancelled

    def _dataset(self, operation: _Operation, name: str) -> _Dataset:
        dataset = operation.datasets[name] = _Dataset(name, operation.is_push)
        self._dataset_name = name
        if operation.unnamed_datasets:
            operation.unnamed_datasets -= 1
        else:
            self._datasets += 1
            self._datasets_unresolved += 1
            self._files += 1
        return dataset

    def _resolve(self, dataset: _Dataset, files: int) -> None:
        if dataset.is_settled:
            return
        before = dataset.expected_files
        self._datasets_unresolved -= dataset.resolved_files is None
        dataset.resolved_files = files
        self._files += dataset.expected_files - before

    def _settle(self, dataset: _Dataset) -> None:
        """Stop expecting anything more of a dataset, whether it is complete or given up."""
        if dataset.is_settled:
            return
        for file in dataset.active.values():
            file.is_active = False
            # What has arrived has arrived, but no more will come.
            self._resize(file, file.received_bytes)
        dataset.active.clear()
        before = dataset.expected_files
        self._datasets_unresolved -= dataset.resolved_files is None
        dataset.is_settled = True
        self._files += dataset.expected_files - before
        self._files_started += dataset.finished_files - dataset.started_files

    def _count_file(self, dataset: _Dataset) -> None:
        before = dataset.expected_files
        dataset.started_files += 1
        self._files_started += 1
        self._files += dataset.expected_files - before

    def _start_file(self, dataset: _Dataset, event: TransferStarted) -> None:
        if dataset.is_settled:
            return
        file = self._active_file(dataset, event.uri)
        self._resize(file, event.size_bytes)
        if file.owner is not None:
            # The owner has given up, and what it had is not ours.
            file.owner = None
            self._receive(file, 0)
        self._moved[file] = None

    def _await_file(self, dataset: _Dataset, event: TransferAwaited) -> None:
        if dataset.is_settled:
            return
        file = self._active_file(dataset, event.uri)
        self._resize(file, event.size_bytes)
        if file.owner == event.owner:
            self._receive(file, event.received_bytes)
        else:
            # What the owner had before we came has not arrived now.
            file.owner = event.owner
            self._received_bytes += event.received_bytes - file.received_bytes
            file.received_bytes = event.received_bytes
        self._moved[file] = None

    def _unpack_file(self, dataset: _Dataset, event: UnpackStarted) -> None:
        if dataset.is_settled:
            return
        file = self._active_file(dataset, event.uri)
        self._resize(file, file.size_bytes or 0)
        file.owner, file.is_unpacking = None, True
        self._moved[file] = None

    def _active_file(self, dataset: _Dataset, uri: str) -> _File:
        file = dataset.active.get(uri)
        if file is None:
            file = dataset.active[uri] = _File(dataset, uri, None)
            self._files_unsized += 1
            self._count_file(dataset)
        return file

    def _resize(self, file: _File, size_bytes: int | None) -> None:
        self._files_unsized += (size_bytes is None) - (file.size_bytes is None)
        self._total_bytes += (size_bytes or 0) - (file.size_bytes or 0)
        file.size_bytes = size_bytes

    def _receive(self, file: _File, received_bytes: int) -> None:
        added = received_bytes - file.received_bytes
        file.received_bytes = received_bytes
        self._received_bytes += added
        if added > 0:
            self._arrived_bytes += added
            self._moved[file] = None

    def _finish_file(self, dataset: _Dataset, event: FileFinished) -> None:
        if dataset.is_settled:
            return
        file = dataset.active.pop(event.uri, None)
        if file is None:
            self._count_file(dataset)
            received_bytes = 0
        else:
            file.is_active = False
            received_bytes = file.received_bytes
            self._resize(file, 0)
        dataset.finished_files += 1
        if event.action == "downloaded":
            self._files_downloaded += 1
            kept_bytes = event.size_bytes
        elif event.action == "uploaded":
            self._files_uploaded += 1
            kept_bytes = event.size_bytes
        else:
            # A transfer that was begun in vain no longer counts: its file is not one that is downloaded.
            self._files_stale += event.action == "stale"
            self._files_fresh += event.action != "stale"
            kept_bytes = 0
        self._total_bytes += kept_bytes
        self._received_bytes += kept_bytes - received_bytes
        self._arrived_bytes += max(0, min(kept_bytes - received_bytes, event.bytes_downloaded + event.bytes_uploaded))

    # -- how far it is ------------------------------------------------------------------------------------------------

    def sample(self, now: float) -> None:
        """Note how many bytes have arrived by now, in seconds of a clock that only goes forward; the rate needs two."""
        for file in self._moved:
            file.moved_at = now
        samples = self._samples
        samples.append((now, self._arrived_bytes))
        while len(samples) > 2 and samples[1][0] <= now - WINDOW_SECONDS:
            samples.popleft()

    def progress(self, *, active_limit: int) -> Progress:
        """Tell how far it is as of the last sample, with so many active files at most."""
        rate = self._bytes_per_second()
        is_known = self._datasets_unresolved == 0 and self._files_started == self._files and self._files_unsized == 0
        missing = self._total_bytes - self._received_bytes
        return Progress(
            datasets=self._datasets,
            datasets_finished=self._datasets_finished,
            datasets_failed=self._datasets_failed,
            files=self._files,
            files_finished=self._files_downloaded + self._files_uploaded + self._files_fresh + self._files_stale,
            are_files_known=self._datasets_unresolved == 0,
            received_bytes=self._received_bytes,
            total_bytes=self._total_bytes,
            are_sizes_known=is_known,
            bytes_per_second=rate,
            seconds_left=missing / rate if is_known and rate else None,
            retries=self._retries,
            active=tuple(
                ActiveFile(
                    dataset=file.dataset.name,
                    uri=file.uri,
                    is_only_file=file.dataset.expected_files == 1,
                    owner=file.owner,
                    received_bytes=file.received_bytes,
                    size_bytes=file.size_bytes,
                    is_unpacking=file.is_unpacking,
                    is_push=file.dataset.is_push,
                )
                for file in self._most_active(active_limit)
            ),
            is_push=self._is_push,
        )

    def summary(self, seconds: float) -> Summary:
        """Tell what it came to, `seconds` after it began; a single operation's own time goes before that."""
        return Summary(
            dataset=self._dataset_name if self._datasets == 1 else None,
            files=self._files,
            files_downloaded=self._files_downloaded,
            files_fresh=self._files_fresh,
            files_stale=self._files_stale,
            datasets=self._datasets,
            datasets_failed=self._datasets_failed,
            bytes_downloaded=self._bytes_downloaded,
            seconds=self._operation_seconds if self._operations_finished == 1 else seconds,
            retries=self._retries,
            is_cancelled=self._is_cancelled,
            files_uploaded=self._files_uploaded,
            bytes_uploaded=self._bytes_uploaded,
            is_push=self._is_push,
        )

    @property
    def _is_push(self) -> bool:
        return self._pushes == self._operations_started > 0

    def _bytes_per_second(self) -> float | None:
        if len(self._samples) < 2:
            return None
        (first, first_bytes), (last, last_bytes) = self._samples[0], self._samples[-1]
        return (last_bytes - first_bytes) / (last - first) if last > first else None

    def _most_active(self, limit: int) -> list[_File]:
        """Pick the files to show: a file keeps its line while it is under way, so that lines don't jump about.

        Looks only at the files shown and at those that moved since the last time, not at all files.
        """
        now = self._samples[-1][0] if self._samples else 0.0
        rows = [file for file in self._rows if file.is_active]
        shown = set(rows)
        waiting = nlargest(
            limit,
            (f for f in self._moved if f.is_active and f not in shown and _has_line(f)),
            key=_size,
        )
        self._moved.clear()
        surplus = len(rows) + len(waiting) - limit
        if surplus > 0:
            stalled = sorted(
                (file for file in rows if now - file.moved_at > STALLED_SECONDS), key=lambda file: file.moved_at
            )
            gone = set(stalled[:surplus])
            rows = [file for file in rows if file not in gone]
        self._rows = [*rows, *waiting][:limit]
        return self._rows
