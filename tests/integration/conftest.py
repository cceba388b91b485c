"""What every test here starts from: a real gateway, a real browser, and a place for what is measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datacachalog import S3Storage

from ._bucket import Bucket, new_bucket
from ._chromium import Chromium, running_chromium
from ._chromium import missing_packages as missing_browser
from ._clouds import no_settings_of_the_machine
from ._emulators import running_azurite, running_fake_gcs
from ._rgw import Gateway, missing_packages, running_gateway

_HERE = Path(__file__).parent
_FIGURES = pytest.StashKey[dict[str, str]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == _HERE:
            item.add_marker(pytest.mark.integration)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if figures := config.stash.get(_FIGURES, {}):
        terminalreporter.section("measured against Ceph RGW")
        width = max(map(len, figures))
        for what, figure in figures.items():
            terminalreporter.write_line(f"{what:<{width}}  {figure}")


@pytest.fixture(scope="session")
def note_figure(pytestconfig: pytest.Config) -> Callable[[str, str], None]:
    """Have a figure printed at the end of the run."""
    return pytestconfig.stash.setdefault(_FIGURES, {}).__setitem__


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    """A gateway for the whole run, whose user's credentials are the environment's."""
    if missing := missing_packages():
        text = f"the gateway needs the Debian packages {' '.join(missing)}: apt-get install --no-install-recommends …"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    with pytest.MonkeyPatch.context() as environment, running_gateway() as gateway:
        for name in list(os.environ):
            if name.startswith(("AWS_", "DATACACHALOG_")) or name.lower().endswith("_proxy"):
                environment.delenv(name)
        environment.setenv("AWS_CONFIG_FILE", os.devnull)
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        environment.setenv("AWS_ACCESS_KEY_ID", gateway.access_key)
        environment.setenv("AWS_SECRET_ACCESS_KEY", gateway.secret_key)
        yield gateway


@pytest.fixture
def bucket(gateway: Gateway) -> Iterator[Bucket]:
    """A bucket of the test's own."""
    with new_bucket(gateway) as bucket:
        yield bucket


@pytest.fixture(scope="session")
def storage(gateway: Gateway) -> S3Storage:
    return S3Storage(endpoint_url=gateway.endpoint_url, region="us-east-1")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """A browser for the whole run."""
    if missing := missing_browser():
        text = f"the browser needs the Debian packages {' '.join(missing)}: apt-get install --no-install-recommends …"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    with running_chromium() as chromium:
        yield chromium


@pytest.fixture(scope="session")
def google(obstore_is_up: None) -> Iterator[str]:
    """The address of a store that speaks Google's API."""
    with no_settings_of_the_machine(), running_fake_gcs() as url:
        yield url


@pytest.fixture(scope="session")
def azurite(obstore_is_up: None) -> Iterator[str]:
    """The address of an account in a store that speaks Azure's API."""
    with no_settings_of_the_machine(), running_azurite() as url:
        yield url
