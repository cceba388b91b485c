"""What does an answer look like that is wrong? Changed before it is sent, as the faults of its request say."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping

from ._faults import Fault, NoEtag, Status, WeakEtag, WrongBytes, WrongChecksum, WrongContentRange
from ._messages import Answer
from ._objects import CHECKSUM_ALGORITHMS, S3Error

_CODE_OF_STATUS = {
    400: "InvalidRequest",
    401: "AccessDenied",
    403: "AccessDenied",
    404: "NoSuchKey",
    405: "MethodNotAllowed",
    408: "RequestTimeout",
    409: "OperationAborted",
    412: "PreconditionFailed",
    416: "InvalidRange",
    429: "TooManyRequests",
    500: "InternalError",
    503: "SlowDown",
}


def scripted_error(fault: Status) -> S3Error:
    """Give the refusal that is scripted."""
    code = fault.code or _CODE_OF_STATUS.get(fault.status, "InternalError")
    headers = {} if fault.retry_after_seconds is None else {"Retry-After": str(fault.retry_after_seconds)}
    return S3Error(fault.status, code, f"scripted: {code}", headers=headers)


def spoil(answer: Answer, fault: Fault) -> None:
    """Change the answer as the fault says."""
    match fault:
        case WrongContentRange(value=value):
            if "Content-Range" in answer.headers:
                given = answer.headers["Content-Range"]
                answer.headers["Content-Range"] = _shifted_content_range(given) if value is None else value
        case WrongBytes(at=at):
            answer.body = _with_wrong_byte(answer.body, at)
        case WrongChecksum():
            answer.headers = _wrong_checksums(answer.headers)
        case NoEtag():
            answer.headers.pop("ETag", None)
        case WeakEtag():
            if "ETag" in answer.headers:
                answer.headers["ETag"] = f"W/{answer.headers['ETag']}"
        case _:
            # The others act when the answer is sent.
            pass


def _shifted_content_range(value: str) -> str:
    """Give a `Content-Range` that is off by a byte."""
    return re.sub(r"\d+(?=[-/])", lambda match: str(int(match[0]) + 1), value, count=2)


def _wrong_checksums(headers: Mapping[str, str]) -> dict[str, str]:
    """Replace the value of every checksum header by one of the same form."""
    return {name: _wrong_checksum(value) if _is_checksum(name) else value for name, value in headers.items()}


def _is_checksum(name: str) -> bool:
    return name.lower().removeprefix("x-amz-checksum-") in CHECKSUM_ALGORITHMS


def _wrong_checksum(value: str) -> str:
    digest, dash, parts = value.partition("-")
    return base64.b64encode(bytes(byte ^ 0xFF for byte in base64.b64decode(digest))).decode() + dash + parts


def _with_wrong_byte(body: Iterable[memoryview], at: int) -> list[memoryview]:
    """Give the pieces of a body whose byte at offset `at` is inverted; the pieces themselves are not changed."""
    changed: list[memoryview] = []
    for piece in body:
        if 0 <= at < len(piece):
            wrong = memoryview(bytes([piece[at] ^ 0xFF]))
            changed += [part for part in (piece[:at], wrong, piece[at + 1 :]) if len(part)]
        else:
            changed.append(piece)
        at -= len(piece)
    return changed
