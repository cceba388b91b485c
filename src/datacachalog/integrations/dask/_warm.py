"""How does a caller have every host of a cluster fetch? One worker a host does it, asked now and then how far it is.

Nothing of it is a task of Dask's, so it takes no worker's slot and waits behind no other work. What the caller keeps is
one state a host:

    found → bringing → checking → finished, by a report or by an error
               ↑↓
              lost: its worker died; another of the same host goes on, a bounded number of times
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import anyio
from distributed import Client

from ... import _catalog
from ..._catalog import AsyncCatalog
from ..._errors import ConfigurationError
from ..._events import (
    DatasetFailed,
    DatasetFinished,
    DatasetResolved,
    Event,
    OperationFinished,
    OperationStarted,
)
from ..._models import FetchReport
from ..._sync import Catalog
from ._calls import SAY, begin, end, said_of, tell_seat
from ._here import CacheDir, core_of, variant
from ._hosts import HostOf, Seat, names_of
from ._operation import Fetched, Order, Said
from ._report import WarmReport, WorkersLostError

_LEAST_PAUSE_SECONDS = 0.2
_PAUSE_SECONDS_A_HOST = 0.005
"""To ask a worker costs the scheduler a few milliseconds: so much of its time and no more."""

_SILENT_TIMES = 3
"""A worker that the scheduler has, and that fails to answer so often in turn, counts as lost."""

_TAKEOVERS = 3
"""So often another worker goes on for one that was lost, as Dask's own `allowed-failures` is."""

_RESTART_SECONDS = 30.0
"""So long is waited for a worker that its nanny starts again."""

_END_SECONDS = 15.0
"""So long may it take to have the workers stop."""


def warm(
    client: Client,
    catalog: Catalog | AsyncCatalog,
    names: Iterable[str] | None = None,
    *,
    cache_dir: CacheDir = None,
    host_of: HostOf = None,
    peer_to_peer: bool = False,
    on_error: Literal["raise", "collect"] = "raise",
) -> WarmReport:
    """Have every host of a Dask cluster fetch datasets, once per host however many workers it has.

    One worker of each host fetches, beside its tasks; the others then look whether they find what it has fetched, and
    fetch what they don't. Where that worker dies, another of its host goes on where it was. The catalog's progress
    shows all hosts together, each as if it were a dataset. Workers use their own credentials. Ctrl-C stops the workers,
    waits until they have unwound, and raises: what is worth resuming stays as a partial on each host.

    Args:
        client: of the cluster; not an asynchronous one, which takes `warm_async`.
        catalog: what is fetched, and how: its settings, its storage and, if `cache_dir` doesn't say else, its cache
            travel with it, as they are here. The package must be installed on the workers.
        names: the datasets; None means all of the catalog.
        cache_dir: where the copies lie on a worker: one path for all, or a callable that is asked on each worker, with
            the `Worker`. None means the worker's `DATACACHALOG_CACHE_DIR`, else the catalog's own cache.
        host_of: tells on a worker, given the `Worker`, which host it is on. None means by the address of its machine
            and the directory of its cache; one on a network file system is one host for all machines that have it.
        peer_to_peer: read each file from the store once for the whole cluster; the hosts take it from each other, and
            compare it with the digest that it was published with. The store is what they fall back to.
        on_error: `"raise"` raises a `WarmError` that carries the report; `"collect"` returns the report.

    Returns:
        Host → `FetchReport`, with the hosts that failed as a whole in `.errors`.

    Raises:
        DatasetNotFoundError: one of the names is not in the catalog; nothing was fetched.
        ConfigurationError: no workers; or an asynchronous client.
        WarmError: something failed on a host, after all others were finished.
    """
    if client.asynchronous:
        raise ConfigurationError("this client is asynchronous: await warm_async(client, catalog)")
    warming = _Warming(client, core_of(catalog), names, cache_dir, host_of, on_error, peer_to_peer=peer_to_peer)
    try:
        report: WarmReport = client.sync(warming.run)
    except KeyboardInterrupt:
        # Dask has cancelled it, and doesn't wait for it.
        warming.has_ended.wait(_END_SECONDS)
        raise
    if on_error == "raise":
        report.raise_for_errors()
    return report


