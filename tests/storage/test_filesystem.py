"""Files of this machine as objects: the rules of every storage, and what only a file system does."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from datacachalog import CatalogConfig, FilesystemStorage
from datacachalog._digests import digest_chunks
from datacachalog._errors import (
    AccessDeniedError,
    InvalidSourceError,
    ObjectNotFoundError,
    VersioningNotSupportedError,
)
from datacachalog._pipeline.upload import InMemory
from datacachalog.ports import ReadRequest, ReadResponse, VersionChangedError, WriteRefused, WriteRequest, Written
from datacachalog.testing.contracts import Delete, PicklableStorageContract, Seed, WritableStorageContract


class TestFilesystemStorage(PicklableStorageContract, WritableStorageContract):
    """Keys are paths below a directory."""

    # A file system has no empty and no `.` segment, and no file beside a directory of its name.
    awkward_keys = tuple(
        key for key in PicklableStorageContract.awkward_keys if "//" not in key and "/./" not in key and key != "a/b"
    )

    @pytest.fixture
    def storage(self) -> FilesystemStorage:
        return FilesystemStorage()

    @pytest.fixture
    def seed(self, tmp_path: Path) -> Seed:
        """Put a new file in the old one's place, as everybody should who has readers."""
        root = tmp_path / "remote"

        def write(key: str, data: bytes) -> str:
            path = root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            new = root / ".new"
            new.write_bytes(data)
            new.replace(path)
            return f"{root.as_posix()}/{key}"

        async def seed(key: str, data: bytes) -> str:
            return await anyio.to_thread.run_sync(write, key, data)

        return seed

    @pytest.fixture
    def delete(self) -> Delete:
        async def delete(uri: str) -> None:
            await anyio.to_thread.run_sync(os.unlink, uri)

        return delete


CONFIG = CatalogConfig()


async def read(uri: str, **wanted) -> bytes:
    async with FilesystemStorage().connect(CONFIG) as session, session.read(ReadRequest(uri=uri, **wanted)) as outcome:
        assert isinstance(outcome, ReadResponse)
        return b"".join([chunk async for chunk in outcome.chunks])


async def list_uris(prefix: str) -> list[str]:
    async with FilesystemStorage().connect(CONFIG) as session:
        page = await session.list_page(prefix)
    assert page.next_token is None
    return [found.uri for found in page.objects]


async def head(uri: str, **wanted):
    async with FilesystemStorage().connect(CONFIG) as session:
        return await session.head(uri, **wanted)


async def test_file_uri_and_path_are_the_same_file(tmp_path):
    """`file:///…`, percent-encoded or not, and `file://localhost/…` mean the path."""
    path = tmp_path / "a b%.bin"
    path.write_bytes(b"content")
    uris = [str(path), f"file://{tmp_path}/a%20b%25.bin", f"file://localhost{tmp_path}/a b%.bin"]
    assert [b"content"] * 3 == [await read(uri) for uri in uris]


async def test_file_of_another_host_is_refused():
    """A `file://` URI with a host is not a file of this machine."""
    with pytest.raises(InvalidSourceError, match="of this machine"):
        await head("file://fileserver/share/a.bin")


async def test_directory_is_no_object(tmp_path):
    """A directory is refused with the way to mean its files."""
    with pytest.raises(InvalidSourceError, match="end it with '/'"):
        await read(str(tmp_path))


async def test_file_below_a_file_is_not_found(tmp_path):
    """A path through a file leads nowhere, which is no error of the machine's."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ObjectNotFoundError):
        await head(str(tmp_path / "file" / "below"))


async def test_named_pipe_is_refused_without_waiting(tmp_path):
    """What is no regular file is refused before it is opened: opening a pipe would wait for a writer."""
    os.mkfifo(tmp_path / "pipe")
    with anyio.fail_after(5), pytest.raises(InvalidSourceError, match="not a regular file"):
        await read(str(tmp_path / "pipe"))


@pytest.mark.parametrize("name", ["x" * 300, "nul\0byte"])
async def test_name_that_no_file_can_have_is_not_worth_a_retry(tmp_path, name):
    """A name that the file system can't hold is the source's fault, not a remote that doesn't answer."""
    with pytest.raises((InvalidSourceError, ObjectNotFoundError)):
        await head(f"{tmp_path}/{name}")


