"""Each command: what it prints for people, what for programs, and what it returns."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest

from datacachalog import Catalog, CatalogConfig, Dataset
from datacachalog.cli._app import run
from datacachalog.cli._schema import names, schema_of
from datacachalog.testing import FaultServer, FaultyStorage, MemoryStorage, Unreachable


def cached(project, key: str) -> str:
    """The path at which a file of the remote is cached."""
    return f"{project}/cache/@file{project}/remote/{key}"


# -- list


def test_list_shows_the_datasets(project, catalog) -> None:
    """Names, sources as the file has them, descriptions and tags."""
    assert catalog("list").out.splitlines() == [
        "NAME         SOURCE                DESCRIPTION",
        "customers    remote/customers.csv  Who bought something.  #crm",
        "orders       remote/orders/*.csv",
        "core/prices  remote/prices.json",
    ]


def test_list_tells_programs_everything(project, catalog) -> None:
    """The JSON has each argument of a dataset, and the file."""
    value = catalog("list", "--json").value("list")
    assert str(project / "datacachalog.toml") == value["file"]
    assert {
        "name": "customers",
        "source": f"{project}/remote/customers.csv",
        "description": "Who bought something.",
        "tags": ["crm"],
        "is_multi_file": False,
        "cache_path": None,
        "checksum": None,
        "max_age": None,
    } == value["datasets"][0]


def test_list_of_an_empty_catalog_says_so_on_stderr(project, catalog) -> None:
    """Where there is nothing to list, standard output is empty."""
    (project / "datacachalog.toml").write_text("")
    done = catalog("list")
    assert (0, "", f"{project}/datacachalog.toml has no datasets yet\n") == (done.code, done.out, done.err)


def test_g13_no_credentials_of_a_source_are_shown(project, catalog, monkeypatch) -> None:
    """A password that the environment puts into a source is taken off it."""
    monkeypatch.setenv("PASSWORD", "hunter2")
    source = "https://me:${PASSWORD}@host/x?sig=hunter2"
    (project / "datacachalog.toml").write_text(f"config.retries = 0\ndatasets.x.source = '{source}'")
    for args in (
        ["list"],
        ["list", "--json"],
        ["status", "--json"],
        ["plan", "--json"],
        ["explain", "x"],
        ["validate"],
        ["page", "--output", "-"],
    ):
        done = catalog(*args)
        assert "hunter2" not in done.out + done.err


# -- fetch and sync


def test_fetch_prints_paths_and_nothing_else(project, catalog) -> None:
    """The files' paths in the order of the names given; the progress is not on standard output."""
    done = catalog("fetch", "orders", "customers")
    paths = [cached(project, key) for key in ("orders/1.csv", "orders/2.csv", "customers.csv")]
    assert (0, paths) == (done.code, done.out.splitlines())
    assert Path(paths[2]).read_text() == "id,name\n1,Ada\n"


def test_a_path_that_is_no_text_is_printed_as_its_bytes(project, capfdbinary) -> None:
    """What the shell gets is the file, whatever its name."""
    run(["fetch", "customers", "--quiet", "--cache-dir", os.fsdecode(b"c\xff")])
    [path] = capfdbinary.readouterr().out.splitlines()
    assert b"id,name" == Path(os.fsdecode(path)).read_bytes().splitlines()[0]


def test_fetch_all_takes_the_order_of_the_catalog(project, catalog) -> None:
    """`--all` fetches every dataset, and `core/` those of the catalog core."""
    assert 4 == len(catalog("fetch", "--all").out.splitlines())
    assert f"{cached(project, 'prices.json')}\n" == catalog("fetch", "core/").out


def test_fetch_tells_programs_what_was_done(project, catalog) -> None:
    """The JSON is the report."""
    value = catalog("fetch", "customers", "--json").value("fetch")
    [dataset] = value["datasets"]
    assert ("downloaded", 14, [cached(project, "customers.csv")]) == (
        dataset["action"],
        dataset["bytes_downloaded"],
        dataset["paths"],
    )
    assert (14, []) == (value["bytes_downloaded"], value["errors"])


def test_fetch_goes_on_when_one_fails(project, catalog) -> None:
    """The others' paths are printed, the failure is said on standard error, and the exit code is 1."""
    (project / "remote" / "customers.csv").unlink()
    done = catalog("fetch", "--all", "--quiet")
    assert (1, 3) == (done.code, len(done.out.splitlines()))
    assert done.err.startswith(f"Error: customers: {project}/remote/customers.csv: ")
    [error] = catalog("fetch", "--all", "--json").value("fetch")["errors"]
    assert ("customers", "ObjectNotFoundError") == (error["name"], error["type"])


