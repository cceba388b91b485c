"""What becomes of archives on a real disk: every format, hostile ones, limits, and what was done to the files since."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import random
import shutil
import stat
import struct
import sys
import tarfile
import threading
import zipfile
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datacachalog import (
    ArchiveError,
    ArchiveTooLargeError,
    CacheError,
    CacheFullError,
    ConfigurationError,
    FileCache,
    FileMetadata,
    UnsafePathError,
)
from datacachalog._digests import digest_chunks
from datacachalog.cache import _disk, _extraction, _unpacked
from datacachalog.cache._processes import this_process
from datacachalog.ports import Bounds, Busy, CacheEntry, CacheKey, Declaration, Unpacked, UnpackingPort, Verified

from .._archives import COMPRESSIONS, tar_bytes, tar_member, zip_bytes

MIB = 1024 * 1024
FILES = {"b/2.csv": b"two", "a.csv": b"one", "b/empty": b""}
TREE = {"a/b/2.csv": b"two", "a/a.csv": b"one", "a/b/empty": b""}


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "cache")


async def put(cache: FileCache, name: str, data: bytes) -> CacheEntry:
    metadata = FileMetadata(digest_chunks("md5", [data])[4:], datetime(2024, 2, 29, tzinfo=UTC), len(data))
    key = CacheKey(f"s3://bucket/{name}")
    return await cache.publish(Verified(key, metadata, (data,), digest_chunks("sha256", [data]), "md5"))


async def unpack(
    cache: FileCache, name: str, data: bytes, archive_format: str, *, max_bytes: int = 64 * MIB, max_files: int = 1000
) -> Unpacked:
    entry = await put(cache, name, data)
    unpacked = await cache.unpack(entry, archive_format, max_bytes=max_bytes, max_files=max_files)
    assert unpacked is not None
    assert unpacked == await cache.unpacked(entry, archive_format)
    return unpacked


async def refused(cache: FileCache, data: bytes, archive_format: str, **limits: int) -> str:
    """Give the text of the error with which an archive is refused, and see that nothing is left of it."""
    with pytest.raises((ArchiveError, UnsafePathError)) as caught:
        await unpack(cache, "evil.bin", data, archive_format, **limits)
    assert [] == left_behind(cache)
    assert ["evil.bin"] == sorted(os.listdir(cache.cache_dir / "bucket"))
    assert "s3://bucket/evil.bin" in str(caught.value)
    return str(caught.value)


def left_behind(cache: FileCache) -> list[str]:
    """What lies where trees are made and published."""
    tops = (cache.cache_dir / "@unpacked", cache.cache_dir / ".datacachalog" / "unpacking")
    return sorted(path.relative_to(cache.cache_dir).as_posix() for top in tops for path in top.rglob("*"))


def tree_of(unpacked: Unpacked) -> dict[str, bytes]:
    return {path.relative_to(unpacked.path.parent).as_posix(): path.read_bytes() for path in unpacked.files}


# -- every format


def test_cache_can_unpack(cache):
    """The cache of files is one that unpacks."""
    assert isinstance(cache, UnpackingPort)


@pytest.mark.parametrize("archive_format", COMPRESSIONS)
@pytest.mark.parametrize("content", [b"x,y\n1,2\n", b"", bytes(3 * MIB + 1)], ids=["small", "empty", "large"])
async def test_compressed_file_becomes_a_file(cache, archive_format, content):
    """Its name is the archive's without the suffix, so that readers go by the one that remains."""
    suffix, compress = COMPRESSIONS[archive_format]
    unpacked = await unpack(cache, f"dir/data.csv{suffix}", compress(content), archive_format)
    assert ("data.csv", [unpacked.path], len(content)) == (unpacked.path.name, list(unpacked.files), unpacked.size)
    assert content == unpacked.path.read_bytes()


@pytest.mark.parametrize("archive_format", COMPRESSIONS)
async def test_compressed_streams_behind_each_other_are_one_file(cache, archive_format):
    """`cat a.gz b.gz` is what is in both."""
    _, compress = COMPRESSIONS[archive_format]
    unpacked = await unpack(cache, "data", compress(b"one") + compress(b"") + compress(b"two"), archive_format)
    assert b"onetwo" == unpacked.path.read_bytes()


async def test_padding_of_xz_is_none_of_its_bytes(cache):
    """Zeros may stand behind a stream of xz."""
    data = lzma.compress(b"one") + bytes(8) + lzma.compress(b"two") + bytes(4)
    assert b"onetwo" == (await unpack(cache, "data.xz", data, "xz")).path.read_bytes()


