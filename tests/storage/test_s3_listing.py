"""Is a page of a listing read as botocore reads it, for whatever keys and whatever order of elements?"""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog._models import normalize_etag
from datacachalog.storage._s3_listing import parse_list_page

XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
MOMENT = "2024-02-29T12:30:00.123Z"

# What a key may be, and what XML can say of it as it stands.
any_key = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)
plain_key = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")), min_size=1, max_size=40)
listed = st.tuples(st.integers(0, 2**50), st.sampled_from(["&quot;{}&quot;", '"{}"', "{}", 'W/"{}"']), st.booleans())


def contents(key: str, size: int, etag: str, *, has_time: bool) -> str:
    """One object, with elements that are of no interest between those that are."""
    time = f"<LastModified>{MOMENT}</LastModified>" if has_time else ""
    return (
        f"<Contents><Owner><ID>1</ID><Size>9</Size></Owner><Key>{key}</Key>{time}"
        f"<ETag>{etag}</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm><Size>{size}</Size></Contents>"
    )


def page(objects: str, about: str = "", *, is_about_last: bool = False) -> bytes:
    """A whole answer; some stores say what the page is about behind its objects."""
    inner = objects + about if is_about_last else about + objects
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult {XMLNS}>{inner}</ListBucketResult>'.encode()


@pytest.fixture(scope="module")
def botocores():
    """What botocore makes of a page: keys, ETags, times, sizes, and the token to go on with."""
    import botocore.session
    from botocore.handlers import decode_list_object_v2
    from botocore.parsers import RestXMLParser

    shape = botocore.session.get_session().get_service_model("s3").operation_model("ListObjectsV2").output_shape

    def parse(body):
        answer = RestXMLParser().parse({"body": body, "headers": {}, "status_code": 200}, shape)
        decode_list_object_v2(answer, {"encoding_type_auto_set": True})
        found = [
            (f"s3://bucket/{c['Key']}", normalize_etag(c.get("ETag")), c.get("LastModified"), c["Size"])
            for c in answer.get("Contents", ())
        ]
        return found, answer.get("NextContinuationToken") if answer.get("IsTruncated") else None

    return parse


def ours(body):
    found = parse_list_page(body, "s3://bucket/")
    objects = [(o.uri, o.metadata.etag, o.metadata.last_modified, o.metadata.size) for o in found.objects]
    return objects, found.next_token


@given(
    keys=st.lists(st.tuples(any_key, listed), max_size=5),
    is_about_last=st.booleans(),
    encode=st.sampled_from([quote, quote_plus]),
    token=st.none() | st.text("abc+/=&<>", max_size=9),
)
def test_encoded_page_is_read_as_botocore_reads_it(botocores, keys, is_about_last, encode, token):
    """Whatever the keys, control characters too, and wherever the page says that they are encoded."""
    about = "<Name>bucket</Name><EncodingType>url</EncodingType><KeyCount>1</KeyCount>"
    about += "<IsTruncated>false</IsTruncated>"
    if token is not None:
        about = about.replace("false", "true") + f"<NextContinuationToken>{escape(token)}</NextContinuationToken>"
    objects = "".join(
        contents(encode(key), size, etag.format("e" * 32), has_time=has_time) for key, (size, etag, has_time) in keys
    )
    body = page(objects, about, is_about_last=is_about_last)
    found, next_token = ours(body)
    assert [f"s3://bucket/{key}" for key, _ in keys] == [uri for uri, *_ in found]
    expected = botocores(body)
    assert (expected[0], expected[1] or None) == (found, next_token or None)


@given(keys=st.lists(st.tuples(plain_key, listed), max_size=5))
def test_page_of_a_store_that_does_not_encode_is_read_as_it_stands(botocores, keys):
    """`%` and `+` are themselves where nothing says that the keys are encoded."""
    objects = "".join(
        contents(escape(key), size, etag.format("e"), has_time=has_time) for key, (size, etag, has_time) in keys
    )
    body = page(objects, "<IsTruncated>false</IsTruncated>")
    assert botocores(body) == ours(body)


def test_times_are_aware():
    """As they come from S3, and as UTC where a store leaves the zone out."""
    for text in (MOMENT, MOMENT.removesuffix("Z")):
        body = page(contents("a", 1, "e", has_time=True).replace(MOMENT, text))
        assert datetime(2024, 2, 29, 12, 30, 0, 123000, UTC) == ours(body)[0][0][2]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<Error><Code>InternalError</Code></Error>",
        page(contents("a", 1, "e", has_time=True))[:-20],
        page("<Contents><Key>a</Key></Contents>"),
        page("<Contents><Size>1</Size></Contents>"),
        page("<Contents><Key>a</Key><Size>many</Size></Contents>"),
        page("<Contents><Key>a</Key><Size>1</Size><LastModified>today</LastModified></Contents>"),
    ],
)
def test_what_is_no_whole_page_is_refused(body):
    """Half an answer, or another one, is never taken for a listing."""
    with pytest.raises(ValueError):
        parse_list_page(body, "s3://bucket/")
