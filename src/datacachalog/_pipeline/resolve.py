"""Which objects does a dataset mean, and where will they lie? Reads, and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from .._errors import ConfigurationError, EmptyGlobMatchError
from .._models import Dataset, FileMetadata
from ..ports import CacheKey
from .pattern import parse_pattern
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
    """

    dataset: str
    key: CacheKey
    pin: str | None
    max_age_seconds: float
    listed: FileMetadata | None = None


def target_of(dataset: Dataset, uri: str, max_age_seconds: float) -> Target:
    """Give the one object of a dataset of a single file."""
    max_age = max_age_seconds if dataset.max_age is None else dataset.max_age
    return Target(dataset.name, CacheKey(uri, None, dataset.cache_path), dataset.checksum, max_age)


async def list_targets(
    dataset: Dataset, source: str, max_age_seconds: float, requests: Requests
) -> tuple[list[Target], int]:
    """List the objects of a glob or prefix dataset, in the order of their keys; and say in how many requests.

    Raises:
        EmptyGlobMatchError: nothing matches.
        StorageError: the listing failed.
    """
    pattern = parse_pattern(source)
    whole = target_of(dataset, source, max_age_seconds)
    targets: list[Target] = []
    token: str | None = None
    pages = 0
    while True:
        pages += 1
        page = await requests.list_page(dataset.name, pattern.prefix, token)
        for found in page.objects:
            if pattern.matches(found.uri):
                own_place = dataset.cache_path
                name = None if own_place is None else found.uri[len(pattern.base) :]
                key = CacheKey(found.uri, None, own_place, name)
                targets.append(Target(dataset.name, key, None, whole.max_age_seconds, found.metadata))
        token = page.next_token
        if token is None:
            break
    if not targets:
        raise EmptyGlobMatchError(source)
    return targets, pages


def check_places(datasets: list[Dataset]) -> None:
    """Refuse two datasets that would take each other's place in the cache.

    Raises:
        ConfigurationError: one `cache_path` for two sources.
    """
    owner: dict[str, Dataset] = {}
    for dataset in datasets:
        if dataset.cache_path is None:
            continue
        place = dataset.cache_path.rstrip("/")
        other = owner.setdefault(place, dataset)
        if other.source != dataset.source:
            raise ConfigurationError(
                f"datasets {other.name!r} and {dataset.name!r} have one cache_path, {place!r}, and two sources"
            )