@pytest.mark.parametrize("compression", ["", *COMPRESSIONS])
async def test_tar_becomes_a_directory_however_it_is_compressed(cache, compression):
    """The files are sorted by their names; what compressed them is told by the bytes."""
    suffix, compress = COMPRESSIONS.get(compression, ("", bytes))
    unpacked = await unpack(cache, f"a.tar{suffix}", compress(tar_bytes(FILES)), "tar")
    assert (TREE, "a", 6) == (tree_of(unpacked), unpacked.path.name, unpacked.size)
    assert sorted(unpacked.files) == list(unpacked.files)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
async def test_zip_becomes_a_directory(cache, method):
    """Each method of compression that zips have, and bytes that take several steps."""
    files = {**FILES, "large": bytes(MIB + 1)}
    unpacked = await unpack(cache, "a.zip", zip_bytes(files, method=method), "zip")
    assert {**TREE, "a/large": bytes(MIB + 1)} == tree_of(unpacked)


async def test_zip64_is_a_zip(cache):
    """The fields of large archives are read in small ones too."""
    assert TREE == tree_of(await unpack(cache, "a.zip", zip_bytes(FILES, force_zip64=True), "zip"))


@pytest.mark.parametrize(("archive_format", "data"), [("tar", tar_bytes()), ("zip", zip_bytes())], ids=["tar", "zip"])
async def test_empty_archive_is_an_empty_directory(cache, archive_format, data):
    """Nothing in it is not the same as nothing."""
    unpacked = await unpack(cache, f"a.{archive_format}", data, archive_format)
    assert ((), [], 0) == (unpacked.files, os.listdir(unpacked.path), unpacked.size)


async def test_empty_directories_are_kept(cache):
    """A directory of the archive is one here; it is no file."""
    unpacked = await unpack(cache, "a.tar", tar_bytes({}, tar_member("x/y", tarfile.DIRTYPE)), "tar")
    assert ((), ["y"]) == (unpacked.files, os.listdir(unpacked.path / "x"))


@pytest.mark.parametrize("pack", [tar_bytes, zip_bytes], ids=["tar", "zip"])
async def test_names_keep_their_letters(cache, pack):
    """Text in any script, spaces, and a long name."""
    files = {"日本/Öl und Salz.csv": b"1", "x" * 200: b"2", "🦑": b"3"}
    archive_format = pack.__name__.partition("_")[0]
    unpacked = await unpack(cache, f"a.{archive_format}", pack(files), archive_format)
    assert {f"a/{name}": data for name, data in files.items()} == tree_of(unpacked)


@pytest.mark.parametrize("name", [".manifest.json.gz", "..gz", "...gz", "%00.gz", "a" * 300 + ".csv.gz"])
async def test_any_name_of_an_archive_becomes_one_of_a_file(cache, name):
    """A name that is taken, has a meaning, or is too long, is written otherwise."""
    unpacked = await unpack(cache, name, gzip.compress(b"x"), "gzip")
    assert (b"x", 2) == (unpacked.path.read_bytes(), len(os.listdir(unpacked.path.parent)))


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
async def test_g8_files_get_no_mode_of_the_archive(cache):
    """Neither set-user-id nor anything else: files are as those that this process makes."""
    info = tar_member("a", tarfile.REGTYPE, mode=0o6777)
    unpacked = await unpack(cache, "a.tar", tar_bytes({}, info), "tar")
    assert (cache.cache_dir / "CACHEDIR.TAG").stat().st_mode == unpacked.files[0].stat().st_mode


# -- hostile archives


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "C:\\evil", "..\\evil", "a\0b"])
@pytest.mark.parametrize("archive_format", ["tar", "zip"])
async def test_g8_member_that_leads_outside_is_refused(cache, archive_format, name):
    """Whatever is behind or before it in the archive, nothing of it stays."""
    pack = tar_bytes if archive_format == "tar" else zip_bytes
    if "\0" not in name:
        data = pack({"good": b"x", name: b"evil", "good too": b"y"})
    elif archive_format == "zip":
        data = zip_bytes({"a_b": b"evil"}).replace(b"a_b", b"a\0b")
    else:
        data = tar_with_pax({"path": name})
    assert repr(name) in await refused(cache, data, archive_format)


def tar_with_pax(headers: dict[str, str]) -> bytes:
    info = tarfile.TarInfo("a")
    info.pax_headers = headers
    return info.tobuf(tarfile.PAX_FORMAT) + bytes(1024)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (b"Z", "of an unknown type"),
    ],
)
async def test_g8_member_of_a_tar_that_is_no_file_is_refused(cache, kind, expected):
    """Links, pipes and devices; so nothing can be written through a link that came before."""
    data = tar_bytes({}, tar_member("x", kind, "/etc"), tar_member("x/passwd", tarfile.REGTYPE))
    assert f"'x': it is {expected}" in await refused(cache, data, "tar")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(stat.S_IFLNK, "a symbolic link"), (stat.S_IFIFO, "a pipe"), (stat.S_IFSOCK, "a socket"), (stat.S_IFCHR, "a dev")],
)
async def test_g8_member_of_a_zip_that_is_no_file_is_refused(cache, mode, expected):
    """What a zip made on Unix says of the kind of a member."""
    assert expected in await refused(cache, zip_bytes({"x": b"/etc"}, mode=mode | 0o777), "zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a", "./a"), ("a", "A"), ("a", "a/b"), ("a/b", "a")])
