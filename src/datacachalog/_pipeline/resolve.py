"""Which objects does a dataset mean, and where will they lie? Reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from .._errors import ConfigurationError, EmptyGlobMatchError, ObjectNotFoundError, redact_uri
from .._lockfile import LockedFile
from .._models import NULL_VERSION, Dataset, FileMetadata
from .._sources import canonical_source, is_web, web_address
from ..ports import CacheEntry, CacheInventory, CacheKey, CachePort
from .pattern import Pattern, parse_pattern
from .requests import Requests


@dataclass(frozen=True, slots=True)
class Target:
    """One object of a dataset.

    Args:
        dataset: the dataset's name.
        key: the object, and its place in the cache.
        pin: the digest that the dataset demands.
        max_age_seconds: how long a cached copy is used without a request.
        listed: what a listing said of the object, if it was listed.
        locked: what the data lock file says of it, for a frozen catalog.
        if_match: the ETag that it must have; nothing else is to be brought.
    """

    dataset: str
    key: CacheKey
    pin: str | None
    max_age_seconds: float
    listed: FileMetadata | None = None
    locked: LockedFile | None = None
    if_match: str | None = None

    @property
    def is_fixed(self) -> bool:
        """Whether a right copy of it stays right, so that nothing has to be asked."""
        return self.locked is not None or self.key.version_id not in (None, NULL_VERSION)


class Selection(Protocol):
    """What tells an operation which objects its datasets mean: those of now, of some time, or of a lock file."""

    @property
    def nothing_cached(self) -> str:
        """Why there is nothing to give where the remote may not be asked."""
        ...

    def source(self, dataset: Dataset) -> str:
        """Give the one spelling of a dataset's source."""
        ...

    def known(self, dataset: Dataset) -> Target | None:
        """Give the one object of a dataset; None if the remote must be asked which, or if it may be several."""
        ...

    async def prepare(self, datasets: Sequence[Dataset], requests: Requests) -> None:
        """Ask at once what is asked best for many datasets; what fails is raised by `targets`."""
        ...

    async def targets(self, dataset: Dataset, requests: Requests) -> tuple[list[Target], int]:
        """Give the objects of a dataset, and how many requests it took to list them."""
        ...

    async def cached_targets(self, dataset: Dataset) -> list[Target]:
        """Give the objects of a dataset of which something is cached, where the remote can't be asked."""
        ...


def target_of(dataset: Dataset, uri: str, max_age_seconds: float) -> Target:
    """Give the one object of a dataset of a single file."""
    max_age = max_age_seconds if dataset.max_age is None else dataset.max_age
    return Target(dataset.name, CacheKey(uri, dataset.version_id, dataset.cache_path), dataset.checksum, max_age)


async def list_targets(
    dataset: Dataset, source: str, max_age_seconds: float, requests: Requests, *, below: str
) -> tuple[list[Target], int]:
    """List the objects of a glob or prefix dataset, in the order of their keys; and say in how many requests.

    Args:
        dataset: it.
        source: the one spelling of its source.
        max_age_seconds: of the datasets that don't have their own.
        requests: the way to the remote.
        below: what the keys begin with from the dataset's directory on; more may be given.

    Raises:
        EmptyGlobMatchError: nothing matches.
        StorageError: the listing failed.
    """
    pattern = parse_pattern(source)
    wanted = pattern.base + below
    prefix = wanted if wanted.startswith(pattern.prefix) else pattern.prefix
    targets: list[Target] = []
    token: str | None = None
    pages = 0
    while True:
        pages += 1
        page = await requests.list_page(dataset.name, prefix, token)
        for found in page.objects:
            if pattern.matches(found.uri):
                target = _file_of(dataset, pattern, found.uri, max_age_seconds)
                targets.append(replace(target, listed=found.metadata))
        token = page.next_token
        if token is None:
            break
    if not targets:
        raise EmptyGlobMatchError(source)
    return targets, pages


def _file_of(dataset: Dataset, pattern: Pattern, uri: str, max_age_seconds: float) -> Target:
    """Give one object of a glob or prefix dataset."""
    max_age = max_age_seconds if dataset.max_age is None else dataset.max_age
    own_place = dataset.cache_path
    name = None if own_place is None else uri[len(pattern.base) :]
    return Target(dataset.name, CacheKey(uri, None, own_place, name), None, max_age)