async def test_link_in_a_circle_is_not_worth_a_retry(tmp_path):
    """A link that leads to itself is the source's fault, not a remote that doesn't answer."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises((InvalidSourceError, ObjectNotFoundError)):
        await head(f"{tmp_path}/loop")


async def test_version_is_refused(tmp_path):
    """A file system keeps no versions."""
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(VersioningNotSupportedError):
        await head(str(tmp_path / "a"), version_id="1")


async def test_validator_is_made_without_reading(tmp_path):
    """Touching a file gives it another validator; its bytes play no part."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"content")
    before = await head(str(path))
    os.utime(path, ns=(0, 1))
    assert before.etag != (await head(str(path))).etag


async def test_file_swapped_for_one_of_the_same_size_and_time_is_another_version(tmp_path):
    """The inode tells two files apart whose size and time are equal."""
    path, other = tmp_path / "a.bin", tmp_path / "b.bin"
    path.write_bytes(b"content")
    other.write_bytes(b"another")
    for file in (path, other):
        os.utime(file, ns=(10**18, 10**18))
    before = await head(str(path))
    other.replace(path)
    assert not before.is_same_version(await head(str(path)))


async def test_g1_file_written_while_it_is_read_is_a_changed_version(tmp_path):
    """A file that is written in its place while it is read ends in `VersionChangedError`, never in mixed bytes."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"1" * 3_000_000)
    os.utime(path, ns=(10**18, 10**18))
    async with FilesystemStorage().connect(CONFIG) as session, session.read(ReadRequest(uri=str(path))) as outcome:
        await anext(outcome.chunks)
        path.write_bytes(b"2" * 3_000_000)
        with pytest.raises(VersionChangedError):
            async for _ in outcome.chunks:
                pass


async def test_g1_file_cut_short_while_it_is_read_is_a_changed_version(tmp_path):
    """A file that ends before its size is a changed one, not a short body."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"1" * 3_000_000)
    async with FilesystemStorage().connect(CONFIG) as session, session.read(ReadRequest(uri=str(path))) as outcome:
        await anext(outcome.chunks)
        os.truncate(path, 1_500_000)
        with pytest.raises(VersionChangedError):
            async for _ in outcome.chunks:
                pass


async def test_cancelled_read_closes_the_file(tmp_path):
    """Cancellation in the middle of the chunks leaves no open file (the leak watch looks)."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"1" * 3_000_000)
    with anyio.CancelScope() as scope:
        async with FilesystemStorage().connect(CONFIG) as session, session.read(ReadRequest(uri=str(path))) as outcome:
            await anext(outcome.chunks)
            scope.cancel()
            await anext(outcome.chunks)
    assert scope.cancelled_caught


async def test_link_to_a_file_is_listed_and_read(tmp_path):
    """A symbolic link to a file stands for that file."""
    (tmp_path / "data").mkdir()
    (tmp_path / "target.bin").write_bytes(b"content")
    (tmp_path / "data" / "link.bin").symlink_to(tmp_path / "target.bin")
    (uri,) = await list_uris(f"{tmp_path}/data/")
    assert await read(uri) == b"content"


async def test_links_to_directories_and_dangling_links_are_not_listed(tmp_path):
    """A listing follows no link to a directory, so it ends, and skips what leads nowhere."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "up").symlink_to(tmp_path)
    (tmp_path / "data" / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "data" / "file").write_bytes(b"")
    assert [f"{tmp_path}/data/file"] == await list_uris(f"{tmp_path}/data/")


async def test_pipes_are_not_listed(tmp_path):
    """Only regular files are objects."""
    os.mkfifo(tmp_path / "pipe")
    assert [] == await list_uris(f"{tmp_path}/")


async def test_name_that_is_no_text_is_listed_and_read(tmp_path):
    """A name whose bytes are no UTF-8 is a name."""
    (tmp_path / os.fsdecode(b"\xff.bin")).write_bytes(b"content")
    (uri,) = await list_uris(f"{tmp_path}/")
    assert await read(uri) == b"content"


