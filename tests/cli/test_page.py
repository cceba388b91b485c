"""`catalog page`: the file that it writes, what it prints, and what that costs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from datacachalog import AsyncCatalog, Catalog, Dataset
from datacachalog.testing import FaultServer, MemoryStorage, Status


@pytest.fixture
def versioned() -> MemoryStorage:
    """A storage with three versions of an object."""
    memory = MemoryStorage(is_versioned=True)
    for content in (b"1", b"22", b"333"):
        memory.put("mem://bucket/a.txt", content)
    return memory


@pytest.fixture
def python_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A module that a catalog can be imported from."""
    monkeypatch.chdir(tmp_path)
    module = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "own_catalog", module)
    return module


def test_page_writes_a_file_and_prints_its_path(project, catalog) -> None:
    """`catalog.html` in the working directory unless another is named; the path is all that is on standard output."""
    done = catalog("page")
    assert (0, f"{project}/catalog.html\n") == (done.code, done.out)
    page = (project / "catalog.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    for text in ("<h1>project</h1>", "customers", "Who bought something.", "remote/orders/*.csv", "core/"):
        assert text in page
    assert str(project) not in page
    assert f"{project}/other.html\n" == catalog("page", "-o", "other.html").out


def test_page_prints_the_page_itself_for_a_dash(project, catalog) -> None:
    """`--output -` leaves no file, and goes with no JSON."""
    assert catalog("page", "--output", "-").out.startswith("<!doctype html>")
    assert (2, "") == ((done := catalog("page", "-o", "-", "--json")).code, done.out)
    assert not (project / "catalog.html").exists()


def test_page_tells_programs_what_was_written(project, catalog) -> None:
    """The file, how many datasets are on it, and its bytes."""
    value = catalog("page", "customers", "core/", "--json").value("page")
    file = project / "catalog.html"
    assert (str(file), 2, file.stat().st_size) == (value["file"], value["datasets"], value["bytes"])


def test_page_shows_the_datasets_that_are_named(project, catalog) -> None:
    """`core/` means those of the catalog core; a name that there isn't is a wrong call, and nothing is written."""
    page = catalog("page", "core/", "-o", "-").out
    assert (True, False) == ("prices" in page, "customers" in page)
    assert (2, False) == (catalog("page", "nobody").code, (project / "catalog.html").exists())


def test_page_has_the_title_that_is_given(project, catalog) -> None:
    """Else it is that of the project's directory."""
    assert "<h1>All of it</h1>" in catalog("page", "--title", "All of it", "-o", "-").out


def test_page_shows_what_could_not_be_asked(project, catalog) -> None:
    """One dataset whose remote is gone is unknown, with the reason, and the page is made all the same."""
    (project / "remote" / "customers.csv").unlink()
    done = catalog("page", "-o", "-")
    assert (0, True) == (done.code, "Unknown</span>" in done.out)
    assert ">remote/customers.csv: " in done.out


def test_page_replaces_the_old_file_in_one_step(project, catalog) -> None:
    """Nothing else is left beside it, and a link stays one."""
    (project / "public").mkdir()
    (project / "catalog.html").symlink_to("public/index.html")
    (project / "public" / "index.html").write_text("old")
    catalog("page")
    assert (project / "catalog.html").is_symlink()
    assert (project / "public" / "index.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert ["index.html"] == os.listdir(project / "public")


def test_page_that_cannot_be_written_is_a_failure(project, catalog) -> None:
    """One line on standard error, and exit code 1; a directory is a wrong call."""
    done = catalog("page", "-o", "nowhere/catalog.html")
    expected = f"Error: {project}/nowhere/catalog.html can't be written: No such file or directory\n"
    assert (1, "", expected) == (done.code, done.out, done.err)
    assert 2 == catalog("page", "-o", "remote").code


def test_page_is_written_into_a_device(project, catalog) -> None:
    """What isn't a file is written to, and never replaced by one."""
    assert (0, f"{os.devnull}\n") == ((done := catalog("page", "-o", os.devnull)).code, done.out)
    assert not Path(os.devnull).is_file()


def test_page_of_an_empty_catalog_says_so(project, catalog) -> None:
    """A catalog without datasets is no failure."""
    (project / "datacachalog.toml").write_text("")
    assert "The catalog has no datasets yet." in catalog("page", "-o", "-").out


# -- offline


def test_page_offline_sends_no_request(project, catalog) -> None:
    """What is cached is shown, of the rest that it isn't there, and at the top that nobody was asked."""
    with FaultServer() as server:
        server.create_bucket("bucket")
        config = f"[storage.s3]\nendpoint_url = '{server.endpoint_url}'\n"
        (project / "datacachalog.toml").write_text(f"{config}[datasets.a]\nsource = 's3://bucket/a'")
        done = catalog("page", "--offline", "-o", "-")
        assert (0, []) == (done.code, server.requests)
    assert "Made offline" in done.out


# -- versions


def test_page_lists_the_newest_versions(python_catalog, catalog, versioned) -> None:
    """As many as are asked for, and whether there are more."""
    python_catalog.made = Catalog([Dataset("a", "mem://bucket/a.txt")], cache_dir="cache", storage=versioned)
    page = catalog("page", "--catalog", "own_catalog:made", "-o", "-").out
    assert ("3 versions</summary>" in page, page.count("version_id=")) == (True, 3)
    page = catalog("page", "--catalog", "own_catalog:made", "--versions", "2", "-o", "-").out
    assert ("The newest 2 versions</summary>" in page, page.count("version_id=")) == (True, 2)
    assert "version_id=" not in catalog("page", "--catalog", "own_catalog:made", "--versions", "0", "-o", "-").out


def test_page_tells_why_versions_could_not_be_listed(project, catalog) -> None:
    """Who may read the object, but not list its versions, has a page with that reason."""
    with FaultServer() as server:
        server.create_bucket("bucket", is_versioned=True)
        server.put("bucket", "a", b"x")
        server.add_faults(Status(403, code="AccessDenied", method="ListObjectVersions", times=None))
        config = f"[storage.s3]\nendpoint_url = '{server.endpoint_url}'\n"
        (project / "datacachalog.toml").write_text(f"{config}[datasets.a]\nsource = 's3://bucket/a'")
        done = catalog("page", "-o", "-")
    assert (0, True) == (done.code, "Versions: s3://bucket/a" in done.out)


@pytest.mark.parametrize(("count", "options", "listed"), [(3, [], 3), (101, [], 0), (101, ["--versions", "1"], 101)])
def test_page_asks_for_versions_only_where_that_costs_little(project, catalog, count, options, listed) -> None:
    """A request for each dataset, so beyond a hundred datasets only for who says so; the others are told of it."""
    with FaultServer() as server:
        server.create_bucket("bucket", is_versioned=True)
        lines = [f"[storage.s3]\nendpoint_url = '{server.endpoint_url}'"]
        for number in range(count):
            server.put("bucket", f"{number}", b"x")
            lines.append(f"[datasets.d{number}]\nsource = 's3://bucket/{number}'")
        (project / "datacachalog.toml").write_text("\n".join(lines))
        done = catalog("page", *options)
        asked = [request for request in server.requests if request.operation == "ListObjectVersions"]
    assert (0, listed, count > 100 and not options) == (done.code, len(asked), "Versions are left out" in done.err)


def test_a_bucket_that_never_kept_versions_shows_none(project, catalog) -> None:
    """What S3 lists of it, one version named null, is of no use to anybody."""
    with FaultServer() as server:
        server.create_bucket("bucket")
        server.put("bucket", "a", b"x")
        config = f"[storage.s3]\nendpoint_url = '{server.endpoint_url}'\n"
        (project / "datacachalog.toml").write_text(f"{config}[datasets.a]\nsource = 's3://bucket/a'")
        assert "</summary>" not in catalog("page", "-o", "-").out


# -- catalogs that are Python


@pytest.mark.parametrize(
    ("made", "setup", "call"),
    [
        (Catalog([Dataset("a", "a")]), "from own_catalog import made as catalog", "catalog"),
        (AsyncCatalog([Dataset("a", "a")]), "from own_catalog import made as catalog", "await catalog"),
        ([Dataset("a", "a")], "from own_catalog import made\ncatalog = Catalog(made)", "catalog"),
    ],
)
def test_page_of_a_python_catalog_tells_how_to_import_it(python_catalog, catalog, made, setup, call) -> None:
    """The lines that a reader copies lead to the catalog that the page was made of."""
    python_catalog.made = made
    page = catalog("page", "--catalog", "own_catalog:made", "--cache-dir", "cache", "-o", "-").out
    assert setup in page
    assert f"<code>{call}.fetch(&quot;a&quot;)</code>" in page
    assert "<h1>own_catalog</h1>" in page
