"""What does one need to test code that uses datacachalog, or an adapter written for it?

- `MemoryStorage`: a storage in memory for your own tests, with a record of the requests.
- `FaultyStorage`: any storage, in which things go wrong as scripted.
- `FaultServer`: an S3 server on a real socket that misbehaves as scripted.
- `datacachalog.testing.contracts`: test suites that the author of a storage or a cache inherits. They need pytest,
  and are therefore not imported here.

Nothing of this is imported by the package itself.
"""

from __future__ import annotations

from ._faults import (
    Cut,
    Fault,
    IgnoreRange,
    Latency,
    Meanwhile,
    NoEtag,
    Reset,
    Slow,
    Stall,
    Status,
    Swap,
    Throttled,
    Unreachable,
    WeakEtag,
    WrongBytes,
    WrongChecksum,
    WrongContentRange,
)
from ._faulty import FaultyStorage, StorageFault
from ._memory import MemoryStorage, StorageRequest
from ._server import FaultServer, ServedRequest, ServerFault

__all__ = [
    "Cut",
    "Fault",
    "FaultServer",
    "FaultyStorage",
    "IgnoreRange",
    "Latency",
    "Meanwhile",
    "MemoryStorage",
    "NoEtag",
    "Reset",
    "ServedRequest",
    "ServerFault",
    "Slow",
    "Stall",
    "Status",
    "StorageFault",
    "StorageRequest",
    "Swap",
    "Throttled",
    "Unreachable",
    "WeakEtag",
    "WrongBytes",
    "WrongChecksum",
    "WrongContentRange",
]
