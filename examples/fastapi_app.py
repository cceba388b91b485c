"""How does a web service get its data? All of it before it answers, and news while it runs.

    $ python examples/fastapi_app.py
    $ curl http://127.0.0.1:8000/customers/2
    {"id":"2","name":"Grace"}

The port is another one with `PORT=8080`, or any free one with `PORT=0`. Ctrl-C ends it.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import uvicorn
from fastapi import FastAPI, HTTPException

from _bucket import example_bucket
from datacachalog import AsyncCatalog, Dataset

Rows = dict[str, dict[str, str]]


def rows_by_id(path: Path) -> Rows:
    """Read a CSV file; the catalog calls this in a worker thread."""
    with path.open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


DATASETS = [
    # At most once in ten seconds a request asks S3 whether there is a newer version.
    Dataset("customers", "s3://acme-data/crm/customers.csv", reader=rows_by_id, max_age=10),
    Dataset("prices", "s3://acme-data/prices.json"),
]


def make_app(catalog: AsyncCatalog) -> FastAPI:
    """Make the application, which fetches everything, serves, and closes the catalog."""
    app = FastAPI(title="Customers", lifespan=catalog.lifespan)

    @app.get("/customers/{customer_id}")
    async def customer(customer_id: str) -> dict[str, str]:
        rows: Rows = await catalog.load("customers")
        if customer_id not in rows:
            raise HTTPException(404, f"no customer {customer_id}")
        return rows[customer_id]

    @app.get("/data")
    async def data() -> dict[str, str]:
        return {status.name: status.freshness.value for status in await catalog.status()}

    return app


if __name__ == "__main__":
    with example_bucket() as bucket:
        app = make_app(AsyncCatalog(DATASETS, cache_dir=bucket.cache_dir))
        uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