async def warm_async(
    client: Client,
    catalog: Catalog | AsyncCatalog,
    names: Iterable[str] | None = None,
    *,
    cache_dir: CacheDir = None,
    host_of: HostOf = None,
    peer_to_peer: bool = False,
    on_error: Literal["raise", "collect"] = "raise",
) -> WarmReport:
    """Do what `warm` does, for a client with `asynchronous=True`, on its event loop.

    Cancelled, it stops the workers, and waits until they have unwound.

    Args:
        client: as in `warm`.
        catalog: as in `warm`.
        names: as in `warm`.
        cache_dir: as in `warm`.
        host_of: as in `warm`.
        peer_to_peer: as in `warm`.
        on_error: as in `warm`.

    Raises:
        DatasetNotFoundError: one of the names is not in the catalog; nothing was fetched.
        ConfigurationError: no workers; or a client that isn't asynchronous.
        WarmError: something failed on a host, after all others were finished.
    """
    if not client.asynchronous:
        raise ConfigurationError("this client is not asynchronous, or of another event loop: call warm()")
    warming = _Warming(client, core_of(catalog), names, cache_dir, host_of, on_error, peer_to_peer=peer_to_peer)
    report = await warming.run()
    if on_error == "raise":
        report.raise_for_errors()
    return report


@dataclass(slots=True, eq=False)
class _Host:
    """One host: its workers, and how far it is."""

    name: str
    seat: Seat
    number: int
    workers: list[str]
    files: int
    bringing: str | None = None
    tried: set[str] = field(default_factory=set)
    checking: set[str] = field(default_factory=set)
    silent: dict[str, int] = field(default_factory=dict)
    lost_at: float | None = None
    report: FetchReport | None = None
    error: Exception | None = None
    bytes_from_peers: int = 0

    @property
    def is_finished(self) -> bool:
        return self.error is not None or (self.report is not None and not self.checking)


