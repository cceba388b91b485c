"""Archives for tests: good ones of every format, and hostile ones that no library would write."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESSIONS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": (".gz", gzip.compress),
    "bz2": (".bz2", bz2.compress),
    "xz": (".xz", lzma.compress),
    "zstd": (".zst", zstd.compress),
}
"""Format → suffix, and what compresses."""


def tar_bytes(files: Mapping[str, bytes] = {}, *others: tarfile.TarInfo) -> bytes:
    """Make a tar of files, and of members that are something else."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in others:
            archive.addfile(info)
    return buffer.getvalue()


def tar_member(name: str, kind: bytes, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    return info


def zip_bytes(
    files: Mapping[str, bytes] = {},
    *,
    method: int = zipfile.ZIP_DEFLATED,
    mode: int = 0,
    flags: int = 0,
    force_zip64: bool = False,
) -> bytes:
    """Make a zip of files, all of them with that mode and those flags."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            info.external_attr = mode << 16
            with archive.open(info, "w", force_zip64=force_zip64) as member:
                member.write(data)
        for info in archive.filelist:
            info.flag_bits |= flags
    return buffer.getvalue()
