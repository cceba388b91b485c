"""Signatures, compared with botocore's."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest import mock

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from datacachalog.storage._sigv4 import Credentials, Signer, encode_path, encode_query

AT = 1_790_000_000.0
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)


def botocores(method, url, headers, token):
    request = AWSRequest(method, url, headers=dict(headers))
    moment = datetime.fromtimestamp(AT, UTC)
    with mock.patch("botocore.auth.get_current_datetime", return_value=moment.replace(tzinfo=None)):
        S3SigV4Auth(ReadOnlyCredentials("AKID", "secret", token), "s3", "eu-west-1").add_auth(request)
    return request.headers["Authorization"]


@given(
    key=KEYS,
    query=st.dictionaries(st.sampled_from(["versionId", "prefix", "list-type", "start-after"]), KEYS),
    headers=st.dictionaries(st.sampled_from(["range", "if-match", "if-none-match", "x-amz-checksum-mode"]), VALUES),
    token=st.sampled_from([None, "session-token=="]),
    method=st.sampled_from(["GET", "HEAD"]),
)
def test_signatures_are_botocores(key, query, headers, token, method):
    """The same request at the same moment has the same signature, whatever is in its key, query and headers."""
    path, arguments = f"/bucket/{encode_path(key)}", encode_query(query)
    ours = Signer("eu-west-1").sign(
        Credentials("AKID", "secret", token), method, "localhost:9000", path, arguments, headers, at=AT
    )
    url = f"http://localhost:9000{path}" + (f"?{arguments}" if arguments else "")
    assert botocores(method, url, headers, token) == ours["authorization"]


@pytest.mark.parametrize("moved", ["day", "credentials"])
def test_key_is_derived_anew_when_it_must_be(moved):
    """Neither another day nor other credentials are signed for with the key that is kept."""
    signer, first = Signer("eu-west-1"), Credentials("AKID", "secret")
    signer.sign(first, "GET", "h", "/b/k", "", {}, at=AT)
    credentials = Credentials("AKID", "renewed") if moved == "credentials" else first
    at = AT + 86_400 if moved == "day" else AT
    fresh = Signer("eu-west-1").sign(credentials, "GET", "h", "/b/k", "", {}, at=at)
    assert fresh == signer.sign(credentials, "GET", "h", "/b/k", "", {}, at=at)


def test_g13_credentials_show_nothing():
    """Neither key nor secret is in the text of the value."""
    text = repr(Credentials("AKIDSEEN", "SECRETSEEN", "TOKENSEEN"))
    assert "SEEN" not in text
