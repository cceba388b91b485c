"""Where do requests to a bucket go, and whose are they, when that is certain without asking botocore?

botocore finds that out from many places, and importing it takes longer than many a program runs. But when no
configuration file exists, the credentials are two environment variables, and nothing else is set that it would look at,
there is one thing that it can come to; this module knows those cases, and a test compares each with botocore. In all
other cases, and whenever an answer is not what a read expects, botocore is asked.
"""

from __future__ import annotations

import importlib.util
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from ._sigv4 import Credentials

_KNOWN = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",  # of other SDKs; botocore doesn't look at it
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_CA_BUNDLE",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_EXECUTION_ENV",
    }
)
_FOREIGN = ("AWS_LAMBDA_", "BOTO_CONFIG")
_PROXIES = re.compile(r"(?i)(http|https|all)_proxy")
# Regions of the partition `aws`, whose endpoints have one form.
_REGION = re.compile(r"(af|ap|ca|eu|il|me|mx|sa|us)-(north|south|east|west|central|northeast|southeast)-[1-9]")
# What may stand in a host's name, and is no alias or directory bucket
# (https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html).
_BUCKET = re.compile(
    r"(?!xn--|sthree-|amzn-s3-demo-)[a-z0-9][a-z0-9-]{1,61}[a-z0-9](?<!-s3alias)(?<!--ol-s3)(?<!--x-s3)"
)
_PATH_BUCKET = re.compile(r"(?!arn:)[A-Za-z0-9][A-Za-z0-9._-]{1,62}")


@dataclass(frozen=True, slots=True)
class CertainSettings:
    """Settings that leave nothing to find out.

    Args:
        endpoint_url: another store than Amazon's; None means Amazon's own.
        region: what requests are signed for.
        credentials: None means unsigned requests.
        addressing_style: as in `S3Storage`.
        ca_bundle: a file of certificates of the user's own.
    """

    endpoint_url: str | None
    region: str
    credentials: Credentials | None
    addressing_style: Literal["auto", "path", "virtual"]
    ca_bundle: str | None

    def prefix_of(self, bucket: str) -> str | None:
        """Give the URL up to the key of a bucket's objects; None if that isn't certain."""
        if self.endpoint_url is not None:
            is_plain = self.addressing_style != "virtual" and _PATH_BUCKET.fullmatch(bucket) is not None
            return f"{self.endpoint_url.rstrip('/')}/{bucket}/" if is_plain else None
        if _BUCKET.fullmatch(bucket) is None:
            return None
        host = "s3.amazonaws.com" if self.region == "us-east-1" else f"s3.{self.region}.amazonaws.com"
        return f"https://{host}/{bucket}/" if self.addressing_style == "path" else f"https://{bucket}.{host}/"


def certain_settings(
    *,
    endpoint_url: str | None,
    region: str | None,
    is_anonymous: bool,
    addressing_style: Literal["auto", "path", "virtual"],
    environment: Mapping[str, str],
) -> CertainSettings | None:
    """Give the settings that botocore would come to; None if only it can tell. Looks for its files: call in a thread.

    Args:
        endpoint_url: as in `S3Storage`.
        region: as in `S3Storage`.
        is_anonymous: whether requests are not to be signed.
        addressing_style: as in `S3Storage`.
        environment: the environment variables.
    """
    for name in environment:
        is_unknown = name.startswith(("AWS_", "BOTO_")) and name not in _KNOWN and not name.startswith(_FOREIGN)
        if is_unknown or (_PROXIES.fullmatch(name) and environment[name]):
            return None
    files = (
        environment.get("AWS_CONFIG_FILE") or "~/.aws/config",
        environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials",
        "/etc/boto.cfg",
        "~/.boto",
    )
    if any(_says_something(os.path.expanduser(path)) for path in files):
        return None
    credentials: Credentials | None = None
    if not is_anonymous:
        access_key, secret_key = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
        if not access_key or not secret_key:
            return None
        credentials = Credentials(access_key, secret_key, environment.get("AWS_SESSION_TOKEN") or None)
    endpoint_url = endpoint_url or environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None
    region = region or environment.get("AWS_DEFAULT_REGION") or None
    if endpoint_url is None:
        if region is None or _REGION.fullmatch(region) is None:
            return None
    elif not _is_plain_endpoint(endpoint_url):
        return None
    ca_bundle = environment.get("AWS_CA_BUNDLE") or None
    return CertainSettings(endpoint_url, region or "us-east-1", credentials, addressing_style, ca_bundle)


def _says_something(path: str) -> bool:
    """Whether a file is there and has anything in it, unlike the null device that tests and containers put there."""
    try:
        return os.stat(path).st_size > 0 or not (os.path.isfile(path) or os.path.samefile(path, os.devnull))
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _is_plain_endpoint(url: str) -> bool:
    """Whether it is a store of somebody else's at a host, with a port and a path at most."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    is_amazons = host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws")) or "amazonaws" in host
    is_plain = parts.scheme in ("http", "https") and re.fullmatch(r"[a-z0-9._-]+|[0-9a-f:]+", host) is not None
    has_more = "@" in parts.netloc or parts.query or parts.fragment or "%" in parts.path
    return is_plain and not is_amazons and not has_more and port != 0


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Make the settings of TLS connections, with the certificates that botocore would trust. Reads files.

    Args:
        ca_bundle: a file of certificates; None means certifi's, if it is installed, else those that come with botocore.

    Raises:
        OSError: the file can't be read, or holds none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca_bundle or _usual_ca_bundle())
    return context


def _usual_ca_bundle() -> str:
    for package in ("certifi", "botocore"):
        spec = importlib.util.find_spec(package)
        for directory in (spec.submodule_search_locations or ()) if spec is not None else ():
            path = os.path.join(directory, "cacert.pem")
            if os.path.exists(path):
                return path
    raise FileNotFoundError("no file of certificates is installed: install certifi, or set AWS_CA_BUNDLE")
