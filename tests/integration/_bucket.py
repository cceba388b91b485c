"""How do objects get into the gateway, and what should arrive? Written with botocore, not with what is tested."""

from __future__ import annotations

import contextlib
import hashlib
import random
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import botocore.session
from botocore.config import Config

from ._rgw import Gateway

MIB = 1024 * 1024
_PART_BYTES = 64 * MIB
_SESSION = botocore.session.Session()  # it keeps the service's description, which takes long to read


def noise(size: int, *, seed: int) -> bytes:
    """Make bytes that don't compress and that no other seed has."""
    return random.Random(seed).randbytes(size)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of the gateway, and its owner's way to write to it."""

    name: str
    client: Any

    def uri(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    def put(self, key: str, content: bytes) -> str:
        """Write an object, and give its SHA-256."""
        self.client.put_object(Bucket=self.name, Key=key, Body=content)
        return sha256(content)

    def put_many(self, contents: Iterable[tuple[str, bytes]]) -> dict[str, str]:
        """Write objects, eight at a time; key → SHA-256."""
        with ThreadPoolExecutor(8) as pool:
            return dict(pool.map(lambda item: (item[0], self.put(*item)), contents))

    def put_in_parts(self, key: str, size: int, *, seed: int) -> str:
        """Write a large object by a multipart upload, with no more than two parts in memory; give its SHA-256."""
        upload = {"Bucket": self.name, "Key": key}
        upload["UploadId"] = self.client.create_multipart_upload(**upload)["UploadId"]
        digest = hashlib.sha256()
        parts: list[dict[str, Any]] = []
        block = noise(_PART_BYTES, seed=seed)
        with ThreadPoolExecutor(1) as pool:
            sent = None
            for number, start in enumerate(range(0, size, _PART_BYTES), 1):
                # The same noise, turned by another odd number of bytes: no two ranges of the object are equal.
                turn = number * 100_003
                content = (block[turn:] + block[:turn])[: size - start]
                if sent is not None:
                    sent.result()
                sent = pool.submit(self._put_part, upload, number, content, parts)
                digest.update(content)
            if sent is not None:
                sent.result()
        self.client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        return digest.hexdigest()

    def _put_part(self, upload: dict[str, Any], number: int, content: bytes, parts: list[dict[str, Any]]) -> None:
        answer = self.client.upload_part(**upload, PartNumber=number, Body=content)
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})

    def keep_versions(self) -> None:
        self.client.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)


@contextlib.contextmanager
def new_bucket(gateway: Gateway) -> Iterator[Bucket]:
    """Make a bucket of the gateway's one user, that nobody else knows; the connections are closed at the end."""
    name = f"bucket-{uuid.uuid4()}"
    client = _SESSION.create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=gateway.endpoint_url,
        aws_access_key_id=gateway.access_key,
        aws_secret_access_key=gateway.secret_key,
        # What botocore sends by default since 2025, the gateways of older Ceph releases don't know.
        config=Config(request_checksum_calculation="when_required", response_checksum_validation="when_required"),
    )
    try:
        client.create_bucket(Bucket=name)
        yield Bucket(name, client)
    finally:
        client.close()
