"""Which files of a glob or prefix dataset have a name, or lie below it? Of the other files nothing is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from .._errors import ObjectNotFoundError
from .._models import CacheMetadata, Dataset, FileMetadata
from .pattern import parse_pattern
from .requests import Requests
from .resolve import Resolver, Selection, Target


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What is known of a file of a dataset without fetching it.

    Args:
        name: its key from the dataset's directory on; empty for a dataset of a single file.
        size: bytes.
        etag: its validator.
        last_modified: when it was written remotely.
    """

    name: str
    size: int
    etag: str | None
    last_modified: datetime | None


def known_file(name: str, metadata: FileMetadata | CacheMetadata) -> KnownFile:
    """Give what the remote, or else a sidecar, says of a file."""
    return KnownFile(name, metadata.size, metadata.etag, metadata.last_modified)


@dataclass(frozen=True, slots=True)
class Below:
    """A selection of some files of a glob or prefix dataset.

    Args:
        whole: what tells which files the dataset has.
        name: of a file, or of a directory without its last `/`; below the dataset's directory.
        is_file: whether only the file of that name is meant. It is asked for without a listing.
    """

    whole: Selection
    name: str
    is_file: bool = False

    @property
    def nothing_cached(self) -> str:
        """Why there is nothing to give where the remote may not be asked."""
        return self.whole.nothing_cached

    def source(self, dataset: Dataset) -> str:
        """Give the one spelling of a dataset's source."""
        return self.whole.source(dataset)

    def known(self, dataset: Dataset) -> Target | None:  # noqa: ARG002  # the port's
        """Give None: there may be several files."""
        return None

    async def prepare(self, datasets: Sequence[Dataset], requests: Requests) -> None:
        """Ask at once what is asked best for many datasets."""
        await self.whole.prepare(datasets, requests)

    async def targets(self, dataset: Dataset, requests: Requests) -> tuple[list[Target], int]:
        """Give the objects, and how many requests it took to list them.

        Raises:
            EmptyGlobMatchError: there is nothing.
            ObjectNotFoundError: the dataset has no such file.
        """
        # Such names are keys of a store, but ways out of a directory: only a whole listing can tell that there are any.
        is_odd = not {"", ".", ".."}.isdisjoint(self.name.split("/"))
        if is_odd or not isinstance(self.whole, Resolver):
            targets, pages = await self.whole.targets(dataset, requests)
        elif self.is_file:
            return [self.whole.file_target(dataset, self.name)], 0
        else:
            targets, pages = await self.whole.targets(dataset, requests, below=self.name)
        return self._chosen(dataset, targets), pages

    async def cached_targets(self, dataset: Dataset) -> list[Target]:
        """Give the objects of which something is cached."""
        return self._chosen(dataset, await self.whole.cached_targets(dataset), must_be=False)

    def _chosen(self, dataset: Dataset, targets: Sequence[Target], *, must_be: bool = True) -> list[Target]:
        uri = parse_pattern(self.source(dataset)).base + self.name
        chosen = [
            target
            for target in targets
            if target.key.uri == uri or (not self.is_file and target.key.uri.startswith(f"{uri}/"))
        ]
        if must_be and not chosen:
            raise ObjectNotFoundError(uri, f"dataset {dataset.name!r} has no such file")
        return chosen
