"""What does the data lock file say, and how is it written? TOML, for people to review and for version control to merge.

A block for each dataset, sorted by name, and a line for each file of a glob or prefix dataset: a change of one dataset
is a change of its block and of nothing else. Reading it runs nothing, and what is wrong in it, a merge conflict say, is
told with its line. A new one replaces the old one in one step.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._digests import parse_digest
from ._errors import CatalogFileError, LockMismatchError, redact_uri
from ._models import NULL_VERSION, CacheMetadata
from ._replacing import replace_file
from ._sources import canonical_source, is_web

NAME = "datacachalog.lock"
FORMAT = 1

_HEADER = f"""\
# The data lock file of datacachalog, format {FORMAT}: which version of each dataset is meant, to the byte.
# lock() writes it; commit it. Don't edit it: run lock() again, also to resolve a merge conflict.
format = {FORMAT}
"""
_FILE_FIELDS: Mapping[str, type] = {"etag": str, "version_id": str, "size": int, "digest": str}
_NEEDED_FIELDS = ("size", "digest")
_CONFLICT = re.compile(r"^(<{7}|\|{7}|={7}|>{7})( |$)", re.MULTILINE)
_HINT = "take a version of it that is whole, or run lock() without names to write it anew"


@dataclass(frozen=True, slots=True)
class LockedFile:
    """One version of one file.

    Args:
        name: of a file of a glob or prefix dataset: the rest of its key; empty for a single file.
        size: bytes.
        digest: of its bytes, as in `Dataset.checksum`.
        etag: its validator, where that means the same on every machine.
        version_id: its version, in a bucket that keeps versions.
    """

    name: str
    size: int
    digest: str
    etag: str | None = None
    version_id: str | None = None

    def is_of(self, cached: CacheMetadata) -> bool:
        """Whether a cached file is this one: by its digest, by version or ETag where digests can't be compared."""
        if cached.size != self.size:
            return False
        if cached.digest.partition(":")[0] == self.digest.partition(":")[0] or cached.pin == self.digest:
            return self.digest in (cached.digest, cached.pin)
        if self.version_id not in (None, NULL_VERSION) and cached.version_id == self.version_id:
            return True
        return self.etag is not None and cached.etag == self.etag


@dataclass(frozen=True, slots=True)
class LockedDataset:
    """What a dataset is.

    Args:
        uri: its source; a local one is relative to the lock file's directory where it lies below that.
        files: one for a dataset of a single file.
        is_multi_file: whether it is a glob or a prefix.
    """

    uri: str
    files: tuple[LockedFile, ...]
    is_multi_file: bool = False


@dataclass(frozen=True, slots=True)
class LockFile:
    """What a lock file says: name → dataset; and of which file, with its time, size and inode."""

    path: str
    datasets: Mapping[str, LockedDataset]
    stamp: tuple[int, int, int]


def written_uri(source: str, path: str) -> str:
    """Give a source as the lock file at `path` has it: on every machine the same, and without what may be secret."""
    below = os.path.dirname(path).replace(os.sep, "/").rstrip("/") + "/"
    if is_web(source):
        return canonical_source(source)
    return source.removeprefix(below) if "://" not in source else redact_uri(source)


# -- files, to be read and written in a worker thread


def load(path: str, known: LockFile | None) -> LockFile:
    """Read the lock file; what is known of it is given back if it has not been changed since. Blocks.

    Raises:
        LockMismatchError: there is none.
        CatalogFileError: it can't be read, or isn't a lock file of this format.
    """
    with _failures(path):
        try:
            with open(path, "rb") as file:
                found = os.fstat(file.fileno())
                stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
                if known is not None and (known.path, known.stamp) == (path, stamp):
                    return known
                content = file.read()
        except FileNotFoundError:
            raise LockMismatchError(
                None, f"there is no data lock file {path}: write it with lock() on a catalog that is not frozen"
            ) from None
    return LockFile(path, parse(content, Path(path)), stamp)


def update(path: str, datasets: Mapping[str, LockedDataset], *, is_whole: bool) -> None:
    """Write datasets to the lock file, in one step; what would be the same is not written. Blocks.

    Args:
        path: the file, absolute.
        datasets: by name.
        is_whole: whether these are all, or the file's others are kept.

    Raises:
        CatalogFileError: the file can't be written; or others are to be kept, and it can't be read.
    """
    path = os.path.realpath(path)  # a link stays a link
    with _failures(path):
        try:
            old = Path(path).read_bytes()
        except FileNotFoundError:
            old = b""
        kept = {} if is_whole or not old else parse(old, Path(path))
        new = render({**kept, **datasets}, Path(path))
        if new != old:
            replace_file(path, new)


