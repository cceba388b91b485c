"""Is the data lock file good to read, to compare and to merge, and is what is wrong in it told?"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog import CacheMetadata, CatalogFileError, LockMismatchError
from datacachalog._lockfile import LockedDataset, LockedFile, load, parse, render, update, written_uri

FILE = Path("/project/datacachalog.lock")
DIGEST = "crc64nvme:AAAAAAAAAAE="
ONE = LockedDataset("s3://bucket/one.csv", (LockedFile("", 3, DIGEST, "etag", "v1"),))
MANY = LockedDataset(
    "s3://bucket/*.csv",
    (LockedFile("a.csv", 1, DIGEST, "e1"), LockedFile("b.csv", 2, DIGEST, "e2", "v2")),
    is_multi_file=True,
)
TEXT = f"""\
# The data lock file of datacachalog, format 1: which version of each dataset is meant, to the byte.
# lock() writes it; commit it. Don't edit it: run lock() again, also to resolve a merge conflict.
format = 1

[datasets.many]
uri = "s3://bucket/*.csv"
files = [
    {{ name = "a.csv", etag = "e1", size = 1, digest = "{DIGEST}" }},
    {{ name = "b.csv", etag = "e2", version_id = "v2", size = 2, digest = "{DIGEST}" }},
]

[datasets.one]
uri = "s3://bucket/one.csv"
etag = "etag"
version_id = "v1"
size = 3
digest = "{DIGEST}"
"""


def test_it_is_sorted_and_has_a_block_a_dataset_and_a_line_a_file() -> None:
    """What a reviewer sees: whatever order the datasets come in, the same text."""
    assert (
        TEXT == render({"one": ONE, "many": MANY}, FILE).decode() == render({"many": MANY, "one": ONE}, FILE).decode()
    )


LINES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
FILES = st.builds(
    LockedFile, LINES, st.integers(0, 2**63), st.just(DIGEST), st.none() | LINES, st.none() | LINES
)  # fmt: skip


@given(st.dictionaries(LINES, st.tuples(LINES, st.lists(FILES, min_size=1, unique_by=lambda file: file.name))))
def test_what_is_written_is_read_back(blocks: dict[str, tuple[str, list[LockedFile]]]) -> None:
    """Names, keys and ETags of any characters survive."""
    datasets = {name: LockedDataset(uri, tuple(files), is_multi_file=True) for name, (uri, files) in blocks.items()}
    assert datasets == parse(render(datasets, FILE), FILE)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_marks_of_other_systems_are_read(newline: str, mark: str) -> None:
    """What a checkout on Windows makes of the file is still the file."""
    assert {"many": MANY, "one": ONE} == parse((mark + TEXT.replace("\n", newline)).encode(), FILE)


def test_name_that_is_no_text_is_refused() -> None:
    """A local file's name may have bytes that are no text, which TOML can't have."""
    dataset = LockedDataset("*.csv", (LockedFile("\udcff.csv", 1, DIGEST),), is_multi_file=True)
    with pytest.raises(CatalogFileError, match="no text"):
        render({"many": dataset}, FILE)


@pytest.mark.parametrize(
    ("old", "new", "line", "text"),
    [
        ("size = 3", "<<<<<<< HEAD\nsize = 3\n=======\nsize = 4\n>>>>>>> theirs", 16, "merge conflict"),
        ("size = 3", "size = ", 16, "can't be read"),
        ('etag = "etag"\n', 'etag = "etag"\netag = "other"\n', 15, "can't be read"),
        ("[datasets.one]", "[datasets.many]", None, "can't be read"),
        ("format = 1\n", "format = 2\n", 3, "upgrade"),
        ("format = 1\n", "", None, "format 1 is understood"),
        ("format = 1\n", "format = 1\nother = 1\n", None, "nothing else"),
        ("size = 3\n", "", 12, "size is missing"),
        ("size = 3", "size = -3", 12, "size = -3"),
        ("size = 3", 'size = "3"', 12, "size = '3'"),
        ("size = 3", "size = true", 12, "size = True"),
        ('etag = "etag"', 'etag = ""', 12, "etag = ''"),
        ('"etag"\n', '"etag"\ncommand = "rm"\n', 12, "'command' is not known"),
        ('uri = "s3://bucket/one.csv"\n', "", 12, "has a uri"),
        (f'size = 3\ndigest = "{DIGEST}"', 'size = 3\ndigest = "md4:00"', 12, "md4"),
        ("files = [", 'etag = "e"\nfiles = [', 5, "list of files"),
        ('name = "b.csv", ', "", 5, "has a name"),
        ('"b.csv"', '"a.csv"', 5, "twice"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(old: str, new: str, line: int | None, text: str) -> None:
    """A merge that was not finished, a file of a later release and an edit by hand are errors that say what to do."""
    assert 1 == TEXT.count(old)
    with pytest.raises(CatalogFileError, match=text) as caught:
        parse(TEXT.replace(old, new).encode(), FILE)
    assert (FILE, True) == (caught.value.file, line in (None, caught.value.line))
    assert "lock()" in str(caught.value)


def test_file_that_is_no_text_is_told() -> None:
    """A lock file that something else has written over is no traceback."""
    with pytest.raises(CatalogFileError, match="UTF-8"):
        parse(b"\xff\xfe", FILE)


def test_some_datasets_are_updated_and_others_kept(tmp_path: Path) -> None:
    """What the file says of other datasets stays, unless the whole is written."""
    path = str(tmp_path / "datacachalog.lock")
    other = LockedDataset("s3://bucket/one.csv", (LockedFile("", 4, DIGEST),))
    update(path, {"one": ONE, "many": MANY}, is_whole=True)
    update(path, {"one": other}, is_whole=False)
    assert {"one": other, "many": MANY} == load(path, None).datasets
    update(path, {"one": ONE}, is_whole=True)
    assert {"one": ONE} == load(path, None).datasets
    assert ["datacachalog.lock"] == os.listdir(tmp_path)


def test_file_with_a_conflict_is_written_anew_but_not_updated(tmp_path: Path) -> None:
    """Nothing of a file that can't be read is kept, so updating it would lose what it says."""
    path = tmp_path / "datacachalog.lock"
    path.write_text("<<<<<<< HEAD\n")
    with pytest.raises(CatalogFileError, match="merge conflict"):
        update(str(path), {"one": ONE}, is_whole=False)
    assert "<<<<<<< HEAD\n" == path.read_text()
    update(str(path), {"one": ONE}, is_whole=True)
    assert {"one": ONE} == load(str(path), None).datasets


