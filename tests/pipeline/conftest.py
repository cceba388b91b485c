"""What the tests of the pipeline share."""

from __future__ import annotations

from ..storage.conftest import quick_clients  # noqa: F401  # a fixture
