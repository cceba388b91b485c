"""The commands that write: to the remote, to the data lock file, and those that make room in the cache."""

from __future__ import annotations

import pytest

from datacachalog.testing import FaultServer

VERSIONED = """
cache_dir = "cache"
[storage.s3]
endpoint_url = "{endpoint_url}"
[datasets.customers]
source = "s3://bucket/customers.csv"
"""


@pytest.fixture
def versioned(project, server: FaultServer) -> FaultServer:
    """A project whose remote is a bucket that keeps versions, with two of one object."""
    server.create_bucket("bucket", is_versioned=True)
    for content in (b"one", b"three"):
        server.put("bucket", "customers.csv", content)
    (project / "datacachalog.toml").write_text(VERSIONED.format(endpoint_url=server.endpoint_url))
    return server


# -- push


def test_push_writes_the_file_and_the_next_fetch_downloads_nothing(project, catalog) -> None:
    """The remote has the file's bytes, and so has the cache."""
    catalog("fetch", "customers")
    (project / "new.csv").write_text("id,name\n")
    assert (0, "customers: pushed, 8 B\n") == ((done := catalog("push", "customers", "new.csv")).code, done.out)
    assert "id,name\n" == (project / "remote" / "customers.csv").read_text()
    [fetched] = catalog("fetch", "customers", "--json").value("fetch")["datasets"]
    assert ("revalidated", 0) == (fetched["action"], fetched["bytes_downloaded"])


def test_push_tells_programs_what_was_written(project, catalog) -> None:
    """The JSON has the new version's validator and size."""
    (project / "new.json").write_text("[]")
    value = catalog("push", "core/prices", "new.json", "--overwrite", "--json").value("push")
    assert ("core/prices", 2) == (value["name"], value["size"])


def test_g9_push_over_somebody_elses_version_is_refused(project, catalog) -> None:
    """Exit code 1 and the remote as it was; `--overwrite` writes all the same."""
    catalog("fetch", "customers")
    (project / "remote" / "customers.csv").write_text("theirs")
    (project / "new.csv").write_text("ours")
    assert (1, "theirs") == (
        catalog("push", "customers", "new.csv").code,
        (project / "remote" / "customers.csv").read_text(),
    )
    assert (0, "ours") == (
        catalog("push", "customers", "new.csv", "--overwrite").code,
        (project / "remote" / "customers.csv").read_text(),
    )


def test_a_refused_push_advises_what_the_shell_has(project, catalog) -> None:
    """The error names the command's option, and not the method's argument."""
    (project / "new.csv").write_text("ours")
    assert catalog("push", "customers", "new.csv").err.endswith("; fetch it and merge, or push with --overwrite\n")


def test_push_of_a_file_that_is_not_there_is_a_wrong_call(project, catalog) -> None:
    """Nothing is opened for it."""
    assert 2 == catalog("push", "customers", "nowhere.csv").code


# -- versions


def test_versions_are_listed_the_newest_first(versioned, catalog) -> None:
    """A line each; `--limit` shows the newest."""
    lines = catalog("versions", "customers").out.splitlines()
    assert ["VERSION", "STATE", "SIZE", "WRITTEN"] == lines[0].split()
    assert [["latest", "5", "B"], ["3", "B"]] == [lines[1].split()[1:4], lines[2].split()[1:3]]
    value = catalog("versions", "customers", "--limit", "1", "--json").value("versions")
    assert [(True, False, 5)] == [(v["is_latest"], v["is_delete_marker"], v["size"]) for v in value["versions"]]


def test_a_deletion_is_a_version_too(versioned, catalog) -> None:
    """It has a state and no size."""
    versioned.delete("bucket", "customers.csv")
    assert ["deleted", "-"] == catalog("versions", "customers").out.splitlines()[1].split()[1:3]


# -- lock


def test_lock_writes_beside_the_catalog_file(project, catalog, monkeypatch) -> None:
    """Its path is the result, from wherever it was called; a frozen fetch takes what it says."""
    monkeypatch.chdir(project / "remote")
    assert f"{project}/datacachalog.lock\n" == catalog("lock").out
    monkeypatch.setenv("DATACACHALOG_FROZEN", "1")
    assert 0 == catalog("fetch", "--all").code
    (project / "remote" / "customers.csv").write_text("another version")
    catalog("invalidate", "customers")
    done = catalog("fetch", "customers")
    assert (1, True) == (done.code, "; if it is right as it is now, 'DATACACHALOG_FROZEN=0 catalog lock c" in done.err)


def test_lock_may_be_told_where_to_write(project, catalog) -> None:
    """`--path` names the file, and the JSON has it."""
    value = catalog("lock", "customers", "--path", "own.lock", "--json").value("lock")
    assert str(project / "own.lock") == value["file"]
    assert (project / "own.lock").is_file()


# -- clean and evict


def test_clean_says_how_much_it_removed(project, catalog) -> None:
    """What is of use stays."""
    catalog("fetch", "--all")
    assert (0, "0 B removed\n") == ((done := catalog("clean")).code, done.out)
    assert {"version": 1, "bytes": 0} == catalog("clean", "--json").value("clean")


@pytest.mark.parametrize("size", ["0", "0.01kB", "9 B"])
def test_evict_removes_until_the_bound_is_kept(project, catalog, monkeypatch, size) -> None:
    """Sizes are written in bytes or with a unit."""
    monkeypatch.setenv("DATACACHALOG_EVICTION_GRACE_SECONDS", "0")
    catalog("fetch", "customers", "core/")
    removed = catalog("evict", "--max-bytes", size, "--json").value("evict")["bytes"]
    assert 16 - removed <= (10 if size == "0.01kB" else int(size.partition(" ")[0]))


@pytest.mark.parametrize("size", ["many", "-1", "1XB", "iB"])
def test_evict_refuses_what_is_no_size(project, catalog, size) -> None:
    """A wrong size is a wrong call."""
    assert 2 == catalog("evict", "--max-bytes", size).code
