"""What does a catalog do when the disk doesn't do what it should? It says so, and loses nothing (G3, G4)."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from datacachalog import (
    AsyncCatalog,
    CacheError,
    CacheFullError,
    Catalog,
    CatalogConfig,
    Dataset,
    RouterStorage,
    S3Storage,
)
from datacachalog.cache import _disk
from datacachalog.testing import FaultServer, Meanwhile, MemoryStorage

from ._child import LARGE_BYTES, PART_BYTES, SMALL_BYTES, content, version_of

SIZES = {"small": SMALL_BYTES, "large": LARGE_BYTES}
MIB = 1024 * 1024


class Remote:
    """Objects in memory, and catalogs of them on one cache."""

    def __init__(self, cache_dir: Path) -> None:
        self.cache_dir = cache_dir
        self.memory = MemoryStorage(chunk_bytes=256)

    def put(self, name: str, version: int) -> None:
        self.memory.put(f"s3://bucket/{name}", content(name, version, SIZES[name]))

    async def fetch(self, name: str, **wish: Any) -> int:
        """Fetch an object, and tell which version came."""
        config = CatalogConfig(part_bytes=PART_BYTES)
        dataset = Dataset(name, f"s3://bucket/{name}")
        async with AsyncCatalog(
            [dataset], cache_dir=self.cache_dir, config=config, storage=self.memory, progress=False
        ) as catalog:
            return version_of(name, (await catalog.fetch(name, **wish)).read_bytes())


class FailingDisk:
    """Fails the n-th of the effects that need space, and all that follow, as a disk does that is full.

    A rename needs none where there is a file of that name already.
    """

    EFFECTS = ("create", "write_all", "make_directory", "replace", "flush")

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.fails_from: int | None = None
        self.error = errno.ENOSPC
        self.count = 0
        for name in self.EFFECTS:
            patch.setattr(_disk, name, self._failing(getattr(_disk, name)))

    def _failing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if function.__name__ == "replace" and os.path.exists(arguments[1]):
                return function(*arguments)
            self.count += 1
            if self.fails_from is not None and self.count >= self.fails_from:
                raise OSError(self.error, os.strerror(self.error))
            return function(*arguments)

        return call


@pytest.fixture
def failing_disk(monkeypatch: pytest.MonkeyPatch) -> FailingDisk:
    return FailingDisk(monkeypatch)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EROFS"])
async def test_g4_a_disk_that_fails_at_any_effect_loses_nothing(
    tmp_path: Path, failing_disk: FailingDisk, name: str, error: str, tell: Callable[[str], None]
) -> None:
    """Whichever write is refused: a `CacheError`, the old copy stays, nothing stray, and with space all is right."""
    failing_disk.error = getattr(errno, error)
    expected = CacheFullError if error in ("ENOSPC", "EDQUOT") else CacheError
    number, failures = 0, 0
    while True:
        number += 1
        remote = Remote(tmp_path / str(number))
        remote.put(name, 1)
        await remote.fetch(name)
        remote.put(name, 2)
        failing_disk.count, failing_disk.fails_from = 0, number
        try:
            assert 2 == await remote.fetch(name)
        except expected:
            failures += 1
        failing_disk.fails_from = None
        is_done = failing_disk.count < number
        assert [] == list(remote.cache_dir.rglob("*.tmp"))
        assert (await remote.fetch(name, offline=True)) in (1, 2)
        assert 2 == await remote.fetch(name)
        if is_done:
            break
    assert failures >= 3
    tell(f"disk failures, {error}, {name}: {failures} of {number - 1} effects failed, the old copy was there each time")


@pytest.mark.parametrize("after_bytes", [0, MIB // 2])
@pytest.mark.parametrize("nth", [1, 2, 4])
@pytest.mark.parametrize("size", [1000, 4 * MIB])
def test_g3_a_cache_that_is_removed_while_it_is_used_is_made_again(
    server: FaultServer, tmp_path: Path, size: int, nth: int, after_bytes: int
) -> None:
    """Whoever removes the directory during a download gets the bytes or an error that says so; the next fetch works."""
    cache_dir = tmp_path / "cache"
    server.put("bucket", "a", content("a", 1, size))
    server.put("bucket", "b", b"other")
    after_bytes = min(after_bytes, size // 2)
    catalog = Catalog(
        [Dataset("a", "s3://bucket/a"), Dataset("b", "s3://bucket/b")],
        cache_dir=cache_dir,
        storage=RouterStorage({"s3": S3Storage(endpoint_url=server.endpoint_url)}),
        config=CatalogConfig(part_bytes=MIB // 2),
        progress=False,
    )
    removed = lambda: shutil.rmtree(cache_dir, ignore_errors=True)  # noqa: E731  # again and again
    with catalog:
        said = ""
        catalog.fetch("b")
        server.add_faults(Meanwhile(removed, uri="*/a", nth=nth, after_bytes=after_bytes))
        try:
            assert 1 == version_of("a", catalog.fetch("a").read_bytes())
        except CacheError as error:
            said = str(error)
        assert said == "" or "was removed while it was in use; fetch again" in said
        server.clear_faults()
        for _ in range(2):
            assert (1, b"other") == (version_of("a", catalog.fetch("a").read_bytes()), catalog.fetch("b").read_bytes())
        shutil.rmtree(cache_dir)
        assert (1, b"other") == (version_of("a", catalog.fetch("a").read_bytes()), catalog.fetch("b").read_bytes())


# -- other users -------------------------------------------------------------------------------------------------------

_USERS = """
import asyncio, os, sys, traceback
import awscrt.checksums
from datacachalog import *
from datacachalog.testing import Cut, FaultyStorage, MemoryStorage

