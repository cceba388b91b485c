"""How does a scheduled flow use a catalog? Tasks with retries fetch, compute and push.

    $ python examples/flow.py
    06:00
      orders is downloaded
      fetch_inputs is tried again: rates could not be fetched: ObjectNotFoundError
      orders is revalidated
      the flow has failed: rates could not be fetched: ObjectNotFoundError
    07:00, the rates have come
      orders is revalidated
      rates is downloaded
      30 bytes were pushed to s3://acme-data/reports/spending.csv

`task` stands for what Prefect, Airflow or Dagster gives you: the catalog needs none of them.
"""

from __future__ import annotations

import csv
import functools
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from _bucket import example_bucket
from datacachalog import Catalog, Dataset, FetchReport

P = ParamSpec("P")
R = TypeVar("R")

DATASETS = [
    Dataset("orders", "s3://acme-data/orders/*.csv"),
    Dataset("rates", "s3://acme-data/rates.json", description="Comes late on some mornings."),
    Dataset(
        "spending", "s3://acme-data/reports/spending.csv", description="What this flow makes."
    ),
]


class InputsMissingError(Exception):
    """Some inputs could not be fetched."""


def task(
    *, retries: int, retry_delay_seconds: float
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Try a function again when it fails."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def tried(*args: P.args, **kwargs: P.kwargs) -> R:
            for _ in range(retries):
                try:
                    return function(*args, **kwargs)
                except Exception as error:  # noqa: BLE001  # whatever a task raises
                    print(f"  {function.__name__} is tried again: {error}")
                    time.sleep(retry_delay_seconds)
            return function(*args, **kwargs)

        return tried

    return decorate


@task(retries=1, retry_delay_seconds=0.1)
def fetch_inputs(catalog: Catalog) -> FetchReport:
    """Fetch what can be fetched. What is there isn't downloaded again by the next try."""
    report = catalog.fetch_all(["orders", "rates"], on_error="collect")
    for name, result in report.items():
        print(f"  {name} is {result.action}")
    if report.errors:
        faults = [
            f"{name} could not be fetched: {type(error).__name__}"
            for name, error in report.errors.items()
        ]
        raise InputsMissingError(", ".join(faults))
    return report


@task(retries=2, retry_delay_seconds=0.1)
def push_result(catalog: Catalog, path: Path) -> None:
    """Write the result to S3; a newer one of somebody else's is never overwritten."""
    written = catalog.push("spending", path)
    print(f"  {written.size} bytes were pushed to {catalog.get_dataset('spending').source}")


def compute_spending(inputs: FetchReport, path: Path) -> None:
    """Sum up the orders of each customer, in euros."""
    euros = json.loads(inputs["rates"].path.read_text())["EUR"]
    spent = Counter[str]()
    for orders in inputs["orders"].paths:
        with orders.open(newline="") as file:
            for row in csv.DictReader(file):
                spent[row["customer"]] += int(row["total"])
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["customer", "euros"])
        writer.writerows(
            (customer, round(total * euros)) for customer, total in sorted(spent.items())
        )


def flow(catalog: Catalog) -> None:
    """Do it all, in a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        result = Path(directory, "spending.csv")
        try:
            compute_spending(fetch_inputs(catalog), result)
            push_result(catalog, result)
        except InputsMissingError as error:
            print(f"  the flow has failed: {error}")


if __name__ == "__main__":
    with example_bucket() as bucket, Catalog(DATASETS, cache_dir=bucket.cache_dir) as catalog:
        print("06:00")
        flow(catalog)
        bucket.write("rates.json", '{"EUR": 0.9}\n')
        print("07:00, the rates have come")
        flow(catalog)
