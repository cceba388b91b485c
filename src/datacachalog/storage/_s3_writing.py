"""How are objects written to S3, and to what speaks like it? A body is sent a piece at a time, from where it lies.

A body's checksum goes before it, in a header, because it is known: S3 compares it with what arrives and refuses what
differs. Over plain HTTP the signature covers the bytes too, by their SHA-256, computed in a worker thread; over HTTPS
it says that it doesn't (`UNSIGNED-PAYLOAD`), as botocore's does. botocore's client would compute it on the event loop,
and takes bodies that are in memory or block; so bodies go the short way (`_s3_wire`), and through the client only where
there is none: the first one of a bucket, and those that are encrypted. All other requests are the client's.
"""

from __future__ import annotations

import functools
import io
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from .._errors import DatacachalogError, StorageUnreachableError
from .._models import FileMetadata, normalize_etag
from ..ports import (
    ConditionsUnsupported,
    Content,
    Upload,
    UploadedPart,
    WriteOutcome,
    WriteRefused,
    WriteRequest,
    Written,
)
from ._bodies import Body
from ._s3_credentials import has_expired
from ._s3_failures import error_of_answer, is_about_checksums, s3_failures

if TYPE_CHECKING:
    from .._config import CatalogConfig
    from ._s3 import S3Storage
    from ._s3_wire import Wire

_HEADER_OF_ARGUMENT = {
    "ContentType": "content-type",
    "IfMatch": "if-match",
    "IfNoneMatch": "if-none-match",
    "RequestPayer": "x-amz-request-payer",
    "ChecksumCRC64NVME": "x-amz-checksum-crc64nvme",
}
_SENT_SHORTLY = {*_HEADER_OF_ARGUMENT, "Bucket", "Key", "PartNumber", "UploadId"}
_Result = TypeVar("_Result")
_UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"


