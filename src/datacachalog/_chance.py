"""Which numbers are drawn by chance? Those of a generator of our own, in every process others.

Python's common generator is the user's: he seeds it to get the same numbers again, in each of his processes the same,
and whoever else draws from it takes numbers away from him. What must differ between processes (names, times, waits)
would be the same then.
"""

from __future__ import annotations

import os
import random

chance = random.Random()  # noqa: S311  # no secrets

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=chance.seed)
