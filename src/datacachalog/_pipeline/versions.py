"""Which version of an object was there at some time? The newest one that was written until then.

A listing of versions tells, whose order for one object is the newest first: what comes first and isn't too new is it.
Many objects share listings where their keys are near each other: a page is asked for from just before the next key
that is wanted. What such pages don't settle is asked for by the object's own key, all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from .._errors import (
    AccessDeniedError,
    ConfigurationError,
    DatacachalogError,
    EmptyGlobMatchError,
    VersionNotFoundError,
)
from .._models import NULL_VERSION, Dataset, FileMetadata, ObjectVersion
from ..ports import CacheKey, ListedVersion
from .pattern import parse_pattern
from .requests import Requests
from .resolve import Resolver, Target
from .workers import each

KEYS_IN_A_ROW = 500
"""How many keys of one directory are looked for one page after the other; more are divided among several tasks."""


def checked_as_of(as_of: datetime) -> datetime:
    """Give the time back if it says which zone it is of.

    Raises:
        ConfigurationError: it doesn't, or is no time.
    """
    if not isinstance(as_of, datetime):
        raise ConfigurationError(f"as_of is a datetime with a time zone: got {as_of!r}")
    if as_of.utcoffset() is None:
        raise ConfigurationError(
            f"as_of has no time zone, so which moment is meant? got {as_of!r}; say datetime(…, tzinfo=timezone.utc)"
        )
    return as_of


def version_at(versions: Iterable[ObjectVersion], moment: datetime) -> ObjectVersion | None:
    """Choose the version, or delete marker, that was the newest at that moment; None if none was there yet.

    Args:
        versions: of one object, the newest first; no more of them are looked at than needed.
        moment: aware; a version that was written at this very moment counts.
    """
    return next((version for version in versions if version.last_modified <= moment), None)


async def list_versions(
    dataset: str, uri: str, requests: Requests, is_enough: Callable[[Sequence[ObjectVersion]], bool]
) -> list[ObjectVersion]:
    """Give the versions of one object, the newest first, from as many pages as it takes.

    Args:
        dataset: for whom.
        uri: the object.
        requests: the way to the remote.
        is_enough: whether, with these versions, no further page is needed.

    Raises:
        VersioningNotSupportedError: the storage keeps none.
        StorageError: the listing failed.
    """
    found: list[ObjectVersion] = []
    token: str | None = None
    while True:
        page = await requests.version_page(dataset, uri, token=token)
        found += [listed.version for listed in page.versions if listed.uri == uri]
        token = page.next_token
        # The object's own key comes before all that merely begin like it.
        if token is None or any(listed.uri != uri for listed in page.versions) or (found and is_enough(found)):
            return found


class AsOf:
    """What each dataset of a catalog meant at some time: a `Selection`.

    Args:
        resolver: what they mean now.
        moment: the time, aware.
    """

    nothing_cached = "offline: only the remote can tell which version was there at that time; name it by version_id"

    def __init__(self, resolver: Resolver, moment: datetime) -> None:
        self._resolver = resolver
        self._moment = moment
        self._found: dict[str, ObjectVersion | DatacachalogError | None] = {}

    def source(self, dataset: Dataset) -> str:
        """Give the one spelling of a dataset's source."""
        return self._resolver.source(dataset)

    def known(self, dataset: Dataset) -> Target | None:  # noqa: ARG002  # the protocol's
        """Nothing is known before the remote is asked."""
        return None

    async def cached_targets(self, dataset: Dataset) -> list[Target]:  # noqa: ARG002  # the protocol's
        """Nothing cached says which other versions there were."""
        return []

    async def prepare(self, datasets: Sequence[Dataset], requests: Requests) -> None:
        """Look for the versions of all single files at once."""
        wanted = {self.source(dataset): dataset.name for dataset in datasets if not dataset.is_multi_file}
        directories: dict[str, list[str]] = {}
        for uri in sorted(wanted, key=_by_bytes):
            directories.setdefault(uri.rpartition("/")[0] + "/", []).append(uri)
        rows = [
            (directory, uris[first : first + KEYS_IN_A_ROW])
            for directory, uris in directories.items()
            for first in range(0, len(uris), KEYS_IN_A_ROW)
        ]

        async def one(row: tuple[str, list[str]]) -> None:
            directory, uris = row
            try:
                await self._find_all(directory, uris, wanted, requests)
            except DatacachalogError as error:
                self._found.update({uri: error for uri in uris if uri not in self._found})

        await each(rows, one, at_once=requests.config.max_concurrency)

    async def targets(self, dataset: Dataset, requests: Requests) -> tuple[list[Target], int]:
        """Give the versions that a dataset meant, and how many requests it took to list them.

        Raises:
            VersionNotFoundError: the object wasn't there then.
            EmptyGlobMatchError: nothing that matches was there then.
            StorageError: the listing failed.
        """
        if dataset.is_multi_file:
            return await self._list_all(dataset, requests)
        uri = self.source(dataset)
        found = self._found[uri]
        if isinstance(found, DatacachalogError):
            raise found
        at = f"at {self._moment.isoformat()}"
        if found is None:
            raise VersionNotFoundError(uri, f"it has no version that was there {at}", hint="versions() lists all")
        if found.is_delete_marker:
            deleted = f"deleted on {found.last_modified.isoformat()}"
            raise VersionNotFoundError(uri, f"it was not there {at}: {deleted}", hint="versions() lists all")
        return [self._target(dataset, uri, found)], 0

    def _target(self, dataset: Dataset, uri: str, version: ObjectVersion) -> Target:
        metadata = FileMetadata(version.etag, version.last_modified, version.size, version.version_id)
        # A bucket without versions may overwrite what was listed: then it is no longer what was there.
        if_match = version.etag if version.version_id == NULL_VERSION else None
        return Target(
            dataset.name, CacheKey(uri, version.version_id), dataset.checksum, 0.0, metadata, if_match=if_match
        )

    async def _find_all(self, directory: str, uris: list[str], names: dict[str, str], requests: Requests) -> None:
        """Look for objects of one directory, given in the order of their keys."""

        async def find(uri: str) -> None:
            try:
                versions = await list_versions(names[uri], uri, requests, self._has_moment)
            except DatacachalogError as error:
                self._found[uri] = error
            else:
                self._found[uri] = version_at(versions, self._moment)

        sparse_pages = 0  # in a row: pages that brought no more than the object's own one would have
        while sparse_pages < 3 and len(uris) > 1:
            # What comes behind the key without its last character begins with it, or nearly so.
            after = uris[0][:-1] if len(uris[0]) > len(directory) + 1 else None
            try:
                page = await requests.version_page(names[uris[0]], directory, after=after)
            except AccessDeniedError:
                break  # a policy may allow no more than to list the object's own key
            last = _by_bytes(page.versions[-1].uri) if page.versions else b""
            listed = _by_uri(page.versions)
            for uri in uris:
                versions = listed.get(uri, [])
                version = version_at(versions, self._moment)
                is_passed = page.next_token is None or _by_bytes(uri) < last
                if version is not None or (versions and is_passed):
                    self._found[uri] = version
                elif is_passed or uri == uris[0]:
                    await find(uri)
            settled = len(uris)
            uris = [uri for uri in uris if uri not in self._found]
            sparse_pages = 0 if settled - len(uris) > 1 else sparse_pages + 1
        await each(uris, find, at_once=requests.config.max_concurrency)

    def _has_moment(self, versions: Sequence[ObjectVersion]) -> bool:
        return versions[-1].last_modified <= self._moment

    async def _list_all(self, dataset: Dataset, requests: Requests) -> tuple[list[Target], int]:
        source = self.source(dataset)
        pattern = parse_pattern(source)
        found: dict[str, ObjectVersion] = {}
        token: str | None = None
        pages = 0
        while True:
            pages += 1
            page = await requests.version_page(dataset.name, pattern.prefix, token=token)
            for listed in page.versions:
                if listed.version.last_modified <= self._moment and pattern.matches(listed.uri):
                    found.setdefault(listed.uri, listed.version)
            token = page.next_token
            if token is None:
                break
        targets = [
            self._target(dataset, uri, version)
            for uri, version in sorted(found.items(), key=lambda item: _by_bytes(item[0]))
            if not version.is_delete_marker
        ]
        if not targets:
            raise EmptyGlobMatchError(source)
        return targets, pages


def _by_bytes(uri: str) -> bytes:
    """The order of a listing."""
    return uri.encode(errors="surrogatepass")


def _by_uri(versions: Iterable[ListedVersion]) -> dict[str, list[ObjectVersion]]:
    by_uri: dict[str, list[ObjectVersion]] = {}
    for listed in versions:
        by_uri.setdefault(listed.uri, []).append(listed.version)
    return by_uri