@pytest.mark.parametrize("pack", [tar_bytes, zip_bytes], ids=["tar", "zip"])
async def test_g8_members_that_take_each_others_place_are_refused(cache, pack, names):
    """One name for two members, and a file that is a directory as well."""
    data = pack(dict.fromkeys(names, b"x"))
    assert "not unpacked" in await refused(cache, data, pack.__name__.partition("_")[0])


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
@pytest.mark.parametrize("place", ["@unpacked", ".datacachalog/unpacking"])
async def test_g8_nothing_is_unpacked_through_a_planted_link(cache, tmp_path, place):
    """A link in the cache is refused on the way to a tree, and nothing is read or removed behind it."""
    entry = await put(cache, "a.tar", tar_bytes(FILES))
    outside = tmp_path / "outside"
    outside.mkdir()
    (cache.cache_dir / place).symlink_to(outside)
    with pytest.raises(UnsafePathError, match="is a link"):
        await cache.unpack(entry, "tar", max_bytes=MIB, max_files=9)
    await cache.remove([entry.key])
    assert ([], True) == (os.listdir(outside), (cache.cache_dir / place).is_symlink())


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
async def test_g8_nothing_is_removed_through_a_link_in_a_tree(cache, tmp_path):
    """A link that was planted in a tree goes, and not what it leads to."""
    unpacked = await unpack(cache, "a.tar", tar_bytes(FILES), "tar")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").touch()
    (unpacked.path / "link").symlink_to(tmp_path / "outside")
    await cache.remove([CacheKey("s3://bucket/a.tar")])
    assert (["precious"], []) == (os.listdir(tmp_path / "outside"), left_behind(cache))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.lists(st.sampled_from(["..", ".", "", "a", "b", "A", "C:", "~", "x\\y"]), min_size=1, max_size=4), max_size=5
    ),
    is_zip=st.booleans(),
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_g8_no_archive_writes_outside(tmp_path, names, is_zip):
    """Whatever the names of its members, an archive is unpacked below its place or not at all."""
    shutil.rmtree(tmp_path / "root", ignore_errors=True)
    cache = FileCache(tmp_path / "root" / "some" / "cache")
    files = {"/".join(name): b"x" for name in names}
    pack, archive_format = (zip_bytes, "zip") if is_zip else (tar_bytes, "tar")

    async def main() -> None:
        entry = await put(cache, "a", pack(files))
        before = everything(tmp_path / "root")
        with suppress(UnsafePathError, ArchiveError):
            await cache.unpack(entry, archive_format, max_bytes=MIB, max_files=99)
        added = everything(tmp_path / "root") - before
        below = ("some/cache/@unpacked", "some/cache/.datacachalog/unpacking")
        assert [] == [path for path in added if not path.startswith(below)]

    anyio.run(main)


