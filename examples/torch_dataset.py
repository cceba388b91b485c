"""How do the workers of a DataLoader share a catalog? It is pickled to each of them.

    $ python examples/torch_dataset.py
    120 samples of 12 files, read by 2 processes, add up to 7140
    12 downloads

`Scans` is what PyTorch calls a map-style dataset: derive it from `torch.utils.data.Dataset`,
and give it to `DataLoader(scans, num_workers=2, multiprocessing_context="spawn")`. The pool
below stands for that, so that the example needs no PyTorch.
"""

from __future__ import annotations

import multiprocessing
from functools import cached_property
from pathlib import Path

from _bucket import example_bucket
from datacachalog import Catalog, Dataset

DATASETS = [Dataset("scans", "s3://acme-data/scans/*.txt", description="Ten samples a file.")]
SAMPLES_A_FILE = 10


class Scans:
    """Samples by their number. It pickles, as a catalog carries its settings only."""

    def __init__(self, catalog: Catalog, *, file_count: int) -> None:
        self._catalog = catalog
        self._file_count = file_count

    def __len__(self) -> int:
        return self._file_count * SAMPLES_A_FILE

    def __getitem__(self, index: int) -> float:
        file, line = divmod(index, SAMPLES_A_FILE)
        return float(self._paths[file].read_text().splitlines()[line])

    @cached_property
    def _paths(self) -> list[Path]:
        # Once in each worker, at its first sample. Each file is downloaded by one of them.
        return self._catalog.fetch_files("scans")


# -- in the place of a DataLoader --------------------------------------------------------------


class Worker:
    """What a worker process has."""

    dataset: Scans


def start_worker(dataset: Scans) -> None:
    """Take the dataset, which was pickled on the way here."""
    Worker.dataset = dataset


def sample(index: int) -> float:
    """Give one sample, in a worker process."""
    return Worker.dataset[index]


def load(dataset: Scans, *, workers: int) -> list[float]:
    """Load all samples, as `list(DataLoader(dataset, num_workers=workers))` does."""
    with multiprocessing.get_context("spawn").Pool(workers, start_worker, [dataset]) as pool:
        return list(pool.imap(sample, range(len(dataset))))


if __name__ == "__main__":
    with example_bucket() as bucket:
        for number in range(12):
            lines = range(number * SAMPLES_A_FILE, (number + 1) * SAMPLES_A_FILE)
            bucket.write(f"scans/{number:02}.txt", "".join(f"{line}\n" for line in lines))
        # Workers hold their paths for long: the cache has no bounds, so nothing is evicted.
        catalog = Catalog(DATASETS, cache_dir=bucket.cache_dir, progress=False)
        samples = load(Scans(catalog, file_count=12), workers=2)
        total = f"{len(samples)} samples of 12 files"
        print(f"{total}, read by 2 processes, add up to {sum(samples):g}")
        print(f"{bucket.count_downloads()} downloads")
