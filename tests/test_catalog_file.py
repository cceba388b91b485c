"""What does a catalog file say, and what is said of one that is wrong?"""

from __future__ import annotations

import json
from dataclasses import fields
from importlib.resources import files
from pathlib import Path

import pytest

from datacachalog import CatalogConfig, CatalogFileError, ConfigurationError, Dataset, S3Storage
from datacachalog._catalog_file import DATASET_KEYS, S3_KEYS, CatalogFile, parse_catalog_file

ENVIRON = {"BUCKET": "acme", "EMPTY": "", "PORT": "9000"}


def parse(text: str, table: tuple[str, ...] = ()) -> CatalogFile:
    return parse_catalog_file(text, file=Path("/p/datacachalog.toml"), root=Path("/p"), environ=ENVIRON, table=table)


def test_a_dataset_has_what_its_table_says() -> None:
    """Each argument of `Dataset` that is no code is a key of its table."""
    text = """
    [datasets.customers]
    source = "s3://acme/customers.csv"
    description = "Who bought something."
    cache_path = "customers.csv"
    checksum = "crc32:AAAAAA=="
    max_age = 1.5
    tags = ["crm", "daily"]
    unpack = "gzip"
    """
    expected = Dataset(
        "customers",
        "s3://acme/customers.csv",
        description="Who bought something.",
        cache_path="customers.csv",
        checksum="crc32:AAAAAA==",
        max_age=1.5,
        tags=["crm", "daily"],
        unpack="gzip",
    )
    assert (expected,) == parse(text).datasets


def test_datasets_keep_their_order_and_those_of_a_named_catalog_its_name() -> None:
    """The order is the file's; a named catalog's datasets are addressed `catalog/dataset`, after the others."""
    text = """
    catalogs.core.datasets.a.source = "s3://acme/a"
    datasets.z.source = "s3://acme/z"
    datasets.b.source = "s3://acme/b"
    catalogs.web.datasets.a.source = "s3://acme/web/a"
    """
    assert ["z", "b", "core/a", "web/a"] == [dataset.name for dataset in parse(text).datasets]


def test_relative_paths_are_relative_to_the_root() -> None:
    """Sources without a scheme and `cache_dir` don't depend on the working directory; a last slash stays."""
    text = """
    cache_dir = "data/cache"
    datasets.one.source = "remote/one.csv"
    datasets.all.source = "remote/all/"
    datasets.absolute.source = "/mnt/x"
    datasets.home.source = "~/x"
    datasets.uri.source = "file:///mnt/y"
    """
    found = parse(text)
    sources = [dataset.source for dataset in found.datasets]
    assert ["/p/remote/one.csv", "/p/remote/all/", "/mnt/x", "~/x", "file:///mnt/y"] == sources
    assert "/p/data/cache" == found.cache_dir


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ("s3://${BUCKET}/x", "s3://acme/x"),
        ("s3://b/$${BUCKET}", "s3://b/${BUCKET}"),
        ("s3://b/$$$$${PORT}", "s3://b/$$9000"),
    ],
)
def test_environment_variables_are_put_into_sources(written: str, source: str) -> None:
    """`${NAME}` is the variable, `$$` a dollar sign."""
    assert source == parse(f"datasets.x.source = '{written}'").datasets[0].source


def test_settings_and_storages_are_read() -> None:
    """`[config]` and `[storage.s3]` are given as they stand, with variables put in."""
    found = parse('[config]\nretries = 2\n[storage.s3]\nendpoint_url = "http://h:${PORT}"\nanonymous = true')
    assert {"retries": 2} == found.config
    assert {"s3": {"endpoint_url": "http://h:9000", "anonymous": True}} == found.storage


