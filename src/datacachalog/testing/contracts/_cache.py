"""What does the catalog rely on in a cache?"""

# ruff: noqa: S101, SIM300  # asserts are what tests are made of, and read: expected == actual

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from ..._digests import CrcAlgorithm, crc_functions, digest_chunks
from ..._errors import IntegrityError, UnsafePathError
from ..._models import FileMetadata
from ...ports import CacheEntry, CacheKey, CachePort, Segment, Staging, Verified, VersionChangedError

_URI = "s3://bucket/dir/file.bin"
_KEY = CacheKey(_URI)
_DATA = bytes(range(256)) * 40
_OTHER = b"staged-and-never-published-" * 1000
_CRC: CrcAlgorithm = "crc64nvme"

_ESCAPES = ("../escape.bin", "a/../../escape.bin", "a/../../../escape.bin", "/escape.bin", "..", ".", "")

_HOSTILE_URIS = (
    "s3://bucket/../../escape.bin",
    "s3://bucket/a/../../../../escape.bin",
    "s3://../escape.bin",
    "s3://bucket/..",
    "s3://bucket/.",
    "s3://bucket//leading.bin",
    "s3://bucket/a//double.bin",
    "s3://bucket/a/./dot.bin",
    "s3://bucket/a/dot.bin",
    "s3://bucket/a/",
    "s3://bucket/a",
    "s3://bucket/a/b",
    "s3://bucket/..\\..\\escape.bin",
    "s3://bucket/nul\x00byte.bin",
    "s3://bucket/new\nline.bin",
    "s3://bucket/%2e%2e/%2e%2e/escape.bin",
    "s3://bucket/100%.bin",
    "s3://bucket/CON",
    "s3://bucket/aux.txt",
    "s3://bucket/trailing.",
    "s3://bucket/trailing ",
    "s3://bucket/~/.ssh/authorized_keys",
    "s3://bucket/C:/windows.bin",
    "s3://bucket/name.bin.json",
    "s3://bucket/name.bin",
    "s3://bucket/case.bin",
    "s3://bucket/CASE.bin",
    "s3://bucket/ümlaut-日本-🦆.bin",
    "s3://bucket/" + "long" * 200 + ".bin",
    "s3://bucket/" + "deep/" * 190 + "file.bin",
    "s3://.datacachalog/meta/bucket/dir/file.bin.json",
    "s3://.datacachalog/lease/x",
    "s3://@versions/bucket/x",
    "s3://@alt/x",
    "s3://CACHEDIR.TAG/x",
    "gs://bucket/a/dot.bin",
    "https://host.example/a/dot.bin?signature=1",
    "https://host.example/a/dot.bin?signature=2",
    "/etc/passwd",
    "file:///etc/passwd",
)


