"""How does a script get its data? By name, as paths; what hasn't changed is not downloaded.

    $ python examples/script.py
    the best customer is Edsger, who spent 80
    again: 0 bytes downloaded
    there are new orders: 26 bytes downloaded
    the best customer is Grace, who spent 152

In a project, `Catalog.discover()` takes the datasets from its `datacachalog.toml` instead.
"""

from __future__ import annotations

import csv
from collections import Counter

from _bucket import example_bucket
from datacachalog import Catalog, Dataset

DATASETS = [
    Dataset(
        "customers", "s3://acme-data/crm/customers.csv", description="Who bought something."
    ),
    Dataset("orders", "s3://acme-data/orders/*.csv", description="A file a month."),
]


def main() -> None:
    """Fetch, fetch again, and fetch what is new."""
    with example_bucket() as bucket, Catalog(DATASETS, cache_dir=bucket.cache_dir) as catalog:
        print_best_customer(catalog)

        report = catalog.fetch_all()
        print(f"again: {report.bytes_downloaded} bytes downloaded")

        bucket.write("orders/2026-03.csv", "id,customer,total\n5,2,100\n")
        report = catalog.fetch_all()
        print(f"there are new orders: {report.bytes_downloaded} bytes downloaded")
        print_best_customer(catalog)


def print_best_customer(catalog: Catalog) -> None:
    """Read two datasets, one of them of several files."""
    with catalog.fetch("customers").open(newline="") as file:
        names = {row["id"]: row["name"] for row in csv.DictReader(file)}
    spent = Counter[str]()
    for path in catalog.fetch_files("orders"):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                spent[names[row["customer"]]] += int(row["total"])
    [(name, total)] = spent.most_common(1)
    print(f"the best customer is {name}, who spent {total}")


if __name__ == "__main__":
    main()
