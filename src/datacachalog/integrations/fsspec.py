"""How is `catalog://customers` opened by everything that speaks fsspec? As the local file that the catalog fetches.

The tree that fsspec sees has the datasets by their names, whose `/` make directories. A dataset of a single file is a
file. A glob or prefix dataset, and an archive of many files that is unpacked, is a directory of its files. To look asks
the remote for metadata, but for what is unpacked, of which only a fetch can tell; to open fetches, and gives the cached
file itself. Nothing can be written.
"""

from __future__ import annotations

import errno
import io
import os
import uuid
import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from fsspec.config import apply_config
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from .._archives import TREES, format_of
from .._discovered import catalog_arguments
from .._discovery import find_project, named_project, read_catalog_file
from .._errors import ConfigurationError, DatasetNotFoundError, EmptyGlobMatchError
from .._models import Dataset
from .._pipeline.below import KnownFile
from .._sync import Catalog

Info = dict[str, Any]
"""What fsspec wants to know of a file or a directory."""

_tokens: weakref.WeakKeyDictionary[Catalog, str] = weakref.WeakKeyDictionary()
_given: weakref.WeakValueDictionary[str, _Given] = weakref.WeakValueDictionary()


class _Given:
    """A catalog that was passed as an object. By its token fsspec knows it again, in other processes too."""

    def __init__(self, token: str, catalog: Catalog) -> None:
        self.token = token
        self.catalog = catalog

    def __repr__(self) -> str:
        return f"<catalog {self.token}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _given_of, (self.token, self.catalog)


def _given_of(token: str | None, catalog: Catalog) -> _Given:
    token = _tokens.setdefault(catalog, token or uuid.uuid4().hex)
    return _given.setdefault(token, _Given(token, catalog))


def _settled(catalog: Any) -> str | _Given:
    """Give the catalog that is meant in a form that stays right in another directory and in another process."""
    if isinstance(catalog, _Given):
        return catalog
    if isinstance(catalog, Catalog):
        return _given_of(None, catalog)
    if catalog is not None and not isinstance(catalog, str | os.PathLike):
        raise ConfigurationError(f"using= takes a Catalog, or the path of a catalog file: got {catalog!r}")
    project = find_project() if catalog is None else named_project(catalog)
    return str(project.file or read_catalog_file(project).file)  # to read it, where there is none, says so


class _Settling(type(AbstractFileSystem)):  # type: ignore[misc]  # fsspec's metaclass, which keeps the instances
    """Settles which catalog is meant before fsspec looks for an instance that it has already."""

    def __call__(cls, **options: Any) -> Any:
        options = apply_config(cls, options)
        # `fsspec.open` takes a keyword that is named like a protocol for a dictionary of its options.
        named = options.pop("catalog", None)
        return super().__call__(**{**options, "using": _settled(options.get("using", named))})


