"""What the tests of the storages share."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user of this machine may enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session", autouse=True)
def quick_clients() -> Iterator[None]:
    """Read botocore's models once for all tests, and keep them out of the collector's way: a client in milliseconds."""
    from botocore import session
    from botocore.loaders import create_loader

    loader = create_loader()
    loader.load_service_model("s3", "service-2")
    gc.collect()
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "create_loader", lambda *_: loader)
        yield
    gc.unfreeze()