@pytest.mark.parametrize("args", [["fetch"], ["fetch", "--all", "customers"]])
def test_fetch_wants_names_or_all(project, catalog, args) -> None:
    """Neither, or both, is a wrong call: nobody downloads everything by mistake."""
    assert (2, "") == ((done := catalog(*args)).code, done.out)


def test_sync_prints_what_changed_and_a_summary(project, catalog) -> None:
    """Only what was downloaded has a line; the rest is counted."""
    first = catalog("sync").out.splitlines()
    assert (4, "3 downloaded (26 B), 0 up to date") == (len(first), first[-1])
    assert "0 downloaded (0 B), 3 up to date\n" == catalog("sync").out
    (project / "remote" / "customers.csv").write_text("id,name\n")
    assert ["customers: downloaded, 8 B", "1 downloaded (8 B), 2 up to date"] == catalog("sync").out.splitlines()
    (project / "remote" / "prices.json").unlink()
    done = catalog("sync", "customers", "core/")
    assert (1, "0 downloaded (0 B), 1 up to date, 1 failed\n") == (done.code, done.out)
    assert ["core/prices"] == [error["name"] for error in catalog("sync", "--json").value("sync")["errors"]]


def test_verbose_says_what_was_done_and_why(project, catalog) -> None:
    """`--verbose` adds a line for each dataset, on standard error."""
    assert "customers: downloaded, 14 B, not cached\n" in catalog("fetch", "customers", "-v").err


def test_a_stale_copy_is_a_warning_and_no_failure(project, catalog, monkeypatch) -> None:
    """A remote that can't be asked leads to the copy, with one line that says so, unless `--quiet`."""
    memory = MemoryStorage()
    memory.put("mem://bucket/a.txt", b"a")
    storage, config = FaultyStorage(memory), CatalogConfig(retries=0)
    made = Catalog([Dataset("a", "mem://bucket/a.txt")], cache_dir="cache", storage=storage, config=config)
    monkeypatch.setitem(sys.modules, "own_catalog", SimpleNamespace(made=made))
    path = catalog("fetch", "a", "--catalog", "own_catalog:made").out
    storage.add_faults(Unreachable(method=None, times=None))
    done = catalog("fetch", "a", "--catalog", "own_catalog:made")
    assert (0, path, True) == (done.code, done.out, "Warning: dataset 'a' may be out of date" in done.err)
    assert "" == catalog("fetch", "a", "-q", "--catalog", "own_catalog:made").err


# -- looking


def test_status_shows_how_copies_stand(project, catalog) -> None:
    """Freshness, size, age and reason; `--check` turns what isn't fresh into exit code 3."""
    catalog("fetch", "customers", "core/")
    (project / "remote" / "customers.csv").write_text("id,name\n")
    lines = [line.split(maxsplit=2)[:2] for line in catalog("status").out.splitlines()]
    assert [["NAME", "STATUS"], ["customers", "stale"], ["orders", "missing"], ["core/prices", "fresh"]] == lines
    assert (3, 0) == (catalog("status", "--check").code, catalog("status", "--check", "core/prices").code)


def test_status_tells_programs_the_same(project, catalog) -> None:
    """The JSON is the list of statuses."""
    catalog("fetch", "customers")
    first, second, _ = catalog("status", "--json").value("status")["datasets"]
    assert ("fresh", 14, cached(project, "customers.csv")) == (first["freshness"], first["size"], first["path"])
    assert ("missing", None, None) == (second["freshness"], second["path"], second["cached_at"])


def test_plan_shows_what_a_fetch_would_do(project, catalog) -> None:
    """Bytes, requests and reasons, and a sum; nothing is downloaded."""
    with Catalog.discover(progress=False) as discovered:
        assert f"{discovered.plan()}\n" == catalog("plan").out
    value = catalog("plan", "customers", "--json").value("plan")
    assert (14, 1, "download") == (value["bytes"], value["requests"], value["steps"][0]["action"])
    assert not (project / "cache").exists()


