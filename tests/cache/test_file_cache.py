"""The cache on a real disk: what was edited, planted, filled, broken or taken away."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from datacachalog import CacheError, CacheFullError, FileCache, FileMetadata, UnsafePathError
from datacachalog._digests import digest_chunks
from datacachalog.cache._layout import candidates
from datacachalog.ports import CacheEntry, CacheKey, Verified
from datacachalog.testing.contracts import CacheContract

KEY = CacheKey("s3://bucket/dir/a.bin")
STATE = ".datacachalog"


class TestFileCache(CacheContract):
    """The rules of every cache."""

    @pytest.fixture
    def cache(self, cache_dir: Path) -> FileCache:
        return FileCache(cache_dir)


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(cache_dir: Path) -> FileCache:
    return FileCache(cache_dir)


def verified(key: CacheKey = KEY, data: bytes = b"content") -> Verified:
    metadata = FileMetadata(
        digest_chunks("md5", [data])[4:], datetime(2024, 2, 29, tzinfo=UTC), len(data), key.version_id
    )
    return Verified(key, metadata, (data,), digest_chunks("sha256", [data]), "md5")


async def publish(cache: FileCache, key: CacheKey = KEY, data: bytes = b"content") -> CacheEntry:
    return await cache.publish(verified(key, data))


async def find(cache: FileCache, key: CacheKey = KEY) -> bytes | None:
    (entry,) = await cache.lookup([key])
    return None if entry is None else entry.path.read_bytes()


def sidecar(cache: FileCache, key: CacheKey = KEY) -> Path:
    return cache.cache_dir / STATE / "meta" / (next(candidates(key)) + ".json")


# -- layout


async def test_copy_lies_at_bucket_and_key(cache):
    """The path is what everybody expects, and its sidecar is apart from it."""
    entry = await publish(cache)
    data = [p for p in cache.cache_dir.rglob("*") if p.is_file() and STATE not in p.parts and p.name != "CACHEDIR.TAG"]
    assert ([cache.cache_dir / "bucket/dir/a.bin"], True, entry.path) == (data, sidecar(cache).is_file(), data[0])


async def test_cache_is_tagged_for_backups(cache):
    """`CACHEDIR.TAG` has its signature, and is left alone if it is there already."""
    await publish(cache)
    tag = cache.cache_dir / "CACHEDIR.TAG"
    assert tag.read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886806bc55\n")
    tag.write_bytes(b"mine")
    await publish(cache)
    assert tag.read_bytes() == b"mine"


@pytest.mark.parametrize(
    "keys",
    [("a", "a/b"), ("a/b", "a"), ("a", "a.json/b"), ("a.json/b", "a"), ("a", "a/b/c"), ("d", "d//e"), ("x", "X"),
     ("dir/File.CSV", "DIR/file.csv"), ("n" * 300, "n" * 301), ("a.json", "a")],
)  # fmt: skip  # one pair beside the other
async def test_g1_keys_that_are_in_each_others_way_are_both_cached(cache, keys):
    """A file where another key needs a directory, names that differ by case or at their end: both are there, apart."""
    for key in keys:
        await publish(cache, CacheKey(f"s3://bucket/{key}"), key.encode())
    assert [key.encode() for key in keys] == [await find(cache, CacheKey(f"s3://bucket/{key}")) for key in keys]


async def test_entries_lists_all_that_is_cached(cache):
    """Every copy is listed once, with its own key: versions, own places and over-long names too."""
    keys = [
        KEY,
        CacheKey(KEY.uri, "v1"),
        CacheKey("s3://bucket/" + "n" * 300),
        CacheKey("s3://bucket/own", cache_path="my/own.bin"),
        CacheKey("/data/\udcff.bin"),
    ]
    for key in keys:
        await publish(cache, key)
    assert {(key.uri, key.version_id) for key in keys} == {
        (entry.key.uri, entry.key.version_id) for entry in await cache.entries()
    }


async def test_copy_of_a_file_whose_name_is_no_text_is_cached(cache):
    """A local file's name may have bytes that are no text; its copy is published and found."""
    key = CacheKey("/data/\udcff.bin")
    await publish(cache, key)
    assert await find(cache, key) == b"content"


