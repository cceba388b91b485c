"""What lies in the demo's bucket? A small shop's data: twelve datasets of 1 KB to 40 MB, the same bytes in every run.

Everything is made of seeded random columns by pyarrow, which takes well under a second for all of it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

CUSTOMERS = 25_000
"""How many rows the customer file begins with."""

_EPOCH_MS = 1_767_225_600_000  # 2026-01-01T00:00Z
_DAY_MS = 86_400_000

_COUNTRIES = (
    ("AT", "Austria", "Vienna", "EUR"),
    ("BR", "Brazil", "Brasília", "BRL"),
    ("CA", "Canada", "Ottawa", "CAD"),
    ("CH", "Switzerland", "Bern", "CHF"),
    ("DE", "Germany", "Berlin", "EUR"),
    ("DK", "Denmark", "Copenhagen", "DKK"),
    ("ES", "Spain", "Madrid", "EUR"),
    ("FR", "France", "Paris", "EUR"),
    ("GB", "United Kingdom", "London", "GBP"),
    ("IN", "India", "New Delhi", "INR"),
    ("IT", "Italy", "Rome", "EUR"),
    ("JP", "Japan", "Tokyo", "JPY"),
    ("NO", "Norway", "Oslo", "NOK"),
    ("PL", "Poland", "Warsaw", "PLN"),
    ("PT", "Portugal", "Lisbon", "EUR"),
    ("US", "United States", "Washington", "USD"),
)
_CURRENCIES = tuple(sorted({currency for *_, currency in _COUNTRIES} - {"EUR"}))
_FIRST_NAMES = (
    "Ada",
    "Alan",
    "Barbara",
    "Chen",
    "Edsger",
    "Frances",
    "Grace",
    "Jean",
    "Katherine",
    "Lynn",
    "Tim",
    "Yuki",
)
_LAST_NAMES = (
    "Almeida",
    "Berg",
    "Costa",
    "Dahl",
    "Eriksen",
    "Fischer",
    "Garcia",
    "Ito",
    "Kumar",
    "Moreau",
    "Novak",
    "Smith",
)
_MATERIALS = ("Oak", "Steel", "Linen", "Glass", "Cork", "Wool", "Bamboo", "Copper")
_THINGS = ("desk", "lamp", "chair", "shelf", "vase", "rug", "bowl", "clock", "mirror", "tray")
_PAGES = ("/", "/search", "/basket", "/checkout", "/account", "/sale", "/help")
_SUBJECTS = ("Where is my parcel?", "One part is missing", "I want to send it back", "Invoice, please", "Thank you!")


@dataclass(frozen=True, slots=True)
class DemoDataset:
    """A dataset, and the objects behind it.

    Args:
        name: the dataset's.
        source: its key, glob or prefix in the bucket.
        objects: key → content.
    """

    name: str
    source: str
    objects: dict[str, bytes]


def make_datasets() -> Iterator[DemoDataset]:
    """Make the datasets one after the other."""
    yield _single("countries", "reference/countries.json", _countries())
    yield _single("currencies", "reference/currencies.csv", _currencies())
    yield _single("exchange_rates", "reference/exchange_rates.csv", _exchange_rates())
    yield _single("customers", "crm/customers.csv", customers(CUSTOMERS))
    yield _single("tickets", "crm/tickets.jsonl", _tickets())
    yield _single("products", "shop/products.parquet", _products())
    yield _single("stores", "shop/stores.json", _stores())
    yield _single("orders", "shop/orders.parquet", _orders())
    yield _single("order_items", "shop/order_items.parquet", _order_items())
    yield _single("clicks", "web/clicks.jsonl", _clicks())
    yield _single("forecast", "models/forecast.parquet", _forecast())
    months = {f"sensors/2026-{month:02}.parquet": _sensors(month) for month in range(1, 5)}
    yield DemoDataset("sensors", "sensors/*.parquet", months)


def customers(count: int) -> bytes:
    """Make the customer file with that many rows; a longer one begins with the rows of a shorter one."""
    names = _joined(_choice(_FIRST_NAMES, count, 11), " ", _choice(_LAST_NAMES, count, 12))
    table = {
        "customer_id": _numbers(count, start=1),
        "name": names,
        "email": _joined(pc.replace_substring(pc.utf8_lower(names), " ", "."), "@example.com"),
        "country": _choice([code for code, *_ in _COUNTRIES], count, 13),
        "since": _days(count, -2000, 0, 14),
    }
    return _csv(table)


def _countries() -> bytes:
    rows = [{"code": c, "name": n, "capital": t, "currency": m} for c, n, t, m in _COUNTRIES]
    return json.dumps(rows, indent=1, ensure_ascii=False).encode()


def _currencies() -> bytes:
    months = [f"2025-{month:02}" for month in range(1, 13)]
    columns: dict[str, Any] = {
        "month": pa.array([month for month in months for _ in _CURRENCIES]),
        "currency": pa.array([currency for _ in months for currency in _CURRENCIES]),
        "mean_per_euro": pc.round(_uniform(len(months) * len(_CURRENCIES), 0.5, 12.0, 21), 4),
    }
    return _csv(columns)


def _exchange_rates() -> bytes:
    count = 12_000
    return _csv(
        {
            "date": _days(count, -1100, 0, 31),
            "currency": _choice(_CURRENCIES, count, 32),
            "per_euro": pc.round(_uniform(count, 0.5, 12.0, 33), 5),
        }
    )


def _tickets() -> bytes:
    count = 6_000
    return _json_lines(
        {
            "ticket_id": _numbers(count, start=1),
            "customer_id": _whole(count, 1, CUSTOMERS, 41),
            "minutes_open": _whole(count, 1, 9_000, 42),
            "subject": _choice(_SUBJECTS, count, 43),
        }
    )


def _products() -> bytes:
    count = 8_000
    return _parquet(
        {
            "product_id": _numbers(count, start=1),
            "name": _joined(_choice(_MATERIALS, count, 51), " ", _choice(_THINGS, count, 52)),
            "price": pc.round(_uniform(count, 3.0, 900.0, 53), 2),
            "weight_kg": pc.round(_uniform(count, 0.1, 40.0, 54), 2),
        }
    )


def _stores() -> bytes:
    places = zip(_uniform(120, -90, 90, 61).to_pylist(), _uniform(120, -180, 180, 62).to_pylist(), strict=True)
    rows = [
        {"store_id": i, "country": _COUNTRIES[i % len(_COUNTRIES)][0], "lat": round(lat, 4), "lon": round(lon, 4)}
        for i, (lat, lon) in enumerate(places, 1)
    ]
    return json.dumps(rows, indent=1).encode()


def _orders() -> bytes:
    count = 300_000
    return _parquet(
        {
            "order_id": _numbers(count, start=1),
            "customer_id": _whole(count, 1, CUSTOMERS, 71),
            "ordered_at": _moments(count, -365, 0, 72),
            "total": pc.round(_uniform(count, 5.0, 2_500.0, 73), 2),
            "country": _choice([code for code, *_ in _COUNTRIES], count, 74),
        }
    )


def _order_items() -> bytes:
    count = 1_650_000
    return _parquet(
        {
            "order_id": _whole(count, 1, 300_000, 81),
            "product_id": _whole(count, 1, 8_000, 82),
            "price": _uniform(count, 3.0, 900.0, 83),
        }
    )


def _clicks() -> bytes:
    count = 60_000
    return _json_lines(
        {
            "at_ms": pc.cast(_moments(count, -7, 0, 91), pa.int64()),
            "customer_id": _whole(count, 1, CUSTOMERS, 92),
            "milliseconds": _whole(count, 4, 900, 93),
            "page": _choice(_PAGES, count, 94),
        }
    )


def _forecast() -> bytes:
    count = 120_000
    return _parquet(
        {
            "product_id": _whole(count, 1, 8_000, 101),
            "week": _whole(count, 1, 52, 102),
            "expected_units": _uniform(count, 0.0, 80.0, 103),
        }
    )


def _sensors(month: int) -> bytes:
    count = 130_000
    return _parquet(
        {
            "sensor_id": _whole(count, 1, 64, month * 1000 + 1),
            "at": _moments(count, 30 * (month - 1), 30 * month, month * 1000 + 2),
            "celsius": _uniform(count, -12.0, 34.0, month * 1000 + 3),
        }
    )


# -- columns and formats ----------------------------------------------------------------------------------------------


def _single(name: str, key: str, content: bytes) -> DemoDataset:
    return DemoDataset(name, key, {key: content})


def _numbers(count: int, *, start: int) -> Any:
    return pa.array(range(start, start + count), pa.int64())


def _uniform(count: int, low: float, high: float, seed: int) -> Any:
    return pc.add(pc.multiply(pc.random(count, initializer=seed), high - low), low)


def _whole(count: int, first: int, last: int, seed: int) -> Any:
    return pc.cast(pc.floor(_uniform(count, first, last + 1, seed)), pa.int64())


def _choice(words: Sequence[str], count: int, seed: int) -> Any:
    return pa.array(words).take(_whole(count, 0, len(words) - 1, seed))


def _moments(count: int, first_day: int, last_day: int, seed: int) -> Any:
    first, last = _EPOCH_MS + first_day * _DAY_MS, _EPOCH_MS + last_day * _DAY_MS
    return pc.cast(_whole(count, first, last - 1, seed), pa.timestamp("ms"))


def _days(count: int, first_day: int, last_day: int, seed: int) -> Any:
    return pc.cast(pc.floor_temporal(_moments(count, first_day, last_day, seed), unit="day"), pa.date32())


def _joined(*parts: Any) -> Any:
    return pc.binary_join_element_wise(*parts, "")


def _parquet(columns: dict[str, Any]) -> bytes:
    output = io.BytesIO()
    pq.write_table(pa.table(columns), output, compression="none", use_dictionary=False)
    return output.getvalue()


def _csv(columns: dict[str, Any]) -> bytes:
    output = io.BytesIO()
    output.write(f"{','.join(columns)}\n".encode())  # pyarrow would put the names in quotes
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    pyarrow.csv.write_csv(pa.table(columns), output, options)
    return output.getvalue()


def _json_lines(columns: dict[str, Any]) -> bytes:
    """Write numbers, and texts that need no escape, as one JSON object a line."""
    parts: list[Any] = []
    for position, (name, column) in enumerate(columns.items()):
        quote = '"' if pa.types.is_string(column.type) else ""
        parts += [f'{", " if position else "{"}"{name}": {quote}', pc.cast(column, pa.string()), quote]
    lines = _joined(*parts, "}\n")
    return b"".join(text.encode() for text in lines.to_pylist())