def test_what_stays_the_same_is_not_written(tmp_path: Path) -> None:
    """A lock that changes nothing leaves the file's time, and a link stays a link."""
    path, link = tmp_path / "real.lock", tmp_path / "datacachalog.lock"
    link.symlink_to(path)
    update(str(link), {"one": ONE}, is_whole=True)
    before = path.stat()
    update(str(link), {"one": ONE}, is_whole=False)
    assert (before.st_mtime_ns, before.st_ino, True) == (path.stat().st_mtime_ns, path.stat().st_ino, link.is_symlink())


def test_file_that_can_not_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    """An error of the file system names the file."""
    with pytest.raises(CatalogFileError, match=r"datacachalog\.lock") as caught:
        update(str(tmp_path / "no directory" / "datacachalog.lock"), {"one": ONE}, is_whole=True)
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    (tmp_path / "datacachalog.lock").mkdir()
    with pytest.raises(CatalogFileError):
        update(str(tmp_path / "datacachalog.lock"), {"one": ONE}, is_whole=True)
    assert ["datacachalog.lock"] == os.listdir(tmp_path)


def test_file_is_read_again_only_if_it_was_changed(tmp_path: Path) -> None:
    """A service that fetches often reads the file once, and sees a new one."""
    path = str(tmp_path / "datacachalog.lock")
    with pytest.raises(LockMismatchError, match="there is no data lock file"):
        load(path, None)
    update(path, {"one": ONE}, is_whole=True)
    first = load(path, None)
    assert first is load(path, first)
    update(path, {"many": MANY}, is_whole=True)
    assert {"many": MANY} == load(path, first).datasets


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("/project/data/a.csv", "data/a.csv"),
        ("/project/data/", "data/"),
        ("/elsewhere/a.csv", "/elsewhere/a.csv"),
        ("/projects/a.csv", "/projects/a.csv"),
        ("s3://bucket/a.csv", "s3://bucket/a.csv"),
        ("https://user:secret@host/a?token=secret", "https://host/a?query-f3ac97547a318f4db4f95d3a5e50fd08"),
    ],
)
def test_g13_source_is_the_same_on_every_machine_and_has_no_secret(source: str, expected: str) -> None:
    """A project's own files are relative to the lock file; what may be secret is not committed."""
    assert expected == written_uri(source, "/project/datacachalog.lock")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"size": 4}, False),
        ({"digest": "crc64nvme:AAAAAAAAAAI="}, False),
        ({"digest": "crc64nvme:AAAAAAAAAAI=", "etag": "etag", "version_id": "v1"}, False),
        ({"digest": "crc32:AAAAAQ=="}, True),
        ({"digest": "crc32:AAAAAQ==", "version_id": "v2"}, True),
        ({"digest": "crc32:AAAAAQ==", "version_id": "v2", "etag": "other"}, False),
        ({"digest": "crc32:AAAAAQ==", "version_id": None, "etag": None}, False),
        ({"digest": "crc32:AAAAAQ==", "version_id": None, "etag": None, "pin": DIGEST}, True),
    ],
)
def test_cached_copy_is_compared_by_digest_else_by_version_or_etag(changes, expected):
    """A copy that can't be right is not taken, and one that can be shown to be right needs no request."""
    metadata = CacheMetadata("s3://bucket/one.csv", "etag", None, 3, datetime.now(UTC), DIGEST, version_id="v1")
    assert expected == ONE.files[0].is_of(replace(metadata, **changes))
