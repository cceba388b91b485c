"""What do the processes do that are killed, stopped and raced? This script starts them, by forking, and waits for them.

It imports everything once, has no threads, and then obeys lines of JSON: a child of it is there within milliseconds.
What is said in `content` and `version_of` is shared with the tests: objects that tell which version they are, so that a
mix of two, a prefix, zeros or another object's bytes can't pass for one.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import faulthandler
import fcntl
import gc
import hashlib
import io
import json
import mmap
import os
import random
import shutil
import struct
import sys
import threading
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aiobotocore.session import AioSession

from datacachalog import (
    AsyncCatalog,
    Catalog,
    CatalogConfig,
    Dataset,
    FileCache,
    RouterStorage,
    S3Storage,
    StorageUnreachableError,
    TransferError,
)
from datacachalog._digests import crc_functions
from datacachalog._pipeline import requests
from datacachalog.cache import (  # noqa: F401  # `_extraction`: once for all children
    _disk,
    _eviction,
    _extraction,
    _partials,
    _usage,
)
from datacachalog.ports import CacheKey
from datacachalog.testing import MemoryStorage

_HEADER_BYTES = 64
_BLOCK_BYTES = 1024 * 1024


class WrongBytesError(Exception):
    """A file holds something else than one version of its object."""


def content(key: str, version: int, size: int) -> bytes:
    """Give the bytes of a version: a header that says what it is, and what follows from the header and the place."""
    header = f"{key} {version} {size}".ljust(_HEADER_BYTES - 1).encode() + b"\n"
    return b"".join(_blocks(header, size))


def _blocks(header: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, size, _BLOCK_BYTES):
        stop = min(start + _BLOCK_BYTES, size)
        block = hashlib.shake_128(header + str(start).encode()).digest(stop - start)
        yield block if start else (header + block[_HEADER_BYTES:])[:size]


def version_of(key: str, data: bytes) -> int:
    """Tell which version of the object the bytes are, all of them, and nothing else."""
    header = data[:_HEADER_BYTES]
    try:
        found_key, version, size = header.decode().split()
    except ValueError:
        raise WrongBytesError(f"{key}: {len(data)} bytes that begin with {header!r}") from None
    if found_key != key or int(size) != len(data):
        raise WrongBytesError(f"{key}: {len(data)} bytes that say they are {found_key} {version} {size}")
    position = 0
    for block in _blocks(header, len(data)):
        if data[position : position + len(block)] != block:
            raise WrongBytesError(f"{key}: version {version} of {size} bytes is wrong in the MiB from byte {position}")
        position += len(block)
    return int(version)


# -- crash points ------------------------------------------------------------------------------------------------------

SMALL_BYTES = 700
LARGE_BYTES = 5000
PART_BYTES = 1024
OLD, NEW = 1, 2
CRASHED = 9


_write = os.write  # without a number


class Effects:
    """Numbers all that this process does to the files below a directory, and ends it at one of them.

    Args:
        root: the directory.
        stop_at: the number of the effect, from 1; 0 for none.
        when: `"before"` it, `"after"` it, or in the `"middle"` of it, which only a write has.
    """

    def __init__(self, root: str, stop_at: int, when: str) -> None:
        self.names: list[str] = []
        self.trace: list[tuple[str, str, str]] = []
        self.missed: list[str] = []
        self._root = os.path.realpath(root)
        self._stop_at = stop_at
        self._when = when
        self._mutex = threading.Lock()
        self._here = threading.local()

    def install(self) -> None:
        for name in ("mkdir", "rename", "replace", "link", "unlink", "remove", "rmdir", "utime", "fsync", "pwrite"):
            setattr(os, name, self._numbered(name, getattr(os, name)))
        os.writev = self._numbered("write", os.writev, self._half_of_writev)
        os.write = self._numbered("append", os.write)
        os.open = self._numbered("open", os.open, condition=self._is_creation)
        builtins.open = io.open = self._numbered("create", io.open, condition=self._is_writing)
        _disk.FileIO = self._numbered("create", _disk.FileIO)

    def watch(self) -> None:
        """Note every effect that the interpreter knows of and that has no number: there must be none."""
        events = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.utime", "os.truncate", "os.link", "os.symlink"}

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            is_creation = event == "open" and (
                bool(set("xwa") & set(str(arguments[1] or ""))) or self._is_creation(arguments[0], arguments[2] or 0)
            )
            if (is_creation or event in events) and not self._is_nested and self._is_inside(arguments[0]):
                self.missed.append(f"{event} {arguments}")

        sys.addaudithook(hook)

    def _numbered(
        self,
        name: str,
        function: Callable[..., Any],
        half: Callable[..., None] | None = None,
        condition: Callable[..., bool] = lambda *_, **__: True,
    ) -> Callable[..., Any]:
        def call(target: Any, *arguments: Any, **settings: Any) -> Any:
            if self._is_nested or not (self._is_inside(target) and condition(target, *arguments, **settings)):
                return function(target, *arguments, **settings)
            with self._mutex:
                self.names.append(name)
                self.trace.append((name, self._path(target), str(arguments[0]) if name == "replace" else ""))
                is_here = len(self.names) == self._stop_at
                if is_here and self._when == "before":
                    os._exit(CRASHED)
                if is_here and self._when == "middle" and half is not None:
                    half(target, *arguments)
                    os._exit(CRASHED)
                self._here.is_nested = True
                try:
                    return function(target, *arguments, **settings)
                finally:
                    self._here.is_nested = False
                    if is_here:
                        os._exit(CRASHED)

        return call

    @property
    def _is_nested(self) -> bool:
        """Whether this thread is within an effect already."""
        return getattr(self._here, "is_nested", False)

    def _is_inside(self, target: Any) -> bool:
        return self._path(target).startswith(self._root)

    @staticmethod
    def _path(target: Any) -> str:
        return os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.fspath(target)

    @staticmethod
    def _is_creation(path: str, flags: int, *_: Any, **__: Any) -> bool:
        return bool(flags & os.O_CREAT) and not os.path.exists(path)

    @staticmethod
    def _is_writing(path: Any, mode: str = "r", *_: Any, **__: Any) -> bool:
        return bool(set("xwa") & set(mode))

    @staticmethod
    def _half_of_writev(descriptor: int, buffers: Any) -> None:
        data = b"".join(bytes(buffer) for buffer in buffers)
        _write(descriptor, data[: len(data) // 2])


SIZES = {"small": SMALL_BYTES, "large": LARGE_BYTES}


def _memory_catalog(root: str, version: int, **settings: Any) -> AsyncCatalog:
    storage = MemoryStorage(chunk_bytes=256)
    for name, size in SIZES.items():
        storage.put(f"s3://bucket/{name}.bin", content(name, version, size))
    return AsyncCatalog(
        [Dataset(name, f"s3://bucket/{name}.bin") for name in SIZES],
        cache_dir=root,
        storage=storage,
        config=CatalogConfig(part_bytes=PART_BYTES, **settings),
        progress=False,
    )


ARCHIVED = {"x": SMALL_BYTES, "dir/y": LARGE_BYTES}


def _archive_catalog(root: str, version: int, **settings: Any) -> AsyncCatalog:
    """A catalog of one archive, whose members tell its version."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, size in ARCHIVED.items():
            archive.writestr(zipfile.ZipInfo(name), content(name, version, size))
    storage = MemoryStorage()
    storage.put("s3://bucket/archive.zip", buffer.getvalue())
    datasets = [Dataset("archive", "s3://bucket/archive.zip", unpack="auto")]
    config = CatalogConfig(**settings)
    return AsyncCatalog(datasets, cache_dir=root, storage=storage, config=config, progress=False)


