"""How is a request signed for S3? By the day's key, which is derived once and used until midnight.

Signature Version 4 as S3 wants it: the path is encoded once and not normalised, and every header that is sent is signed
but those that a proxy may change
(https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html).
botocore's own signer comes to the same signatures, which a test compares; it takes five times as long, and importing it
longer than many a program runs.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

NO_PAYLOAD = hashlib.sha256(b"").hexdigest()
_NOT_SIGNED = frozenset({"user-agent", "accept-encoding"})


@dataclass(frozen=True, slots=True)
class Credentials:
    """What requests are signed with."""

    access_key: str
    secret_key: str
    token: str | None = None

    def __repr__(self) -> str:
        return "Credentials(…)"


def encode_path(text: str) -> str:
    """Write a key as a part of a path: `/` stays, all else but the unreserved characters is encoded (RFC 3986)."""
    return quote(text, safe="/~", errors="surrogatepass")


def encode_query(arguments: Mapping[str, str]) -> str:
    """Write a query in the order in which it is signed."""
    pairs = sorted(
        (quote(name, safe="~"), quote(value, safe="~", errors="surrogatepass")) for name, value in arguments.items()
    )
    return "&".join(f"{name}={value}" for name, value in pairs)


class Signer:
    """Signs for one service in one region.

    Args:
        region: the region that the signature is for.
        service: `"s3"`, or what an endpoint calls it.
    """

    def __init__(self, region: str, service: str = "s3") -> None:
        self._region = region
        self._service = service
        self._key: tuple[str, Credentials, bytes] | None = None

    def sign(
        self,
        credentials: Credentials,
        method: str,
        host: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        *,
        payload_hash: str = NO_PAYLOAD,
        at: float | None = None,
    ) -> dict[str, str]:
        """Give the headers to send: the given ones and those of the signature.

        Args:
            credentials: whose signature it is.
            method: of HTTP.
            host: with its port, if that isn't the scheme's own.
            path: encoded.
            query: encoded and in order; empty for none.
            headers: what is sent, by names in lower case.
            payload_hash: the SHA-256 of the body, in hexadecimal, or that it is not signed.
            at: when, as POSIX seconds; None means now.
        """
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
        day = now[:8]
        sent = {**headers, "host": host, "x-amz-content-sha256": payload_hash, "x-amz-date": now}
        if credentials.token is not None:
            sent["x-amz-security-token"] = credentials.token
        names = sorted(name for name in sent if name not in _NOT_SIGNED)
        signed_names = ";".join(names)
        lines = "".join([f"{name}:{' '.join(sent[name].split())}\n" for name in names])
        canonical = f"{method}\n{path}\n{query}\n{lines}\n{signed_names}\n{payload_hash}"
        scope = f"{day}/{self._region}/{self._service}/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}"
        signature = hmac.new(self._key_of(credentials, day), text.encode(), hashlib.sha256).hexdigest()
        sent["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope},"
            f" SignedHeaders={signed_names}, Signature={signature}"
        )
        return sent

    def _key_of(self, credentials: Credentials, day: str) -> bytes:
        kept = self._key
        if kept is not None and kept[0] == day and kept[1] == credentials:
            return kept[2]
        key = b"AWS4" + credentials.secret_key.encode()
        for text in (day, self._region, self._service, "aws4_request"):
            key = hmac.digest(key, text.encode(), "sha256")
        self._key = (day, credentials, key)
        return key
