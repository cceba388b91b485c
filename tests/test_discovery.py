"""Which directory is the project's root, and which file is its catalog?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from datacachalog import CatalogFileError, ConfigurationError
from datacachalog._discovery import find_project, read_catalog_file

TABLE = "[tool.datacachalog.datasets.x]\nsource = 's3://acme/x'\n"
FILE = "datasets.x.source = 's3://acme/x'\n"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory three levels deep, which is the working directory."""
    deep = tmp_path / "repo" / "packages" / "web"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    return tmp_path / "repo"


def found() -> tuple[Path, str | None]:
    project = find_project()
    return project.root, project.file and project.file.name


@pytest.mark.parametrize(
    ("name", "content"), [("datacachalog.toml", FILE), ("pyproject.toml", f"[project]\nname = 'x'\n{TABLE}")]
)
def test_the_nearest_directory_with_a_catalog_is_the_root(tree: Path, name: str, content: str) -> None:
    """Either kind of file is found from any directory below it."""
    (tree / name).write_text(content)
    assert (tree, name) == found()
    assert ["x"] == [dataset.name for dataset in read_catalog_file(find_project()).datasets]


def test_a_nested_package_does_not_hide_the_catalog_of_the_whole(tree: Path) -> None:
    """A `pyproject.toml` or `.git` that says nothing of us is passed over where a catalog is further up."""
    (tree / "datacachalog.toml").write_text(FILE)
    (tree / "packages" / "web" / "pyproject.toml").write_text("[project]\nname = 'datacachalog-user'\n")
    (tree / "packages" / ".git").mkdir()
    assert (tree, "datacachalog.toml") == found()


def test_the_nearest_catalog_wins(tree: Path) -> None:
    """A package with a catalog of its own is a root of its own."""
    (tree / "datacachalog.toml").write_text(FILE)
    (tree / "packages" / "pyproject.toml").write_text(TABLE)
    assert (tree / "packages", "pyproject.toml") == found()


def test_a_file_of_its_own_goes_before_the_table(tree: Path) -> None:
    """Of two in one directory, `datacachalog.toml` is the catalog."""
    (tree / "datacachalog.toml").write_text(FILE)
    (tree / "pyproject.toml").write_text(TABLE)
    assert (tree, "datacachalog.toml") == found()


def test_a_state_directory_marks_the_root(tree: Path) -> None:
    """`.datacachalog/` marks a root without a catalog."""
    (tree / ".datacachalog").mkdir()
    (tree / "packages" / ".git").mkdir()
    assert (tree, None) == found()


def test_a_cache_is_no_project(tree: Path) -> None:
    """The `.datacachalog/` of a cache, which has a `CACHEDIR.TAG`, marks nothing."""
    (tree / "datacachalog.toml").write_text(FILE)
    (tree / "packages" / ".datacachalog").mkdir()
    (tree / "packages" / "CACHEDIR.TAG").touch()
    assert (tree, "datacachalog.toml") == found()


@pytest.mark.parametrize("name", [".git", "pyproject.toml"])
def test_without_a_catalog_the_root_is_that_of_the_repository(tree: Path, name: str) -> None:
    """Where nothing of ours is found, the nearest `.git` or `pyproject.toml` marks the root."""
    (tree / "packages" / name).touch()
    assert (tree / "packages", None) == found()


def test_with_nothing_at_all_the_root_is_the_working_directory(tree: Path) -> None:
    """A directory that nothing marks is a root too."""
    assert (tree / "packages" / "web", None) == found()


def test_the_environment_names_the_root(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`DATACACHALOG_ROOT` goes before what is found, and only that directory is looked into."""
    (tree / "datacachalog.toml").write_text(FILE)
    monkeypatch.setenv("DATACACHALOG_ROOT", str(tmp_path))
    assert (tmp_path, None) == found()
    (tmp_path / "datacachalog.toml").write_text(FILE)
    assert (tmp_path, "datacachalog.toml") == found()


def test_an_argument_goes_before_the_environment(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that is given is where the search starts, whatever the environment says."""
    (tree / "datacachalog.toml").write_text(FILE)
    monkeypatch.setenv("DATACACHALOG_ROOT", str(tmp_path))
    assert tree == find_project(tree / "packages" / ".." / "packages").root


def test_the_environment_names_the_file(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`DATACACHALOG_CATALOG` may lie anywhere and have any name; its directory is the root."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "own.toml").write_text("datasets.x.source = 'remote/x'")
    monkeypatch.setenv("DATACACHALOG_CATALOG", str(tmp_path / "elsewhere" / "own.toml"))
    [dataset] = read_catalog_file(find_project()).datasets
    assert str(tmp_path / "elsewhere" / "remote" / "x") == dataset.source


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("DATACACHALOG_ROOT", "/no/such", "DATACACHALOG_ROOT is a directory: there is none at /no/such"),
        ("DATACACHALOG_CATALOG", "/no/such.toml", "no catalog file at /no/such.toml"),
        ("DATACACHALOG_CATALOG", "package:catalog", "never imported"),
    ],
)
def test_what_is_named_and_not_there_is_an_error(
    tree: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    """A wrong name is never passed over for something that was found."""
    (tree / "datacachalog.toml").write_text(FILE)
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=told):
        find_project()