def act(root: str, *, name: str, action: str, version: int, stop_at: int = 0, when: str = "before") -> dict[str, Any]:
    """Do one thing to a cache, and end at one of the effects that it has on the file system."""
    effects = Effects(root, stop_at, when)
    effects.watch()
    effects.install()

    async def do() -> None:
        settings = {"max_age_seconds": 0.000001} if action == "touch" else {"eviction_grace_seconds": 0.0}
        is_archive = name == "archive"
        made = (_archive_catalog if is_archive else _memory_catalog)(root, version, **settings)
        async with made as catalog:
            if action == "invalidate":
                await catalog.invalidate(name)
            elif action == "evict":
                await catalog.evict(max_bytes=0)
            elif action == "clean":
                await catalog.clean()
            else:
                await catalog.fetch(name)

    asyncio.run(do())
    return {"effects": effects.names, "missed": effects.missed, "trace": effects.trace}


def recover(root: str, *, name: str, version: int) -> dict[str, Any]:
    """Look at what a dead process has left, clean a copy of it, and go on."""
    copy_cache(root, f"{root}-cleaned")
    useless = _useless(f"{root}-cleaned")
    cache, key = FileCache(root), CacheKey(f"s3://bucket/{name}.bin")

    async def look() -> int:
        [entry] = await cache.lookup([key])
        if entry is None:
            return 0
        data = entry.path.read_bytes()
        if entry.metadata.etag != hashlib.md5(data).hexdigest():
            raise WrongBytesError(f"{name}: the bytes are not those of the ETag in the sidecar")
        return version_of(name, data)

    found = asyncio.run(look())
    partial = _partials.resumable(os.path.join(root, ".datacachalog", "partial"), key)
    etag = hashlib.md5(content(name, version, SIZES[name])).hexdigest()
    is_of_version = partial is not None and partial.header.etag == etag
    journaled = _intact_bytes(partial) if partial is not None and is_of_version else 0

    async def go_on() -> dict[str, Any]:
        async with _memory_catalog(root, version) as catalog:
            try:
                served_offline = version_of(name, (await catalog.fetch(name, offline=True)).read_bytes())
            except StorageUnreachableError:
                served_offline = 0
            first = (await catalog.fetch_all([name]))[name]
            right = version_of(name, first.path.read_bytes())
            again = (await catalog.fetch_all([name]))[name]
        return {
            "found": found,
            "served_offline": served_offline,
            "fetched": right,
            "received": first.bytes_downloaded,
            "journaled": journaled,
            "size": SIZES[name],
            "again": again.action,
            "useless": useless,
        }

    return asyncio.run(go_on())