class Resolver:
    """What each dataset of a catalog means: its objects, their places, and what is cached of them.

    Args:
        datasets: the catalog's.
        cache: where the copies lie.
        max_age_seconds: of the datasets that don't have their own.
    """

    nothing_cached = "offline, and nothing is cached"
    addresses: Mapping[str, str]
    """What the remote is to be asked for, where that is not the source's one spelling, which shows no secrets."""

    def __init__(self, datasets: Iterable[Dataset], cache: CachePort, max_age_seconds: float) -> None:
        datasets = list(datasets)
        self._sources = {dataset.name: canonical_source(dataset.source) for dataset in datasets}
        self.addresses = _addresses(datasets, self._sources)
        self._cache = cache
        self._max_age_seconds = max_age_seconds

    def source(self, dataset: Dataset) -> str:
        """Give the one spelling of a dataset's source."""
        return self._sources[dataset.name]

    def target(self, dataset: Dataset) -> Target:
        """Give the one object of a dataset of a single file."""
        return target_of(dataset, self.source(dataset), self._max_age_seconds)

    def known(self, dataset: Dataset) -> Target | None:
        """Give the one object of a dataset of a single file; None for a glob or prefix."""
        return None if dataset.is_multi_file else self.target(dataset)

    async def prepare(self, datasets: Sequence[Dataset], requests: Requests) -> None:
        """Nothing has to be asked of many at once."""

    async def targets(self, dataset: Dataset, requests: Requests, *, below: str = "") -> tuple[list[Target], int]:
        """Give the objects of a dataset, and how many requests it took to list them.

        Args:
            dataset: it.
            requests: the way to the remote.
            below: only those whose keys begin with that, from a glob or prefix dataset's directory on, are wanted.
        """
        if not dataset.is_multi_file:
            return [self.target(dataset)], 0
        return await list_targets(dataset, self.source(dataset), self._max_age_seconds, requests, below=below)

    def file_target(self, dataset: Dataset, name: str) -> Target:
        """Give the object of a glob or prefix dataset whose key goes on like this from the dataset's directory.

        Raises:
            ObjectNotFoundError: the dataset doesn't mean it.
        """
        pattern = parse_pattern(self.source(dataset))
        if not pattern.matches(pattern.base + name):
            raise ObjectNotFoundError(pattern.base + name, f"dataset {dataset.name!r} has no such file")
        return _file_of(dataset, pattern, pattern.base + name, self._max_age_seconds)

    def is_meant(self, dataset: Dataset) -> Callable[[str], bool]:
        """Give what tells whether a URI is one of the dataset's."""
        source = self.source(dataset)
        return parse_pattern(source).matches if dataset.is_multi_file else source.__eq__

    def is_meant_by_one_of(self, datasets: Iterable[Dataset]) -> Callable[[str], bool]:
        """Give what tells whether a URI is one of one of the datasets', at a cost that single files don't add to."""
        datasets = list(datasets)
        single = {self.source(dataset) for dataset in datasets if not dataset.is_multi_file}
        several = [self.is_meant(dataset) for dataset in datasets if dataset.is_multi_file]
        return lambda uri: uri in single or any(is_meant(uri) for is_meant in several)

    async def matching(self, dataset: Dataset) -> list[CacheEntry]:
        """Give what is cached of a glob or prefix dataset in the newest's place, in the order of the keys."""
        is_meant = self.is_meant(dataset)
        entries = await self.inventory.entries()
        found = [entry for entry in entries if entry.key.version_id is None and is_meant(entry.key.uri)]
        return sorted(found, key=lambda entry: entry.key.uri.encode(errors="surrogatepass"))

    async def cached_targets(self, dataset: Dataset) -> list[Target]:
        """Give as the objects of a glob or prefix dataset those that are cached, where the remote can't be asked."""
        max_age_seconds = self.target(dataset).max_age_seconds
        return [Target(dataset.name, entry.key, None, max_age_seconds) for entry in await self.matching(dataset)]

    @property
    def inventory(self) -> CacheInventory:
        """The cache, as one that can say what it holds as a whole.

        Raises:
            ConfigurationError: it can't.
        """
        if not isinstance(self._cache, CacheInventory):
            raise ConfigurationError(f"{type(self._cache).__name__} keeps no inventory: see ports.CacheInventory")
        return self._cache


def _addresses(datasets: Iterable[Dataset], sources: Mapping[str, str]) -> dict[str, str]:
    """Give the addresses that are not the sources' spellings.

    Raises:
        ConfigurationError: a source with two addresses: whose password is it to be asked with?
    """
    addresses: dict[str, str] = {}
    for dataset in datasets:
        if is_web(dataset.source):
            source, address = sources[dataset.name], web_address(dataset.source)
            if addresses.setdefault(source, address) != address:
                raise ConfigurationError(
                    f"dataset {dataset.name!r}: {redact_uri(source)} is another dataset's source too, with another user"
                    " or password"
                )
    return {source: address for source, address in addresses.items() if source != address}


def check_places(datasets: list[Dataset]) -> None:
    """Refuse two datasets that would take each other's place in the cache.

    Raises:
        ConfigurationError: one `cache_path` for two sources, or for two versions of one.
    """
    owner: dict[str, Dataset] = {}
    for dataset in datasets:
        if dataset.cache_path is None:
            continue
        place = dataset.cache_path.rstrip("/")
        other = owner.setdefault(place, dataset)
        if (other.source, other.version_id) != (dataset.source, dataset.version_id):
            two = "versions" if other.source == dataset.source else "sources"
            raise ConfigurationError(
                f"datasets {other.name!r} and {dataset.name!r} have one cache_path, {place!r}, and two {two}"
            )