class S3Writing(ABC):
    """What an open way to S3 needs so that objects can be written."""

    _storage: S3Storage
    _config: CatalogConfig
    _wire: Wire
    _sends_checksums = True
    _has_bare_etags = False

    @abstractmethod
    def _arguments(self, uri: str, version_id: str | None) -> dict[str, Any]:
        """Give the arguments that name an object."""

    @abstractmethod
    async def _connected(self, uri: str) -> Any:
        """Give the client."""

    @abstractmethod
    def _metadata(self, answer: Mapping[str, Any], size: int) -> FileMetadata:
        """Give what an answer to a write says of the object."""

    @abstractmethod
    async def _signed(self, ask: Callable[[], Awaitable[_Result]]) -> _Result:
        """Ask, and once more with new credentials if the old ones have expired."""

    # -- the port

    async def write(self, request: WriteRequest, content: Content) -> WriteOutcome:
        """Write an object in one piece (PutObject).

        Raises:
            StorageError: or below: no such bucket, no permission, no answer.
            InvalidSourceError: not an S3 URI.
        """
        conditions = self._conditions(request)
        try:
            arguments = self._new_object(request) | conditions
            answer = await self._send_body("put_object", request.uri, arguments, content)
        except _RefusedError as refusal:
            return self._refused(request, conditions, refusal)
        return Written(self._metadata(answer, content.size))

    async def begin_upload(self, request: WriteRequest) -> Upload:
        """Begin to write an object in parts (CreateMultipartUpload).

        Raises:
            StorageError: or below: no such bucket, no permission, no answer.
            InvalidSourceError: not an S3 URI.
        """
        arguments = self._new_object(request)
        checksums = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
        try:
            answer = await self._call("create_multipart_upload", request.uri, arguments, checksums)
        except _RefusedError as refusal:
            raise refusal.error(request.uri) from refusal.__cause__
        return Upload(request.uri, answer["UploadId"])

    async def write_part(self, upload: Upload, number: int, start: int, content: Content) -> UploadedPart:  # noqa: ARG002  # the number says where it belongs
        """Write a part (UploadPart).

        Raises:
            StorageError: or below: the upload is gone, no permission, no answer.
        """
        arguments = self._arguments(upload.uri, None) | {"UploadId": upload.upload_id, "PartNumber": number}
        try:
            answer = await self._send_body("upload_part", upload.uri, arguments, content)
        except _RefusedError as refusal:
            raise refusal.error(upload.uri) from refusal.__cause__
        return UploadedPart(number, content.size, normalize_etag(answer.get("ETag")), content.crc)

    async def complete_upload(
        self, upload: Upload, request: WriteRequest, parts: Sequence[UploadedPart], crc: str
    ) -> WriteOutcome:
        """Make the object of its parts (CompleteMultipartUpload).

        Raises:
            StorageError: or below: the upload is gone, no permission, no answer.
        """
        size = sum(part.size for part in parts)
        named = [{"PartNumber": part.number, "ETag": f'"{part.etag}"'} for part in parts]
        if self._sends_checksums:
            for name, part in zip(named, parts, strict=True):
                name["ChecksumCRC64NVME"] = _value(part.crc)
        conditions = self._conditions(request)
        arguments = self._arguments(upload.uri, None) | conditions
        arguments |= {"UploadId": upload.upload_id, "MultipartUpload": {"Parts": named}}
        checksums = {"ChecksumCRC64NVME": _value(crc), "ChecksumType": "FULL_OBJECT", "MpuObjectSize": size}
        try:
            # botocore takes a 200 with an error in its body for the 500 that it is.
            answer = await self._call("complete_multipart_upload", upload.uri, arguments, checksums)
        except _RefusedError as refusal:
            return self._refused(request, conditions, refusal)
        return Written(self._metadata(answer, size))

    async def abort_upload(self, upload: Upload) -> None:
        """Drop the parts (AbortMultipartUpload).

        Raises:
            StorageError: or below: no permission, no answer.
        """
        arguments = self._arguments(upload.uri, None) | {"UploadId": upload.upload_id}
        arguments = {name: value for name, value in arguments.items() if not name.startswith("SSE")}
        try:
            await self._call("abort_multipart_upload", upload.uri, arguments, {})
        except _RefusedError as refusal:
            if refusal.status != 404:
                raise refusal.error(upload.uri) from refusal.__cause__

    # -- what is asked

    def _new_object(self, request: WriteRequest) -> dict[str, Any]:
        encryption = dict(self._storage.server_side_encryption or {})
        return self._arguments(request.uri, None) | encryption | {"ContentType": request.content_type}

    def _conditions(self, request: WriteRequest) -> dict[str, str]:
        if request.must_be_new:
            return {"IfNoneMatch": "*"}
        if request.if_match is not None:
            return {"IfMatch": request.if_match if self._has_bare_etags else f'"{request.if_match}"'}
        return {}

    def _refused(self, request: WriteRequest, conditions: Mapping[str, str], refusal: _RefusedError) -> WriteOutcome:
        """Give the outcome that a refusal is, where it is one of the conditions."""
        if conditions and refusal.status == 501:
            return ConditionsUnsupported()
        # S3 says NoSuchKey of an `If-Match` where nothing is.
        is_gone = "IfMatch" in conditions and refusal.code == "NoSuchKey"
        if refusal.status == 412 or refusal.code == "ConditionalRequestConflict" or is_gone:
            if "IfMatch" in conditions:
                # Ceph 16 compares the ETag with the header's quotes, so the next try is in the other spelling.
                self._has_bare_etags = conditions["IfMatch"] != request.if_match
            return WriteRefused()
        raise refusal.error(request.uri) from refusal.__cause__

    # -- sending

    async def _call(
        self, operation: str, uri: str, arguments: Mapping[str, Any], checksums: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Have the client send a request; once more, if the store refuses it because of its checksums."""
        client = await self._connected(uri)
        self._wire.watch(arguments["Bucket"], arguments["Key"])
        import botocore.exceptions  # loaded by now

        while True:
            sent = arguments if not self._sends_checksums else {**arguments, **checksums}
            with s3_failures(uri):
                try:
                    return await self._signed(functools.partial(_asked, getattr(client, operation), sent))
                except botocore.exceptions.ClientError as error:
                    refusal = _RefusedError(error.response)
                    if sent is arguments or not is_about_checksums(refusal.response):
                        raise refusal from error
                    self._sends_checksums = False

    async def _send_body(
        self, operation: str, uri: str, arguments: Mapping[str, Any], content: Content
    ) -> Mapping[str, Any]:
        """Send a request with a body: the short way if there is one, else by the client."""
        await self._connected(uri)
        checksums = {"ChecksumCRC64NVME": _value(content.crc)}
        if arguments.keys() <= _SENT_SHORTLY:
            sent = {**arguments, **(checksums if self._sends_checksums else {})}
            with s3_failures(uri):
                answer = await self._send_shortly(uri, sent, content)
            if answer is not None:
                return answer
        body = io.BytesIO()
        async for chunk in content.chunks():
            body.write(chunk)
        body.seek(0)
        return await self._call(operation, uri, {**arguments, "Body": body}, checksums)

    async def _send_shortly(self, uri: str, arguments: Mapping[str, Any], content: Content) -> Mapping[str, Any] | None:
        """Send a body the short way; None if there is none, or if the answer is for the client to deal with."""
        way = self._wire.is_signed_over_https(arguments["Bucket"])
        if way is None:
            return None
        is_signed, is_https = way
        payload_hash = _UNSIGNED_PAYLOAD
        if is_signed and not is_https:
            payload_hash = _value(await content.digest("sha256"))
        headers = {header: arguments[name] for name, header in _HEADER_OF_ARGUMENT.items() if name in arguments}
        headers["content-length"] = str(content.size)
        query = {
            name[0].lower() + name[1:]: str(arguments[name]) for name in ("PartNumber", "UploadId") if name in arguments
        }
        body = Body(content, self._config.read_timeout_seconds)
        with body.patience:
            answer = await self._wire.send_body(
                arguments["Bucket"],
                arguments["Key"],
                query,
                headers,
                body.slices() if content.size else b"",
                payload_hash,
            )
        if body.patience.cancelled_caught:
            raise StorageUnreachableError(uri, f"nothing more was taken for {self._config.read_timeout_seconds} s")
        if answer is not None and answer.status != 200:
            if has_expired(answer.fields):
                return None  # the client may come to other credentials
            raise _RefusedError(answer.fields)
        return None if answer is None else answer.fields


async def _asked(ask: Callable[..., Awaitable[Mapping[str, Any]]], arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Send a request from the beginning of its body on: it may be the second time."""
    if "Body" in arguments:
        arguments["Body"].seek(0)
    return await ask(**arguments)


@dataclass
class _RefusedError(Exception):
    """The store said no, as botocore's errors carry it."""

    response: Mapping[str, Any]

    @property
    def status(self) -> int:
        return int(self.response["ResponseMetadata"]["HTTPStatusCode"])

    @property
    def code(self) -> str:
        return str(self.response["Error"].get("Code", ""))

    def error(self, uri: str) -> DatacachalogError:
        """Give what it means to a caller."""
        return error_of_answer(uri, self.response, doing="write")


def _value(digest: str) -> str:
    """Give a digest without the name of its algorithm."""
    return digest.partition(":")[2]
