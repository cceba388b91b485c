"""What does a fetch do when something goes wrong? For each fault of the server, cached or not, small or large: a row.

The outcome is right new bytes; or the old copy with a `StaleDataWarning`; or an error of the right type and the old
copy still there. Never wrong bytes, never a stray file; and when the fault is over the next fetch brings the new bytes.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiobotocore.session import AioSession

from datacachalog import (
    AsyncCatalog,
    CatalogConfig,
    Dataset,
    RouterStorage,
    S3Storage,
    StaleDataWarning,
    StorageUnreachableError,
)
from datacachalog._pipeline import requests
from datacachalog.testing import (
    Cut,
    Fault,
    FaultServer,
    IgnoreRange,
    Latency,
    Meanwhile,
    MemoryStorage,
    NoEtag,
    Reset,
    ServedRequest,
    Slow,
    Stall,
    Status,
    Swap,
    WeakEtag,
    WrongBytes,
    WrongChecksum,
    WrongContentRange,
)

from ..conftest import partial_files
from ._child import content, version_of

OLD, NEW, NEWER = 1, 2, 3
SIZES = {"small": 10_000, "large": 400_000}
CONFIG = CatalogConfig(
    part_bytes=64 * 1024, retries=2, restarts=3, read_timeout_seconds=0.4, connect_timeout_seconds=2.0
)

NEW_BYTES = "new bytes"
NEWER_BYTES = "newer bytes"
UNREACHABLE = "StorageUnreachableError"
THROTTLED = "ThrottledError"


@dataclass(frozen=True)
class Case:
    """A fault, and what it leads to.

    Args:
        title: the fault in words.
        faults: makes the faults for one object.
        small: the outcome for a small object; for `StorageUnreachableError` and `ThrottledError` that of nothing
            cached: with a cached copy it is that one and a warning.
        large: the outcome for a large object; None means the same.
        max_concurrency: 1 where the outcome depends on which parts are asked for before the fault, and which after it.
    """

    title: str
    faults: Callable[[str, FaultServer], list[Any]]
    small: str
    large: str | None = None
    max_concurrency: int = 64

    def expected(self, name: str, *, is_cached: bool) -> str:
        outcome = self.small if name.startswith("small") or self.large is None else self.large
        if outcome in (UNREACHABLE, THROTTLED) and is_cached:
            return "old bytes, StaleDataWarning"
        if outcome.endswith("Error") and is_cached:
            return f"{outcome}, old copy kept"
        return outcome


def fault(kind: Callable[..., Fault], *arguments: Any, **settings: Any) -> Callable[[str, FaultServer], list[Any]]:
    """A fault of one kind for the object."""
    return lambda uri, server: [kind(*arguments, uri=uri, **settings)]


def always(kind: Callable[..., Fault], *arguments: Any, **settings: Any) -> Callable[[str, FaultServer], list[Any]]:
    """The same for all requests."""
    return fault(kind, *arguments, times=None, **settings)


def swapped(**settings: Any) -> Callable[[str, FaultServer], list[Any]]:
    """The object is replaced, once."""
    return lambda uri, server: [Swap(content(name_of(uri), NEWER, size_of(uri) + 7), uri=uri, **settings)]


def replaced_at_every_request(uri: str, server: FaultServer) -> list[Any]:
    """Somebody writes the object all the time."""
    versions = count(NEWER)

    def replace() -> None:
        name = name_of(uri)
        server.put("bucket", name, content(name, next(versions), size_of(uri)))

    return [Meanwhile(replace, after_bytes=100, uri=uri, times=None)]


def name_of(uri: str) -> str:
    return uri.rpartition("/")[2]


def size_of(uri: str) -> int:
    return SIZES[name_of(uri).partition("-")[0]]


CASES = [
    Case("replaced while the first answer comes", swapped(after_bytes=5000), NEW_BYTES, NEWER_BYTES, 1),
    Case("replaced while the third answer comes", swapped(after_bytes=5000, nth=3), NEW_BYTES, NEWER_BYTES, 1),
    Case("replaced at every request", replaced_at_every_request, NEW_BYTES, "TransferError"),
    Case("deleted while it comes", fault(Swap, None, after_bytes=5000), NEW_BYTES, "ObjectNotFoundError", 1),
    Case("cut, once", fault(Cut, 5000), NEW_BYTES),
    Case("cut, always", always(Cut, 5000), UNREACHABLE),
    Case("cut before the answer, once", fault(Cut), NEW_BYTES),
    Case("cut before the answer, always", always(Cut), UNREACHABLE),
    Case("cut in the third answer", fault(Cut, 5000, nth=3), NEW_BYTES),
    Case("reset, once", fault(Reset, 5000), NEW_BYTES),
    Case("reset, always", always(Reset, 5000), UNREACHABLE),
    Case("reset before the answer, always", always(Reset), UNREACHABLE),
    Case("stalled, once", fault(Stall, 5000), NEW_BYTES),
    Case("stalled, always", always(Stall, 5000), UNREACHABLE),
    Case("stalled before the answer, always", always(Stall), UNREACHABLE),
    Case("500, once", fault(Status, 500), NEW_BYTES),
    Case("500, always", always(Status, 500), UNREACHABLE),
    Case("503, once", fault(Status, 503), NEW_BYTES),
    Case("503, always", always(Status, 503), THROTTLED),
    Case("503 with Retry-After, once", fault(Status, 503, retry_after_seconds=1), NEW_BYTES),
    Case("503 for the third request", fault(Status, 503, nth=3, times=2), NEW_BYTES),
    Case("429, once", fault(Status, 429), NEW_BYTES),
    Case("429, always", always(Status, 429), THROTTLED),
    Case("401", always(Status, 401), "CredentialsError"),
    Case("403", always(Status, 403), "AccessDeniedError"),
    Case("403 for the third request", fault(Status, 403, nth=3), NEW_BYTES, "AccessDeniedError"),
    Case("404", always(Status, 404), "ObjectNotFoundError"),
    Case("412 for the third request", fault(Status, 412, nth=3), NEW_BYTES),
    Case("416 for the third request", fault(Status, 416, nth=3), NEW_BYTES),
    Case("200 for a range, always", always(IgnoreRange), NEW_BYTES),
    Case("200 for a range, from the second request on", always(IgnoreRange, nth=2), NEW_BYTES),
    Case("wrong Content-Range, once", fault(WrongContentRange), NEW_BYTES),
    Case("wrong Content-Range, always", always(WrongContentRange), "TransferError"),
    Case("wrong Content-Range in the third answer", fault(WrongContentRange, nth=3), NEW_BYTES),
    Case("Content-Range that can't be read, once", fault(WrongContentRange, "garbage"), NEW_BYTES),
    Case("Content-Range that can't be read, always", always(WrongContentRange, "garbage"), UNREACHABLE),
    Case("another size in Content-Range, third answer",
         fault(WrongContentRange, "bytes 131072-196607/900000", nth=3), NEW_BYTES),
    Case("wrong bytes of the right length", always(WrongBytes, 5000), "IntegrityError"),
    Case("wrong bytes in the third answer", fault(WrongBytes, 5000, nth=3), NEW_BYTES, "IntegrityError"),
    Case("wrong checksum", always(WrongChecksum, method=None), "IntegrityError"),
    Case("no ETag", always(NoEtag), NEW_BYTES),
    Case("no ETag in the third answer", fault(NoEtag, nth=3), NEW_BYTES),
    Case("no ETag, replaced while it comes", lambda uri, server: [
        *always(NoEtag)(uri, server), *swapped(after_bytes=5000, nth=2)(uri, server)
    ], NEW_BYTES),
    Case("no ETag, cut once", lambda uri, server: [
        *always(NoEtag)(uri, server), *fault(Cut, 5000)(uri, server)
    ], NEW_BYTES),
    Case("weak ETag", always(WeakEtag), NEW_BYTES),
    Case("weak ETag, replaced while it comes", lambda uri, server: [
        # The second request is the one for the whole of a large object, whose parts nothing would hold together.
        *always(WeakEtag)(uri, server), *swapped(after_bytes=5000, nth=2)(uri, server)
    ], NEW_BYTES),
    Case("slow", always(Slow, 400_000), NEW_BYTES),
    Case("late, once later than the timeout", fault(Latency, 0.6), NEW_BYTES),
    Case("late", always(Latency, 0.1), NEW_BYTES),
    Case("refused", lambda _, server: server.refuse() or [], UNREACHABLE),
]  # fmt: skip


@pytest.fixture(scope="module")
def session() -> AioSession:
    """One for all, so that botocore's models are read once."""
    return AioSession()


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "_FIRST_DELAY_SECONDS", 0.01)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
async def test_g4_a_fault_ends_in_right_bytes_or_an_error_and_loses_nothing(
    case: Case, server: FaultServer, session: AioSession, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    """Whatever goes wrong: new bytes, or the old copy with a warning, or the right error with the old copy kept."""
    names = ["small-new", "small-cached", "large-new", "large-cached"]
    outcomes: dict[str, str] = {}
    async with AsyncCatalog(
        [Dataset(name, f"s3://bucket/{name}") for name in names],
        cache_dir=tmp_path,
        storage=RouterStorage({"s3": S3Storage(endpoint_url=server.endpoint_url, session=session)}),
        config=replace(CONFIG, max_concurrency=case.max_concurrency),
        progress=False,
    ) as catalog:
        for name in names:
            server.put("bucket", name, content(name, OLD, size_of(name)))
        await catalog.fetch_all([name for name in names if name.endswith("cached")])
        for name in names:
            server.put("bucket", name, content(name, NEW, size_of(name)))
        for name in names:
            added = await anyio.to_thread.run_sync(case.faults, f"s3://bucket/{name}", server)
            server.add_faults(*added)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            report = await catalog.fetch_all(on_error="collect")
        for name in names:
            outcomes[name] = await outcome_of(name, report, catalog)
        assert sum("Stale" in o for o in outcomes.values()) == sum(w.category is StaleDataWarning for w in caught)
        assert [] == [path for path in partial_files(tmp_path) if path.suffix == ".tmp"]
        await anyio.to_thread.run_sync(server.accept)
        server.clear_faults()
        await anyio.to_thread.run_sync(server.wait_for, is_idle)
        for name in names:
            if server.get("bucket", name) is None:
                server.put("bucket", name, content(name, NEWER, size_of(name)))
        for name, result in (await catalog.fetch_all()).items():
            newest = version_of(name, server.get("bucket", name) or b"")
            assert newest == version_of(name, await anyio.Path(result.path).read_bytes())
    tell(f"fault, {case.title}: " + "; ".join(f"{name}: {outcome}" for name, outcome in outcomes.items()))
    expected = {name: case.expected(name, is_cached=name.endswith("cached")) for name in names}
    assert expected == outcomes
    assert [] == partial_files(tmp_path)


def swap(first: Path, second: Path) -> None:
    aside = first.with_suffix(".aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def edit(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:
        file.write(data)


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "cut": lambda path, _: os.truncate(path, 100),
    "empty": lambda path, _: os.truncate(path, 0),
    "longer": lambda path, _: os.truncate(path, 10_001),
    "edited, of the same size": lambda path, _: edit(path, b"edited"),
    "written anew with the same bytes": lambda path, _: path.write_bytes(path.read_bytes()),
    "swapped with another object's": swap,
    "replaced by another object's": lambda path, other: shutil.copy2(other, path),
    "replaced by a link to another object's": lambda path, other: (path.unlink(), path.symlink_to(other)),
    "removed": lambda path, _: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_g6_a_damaged_copy_is_noticed_and_replaced(
    damage: Callable[[Path, Path], object], tmp_path: Path
) -> None:
    """A copy that isn't as it was published is neither served offline nor revalidated, but downloaded again."""
    storage = MemoryStorage()
    for name in ("one", "two"):
        storage.put(f"s3://bucket/{name}", content(name, 1, 10_000))
    datasets = [Dataset(name, f"s3://bucket/{name}") for name in ("one", "two")]
    async with AsyncCatalog(datasets, cache_dir=tmp_path, storage=storage, progress=False) as catalog:
        report = await catalog.fetch_all()
        await anyio.to_thread.run_sync(damage, report["one"].path, report["two"].path)
        with pytest.raises(StorageUnreachableError):
            await catalog.fetch("one", offline=True)
        report = await catalog.fetch_all()
        assert "downloaded" == report["one"].action
        for name, result in report.items():
            assert 1 == version_of(name, await anyio.Path(result.path).read_bytes())


def is_idle(served: Sequence[ServedRequest]) -> bool:
    """Whether no fault is still to act."""
    return all(request.finished_at is not None for request in served)


async def test_g5_a_store_that_stops_answering_ranges_is_read_in_one_piece(
    server: FaultServer, session: AioSession, tmp_path: Path
) -> None:
    """When ranges are ignored after some were answered, the parts are dropped and the whole object is taken."""
    data = content("large", 1, 3_000_000)
    server.put("bucket", "large", data)
    server.add_faults(IgnoreRange(nth=2, times=None))
    async with AsyncCatalog(
        [Dataset("large", "s3://bucket/large")],
        cache_dir=tmp_path,
        storage=RouterStorage({"s3": S3Storage(endpoint_url=server.endpoint_url, session=session)}),
        config=CONFIG,
        progress=False,
    ) as catalog:
        path = await catalog.fetch("large")
    assert 1 == version_of("large", await anyio.Path(path).read_bytes())
    assert [] == partial_files(tmp_path)


async def outcome_of(name: str, report: Any, catalog: AsyncCatalog) -> str:
    """Say what came of a fetch, after every byte was looked at."""
    if name in report.errors:
        outcome = type(report.errors[name]).__name__
        if not name.endswith("cached"):
            return outcome
        kept = await catalog.fetch(name, offline=True)
        assert OLD == version_of(name, await anyio.Path(kept).read_bytes())
        return f"{outcome}, old copy kept"
    result = report[name]
    version = version_of(name, await anyio.Path(result.path).read_bytes())
    if result.action == "stale":
        assert OLD == version
        return "old bytes, StaleDataWarning"
    assert result.action == "downloaded"
    assert version >= NEW
    return NEW_BYTES if version == NEW else NEWER_BYTES
