"""Does the cache do what a few lines in memory say it does, whatever is done in whatever order?

Remote writes and deletions, fetches of every kind, pushes, evictions, faults on the way, damage to the cached files,
and processes that die at any effect on the disk; after each step all that the cache gives, the newest and older
versions, is compared with the model (G1, G3 to G6), and after each push what it has replaced (G9).

`DATACACHALOG_TEST_MODEL_EXAMPLES` says how many sequences are run (50 if it doesn't); with it they are new ones each
time.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from datacachalog import (
    AsyncCatalog,
    CatalogConfig,
    DatacachalogError,
    Dataset,
    FetchReport,
    FileCache,
    FileMetadata,
    IntegrityError,
    ObjectNotFoundError,
    ObjectVersion,
    PushConflictError,
    StaleDataWarning,
    StorageUnreachableError,
    ThrottledError,
    TransferError,
    _pushing,
)
from datacachalog._pipeline import requests, upload
from datacachalog.cache import _claims, _disk, _partials
from datacachalog.ports import CacheKey
from datacachalog.testing import Cut, FaultyStorage, Meanwhile, MemoryStorage, Reset, Throttled, Unreachable, WrongBytes

from ._child import content, version_of

EXAMPLES = int(os.environ.get("DATACACHALOG_TEST_MODEL_EXAMPLES", "50"))
STEPS = 40

SIZES = {"small": 600, "other": 600, "large": 5000}
NAMES = list(SIZES)
PART_BYTES = 1024
RETRIES = 2

steps = Counter[str]()


class Died(BaseException):
    """The process was killed; nothing that it does now has an effect."""


class MortalDisk:
    """The cache's effects on the disk, of a process that can die at one of them."""

    NAMES = ("create", "write_all", "flush", "set_mtime", "touch", "replace", "rename_directory", "make_directory",
             "unlink", "remove_directory", "link", "append", "put_at")  # fmt: skip

    def __init__(self) -> None:
        self._originals = {name: getattr(_disk, name) for name in self.NAMES}
        self._mutex = threading.Lock()
        self._left: int | None = None
        for name, original in self._originals.items():
            setattr(_disk, name, self._mortal(name, original))

    def restore(self) -> None:
        for name, original in self._originals.items():
            setattr(_disk, name, original)

    def die_after(self, effects: int | None) -> None:
        """Let the process die at that effect; None for not at all."""
        self._left = effects

    def _mortal(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            with self._mutex:
                if self._left is not None:
                    self._left -= 1
                    if self._left <= 0:
                        if self._left == 0 and name == "write_all":
                            data = b"".join(bytes(chunk) for chunk in arguments[1])
                            os.write(arguments[0].fileno(), data[: len(data) // 2])
                        raise Died
            return original(*arguments)

        return call


WHICH = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)
MODES = st.sampled_from(["plain", "plain", "plain", "force", "offline", "max_age", "strict"])
FAULTS = st.lists(
    st.tuples(
        st.sampled_from(["unreachable", "throttled", "cut", "reset", "wrong", "replaced", "deleted"]),
        st.sampled_from(NAMES),
        st.integers(1, 4),
        st.sampled_from([1, 100]),
        st.integers(0, 1100),
    ),
    min_size=1,
    max_size=2,
)
PUSH_FAULTS = st.lists(
    st.tuples(
        st.sampled_from(["unreachable", "throttled", "lost", "replaced", "deleted"]),
        st.sampled_from(NAMES),
        st.integers(1, 4),
        st.sampled_from([1, 100]),
        st.just(0),
    ),
    max_size=2,
)


class CacheMachine(RuleBasedStateMachine):
    """A cache in a directory, and what it must be."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="datacachalog-model-"))
        self.memory = MemoryStorage(chunk_bytes=256, is_versioned=True)
        self.storage = FaultyStorage(self.memory)
        self.cache = FileCache(self.directory)
        self.local_path = Path(tempfile.mkdtemp(prefix="datacachalog-model-")) / "mine.bin"
        self.disk = MortalDisk()
        self.runner = asyncio.Runner()
        self.last_version = 0
        self.current: dict[str, int | None] = dict.fromkeys(NAMES)
        self.cached: dict[str, int | None] = dict.fromkeys(NAMES)
        self.used: dict[str, int] = dict.fromkeys(NAMES, 0)
        """After how many fetches each object was given to a caller last; all alike after a death, which loses that."""
        self.fetches = 0
        self.seen: dict[str, set[int | None]] = {}
        """Which versions each object had since the last fetch began."""
        self.ids: dict[str, dict[int, str]] = {name: {} for name in NAMES}
        """The id of every version that was ever written."""
        self.own: set[tuple[str, int]] = set()
        """The versions that have a copy of their own."""
        for name in NAMES:
            self.put(name)

    def teardown(self) -> None:
        self.disk.restore()
        self.runner.close()
        shutil.rmtree(self.directory)
        shutil.rmtree(self.local_path.parent)

    # -- the remote

    @rule(name=st.sampled_from(NAMES), what=st.sampled_from(["write", "write", "write", "delete"]))
    def change(self, name: str, what: str) -> None:
        steps[what] += 1
        if what == "write":
            self.put(name)
        else:
            self.delete(name)

    def put(self, name: str) -> None:
        self.last_version += 1
        size = SIZES[name] + self.last_version % 3
        written = self.memory.put(uri(name), content(name, self.last_version, size))
        self.ids[name][self.last_version] = str(written.version_id)
        self._becomes(name, self.last_version)

    def delete(self, name: str) -> None:
        self.memory.delete(uri(name))
        self._becomes(name, None)

    def _becomes(self, name: str, version: int | None) -> None:
        self.current[name] = version
        self.seen.setdefault(name, set()).add(version)

    # -- the catalog

    @rule(names=WHICH, mode=MODES)
    def fetch(self, names: list[str], mode: str) -> None:
        self._fetch(names, mode)

    @rule(names=WHICH, mode=MODES, faults=FAULTS)
    def fetch_with_faults(self, names: list[str], mode: str, faults: list[Any]) -> None:
        self._fetch(names, mode, faults)

    @rule(names=WHICH, mode=MODES, dies_after=st.integers(1, 60))
    def fetch_and_die(self, names: list[str], mode: str, dies_after: int) -> None:
        self._fetch(names, mode, dies_after=dies_after)

    @rule(names=WHICH, mode=MODES, faults=FAULTS, dies_after=st.integers(1, 60))
    def fetch_with_faults_and_die(self, names: list[str], mode: str, faults: list[Any], dies_after: int) -> None:
        self._fetch(names, mode, faults, dies_after)

    def _fetch(self, names: list[str], mode: str, faults: Sequence[Any] = (), dies_after: int | None = None) -> None:
        steps[f"fetch, {mode}"] += 1
        self.fetches += 1
        self.storage.clear_faults()
        for fault in faults:
            self.storage.add_faults(self._fault(*fault))
        self.seen = {name: {self.current[name]} for name in NAMES}
        before = dict(self.cached)
        wish = {"force": mode == "force", "offline": mode == "offline"}
        wish |= {"on_unreachable": "raise"} if mode == "strict" else {}

        async def run() -> FetchReport:
            async with self._catalog(max_age=1e9 if mode == "max_age" else 0.0) as catalog:
                return await catalog.fetch_all(names, on_error="collect", **wish)

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", StaleDataWarning)
            report = self._live(run, dies_after)
        self.storage.clear_faults()
        if report is None:
            self._look_after_death(names)
            return
        kinds = {name: {kind for kind, target, *_ in faults if target == name} for name in names}
        for name, error in report.errors.items():
            steps[type(error).__name__] += 1
            self._check_error(name, error, kinds[name], mode)
        stale = 0
        for name, result in report.results.items():
            version = version_of(name, result.path.read_bytes())
            if result.action in ("downloaded", "revalidated"):
                assert version in self.seen[name], f"{name} never was version {version} since the fetch began"
            else:
                assert version == before[name], f"{name} was cached as version {before[name]}, got {version}"
            match result.action:
                case "revalidated":
                    assert version == before[name]
                    assert mode != "force"
                case "cached":
                    assert mode in ("offline", "max_age")
                case "stale":
                    stale += 1
                    assert kinds[name] & {"unreachable", "throttled", "cut", "reset"}
                    assert mode != "strict"
            self.cached[name] = version
            self.used[name] = self.fetches
        assert stale == len(caught)

    @rule(
        name=st.sampled_from(NAMES),
        which=st.integers(0, 100),
        mode=st.sampled_from(["plain", "plain", "force", "offline"]),
        faults=st.just([]) | FAULTS,
        dies_after=st.none() | st.integers(1, 60),
    )
    def fetch_version(self, name: str, which: int, mode: str, faults: Sequence[Any], dies_after: int | None) -> None:
        steps[f"version, {mode}"] += 1
        number = sorted(self.ids[name])[-1 - which % len(self.ids[name])]
        is_newest_copy, has_own = self.cached[name] == number, (name, number) in self.own
        self.storage.clear_faults()
        for fault in faults:
            self.storage.add_faults(self._fault(*fault))
        kinds = {kind for kind, target, *_ in faults if target == name}
        sent_before = len(self.memory.requests)

        async def run() -> Path | Exception:
            async with self._catalog() as catalog:
                wish = {"force": mode == "force", "offline": mode == "offline"}
                try:
                    return await catalog.fetch(name, version_id=self.ids[name][number], **wish)
                except DatacachalogError as error:
                    return error

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StaleDataWarning)
            result = self._live(run, dies_after)
        self.storage.clear_faults()
        match result:
            case None:  # what was cached before may have been on its way to being replaced
                self.own = {version for version in self._look_for_own() if version == (name, number)} | (
                    self.own - {(name, number)}
                )
            case Path():
                assert number == version_of(name, result.read_bytes())
                assert mode == "force" or not (has_own or is_newest_copy) or len(self.memory.requests) == sent_before
                self.own.add((name, number))
            case IntegrityError():
                assert "wrong" in kinds
            case StorageUnreachableError() | ThrottledError():
                assert not has_own
                assert (mode == "offline" and not is_newest_copy) or kinds & {
                    "unreachable",
                    "throttled",
                    "cut",
                    "reset",
                }
            case _:
                raise result

    @rule(
        name=st.sampled_from(NAMES),
        on_conflict=st.sampled_from(["raise", "raise", "overwrite"]),
        faults=PUSH_FAULTS,
        dies_after=st.none() | st.integers(1, 15),
    )
    def push(
        self, name: str, on_conflict: Literal["raise", "overwrite"], faults: Sequence[Any], dies_after: int | None
    ) -> None:
        steps[f"push, {on_conflict}"] += 1
        self.fetches += 1
        self.last_version += 1
        number, cached_before, current_before = self.last_version, self.cached[name], self.current[name]
        self.local_path.write_bytes(content(name, number, SIZES[name] + number % 3))
        self.storage.clear_faults()
        for fault in faults:
            self.storage.add_faults(self._fault(*fault))
        kinds = {kind for kind, target, *_ in faults if target == name}

        async def run() -> FileMetadata | Exception:
            async with self._catalog() as catalog:
                try:
                    return await catalog.push(name, self.local_path, on_conflict=on_conflict)
                except DatacachalogError as error:
                    return error

        result = self._live(run, dies_after)
        self.storage.clear_faults()
        written = self._take_note_of_push(name, number)
        if on_conflict == "raise":
            assert written in ([], [cached_before]), f"{name}: cached was {cached_before}, replaced was {written}"
        match result:
            case None:
                self.seen = {name: {number} if written else set()}
                self._look_after_death([name])
            case FileMetadata():
                assert self.current[name] == number
                assert result.version_id == self.ids[name][number]
                self.cached[name], self.used[name] = number, self.fetches
            case PushConflictError():
                steps["PushConflictError"] += 1
                assert on_conflict == "raise"
                assert cached_before != current_before or kinds & {"replaced", "deleted"}
            case StorageUnreachableError() | ThrottledError():
                steps["push refused"] += 1
                assert kinds & {"unreachable", "throttled", "lost"}
            case _:
                raise result

    def _take_note_of_push(self, name: str, number: int) -> list[int | None]:
        """Note what the remote has got, and give what was there before each time that it got it."""

        async def run() -> list[ObjectVersion]:
            async with self._catalog() as catalog:
                return await catalog.versions(name)

        known = {version_id: number for number, version_id in self.ids[name].items()}
        history: list[int | None] = [None]
        replaced: list[int | None] = []
        for version in reversed(self.runner.run(run())):
            if version.is_delete_marker:
                history.append(None)
            else:
                if version.version_id not in known:
                    replaced.append(history[-1])
                    self.ids[name][number] = version.version_id
                history.append(known.get(version.version_id, number))
        self._becomes(name, history[-1])
        return replaced

    @rule(which=st.integers(0, 100), how=st.sampled_from(["cut", "edit", "gone"]))
    def damage_version(self, which: int, how: str) -> None:
        if not self.own:
            return
        name, number = sorted(self.own)[which % len(self.own)]
        path = self.directory / "@versions" / "bucket" / self.ids[name][number] / f"{name}.bin"
        match how:
            case "cut":
                os.truncate(path, 100)
            case "edit":
                path.write_bytes(path.read_bytes()[::-1])
            case _:
                path.unlink()
        self.own.remove((name, number))

    def _check_error(self, name: str, error: Exception, kinds: set[str], mode: str) -> None:
        """Every error has its reason."""
        has_copy = self.cached[name] is not None
        match error:
            case ObjectNotFoundError():
                assert None in self.seen[name]
            case StorageUnreachableError() | ThrottledError():
                is_offline = mode == "offline" and not has_copy
                is_broken = bool(kinds & {"unreachable", "throttled", "cut", "reset"})
                assert is_offline or (is_broken and (mode == "strict" or not has_copy))
            case IntegrityError():
                assert "wrong" in kinds
            case TransferError():
                assert kinds & {"replaced", "deleted"}
            case _:
                raise error

    @rule(kept_bytes=st.sampled_from([0, 700, 1400, 6000]), dies_after=st.none() | st.integers(1, 15))
    def evict(self, kept_bytes: int, dies_after: int | None) -> None:
        steps["evict"] += 1
        before, own_before = dict(self.cached), self.own

        async def run() -> int:
            async with self._catalog() as catalog:
                return await catalog.evict(max_bytes=kept_bytes)

        has_died = self._live(run, dies_after) is None
        self.cached, self.own = self._look(), self._look_for_own()
        evicted = {name for name in NAMES if self.cached[name] is None and before[name] is not None}
        kept = {name for name in NAMES if self.cached[name] is not None}
        steps["evicted"] += len(evicted) + len(own_before - self.own)
        assert self.own <= own_before
        assert {name: before[name] for name in kept} == {name: self.cached[name] for name in kept}
        if has_died:
            return
        own_bytes = sum(len(content(name, number, SIZES[name] + number % 3)) for name, number in self.own)
        assert sum(self._data(name).stat().st_size for name in kept) + own_bytes <= kept_bytes
        assert all(self.used[one] <= self.used[other] for one in evicted for other in kept)

    @rule(dies_after=st.none() | st.integers(1, 15))
    def clean(self, dies_after: int | None) -> None:
        steps["clean"] += 1

        async def run() -> int:
            async with self._catalog() as catalog:
                return await catalog.clean()

        self._live(run, dies_after)

    # -- damage

    @rule(
        name=st.sampled_from(NAMES),
        other=st.sampled_from(NAMES),
        how=st.sampled_from(
            ["cut", "empty", "longer", "edit", "swap", "no data", "no sidecar", "torn sidecar", "garbage",
             "other sidecar", "invalidate", "invalidate, die at 1", "invalidate, die at 2"]
        ),
    )  # fmt: skip
    def damage(self, name: str, other: str, how: str) -> None:
        steps[f"damage, {how}"] += 1
        is_there = {name for name in NAMES if self.cached[name] is not None}
        if how.startswith("invalidate"):
            self._invalidate(name, int(how[-1]) if how[-1].isdigit() else None)
        elif name in is_there and (other in is_there - {name} or how not in ("swap", "other sidecar")):
            self._damage(name, other, how)

    def _invalidate(self, name: str, dies_after: int | None) -> None:
        async def run() -> int:
            async with self._catalog() as catalog:
                return await catalog.invalidate(name)

        dropped = self._live(run, dies_after)
        if dropped is None:
            self._look_after_death([name])
            return
        assert dropped == (self.cached[name] is not None)
        self.cached[name] = None

    def _damage(self, name: str, other: str, how: str) -> None:
        path, sidecar = self._data(name), self._sidecar(name)
        match how:
            case "cut":
                os.truncate(path, path.stat().st_size // 2)
            case "empty":
                os.truncate(path, 0)
            case "longer":
                path.write_bytes(path.read_bytes() + b"x")
            case "edit":
                with path.open("r+b") as file:
                    file.seek(100)
                    file.write(b"edited")
            case "swap":
                path.rename(path.with_suffix(".swap"))
                self._data(other).rename(path)
                path.with_suffix(".swap").rename(self._data(other))
                self.cached[other] = None
            case "no data":
                path.unlink()
            case "no sidecar":
                sidecar.unlink()
            case "torn sidecar":
                os.truncate(sidecar, sidecar.stat().st_size // 2)
            case "garbage":
                sidecar.write_bytes(bytes(range(256)))
            case "other sidecar":
                shutil.copy2(self._sidecar(other), sidecar)
        self.cached[name] = None

    # -- what must be so after each step

    @invariant()
    def what_the_cache_gives_is_what_the_model_says(self) -> None:
        assert self.cached == self._look()

    @invariant()
    def a_version_is_that_version_for_ever(self) -> None:
        assert self.own == self._look_for_own()

    def _look_for_own(self) -> set[tuple[str, int]]:
        versions = [(name, number) for name in NAMES for number in self.ids[name]]
        keys = [CacheKey(uri(name), self.ids[name][number]) for name, number in versions]
        found = zip(versions, self.runner.run(self.cache.lookup(keys)), strict=True)
        there = {version: entry.path.read_bytes() for version, entry in found if entry is not None}
        assert all(number == version_of(name, data) for (name, number), data in there.items())
        return set(there)

    def _look(self) -> dict[str, int | None]:
        keys = [CacheKey(uri(name)) for name in NAMES]
        found = self.runner.run(self.cache.lookup(keys))
        return {
            name: None if entry is None else version_of(name, entry.path.read_bytes())
            for name, entry in zip(NAMES, found, strict=True)
        }

    def _look_after_death(self, names: list[str]) -> None:
        """Old, new or nothing; and nothing but what was being fetched has changed."""
        found = self._look()
        for name in names:
            if found[name] != self.cached[name]:
                assert found[name] is None or found[name] in self.seen[name]
                steps["death left " + ("nothing" if found[name] is None else "the new one")] += 1
                self.cached[name] = found[name]

    # -- how

    def _live(self, work: Callable[[], Any], dies_after: int | None) -> Any:
        """Do something in a process that dies at some effect, or doesn't; None if it died."""
        self.disk.die_after(dies_after)
        try:
            return self.runner.run(work())
        except BaseException as error:
            if not is_death(error):
                raise
            steps["death"] += 1
            self.used = dict.fromkeys(NAMES, self.fetches)
            return None
        finally:
            self.disk.die_after(None)
            # What a process knows of its claims and partials ends with it.
            _partials._mine.clear()
            for file in _claims._lock_files.values():
                file._held.clear()

    def _catalog(self, *, max_age: float = 0.0) -> AsyncCatalog:
        return AsyncCatalog(
            [Dataset(name, uri(name)) for name in NAMES],
            cache=self.cache,
            storage=self.storage,
            config=CatalogConfig(
                part_bytes=PART_BYTES, retries=RETRIES, restarts=3, max_age_seconds=max_age, eviction_grace_seconds=0.0
            ),
            progress=False,
        )

    def _fault(self, kind: str, name: str, nth: int, times: int, at: int) -> Any:
        where = {"uri": uri(name), "nth": nth, "times": times}
        match kind:
            case "unreachable":
                return Unreachable(**where)
            case "throttled":
                return Throttled(**where)
            case "cut":
                return Cut(at, **where)
            case "reset":
                return Reset(at, **where)
            case "lost":  # the write is done, its answer doesn't come
                return Reset(**where)
            case "wrong":
                return WrongBytes(at % 600, **where)
            case "replaced":
                return Meanwhile(lambda: self.put(name), at % 600, **where)
            case _:
                return Meanwhile(lambda: self.delete(name), at % 600, **where)

    def _data(self, name: str) -> Path:
        return self.directory / "bucket" / f"{name}.bin"

    def _sidecar(self, name: str) -> Path:
        return self.directory / ".datacachalog" / "meta" / "bucket" / f"{name}.bin.json"


def uri(name: str) -> str:
    return f"s3://bucket/{name}.bin"


def is_death(error: BaseException) -> bool:
    """Whether a process died of nothing but its death."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_death(inner) for inner in error.exceptions)
    return isinstance(error, Died)


def test_g3_whatever_is_done_in_whatever_order_the_cache_gives_right_bytes(
    monkeypatch: pytest.MonkeyPatch, tell: Callable[[str], None]
) -> None:
    """After every step of sequences of writes, fetches, faults, damages and deaths the cache is as the model says."""
    monkeypatch.setattr(requests, "_FIRST_DELAY_SECONDS", 0.0)
    monkeypatch.setattr(upload, "_LEAST_PART_BYTES", PART_BYTES)
    monkeypatch.setattr(_pushing, "_IN_MEMORY_BYTES", 2 * PART_BYTES)
    steps.clear()
    run_state_machine_as_test(
        CacheMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize="DATACACHALOG_TEST_MODEL_EXAMPLES" not in os.environ,
            database=None,
            phases=[Phase.generate],  # to shrink a failure takes longer than a test may take
            suppress_health_check=list(HealthCheck),
        ),
    )
    taken = sum(count for what, count in steps.items() if not what.endswith("Error") and not what.startswith("death"))
    tell(f"model: {taken} steps: " + ", ".join(f"{count} {what}" for what, count in sorted(steps.items())))