def test_explain_tells_where_settings_come_from(project, catalog, monkeypatch) -> None:
    """The status, the plan, and for each setting the option, the variable or the line that it comes from."""
    (project / "datacachalog.toml").write_text(
        "cache_dir = 'cache'\nconfig.retries = 1\nconfig.restarts = 1\n"
        "[storage.s3]\nendpoint_url = 'http://127.0.0.1:9'\nregion = 'r'\nprofile = 'p'\n"
        "[datasets.one]\nsource = 's3://bucket/one'\nmax_age = 60\n[catalogs.c.datasets.two]\nsource = 'x'\nmax_age = 1"
    )
    monkeypatch.setenv("DATACACHALOG_RESTARTS", "2")
    value = catalog("explain", "one", "--offline", "--json").value("explain")
    origins = {setting["name"]: (setting["value"], setting["from"]) for setting in value["settings"]}
    expected = {
        "cache_dir": (f"{project}/cache", "datacachalog.toml:1"),
        "max_age": (60, "datacachalog.toml:10"),
        "retries": (1, "datacachalog.toml:2"),
        "restarts": (2, "DATACACHALOG_RESTARTS"),
        "offline": (True, "--offline"),
        "part_bytes": (8 * 1024 * 1024, "default"),
        "s3.endpoint_url": ("http://127.0.0.1:9", "datacachalog.toml:5"),
        "s3.region": ("us-east-1", "AWS_DEFAULT_REGION"),
        "s3.profile": (None, "AWS_ACCESS_KEY_ID, which goes before a profile"),
    }
    assert expected == {name: origins[name] for name in expected}
    assert "missing" == value["status"]["freshness"]
    two = catalog("explain", "c/two", "--json").value("explain")["settings"]
    assert {"name": "max_age", "value": 1, "from": "datacachalog.toml:13"} in two


def test_explain_tells_people_the_same(project, catalog) -> None:
    """Facts first, settings below."""
    catalog("fetch", "customers")
    out = catalog("explain", "customers").out
    assert f"  cached   {cached(project, 'customers.csv')}\n  size     14 B, published " in out
    assert "  status   fresh: the remote has the cached version\n" in out
    assert "  a fetch  revalidate: 0 bytes in 1 request; the remote has the cached version\n" in out
    assert "\nmax_age                  0.0" in out


def test_validate_has_a_line_for_each_dataset(project, catalog) -> None:
    """What can be reached is ok; exit code 3 says that something can't be."""
    done = catalog("validate")
    names = ["CHECK", "catalog", "cache", "customers", "orders", "core/prices"]
    assert (0, names) == (done.code, [line.split()[0] for line in done.out.splitlines()])
    (project / "remote" / "customers.csv").unlink()
    done = catalog("validate", "--json", "customers")
    [dataset] = done.value("validate")["datasets"]
    assert (3, "failed") == (done.code, dataset["state"])
    assert (0, "skipped") == (
        (offline := catalog("validate", "--json", "--offline", "customers")).code,
        offline.value("validate")["datasets"][0]["state"],
    )


def test_validate_asks_whatever_max_age_says(project, catalog) -> None:
    """A copy that may be used unasked for an hour says nothing about the remote."""
    (project / "datacachalog.toml").write_text("[datasets.a]\nsource = 'remote/prices.json'\nmax_age = 3600")
    catalog("fetch", "a", "--cache-dir", "cache")
    (project / "remote" / "prices.json").unlink()
    assert 3 == catalog("validate", "--cache-dir", "cache").code


def test_validate_tells_of_a_cache_that_cannot_be(project, catalog) -> None:
    """A file where the cache should be is a failure."""
    (project / "cache").write_text("")
    done = catalog("validate", "--json", "customers")
    assert (3, "failed") == (done.code, done.value("validate")["checks"][1]["state"])


# -- the cache


def test_info_tells_what_is_cached_and_where(project, catalog) -> None:
    """Bytes for each dataset, and the directory."""
    catalog("fetch", "customers")
    value = catalog("info", "--json").value("info")
    assert (str(project / "cache"), 14, 1) == (value["cache_dir"], value["total_bytes"], value["files"])
    assert {"name": "customers", "bytes": 14} == value["datasets"][0]
    assert f"{project}/cache: 1 file, 14 B" == catalog("info").out.splitlines()[-1]


def test_invalidate_drops_what_is_named(project, catalog) -> None:
    """The number of files is told; a name that there isn't drops nothing."""
    catalog("fetch", "--all")
    assert 2 == catalog("invalidate", "customers", "nobody").code
    assert "customers: 1 file dropped\norders: 2 files dropped\n" == catalog("invalidate", "customers", "orders").out
    value = catalog("invalidate", "core/", "--json").value("invalidate")
    assert [{"name": "core/prices", "files": 1}] == value["datasets"]
    assert 2 == catalog("invalidate").code


