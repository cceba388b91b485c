"""How do the storages' contracts put objects into the gateway, and take them away?"""

from __future__ import annotations

import pytest
from anyio import to_thread

from datacachalog.testing.contracts import Delete, Seed

from ._bucket import Bucket


class GatewayObjects:
    """The fixtures that a contract needs, over the test's own bucket; goes before the contract among the bases."""

    @pytest.fixture
    def seed(self, bucket: Bucket) -> Seed:
        async def seed(key: str, data: bytes) -> str:
            await to_thread.run_sync(bucket.put, key, data)
            return bucket.uri(key)

        return seed

    @pytest.fixture
    def delete(self, bucket: Bucket) -> Delete:
        async def delete(uri: str) -> None:
            await to_thread.run_sync(bucket.delete, uri.removeprefix(bucket.uri("")))

        return delete
