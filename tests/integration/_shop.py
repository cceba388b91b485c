"""Which catalog is the browser shown? A shop's, with a dataset of each state."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from datacachalog import Dataset, DatasetStatus, Freshness, ObjectVersion
from datacachalog.cli._page_html import Page, PageEntry, page_html

NOW = datetime.now(UTC)


def hours_ago(hours: float | None) -> datetime | None:
    return None if hours is None else NOW - timedelta(hours=hours)


def entry(name: str, source: str, about: str, tags: str, state: Freshness, **values: Any) -> PageEntry:
    """A dataset as the page knows it; `age` and `cached` are hours."""
    status = DatasetStatus(
        name=name,
        source=source,
        freshness=state,
        path=None,
        size=values.get("size"),
        cached_at=hours_ago(values.get("cached")),
        reason=values.get("reason", ""),
        last_modified=hours_ago(values.get("age")),
    )
    dataset = Dataset(name, source, description=about, tags=tags.split())
    return PageEntry(dataset=dataset, status=status, versions=values.get("versions", ()))


def version(number: int, hours: float) -> ObjectVersion:
    return ObjectVersion(
        version_id=f"3HL4kqtJlcpXroDTDm{number}",
        last_modified=NOW - timedelta(hours=hours),
        etag=None,
        size=800_000 + number,
        is_latest=number == 3,
        is_delete_marker=False,
    )


SHOP = [
    entry(
        "holidays",
        "data/holidays.csv",
        "Public holidays of all countries that we deliver to.",
        "calendar",
        Freshness.FRESH,
        size=640,
        age=9000,
        cached=200,
    ),
    entry(
        "core/customers",
        "s3://acme-data/crm/customers.parquet",
        "One row for each customer that ever bought something.",
        "crm daily",
        Freshness.FRESH,
        size=821_770,
        age=30.5,
        cached=2.1,
        versions=[version(3, 30.5), version(2, 60), version(1, 90)],
    ),
    entry(
        "core/orders",
        "s3://acme-data/orders/2026-*.parquet",
        "All orders of 2026, a file a month.",
        "daily finance",
        Freshness.STALE,
        size=4_165_000,
        age=3.1,
        cached=60,
    ),
    entry(
        "core/prices",
        "s3://acme-data/finance/prices.json",
        "Price list with taxes, Müller's too.",
        "finance",
        Freshness.FRESH,
        size=18_312,
        age=900,
        cached=2.1,
        versions=[version(3, 900)],
    ),
    entry(
        "science/churn-model",
        "s3://acme-models/churn/model.onnx",
        "Who is likely to leave: trained weekly.",
        "model",
        Freshness.MISSING,
        size=5_210_000,
        age=50,
    ),
    entry(
        "science/survey",
        "s3://acme-data/surveys/2025.parquet",
        "Answers of the customer survey of 2025.",
        "crm",
        Freshness.UNKNOWN,
        reason="s3://acme-data/surveys/2025.parquet: 404 Not Found; check the key",
    ),
]


def written(directory: Path, entries: Sequence[PageEntry]) -> str:
    """Write a page, and give its address."""
    setup = "from datacachalog import Catalog\ncatalog = Catalog.discover()"
    file = directory / "catalog.html"
    file.write_bytes(page_html(Page(title="Acme shop", entries=entries, made_at=NOW, setup=setup)).encode())
    return file.as_uri()
