"""How are blobs written to Azure? In one request, or in blocks that a last one commits; both with what is demanded.

An upload has no name of its own on the store: blocks belong to the blob until they are committed. Their ids are this
upload's, so two that go on at once don't mix; the first to commit drops the other's blocks.
(https://learn.microsoft.com/rest/api/storageservices/put-block-list)
"""

from __future__ import annotations

import base64
import secrets
from abc import abstractmethod
from collections.abc import Mapping, Sequence

from .._errors import ObjectNotFoundError
from ..ports import (
    Content,
    Upload,
    UploadedPart,
    WriteOutcome,
    WriteRefused,
    WriteRequest,
    Written,
)
from ._rest import Asked, RestSession, TakenAnswer, refused, rest_failures

_REFUSED = frozenset({"ConditionNotMet", "BlobAlreadyExists", "TargetConditionNotMet"})
_BLOCKS_GONE = frozenset({"InvalidBlockList", "InvalidBlobOrBlock"})


class AzureWriting(RestSession):
    """What of a session with Azure writes."""

    @abstractmethod
    def blob_url(self, uri: str, query: Mapping[str, str]) -> str:
        """Give the URL of a blob."""

    async def write(self, request: WriteRequest, content: Content) -> WriteOutcome:
        """Write a blob in one piece (Put Blob); Azure compares it with the MD5 that goes before it, and keeps that.

        Raises:
            StorageError: or below: no such container, no permission, no answer.
            InvalidSourceError: not a URI of Azure.
        """
        headers = {
            "x-ms-blob-type": "BlockBlob",
            "x-ms-blob-content-type": request.content_type,
            "content-type": "application/octet-stream",
            "content-md5": await _md5(content),
            **_conditions(request),
        }
        asked = Asked(uri=request.uri, method="PUT", url=self.blob_url(request.uri, {}), headers=headers)
        return self._written(request, await self._send_content(asked, content), content.size, is_whole=True)

    async def begin_upload(self, request: WriteRequest) -> Upload:
        """Choose the ids of the blocks; nothing is sent."""
        self.blob_url(request.uri, {})  # refuses what is no blob's URI
        return Upload(request.uri, secrets.token_hex(16))

    async def write_part(self, upload: Upload, number: int, start: int, content: Content) -> UploadedPart:  # noqa: ARG002  # the number says where it belongs
        """Write a block (Put Block); Azure compares it with the MD5 that goes before it.

        Raises:
            StorageError: or below: no permission, no answer.
        """
        headers = {"content-type": "application/octet-stream", "content-md5": await _md5(content)}
        url = self.blob_url(upload.uri, {"comp": "block", "blockid": _block_id(upload, number)})
        answer = await self._send_content(Asked(uri=upload.uri, method="PUT", url=url, headers=headers), content)
        if refused(answer):
            raise self._refusal(answer.status, answer.headers, answer.body).error(upload.uri, doing="write")
        return UploadedPart(number, content.size, None, content.crc)

    async def complete_upload(
        self,
        upload: Upload,
        request: WriteRequest,
        parts: Sequence[UploadedPart],
        crc: str,  # noqa: ARG002  # Azure computes no checksum of the whole
    ) -> WriteOutcome:
        """Make the blob of its blocks (Put Block List).

        Raises:
            StorageError: or below: the blocks are gone, no permission, no answer.
        """
        blocks = "".join(f"<Latest>{_block_id(upload, part.number)}</Latest>" for part in parts)
        body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{blocks}</BlockList>'.encode()
        headers = {
            "content-type": "application/xml",
            "content-length": str(len(body)),
            "x-ms-blob-content-type": request.content_type,
            **_conditions(request),
        }
        url = self.blob_url(upload.uri, {"comp": "blocklist"})
        answer = await self._taken(Asked(uri=upload.uri, method="PUT", url=url, headers=headers, body=body))
        # Its Content-MD5 is that of the list.
        return self._written(request, answer, sum(part.size for part in parts), is_whole=False)

    async def abort_upload(self, upload: Upload) -> None:
        """Leave the blocks, which nobody sees, to Azure, which drops them after a week or with the next commit."""

    def _written(self, request: WriteRequest, answer: TakenAnswer, size: int, *, is_whole: bool) -> WriteOutcome:
        if not refused(answer):
            with rest_failures(request.uri):
                return Written(self._read_metadata(answer.headers, size, is_whole=is_whole))
        refusal = self._refusal(answer.status, answer.headers, answer.body)
        is_gone = request.if_match is not None and refusal.status == 404 and refusal.code == "BlobNotFound"
        if _conditions(request) and (refusal.code in _REFUSED or refusal.status == 412 or is_gone):
            return WriteRefused()
        if refusal.code in _BLOCKS_GONE:
            raise ObjectNotFoundError(request.uri, f"{refusal.status} {refusal.code}: the upload's blocks are gone")
        raise refusal.error(request.uri, doing="write")


def _conditions(request: WriteRequest) -> dict[str, str]:
    if request.must_be_new:
        return {"if-none-match": "*"}
    return {} if request.if_match is None else {"if-match": f'"{request.if_match}"'}


def _block_id(upload: Upload, number: int) -> str:
    return base64.b64encode(f"{upload.upload_id}{number:06}".encode()).decode()


async def _md5(content: Content) -> str:
    digest = (await content.digest("md5")).partition(":")[2]
    return base64.b64encode(bytes.fromhex(digest)).decode()