def recover_archive(root: str, *, version: int) -> dict[str, Any]:
    """Look at what a dead process has left of an archive, and go on."""

    def version_in(tree: Path) -> int:
        found = {path.relative_to(tree).as_posix(): path.read_bytes() for path in tree.rglob("*") if path.is_file()}
        if found.keys() != ARCHIVED.keys():
            raise WrongBytesError(f"the tree holds {sorted(found)}")
        versions = {version_of(name, data) for name, data in found.items()}
        if len(versions) != 1:
            raise WrongBytesError(f"the tree is a mix of the versions {sorted(versions)}")
        return versions.pop()

    async def go_on() -> dict[str, Any]:
        async with _archive_catalog(root, version) as catalog:
            found = 0
            with contextlib.suppress(StorageUnreachableError):
                found = version_in(await catalog.fetch("archive", offline=True))
            fetched = version_in(await catalog.fetch("archive"))
            again = (await catalog.fetch_all())["archive"]
            seen = {"found": found, "fetched": fetched, "again": [version_in(again.path), again.action]}
            await catalog.invalidate("archive")
            await catalog.fetch("archive")
        return seen

    seen = asyncio.run(go_on())
    # A directory whose owner hadn't written its name yet stays for an hour; there is nothing in it.
    half = [str(path) for path in Path(root, ".datacachalog", "unpacking").glob("*/tree")]
    return {**seen, "half": half, "trees": len(list(Path(root, "@unpacked").glob("*/*")))}


def _useless(root: str) -> list[str]:
    """Clean a cache, and tell what is left in it that belongs to no entry."""

    async def clean() -> set[str]:
        async with _memory_catalog(root, NEW) as catalog:
            await catalog.clean()
        return {str(entry.path.relative_to(root)) for entry in await FileCache(root).entries()}

    for path in [*Path(root, ".datacachalog/partial").glob("*"), *Path(root, ".datacachalog/partial").glob("*/*")]:
        os.utime(path, (time.time() - 120, time.time() - 120))  # one without a journal is left alone for a minute
    paths = asyncio.run(clean())
    kept = paths | {f".datacachalog/meta/{path}.json" for path in paths}
    places = ("bucket", ".datacachalog/meta", ".datacachalog/new", ".datacachalog/partial")
    found = (path for place in places for path in Path(root, place).rglob("*") if path.is_file())
    return sorted({str(path.relative_to(root)) for path in found} - kept)


def copy_cache(source: str, target: str) -> None:
    """Copy a cache; the table of times is mostly a hole, and stays one."""

    def copy(source: str, target: str) -> None:
        if os.path.basename(source) != "accesses":
            shutil.copy2(source, target)
            return
        data = Path(source).read_bytes()
        pages = range(0, len(data), 4096)
        _disk.put_at(target, [(at, data[at : at + 4096]) for at in pages if any(data[at : at + 4096])])

    shutil.copytree(source, target, copy_function=copy)


def _intact_bytes(partial: _partials.Found) -> int:
    """Count the bytes of a partial that are there and are what its journal says."""
    data = Path(partial.path, _partials.DATA)
    if not data.exists():
        return 0
    found = data.read_bytes()
    update = crc_functions(partial.header.crc_algorithm).update
    return sum(
        segment.stop - segment.start
        for segment in partial.segments
        if update(found[segment.start : segment.stop], 0) == segment.crc and segment.stop <= len(found)
    )


# -- processes against a server ----------------------------------------------------------------------------------------

_session: Any = None
"""Made before the forks, so that no child reads botocore's models again."""