class CatalogFileSystem(AbstractFileSystem, metaclass=_Settling):  # type: ignore[misc]  # it has no types
    """The datasets of a catalog as a file system that can be read: `fsspec.open("catalog://customers")`.

    May be used from any thread, inside a running event loop (which waits meanwhile), and after a fork. It pickles.

    Args:
        using: a `Catalog`, or the path of a catalog file or of the directory that it is in; None means what
            `Catalog.discover()` finds. A file that is changed is read again. `fsspec.filesystem` takes it as `catalog`
            too, which `fsspec.open` can't.
        cache_dir: as in `Catalog.discover()`; only for a catalog that is a file.
        offline: send no request; only for a catalog that is a file.
        progress: as in `Catalog`; only for a catalog that is a file.
        **options: of fsspec, such as `skip_instance_cache`.

    Raises:
        ConfigurationError: there is no catalog, or an option that can't be right.
        CatalogFileError: the catalog file says something impossible.
    """

    protocol = "catalog"
    cachable = True

    def __init__(
        self,
        *,
        using: Any,
        cache_dir: str | os.PathLike[str] | None = None,
        offline: bool | None = None,
        progress: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        overrides = {"cache_dir": cache_dir, "offline": offline, "progress": progress}
        self._overrides = {name: value for name, value in overrides.items() if value is not None}
        self._source: str | _Given = using
        if isinstance(using, _Given) and self._overrides:
            raise ConfigurationError(
                f"a Catalog has its own {', '.join(self._overrides)}: say it where the catalog is made"
            )
        self._state: tuple[object, Catalog] | None = None
        self.catalog  # noqa: B018  # what is wrong with it is said now

    @property
    def catalog(self) -> Catalog:
        """The catalog whose datasets these are."""
        if isinstance(self._source, _Given):
            return self._source.catalog
        found = os.stat(self._source)
        state = (found.st_mtime_ns, found.st_size, found.st_ino, os.environ.get("DATACACHALOG_CACHE_DIR"))
        # Two threads may both read it, and one of the two catalogs is kept: a lock could be held in a fork.
        if self._state is None or self._state[0] != state:
            described = read_catalog_file(named_project(self._source))
            catalog = Catalog(**catalog_arguments(described, self._overrides))
            catalog._core._lock_directory = described.file.parent  # noqa: SLF001  # of this package
            self._state = (state, catalog)
        return self._state[1]

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        stripped = super()._strip_protocol(path)
        return stripped if isinstance(stripped, list) else stripped.strip("/")

    # -- looking

    def info(self, path: str, **_: Any) -> Info:
        """Tell of a file or directory: `name`, `type`, `size`; of a file `mtime` (POSIX seconds) and `etag` too.

        Raises:
            FileNotFoundError: there is none.
        """
        path = self._strip_protocol(path)
        dataset, below = self._find(path)
        if dataset is None or (not below and _is_directory(dataset)):
            return _directory(path)
        files = self._files(dataset, below)
        if path in files:
            return files[path]
        if files:
            return _directory(path)
        raise _missing(path)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:  # noqa: FBT001, FBT002  # fsspec's
        """List a directory; of a file itself.

        The names of the datasets are given without a request. With `detail`, what can't be asked has no size.

        Raises:
            FileNotFoundError: there is none.
        """
        path = self._strip_protocol(path)
        dataset, below = self._find(path)
        if dataset is None:
            found = self._namespace(path, detail=detail)
        else:
            files = self._files(dataset, below)
            if not files:
                raise _missing(path)
            found = files if path in files else _children(path, files)
        return [found[name] for name in sorted(found)] if detail else sorted(found)

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,  # noqa: FBT001, FBT002  # fsspec's
        detail: bool = False,  # noqa: FBT001, FBT002
        **_: Any,
    ) -> Any:
        """List all files below a path, and the directories with `withdirs`; the datasets' remotes are asked at once.

        Of several datasets none is left out: of a file that can't be asked for the size is None.

        Raises:
            StorageError: a glob or prefix dataset can't be listed.
        """
        path = self._strip_protocol(path)
        files: dict[str, Info] = {}
        is_of_datasets = False
        with suppress(FileNotFoundError):  # that is a path that isn't there
            dataset, below = self._find(path)
            is_of_datasets = dataset is None
            files = {} if dataset is None else self._files(dataset, below)
        if is_of_datasets:  # of several, no error is hidden
            files = self._all_files(path)
        found = dict(files)
        if withdirs and path not in files:
            found |= {parent: _directory(parent) for name in files for parent in _parents(name, path)}
        if maxdepth is not None:
            found = {name: info for name, info in found.items() if name[len(path) :].strip("/").count("/") < maxdepth}
        if withdirs and path and files and path not in files:
            found[path] = _directory(path)
        names = sorted(found)
        return {name: found[name] for name in names} if detail else names

    def isdir(self, path: str) -> bool:
        """Whether it is a directory; of a dataset that is known without asking."""
        try:
            dataset, below = self._find(self._strip_protocol(path))
        except FileNotFoundError:
            return False
        if dataset is None or not below:
            return dataset is None or _is_directory(dataset)
        return bool(super().isdir(path))

    def created(self, path: str) -> datetime:
        """Tell when that version of the file was written: objects aren't changed but replaced."""
        return self.modified(path)

    def modified(self, path: str) -> datetime:
        """Tell when the file was written remotely, to the remote's precision.

        Raises:
            FileNotFoundError: there is none.
            NotImplementedError: it is a directory, or the remote doesn't say.
        """
        mtime = self.info(path).get("mtime")
        if mtime is None:
            raise NotImplementedError(f"when {path!r} was modified is not known")
        return datetime.fromtimestamp(mtime, UTC)

    # -- opening

    def local_path(self, path: str) -> Path:
        """Fetch a file, and give the path at which the catalog has it.

        Raises:
            FileNotFoundError: there is none.
            IsADirectoryError: it is a directory.
            DatacachalogError: what `Catalog.fetch` raises.
        """
        path = self._strip_protocol(path)
        dataset, below = self._find(path)
        if dataset is None or (not below and _is_directory(dataset)):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        only = below if below and dataset.unpack is None else None
        files = self._fetched(dataset, only)
        if below in files:
            return files[below]
        if any(name.startswith(f"{below}/") for name in files):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        raise _missing(path)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        if mode != "rb":
            self._refuse()
        return LocalFileSystem().open(str(self.local_path(path)), "rb")

    # -- what isn't done

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise io.UnsupportedOperation(
            "catalog:// can only be read; Catalog.push writes a file to the remote of a dataset"
        )

    mkdir = makedirs = rmdir = cp_file = rm_file = touch = pipe_file = put_file = _refuse

    # -- the tree

    def _find(self, path: str) -> tuple[Dataset | None, str]:
        """Give the dataset that a path lies in and what is left of the path; None for a directory of datasets.

        Raises:
            FileNotFoundError: there is neither.
        """
        datasets = _named(self.catalog.datasets)
        name = path
        while name not in datasets and "/" in name:
            name = name[: name.rfind("/")]
        if name in datasets:
            return datasets[name], path[len(name) + 1 :]
        if path and not any(other.startswith(f"{path}/") for other in datasets):
            raise FileNotFoundError(errno.ENOENT, str(DatasetNotFoundError(path, datasets)), path)
        return None, ""

    def _namespace(self, path: str, *, detail: bool) -> dict[str, Info]:
        """Give what lies directly in a directory of datasets."""
        prefix = f"{path}/" if path else ""
        found: dict[str, Info] = {}
        asked: list[Dataset] = []
        for name, dataset in _named(self.catalog.datasets).items():
            if not name.startswith(prefix):
                continue
            own, slash, _ = name[len(prefix) :].partition("/")
            if slash or _is_directory(dataset):
                found.setdefault(prefix + own, _directory(prefix + own))
            else:
                found[name] = {"name": name, "size": None, "type": "file"}
                asked.append(dataset)
        plain = [dataset.name for dataset in asked if dataset.unpack is None]
        return found | (self._known(plain, must_be=False) if detail and plain else {})

    def _all_files(self, path: str) -> dict[str, Info]:
        """Give the files of all datasets in a directory of them."""
        prefix = f"{path}/" if path else ""
        inside = [dataset for name, dataset in _named(self.catalog.datasets).items() if name.startswith(prefix)]
        single = [dataset.name for dataset in inside if dataset.unpack is None and not dataset.is_multi_file]
        files: dict[str, Info] = {name: {"name": name, "size": None, "type": "file"} for name in single}
        files |= self._known(single, must_be=False)
        files |= self._known([dataset.name for dataset in inside if dataset.unpack is None and dataset.is_multi_file])
        for dataset in inside:
            if dataset.unpack is not None:
                files |= self._files(dataset, "")
        return files

    def _files(self, dataset: Dataset, below: str) -> dict[str, Info]:
        """Give the file at a place of a dataset, or the files below it; by their whole paths."""
        if below and not _is_directory(dataset):
            return {}
        if dataset.unpack is None:
            return self._known([dataset.name], below)
        paths = self._fetched(dataset)
        wanted = [name for name in paths if not below or f"{name}/".startswith(f"{below}/")]
        found = [_local_file(_joined(dataset.name, name), paths[name]) for name in wanted]
        return {info["name"]: info for info in found}

    def _fetched(self, dataset: Dataset, only: str | None = None) -> dict[str, Path]:
        try:
            return self.catalog._run(lambda core: core._fetched_files(dataset.name, only))  # noqa: SLF001  # of this package
        except EmptyGlobMatchError:
            return {}

    def _known(self, names: Iterable[str], below: str = "", *, must_be: bool = True) -> dict[str, Info]:
        known = self.catalog._run(lambda core: core._known_files(names, below))  # noqa: SLF001  # of this package
        infos: dict[str, Info] = {}
        for name, files in known.items():
            if isinstance(files, Exception):
                if must_be and not isinstance(files, EmptyGlobMatchError):
                    raise files
                continue
            infos |= {_joined(name, file.name): _remote_file(_joined(name, file.name), file) for file in files}
        return infos