async def test_download_of_a_file_whose_name_is_no_text_is_staged(cache):
    """So is a large one: it can be claimed and staged."""
    key = CacheKey("/data/\udcff.bin")
    claim = await cache.claim(key)
    await cache.release(claim)
    async with cache.stage(key, FileMetadata("e", None, 7), "crc64nvme") as staging, staging.part(0, 7) as writer:
        await writer.write([b"content"])
    assert key == claim.key


# -- G6


async def test_g1_every_published_file_has_a_time_of_its_own(cache):
    """No two files have one modification time, so a sidecar belongs to one file only."""
    times = [(await publish(cache, data=b"same size")).path.stat().st_mtime_ns for _ in range(30)]
    assert 30 == len(set(times))


@pytest.mark.parametrize("size", [0, 3, 100])
async def test_g6_file_of_another_size_is_not_served(cache, size):
    """Truncated, emptied or grown: not the published file."""
    os.truncate((await publish(cache)).path, size)
    assert await find(cache) is None


async def test_g6_file_edited_at_its_size_is_not_served(cache):
    """An edit that keeps the size is seen by its time."""
    (await publish(cache)).path.write_bytes(b"CONTENT")
    assert await find(cache) is None


async def test_g6_file_swapped_with_another_is_not_served(cache):
    """Two cached files that changed places are both noticed, even at the same size."""
    one = await publish(cache, CacheKey("s3://bucket/one"), b"first")
    other = await publish(cache, CacheKey("s3://bucket/other"), b"other")
    one.path.rename(one.path.with_name("third"))
    other.path.rename(one.path)
    one.path.with_name("third").rename(other.path)
    assert [None, None] == await cache.lookup([one.key, other.key])


async def test_g6_copy_of_the_cached_file_in_its_place_is_not_served(cache):
    """A file that somebody put there without its time is somebody's file."""
    path = (await publish(cache)).path
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    assert await find(cache) is None


@pytest.mark.parametrize(
    "spoil", [os.unlink, lambda path: (os.unlink(path), os.mkdir(path))], ids=["gone", "directory"]
)
@pytest.mark.parametrize("what", ["data", "sidecar"])
async def test_g6_entry_without_its_file_is_a_miss(cache, what, spoil):
    """Gone, or a directory in its place: a miss; and where it can be, it is published again."""
    entry = await publish(cache)
    spoil(entry.path if what == "data" else sidecar(cache))
    assert await find(cache) is None
    await publish(cache)
    assert await find(cache) == b"content"


@pytest.mark.parametrize("text", [b"", b"\0" * 200, b"{", b"[]", b"\xff", b"[" * 100_000, b'{"format": 99}'])
async def test_corrupt_sidecar_is_a_miss_and_is_replaced(cache, text):
    """What can't be read is a miss, for a look-up, the list and a removal; publishing mends it."""
    await publish(cache)
    sidecar(cache).write_bytes(text)
    assert (None, [], 0) == (await find(cache), await cache.entries(), await cache.remove([KEY]))
    await publish(cache)
    assert await find(cache) == b"content"


async def test_g1_sidecar_of_another_object_is_a_miss(cache):
    """A sidecar that was copied from another object's place is not believed."""
    other = CacheKey("s3://bucket/dir/b.bin")
    await publish(cache, KEY, b"first")
    await publish(cache, other, b"other")
    sidecar(cache).write_bytes(sidecar(cache, other).read_bytes())
    assert await find(cache) is None


# -- G8


@pytest.mark.parametrize(
    "planted",
    [
        "bucket",
        "bucket/dir",
        STATE,
        f"{STATE}/meta",
        f"{STATE}/meta/bucket",
        f"{STATE}/meta/bucket/dir",
        f"{STATE}/new",
    ],
)
@pytest.mark.parametrize("is_dangling", [False, True])
async def test_g8_nothing_is_written_through_a_planted_link(cache, tmp_path, planted, is_dangling):
    """A link in the place of any directory of the cache, leading out of it, is never written through."""
    outside = tmp_path / "outside"
    if not is_dangling:
        outside.mkdir()
    link = cache.cache_dir / planted
    link.parent.mkdir(parents=True)
    link.symlink_to(outside, target_is_directory=True)
    with pytest.raises(UnsafePathError, match="link"):
        await publish(cache)
    assert (not is_dangling, []) == (outside.exists(), list(outside.rglob("*")))