class CacheContract:
    """The rules for a `CachePort`. Give a fixture `cache`: a new, empty cache that keeps its files in `cache_dir`."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Catalogs run on asyncio."""
        return "asyncio"

    @pytest.fixture
    def cache_dir(self, tmp_path: Path) -> Path:
        """The directory that no file of the cache may leave; it need not exist yet."""
        return tmp_path / "outer" / "cache"

    @pytest.fixture
    def cache(self, cache_dir: Path) -> CachePort:
        """Override: give the cache to be tested, with its files in `cache_dir`."""
        raise NotImplementedError("a CacheContract needs a fixture 'cache' that gives a CachePort")

    # -- lookup and publish

    @pytest.mark.anyio
    async def test_lookup_of_what_was_never_published_is_none(self, cache: CachePort) -> None:
        """An empty cache, whose directory may not exist, has nothing; that is no error."""
        assert [None, None] == await cache.lookup([_KEY, CacheKey("s3://bucket/other")])

    @pytest.mark.anyio
    async def test_lookup_of_no_keys_is_empty(self, cache: CachePort) -> None:
        """As many answers as keys."""
        assert [] == await cache.lookup([])

    @pytest.mark.anyio
    @pytest.mark.parametrize("content", [(_DATA,), (_DATA[:1], _DATA[1:5000], _DATA[5000:]), (), (b"",)])
    async def test_published_file_has_the_bytes(self, cache: CachePort, content: tuple[bytes, ...]) -> None:
        """The file of an entry holds the chunks, one after the other; an empty file is a file."""
        entry = await cache.publish(_verified(_KEY, content))
        assert b"".join(content) == await _content(entry.path)

    @pytest.mark.anyio
    async def test_published_file_is_found(self, cache: CachePort) -> None:
        """What `publish` gave is what `lookup` gives."""
        entry = await cache.publish(_verified(_KEY, (_DATA,)))
        assert (entry.key, entry.path, entry.metadata) == _facts(await _find(cache, _KEY))

    @pytest.mark.anyio
    async def test_entry_tells_what_was_published(self, cache: CachePort) -> None:
        """The sidecar keeps source, ETag, time, size, digest and what the bytes were compared with."""
        verified = _verified(_KEY, (_DATA,))
        await cache.publish(verified)
        found = (await _found(cache, _KEY)).metadata
        expected = verified.metadata
        assert (_URI, expected.etag, expected.last_modified, len(_DATA), verified.digest, "md5") == (
            found.source,
            found.etag,
            found.last_modified,
            found.size,
            found.digest,
            found.verified_by,
        )

    @pytest.mark.anyio
    async def test_metadata_that_the_remote_did_not_give_stay_none(self, cache: CachePort) -> None:
        """No ETag, no time and nothing to compare with are kept as that."""
        metadata = FileMetadata(etag=None, last_modified=None, size=len(_DATA))
        await cache.publish(Verified(_KEY, metadata, (_DATA,), digest_chunks("sha256", (_DATA,)), None))
        found = (await _found(cache, _KEY)).metadata
        assert (None, None, None) == (found.etag, found.last_modified, found.verified_by)

    @pytest.mark.anyio
    async def test_path_is_absolute_and_inside(self, cache: CachePort, cache_dir: Path) -> None:
        """The path can be used from any working directory, and lies in the cache."""
        path = (await cache.publish(_verified(_KEY, (_DATA,)))).path
        assert (True, True) == (path.is_absolute(), await _is_inside(path, cache_dir))

    @pytest.mark.anyio
    async def test_file_keeps_its_name(self, cache: CachePort) -> None:
        """Readers go by the name and the suffix."""
        assert (await cache.publish(_verified(_KEY, (_DATA,)))).path.name == "file.bin"

    @pytest.mark.anyio
    async def test_lookup_keeps_the_order_of_the_keys(self, cache: CachePort) -> None:
        """The n-th answer is to the n-th key."""
        keys = [CacheKey(f"s3://bucket/{number}") for number in range(5)]
        for key in (keys[3], keys[1]):
            await cache.publish(_verified(key, (key.uri.encode(),)))
        found = await cache.lookup(keys)
        assert [None, keys[1], None, keys[3], None] == [entry and entry.key for entry in found]

    @pytest.mark.anyio
    async def test_newer_version_replaces_the_older(self, cache: CachePort) -> None:
        """A second publish of one key leaves the second's bytes and facts."""
        await cache.publish(_verified(_KEY, (_DATA,)))
        newer = await cache.publish(_verified(_KEY, (b"newer",)))
        found = await _found(cache, _KEY)
        assert (newer.metadata, b"newer") == (found.metadata, await _content(found.path))

    @pytest.mark.anyio
    @pytest.mark.skipif(os.name == "nt", reason="Windows does not let go of an open file's name")
    async def test_reader_of_the_old_file_is_not_disturbed(self, cache: CachePort) -> None:
        """Who has the old file open goes on reading the old file."""
        entry = await cache.publish(_verified(_KEY, (_DATA,)))
        async with await anyio.open_file(entry.path, "rb") as file:
            await cache.publish(_verified(_KEY, (b"newer" * 1000,)))
            assert _DATA == await file.read()

    @pytest.mark.anyio
    async def test_publish_of_many_keys_at_once_keeps_all(self, cache: CachePort) -> None:
        """Publishing is safe from several tasks."""
        keys = [CacheKey(f"s3://bucket/dir{number % 3}/{number}") for number in range(20)]
        async with anyio.create_task_group() as group:
            for key in keys:
                group.start_soon(cache.publish, _verified(key, (key.uri.encode(),)))
        found = await cache.lookup(keys)
        assert [key.uri.encode() for key in keys] == await _contents(found)

    @pytest.mark.anyio
    async def test_publish_of_one_key_at_once_leaves_one_whole_version(self, cache: CachePort) -> None:
        """Of several that publish one key at once, what is found has the bytes of its own facts."""
        contents = [str(number).encode() * (1000 + number) for number in range(8)]
        async with anyio.create_task_group() as group:
            for content in contents:
                group.start_soon(cache.publish, _verified(_KEY, (content,)))
        found = await _find(cache, _KEY)
        assert found is None or found.metadata.digest == digest_chunks("sha256", (await _content(found.path),))

    # -- keys

    @pytest.mark.anyio
    async def test_copy_of_another_uri_is_never_served(self, cache: CachePort) -> None:
        """Two objects that are given one place in the cache: what lies there is only the one's copy."""
        one = CacheKey("s3://bucket/one", cache_path="shared/place.bin")
        other = CacheKey("s3://bucket/other", cache_path="shared/place.bin")
        await cache.publish(_verified(one, (_DATA,)))
        assert (True, False) == tuple(entry is not None for entry in await cache.lookup([one, other]))

    @pytest.mark.anyio
    async def test_cache_path_is_where_the_file_lies(self, cache: CachePort, cache_dir: Path) -> None:
        """A place of the user's own is taken as it stands."""
        entry = await cache.publish(_verified(CacheKey(_URI, cache_path="my/own name.bin"), (_DATA,)))
        assert cache_dir / "my" / "own name.bin" == entry.path

    @pytest.mark.anyio
    async def test_version_is_cached_beside_the_newest(self, cache: CachePort) -> None:
        """A named version never takes the newest's place, nor the newest a version's."""
        keys = [_KEY, CacheKey(_URI, version_id="v1"), CacheKey(_URI, version_id="v2")]
        for number, key in enumerate(keys):
            await cache.publish(_verified(key, (str(number).encode(),)))
        found = await cache.lookup(keys)
        assert [b"0", b"1", b"2"] == await _contents(found)

    @pytest.mark.anyio
    @pytest.mark.parametrize("cache_path", _ESCAPES)
    async def test_cache_path_that_leaves_the_cache_is_refused(
        self, cache: CachePort, cache_dir: Path, cache_path: str
    ) -> None:
        """A place outside the cache raises `UnsafePathError`, and nothing is written there."""
        outside = await _files(cache_dir.parent, outside=cache_dir)
        with pytest.raises(UnsafePathError):
            await cache.publish(_verified(CacheKey(_URI, cache_path=cache_path), (_DATA,)))
        assert outside == await _files(cache_dir.parent, outside=cache_dir)

    @pytest.mark.anyio
    async def test_hostile_keys_stay_inside_and_apart(self, cache: CachePort, cache_dir: Path) -> None:
        """Whatever a remote key looks like, its copy lies in the cache, is found, and is no other key's."""
        keys = [CacheKey(uri) for uri in _HOSTILE_URIS]
        keys += [CacheKey(_URI, version_id=version) for version in ("..", "../../escape", "a/b", "null")]
        expected = {}
        for number, key in enumerate(keys):
            entry = await cache.publish(_verified(key, (f"content {number}".encode(),)))
            expected[key] = f"content {number}".encode()
            assert await _is_inside(entry.path, cache_dir), f"{key} is cached at {entry.path}"
        found = await cache.lookup(keys)
        assert expected == dict(zip(keys, await _contents(found), strict=True))

    @pytest.mark.anyio
    async def test_hostile_keys_write_nothing_outside(self, cache: CachePort, cache_dir: Path) -> None:
        """Beside the cache directory nothing appears."""
        outside = await _files(cache_dir.parent, outside=cache_dir)
        for uri in _HOSTILE_URIS:
            await cache.publish(_verified(CacheKey(uri), (_DATA,)))
        assert outside == await _files(cache_dir.parent, outside=cache_dir)

    @pytest.mark.anyio
    @pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
    async def test_planted_link_is_not_followed(self, cache: CachePort, tmp_path: Path) -> None:
        """A symbolic link that was put in the place of a directory of the cache leads nobody out of it."""
        entry = await cache.publish(_verified(_KEY, (_DATA,)))
        await cache.remove([_KEY])
        outside, parent = tmp_path / "outside", anyio.Path(entry.path.parent)
        await anyio.Path(outside).mkdir()
        if await parent.exists():
            await parent.rmdir()
        await parent.symlink_to(outside, target_is_directory=True)
        try:
            again = await cache.publish(_verified(_KEY, (_DATA,)))
        except UnsafePathError:
            pass
        else:
            assert not await _is_inside(again.path, outside), f"published at {again.path}"
        assert set() == await _files(outside)

    @pytest.mark.anyio
    @pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
    async def test_link_in_the_place_of_a_file_is_not_served(self, cache: CachePort, tmp_path: Path) -> None:
        """A published file that was replaced by a link to another is not the published file."""
        entry = await cache.publish(_verified(_KEY, (_DATA,)))
        other = anyio.Path(tmp_path / "other.bin")
        await other.write_bytes(_DATA)
        await _set_mtime(Path(other), entry.metadata.mtime_ns)
        await anyio.Path(entry.path).unlink()
        await anyio.Path(entry.path).symlink_to(other)
        assert [None] == await cache.lookup([_KEY])

    # -- what was done to the files

    @pytest.mark.anyio
    async def test_truncated_file_is_noticed(self, cache: CachePort) -> None:
        """A file that is shorter than published is not served (G6)."""
        entry = await cache.publish(_verified(_KEY, (_DATA,)))
        await anyio.to_thread.run_sync(os.truncate, entry.path, len(_DATA) // 2)
        assert [None] == await cache.lookup([_KEY])

    @pytest.mark.anyio
    async def test_edited_file_of_the_same_size_is_noticed(self, cache: CachePort) -> None:
        """A file that was written since is not served, even at its old size (G6)."""
        entry = await cache.publish(_verified(_KEY, (_DATA,)))
        await anyio.Path(entry.path).write_bytes(_DATA[::-1])
        # A clock of coarse ticks may give the edit the time of the publication; a second later it can't.
        await _set_mtime(entry.path, entry.metadata.mtime_ns + 10**9)
        assert [None] == await cache.lookup([_KEY])

    @pytest.mark.anyio
    async def test_deleted_file_is_noticed(self, cache: CachePort) -> None:
        """A file that is gone is not cached."""
        await anyio.Path((await cache.publish(_verified(_KEY, (_DATA,)))).path).unlink()
        assert [None] == await cache.lookup([_KEY])

    @pytest.mark.anyio
    async def test_spoilt_file_is_replaced_by_publishing_again(self, cache: CachePort) -> None:
        """What was edited is no obstacle to the right bytes."""
        entry = await cache.publish(_verified(_KEY, (_DATA,)))
        await anyio.Path(entry.path).write_bytes(b"edited")
        await cache.publish(_verified(_KEY, (_DATA,)))
        assert _DATA == await _content((await _found(cache, _KEY)).path)

    # -- touch and remove

    @pytest.mark.anyio
    async def test_touch_advances_the_time_of_validation(self, cache: CachePort) -> None:
        """What the remote confirmed is known to be fresh from then on."""
        before = await cache.publish(_verified(_KEY, (_DATA,)))
        # A clock of coarse ticks may have to be asked more than once.
        with anyio.fail_after(5):
            while (await _found(cache, _KEY)).validated_at <= before.validated_at:
                await cache.touch([before])
        found = await _found(cache, _KEY)
        assert (before.path, before.metadata, _DATA) == (found.path, found.metadata, await _content(found.path))

    @pytest.mark.anyio
    async def test_touch_of_what_is_gone_is_no_error(self, cache: CachePort) -> None:
        """Somebody may have removed it meanwhile; it does not come back."""
        entry = await cache.publish(_verified(_KEY, (_DATA,)))
        await cache.remove([_KEY])
        await cache.touch([entry])
        assert [None] == await cache.lookup([_KEY])

    @pytest.mark.anyio
    async def test_remove_drops_the_file_and_counts_it(self, cache: CachePort) -> None:
        """What was removed is neither found nor on disk; the number is that of the files."""
        entry = await cache.publish(_verified(_KEY, (_DATA,)))
        removed = await cache.remove([_KEY, CacheKey("s3://bucket/never")])
        assert (1, [None], False) == (removed, await cache.lookup([_KEY]), await anyio.Path(entry.path).exists())

    @pytest.mark.anyio
    async def test_remove_leaves_the_others(self, cache: CachePort) -> None:
        """Only what is named is dropped: not a neighbour, not another version."""
        others = [CacheKey("s3://bucket/dir/other.bin"), CacheKey(_URI, version_id="v1")]
        for key in (_KEY, *others):
            await cache.publish(_verified(key, (_DATA,)))
        await cache.remove([_KEY])
        assert others == [entry and entry.key for entry in await cache.lookup(others)]

    @pytest.mark.anyio
    async def test_remove_leaves_the_copy_of_another_uri(self, cache: CachePort) -> None:
        """At a shared place only the one whose copy lies there can remove it."""
        one = CacheKey("s3://bucket/one", cache_path="shared/place.bin")
        await cache.publish(_verified(one, (_DATA,)))
        removed = await cache.remove([CacheKey("s3://bucket/other", cache_path="shared/place.bin")])
        assert (0, True) == (removed, (await _find(cache, one)) is not None)

    # -- staging

    @pytest.mark.anyio
    async def test_parts_may_be_written_in_any_order(self, cache: CachePort) -> None:
        """Where a part lies in the file is told by its start, not by when it comes."""
        async with cache.stage(_KEY, _metadata(_DATA), _CRC) as staging:
            for start in (6000, 0, 3000):
                await _write_part(staging, start, _DATA[start : start + 3000])
            async with staging.part(9000, len(_DATA)) as part:
                await part.write((_DATA[9000:9500],))
                await part.write((_DATA[9500:10_000], _DATA[10_000:]))
            entry = await cache.publish(_verified(_KEY, staging, data=_DATA))
        assert _DATA == await _content(entry.path)

    @pytest.mark.anyio
    async def test_parts_may_be_written_at_the_same_time(self, cache: CachePort) -> None:
        """Each part has a writer of its own, and they don't disturb each other."""
        size = 64 * 1024
        parts = [bytes([number]) * size for number in range(8)]
        data = b"".join(parts)
        async with cache.stage(_KEY, _metadata(data), _CRC) as staging:
            async with anyio.create_task_group() as group:
                for number, part in enumerate(parts):
                    group.start_soon(_write_part, staging, number * size, part)
            entry = await cache.publish(_verified(_KEY, staging, data=data))
        assert data == await _content(entry.path)

    @pytest.mark.anyio
    async def test_part_tells_what_is_written_of_it(self, cache: CachePort) -> None:
        """A part grows from its start, and has the CRC of its bytes."""
        async with cache.stage(_KEY, _metadata(_DATA), _CRC) as staging, staging.part(1000, 3000) as part:
            before = part.segment
            await part.write((_DATA[1000:1500], _DATA[1500:2000]))
            assert (Segment(1000, 1000, 0), _segment(1000, 2000)) == (before, part.segment)

    @pytest.mark.anyio
    async def test_staged_file_is_found_after_the_staging_is_left(self, cache: CachePort) -> None:
        """What was published stays."""
        async with cache.stage(_KEY, _metadata(_DATA), _CRC) as staging:
            await _write_part(staging, 0, _DATA)
            await cache.publish(_verified(_KEY, staging, data=_DATA))
        assert _DATA == await _content((await _found(cache, _KEY)).path)

    @pytest.mark.anyio
    async def test_empty_file_can_be_staged(self, cache: CachePort) -> None:
        """A file without parts is an empty file."""
        async with cache.stage(_KEY, _metadata(b""), _CRC) as staging:
            entry = await cache.publish(_verified(_KEY, staging, data=b""))
        assert await _content(entry.path) == b""

    @pytest.mark.anyio
    @pytest.mark.parametrize("algorithm", ["sha256", "md5", "sha1", "crc64nvme", "crc32c", "crc32"])
    async def test_staging_gives_the_digest_of_its_bytes(self, cache: CachePort, algorithm: str) -> None:
        """The digest is that of the whole file, spelt as in `Dataset.checksum`."""
        async with cache.stage(_KEY, _metadata(_DATA), _CRC) as staging:
            await _write_part(staging, 0, _DATA)
            assert digest_chunks(algorithm, (_DATA,)) == await staging.digest(algorithm, 0, len(_DATA))

    @pytest.mark.anyio
    async def test_staged_bytes_are_not_found(self, cache: CachePort) -> None:
        """What is under construction is out of the readers' sight."""
        async with cache.stage(_KEY, _metadata(_DATA), _CRC) as staging:
            await _write_part(staging, 0, _DATA)
            assert [None] == await cache.lookup([_KEY])

    @pytest.mark.anyio
    async def test_staging_leaves_the_good_copy_alone(self, cache: CachePort) -> None:
        """A download that is given up has not touched what is cached (G4)."""
        before = await cache.publish(_verified(_KEY, (_DATA,)))
        async with cache.stage(_KEY, _metadata(_OTHER), _CRC) as staging:
            await _write_part(staging, 0, _OTHER)
        found = await _found(cache, _KEY)
        assert (before.metadata, _DATA) == (found.metadata, await _content(found.path))

    # -- what an interrupted attempt leaves

    @pytest.mark.anyio
    async def test_new_staging_has_nothing(self, cache: CachePort) -> None:
        """There is nothing to go on with."""
        async with cache.stage(_KEY, _metadata(_DATA), _CRC) as staging:
            assert () == tuple(staging.segments)

    @pytest.mark.anyio
    async def test_interrupted_staging_is_gone_on_with(self, cache: CachePort) -> None:
        """A later attempt at the version is told what is there, in order, writes the rest, and has the whole (G3)."""
        await _interrupted(cache, (6000, 8000), (0, 2000))
        async with cache.stage(_KEY, _metadata(_DATA), _CRC) as staging:
            segments = tuple(staging.segments)
            for start, stop in ((2000, 6000), (8000, len(_DATA))):
                await _write_part(staging, start, _DATA[start:stop])
            entry = await cache.publish(_verified(_KEY, staging, data=_DATA))
        expected = (_segment(0, 2000), _segment(6000, 8000))
        assert (expected, _DATA) == (segments, await _content(entry.path))

    @pytest.mark.anyio
    async def test_failed_staging_is_gone_on_with(self, cache: CachePort) -> None:
        """An error passes through as it is, and leaves what was written."""

        async def fail() -> None:
            async with cache.stage(_KEY, _metadata(_DATA), _CRC) as staging:
                await _write_part(staging, 0, _DATA[:2000])
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert (_segment(0, 2000),) == await _left_of(cache)

    @pytest.mark.anyio
    async def test_cancelled_staging_is_gone_on_with(self, cache: CachePort) -> None:
        """Cancellation in the middle of a part leaves what was written of it (G10)."""
        with anyio.CancelScope() as scope:
            async with cache.stage(_KEY, _metadata(_DATA), _CRC) as staging, staging.part(0, len(_DATA)) as part:
                await part.write((_DATA[:1000],))
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        assert (True, (_segment(0, 1000),)) == (scope.cancelled_caught, await _left_of(cache))

    @pytest.mark.anyio
    async def test_copy_from_another_process_goes_on(self, cache: CachePort) -> None:
        """What is left belongs to the cache, not to the object that wrote it."""
        await _interrupted(cache, (0, 2000))
        copy: CachePort = pickle.loads(pickle.dumps(cache))  # noqa: S301  # pickled in the line itself
        assert (_segment(0, 2000),) == await _left_of(copy)

    @pytest.mark.anyio
    async def test_other_version_begins_anew(self, cache: CachePort) -> None:
        """Bytes of two versions never meet (G1)."""
        await _interrupted(cache, (0, 2000))
        assert () == await _left_of(cache, metadata=_metadata(_DATA[::-1]))

    @pytest.mark.anyio
    async def test_other_object_begins_anew(self, cache: CachePort) -> None:
        """The ETag alone doesn't say what it is: two objects may have the same one."""
        await _interrupted(cache, (0, 2000))
        assert () == await _left_of(cache, key=CacheKey("s3://bucket/other"))

    @pytest.mark.anyio
    async def test_version_without_an_etag_leaves_nothing(self, cache: CachePort, cache_dir: Path) -> None:
        """What can't be recognised later is removed."""
        metadata = FileMetadata(etag=None, last_modified=None, size=len(_DATA))
        await _interrupted(cache, (0, 2000), metadata=metadata)
        assert ((), set()) == (await _left_of(cache, metadata=metadata), await _files_with(_DATA[:2000], cache_dir))

    @pytest.mark.anyio
    async def test_spoilt_bytes_are_not_gone_on_with(self, cache: CachePort, cache_dir: Path) -> None:
        """What was written is compared with its CRC before it is believed: a crash or a person may have changed it."""
        await _interrupted(cache, (0, 2000))
        for file in await _files_with(_DATA[:2000], cache_dir):
            content = await _content(file)
            await anyio.Path(file).write_bytes(content.replace(_DATA[:2000], bytes(2000)))
        assert () == await _left_of(cache)

    @pytest.mark.anyio
    @pytest.mark.parametrize("error", [VersionChangedError("changed"), IntegrityError(_URI, expected="a", got="b")])
    async def test_bytes_found_wrong_are_not_gone_on_with(self, cache: CachePort, error: Exception) -> None:
        """Bytes of a version that was replaced, or that aren't the version's, would be wrong again."""

        async def fail() -> None:
            async with cache.stage(_KEY, _metadata(_DATA), _CRC) as staging:
                await _write_part(staging, 0, _DATA[:2000])
                raise error

        with pytest.raises(type(error)):
            await fail()
        assert () == await _left_of(cache)

    @pytest.mark.anyio
    async def test_two_attempts_at_once_do_not_share(self, cache: CachePort) -> None:
        """Two that fetch one version at the same time write two files, and either is right (G2)."""
        published = []
        async with cache.stage(_KEY, _metadata(_DATA), _CRC) as one:
            await _write_part(one, 0, _DATA[:2000])
            async with cache.stage(_KEY, _metadata(_DATA), _CRC) as other:
                assert () == tuple(other.segments)
                await _write_part(other, 0, _DATA)
                published.append(await _content((await cache.publish(_verified(_KEY, other, data=_DATA))).path))
            await _write_part(one, 2000, _DATA[2000:])
            published.append(await _content((await cache.publish(_verified(_KEY, one, data=_DATA))).path))
        assert [_DATA, _DATA] == published

    # -- a setting

    @pytest.mark.anyio
    async def test_copy_from_another_process_finds_the_same(self, cache: CachePort) -> None:
        """A cache is a setting: a pickled copy of it has the same files."""
        entry = await cache.publish(_verified(_KEY, (_DATA,)))
        copy: CachePort = pickle.loads(pickle.dumps(cache))  # noqa: S301  # pickled in the line itself
        assert (entry.key, entry.path, entry.metadata) == _facts(await _find(copy, _KEY))


def _verified(key: CacheKey, content: tuple[bytes, ...] | Staging, *, data: bytes | None = None) -> Verified:
    """Say that these bytes are right; a test may, as it made them up."""
    if data is None:
        assert isinstance(content, tuple)
        data = b"".join(content)
    return Verified(key, _metadata(data, key.version_id), content, digest_chunks("sha256", (data,)), "md5")


def _metadata(data: bytes, version_id: str | None = None) -> FileMetadata:
    return FileMetadata(
        etag=hashlib.md5(data, usedforsecurity=False).hexdigest(),
        last_modified=datetime(2024, 2, 29, 12, 30, 45, tzinfo=UTC),
        size=len(data),
        version_id=version_id,
    )


async def _find(cache: CachePort, key: CacheKey) -> CacheEntry | None:
    (entry,) = await cache.lookup([key])
    return entry


async def _found(cache: CachePort, key: CacheKey) -> CacheEntry:
    entry = await _find(cache, key)
    assert entry is not None, f"{key} is not cached"
    return entry


def _facts(entry: CacheEntry | None) -> object:
    return entry and (entry.key, entry.path, entry.metadata)


def _segment(start: int, stop: int) -> Segment:
    return Segment(start, stop, crc_functions(_CRC).update(_DATA[start:stop], 0))


async def _write_part(staging: Staging, start: int, data: bytes) -> None:
    """Write a part in several calls."""
    async with staging.part(start, start + len(data)) as part:
        for position in range(0, len(data), 10_000):
            await part.write((data[position : position + 10_000],))


async def _interrupted(cache: CachePort, *written: tuple[int, int], metadata: FileMetadata | None = None) -> None:
    """Write some bytes of a version, and go away."""
    async with cache.stage(_KEY, metadata or _metadata(_DATA), _CRC) as staging:
        for start, stop in written:
            await _write_part(staging, start, _DATA[start:stop])


async def _left_of(
    cache: CachePort, *, key: CacheKey = _KEY, metadata: FileMetadata | None = None
) -> tuple[Segment, ...]:
    """Tell what a new attempt could go on with."""
    async with cache.stage(key, metadata or _metadata(_DATA), _CRC) as staging:
        return tuple(staging.segments)


async def _content(path: Path) -> bytes:
    return await anyio.Path(path).read_bytes()


async def _contents(entries: Iterable[CacheEntry | None]) -> list[bytes | None]:
    return [None if entry is None else await _content(entry.path) for entry in entries]


async def _set_mtime(path: Path, mtime_ns: int) -> None:
    await anyio.to_thread.run_sync(lambda: os.utime(path, ns=(mtime_ns, mtime_ns)))


async def _is_inside(path: Path, directory: Path) -> bool:
    return await anyio.to_thread.run_sync(lambda: path.resolve().is_relative_to(directory.resolve()))


async def _files(directory: Path, *, outside: Path | None = None) -> set[Path]:
    """Find the files below a directory, but for those below `outside`."""

    def walk() -> Iterable[Path]:
        for found, _, names in os.walk(directory):
            yield from (Path(found, name) for name in names)

    files = await anyio.to_thread.run_sync(lambda: set(walk()))
    return {file for file in files if outside is None or not file.is_relative_to(outside)}


async def _files_with(data: bytes, directory: Path) -> set[Path]:
    return {file for file in await _files(directory) if data in await _content(file)}