class _Warming:
    """One call of `warm`."""

    def __init__(
        self,
        client: Client,
        core: AsyncCatalog,
        names: Iterable[str] | None,
        cache_dir: CacheDir,
        host_of: HostOf,
        on_error: str,
        *,
        peer_to_peer: bool,
    ) -> None:
        if on_error not in ("raise", "collect"):
            raise ConfigurationError(f"on_error is 'raise' or 'collect': got {on_error!r}")
        self.has_ended = threading.Event()
        self._client = client
        self._core = core
        self._host_of = host_of
        self._peer_to_peer = peer_to_peer
        self._order = Order(
            token=secrets.token_hex(16),
            catalog=variant(core, progress=False),
            names=tuple(dataset.name for dataset in core._chosen(names)),  # noqa: SLF001  # the same package's
            cache_dir=cache_dir,
        )
        self._operation = next(_catalog._operations)  # noqa: SLF001  # the same package's
        self._hosts: list[_Host] = []
        self._seats: dict[str, Seat] = {}
        self._begun: set[str] = set()

    async def run(self) -> WarmReport:
        """Do it. Cancelled, it stops the workers first."""
        began = time.perf_counter()
        is_complete = False
        try:
            await self._find_hosts()
            self._notify(OperationStarted(operation=self._operation, datasets=len(self._hosts)))
            try:
                await self._begin({host.workers[0]: host for host in self._hosts if host.error is None})
                await self._until_finished()
                is_complete = True
            finally:
                with anyio.move_on_after(_END_SECONDS, shield=True):
                    # To call one that died takes as long as Dask waits for a connection.
                    await self._run_on(self._begun & set(await self._client.nthreads()), end, self._order.token)
                self._notify(self._finished_event(time.perf_counter() - began, is_complete=is_complete))
        finally:
            self.has_ended.set()
        return self._report(time.perf_counter() - began)

    async def _until_finished(self) -> None:
        pause_seconds = max(_LEAST_PAUSE_SECONDS, _PAUSE_SECONDS_A_HOST * len(self._hosts))
        while unfinished := [host for host in self._hosts if not host.is_finished]:
            await anyio.sleep(pause_seconds)
            alive = set(await self._client.nthreads())
            await self._ask(unfinished, alive)
            await self._replace_lost([host for host in unfinished if not host.is_finished], alive)
            for host in unfinished:
                if host.is_finished:
                    self._tell_end(host)

    # -- who is there

    async def _find_hosts(self) -> None:
        answers = await self._run_on(list(await self._client.nthreads()), tell_seat, self._order, self._host_of)
        if not answers:
            raise ConfigurationError("the cluster has no workers: client.wait_for_workers(n) waits for them")
        workers: dict[Seat, list[str]] = {}
        failures: dict[str, Exception] = {}
        for address, answer in sorted(answers.items()):
            if isinstance(answer, Seat):
                self._seats[address] = answer
                workers.setdefault(answer, []).append(address)
            else:
                failures[address] = answer
        names = names_of(set(workers))
        files = len(self._order.names)
        self._hosts = [
            _Host(names[seat], seat, number, addresses, files)
            for number, (seat, addresses) in enumerate(workers.items())
        ]
        if self._peer_to_peer:
            # Of each host the worker that begins; if it dies, its neighbours take the files from others.
            self._order = replace(self._order, addresses=tuple(host.workers[0] for host in self._hosts))
        # A worker that can't even say where it is (without this package, say) is a host of its own, that failed.
        self._hosts += [
            _Host(address, Seat(address, ""), -1, [address], files, error=error) for address, error in failures.items()
        ]

    # -- having them do it

    async def _begin(self, hosts: Mapping[str, _Host], number: int | None = None) -> None:
        """Have these workers fetch, each for its host; one that takes over is told the host's number."""
        for address, host in hosts.items():
            host.bringing = address
            host.tried.add(address)
            host.lost_at = None
            self._notify(DatasetResolved(operation=self._operation, dataset=host.name, files=host.files))
        self._begun.update(hosts)
        for address, answer in (await self._run_on(hosts, begin, self._order, number)).items():
            if isinstance(answer, Exception) and not isinstance(answer, OSError):
                hosts[address].error = answer

    async def _begin_checks(self, hosts: Mapping[str, _Host]) -> None:
        """Have these workers look whether they find what was fetched."""
        self._begun.update(hosts)
        alike: dict[tuple[str, ...], list[str]] = {}
        for address, host in hosts.items():
            host.checking.add(address)
            alike.setdefault(tuple(host.report or ()), []).append(address)
        for names, addresses in alike.items():
            order = replace(self._order, names=names, is_check=True, addresses=())
            for address, answer in (await self._run_on(addresses, begin, order, None)).items():
                if isinstance(answer, Exception):
                    hosts[address].checking.discard(address)
                    if not isinstance(answer, OSError):
                        hosts[address].error = answer

    async def _ask(self, hosts: list[_Host], alive: set[str]) -> None:
        """Ask the workers how far they are, and take in what they say."""
        asked = {
            address: host
            for host in hosts
            for address in (host.checking if host.report is not None else {host.bringing})
            if address is not None
        }
        reached = [address for address in asked if address in alive]
        answers: dict[str, Any] = {}
        if reached and self._client.scheduler is not None:
            message = {"op": SAY, "token": self._order.token}
            answers = await self._client.scheduler.broadcast(msg=message, workers=reached, on_error="return_pickle")
        to_check: dict[str, _Host] = {}
        for address, host in asked.items():
            said = said_of(answers.get(address))
            if said is None:
                self._note_silence(host, address, is_alive=address in alive)
                continue
            host.silent.pop(address, None)
            if host.checking:
                self._take_check(host, address, said)
            else:
                self._forward(host, said.events)
                if isinstance(said.outcome, Exception):
                    host.error = said.outcome
                elif said.outcome is not None:
                    host.report, host.bytes_from_peers = said.outcome.report, said.outcome.bytes_from_peers
                    to_check |= {other: host for other in host.workers if other != address and other in alive}
        if to_check:
            await self._begin_checks(to_check)

    def _take_check(self, host: _Host, address: str, said: Said) -> None:
        match said.outcome:
            case None:
                return
            case Fetched(report):
                for error in report.errors.values():
                    host.error = error
            case Exception() as error:
                host.error = error
        host.checking.discard(address)

    def _note_silence(self, host: _Host, address: str, *, is_alive: bool) -> None:
        host.silent[address] = host.silent.get(address, 0) + 1
        if is_alive and host.silent[address] < _SILENT_TIMES:
            return
        host.checking.discard(address)  # one that died has nothing to look at
        if host.bringing == address and host.report is None:
            host.bringing, host.lost_at = None, time.monotonic()

    async def _replace_lost(self, hosts: list[_Host], alive: set[str]) -> None:
        """Have another worker of the same host go on where one was lost."""
        lost = [host for host in hosts if host.lost_at is not None]
        if not lost:
            return
        new = [address for address in alive if address not in self._seats]
        by_seat = {host.seat: host for host in self._hosts}
        for address, answer in (await self._run_on(new, tell_seat, self._order, self._host_of)).items():
            if isinstance(answer, Seat):
                self._seats[address] = answer
                if answer in by_seat:
                    by_seat[answer].workers.append(address)
        for host in lost:
            free = [address for address in host.workers if address in alive and address not in host.tried]
            if len(host.tried) > _TAKEOVERS:
                host.error = WorkersLostError(host.name, f"{len(host.tried)} of its workers died while they fetched")
            elif free:
                await self._begin({free[0]: host}, host.number)
            elif time.monotonic() - (host.lost_at or 0.0) > _RESTART_SECONDS:
                host.error = WorkersLostError(host.name, "all of its workers died")

    async def _run_on(self, workers: Iterable[str], function: Any, *arguments: Any) -> dict[str, Any]:
        """Run a function on workers; give what each answered, or the exception."""
        workers = list(workers)
        if not workers:
            return {}
        answers: dict[str, Any] = await self._client.run(function, *arguments, workers=workers, on_error="return")
        return answers

    # -- what is told

    def _forward(self, host: _Host, events: Iterable[Event]) -> None:
        """Tell the catalog's observer what happened on a host, as if the host were a dataset."""
        for event in events:
            changes: dict[str, Any] = {"operation": self._operation, "dataset": host.name}
            if isinstance(event, DatasetResolved):
                host.files += event.files - 1
                changes["files"] = host.files
            self._notify(replace(event, **changes))

    def _tell_end(self, host: _Host) -> None:
        reason = ""
        if host.error is not None:
            reason = str(host.error)
        elif host.report is not None and host.report.errors:
            reason = "; ".join(str(error) for error in host.report.errors.values())
        facts: dict[str, Any] = {"operation": self._operation, "dataset": host.name}
        self._notify(DatasetFailed(**facts, reason=reason) if reason else DatasetFinished(**facts))

    def _finished_event(self, seconds: float, *, is_complete: bool) -> OperationFinished:
        reports = [host.report for host in self._hosts if host.report is not None]
        failed = [host for host in self._hosts if host.error is not None or (host.report and host.report.errors)]
        return OperationFinished(
            operation=self._operation,
            seconds=seconds,
            finished=sum(host.is_finished for host in self._hosts) - len(failed),
            failed=len(failed),
            bytes_downloaded=sum(report.bytes_downloaded for report in reports),
            is_cancelled=not is_complete,
        )

    def _notify(self, event: Event) -> None:
        self._core._notify(event)  # noqa: SLF001  # the same package's

    def _report(self, seconds: float) -> WarmReport:
        hosts = sorted(self._hosts, key=lambda host: host.name)
        return WarmReport(
            reports={host.name: host.report for host in hosts if host.report is not None and host.error is None},
            errors={host.name: host.error for host in hosts if host.error is not None},
            workers={host.name: self._workers_of(host) for host in hosts},
            bytes_from_peers={host.name: host.bytes_from_peers for host in hosts},
            seconds=seconds,
        )

    def _workers_of(self, host: _Host) -> tuple[str, ...]:
        """Give the workers, the one that has fetched first."""
        return tuple(sorted(host.workers, key=lambda address: (address != host.bringing, address)))