@pytest.mark.parametrize("replaced", ["bucket", "bucket/dir", f"{STATE}/meta/bucket", f"{STATE}/new"])
async def test_g8_a_directory_that_has_become_a_link_is_not_written_through(cache, tmp_path, replaced):
    """A directory that was good a moment ago is looked at again."""
    await publish(cache)
    outside = tmp_path / "outside"
    (cache.cache_dir / replaced).rename(outside)
    before = {path: path.stat().st_mtime_ns for path in outside.rglob("*")}
    (cache.cache_dir / replaced).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "dir").mkdir(parents=True)
    with pytest.raises(UnsafePathError, match="link"):
        await publish(cache)
    found = {path: path.stat().st_mtime_ns for path in outside.rglob("*")}
    assert (before, ["dir"]) == (found, [path.name for path in (tmp_path / "elsewhere").rglob("*")])


@pytest.mark.parametrize("planted", [STATE, f"{STATE}/partial"])
async def test_g8_nothing_is_staged_through_a_planted_link(cache, tmp_path, planted):
    """Parts of a download neither."""
    (tmp_path / "outside").mkdir()
    link = cache.cache_dir / planted
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "outside", target_is_directory=True)
    with pytest.raises(UnsafePathError, match="link"):
        async with cache.stage(KEY, verified().metadata, "crc64nvme"):
            pass
    assert [] == list((tmp_path / "outside").rglob("*"))


async def test_g8_planted_link_to_a_file_is_replaced_and_not_written(cache, tmp_path):
    """A link in the place of the data file or its sidecar is replaced; what it led to is untouched."""
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    data = cache.cache_dir / "bucket/dir/a.bin"
    for link in (data, sidecar(cache)):
        link.parent.mkdir(parents=True)
        link.symlink_to(target)
    await publish(cache)
    assert (b"precious", b"content", False) == (target.read_bytes(), await find(cache), data.is_symlink())


async def test_g8_nothing_is_removed_through_a_planted_link(cache, tmp_path):
    """A directory of the cache that was moved out and replaced by a link to it loses nothing."""
    entry = await publish(cache)
    (cache.cache_dir / "bucket").rename(tmp_path / "moved")
    (cache.cache_dir / "bucket").symlink_to(tmp_path / "moved")
    await cache.remove([KEY])
    assert (tmp_path / "moved/dir/a.bin").read_bytes() == b"content"
    assert entry.path.exists()


async def test_cache_directory_itself_may_be_a_link(cache_dir, tmp_path):
    """Where the cache lies is the user's choice, through a link too."""
    (tmp_path / "real").mkdir()
    cache_dir.symlink_to(tmp_path / "real")
    await publish(FileCache(cache_dir))
    assert b"content" == await find(FileCache(cache_dir))


# -- a disk that doesn't do what it should


@pytest.mark.parametrize("place", ["file", "file/below", "dangling/below"])
async def test_directory_that_cannot_be_made_is_a_cache_error(tmp_path, place):
    """A file in the cache directory's place is a `CacheError` that says where; a look-up is a miss."""
    (tmp_path / "file").write_bytes(b"precious")
    (tmp_path / "dangling").symlink_to(tmp_path / "no" / "such")
    cache = FileCache(tmp_path / place)
    if place != "dangling/below":
        with pytest.raises(CacheError, match=str(tmp_path)):
            await publish(cache)
        assert await find(cache) is None
    assert (tmp_path / "file").read_bytes() == b"precious"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with one megabyte, or where that can't be mounted, a process that may write no more."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], capture_output=True, check=False
    )
    yield directory
    if mounted.returncode == 0:
        subprocess.run(["umount", directory], check=True)


