"""What do `import datacachalog` and `catalog list` cost? Whole processes, in turn with a bare Python, medians."""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 30
STATEMENTS = {
    "bare Python": "pass",
    "import datacachalog": "import datacachalog",
    "… and a value of it": "from datacachalog import Dataset; Dataset('a', 's3://bucket/a')",
    "… and the sync catalog": "from datacachalog import Catalog",
    "catalog list": "from datacachalog.cli import main; import sys; sys.argv[1:] = ['list']; main()",
}


def seconds_of(statement: str, directory: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], cwd=directory, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "datacachalog.toml").write_text(
            "datasets.customers.source = 's3://acme-data/customers.csv'\n"
        )
        measure(directory)


def measure(directory: str) -> None:
    for statement in STATEMENTS.values():
        seconds_of(statement, directory)  # the first one compiles and warms the file cache
    times: dict[str, list[float]] = {label: [] for label in STATEMENTS}
    for _ in range(ROUNDS):
        for label, statement in STATEMENTS.items():
            times[label].append(seconds_of(statement, directory))
    floor = statistics.median(times["bare Python"])
    print(f"whole processes, milliseconds, medians of {ROUNDS} in turn, Python {platform.python_version()}")
    for label, values in times.items():
        median = statistics.median(values)
        print(f"{label:<24} {median * 1e3:6.1f}   {(median - floor) * 1e3:+6.1f}   lowest {min(values) * 1e3:6.1f}")


if __name__ == "__main__":
    main()
