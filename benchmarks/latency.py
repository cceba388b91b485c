"""What does distance cost? 500 small objects from servers that are more and more milliseconds away."""

from __future__ import annotations

from _contenders import CONTENDERS, FAR_SMALL
from _downloads import Work, compare
from _servers import LATENCIES_MS

WORKS = {f"latency-{ms}": Work(f"latency-{ms}", 500, 16 * 1024, 3, FAR_SMALL) for ms in LATENCIES_MS}

if __name__ == "__main__":
    compare("latency", WORKS, [name for name in CONTENDERS if name not in ("boto3", "boto3-crt")])