def _named(datasets: Iterable[Dataset]) -> dict[str, Dataset]:
    """Give the datasets by name, but for those whose names are no paths."""
    return {d.name: d for d in datasets if d.name == d.name.strip("/")}


def _is_directory(dataset: Dataset) -> bool:
    """Whether a dataset is a directory, as far as that is known without asking."""
    return dataset.is_multi_file or format_of(dataset.unpack, dataset.source) in TREES


def _joined(name: str, below: str) -> str:
    return f"{name}/{below}" if below else name


def _directory(path: str) -> Info:
    return {"name": path, "size": 0, "type": "directory"}


def _remote_file(path: str, file: KnownFile) -> Info:
    mtime = None if file.last_modified is None else file.last_modified.timestamp()
    return {"name": path, "size": file.size, "type": "file", "mtime": mtime, "etag": file.etag}


def _local_file(path: str, local: Path) -> Info:
    found = local.stat()
    etag = f"{found.st_size:x}-{found.st_mtime_ns:x}"
    return {"name": path, "size": found.st_size, "type": "file", "mtime": found.st_mtime, "etag": etag}


def _children(path: str, files: Mapping[str, Info]) -> dict[str, Info]:
    """Give what lies directly in a directory, of all files below it."""
    found: dict[str, Info] = {}
    for name, info in files.items():
        own, slash, _ = name[len(path) + 1 :].partition("/")
        child = f"{path}/{own}"
        found[child] = _directory(child) if slash else info
    return found


def _parents(name: str, path: str) -> list[str]:
    """Give the directories that a file lies in, below a path."""
    parts = name.split("/")[:-1]
    parents = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    return [parent for parent in parents if len(parent) > len(path)]


def _missing(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
