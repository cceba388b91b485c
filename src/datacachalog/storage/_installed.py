"""Which storages do installed packages bring? Those of the entry points `datacachalog.storages`.

An entry point's name is the scheme, its object is called without arguments and gives a `StoragePort`. To look for them
reads what pip has written down of each package, so it is done for a scheme that nothing else serves; a package is
imported only when a source of its scheme is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._errors import ConfigurationError, redact_uri
from .._threads import forks_held_back
from ..ports import StoragePort

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "datacachalog.storages"
"""The group of the entry points."""


@dataclass(frozen=True, slots=True)
class InstalledStorage:
    """A storage that an installed package brings.

    Args:
        scheme: what it is for.
        distribution: the package's name and version.
        entry_point: what leads to it.
    """

    scheme: str
    distribution: str
    entry_point: EntryPoint

    def load(self) -> StoragePort:
        """Import it and make it, with the settings that it has by itself. Blocks.

        Raises:
            ConfigurationError: it can't be imported or made, or is no storage; the text names the package.
        """
        try:
            with forks_held_back():
                factory: Callable[[], Any] = self.entry_point.load()
            storage = factory()
        except Exception as error:
            reason = redact_uri(str(error).partition("\n")[0])
            raise self._error(f"{type(error).__name__}: {reason}" if reason else type(error).__name__) from error
        if isinstance(storage, type) or not callable(getattr(storage, "connect", None)):
            raise self._error(f"it gives a {type(storage).__name__}, which has no connect() (datacachalog.StoragePort)")
        connected: StoragePort = storage
        return connected

    def _error(self, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"the storage for {self.scheme}:// can't be used: {self.entry_point.value} of the package"
            f" {self.distribution}: {reason}"
        )


def installed_storages() -> list[InstalledStorage]:
    """Find what is installed, sorted by scheme, without importing it. Blocks."""
    from importlib.metadata import entry_points

    found = [
        InstalledStorage(
            point.name.lower(), "?" if point.dist is None else f"{point.dist.name} {point.dist.version}", point
        )
        for point in entry_points(group=GROUP)
    ]
    return sorted(found, key=lambda storage: (storage.scheme, storage.distribution))


def load_installed(scheme: str) -> StoragePort | None:
    """Find the storage for a scheme, import it and make it; None if no package brings one. Blocks.

    Raises:
        ConfigurationError: it can't be loaded, or several packages bring one.
    """
    found = [storage for storage in installed_storages() if storage.scheme == scheme]
    if len(found) > 1:
        names = ", ".join(storage.distribution for storage in found)
        raise ConfigurationError(
            f"several packages bring a storage for {scheme}://: {names}; uninstall all but one, or say which one with"
            f" storage=RouterStorage({{{scheme!r}: …}})"
        )
    return found[0].load() if found else None
