"""How are objects written to Google Cloud Storage? In one request, or as parts that are composed; with conditions.

The multipart uploads of Google's XML API know no conditions, and its resumable ones take one part after the other. So
the parts are objects of their own, in a place that listings leave out, which are composed into the object by requests
that do know conditions, 32 at a time, and removed.
(https://cloud.google.com/storage/docs/composite-objects, https://cloud.google.com/storage/docs/request-preconditions)
"""

from __future__ import annotations

import json
import secrets
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode

import anyio

from .._errors import DatacachalogError
from ..ports import (
    Content,
    Upload,
    UploadedPart,
    WriteOutcome,
    WriteRefused,
    WriteRequest,
    Written,
)
from ._gcs_listing import UNDER_CONSTRUCTION, resource_metadata
from ._rest import Asked, RestSession, TakenAnswer, refused, rest_failures

_COMPOSED_AT_ONCE = 32
_REMOVED_AT_ONCE = 16
_REMOVING_SECONDS = 30.0
_NO_GENERATION = "1"


class GCSWriting(RestSession):
    """What of a session with Google Cloud Storage writes."""

    _endpoint: str

    @abstractmethod
    def object_url(self, uri: str, query: Mapping[str, str]) -> str:
        """Give the URL of an object."""

    @abstractmethod
    async def listing(self, prefix: str, fields: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Give an answer of objects.list."""

    async def write(self, request: WriteRequest, content: Content) -> WriteOutcome:
        """Write an object in one piece (objects.insert); Google compares it with the CRC32C that goes before it.

        Raises:
            StorageError: or below: no such bucket, no permission, no answer.
            InvalidSourceError: not a `gs://` URI.
        """
        return await self._insert(request.uri, request, content)

    async def begin_upload(self, request: WriteRequest) -> Upload:
        """Choose the place of an object's parts; nothing is sent."""
        self.object_url(request.uri, {})  # refuses what is no object's URI
        return Upload(request.uri, secrets.token_hex(16))

    async def write_part(self, upload: Upload, number: int, start: int, content: Content) -> UploadedPart:  # noqa: ARG002  # the number says where it belongs
        """Write a part, as an object of its own.

        Raises:
            StorageError: or below: no permission, no answer.
        """
        request = WriteRequest(uri=_part_uri(upload, f"{number:05}"), content_type="application/octet-stream")
        outcome = await self._insert(upload.uri, request, content)
        assert isinstance(outcome, Written)  # noqa: S101  # nothing was demanded
        return UploadedPart(number, content.size, outcome.metadata.etag, content.crc)

    async def complete_upload(
        self,
        upload: Upload,
        request: WriteRequest,
        parts: Sequence[UploadedPart],
        crc: str,  # noqa: ARG002  # Google computes another one, which the catalog compares
    ) -> WriteOutcome:
        """Compose the object of its parts (objects.compose), and remove them.

        Raises:
            StorageError: or below: a part is gone, no permission, no answer.
        """
        sources = [(f"{part.number:05}", str(part.etag)) for part in parts]
        level = 0
        while len(sources) > _COMPOSED_AT_ONCE:
            level += 1
            composed = []
            for first in range(0, len(sources), _COMPOSED_AT_ONCE):
                name = f"{level}-{first:05}"
                between = WriteRequest(uri=_part_uri(upload, name), content_type=request.content_type)
                outcome = await self._compose(upload, between, sources[first : first + _COMPOSED_AT_ONCE])
                assert isinstance(outcome, Written)  # noqa: S101  # nothing was demanded
                composed.append((name, str(outcome.metadata.etag)))
            sources = composed
        outcome = await self._compose(upload, request, sources)
        if isinstance(outcome, Written):
            with anyio.move_on_after(_REMOVING_SECONDS), suppress(DatacachalogError):
                await self.abort_upload(upload)  # what is left costs money, and is no part of the object
        return outcome

    async def abort_upload(self, upload: Upload) -> None:
        """Remove the parts, and what was composed of them on the way.

        Raises:
            StorageError: or below: no permission, no answer.
        """
        places = anyio.CapacityLimiter(_REMOVED_AT_ONCE)
        failures: list[DatacachalogError] = []

        async def remove(item: Mapping[str, Any]) -> None:
            # By its generation, so that a bucket that keeps versions keeps none of it.
            uri = f"gs://{bucket}/{item['name']}"
            url = self.object_url(uri, {"generation": str(item["generation"])})
            try:
                async with places:
                    answer = await self._taken(Asked(uri=uri, method="DELETE", url=url))
                if refused(answer) and answer.status != 404:
                    raise self._refusal(answer.status, answer.headers, answer.body).error(uri, doing="remove")
            except DatacachalogError as error:
                failures.append(error)

        bucket = upload.uri.removeprefix("gs://").partition("/")[0]
        query = {"versions": "true"}
        while True:
            listing = await self.listing(_part_uri(upload, ""), "items(name,generation),nextPageToken", query)
            async with anyio.create_task_group() as tasks:
                for item in listing.get("items", ()):
                    tasks.start_soon(remove, item)
            if failures:
                raise failures[0]
            if "nextPageToken" not in listing:
                return
            query["pageToken"] = listing["nextPageToken"]

    async def _insert(self, uri: str, request: WriteRequest, content: Content) -> WriteOutcome:
        """Write an object whose metadata go before its bytes (https://cloud.google.com/storage/docs/uploading-objects)."""
        self.object_url(request.uri, {})  # refuses what is no object's URI
        bucket, _, key = request.uri.removeprefix("gs://").partition("/")
        crc = (await content.digest("crc32c")).partition(":")[2]
        resource = json.dumps({"name": key, "contentType": request.content_type, "crc32c": crc})
        boundary = secrets.token_hex(16)
        before = (
            f"--{boundary}\r\ncontent-type: application/json; charset=utf-8\r\n\r\n{resource}\r\n"
            f"--{boundary}\r\ncontent-type: {request.content_type}\r\n\r\n"
        )
        query = {"uploadType": "multipart", **_conditions(request)}
        asked = Asked(
            uri=uri,
            method="POST",
            url=f"{self._endpoint}/upload/storage/v1/b/{quote(bucket, safe='')}/o?{urlencode(query)}",
            headers={"content-type": f"multipart/related; boundary={boundary}"},
            body=before.encode(),
        )
        after = f"\r\n--{boundary}--\r\n".encode()
        return self._written(uri, request, await self._send_content(asked, content, after))

    async def _compose(self, upload: Upload, request: WriteRequest, sources: Sequence[tuple[str, str]]) -> WriteOutcome:
        named = [
            {
                "name": _part_uri(upload, name).split("/", 3)[3],
                "generation": generation,
                "objectPreconditions": {"ifGenerationMatch": generation},
            }
            for name, generation in sources
        ]
        body = json.dumps({"destination": {"contentType": request.content_type}, "sourceObjects": named}).encode()
        url = self.object_url(request.uri, {}).removesuffix("?") + f"/compose?{urlencode(_conditions(request))}"
        headers = {"content-type": "application/json"}
        asked = Asked(uri=upload.uri, method="POST", url=url, headers=headers, body=body)
        return self._written(upload.uri, request, await self._taken(asked))

    def _written(self, uri: str, request: WriteRequest, answer: TakenAnswer) -> WriteOutcome:
        if answer.status == 412 and _conditions(request):
            return WriteRefused()
        if refused(answer):
            raise self._refusal(answer.status, answer.headers, answer.body).error(uri, doing="write")
        with rest_failures(uri):
            return Written(resource_metadata(json.loads(answer.body)))


def _conditions(request: WriteRequest) -> dict[str, str]:
    if request.must_be_new:
        return {"ifGenerationMatch": "0"}
    if request.if_match is not None:
        return {"ifGenerationMatch": request.if_match if request.if_match.isdigit() else _NO_GENERATION}
    return {}


def _part_uri(upload: Upload, name: str) -> str:
    bucket = upload.uri.removeprefix("gs://").partition("/")[0]
    return f"gs://{bucket}/{UNDER_CONSTRUCTION}{upload.upload_id}/{name}"