_FILL = textwrap.dedent(
    """
    import os, resource, sys, anyio
    from datacachalog import *
    from datacachalog._digests import digest_chunks
    from datacachalog.ports import CacheKey, Verified

    KEY = CacheKey("s3://bucket/a")
    def verified(data):
        return Verified(KEY, FileMetadata("e", None, len(data)), (data,), digest_chunks("md5", (data,)), None)

    async def main():
        cache = FileCache(sys.argv[1])
        await cache.publish(verified(b"good"))
        if not os.path.ismount(sys.argv[1]):
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        errors = []
        try:
            await cache.publish(verified(bytes(2_000_000)))
        except CacheFullError as error:
            errors.append("published")
        try:
            # A size that seems to fit, and a disk that is full before it is reached.
            async with cache.stage(KEY, FileMetadata(None, None, 900_000), "crc64nvme") as staging:
                async with staging.part(0, 3_000_000) as writer:
                    for _ in range(3):
                        await writer.write([bytes(1_000_000)])
        except CacheFullError as error:
            errors.append("staged")
        (entry,) = await cache.lookup([KEY])
        partial = os.path.join(sys.argv[1], ".datacachalog", "partial")
        print(errors, entry.path.read_bytes().decode(), sum(len(names) for _, _, names in os.walk(partial)))

    anyio.run(main)
    """
)


def test_g4_full_disk_is_told_and_loses_nothing(small_disk):
    """`CacheFullError`, from publishing and from staging; what was cached stays, and nothing half remains."""
    found = subprocess.run([sys.executable, "-c", _FILL, small_disk], capture_output=True, text=True, check=False)
    assert "['published', 'staged'] good 0" == found.stdout.strip(), found.stderr


async def test_file_that_cannot_fit_is_refused_before_its_download(cache):
    """More bytes than are free is `CacheFullError` at once."""
    with pytest.raises(CacheFullError, match=r"bytes are needed for s3://bucket/dir/a\.bin"):
        async with cache.stage(KEY, FileMetadata("e", None, 2**60), "crc64nvme"):
            pass


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_have_the_permissions_of_the_umask(tmp_path, umask):
    """Files and directories are as any program would make them: no more open, and no more closed."""
    code = textwrap.dedent(
        """
        import os, sys, anyio
        from datacachalog import *
        from datacachalog.ports import CacheKey, Verified
        os.umask(int(sys.argv[2]))
        key = CacheKey("s3://bucket/a")
        cache = FileCache(sys.argv[1])
        entry = anyio.run(cache.publish, Verified(key, FileMetadata("e", None, 1), (b"x",), "md5:", None))
        print(*(oct(os.stat(path).st_mode & 0o777) for path in (entry.path, entry.path.parent)))
        """
    )
    arguments = [sys.executable, "-c", code, tmp_path / "cache", str(umask)]
    found = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert f"{oct(0o666 & ~umask)} {oct(0o777 & ~umask)}" == found.stdout.strip()


# -- several processes

_PUBLISH = textwrap.dedent(
    """
    import sys, anyio
    from datacachalog import *
    from datacachalog._digests import digest_chunks
    from datacachalog.ports import CacheKey, Verified

    async def main():
        cache, key = FileCache(sys.argv[1]), CacheKey("s3://bucket/a")
        for number in range(60):
            data = f"{sys.argv[2]} {number:03}".encode() * 2000
            digest = digest_chunks("sha256", (data,))
            await cache.publish(Verified(key, FileMetadata(digest, None, len(data)), (data,), digest, "sha256"))

    anyio.run(main)
    """
)


async def test_g1_readers_see_whole_versions_while_processes_publish(cache):
    """Of several processes that publish versions of one size at once, a reader sees one's bytes with its sidecar."""
    async with anyio.create_task_group() as group:
        finished = []

        async def run(name: str) -> None:
            await anyio.run_process([sys.executable, "-c", _PUBLISH, str(cache.cache_dir), name], stderr=None)
            finished.append(name)

        for name in "ABC":
            group.start_soon(run, name)
        seen, wrong = 0, []
        while len(finished) < 3:
            (entry,) = await cache.lookup([CacheKey("s3://bucket/a")])
            if entry is not None:
                data = await anyio.Path(entry.path).read_bytes()
                (again,) = await cache.lookup([CacheKey("s3://bucket/a")])
                if again == entry:
                    # Nobody published meanwhile, so these bytes are that entry's.
                    seen += 1
                    if digest_chunks("sha256", [data]) != entry.metadata.digest:
                        wrong.append(entry)
    assert (True, []) == (seen > 0, wrong)
