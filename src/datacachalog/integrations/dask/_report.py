"""What became of all hosts? A report of each, or its error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..._errors import DatacachalogError, FetchAllError, _WithReport
from ..._models import FetchReport


class WorkersLostError(DatacachalogError):
    """The workers of a host died while they fetched, as often as is tried again.

    Attributes:
        host: the host.
    """

    def __init__(self, host: str, reason: str) -> None:
        self.host = host
        super().__init__(f"host {host}: {reason}; what was downloaded stays in its cache: warm again to go on")


class WarmError(_WithReport, DatacachalogError, ExceptionGroup[Exception]):
    """Something failed on some hosts; everything else is done.

    Attributes:
        report: the whole report.
    """

    report: WarmReport


@dataclass(frozen=True, slots=True)
class WarmReport(Mapping[str, FetchReport]):
    """What became of all hosts of a `warm`: a mapping from host to its `FetchReport`.

    Its `requests` are those to the store and those to other hosts.

    A host is named by its address; with the directory of its cache where an address has several, and by the file
    system's source where several machines share it. One that failed as a whole raises its error when it is asked for.

    Args:
        reports: host → what was fetched, and which datasets failed.
        errors: hosts that failed as a whole: host → exception.
        workers: host → the addresses of its workers; the first one has fetched.
        bytes_from_peers: host → how many bytes came from other hosts.
        seconds: from the call to its return.
    """

    reports: Mapping[str, FetchReport]
    errors: Mapping[str, Exception]
    workers: Mapping[str, tuple[str, ...]]
    bytes_from_peers: Mapping[str, int]
    seconds: float

    def __getitem__(self, host: str) -> FetchReport:
        if host not in self.reports and host in self.errors:
            raise self.errors[host]
        return self.reports[host]

    def __iter__(self) -> Iterator[str]:
        return iter(self.reports)

    def __len__(self) -> int:
        return len(self.reports)

    @property
    def bytes_downloaded(self) -> int:
        """Bytes that all hosts received, from the store and from each other."""
        return sum(report.bytes_downloaded for report in self.reports.values())

    @property
    def bytes_from_store(self) -> int:
        """Bytes that were read from the store."""
        return sum(
            max(0, report.bytes_downloaded - self.bytes_from_peers.get(host, 0))
            for host, report in self.reports.items()
        )

    def raise_for_errors(self) -> None:
        """Raise a `WarmError` if a host, or a dataset on one, failed.

        Raises:
            WarmError: with an exception for each such host, and this report as `.report`.
        """
        failures: list[Exception] = list(self.errors.values())
        for host, report in self.reports.items():
            if report.errors:
                text = f"host {host}: {len(report.errors)} of {len(report.errors) + len(report)} datasets failed"
                failures.append(FetchAllError(text, list(report.errors.values()), report))
        if failures:
            hosts = len(self.errors) + len(self.reports)
            raise WarmError(f"{len(failures)} of {hosts} hosts have failures", failures, self)
