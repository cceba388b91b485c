"""What does the store behind a `FaultServer` hold? Buckets, versions and uploads, with the rules of S3 for writing.

Knows nothing of HTTP but the errors' status. Every method is one step under one lock, so a conditional write is atomic.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from .._digests import digest_chunks

CHECKSUM_ALGORITHMS = ("crc64nvme", "crc32c", "crc32", "sha256", "sha1")
"""The algorithms of S3, as in the names of its `x-amz-checksum-…` headers."""

NULL_VERSION = "null"
"""How S3 calls the version that was written while versioning was off."""


class S3Error(Exception):
    """A request that S3 refuses.

    Args:
        status: the HTTP status.
        code: S3's name of it.
        message: S3's text.
        fields: further elements of the XML.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.fields = dict(fields or {})
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersion:
    """One version of one object, or a delete marker.

    Args:
        key: the object's.
        data: the content.
        etag: with neither quotes nor `W/`.
        checksums: algorithm → value as in the header.
        is_composite: whether these checksums are of the parts' checksums.
        headers: what the writer wants to be given back: content type, encoding, user metadata.
        last_modified: aware.
        version_id: `"null"` without versioning.
        part_sizes: bytes of each part that it was uploaded in; none where it was written in one piece.
        is_delete_marker: True hides the object.
    """

    key: str
    data: bytes
    etag: str
    checksums: Mapping[str, str]
    is_composite: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    last_modified: datetime
    version_id: str = NULL_VERSION
    part_sizes: tuple[int, ...] = ()
    is_delete_marker: bool = False


@dataclass(frozen=True, slots=True)
class _Part:
    data: bytes
    etag: str
    checksums: Mapping[str, str]


@dataclass(slots=True)
class _Upload:
    bucket: str
    key: str
    algorithm: str | None
    is_composite: bool
    headers: Mapping[str, str]
    parts: dict[int, _Part] = field(default_factory=dict)


@dataclass(slots=True)
class _Bucket:
    is_versioned: bool = False
    versions: dict[str, list[StoredVersion]] = field(default_factory=dict)
    """Key → versions, the newest first."""


def checksum_of(algorithm: str, chunks: Iterable[bytes]) -> str:
    """Compute a checksum of S3, in base64."""
    text = digest_chunks(algorithm, chunks).partition(":")[2]
    return text if algorithm.startswith("crc") else base64.b64encode(bytes.fromhex(text)).decode()


