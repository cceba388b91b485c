"""What is told to the caller? Values made of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .._errors import StorageError, redact_uri
from .._models import (
    CacheMetadata,
    Dataset,
    DatasetStatus,
    FetchAction,
    FetchReport,
    FetchResult,
    FileMetadata,
    Freshness,
)
from ..ports import CacheEntry
from .plan import UseCached

_COST: dict[FetchAction, int] = {"cached": 0, "revalidated": 1, "downloaded": 2, "stale": 3}
_LEAST_FRESH = (Freshness.UNKNOWN, Freshness.MISSING, Freshness.STALE, Freshness.FRESH)


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one file.

    An archive that was unpacked has as its `path` what was in it: a file, or a directory whose files are the `members`;
    the `archive` is the cached file.
    """

    path: Path
    action: FetchAction
    size: int
    bytes_downloaded: int
    reason: str
    verified_by: str | None
    metadata: CacheMetadata
    archive: Path | None = None
    members: tuple[Path, ...] | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that a reader gets."""
        return (self.path,) if self.members is None else self.members

    @property
    def cached_path(self) -> Path:
        """The file of which the cache knows whether it is in use."""
        return self.archive or self.path


@dataclass(frozen=True, slots=True)
class FileStatus:
    """How one file stands."""

    freshness: Freshness
    entry: CacheEntry | None
    remote: FileMetadata | None
    reason: str


def file_result(
    entry: CacheEntry, action: FetchAction, bytes_downloaded: int, reason: str, caveat: str = ""
) -> FileResult:
    """Give a file as it lies in the cache; `caveat` is what its storage can't promise of it."""
    metadata = entry.metadata
    reason = f"{reason}; {caveat}" if caveat else reason
    return FileResult(entry.path, action, metadata.size, bytes_downloaded, reason, metadata.verified_by, metadata)


def cached_result(decision: UseCached) -> FileResult:
    """Serve the cached copy: it didn't have to be asked for, or a listing has confirmed it."""
    return file_result(decision.entry, "revalidated" if decision.because == "listing" else "cached", 0, decision.reason)


def stale_result(entry: CacheEntry, error: StorageError) -> FileResult:
    """Serve the cached copy because the remote did not answer."""
    return file_result(entry, "stale", 0, f"the remote did not answer: {error}")


def fetch_result(dataset: Dataset, files: Sequence[FileResult]) -> FetchResult:
    """Sum up the files of a dataset: the action is that of the file that cost most."""
    dearest = max(files, key=lambda file: _COST[file.action])
    return FetchResult(
        name=dataset.name,
        paths=tuple(path for file in files for path in file.paths),
        action=dearest.action,
        bytes_downloaded=sum(file.bytes_downloaded for file in files),
        reason=dearest.reason,
        verified_by=dearest.verified_by if all(file.verified_by for file in files) else None,
        is_multi_file=dataset.is_multi_file,
        directory=None if dataset.is_multi_file or files[0].members is None else files[0].path,
    )


def fetch_report(
    datasets: Sequence[Dataset],
    results: Mapping[str, FetchResult],
    errors: Mapping[str, Exception],
    *,
    requests: int,
    seconds: float,
) -> FetchReport:
    """Put results and errors into the order of the catalog."""
    names = [dataset.name for dataset in datasets]
    return FetchReport(
        results={name: results[name] for name in names if name in results},
        errors={name: errors[name] for name in names if name in errors},
        requests=requests,
        seconds=seconds,
    )


def dataset_status(dataset: Dataset, files: Sequence[FileStatus]) -> DatasetStatus:
    """Sum up the files of a dataset: it is as fresh as its least fresh file."""
    worst = min(files, key=lambda file: _LEAST_FRESH.index(file.freshness))
    entries = [file.entry for file in files if file.entry is not None]
    described = [file.entry.metadata if file.entry else file.remote for file in files]
    known = [metadata for metadata in described if metadata is not None]
    return DatasetStatus(
        name=dataset.name,
        source=redact_uri(dataset.source),
        freshness=worst.freshness,
        path=entries[0].path if entries and not dataset.is_multi_file else None,
        size=sum(metadata.size for metadata in known) if len(known) == len(described) else None,
        cached_at=min((entry.metadata.cached_at for entry in entries), default=None),
        reason=worst.reason,
        last_modified=max((one.last_modified for one in known if one.last_modified is not None), default=None),
    )
