"""Which objects are fetched? Random bytes, made anew for each run, with the digest that a right copy of each has."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from _servers import BUCKET, Endpoints, running_nginx
from awscrt.checksums import crc64nvme

_CHUNK = 1 << 20
_PREFIX_OF_BUCKET = "datacachalog-benchmarks/"


@dataclass(frozen=True, slots=True)
class Objects:
    """So many objects of one size below one prefix: key → SHA-256 of its bytes."""

    prefix: str
    size: int
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Store:
    """Where the objects are: the stand-in's endpoints, or None for the bucket that `BENCH_BUCKET` names."""

    endpoints: Endpoints | None
    bucket: str
    objects: Mapping[tuple[int, int], Objects]
    environment: Mapping[str, str]

    def url(self, server: str) -> str | None:
        """Give the endpoint to ask; None for what S3 clients take from their environment."""
        if self.endpoints is None:
            return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return self.endpoints.urls[server]


@contextlib.contextmanager
def running_store(place: Path, wanted: Iterable[tuple[int, int]]) -> Iterator[Store]:
    """Make objects, as many of a size as `wanted` says, and serve them from nginx, or put them into a real bucket."""
    real = os.environ.get("BENCH_BUCKET")
    data = place / "data"
    folder = data / (real or BUCKET)
    checksums: dict[str, tuple[int, str]] = {}
    objects = {}
    for count, size in [*dict.fromkeys(wanted), (1, 1)]:  # the last is what is asked for before a measured call
        prefix = f"{_PREFIX_OF_BUCKET if real else ''}{count}x{size}/"
        digests = {}
        (folder / prefix).mkdir(parents=True)
        for number in range(count):
            key = f"{prefix}{number:06d}.bin"
            digests[key], crc = _make(folder / key, size)
            checksums[f"/{BUCKET}/{key}"] = (size, crc)
        objects[count, size] = Objects(prefix, size, digests)
    if real:
        command = [sys.executable, str(Path(__file__).with_name("_upload.py")), str(folder), real]
        subprocess.run(command, check=True)
        yield Store(None, real, objects, os.environ)
        return
    with running_nginx(data, checksums) as endpoints:
        yield Store(endpoints, BUCKET, objects, {**clean_environment(), **endpoints.environment})


def clean_environment() -> dict[str, str]:
    """Give an environment for children in which nothing of the user's own configuration is."""
    unwanted = ("AWS_", "DATACACHALOG_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return {name: value for name, value in clean.items() if not name.lower().endswith("_proxy")} | {
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def _make(path: Path, size: int) -> tuple[str, str]:
    """Write random bytes, and give their SHA-256 and their CRC-64/NVME as S3 writes it."""
    sha, crc = hashlib.sha256(), 0
    with path.open("wb") as file:
        for start in range(0, size, _CHUNK):
            chunk = os.urandom(min(_CHUNK, size - start))
            file.write(chunk)
            sha.update(chunk)
            crc = crc64nvme(chunk, crc)
    return sha.hexdigest(), base64.b64encode(crc.to_bytes(8, "big")).decode()


def write_job(path: Path, **job: object) -> str:
    """Write what a contender is told; give the file's name for its command line."""
    path.write_text(json.dumps(job))
    return str(path)