def everything(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


# -- damaged archives


def damaged_archives() -> dict[str, tuple[str, bytes]]:
    chance = random.Random(0)
    good = {
        **{name: (name, compress(chance.randbytes(9000))) for name, (_, compress) in COMPRESSIONS.items()},
        "tar": ("tar", tar_bytes({"a": chance.randbytes(9000), "b": b"x"})),
        "tar.gz": ("tar", gzip.compress(tar_bytes({"a": chance.randbytes(9000)}))),
        "zip": ("zip", zip_bytes({"a": chance.randbytes(9000)})),
    }
    damaged = {}
    for name, (archive_format, data) in good.items():
        damaged[f"{name} empty"] = (archive_format, b"")
        damaged[f"{name} other"] = (archive_format, b"<html>404</html>")
        for cut, count in (("1", 1), ("12", 12), ("half", len(data) // 2)):
            damaged[f"{name} without {cut}"] = (archive_format, data[:-count])
        if name not in ("tar", "zstd"):  # which have no checksum of their data (zstd: not by default)
            middle = len(data) // 2
            damaged[f"{name} flipped"] = (
                archive_format,
                data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
            )
        if name in COMPRESSIONS:
            damaged[f"{name} and more"] = (archive_format, data + b"what is this")
    tar = tar_bytes({"a": b"x", "b": b"y"})
    damaged["tar without its end"] = ("tar", tar[:2048])
    damaged["tar with a torn header"] = ("tar", tar[:1024] + b"garbage" + tar[1031:])
    # The last byte of a tar is padding behind its end mark.
    del damaged["tar without 1"], damaged["tar without 12"]
    return damaged


DAMAGED = damaged_archives()


@pytest.mark.parametrize(("archive_format", "data"), DAMAGED.values(), ids=DAMAGED)
async def test_g1_damaged_archive_is_refused_as_a_whole(cache, archive_format, data):
    """Cut short, changed, empty, of another format, or going on with something else: nothing of it is served."""
    assert f"it is no whole {archive_format} archive: " in await refused(cache, data, archive_format)


async def test_encrypted_zip_is_refused(cache):
    """What needs a password is said to be so."""
    data = bytearray(zip_bytes({"secret.csv": b"x"}))
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + offset] |= 1
    assert "'secret.csv' is encrypted" in await refused(cache, bytes(data), "zip")


@pytest.mark.parametrize("declared", [1, 10**6], ids=["less", "more"])
async def test_zip_that_declares_another_size_is_refused(cache, declared):
    """What it says of a member's size is not what comes out."""
    data = zip_bytes({"a": b"x" * 1000})
    directory = data.index(b"PK\1\2")
    wrong = data[: directory + 24] + struct.pack("<I", declared) + data[directory + 28 :]
    assert "no whole zip" in await refused(cache, wrong, "zip")


async def test_zip_that_points_before_its_beginning_is_refused(cache):
    """Where a member begins is what the zip says; that is no error of the disk."""
    data = zip_bytes({"a": b"x"})
    end = data.index(b"PK\5\6")
    wrong = data[: end + 16] + struct.pack("<I", end + 99) + data[end + 20 :]
    assert "no whole zip archive" in await refused(cache, wrong, "zip")


async def test_zip_of_an_unknown_method_is_refused(cache):
    """A compression that Python doesn't have."""
    data = bytearray(zip_bytes({"a": b"x"}))
    for signature, offset in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        data[data.index(signature) + offset] = 99
    assert "no whole zip archive: That compression method is not supported" in await refused(cache, bytes(data), "zip")


def tar_header(name: str, *, size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


SPARSE = tar_with_pax(
    {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a", "GNU.sparse.realsize": "9"}
)


@pytest.mark.parametrize(
    "data",
    [
        tar_header("a", size=-512),
        tar_header("a", size=2**60),
        tar_header("a", size=2**40, kind=tarfile.GNUTYPE_LONGNAME),
        tar_header("a", size=2**40, kind=tarfile.XHDTYPE),
        tar_header("a", size=0, kind=tarfile.XHDTYPE) * 5000,
        tar_with_pax({"size": "-1024"}),
        tar_with_pax({"size": str(2**60)}),
        tar_with_pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**50)}),
        tar_with_pax({"GNU.sparse.map": "0,5,x", "GNU.sparse.size": "99"}),
        gzip.compress(SPARSE[:-1024] + b"999999999\n" + b"0\n" * 1_500_000, 1),
        gzip.compress((tar_header("x", size=2**20, kind=tarfile.XHDTYPE) + b"999999 comment=".ljust(2**20)) * 70, 1),
        gzip.compress(tar_bytes({"a": b"x"}) + bytes(70 * MIB), 1),
    ],
    ids=["negative", "endless", "long name", "long header", "many headers", "pax negative", "pax endless", "sparse",
         "sparse map", "sparse long", "many notes", "long padding"],
)  # fmt: skip
async def test_g12_tar_that_lies_costs_neither_time_nor_memory(cache, data):
    """Sizes that go backwards or for ever, and headers without end, are refused before they are followed."""
    await refused(cache, data, "tar")


async def test_g12_list_of_a_zip_is_not_read_into_memory_whatever_its_length(cache):
    """A zip of nothing but names is refused before anything is made of them."""
    data = zip_bytes({f"{number:0200}": b"" for number in range(5000)})
    with pytest.raises(ArchiveTooLargeError, match="more than 4,999 files") as caught:
        await unpack(cache, "a.zip", data, "zip", max_files=4999)
    assert "_zip_members" in {entry.name for entry in caught.traceback}, "and not where the members are counted"


async def test_g12_list_of_a_zip_that_says_it_is_endless_is_not_read(cache):
    """Its length is what the zip itself says."""
    data = bytearray(zip_bytes({"a": b"x"}) + bytes(2**20))
    end = data.index(b"PK\5\6")
    data[end + 12 : end + 16] = struct.pack("<I", 2**20)
    assert "zip" in await refused(cache, bytes(data), "zip")


async def test_g12_directories_that_are_listed_again_and_again_are_counted(cache):
    """Each costs memory, even if it makes nothing."""
    data = gzip.compress(tar_header("a", kind=tarfile.DIRTYPE) * 1001 + bytes(1024))
    with pytest.raises(ArchiveTooLargeError, match="more than 1,000 files and directories"):
        await unpack(cache, "a.tar", data, "tar", max_files=1000)


async def test_g12_stream_of_xz_that_asks_for_too_much_memory_is_refused(cache, monkeypatch):
    """Its header may ask for gigabytes."""
    from datacachalog.cache import _archive

    monkeypatch.setattr(_archive, "_LZMA_MEMORY_BYTES", 1024 * 1024)
    assert "Memory usage limit" in await refused(cache, lzma.compress(bytes(9), preset=9), "xz")


# -- limits


BOMBS = {
    **{name: (name, compress(bytes(3 * MIB))) for name, (_, compress) in COMPRESSIONS.items()},
    "zip": ("zip", zip_bytes({"a": bytes(MIB), "b": bytes(2 * MIB)})),
    "tar": ("tar", gzip.compress(tar_bytes({"a": bytes(MIB), "b": bytes(2 * MIB)}))),
}


@pytest.mark.parametrize(("archive_format", "data"), BOMBS.values(), ids=BOMBS)
async def test_g8_archive_that_becomes_too_large_is_refused(cache, archive_format, data):
    """More bytes than the limit: its text says the limit, and how to raise it; exactly the limit is right."""
    with pytest.raises(ArchiveTooLargeError, match=r"more than 3,145,727 bytes.*unpack_max_bytes=…"):
        await unpack(cache, "a", data, archive_format, max_bytes=3 * MIB - 1)
    assert [] == left_behind(cache)
    assert 3 * MIB == (await unpack(cache, "a", data, archive_format, max_bytes=3 * MIB)).size


@pytest.mark.parametrize("pack", [tar_bytes, zip_bytes], ids=["tar", "zip"])
async def test_g8_archive_of_too_many_files_is_refused(cache, pack):
    """Files and directories count, those that no member names as well."""
    archive_format = pack.__name__.partition("_")[0]
    data = pack({"a/b/1": b"", "a/b/2": b"", "a/3": b""})
    with pytest.raises(ArchiveTooLargeError, match=r"more than 4 files and directories.*unpack_max_files=…"):
        await unpack(cache, "a", data, archive_format, max_files=4)
    assert 3 == len((await unpack(cache, "a", data, archive_format, max_files=5)).files)


async def test_disk_is_not_filled_to_the_last_byte(cache, monkeypatch):
    """Where too little would be left for others, it ends, and gives back what it took."""
    entry = await put(cache, "a.gz", gzip.compress(bytes(17 * MIB)))
    free = shutil.disk_usage(cache.cache_dir)._replace(free=64 * MIB)
    monkeypatch.setattr(_extraction.shutil, "disk_usage", lambda _: free)
    with pytest.raises(CacheFullError, match=r"would leave fewer than 67,108,864 bytes free.*What was cached before"):
        await cache.unpack(entry, "gzip", max_bytes=99 * MIB, max_files=9)
    assert [] == left_behind(cache)


async def test_zstd_without_its_library_names_the_extra(cache, monkeypatch):
    """The text says what to install; what was downloaded stays."""
    monkeypatch.setitem(sys.modules, "compression" if sys.version_info >= (3, 14) else "backports", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'datacachalog\[zstd\]'.*stays in the cache"):
        await unpack(cache, "a.zst", COMPRESSIONS["zstd"][1](b"x"), "zstd")
    assert [] == left_behind(cache)


# -- what lies there, and what was done to it


def edit(path: Path) -> None:
    found = path.stat()
    path.write_bytes(path.read_bytes().upper())
    assert found.st_size == path.stat().st_size


def swap(path: Path) -> None:
    other = path.with_name("d")
    path.rename(path.with_name("temporary"))
    other.rename(path)
    path.with_name("temporary").rename(other)


CHANGES = {
    "edited": edit,
    "truncated": lambda path: os.truncate(path, 1),
    "removed": os.unlink,
    "added": lambda path: path.with_name("extra").touch(),
    "directory added": lambda path: path.with_name("extra").mkdir(),
    "directory removed": lambda path: (path.parent / "sub").rmdir(),
    "swapped": swap,
    "replaced by a directory": lambda path: (path.unlink(), path.mkdir()),
    "manifest lost": lambda path: (path.parents[1] / ".manifest.json").unlink(),
    "manifest torn": lambda path: os.truncate(path.parents[1] / ".manifest.json", 40),
}
if sys.platform != "win32":
    CHANGES["replaced by a link"] = lambda path: (path.rename(path.parents[2] / "x"), path.symlink_to("../../x"))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_g6_changed_tree_is_not_served_and_made_again(cache, change):
    """Whatever was changed, removed or added: the tree no longer counts, and the archive gives it again."""
    data = tar_bytes({"c": b"content c", "d": b"content d"}, tar_member("sub", tarfile.DIRTYPE))
    first = await unpack(cache, "a.tar", data, "tar")
    change(first.files[0])
    [entry] = await cache.lookup([CacheKey("s3://bucket/a.tar")])
    assert await cache.unpacked(entry, "tar") is None
    again = await unpack(cache, "a.tar", data, "tar")
    assert {"a/c": b"content c", "a/d": b"content d"} == tree_of(again)
    assert again.path != first.path


async def test_g6_archive_that_was_changed_gives_nothing(cache):
    """An archive that is not what was published is not unpacked; nor is one that is gone."""
    entry = await put(cache, "a.gz", gzip.compress(b"x"))
    entry.path.write_bytes(gzip.compress(b"y"))
    assert await cache.unpack(entry, "gzip", max_bytes=9, max_files=9) is None
    entry.path.unlink()
    assert await cache.unpack(entry, "gzip", max_bytes=9, max_files=9) is None


async def test_g6_archive_that_decayed_is_dropped(cache):
    """Bytes that changed and left size and time as they were are noticed where they can't be unpacked."""
    entry = await put(cache, "a.gz", gzip.compress(b"x" * 99))
    found = entry.path.stat()
    with entry.path.open("r+b") as file:
        file.seek(12)
        file.write(b"????")
    os.utime(entry.path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert [None] != await cache.lookup([entry.key])
    assert await cache.unpack(entry, "gzip", max_bytes=999, max_files=9) is None
    assert [None] == await cache.lookup([entry.key])


async def test_same_bytes_are_unpacked_once(cache, monkeypatch):
    """A tree belongs to the archive's bytes: published again, they give the tree that is there."""
    data = tar_bytes(FILES)
    first = await unpack(cache, "a.tar", data, "tar")
    monkeypatch.setattr(_extraction, "Extraction", None)
    assert first == await unpack(cache, "a.tar", data, "tar")


async def test_g2_two_who_unpack_at_once_get_one_tree(cache, monkeypatch):
    """Without any lock: who comes second takes what the first has published, and removes its own."""
    entry = await put(cache, "a.tar", tar_bytes(FILES))
    both_have_looked = threading.Barrier(2, timeout=10)
    publish = _unpacked.UnpackedTrees._publish

    def publish_together(*arguments) -> Unpacked:
        both_have_looked.wait()
        return publish(*arguments)

    monkeypatch.setattr(_unpacked.UnpackedTrees, "_publish", publish_together)
    found: list[Unpacked | None] = []

    async def one() -> None:
        found.append(await cache.unpack(entry, "tar", max_bytes=MIB, max_files=9))

    monkeypatch.setattr(_unpacked.os, "cpu_count", lambda: 2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        tasks.start_soon(one)
    assert (2, 1, 1) == (len(found), len(set(found)), len(await cache.all_unpacked()))
    assert [] == os.listdir(cache.cache_dir / ".datacachalog" / "unpacking")


async def test_g2_tree_of_an_older_version_stays_for_its_readers(cache):
    """Who was given the old tree reads it on; the new one lies beside it."""
    old = await unpack(cache, "a.tar", tar_bytes({"x": b"old"}), "tar")
    new = await unpack(cache, "a.tar", tar_bytes({"x": b"new"}), "tar")
    assert (b"old", b"new") == (old.files[0].read_bytes(), new.files[0].read_bytes())


async def test_tree_that_nobody_was_given_for_an_hour_is_removed(cache, monkeypatch):
    """The next fetch of another version removes it; one that is in use stays."""
    old = await unpack(cache, "a.tar", tar_bytes({"x": b"old"}), "tar")
    other = await unpack(cache, "a.tar", tar_bytes({"x": b"old"}), "tar")
    assert old == other
    manifest = old.path.parent / ".manifest.json"
    now = manifest.stat().st_mtime
    os.utime(manifest, (now - 3700, now - 3700))
    assert old == await unpack(cache, "a.tar", tar_bytes({"x": b"old"}), "tar")
    assert now - 60 < manifest.stat().st_mtime, "that it was given is noted"
    new = await unpack(cache, "a.tar", tar_bytes({"x": b"new"}), "tar")
    assert (True, True) == (old.path.exists(), new.path.exists())
    for path in (old.path.parent, manifest):
        os.utime(path, (now - 3700, now - 3700))
    await unpack(cache, "a.tar", tar_bytes({"x": b"new"}), "tar")
    assert (False, True) == (old.path.parent.exists(), new.path.exists())


async def test_two_formats_of_one_archive_lie_side_by_side(cache):
    """A tar.gz may be wanted as the tar in it, and as the files in that."""
    data = gzip.compress(tar_bytes(FILES))
    as_file = await unpack(cache, "a.tar.gz", data, "gzip")
    as_tree = await unpack(cache, "a.tar.gz", data, "tar")
    assert ("a.tar", "a") == (as_file.path.name, as_tree.path.name)
    assert {as_file.path, as_tree.path} == {unpacked.path for unpacked in await cache.all_unpacked()}


async def test_what_is_dropped_takes_its_tree_along(cache):
    """`remove` leaves nothing of an archive, and nothing else's."""
    await unpack(cache, "a.tar", tar_bytes(FILES), "tar")
    other = await unpack(cache, "b.tar", tar_bytes(FILES), "tar")
    assert 1 == await cache.remove([CacheKey("s3://bucket/a.tar")])
    assert [other] == await cache.all_unpacked()
    assert 1 == len(os.listdir(cache.cache_dir / "@unpacked"))


async def test_changed_files_are_found_by_their_digests(cache):
    """Reads every byte, so that it sees what size and time don't tell; says nothing of what is missing."""
    unpacked = await unpack(cache, "a.tar", tar_bytes({"x": b"xx", "y": b"yy", "z": b"zz"}), "tar")
    assert [] == await cache.changed_files(unpacked)
    x, y, _ = unpacked.files
    found = x.stat()
    x.write_bytes(b"XX")
    os.utime(x, ns=(found.st_atime_ns, found.st_mtime_ns))
    y.unlink()
    (unpacked.path / "extra").touch()
    assert [unpacked.path / "extra", x] == sorted(await cache.changed_files(unpacked))


async def test_cache_that_cannot_be_written_is_told(cache, monkeypatch):
    """An error of the disk while unpacking is one of the cache, and leaves nothing."""
    entry = await put(cache, "a.tar", tar_bytes(FILES))

    def refuse(path: str, mtime_ns: int) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr(_disk, "set_mtime", refuse)
    with pytest.raises(CacheError, match="Operation not permitted"):
        await cache.unpack(entry, "tar", max_bytes=MIB, max_files=9)
    assert [] == left_behind(cache)


async def test_g8_name_that_the_file_system_refuses_is_told(cache):
    """A name that is too long here is the archive's fault, not the cache's."""
    assert "can't be held here" in await refused(cache, tar_bytes({"x" * 300: b""}), "tar")


# -- work under construction


async def test_g10_cancelled_it_stops_soon_and_leaves_nothing(cache, monkeypatch):
    """Its thread notices at the next MiB, and is waited for."""
    entry = await put(cache, "a.gz", gzip.compress(bytes(64 * MIB)))
    written = []
    begun = threading.Event()
    write_all = _disk.write_all

    def slow(file, chunks) -> None:
        written.append(sum(map(len, chunks)))
        if sum(written) > 2 * MIB:
            begun.set()
        write_all(file, chunks)

    monkeypatch.setattr(_disk, "write_all", slow)
    with anyio.move_on_after(20) as deadline:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: cache.unpack(entry, "gzip", max_bytes=99 * MIB, max_files=9))
            await anyio.to_thread.run_sync(begun.wait, 10)
            tasks.cancel_scope.cancel()
    assert (False, []) == (deadline.cancelled_caught, left_behind(cache))
    assert sum(written) < 60 * MIB


async def test_g7_others_see_how_far_it_is(cache, monkeypatch):
    """Who waits for the claim is told who has it and how many bytes there are, so that it goes on waiting."""
    entry = await put(cache, "a.gz", gzip.compress(bytes(3 * MIB)))
    seen: list[Busy] = []
    claim = await cache.claim(entry.key)
    flush = _disk.flush

    def look(file) -> None:
        seen.append(cache.claim_here(entry.key))
        flush(file)

    monkeypatch.setattr(_disk, "flush", look)
    await cache.unpack(entry, "gzip", max_bytes=9 * MIB, max_files=9)
    await cache.release(claim)
    assert [Busy(str(this_process()), 3 * MIB, None)] == seen


@pytest.mark.skipif(sys.platform != "linux", reason="needs to know of other processes")
async def test_what_a_dead_process_left_is_removed(cache):
    """The next one that unpacks anything clears it away; what belongs to somebody alive stays."""
    entry = await put(cache, "a.gz", gzip.compress(b"x"))
    unpacking = cache.cache_dir / ".datacachalog" / "unpacking"
    alive, dead = this_process(), replace(this_process(), started=1)
    elsewhere = replace(alive, host="another")
    for name, owner in (("alive", alive), ("dead", dead), ("elsewhere", elsewhere), ("long silent", elsewhere)):
        (unpacking / name / "tree").mkdir(parents=True)
        head = {"uri": entry.key.uri, "owner": asdict(owner)}
        (unpacking / name / "owner").write_text(json.dumps(head) + "\n")
    (unpacking / "torn").mkdir()
    for path in (unpacking / "long silent" / "owner", unpacking / "long silent"):
        os.utime(path, (0, 0))
    await cache.unpack(entry, "gzip", max_bytes=9, max_files=9)
    assert ["alive", "elsewhere", "torn"] == sorted(os.listdir(unpacking))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_g1_archive_with_any_byte_changed_is_right_or_refused(tmp_path, data):
    """Whatever is changed in an archive that has checksums: it gives the files as they were, or an error of ours."""
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    cache = FileCache(tmp_path / "cache")
    files = {"a/x": b"content " * 9, "y": bytes(2000)}
    archives = [("zip", zip_bytes(files)), ("tar", gzip.compress(tar_bytes(files), mtime=0))]
    archive_format, good = data.draw(st.sampled_from(archives))
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    changed = changed[: data.draw(st.integers(0, len(good)))] if data.draw(st.booleans()) else changed

    async def main() -> None:
        entry = await put(cache, "a", bytes(changed))
        with suppress(ArchiveError, UnsafePathError):
            unpacked = await cache.unpack(entry, archive_format, max_bytes=MIB, max_files=99)
            assert set(files.values()) >= {path.read_bytes() for path in unpacked.files}

    anyio.run(main)


# -- bounds and cleaning


def aged(unpacked: Unpacked) -> None:
    """Make it look as if nobody had been given it for two hours."""
    for path in (unpacked.path.parent, unpacked.path.parent / ".manifest.json"):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 7200))


async def clean(cache: FileCache) -> int:
    return await cache.clean(Declaration("project", ()), lambda _: lambda _: True)


async def test_totals_count_what_is_unpacked(cache):
    """In bytes and files; and the same number of bytes is what eviction frees."""
    data = zip_bytes(FILES)
    await unpack(cache, "a.zip", data, "zip")
    size = len(data) + sum(map(len, FILES.values()))
    totals = await cache.totals()
    freed = await cache.evict(Bounds(max_bytes=0, grace_seconds=0), is_thorough=True)
    assert ((size, 1 + len(FILES)), size, (0, 0)) == (totals, freed, await cache.totals())
    assert [] == list((cache.cache_dir / "@unpacked").iterdir())


async def test_account_goes_on_with_what_is_unpacked(cache):
    """Without looking the cache over again, a tree that is added or dropped counts."""
    data = zip_bytes({"x": bytes(100_000)})
    bounds = Bounds(max_bytes=50_000, grace_seconds=0)
    await put(cache, "first", b"1")
    assert 0 == await cache.evict(bounds, is_thorough=True)
    unpacked = await unpack(cache, "a.zip", data, "zip")
    freed = await cache.evict(bounds, spared={str(cache.cache_dir / "bucket" / "a.zip")})
    await cache.remove([CacheKey("s3://bucket/a.zip")])
    await put(cache, "second", b"2")
    assert (1, False, 0) == (freed, unpacked.path.exists(), await cache.evict(bounds))


async def test_g4_eviction_of_one_place_leaves_what_is_unpacked_of_another(cache):
    """Two datasets may have the same object at two places: each has a tree of its own."""
    data = zip_bytes(FILES)
    entry = await put(cache, "a.zip", data)
    mine = await cache.publish(
        Verified(
            CacheKey("s3://bucket/a.zip", cache_path="mine.zip"),
            FileMetadata("x", datetime(2024, 2, 29, tzinfo=UTC), len(data)), (data,), entry.metadata.digest, "md5",
        )
    )  # fmt: skip
    trees = [await cache.unpack(one, "zip", max_bytes=MIB, max_files=9) for one in (entry, mine)]
    await cache.evict(Bounds(max_bytes=0, grace_seconds=0), spared={str(mine.path)}, is_thorough=True)
    assert [False, True] == [tree.path.exists() for tree in trees]
    assert trees[1] == await cache.unpacked(mine, "zip")


async def test_clean_removes_what_is_unpacked_of_archives_that_are_gone(cache):
    """A process that was killed in the middle of an eviction leaves it; what may be somebody's still, stays."""
    unpacked = await unpack(cache, "a.zip", zip_bytes(FILES), "zip")
    kept = await unpack(cache, "b.zip", zip_bytes(FILES), "zip")
    aged(kept)
    (cache.cache_dir / ".datacachalog" / "meta" / "bucket" / "a.zip.json").unlink()
    assert (0, True) == (await clean(cache), unpacked.path.exists())
    aged(unpacked)
    assert (unpacked.size, False, True) == (await clean(cache), unpacked.path.exists(), kept.path.exists())


async def test_clean_removes_what_is_unpacked_with_a_sidecar_without_data(cache):
    """The archive was removed by hand, and its tree is nobody's."""
    unpacked = await unpack(cache, "a.zip", zip_bytes(FILES), "zip")
    (cache.cache_dir / "bucket" / "a.zip").unlink()
    assert (True, False) == (await clean(cache) > 0, unpacked.path.exists())
