"""Which catalog does `discover()` make, and what goes before what?"""

from __future__ import annotations

from pathlib import Path

import pytest

from datacachalog import (
    AsyncCatalog,
    Catalog,
    CatalogConfig,
    CatalogFileError,
    ConfigurationError,
    FileCache,
    FilesystemStorage,
    RouterStorage,
    S3Storage,
)
from datacachalog._discovered import catalog_arguments
from datacachalog._discovery import find_project, read_catalog_file


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one dataset, in the working directory."""
    root = tmp_path / "project"
    (root / "remote").mkdir(parents=True)
    (root / "remote" / "one.txt").write_text("one")
    write(root, "")
    monkeypatch.chdir(root)
    return root


def write(root: Path, text: str) -> None:
    (root / "datacachalog.toml").write_text(f"{text}\n[datasets.one]\nsource = 'remote/one.txt'\n")


def arguments(**overrides: object) -> dict[str, object]:
    return catalog_arguments(read_catalog_file(find_project()), overrides)


def test_the_catalog_of_the_project_fetches(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From any directory, `Catalog.discover` gives the catalog that the file describes."""
    write(project, "cache_dir = 'cache'")
    monkeypatch.chdir(project / "remote")
    with Catalog.discover(progress=False) as catalog:
        path = catalog.fetch("one")
    assert ("one", True) == (path.read_text(), path.is_relative_to(project / "cache"))


async def test_both_catalogs_can_be_discovered(project: Path) -> None:
    """`AsyncCatalog.discover` works inside a running loop, and both give their own kind."""
    async with AsyncCatalog.discover(project, cache_dir=project / "cache", progress=False) as catalog:
        assert "one" == (await catalog.fetch("one")).read_text()
    assert (AsyncCatalog, Catalog) == (type(catalog), type(Catalog.discover(project)))


def test_argument_goes_before_environment_before_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting comes from the first of the three that has it."""
    write(project, "cache_dir = 'cache'\n[config]\nretries = 1\nrestarts = 1\npart_bytes = 2048")
    monkeypatch.setenv("DATACACHALOG_RETRIES", "2")
    monkeypatch.setenv("DATACACHALOG_RESTARTS", "2")
    config = CatalogConfig(retries=3, restarts=2, part_bytes=2048)
    assert (config, str(project / "cache")) == ((found := arguments(retries=3))["config"], found["cache_dir"])
    monkeypatch.setenv("DATACACHALOG_CACHE_DIR", "/env")
    assert ("/env", "/argument") == (arguments()["cache_dir"], arguments(cache_dir="/argument")["cache_dir"])


def test_a_config_that_is_given_is_the_whole_config(project: Path) -> None:
    """`config=` replaces the file's settings, and single ones go before it."""
    write(project, "[config]\nretries = 1\nrestarts = 1")
    assert CatalogConfig(retries=7) == arguments(config=CatalogConfig(retries=2), retries=7)["config"]


def test_a_cache_that_is_given_has_its_own_directory(project: Path) -> None:
    """With `cache=`, neither file nor environment names a directory."""
    write(project, "cache_dir = 'cache'")
    cache = FileCache(project / "own")
    assert {"cache": cache} == {k: v for k, v in arguments(cache=cache).items() if k.startswith("cache")}
    Catalog.discover(cache=cache)


def test_the_storage_is_the_files(project: Path) -> None:
    """`[storage.s3]` makes an `S3Storage`; other sources keep theirs. Without it, nothing is decided."""
    assert "storage" not in arguments()
    write(project, "[storage.s3]\nendpoint_url = 'http://localhost:9000'\naddressing_style = 'path'")
    s3 = S3Storage(endpoint_url="http://localhost:9000", addressing_style="path")
    assert RouterStorage({**RouterStorage().storages, "s3": s3}) == arguments()["storage"]
    assert FilesystemStorage() == arguments(storage=FilesystemStorage())["storage"]


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("AWS_ENDPOINT_URL_S3", S3Storage(region="r", profile="p")),
        ("AWS_ENDPOINT_URL", S3Storage(region="r", profile="p")),
        ("AWS_DEFAULT_REGION", S3Storage(endpoint_url="http://file", profile="p")),
        ("AWS_PROFILE", S3Storage(endpoint_url="http://file", region="r")),
        ("AWS_ACCESS_KEY_ID", S3Storage(endpoint_url="http://file", region="r")),
    ],
)
def test_botocores_environment_goes_before_the_file(
    project: Path, monkeypatch: pytest.MonkeyPatch, variable: str, expected: S3Storage
) -> None:
    """What botocore reads from the environment is left to it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv(variable, "x")
    write(project, "[storage.s3]\nendpoint_url = 'http://file'\nregion = 'r'\nprofile = 'p'")
    assert expected == arguments()["storage"].storages["s3"]


def test_a_storage_that_contradicts_itself_is_an_error_of_the_file(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `S3Storage` refuses is said with file and line."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    write(project, "[storage.s3]\nanonymous = true\nprofile = 'p'")
    with pytest.raises(CatalogFileError, match=r"datacachalog\.toml:1: storage\.s3: .*profile"):
        Catalog.discover()


@pytest.mark.parametrize("name", ["datasets", "retry"])
def test_an_override_that_there_is_not_is_refused(project: Path, name: str) -> None:
    """A misspelt override is an error that lists the arguments."""
    with pytest.raises(ConfigurationError, match=rf"cache_dir.*{name}"):
        Catalog.discover(**{name: 1})