def md5_hex(data: bytes) -> str:
    """Compute the ETag of an object that is written in one piece."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


class ObjectStore:
    """Buckets in memory. Safe to use from several threads.

    Args:
        default_checksum: the algorithm of the checksum that is stored when the writer gives none; None stores none.
        min_part_bytes: every part of an upload but the last has at least so many.
        heeds_write_conditions: whether a write is refused whose conditions don't hold.
    """

    def __init__(
        self, *, default_checksum: str | None, min_part_bytes: int, heeds_write_conditions: bool = True
    ) -> None:
        if default_checksum is not None and default_checksum not in CHECKSUM_ALGORITHMS:
            known = ", ".join(CHECKSUM_ALGORITHMS)
            raise ValueError(f"default_checksum is one of {known}, or None: got {default_checksum!r}")
        self._default_checksum = default_checksum
        self._min_part_bytes = min_part_bytes
        self._heeds_write_conditions = heeds_write_conditions
        # Re-entrant and held for dictionary operations only, so that it can be taken on an event loop.
        self._lock = threading.RLock()
        self._buckets: dict[str, _Bucket] = {}
        self._uploads: dict[str, _Upload] = {}

    # -- buckets

    def create_bucket(self, bucket: str, *, is_versioned: bool | None = None) -> None:
        """Make a bucket, or change an existing one; None leaves its versioning as it is."""
        with self._lock:
            found = self._buckets.setdefault(bucket, _Bucket())
            if is_versioned is not None:
                found.is_versioned = is_versioned

    def is_versioned(self, bucket: str) -> bool:
        """Whether what is overwritten is kept."""
        with self._lock:
            return self._bucket(bucket).is_versioned

    def _bucket(self, bucket: str) -> _Bucket:
        found = self._buckets.get(bucket)
        if found is None:
            message = "The specified bucket does not exist"
            raise S3Error(404, "NoSuchBucket", message, fields={"BucketName": bucket})
        return found

    # -- reading

    def find(self, bucket: str, key: str, version_id: str | None = None) -> StoredVersion:
        """Give the newest version, or the one asked for."""
        with self._lock:
            versions = self._bucket(bucket).versions.get(key, [])
            if version_id is None:
                return _current(key, versions)
            found = next((version for version in versions if version.version_id == version_id), None)
        if found is None:
            fields = {"Key": key, "VersionId": version_id}
            raise S3Error(404, "NoSuchVersion", "The specified version does not exist.", fields=fields)
        if found.is_delete_marker:
            headers = {"x-amz-delete-marker": "true", "x-amz-version-id": version_id, "Allow": "DELETE"}
            message = "The specified method is not allowed against this resource."
            raise S3Error(405, "MethodNotAllowed", message, headers=headers)
        return found

    def list_current(self, bucket: str, prefix: str, after: str) -> list[StoredVersion]:
        """List the objects whose keys begin with `prefix` and come after `after`, in the order of their UTF-8 bytes."""
        with self._lock:
            versions = self._bucket(bucket).versions
            keys = sorted(key for key in versions if key.startswith(prefix) and key > after)
            return [versions[key][0] for key in keys if not versions[key][0].is_delete_marker]

    def list_versions(self, bucket: str, prefix: str) -> list[tuple[StoredVersion, bool]]:
        """List all versions, by key and the newest first, each with whether it is the latest."""
        with self._lock:
            versions = self._bucket(bucket).versions
            keys = sorted(key for key in versions if key.startswith(prefix))
            return [(version, version is versions[key][0]) for key in keys for version in versions[key]]

    # -- writing

    def put(
        self,
        bucket: str,
        key: str,
        data: bytes,
        *,
        checksums: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        last_modified: datetime | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> StoredVersion:
        """Write an object in one piece."""
        self.require_bucket(bucket)
        if not checksums and self._default_checksum is not None:
            checksums = {self._default_checksum: checksum_of(self._default_checksum, (data,))}
        version = StoredVersion(
            key=key,
            data=data,
            etag=md5_hex(data),
            checksums=checksums or {},
            headers=headers or {},
            last_modified=last_modified or datetime.now(UTC),
        )
        return self._append(bucket, version, if_match=if_match, if_none_match=if_none_match)

    def require_bucket(self, bucket: str) -> None:
        """Refuse, before anything is computed, what is meant for a bucket that isn't there."""
        with self._lock:
            self._bucket(bucket)

    def _append(
        self, bucket: str, version: StoredVersion, *, if_match: str | None = None, if_none_match: str | None = None
    ) -> StoredVersion:
        with self._lock:
            found = self._bucket(bucket)
            versions = found.versions.get(version.key, [])
            if self._heeds_write_conditions:
                _check_write_conditions(version.key, versions, if_match, if_none_match)
            if found.is_versioned:
                version = replace(version, version_id=uuid.uuid4().hex)
            else:
                versions = [kept for kept in versions if kept.version_id != NULL_VERSION]
            found.versions[version.key] = [version, *versions]
        return version

    def delete(self, bucket: str, key: str, version_id: str | None = None) -> StoredVersion | None:
        """Delete an object, or one of its versions; give the delete marker that was written or the version removed."""
        with self._lock:
            found = self._bucket(bucket)
            if version_id is None and found.is_versioned:
                marker = StoredVersion(
                    key=key, data=b"", etag="", checksums={}, last_modified=datetime.now(UTC), is_delete_marker=True
                )
                return self._append(bucket, marker)
            versions = found.versions.get(key, [])
            gone = version_id or NULL_VERSION
            kept = [version for version in versions if version.version_id != gone]
            removed = next((version for version in versions if version.version_id == gone), None)
            if kept:
                found.versions[key] = kept
            else:
                found.versions.pop(key, None)
            return removed

    # -- uploads in parts

    def create_upload(
        self, bucket: str, key: str, *, algorithm: str | None, is_composite: bool | None, headers: Mapping[str, str]
    ) -> str:
        """Begin an upload and give its id; `is_composite=None` means what S3 does with that algorithm."""
        if algorithm is None:
            algorithm = self._default_checksum
        if is_composite is None:
            is_composite = algorithm not in (None, "crc64nvme")
        upload_id = uuid.uuid4().hex
        with self._lock:
            self._bucket(bucket)
            self._uploads[upload_id] = _Upload(bucket, key, algorithm, is_composite, headers)
        return upload_id

    def _upload(self, bucket: str, key: str, upload_id: str) -> _Upload:
        upload = self._uploads.get(upload_id)
        if upload is None or (upload.bucket, upload.key) != (bucket, key):
            message = "The specified upload does not exist. It may have been aborted or completed."
            raise S3Error(404, "NoSuchUpload", message, fields={"UploadId": upload_id})
        return upload

    def put_part(
        self, bucket: str, key: str, upload_id: str, number: int, data: bytes, checksums: Mapping[str, str]
    ) -> str:
        """Keep a part and give its ETag."""
        part = _Part(data, md5_hex(data), checksums)
        with self._lock:
            self._upload(bucket, key, upload_id).parts[number] = part
        return part.etag

    def complete_upload(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        named: Sequence[tuple[int, str]],
        *,
        checksums: Mapping[str, str] | None = None,
        size: int | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> StoredVersion:
        """Make the object of the parts named by number and ETag. A condition that fails leaves the upload open.

        Args:
            bucket: where it is made.
            key: its key.
            upload_id: of the upload.
            named: number and ETag of each part.
            checksums: what its checksums must be, by algorithm.
            size: how many bytes it must have.
            if_match: the ETag that must be there.
            if_none_match: `*` where nothing may be there.
        """
        with self._lock:
            upload = self._upload(bucket, key, upload_id)
            parts = self._named_parts(upload, named)
        # The long work is done outside the lock; the write below checks its conditions anew.
        digest = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts), usedforsecurity=False)
        version = StoredVersion(
            key=key,
            data=parts[0].data if len(parts) == 1 else b"".join(part.data for part in parts),
            etag=f"{digest.hexdigest()}-{len(parts)}",
            checksums=_upload_checksums(upload, parts),
            is_composite=upload.is_composite,
            headers=upload.headers,
            last_modified=datetime.now(UTC),
            part_sizes=tuple(len(part.data) for part in parts),
        )
        if size is not None and size != len(version.data):
            raise S3Error(400, "InvalidRequest", "The object's size is not the one that you specified")
        for algorithm, value in (checksums or {}).items():
            if version.checksums.get(algorithm, value) != value:
                message = f"The {algorithm} you specified did not match the calculated checksum."
                raise S3Error(400, "BadDigest", message)
        with self._lock:
            self._upload(bucket, key, upload_id)
            version = self._append(bucket, version, if_match=if_match, if_none_match=if_none_match)
            del self._uploads[upload_id]
        return version

    def _named_parts(self, upload: _Upload, named: Sequence[tuple[int, str]]) -> list[_Part]:
        if not named:
            raise S3Error(400, "MalformedXML", "The XML you provided was not well-formed.")
        numbers = [number for number, _ in named]
        if numbers != sorted(set(numbers)):
            raise S3Error(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
        parts = []
        for number, etag in named:
            part = upload.parts.get(number)
            if part is None or part.etag != etag:
                raise S3Error(400, "InvalidPart", "One or more of the specified parts could not be found.")
            parts.append(part)
        if any(len(part.data) < self._min_part_bytes for part in parts[:-1]):
            raise S3Error(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
        return parts

    def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """Drop an upload and its parts."""
        with self._lock:
            self._upload(bucket, key, upload_id)
            del self._uploads[upload_id]

    def open_uploads(self, bucket: str) -> list[str]:
        """List the keys of the uploads that were neither completed nor aborted."""
        with self._lock:
            self._bucket(bucket)
            return sorted(upload.key for upload in self._uploads.values() if upload.bucket == bucket)


def _current(key: str, versions: Sequence[StoredVersion]) -> StoredVersion:
    if versions and not versions[0].is_delete_marker:
        return versions[0]
    headers = {}
    if versions:
        headers = {"x-amz-delete-marker": "true", "x-amz-version-id": versions[0].version_id}
    raise S3Error(404, "NoSuchKey", "The specified key does not exist.", fields={"Key": key}, headers=headers)


def _check_write_conditions(
    key: str, versions: Sequence[StoredVersion], if_match: str | None, if_none_match: str | None
) -> None:
    """Refuse a write whose conditions don't hold.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    """
    message = "At least one of the pre-conditions you specified did not hold"
    if if_match is not None and if_match not in ("*", _current(key, versions).etag):
        raise S3Error(412, "PreconditionFailed", message, fields={"Condition": "If-Match"})
    if if_none_match is not None:
        if if_none_match != "*":
            text = "A header you provided implies functionality that is not implemented"
            raise S3Error(501, "NotImplemented", text, fields={"Header": "If-None-Match"})
        if versions and not versions[0].is_delete_marker:
            raise S3Error(412, "PreconditionFailed", message, fields={"Condition": "If-None-Match"})


def _upload_checksums(upload: _Upload, parts: Sequence[_Part]) -> dict[str, str]:
    """Compute the object's checksum: of its bytes, or of its parts' checksums and then marked with their number."""
    algorithm = upload.algorithm
    if algorithm is None:
        return {}
    if not upload.is_composite:
        return {algorithm: checksum_of(algorithm, (part.data for part in parts))}
    of_parts = [part.checksums.get(algorithm) or checksum_of(algorithm, (part.data,)) for part in parts]
    joined = b"".join(base64.b64decode(checksum) for checksum in of_parts)
    return {algorithm: f"{checksum_of(algorithm, (joined,))}-{len(parts)}"}
