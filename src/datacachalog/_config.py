"""How does the catalog behave? One frozen value; units stand in the names.

A field comes from the argument, else the environment (`DATACACHALOG_<FIELD>`), else the catalog file, else the default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from ._errors import ConfigurationError

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def _setting(name: str, default: Any, kind: type | None = None) -> Any:
    """Declare a field whose default is the environment's value, if there is one; None has no type of its own."""
    kind = kind or type(default)

    def from_environment() -> Any:
        text = os.environ.get(f"DATACACHALOG_{name.upper()}", "").strip()
        if not text:
            return default
        try:
            return _parsed(text, kind)
        except ValueError:
            raise ConfigurationError(f"DATACACHALOG_{name.upper()}={text!r} can't be read as {kind.__name__}") from None

    return field(default_factory=from_environment)


def _parsed(text: str, kind: type) -> object:
    if kind is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise ValueError(text)
    return kind(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogConfig:
    """How a catalog behaves.

    Args:
        part_bytes: size of a range; also what fits in one request. Bytes, at least 1 KiB.
        max_concurrency: requests in flight, never more.
        connect_timeout_seconds: how long to wait for a connection.
        read_timeout_seconds: how long to wait without a byte received.
        retries: further tries of a request or a part.
        retry_deadline_seconds: how long after its first failure a request or a part is tried again; bytes that come
            begin it anew. 0 means that nothing is tried again.
        restarts: further tries of a download whose object keeps changing.
        max_age_seconds: how long a cached copy is used without a request; 0 means always ask.
        on_unreachable: what a fetch does with a cached copy when the remote does not answer: `"stale"` serves it with
            a `StaleDataWarning`, `"raise"` raises.
        offline: no request at all; what is cached is served.
        frozen: fetch exactly what the data lock file names, or raise `LockMismatchError`.
        cache_max_bytes: how many bytes all cached files together may have: after each file that is published, others
            are evicted, the least recently used first. None for as many as the disk holds.
        cache_min_free_bytes: how many bytes are left free in the file system of the cache, in the same way. None for
            none.
        eviction_grace_seconds: a file that was given to a caller is not evicted within that time; 0 for no such time.
        lock_wait_seconds: how long to wait, without progress of the process that is fetching a file, before the work
            is done twice.
        unpack_max_bytes: how much an archive may be when it is unpacked. Bytes.
        unpack_max_files: how many files and directories may be in it.

    Raises:
        ConfigurationError: a value out of range, or an environment variable that can't be read.
    """

    part_bytes: int = _setting("part_bytes", 8 * 1024 * 1024)
    max_concurrency: int = _setting("max_concurrency", 64)
    connect_timeout_seconds: float = _setting("connect_timeout_seconds", 10.0)
    read_timeout_seconds: float = _setting("read_timeout_seconds", 30.0)
    retries: int = _setting("retries", 5)
    retry_deadline_seconds: float = _setting("retry_deadline_seconds", 120.0)
    restarts: int = _setting("restarts", 3)
    max_age_seconds: float = _setting("max_age_seconds", 0.0)
    on_unreachable: Literal["stale", "raise"] = _setting("on_unreachable", "stale")
    offline: bool = _setting("offline", default=False)
    frozen: bool = _setting("frozen", default=False)
    cache_max_bytes: int | None = _setting("cache_max_bytes", None, int)
    cache_min_free_bytes: int | None = _setting("cache_min_free_bytes", None, int)
    eviction_grace_seconds: float = _setting("eviction_grace_seconds", 60.0)
    lock_wait_seconds: float = _setting("lock_wait_seconds", 30.0)
    unpack_max_bytes: int = _setting("unpack_max_bytes", 64 * 1024**3)
    unpack_max_files: int = _setting("unpack_max_files", 100_000)

    def __post_init__(self) -> None:
        whole = {
            "part_bytes": 1024,
            "max_concurrency": 1,
            "retries": 0,
            "restarts": 0,
            "unpack_max_bytes": 1,
            "unpack_max_files": 1,
        }
        for name, least in whole.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigurationError(f"{name} is a whole number, at least {least}: got {value!r}")
        for name in ("cache_max_bytes", "cache_min_free_bytes"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
                raise ConfigurationError(f"{name} is None or a whole number of bytes, at least 0: got {value!r}")
        above_zero = ("connect_timeout_seconds", "read_timeout_seconds")
        for name in (
            *above_zero,
            "retry_deadline_seconds",
            "max_age_seconds",
            "eviction_grace_seconds",
            "lock_wait_seconds",
        ):
            value = getattr(self, name)
            may_be_zero = name not in above_zero
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not (value >= 0 if may_be_zero else value > 0):
                least_text = "at least 0" if may_be_zero else "above 0"
                raise ConfigurationError(f"{name} is a number of seconds, {least_text}: got {value!r}")
        if self.on_unreachable not in ("stale", "raise"):
            raise ConfigurationError(f"on_unreachable is 'stale' or 'raise': got {self.on_unreachable!r}")
        for name in ("offline", "frozen"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{name} is True or False: got {getattr(self, name)!r}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> CatalogConfig:
        """Take the values of a catalog file; the environment goes before them.

        Raises:
            ConfigurationError: an unknown key, or a value out of range.
        """
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ConfigurationError(f"unknown setting {unknown[0]!r}: the settings are {', '.join(sorted(known))}")
        unset = {k: v for k, v in values.items() if not os.environ.get(f"DATACACHALOG_{k.upper()}", "").strip()}
        return cls(**unset)