def test_a_catalog_may_stand_in_a_table() -> None:
    """In a `pyproject.toml` the catalog is one table, and lines are still the file's."""
    text = "[project]\nname = 'p'\n[tool.datacachalog.datasets.x]\nsource = 's3://acme/x'"
    found = parse(text, ("tool", "datacachalog"))
    assert (["x"], 4) == ([dataset.name for dataset in found.datasets], found.lines["datasets", "x", "source"])


WRONG = {
    "no TOML": ("a = 1\nb = ", 2, "no valid TOML"),
    "no TOML at the end": ('a = """\n\n', 3, "no valid TOML"),
    "a key twice": ("[datasets.x]\nsource = 'a'\n[datasets.x]", 3, "no valid TOML"),
    "unknown key": ("cachedir = 'x'", 1, "cachedir: unknown key: did you mean 'cache_dir'?"),
    "unknown key like no other": ("\nzzz = 1", 2, "zzz: unknown key: the keys here are cache_dir, catalogs, config"),
    "a dataset at the top": ("[x]\nsource = 's'", 1, "x: unknown key: did you mean [datasets.x]?"),
    "unknown key of a dataset": (
        "[datasets.x]\nsource = 's'\nsorce = 's'", 3, "datasets.x.sorce: unknown key: did you mean 'source'?",
    ),
    "code": ("[datasets.x]\nsource = 's'\nreader = 'r'", 3, "datasets.x.reader: unknown key"),
    "no table": ("datasets = 1", 1, "datasets: a table is expected: got 1"),
    "only a source": ("[datasets]\nx = 's3://a/b'", 2, "datasets.x: a dataset is a table: write [datasets.x] and sou"),
    "no source": ("\n[datasets.x]\ntags = []", 2, "datasets.x: a dataset has a source"),
    "source of another type": ("[datasets.x]\nsource = 1", 2, "datasets.x.source: a text is expected: got 1"),
    "empty source": ("[datasets.x]\nsource = ''", 1, "datasets.x: dataset 'x': the source is empty"),
    "a bucket of wildcards": ("[datasets.x]\nsource = 's3://a*/x'", 2, "datasets.x.source: 's3://a*/x' is no"),
    "description of another type": (
        "[datasets.x]\nsource = 's'\ndescription = 1", 3, "datasets.x.description: a text is expected",
    ),
    "tags that are one text": ("[datasets.x]\nsource = 's'\ntags = 'a'", 3, "datasets.x.tags: an array of texts"),
    "a tag that is no text": ("[datasets.x]\nsource = 's'\ntags = [1]", 3, "datasets.x.tags: a text is expected"),
    "max_age that is no number": ("[datasets.x]\nsource = 's'\nmax_age = '1h'", 3, "datasets.x.max_age: "),
    "max_age that is a truth": ("[datasets.x]\nsource = 's'\nmax_age = true", 3, "datasets.x.max_age: a number"),
    "checksum of no form": (
        "[datasets.x]\nsource = 's'\ntags = []\nchecksum = 'abc'", 4, "datasets.x.checksum: dataset 'x': ",
    ),
    "a name that can't be": ("[datasets.' x']\nsource = 's'", 1, 'datasets." x": a dataset'),
    "one name twice": (
        "[datasets.'a/b']\nsource = 's'\n[catalogs.a.datasets.b]\nsource = 's'",
        3,
        "catalogs.a.datasets.b: there is a dataset named 'a/b' already, datasets.\"a/b\"",
    ),
    "a catalog with a slash": ("[catalogs.'a/b'.datasets]", 1, 'catalogs."a/b": a catalog\'s name has no \'/\''),
    "unknown setting": ("[config]\nretrys = 1", 2, "config.retrys: unknown key: did you mean 'retries'?"),
    "a setting out of range": ("[config]\noffline = false\nretries = -1", 3, "config.retries: retries is a whole"),
    "unknown storage": ("[storage.ftp]", 1, "storage.ftp: unknown key: the keys here are s3"),
    "unknown argument": ("[storage.s3]\nendpoint = 'x'", 2, "storage.s3.endpoint: unknown key: did you mean 'endpo"),
    "argument of another type": ("[storage.s3]\nanonymous = 'yes'", 2, "storage.s3.anonymous: true or false"),
    "a variable that isn't set": (
        "[datasets.x]\nsource = 's3://${BUKET}/x'", 2, "the environment variable BUKET is not set: did you mean 'BU",
    ),
    "a variable that is empty": ("[datasets.x]\nsource = 's3://${EMPTY}/x'", 2, "variable EMPTY is empty"),
    "a variable without braces": ("[datasets.x]\nsource = 's3://$BUCKET'", 2, "write ${NAME} for an environment"),
    "a variable with a default": ("[datasets.x]\nsource = 's3://${A:-b}'", 2, "write ${NAME} for an environment"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_its_line(case: str) -> None:
    """An error has the file, the line, the key, and what to write instead."""
    text, line, told = WRONG[case]
    with pytest.raises(CatalogFileError) as caught:
        parse(text)
    assert (Path("/p/datacachalog.toml"), line) == (caught.value.file, caught.value.line)
    assert str(caught.value).startswith(f"/p/datacachalog.toml:{line}: ")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[storage.s3]\nsecret_access_key = 'hunter2'",
        "[storage.s3]\naws_access_key_id = 'hunter2'",
        "[storage.s3]\nsession_token = 'hunter2'",
        "[config]\npassword = 'hunter2'",
        "[storage.s3]\nendpoint_url = 'http://me:hunter2@host'",
        "[datasets.x]\nsource = 'https://me:hunter2@host/x'",
    ],
)
def test_g13_credentials_are_refused_and_not_repeated(text: str) -> None:
    """A catalog file is shared, so what looks like a secret is refused, with the place where it belongs."""
    with pytest.raises(CatalogFileError, match=r"belong into a catalog file.*environment") as caught:
        parse(text)
    assert (2, False) == (caught.value.line, "hunter2" in str(caught.value))