@contextmanager
def _failures(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CatalogFileError(f"the data lock file: {error.strerror or error}", file=Path(path)) from error


# -- the format


def render(datasets: Mapping[str, LockedDataset], file: Path) -> bytes:
    """Write what a lock file says.

    Raises:
        CatalogFileError: a name that is no text.
    """
    blocks = [_HEADER]
    for name in sorted(datasets):
        dataset = datasets[name]
        lines = [f"[datasets.{_key(name)}]", f"uri = {_text(dataset.uri)}"]
        if dataset.is_multi_file:
            lines.append("files = [")
            lines += [f"    {{ name = {_text(each.name)}, {', '.join(_fields(each))} }}," for each in dataset.files]
            lines.append("]")
        else:
            lines += _fields(dataset.files[0])
        blocks.append("\n".join(lines) + "\n")
    try:
        return "\n".join(blocks).encode()
    except UnicodeEncodeError as error:
        shown = error.object[max(0, error.start - 40) : error.end]
        raise CatalogFileError(f"a file's name is no text, so it can't be locked: …{shown!r}", file=file) from None


def _fields(locked: LockedFile) -> list[str]:
    values = {name: getattr(locked, name) for name in _FILE_FIELDS}
    return [f"{n} = {_text(v) if isinstance(v, str) else v}" for n, v in values.items() if v is not None]


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _text(value: str) -> str:
    """Write a TOML string: all but quotes, backslashes and control characters stands for itself."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\u{ord(match[0]):04x}", escaped) + '"'


def parse(content: bytes, file: Path) -> dict[str, LockedDataset]:
    """Read what a lock file says.

    Raises:
        CatalogFileError: it says it wrongly; the error has the line.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CatalogFileError(f"the data lock file is not UTF-8 text; {_HINT}", file=file) from error
    if conflict := _CONFLICT.search(text):
        line = text.count("\n", 0, conflict.start()) + 1
        reason = f"the data lock file has a merge conflict that is not resolved; {_HINT}"
        raise CatalogFileError(reason, file=file, line=line)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        told = re.search(r"line (\d+)", str(error))
        reason = f"the data lock file can't be read: {error}; {_HINT}"
        raise CatalogFileError(reason, file=file, line=int(told[1]) if told else None) from error
    if values.get("format") != FORMAT:
        reason = f"a data lock file of format {FORMAT} is understood here, this one says {values.get('format')!r}"
        hint = "upgrade datacachalog, or write it anew with lock()"
        raise CatalogFileError(f"{reason}; {hint}", file=file, line=_line_of(text, "format"))
    blocks = values.get("datasets", {})
    if not isinstance(blocks, dict) or set(values) - {"format", "datasets"}:
        raise CatalogFileError(f"a data lock file has a format and datasets, and nothing else; {_HINT}", file=file)
    datasets: dict[str, LockedDataset] = {}
    for name, block in blocks.items():
        try:
            datasets[name] = _dataset(block)
        except ValueError as error:
            block_line = _line_of(text, f"[datasets.{_key(name)}]")
            raise CatalogFileError(f"dataset {name!r}: {error}; {_HINT}", file=file, line=block_line) from None
    return datasets


def _line_of(text: str, beginning: str) -> int | None:
    lines = enumerate(text.splitlines(), start=1)
    return next((number for number, line in lines if line.lstrip().startswith(beginning)), None)


def _dataset(block: Any) -> LockedDataset:
    """Read a block.

    Raises:
        ValueError: what is wrong with it.
    """
    has_uri = isinstance(block, dict) and isinstance(block.get("uri"), str)
    if not has_uri:
        raise ValueError("a dataset has a uri")
    uri, rest = block["uri"], {name: value for name, value in block.items() if name != "uri"}
    if "files" not in rest:
        return LockedDataset(uri, (_file("", rest),))
    files = rest.pop("files")
    if rest or not isinstance(files, list) or not files:
        raise ValueError("a glob or prefix dataset has a uri and a list of files, and nothing else")
    if not all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in files):
        raise ValueError("each of its files has a name")
    names = [each.pop("name") for each in files]
    if len(set(names)) < len(names):
        raise ValueError("one of its files is there twice")
    return LockedDataset(uri, tuple(map(_file, names, files)), is_multi_file=True)


def _file(name: str, fields: dict[str, Any]) -> LockedFile:
    if unknown := sorted(set(fields) - set(_FILE_FIELDS)):
        raise ValueError(f"{unknown[0]!r} is not known here; known are {', '.join(_FILE_FIELDS)}")
    for field, kind in _FILE_FIELDS.items():
        if field in _NEEDED_FIELDS and field not in fields:
            raise ValueError(f"{field} is missing")
        if field in fields and (type(fields[field]) is not kind or fields[field] in ("", -1)):
            raise ValueError(f"{field} = {fields[field]!r} is not what lock() writes")
    if fields["size"] < 0:
        raise ValueError(f"size = {fields['size']} is not what lock() writes")
    fields["digest"] = parse_digest(fields["digest"])
    return LockedFile(name, **fields)