async def test_missing_directory_lists_as_empty(tmp_path):
    """As on an object store, a prefix that nothing has is empty and no error."""
    assert [] == await list_uris(f"{tmp_path}/nowhere/")


_AS_NOBODY = """
import os, sys, anyio
from datacachalog import FilesystemStorage, CatalogConfig
from datacachalog.ports import ReadRequest
what, directory, name = sys.argv[1:]

async def main():
    async with FilesystemStorage().connect(CatalogConfig()) as session:
        # Everything is imported now; the interpreter's own files may not be for everybody.
        async with session.read(ReadRequest(uri=directory + "/readable.bin")) as outcome:
            [chunk async for chunk in outcome.chunks]
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        if what == "list":
            await session.list_page(directory + name)
        else:
            async with session.read(ReadRequest(uri=directory + name)):
                pass

try:
    anyio.run(main)
except Exception as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize(("what", "name"), [("read", "/secret.bin"), ("list", "/closed/")])
def test_file_that_may_not_be_read_is_access_denied(open_directory, what, name):
    """No permission is `AccessDeniedError`, for a file and for a directory that is listed."""
    (open_directory / "readable.bin").write_bytes(b"content")
    (open_directory / "secret.bin").write_bytes(b"")
    (open_directory / "secret.bin").chmod(0)
    (open_directory / "closed").mkdir(mode=0)
    found = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, what, open_directory, name], capture_output=True, text=True, check=True
    )
    assert AccessDeniedError.__name__ == found.stdout.strip()


# -- writing


async def _write(path: Path, data: bytes, **conditions: object) -> object:
    request = WriteRequest(uri=str(path), content_type="text/plain", **conditions)
    content = InMemory(data, digest_chunks("crc64nvme", (data,)))
    async with FilesystemStorage().connect(CatalogConfig()) as session:
        return await session.write(request, content)


async def test_a_link_leads_to_the_file_that_is_replaced(tmp_path: Path) -> None:
    """Who reads through it gets the new bytes; it stays a link."""
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "v1.csv", tmp_path / "latest.csv"
    target.write_bytes(b"old")
    link.symlink_to(target)
    await _write(link, b"new")
    assert (True, b"new", [target]) == (link.is_symlink(), target.read_bytes(), list(target.parent.iterdir()))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
async def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    """Who could read it can go on."""
    path = tmp_path / "file.csv"
    path.write_bytes(b"old")
    path.chmod(0o640)
    await _write(path, b"new")
    assert 0o640 == path.stat().st_mode & 0o777


async def test_a_directory_is_no_place_for_a_file(tmp_path: Path) -> None:
    """It is neither replaced nor written into."""
    with pytest.raises(InvalidSourceError, match="directory"):
        await _write(tmp_path, b"new")
    assert [] == list(tmp_path.iterdir())


async def test_g9_who_comes_first_in_the_last_moment_keeps_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new file is put in its place in one step with the look at it."""
    path = tmp_path / "file.csv"
    link = os.link

    def raced(source: str, target: str) -> None:
        path.write_bytes(b"theirs")
        link(source, target)

    monkeypatch.setattr(os, "link", raced)
    assert WriteRefused() == await _write(path, b"mine", must_be_new=True)
    assert (b"theirs", [path]) == (path.read_bytes(), list(tmp_path.iterdir()))


async def test_a_file_system_without_links_takes_new_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By renaming them."""

    def unsupported(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", unsupported)
    path = tmp_path / "file.csv"
    assert isinstance(await _write(path, b"mine", must_be_new=True), Written)
    assert (b"mine", [path]) == (path.read_bytes(), list(tmp_path.iterdir()))


async def test_a_write_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    """Neither a part of the file nor something beside it."""

    class Endless:
        size, crc = 1, "crc64nvme:AAAAAAAAAAA="

        async def chunks(self):
            yield b"some"
            await anyio.sleep_forever()

    async with FilesystemStorage().connect(CatalogConfig()) as session:
        request = WriteRequest(uri=str(tmp_path / "file.csv"), content_type="text/plain")
        with anyio.move_on_after(0.05):
            await session.write(request, Endless())
    assert [] == list(tmp_path.iterdir())
