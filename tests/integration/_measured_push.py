"""How much memory does one push take? A process of its own, as a script would be: ENDPOINT SOURCE CACHE_DIR FILE.

Prints JSON: the process's peak resident bytes before the push and after it, and the push's requests and seconds.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from datacachalog import Catalog, Dataset, S3Storage


def peak_resident_bytes() -> int:
    # Not getrusage: its maximum also counts what the parent had in memory before this program was executed.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def main(endpoint_url: str, source: str, cache_dir: str, path: str) -> None:
    storage = S3Storage(endpoint_url=endpoint_url, region="us-east-1")
    with Catalog([Dataset("large", source)], cache_dir=cache_dir, storage=storage, progress=False) as catalog:
        before = peak_resident_bytes()
        report = catalog.push_all({"large": path})
    figures = {"before": before, "after": peak_resident_bytes(), "requests": report.requests, "seconds": report.seconds}
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