cache_dir = sys.argv[1]

def content(name, version):
    return b"".join(f"{name} {version} {line};".encode() for line in range(1000))[:SIZES[name]]

SIZES = {"small": 700, "large": 5000, "missing": 700, "missing-large": 5000}
memory = MemoryStorage(chunk_bytes=256)
def put(name, version):
    memory.put(f"s3://bucket/{name}", content(name, version))
for name in SIZES:
    put(name, 1)

async def use(work, faults=(), **settings):
    config = CatalogConfig(**({"part_bytes": 1024, "retries": 0} | settings))
    async with AsyncCatalog(
        [Dataset(name, f"s3://bucket/{name}") for name in SIZES], cache_dir=cache_dir, config=config,
        storage=FaultyStorage(memory, faults), progress=False,
    ) as catalog:
        return await work(catalog)

async def fetched(catalog, *names, **wish):
    said = []
    for name in names:
        try:
            report = await catalog.fetch_all([name], on_error="collect", **wish)
            if report.errors:
                raise report.errors[name]
            result, data = report[name], report[name].path.read_bytes()
            [version] = [version for version in (1, 2) if content(name, version) == data]
            how_much = "a part" if 0 < result.bytes_downloaded < len(data) else result.bytes_downloaded
            said.append((result.action, version, how_much))
        except DatacachalogError as error:
            said.append((type(error).__name__, "permissions" in str(error)))
    return said

async def invalidated(catalog, name):
    try:
        return await catalog.invalidate(name)
    except CacheError as error:
        return "permissions" in str(error)

def as_user(number, work, **settings):
    # Where this is root, really another user; else the same one.
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(number)
            print(asyncio.run(use(work, **settings)))
            sys.stdout.flush()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter, as pytest's is not; its group may write."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        path.chmod(0o2775)
        if os.geteuid() == 0:
            os.chown(path, -1, 65534)
        yield path
        for name, directories, _ in os.walk(path):
            for each in (name, *(os.path.join(name, found) for found in directories)):
                os.chmod(each, 0o755)


def run_as_users(directory: Path, script: str) -> list[str]:
    found = subprocess.run(
        [sys.executable, "-c", _USERS + textwrap.dedent(script), str(directory / "cache")],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
    )
    assert (0, "") == (found.returncode, found.stderr)
    return found.stdout.splitlines()


def test_g3_users_of_one_group_share_a_cache(open_directory: Path) -> None:
    """With a umask of 002 each reads, confirms, replaces, goes on with and drops what the others have left."""
    said = run_as_users(
        open_directory,
        """
        os.umask(0o002)
        cut = [Cut(uri="*/large", nth=3, times=None, after_bytes=512)]
        one_by_one = {"max_concurrency": 1}
        as_user(60001, lambda c: fetched(c, "small"))
        as_user(60001, lambda c: fetched(c, "large"), faults=cut, **one_by_one)
        as_user(60002, lambda c: fetched(c, "small"), max_age_seconds=0.000001)
        as_user(60002, lambda c: fetched(c, "large"), **one_by_one)
        put("small", 2); put("large", 2)
        as_user(60003, lambda c: fetched(c, "small", "large"))
        as_user(60001, lambda c: fetched(c, "small", "large"))
        as_user(60001, lambda c: invalidated(c, "small"))
        as_user(60002, lambda c: fetched(c, "small"))
        modes = set()
        for directory, names, files in os.walk(cache_dir):
            modes |= {oct(os.stat(os.path.join(directory, name)).st_mode & 0o777) for name in files}
            modes |= {oct(os.stat(os.path.join(directory, name)).st_mode & 0o777) for name in names}
        print(sorted(modes))
        """,
    )
    assert [
        "[('downloaded', 1, 700)]",
        "[('StorageUnreachableError', False)]",
        "[('revalidated', 1, 0)]",
        "[('downloaded', 1, 'a part')]",
        "[('downloaded', 2, 700), ('downloaded', 2, 5000)]",
        "[('revalidated', 2, 0), ('revalidated', 2, 0)]",
        "1",
        "[('downloaded', 2, 700)]",
        "['0o664', '0o775']",
    ] == said


def test_g4_a_cache_that_may_only_be_read_serves_what_it_has(open_directory: Path) -> None:
    """A read-only cache serves its hits, fresh or offline; what is missing or newer is a `CacheError` that says why."""
    said = run_as_users(
        open_directory,
        """
        as_user(60001, lambda c: fetched(c, "small", "large"))
        for directory, names, files in os.walk(cache_dir):
            for name in files:
                os.chmod(os.path.join(directory, name), 0o444)
        for directory, names, files in os.walk(cache_dir, topdown=False):
            os.chmod(directory, 0o555)
        as_user(60002, lambda c: fetched(c, "small", "large", "missing", "missing-large"))
        as_user(60002, lambda c: fetched(c, "small", "large"), max_age_seconds=0.000001)
        put("small", 2); put("large", 2)
        as_user(60002, lambda c: fetched(c, "small", "large"))
        as_user(60002, lambda c: invalidated(c, "small"))
        as_user(60002, lambda c: fetched(c, "small", "large", offline=True))
        """,
    )
    assert [
        "[('downloaded', 1, 700), ('downloaded', 1, 5000)]",
        "[('revalidated', 1, 0), ('revalidated', 1, 0), ('CacheError', True), ('CacheError', True)]",
        "[('revalidated', 1, 0), ('revalidated', 1, 0)]",
        "[('CacheError', True), ('CacheError', True)]",
        "True",
        "[('cached', 1, 0), ('cached', 1, 0)]",
    ] == said