def test_without_a_file_the_error_says_how_to_get_one(tree: Path) -> None:
    """Without a catalog file, the error names the root that was looked into and the command that writes one."""
    with pytest.raises(ConfigurationError, match=rf"{tree / 'packages' / 'web'}.*catalog init"):
        read_catalog_file(find_project())


@pytest.mark.parametrize(
    ("content", "line"), [(b"a = 1\n\xff", 2), (b"[tool.datacachalog]\nx = ", 2)], ids=["not UTF-8", "not TOML"]
)
def test_a_file_that_cannot_be_read_is_an_error_with_its_line(tree: Path, content: bytes, line: int) -> None:
    """Bytes that are no UTF-8, and text that is no TOML, are said with file and line."""
    (tree / "datacachalog.toml").write_bytes(content)
    with pytest.raises(CatalogFileError) as caught:
        read_catalog_file(find_project())
    assert (tree / "datacachalog.toml", line) == (caught.value.file, caught.value.line)


def test_a_file_that_an_editor_of_windows_wrote_is_read(tree: Path) -> None:
    """A byte order mark and CRLF are no part of the text."""
    (tree / "datacachalog.toml").write_bytes(b"\xef\xbb\xbf[datasets.x]\r\nsource = 's3://acme/x'\r\n")
    assert 1 == len(read_catalog_file(find_project()).datasets)


def test_a_broken_project_file_that_means_us_is_an_error_with_its_line(tree: Path) -> None:
    """A `pyproject.toml` that is no TOML is passed over, but not if it has our table."""
    (tree / "packages" / "pyproject.toml").write_text("x = ")
    (tree / "pyproject.toml").write_text("[tool.datacachalog]\nx = ")
    with pytest.raises(CatalogFileError, match=r"pyproject\.toml:2: "):
        read_catalog_file(find_project())


@pytest.mark.parametrize("name", ["datacachalog.toml", "pyproject.toml"])
def test_a_link_that_leads_out_of_the_root_is_not_read(tree: Path, tmp_path: Path, name: str) -> None:
    """A catalog file that is a link to somewhere else is refused (or is nobody's, in a `pyproject.toml`)."""
    (tmp_path / "outside.toml").write_text(FILE + TABLE)
    (tree / name).symlink_to(Path("..") / "outside.toml")
    if name == "pyproject.toml":
        assert (tree, None) == found()
    else:
        with pytest.raises(CatalogFileError, match="leads outside"):
            find_project()


def test_a_link_inside_the_root_is_read(tree: Path) -> None:
    """A catalog file may be a link to another place in the project."""
    (tree / "config").mkdir()
    (tree / "config" / "catalog.toml").write_text("datasets.x.source = 'x'")
    (tree / "datacachalog.toml").symlink_to(Path("config") / "catalog.toml")
    assert str(tree / "x") == read_catalog_file(find_project()).datasets[0].source


def test_a_directory_reached_by_a_link_belongs_to_where_it_is(tree: Path, tmp_path: Path) -> None:
    """The search goes up from the real directory, so a link can't bring another project's catalog in, nor `..`."""
    (tree / "datacachalog.toml").write_text(FILE)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".git").mkdir()
    (tree / "link").symlink_to(tmp_path / "other")
    assert tmp_path / "other" == find_project(tree / "link").root
    assert None is find_project(tree / "link" / "..").file


def test_a_file_planted_in_a_directory_of_everybody_is_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may write to /tmp must not decide what is fetched by those who work below it."""
    (tree / "datacachalog.toml").write_text(FILE)
    tree.chmod(0o1777)
    assert (tree, "datacachalog.toml") == found()
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tree).st_uid + 1)
    with pytest.raises(CatalogFileError, match="everybody may write"):
        find_project()


def test_looking_for_a_catalog_imports_and_runs_nothing(tree: Path) -> None:
    """Python files of the project are not run, and none of the heavy libraries is loaded."""
    (tree / "datacachalog.toml").write_text(FILE)
    for name in ("sitecustomize", "catalog", "datacachalog_catalog"):
        (tree / f"{name}.py").write_text("raise SystemExit('imported')")
    code = (
        "import sys; from datacachalog._discovery import *; read_catalog_file(find_project());"
        "print(sorted({'asyncio', 'anyio', 'botocore', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=True)
    assert "[]\n" == done.stdout
