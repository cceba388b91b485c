"""Where do the examples' data come from? From an S3 server in this process.

Your own programs have nothing of this. There `Catalog(datasets)` finds your S3, and its
credentials, by these environment variables or by profiles and roles, as every AWS tool does.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datacachalog.testing import FaultServer

OBJECTS = {
    "crm/customers.csv": "id,name\n1,Ada\n2,Grace\n3,Edsger\n",
    "orders/2026-01.csv": "id,customer,total\n1,2,40\n2,1,15\n",
    "orders/2026-02.csv": "id,customer,total\n3,2,12\n4,3,80\n",
    "prices.json": '{"desk": 400, "lamp": 35}\n',
}


@dataclass(frozen=True, slots=True)
class Bucket:
    """The bucket `acme-data`, and an empty directory for a cache of it."""

    server: FaultServer
    cache_dir: Path

    def write(self, key: str, text: str) -> None:
        """Write an object, as somebody else would."""
        self.server.put("acme-data", key, text.encode())

    def count_downloads(self) -> int:
        """Count the answers that brought bytes of objects."""
        return sum(
            r.operation == "GetObject" and r.status in (200, 206) for r in self.server.requests
        )


@contextmanager
def example_bucket() -> Iterator[Bucket]:
    """Start the server, lead this process and its children there, and clean up at the end."""
    environment = dict(os.environ)
    with FaultServer() as server, tempfile.TemporaryDirectory() as directory:
        bucket = Bucket(server, Path(directory, "cache"))
        for key, text in OBJECTS.items():
            bucket.write(key, text)
        for name in environment:
            if name.startswith(("AWS_", "DATACACHALOG_")) or name.lower().endswith("_proxy"):
                del os.environ[name]
        os.environ |= {
            "AWS_ENDPOINT_URL_S3": server.endpoint_url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "any",  # it looks at no signature
            "AWS_SECRET_ACCESS_KEY": "any",
        }
        try:
            yield bucket
        finally:
            os.environ.clear()
            os.environ.update(environment)
