"""What must an adapter do? Suites to inherit in your own tests; they need pytest, with the plugin that anyio brings.

::

    from datacachalog.testing.contracts import StorageContract

    class TestMyStorage(StorageContract):
        @pytest.fixture
        def storage(self): ...

        @pytest.fixture
        def seed(self, storage): ...

        @pytest.fixture
        def delete(self, storage): ...

A storage that can be written inherits `WritableStorageContract` instead, one that can't list `ReadableStorageContract`.

Every test's docstring is the rule that it checks.
"""

from __future__ import annotations

import pytest

# So that a failed assertion shows both sides in your own test run; it must come before the modules are imported.
pytest.register_assert_rewrite(
    f"{__name__}._storage", f"{__name__}._cache", f"{__name__}._versions", f"{__name__}._writing"
)

from ._cache import CacheContract  # noqa: E402  # the reason above
from ._storage import (  # noqa: E402  # the reason above
    Delete,
    PicklableStorageContract,
    ReadableStorageContract,
    Seed,
    SeekableListingContract,
    StorageContract,
)
from ._versions import VersionedStorageContract  # noqa: E402  # the reason above
from ._writing import WritableStorageContract  # noqa: E402  # the reason above

__all__ = [
    "CacheContract",
    "Delete",
    "PicklableStorageContract",
    "ReadableStorageContract",
    "Seed",
    "SeekableListingContract",
    "StorageContract",
    "VersionedStorageContract",
    "WritableStorageContract",
]