def test_verify_prints_what_was_changed(project, catalog) -> None:
    """The files are on standard output, and the exit code is 3."""
    path = catalog("fetch", "customers").out.strip()
    assert (0, "", "no file was changed\n") == ((done := catalog("verify")).code, done.out, done.err)
    times = os.stat(path)
    Path(path).write_text("id,name\n1,Eve\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    done = catalog("verify")
    assert (3, f"{path}\n") == (done.code, done.out)
    assert [path] == catalog("verify", "--json").value("verify")["changed"]


# -- doctor


def test_doctor_looks_at_the_machine(project, catalog) -> None:
    """Without S3, the file system is all there is to look at; it leaves nothing behind."""
    done = catalog("doctor")
    checks = [line.split()[0] for line in done.out.splitlines()[1:] if line]
    assert (0, ["catalog", "cache", "free", "replacing", "file", "locks", "storages"]) == (done.code, checks[:7])
    assert "datacachalog 0." in done.out
    assert ["datacachalog.toml", "remote"] == sorted(path.name for path in project.iterdir())


def test_doctor_asks_s3_for_its_time_and_says_where_credentials_come_from(project, catalog, monkeypatch) -> None:
    """The endpoint, the clock, and the credentials' source, and never the credentials."""
    with FaultServer() as server:
        config = f"[storage.s3]\nendpoint_url = '{server.endpoint_url}'\n[datasets.a]\nsource = 's3://bucket/a'"
        (project / "datacachalog.toml").write_text(config)
        done = catalog("doctor", "--json")
    states = {check["name"]: (check["state"], check["detail"]) for check in done.value("doctor")["checks"]}
    assert ("ok", f"{server.endpoint_url} answers") == states["endpoint"]
    assert ("ok", "from env") == states["credentials"]
    assert (True, False) == ("clock" in states, "testtest" in done.out)
    offline = catalog("doctor", "--json", "--offline").value("doctor")["checks"]
    assert ["skipped", "skipped"] == [check["state"] for check in offline[-2:]]
    gone = catalog("doctor", "--json")
    assert (3, "failed") == (gone.code, {c["name"]: c["state"] for c in gone.value("doctor")["checks"]}["endpoint"])


def test_doctor_tells_of_credentials_that_are_missing(project, catalog, monkeypatch) -> None:
    """No credentials is a failure, unless none are used."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for anonymous, state in (("false", "failed"), ("true", "ok")):
        (project / "datacachalog.toml").write_text(
            f"[storage.s3]\nendpoint_url = 'http://127.0.0.1:9'\nanonymous = {anonymous}\n"
            "[datasets.a]\nsource = 's3://bucket/a'"
        )
        checks = catalog("doctor", "--json").value("doctor")["checks"]
        assert state == {check["name"]: check["state"] for check in checks}["credentials"]


def test_doctor_lists_the_storages_of_installed_packages(project, catalog, tmp_path, monkeypatch) -> None:
    """Each with its package; one that can't be loaded is a failure if a dataset needs it, one for `s3` is not used."""
    about = tmp_path / "site" / "brought-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
    names = ("good = datacachalog.testing:MemoryStorage", "bad = not_there:Storage", "s3 = not_there:Storage")
    (about / "entry_points.txt").write_text("\n".join(["[datacachalog.storages]", *names]))
    monkeypatch.syspath_prepend(about.parent)
    states = {check["name"]: check for check in catalog("doctor", "--json").value("doctor")["checks"]}
    assert {"name": "good://", "state": "ok", "detail": "datacachalog.testing:MemoryStorage of brought 1.0"} == states[
        "good://"
    ]
    assert ["warning", "warning"] == [states[name]["state"] for name in ("bad://", "s3://")]
    (project / "datacachalog.toml").write_text("datasets.a.source = 'bad://bucket/a'")
    done = catalog("doctor")
    assert (3, True) == (done.code, "not_there:Storage of the package brought 1.0: ModuleNotFoundError" in done.out)


def test_doctor_works_without_a_catalog(project, catalog) -> None:
    """A catalog that is wrong or isn't there is what is said of it; the versions are shown all the same."""
    (project / "datacachalog.toml").write_text("x = ")
    done = catalog("doctor")
    assert (3, True) == (done.code, "datacachalog.toml:1: no valid TOML" in done.out)
    assert "Python 3." in done.out


# -- init, schema


def test_init_writes_a_catalog_with_what_is_named(tmp_path, monkeypatch, catalog) -> None:
    """The file is valid, and its path is the result; variables need not be set yet."""
    monkeypatch.chdir(tmp_path)
    done = catalog("init", "customers=s3://${BUCKET_OF_NOBODY}/a=b.csv", 'odd "na.me"=data/é\x7f.csv')
    assert (0, f"{tmp_path}/datacachalog.toml\n") == (done.code, done.out)
    written = tomllib.loads((tmp_path / "datacachalog.toml").read_text(encoding="utf-8"))
    sources = {name: dataset["source"] for name, dataset in written["datasets"].items()}
    assert {"customers": "s3://${BUCKET_OF_NOBODY}/a=b.csv", 'odd "na.me"': "data/é\x7f.csv"} == sources


def test_init_without_datasets_writes_an_example(tmp_path, monkeypatch, catalog) -> None:
    """The example is a comment, so the catalog is valid and empty."""
    monkeypatch.chdir(tmp_path)
    value = catalog("init", "--json").value("init")
    assert {} == tomllib.loads(Path(value["file"]).read_text(encoding="utf-8"))
    example = Path(value["file"]).read_text(encoding="utf-8").partition("the environment.\n")[2].replace("# ", "")
    jsonschema.validate(tomllib.loads(example), schema_of("catalog-file"))


def test_init_leaves_a_file_alone(project, catalog) -> None:
    """What is there is never overwritten."""
    before = (project / "datacachalog.toml").read_text()
    assert (2, "") == ((done := catalog("init", "a=b")).code, done.out)
    assert before == (project / "datacachalog.toml").read_text()


@pytest.mark.parametrize("args", [["a"], ["=b"], ["a="], ["a=b", "a=c"], [" a=b"]])
def test_init_refuses_what_is_no_dataset(tmp_path, monkeypatch, catalog, args) -> None:
    """A wrong argument is a wrong call, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert (2, []) == (catalog("init", *args).code, list(tmp_path.iterdir()))


def test_every_schema_is_a_schema(catalog) -> None:
    """`catalog schema NAME` prints a valid schema of each command's output, and of the catalog file."""
    for name in names():
        schema = json.loads(catalog("schema", name).out)
        jsonschema.Draft202012Validator.check_schema(schema)
    assert 2 == catalog("schema", "nothing").code


def test_every_command_that_takes_json_has_a_schema() -> None:
    """What can be printed as JSON is described."""
    from datacachalog.cli._app import app
    from datacachalog.cli._options import Command

    commands = {name for name in app.list_commands(None) if isinstance(app.get_command(None, name), Command)}
    assert commands == set(names()) - {"catalog-file"}


ARGUMENTS = {
    "explain": ["customers"],
    "fetch": ["--all"],
    "init": ["a=b"],
    "invalidate": ["orders"],
    "push": ["prices", "new.json", "--overwrite"],
    "versions": ["customers"],
}


@pytest.mark.parametrize("name", [name for name in names() if name != "catalog-file"])
def test_all_that_a_command_prints_as_json_is_described(tmp_path, monkeypatch, server, catalog, name) -> None:
    """The output has no field that its schema doesn't have, of a dataset that is there and of one that isn't."""
    server.create_bucket("bucket", is_versioned=True)
    server.put("bucket", "customers.csv", b"id\n1\n")
    server.put("bucket", "orders/1.csv", b"id\n1\n")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint_url)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.json").write_text("{}")
    sources = {"customers": "customers.csv", "orders": "orders/*.csv", "prices": "prices.json"}
    if name != "init":
        tables = (f"[datasets.{key}]\nsource = 's3://bucket/{source}'\n" for key, source in sources.items())
        (tmp_path / "datacachalog.toml").write_text("cache_dir = 'cache'\n" + "".join(tables))
        catalog("fetch", "customers", "orders")
    if name == "lock":
        server.put("bucket", "prices.json", b"{}")
    value = json.loads(catalog(name, *ARGUMENTS.get(name, []), "--json").out)
    jsonschema.validate(value, closed(schema_of(name)))


def closed(schema):
    """The same schema, of which no object has other fields than those that are described."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    more = {"additionalProperties": False} if schema.get("type") == "object" and "properties" in schema else {}
    return {**more, **{key: closed(item) for key, item in schema.items()}}


@pytest.mark.parametrize("command", ["doctor", "validate"])
def test_one_dataset_is_no_datasets(project, catalog, command) -> None:
    """The check of the catalog says how many there are in the words of a person."""
    (project / "datacachalog.toml").write_text("[datasets.a]\nsource = 'remote/prices.json'")
    [_, found, *_] = catalog(command).out.splitlines()
    assert found.endswith("/datacachalog.toml: 1 dataset")
