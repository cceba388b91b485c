"""What does each dataset mean by the data lock file? The very versions that it names, or an error that says why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .._errors import LockMismatchError, redact_uri
from .._lockfile import LockedDataset, LockedFile, LockFile, written_uri
from .._models import NULL_VERSION, CacheMetadata, Dataset, FileMetadata
from ..ports import CacheKey
from .pattern import parse_pattern
from .requests import Requests
from .resolve import Resolver, Target


class Locked:
    """What each dataset of a catalog means by a lock file: a `Selection`. No request is needed to know it.

    Args:
        resolver: what they mean without.
        lock: the lock file.
    """

    nothing_cached = "offline, and the data lock file names nothing of it"

    def __init__(self, resolver: Resolver, lock: LockFile) -> None:
        self._resolver = resolver
        self._lock = lock

    def source(self, dataset: Dataset) -> str:
        """Give the one spelling of a dataset's source."""
        return self._resolver.source(dataset)

    def known(self, dataset: Dataset) -> Target | None:
        """Give the one version of a dataset of a single file.

        Raises:
            LockMismatchError: the lock file doesn't name it.
        """
        return None if dataset.is_multi_file else self._targets(dataset)[0]

    async def prepare(self, datasets: Sequence[Dataset], requests: Requests) -> None:
        """Nothing has to be asked."""

    async def targets(self, dataset: Dataset, requests: Requests) -> tuple[list[Target], int]:  # noqa: ARG002  # the protocol's
        """Give the versions that the lock file names.

        Raises:
            LockMismatchError: it doesn't name the dataset, or another one of that name.
        """
        return self._targets(dataset), 0

    async def cached_targets(self, dataset: Dataset) -> list[Target]:
        """Give the same where the remote can't be asked.

        Raises:
            LockMismatchError: the lock file doesn't name the dataset, or another one of that name.
        """
        return self._targets(dataset)

    def _targets(self, dataset: Dataset) -> list[Target]:
        locked = self._lock.datasets.get(dataset.name)
        if locked is None:
            raise LockMismatchError(dataset.name, f"the data lock file {self._lock.path} has no such dataset")
        source = self.source(dataset)
        uri = written_uri(source, self._lock.path)
        if (uri, dataset.is_multi_file) != (locked.uri, locked.is_multi_file):
            raise LockMismatchError(dataset.name, f"its source is {uri} here, and {redact_uri(locked.uri)} there")
        whole = self._resolver.target(dataset)
        if not dataset.is_multi_file:
            [file] = locked.files
            if dataset.version_id not in (None, file.version_id):
                differs = f"its version is {dataset.version_id} here, and {file.version_id} there"
                raise LockMismatchError(dataset.name, differs)
            return [_target(whole, CacheKey(source, file.version_id, dataset.cache_path), file)]
        pattern = parse_pattern(source)
        targets: list[Target] = []
        for file in locked.files:
            uri = pattern.base + file.name
            # A name of a local file may have '..' in it, a key is taken as it stands.
            if not pattern.matches(uri) or ("://" not in uri and ".." in file.name.split("/")):
                raise LockMismatchError(dataset.name, f"the data lock file names {file.name!r}, which it doesn't match")
            own_place = dataset.cache_path
            key = CacheKey(uri, file.version_id, own_place, None if own_place is None else file.name)
            targets.append(_target(whole, key, file))
        return targets


def _target(whole: Target, key: CacheKey, file: LockedFile) -> Target:
    if_match = file.etag if file.version_id in (None, NULL_VERSION) else None
    return replace(whole, key=key, locked=file, if_match=if_match)


def check_remote(target: Target, remote: FileMetadata) -> None:
    """Compare what the remote has with what the lock file names.

    Raises:
        LockMismatchError: it has another version.
    """
    if target.if_match is not None and remote.etag != target.if_match:
        raise LockMismatchError(
            target.dataset,
            f"{redact_uri(target.key.uri)} has the ETag {remote.etag} now, and {target.if_match} in the data lock file",
        )
    if target.locked is not None and remote.size != target.locked.size:
        differs = f"{remote.size} bytes now, and {target.locked.size} in the data lock file"
        raise LockMismatchError(target.dataset, f"{redact_uri(target.key.uri)} has {differs}")


def locked_dataset(dataset: Dataset, source: str, files: Sequence[CacheMetadata], path: str) -> LockedDataset:
    """Give what the lock file at `path` is to say of a dataset that was fetched.

    Args:
        dataset: it.
        source: the one spelling of its source.
        files: what was fetched, in the order of the keys.
        path: the lock file, absolute.
    """
    base = parse_pattern(source).base if dataset.is_multi_file else source
    # The ETag of a local file is made of its time and its inode, which are others on every machine.
    is_local = "://" not in source
    locked = tuple(
        LockedFile(
            file.source.removeprefix(base), file.size, file.digest, None if is_local else file.etag, file.version_id
        )
        for file in files
    )
    return LockedDataset(written_uri(source, path), locked, dataset.is_multi_file)
