"""The names in an archive: which are refused, and that none of the others leads outside or onto another (G8)."""

from __future__ import annotations

import os
import unicodedata
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datacachalog import UnsafePathError
from datacachalog.cache._members import Members

URI = "s3://bucket/archive.zip"


def placed(*names: str, is_windows: bool = False) -> list[str]:
    """Give the places of the members, in order; a name that ends in `/` is a directory."""
    members = Members(URI, is_windows=is_windows)
    return [members.place(name, is_directory=name.endswith("/"))[0] for name in names]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", "a.csv"),
        ("dir/a.csv", "dir/a.csv"),
        ("./dir//./a.csv", "dir/a.csv"),
        ("dir/", "dir"),
        ("./", ""),
        ("...", "..."),
        ("a..b", "a..b"),
        ("C:", "C:"),
        ("dir\\a.csv", "dir\\a.csv"),
        ("aux.c", "aux.c"),
        ("日本/Öl.csv", "日本/Öl.csv"),
        ("50%20off", "50%20off"),
    ],
)
def test_ordinary_names_keep_their_place(name, expected):
    """A name is its own place, without what means nothing."""
    assert [expected] == placed(name)


@pytest.mark.parametrize(
    "name",
    [
        "../a",
        "..",
        "dir/../../a",
        "dir/..",
        "..\\a",
        "dir\\..\\..\\a",
        "/etc/passwd",
        "//host/share",
        "\\\\host\\share",
        "C:\\Windows\\a",
        "c:/a",
        "a\0.csv",
        "\0",
        "",
        ".",
        "a/" * 101 + "a",
    ],
)
def test_g8_name_that_leads_elsewhere_is_refused(name):
    """`..`, absolute names of any system, NUL, no name, and more levels than anybody needs."""
    with pytest.raises(UnsafePathError, match=r"archive\.zip is not unpacked") as caught:
        placed(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    "name", ["con", "aux.c", "dir/NUL.txt", "COM1", "a:b", "a.", "a ", "a?b", "a\\b", "a\nb", "C:"]
)
def test_g8_name_that_windows_would_misread_is_refused_there(name):
    """Devices, streams, wildcards, separators, and ends that Windows would drop."""
    with pytest.raises(UnsafePathError, match="Windows"):
        placed(name, is_windows=True)


def test_name_with_an_escape_of_the_layout_is_no_escape_here():
    """What the layout of keys has to escape may stand in an archive, on Windows too."""
    assert ["50%20off"] == placed("50%20off", is_windows=True)


@pytest.mark.parametrize(
    "names",
    [
        ("a", "a"),
        ("a", "./a"),
        ("dir/a", "dir//a"),
        ("Readme", "README"),
        ("dir/a", "DIR/b"),
        ("stra\u00dfe", "STRASSE"),
        (unicodedata.normalize("NFC", "Öl"), unicodedata.normalize("NFD", "Öl")),
        ("a", "a/b"),
        ("a/b", "a"),
        ("a", "a/"),
        ("a/", "a"),
    ],
)
def test_g8_two_members_of_one_place_are_refused(names):
    """Duplicates, names that only some file systems tell apart, and a file that is a directory."""
    with pytest.raises(UnsafePathError):
        placed(*names)


def test_directory_may_be_named_again():
    """Archives often list a directory before, behind and besides what is in it."""
    names = ["dir/", "dir/a", "dir/", "dir/b/", "dir/b/", "dir/b/c"]
    assert [name.rstrip("/") for name in names] == placed(*names)


def test_new_directories_are_told_once_from_the_outermost_on():
    """What has to be made for a member, in the order in which it can be made."""
    members = Members(URI)
    told = [members.place(name, is_directory=False)[1] for name in ("a/b/c", "a/b/d", "a/e/f", "g")]
    assert [["a", "a/b"], [], ["a/e"], []] == told


NAMES = st.lists(
    st.one_of(
        st.text(st.sampled_from("abAB./\\:\0 ÖöO\u0308ßs~%"), max_size=12),
        st.lists(st.sampled_from(["..", ".", "", "a", "A", "b", "C:", "con"]), max_size=5).map("/".join),
        st.text(max_size=20),
    ),
    max_size=12,
)


@settings(max_examples=300)
@given(NAMES, st.booleans())
def test_g8_every_member_has_a_place_of_its_own_inside(names, is_windows):
    """Whatever the names are: those that aren't refused are places inside, and no two of them are one."""
    members = Members(URI, is_windows=is_windows)
    taken: dict[str, bool] = {}
    for name in names:
        with suppress(UnsafePathError):
            place, new_directories = members.place(name, is_directory=name.endswith("/"))
            for directory in new_directories:
                assert os.path.dirname(directory) in {"", *taken}
                taken[directory] = True
            if not name.endswith("/"):
                assert place not in taken
                taken[place] = False
            root = Path("/root")
            assert root in Path(os.path.normpath(root / place)).parents or place == ""
    folded = [unicodedata.normalize("NFC", place).casefold() for place in taken]
    assert len(set(folded)) == len(folded)
    assert all(taken.get(os.path.dirname(place), True) for place in taken)