def test_what_is_wrong_in_the_environment_is_not_blamed_on_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that can't be read is an error that names the variable, and no line."""
    monkeypatch.setenv("DATACACHALOG_RETRIES", "many")
    with pytest.raises(ConfigurationError, match="DATACACHALOG_RETRIES") as caught:
        parse("[config]\nrestarts = 1")
    assert not isinstance(caught.value, CatalogFileError)


def test_the_keys_of_s3_are_its_arguments() -> None:
    """Whatever `S3Storage` takes that is neither code nor secret can be said in the file."""
    left_out = {"session", "server_side_encryption"}
    assert {field.name for field in fields(S3Storage)} - left_out == set(S3_KEYS)


def test_the_schema_for_editors_has_the_keys_that_are_read() -> None:
    """What the file may say and what the schema lets an editor offer are the same."""
    schema = json.loads(files("datacachalog").joinpath("schemas/catalog-file.json").read_text(encoding="utf-8"))
    described = {
        "dataset": set(schema["$defs"]["dataset"]["properties"]),
        "config": set(schema["properties"]["config"]["properties"]),
        "s3": set(schema["properties"]["storage"]["properties"]["s3"]["properties"]),
    }
    settings = {field.name for field in fields(CatalogConfig)}
    assert {"dataset": set(DATASET_KEYS), "config": settings, "s3": set(S3_KEYS)} == described


def test_a_project_file_without_the_table_is_no_catalog() -> None:
    """A `pyproject.toml` that is named and has no catalog in it is an error, and no empty catalog."""
    with pytest.raises(CatalogFileError, match=r"no table \[tool\.datacachalog\]"):
        parse("[project]\nname = 'x'", ("tool", "datacachalog"))


def test_what_is_nested_too_deeply_is_an_error_too() -> None:
    """A text that is made to break its reader doesn't."""
    with pytest.raises(CatalogFileError, match=r"nested too deeply|no valid TOML"):
        parse(f"x = {'[' * 100_000}")
