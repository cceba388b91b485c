"""What is a contender told, and what does it tell? A JSON file in, a last line of JSON out.

It imports next to nothing: the whole process is measured.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any


def job() -> Any:
    """Give the job: `endpoint` (None: Amazon's), `bucket`, `keys`, `size` of each, `target` directory, `warm` key.

    `warm` is None where the whole process is measured. Where only the call is, it names an object to ask for first, so
    that libraries are imported and clients started before the call.
    """
    with open(sys.argv[1]) as file:
        return SimpleNamespace(**json.load(file))


def path_of(target: str, key: str) -> str:
    """Give the file that a contender writes an object to."""
    return os.path.join(target, key.rpartition("/")[2])


@contextmanager
def call() -> Iterator[None]:
    """Time the call, and print it."""
    begin = time.perf_counter()
    yield
    print(json.dumps({"call_seconds": time.perf_counter() - begin}), flush=True)
