"""How does a Dask cluster get its data? Once per host, or once for the whole cluster and from host to host.

The caller (`_warm`) asks each worker where its cache is (`_hosts`), has one worker of each host fetch (`_operation`),
and asks them all, again and again, how far they are (`_calls`). From host to host the files travel along trees
(`_tree`), through a storage (`_peers`) like any other: so what comes from a neighbour is resumed, verified and
published as what comes from the store. Everything goes over Dask's own connections, encrypted where the cluster's are.
"""

from __future__ import annotations

from ._here import CacheDir as CacheDir
from ._here import local_catalog
from ._hosts import HostOf as HostOf
from ._plugin import WarmPlugin
from ._report import WarmError, WarmReport, WorkersLostError
from ._warm import warm, warm_async

__all__ = ["WarmError", "WarmPlugin", "WarmReport", "WorkersLostError", "local_catalog", "warm", "warm_async"]