def _warm_up() -> None:
    global _session
    _session = AioSession()
    crc_functions("crc64nvme")

    async def make() -> None:
        async with _session.create_client("s3", endpoint_url="http://127.0.0.1:1", region_name="us-east-1"):
            pass

    asyncio.run(make())


def _datasets(names: list[str]) -> list[Dataset]:
    return [Dataset(name, f"s3://bucket/{name}") for name in names]


def _storage(endpoint: str) -> RouterStorage:
    return RouterStorage({"s3": S3Storage(endpoint_url=endpoint, session=_session)})


def _without_locks() -> None:
    """Make every lock of the system a no-op."""
    fcntl.flock = fcntl.lockf = fcntl.fcntl = lambda *_, **__: 0


def fetch(
    endpoint: str,
    cache_dir: str,
    *,
    names: list[str],
    rounds: int = 1,
    has_locks: bool = True,
    threads: int = 1,
    has_own_catalogs: bool = False,
    config: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Fetch datasets, so many times, and look at every byte."""
    if not has_locks:
        _without_locks()
    warnings.simplefilter("error")
    results: dict[str, list[int]] = {name: [] for name in names}
    failures: list[BaseException] = []
    mutex = threading.Lock()

    def open_catalog() -> Catalog:
        settings = CatalogConfig(**(config or {}))
        return Catalog(
            _datasets(names), cache_dir=cache_dir, storage=_storage(endpoint), config=settings, progress=False
        )

    def work(catalog: Catalog) -> None:
        try:
            with catalog:
                for _ in range(rounds):
                    for name, result in catalog.fetch_all().items():
                        version = version_of(name, result.path.read_bytes())
                        with mutex:
                            results[name].append(version)
        except BaseException as error:  # noqa: BLE001  # raised below, in the main thread
            failures.append(error)

    shared = open_catalog()
    workers = [
        threading.Thread(target=work, args=(open_catalog() if has_own_catalogs else shared,)) for _ in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for failure in failures:
        raise failure
    return {"versions": results}


class Board:
    """What several processes know of each object: the newest version begun, the newest version there."""

    _ROW = struct.Struct("qq")

    def __init__(self, path: str, names: list[str]) -> None:
        with open(path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self._names = names

    @classmethod
    def create(cls, path: str, names: list[str]) -> Board:
        Path(path).write_bytes(bytes(cls._ROW.size * len(names)))
        return cls(path, names)

    def _row(self, name: str) -> int:
        return self._names.index(name) * self._ROW.size

    def begin(self, name: str, version: int) -> None:
        self._memory[self._row(name) : self._row(name) + 8] = struct.pack("q", version)

    def end(self, name: str, version: int) -> None:
        self._memory[self._row(name) + 8 : self._row(name) + 16] = struct.pack("q", version)

    def newest(self, name: str) -> tuple[int, int]:
        """The newest version begun, and the newest that is there."""
        begun, there = self._ROW.unpack_from(self._memory, self._row(name))
        return begun, there

    def close(self) -> None:
        self._memory.close()


def stress(endpoint: str, cache_dir: str, *, board: str, tally: str, names: list[str], seed: int, seconds: float,
           config: dict[str, Any]) -> None:  # fmt: skip
    """Do anything with the catalog, until the time is over; check every byte, and write down how much that was."""
    chance = random.Random(seed)
    versions = Board(board, names)
    counts: Counter[str] = Counter()
    requests._FIRST_DELAY_SECONDS = 0.01
    warnings.simplefilter("error")
    ends_at = time.monotonic() + seconds
    tally_file = open(tally, "r+b", buffering=0)  # noqa: SIM115  # until the process ends
    catalog = Catalog(
        _datasets(names),
        cache_dir=cache_dir,
        storage=_storage(endpoint),
        config=CatalogConfig(**config),
        progress=False,
    )

    def check(name: str, path: Path) -> None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # somebody has invalidated it since
            counts["gone"] += 1
            return
        version = version_of(name, data)
        if version > versions.newest(name)[0]:
            raise WrongBytesError(f"{name}: version {version} doesn't exist yet")
        counts["bytes"] += len(data)
        counts["files"] += 1

    def once() -> None:
        name = chance.choice(names)
        match chance.choices(("fetch", "force", "all", "offline", "invalidate"), (50, 10, 10, 20, 10))[0]:
            case "fetch":
                check(name, catalog.fetch(name))
            case "force":
                check(name, catalog.fetch(name, force=True))
            case "all":
                for name, result in catalog.fetch_all(on_error="raise").items():
                    check(name, result.path)
            case "offline":
                try:
                    path = catalog.fetch(name, offline=True)
                except StorageUnreachableError:
                    counts["absent offline"] += 1
                else:
                    check(name, path)
            case "invalidate":
                catalog.invalidate(name)
        counts["operations"] += 1

    with catalog:
        while time.monotonic() < ends_at:
            try:
                once()
            except TransferError:
                counts["kept changing"] += 1
            except ExceptionGroup as group:
                if group.split(TransferError)[1] is not None:
                    raise
                counts["kept changing"] += 1
            os.pwrite(tally_file.fileno(), json.dumps(counts).ljust(500).encode(), 0)


# -- processes that evict --------------------------------------------------------------------------------------------

GRACE_SECONDS = 0.5


def evict(cache_dir: str, *, seed: int, seconds: float) -> dict[str, int]:
    """Fetch from a cache that is far too small, and look at each file while nobody may evict it."""
    for module in (_usage, _eviction):
        module.GRANULARITY_SECONDS = 0.05
    chance = random.Random(seed)
    names = [f"file{number}" for number in range(300)]
    storage = MemoryStorage()
    for name in names:
        storage.put(f"s3://bucket/{name}", content(name, NEW, SMALL_BYTES))
    counts: Counter[str] = Counter()
    ends_at = time.monotonic() + seconds

    def check(name: str, path: Path, asked_at: float) -> None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            if time.monotonic() - asked_at < GRACE_SECONDS:
                raise
            counts["too late"] += 1
            return
        version_of(name, data)
        counts["files"] += 1

    async def work(catalog: AsyncCatalog) -> None:
        while time.monotonic() < ends_at:
            some = chance.sample(names, chance.choice((1, 1, 1, 5)))
            match chance.choices(("fetch", "open", "evict", "clean"), (80, 10, 8, 2))[0]:
                case "fetch":
                    asked_at = time.monotonic()
                    for name, result in (await catalog.fetch_all(some)).items():
                        counts[result.action] += 1
                        check(name, result.path, asked_at)
                case "open":
                    async with catalog.open_path(some[0]) as path:
                        await asyncio.sleep(1.5 * GRACE_SECONDS)
                        check(some[0], path, time.monotonic())
                case "evict":
                    bound = chance.choice((0, 10 * SMALL_BYTES))
                    counts["evicted"] += await catalog.evict(max_bytes=bound) // SMALL_BYTES
                case "clean":
                    await catalog.clean()

    async def run() -> None:
        settings = CatalogConfig(cache_max_bytes=20 * SMALL_BYTES, eviction_grace_seconds=GRACE_SECONDS)
        datasets = [Dataset(name, f"s3://bucket/{name}", max_age=chance.choice((0, 1e6))) for name in names]
        catalog = AsyncCatalog(datasets, cache_dir=cache_dir, storage=storage, config=settings, progress=False)
        async with catalog:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(2):
                    tasks.create_task(work(catalog))
            await asyncio.sleep(2 * GRACE_SECONDS)
            counts["evicted"] += await catalog.evict(max_bytes=0) // SMALL_BYTES

    asyncio.run(run())
    return dict(counts)


# -- the script --------------------------------------------------------------------------------------------------------

_TASKS: dict[str, Callable[..., Any]] = {
    "act": act,
    "recover": recover,
    "recover_archive": recover_archive,
    "fetch": fetch,
    "stress": stress,
    "evict": evict,
}


def _run_child(task: str, arguments: dict[str, Any], answer: str) -> None:
    gc.disable()  # it would touch, and so copy, every page that the parent shares
    status = 1
    try:
        result = _TASKS[task](**arguments)
        with open(f"{answer}.new", "w") as file:
            json.dump(result, file)
        os.rename(f"{answer}.new", answer)
        status = 0
    except BaseException:  # noqa: BLE001  # the end of a process
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _serve() -> None:
    """Obey: `start` a child, or `wait` for one."""
    faulthandler.enable()
    _warm_up()
    if threading.active_count() != 1:
        raise RuntimeError("a process with threads must not be forked")
    gc.collect()
    gc.freeze()
    commands, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    replies.write("ready\n")
    replies.flush()
    for line in commands:
        command = json.loads(line)
        if "wait" in command:
            _, status = os.waitpid(command["wait"], 0)
            reply = os.waitstatus_to_exitcode(status)
        else:
            reply = os.fork()
            if reply == 0:
                if command["errors"] is not None:
                    errors = os.open(command["errors"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                    os.dup2(errors, 2)
                _run_child(command["start"], command["arguments"], command["answer"])
        replies.write(f"{reply}\n")
        replies.flush()


if __name__ == "__main__":
    _serve()
