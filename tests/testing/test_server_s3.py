"""Does the fault server speak S3? Asked by boto3, and by sockets where boto3 would hide what is sent."""

from __future__ import annotations

import hashlib
import http.client
import io

import boto3
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from datacachalog.testing import FaultServer

_DATA = bytes(range(256)) * 40
_KEYS = [
    "with space.csv",
    "plus+plus.csv",
    "100%.csv",
    "percent%20encoded.csv",
    "ümlaut-日本-🦆.csv",
    "dir//double.csv",
    "/leading.csv",
    "a/./b/../c",
    "quote\"'<&>.csv",
    "question?hash#.csv",
    "trailing/",
]


@pytest.fixture
def s3(server):
    client = boto3.client("s3", endpoint_url=server.endpoint_url, config=Config(retries={"total_max_attempts": 1}))
    yield client
    client.close()


def _request(server, method, path, headers=None, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def _code(caught):
    return caught.value.response["ResponseMetadata"]["HTTPStatusCode"], caught.value.response["Error"]["Code"]


# -- objects


@pytest.mark.parametrize("key", _KEYS)
def test_object_written_by_boto3_is_read_by_boto3(server, s3, key):
    """Any key, in path style, with botocore's own checksum in the trailer of an aws-chunked body."""
    s3.put_object(Bucket="bucket", Key=key, Body=io.BytesIO(_DATA))
    read = s3.get_object(Bucket="bucket", Key=key)["Body"].read()
    assert (_DATA, _DATA) == (server.get("bucket", key), read)


async def test_object_written_by_aiobotocore_is_read_by_aiobotocore(server):
    """The client that the S3 storage is made of."""
    session = AioSession()
    async with session.create_client("s3", endpoint_url=server.endpoint_url, config=AioConfig()) as client:
        await client.put_object(Bucket="bucket", Key="k", Body=_DATA)
        response = await client.get_object(Bucket="bucket", Key="k")
        assert _DATA == await response["Body"].read()


def test_etag_of_a_single_part_is_the_md5(server, s3):
    """As S3's, for an unencrypted object that is written in one piece."""
    etag = s3.put_object(Bucket="bucket", Key="k", Body=_DATA)["ETag"]
    assert f'"{hashlib.md5(_DATA).hexdigest()}"' == etag


def test_head_tells_what_get_tells(server, s3):
    """The same headers, no body."""
    server.put("bucket", "k", _DATA)
    names = ("ETag", "LastModified", "ContentLength", "AcceptRanges", "ContentType")
    head, got = s3.head_object(Bucket="bucket", Key="k"), s3.get_object(Bucket="bucket", Key="k")
    got["Body"].close()
    assert [got[name] for name in names] == [head[name] for name in names]


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), ("bytes=10000-", 10_000, 10_240), ("bytes=-5", 10_235, 10_240),
     ("bytes=0-99999", 0, 10_240)],
)  # fmt: skip
def test_range_is_answered_with_its_bytes(server, s3, asked, start, stop):
    """206, the bytes, and where they lie (RFC 9110, section 14)."""
    server.put("bucket", "k", _DATA)
    answer = s3.get_object(Bucket="bucket", Key="k", Range=asked)
    found = answer["ResponseMetadata"]["HTTPStatusCode"], answer["ContentRange"], answer["Body"].read()
    assert (206, f"bytes {start}-{stop - 1}/10240", _DATA[start:stop]) == found


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6"])
def test_range_that_can_not_be_read_is_ignored(server, asked):
    """Whoever asks nonsense gets the whole object."""
    server.put("bucket", "k", _DATA)
    status, _, body = _request(server, "GET", "/bucket/k", {"Range": asked})
    assert (200, _DATA) == (status, body)


@pytest.mark.parametrize(("data", "asked"), [(_DATA, "bytes=10240-"), (b"", "bytes=0-99"), (_DATA, "bytes=-0")])
def test_range_without_a_byte_is_not_satisfiable(server, s3, data, asked):
    """416 InvalidRange, for an empty object too."""
    server.put("bucket", "k", data)
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket="bucket", Key="k", Range=asked)
    assert (416, "InvalidRange") == _code(caught)


def test_read_conditions(server):
    """If-Match and If-None-Match, with a weak ETag, a list and a star, give 412, 304 or the object."""
    etag = server.put("bucket", "k", _DATA).etag
    asked = {
        f'If-Match: "{etag}"': 200,
        f'If-Match: W/"{etag}"': 200,
        "If-Match: *": 200,
        f'If-Match: "x", "{etag}"': 200,
        'If-Match: "x"': 412,
        f'If-None-Match: "{etag}"': 304,
        'If-None-Match: "x"': 200,
        "If-None-Match: *": 304,
        "If-Unmodified-Since: Mon, 01 Jan 2001 00:00:00 GMT": 412,
        "If-Unmodified-Since: Fri, 01 Jan 2100 00:00:00 GMT": 200,
        "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT": 304,
    }
    assert asked == {line: _request(server, "GET", "/bucket/k", dict([line.split(": ")]))[0] for line in asked}


def test_write_only_if_nothing_is_there(server, s3):
    """If-None-Match: * writes the first time and is 412 the second."""
    s3.put_object(Bucket="bucket", Key="k", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket="bucket", Key="k", Body=b"second", IfNoneMatch="*")
    assert ((412, "PreconditionFailed"), b"first") == (_code(caught), server.get("bucket", "k"))


def test_write_only_over_the_version_that_is_meant(server, s3):
    """If-Match with the newest ETag writes, with another is 412."""
    etag = server.put("bucket", "k", b"first").etag
    s3.put_object(Bucket="bucket", Key="k", Body=b"second", IfMatch=f'"{etag}"')
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket="bucket", Key="k", Body=b"third", IfMatch=f'"{etag}"')
    assert ((412, "PreconditionFailed"), b"second") == (_code(caught), server.get("bucket", "k"))


def test_write_over_a_version_that_is_gone(server, s3):
    """If-Match of an object that isn't there is 404."""
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket="bucket", Key="k", Body=b"x", IfMatch='"etag"')
    assert (404, "NoSuchKey") == _code(caught)


def test_body_that_does_not_match_its_checksum_is_refused(server):
    """400 BadDigest, and nothing is written."""
    status, _, body = _request(server, "PUT", "/bucket/k", {"x-amz-checksum-crc32": "AAAAAA=="}, b"data")
    assert (400, True, None) == (status, b"<Code>BadDigest</Code>" in body, server.get("bucket", "k"))


def test_body_cut_within_an_aws_chunk_is_refused(server):
    """400 IncompleteBody, and nothing is written."""
    headers = {"Content-Encoding": "aws-chunked"}
    status, _, body = _request(server, "PUT", "/bucket/k", headers, b"10\r\nshort")
    assert (400, True, None) == (status, b"IncompleteBody" in body, server.get("bucket", "k"))


def test_chunked_body_is_decoded(server):
    """HTTP's own chunks, as clients send them that don't know the length."""
    _request(server, "PUT", "/bucket/k", body=iter([b"one", b"two"]))
    assert server.get("bucket", "k") == b"onetwo"


def test_content_encoding_of_the_object_is_kept(server, s3):
    """aws-chunked is taken off, what the writer said stays, with type and user metadata."""
    s3.put_object(
        Bucket="bucket",
        Key="k",
        Body=io.BytesIO(b"x"),
        ContentEncoding="gzip",
        ContentType="text/csv",
        Metadata={"a": "b"},
    )
    head = s3.head_object(Bucket="bucket", Key="k")
    assert ("gzip", "text/csv", {"a": "b"}) == (head["ContentEncoding"], head["ContentType"], head["Metadata"])


def test_deleted_object_is_gone(server, s3):
    """204, and 404 from then on."""
    server.put("bucket", "k", _DATA)
    s3.delete_object(Bucket="bucket", Key="k")
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket="bucket", Key="k")
    assert (404, "NoSuchKey") == _code(caught)


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (lambda s3: s3.get_object(Bucket="bucket", Key="no"), (404, "NoSuchKey")),
        (lambda s3: s3.head_object(Bucket="bucket", Key="no"), (404, "404")),
        (lambda s3: s3.get_object(Bucket="nowhere", Key="no"), (404, "NoSuchBucket")),
        (lambda s3: s3.put_object(Bucket="nowhere", Key="no", Body=b""), (404, "NoSuchBucket")),
        (lambda s3: s3.list_objects_v2(Bucket="nowhere"), (404, "NoSuchBucket")),
        (lambda s3: s3.head_bucket(Bucket="nowhere"), (404, "404")),
        (lambda s3: s3.get_object(Bucket="bucket", Key="k", VersionId="no"), (404, "NoSuchVersion")),
        (lambda s3: s3.copy_object(Bucket="bucket", Key="no", CopySource="bucket/k"), (501, "NotImplemented")),
        (lambda s3: s3.get_object_tagging(Bucket="bucket", Key="k"), (501, "NotImplemented")),
        (lambda s3: s3.get_bucket_acl(Bucket="bucket"), (501, "NotImplemented")),
        (lambda s3: s3.list_buckets(), (501, "NotImplemented")),
    ],
)
def test_refusal_has_its_status_and_code(server, s3, ask, expected):
    """As S3 says it; of a HEAD, whose answer has no body, boto3 knows the status only."""
    server.put("bucket", "k", b"x")
    with pytest.raises(ClientError) as caught:
        ask(s3)
    assert expected == _code(caught)


# -- addressing and access


def test_bucket_may_be_in_the_host(server):
    """Virtual-host addressing, with a dot in the bucket's name too."""
    server.put("my.bucket", "dir/k", b"data")
    assert b"data" == _request(server, "GET", "/dir/k", {"Host": f"my.bucket.localhost:{server.port}"})[2]


@pytest.mark.parametrize(
    ("key_id", "expected"),
    [("right", (200, b"data")), ("wrong", (403, b"InvalidAccessKeyId")), (None, (403, b"AccessDenied"))],
)
def test_only_the_access_key_is_served(key_id, expected):
    """Others, and whoever doesn't sign, are refused with 403."""
    with FaultServer(access_key="right") as server:
        server.put("bucket", "k", b"data")
        credential = {"Authorization": f"AWS4-HMAC-SHA256 Credential={key_id}/20240101/us-east-1/s3/aws4_request"}
        status, _, body = _request(server, "GET", "/bucket/k", credential if key_id else {})
    assert (expected[0], True) == (status, expected[1] in body)


def test_access_key_that_has_expired_is_told_so():
    """The old key is answered with ExpiredToken, the new one is served, and any other is still unknown."""
    with FaultServer(access_key="old") as server:
        server.put("bucket", "k", b"data")
        server.expire_access_key("new")
        answers = []
        for key_id in ("old", "new", "other"):
            credential = {"Authorization": f"AWS4-HMAC-SHA256 Credential={key_id}/20240101/us-east-1/s3/aws4_request"}
            status, _, body = _request(server, "GET", "/bucket/k", credential)
            answers.append((status, b"ExpiredToken" in body, b"InvalidAccessKeyId" in body))
    assert [(400, True, False), (200, False, False), (403, False, True)] == answers


def test_access_key_of_a_server_for_everybody_cannot_expire(server):
    """Where no key is asked for there is none that could expire."""
    with pytest.raises(ValueError, match="access_key"):
        server.expire_access_key("new")


def test_presigned_url_is_served():
    """The access key may be in the query."""
    with FaultServer(access_key="test") as server:
        server.put("bucket", "k", b"data")
        client = boto3.client("s3", endpoint_url=server.endpoint_url, config=Config(signature_version="s3v4"))
        url = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "k"})
        client.close()
        assert b"data" == _request(server, "GET", url.removeprefix(server.endpoint_url))[2]


# -- listings


def test_listing_gives_every_key_in_the_order_of_its_bytes(server, s3):
    """All pages of boto3's paginator together."""
    for key in _KEYS:
        server.put("bucket", key, key.encode())
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket="bucket", PaginationConfig={"PageSize": 3}))
    assert (4, sorted(_KEYS)) == (len(pages), [item["Key"] for page in pages for item in page["Contents"]])


def test_listing_without_url_encoding_escapes_xml(server):
    """Who doesn't ask for `encoding-type=url` gets the key as XML's text."""
    server.put("bucket", "a<&>", b"")
    assert b"<Key>a&lt;&amp;&gt;</Key>" in _request(server, "GET", "/bucket?list-type=2")[2]


def test_listing_begins_behind_a_key(server, s3):
    """StartAfter is exclusive, and need not exist."""
    for key in "abc":
        server.put("bucket", key, b"")
    found = [s3.list_objects_v2(Bucket="bucket", StartAfter=after)["KeyCount"] for after in ("a", "aa", "c")]
    assert [2, 2, 0] == found


def test_listing_is_of_a_prefix(server, s3):
    """The prefix is the beginning of the key, with sizes and ETags."""
    for key in ("pre", "pre/1", "prefix", "other"):
        server.put("bucket", key, b"12")
    found = s3.list_objects_v2(Bucket="bucket", Prefix="pre")["Contents"]
    etag = f'"{hashlib.md5(b"12").hexdigest()}"'
    assert [("pre", 2, etag), ("pre/1", 2, etag), ("prefix", 2, etag)] == [
        (o["Key"], o["Size"], o["ETag"]) for o in found
    ]


@pytest.mark.parametrize("page_size", [1, 2, 100])
def test_listing_by_level_gives_prefixes_for_what_is_below(server, s3, page_size):
    """With a delimiter, objects of the level and common prefixes, each once, over whatever pages."""
    for key in ("a", "b/1", "b/2", "b/c/3", "c", "d/4"):
        server.put("bucket", key, b"")
    paginator = s3.get_paginator("list_objects_v2")
    pages = list(paginator.paginate(Bucket="bucket", Delimiter="/", PaginationConfig={"PageSize": page_size}))
    keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
    prefixes = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", ())]
    assert (["a", "c"], ["b/", "d/"]) == (keys, prefixes)


# -- versions


def test_versions_of_an_object(server, s3):
    """A versioned bucket keeps all, the newest first, with the marks of deletions."""
    server.create_bucket("bucket", is_versioned=True)
    first = s3.put_object(Bucket="bucket", Key="k", Body=b"first")["VersionId"]
    second = s3.put_object(Bucket="bucket", Key="k", Body=b"second")["VersionId"]
    marker = s3.delete_object(Bucket="bucket", Key="k")["VersionId"]
    pages = list(s3.get_paginator("list_object_versions").paginate(Bucket="bucket", PaginationConfig={"PageSize": 2}))
    versions = [v["VersionId"] for page in pages for v in page.get("Versions", ())]
    markers = [(m["VersionId"], m["IsLatest"]) for page in pages for m in page.get("DeleteMarkers", ())]
    assert ([second, first], [(marker, True)]) == (versions, markers)


def test_old_version_is_read_by_its_id(server, s3):
    """Whatever is the newest now."""
    server.create_bucket("bucket", is_versioned=True)
    first = server.put("bucket", "k", b"first").version_id
    server.put("bucket", "k", b"second")
    answer = s3.get_object(Bucket="bucket", Key="k", VersionId=first)
    assert (b"first", first) == (answer["Body"].read(), answer["VersionId"])


def test_deletion_is_undone_by_deleting_its_mark(server, s3):
    """A delete marker is a version too."""
    server.create_bucket("bucket", is_versioned=True)
    server.put("bucket", "k", b"first")
    marker = s3.delete_object(Bucket="bucket", Key="k")["VersionId"]
    s3.delete_object(Bucket="bucket", Key="k", VersionId=marker)
    assert server.get("bucket", "k") == b"first"


def test_unversioned_object_has_no_version_id(server, s3):
    """A bucket without versioning says nothing of versions, and keeps none."""
    server.put("bucket", "k", b"first")
    server.put("bucket", "k", b"second")
    found = s3.list_object_versions(Bucket="bucket")["Versions"]
    assert (["null"], False) == (
        [v["VersionId"] for v in found],
        "VersionId" in s3.head_object(Bucket="bucket", Key="k"),
    )


def test_versioning_is_switched_by_request(server, s3):
    """Bucket and versioning can be made through S3's own operations."""
    s3.create_bucket(Bucket="mine")
    before = s3.get_bucket_versioning(Bucket="mine").get("Status")
    s3.put_bucket_versioning(Bucket="mine", VersioningConfiguration={"Status": "Enabled"})
    assert (None, "Enabled") == (before, s3.get_bucket_versioning(Bucket="mine").get("Status"))


# -- checksums


def test_default_checksum_is_crc64nvme_of_the_whole(server, s3):
    """What S3 stores when the writer gives none; told only when asked for."""
    server.put("bucket", "k", b"123456789")
    asked = s3.head_object(Bucket="bucket", Key="k", ChecksumMode="ENABLED")
    unasked = _request(server, "HEAD", "/bucket/k")[1]
    expected = "rosUhgp5mIg="  # of the check string in https://reveng.sourceforge.io/crc-catalogue/
    assert (expected, "FULL_OBJECT", None) == (
        asked["ChecksumCRC64NVME"], asked["ChecksumType"], unasked["x-amz-checksum-crc64nvme"]
    )  # fmt: skip


@pytest.mark.parametrize(("is_sent", "asked"), [(False, "bytes=0-4"), (True, "bytes=0-8")])
def test_checksum_is_sent_only_with_all_its_bytes(server, is_sent, asked):
    """A part of the object comes without the whole's checksum, as on S3."""
    server.put("bucket", "k", b"123456789")
    headers = {"x-amz-checksum-mode": "ENABLED", "Range": asked}
    assert is_sent == ("x-amz-checksum-crc64nvme" in _request(server, "GET", "/bucket/k", headers)[1])


def test_checksum_on_parts_for_stores_that_send_it():
    """Some stores do, and clients must not take it for the part's."""
    with FaultServer(has_checksums_on_ranges=True) as server:
        server.put("bucket", "k", b"123456789")
        headers = {"x-amz-checksum-mode": "ENABLED", "Range": "bytes=0-4"}
        assert "rosUhgp5mIg=" == _request(server, "GET", "/bucket/k", headers)[1]["x-amz-checksum-crc64nvme"]


def test_store_without_checksums():
    """Stores that compute none have none to tell."""
    with FaultServer(default_checksum=None) as server:
        metadata = server.put("bucket", "k", b"x")
        headers = _request(server, "GET", "/bucket/k", {"x-amz-checksum-mode": "ENABLED"})[1]
    assert (None, []) == (metadata.checksum, [name for name in headers if name.startswith("x-amz-checksum")])


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksum_of_the_writer_is_stored(server, s3, algorithm):
    """The algorithm that the writer chose, verified on arrival and given back."""
    written = s3.put_object(Bucket="bucket", Key="k", Body=_DATA, ChecksumAlgorithm=algorithm)
    answer = s3.get_object(Bucket="bucket", Key="k", ChecksumMode="ENABLED")
    assert (_DATA, written[f"Checksum{algorithm}"]) == (answer["Body"].read(), answer[f"Checksum{algorithm}"])


# -- uploads in parts


def test_upload_in_parts_by_boto3(server, s3, tmp_path):
    """boto3's transfer, parallel parts: the bytes, and an ETag that is the MD5 of the parts' MD5s and their number."""
    data = _DATA * 1200
    part = 5 * 1024 * 1024
    config = TransferConfig(multipart_threshold=part, multipart_chunksize=part)
    s3.upload_fileobj(io.BytesIO(data), "bucket", "k", Config=config)
    digests = b"".join(hashlib.md5(data[i : i + part]).digest() for i in range(0, len(data), part))
    etag = s3.head_object(Bucket="bucket", Key="k")["ETag"]
    assert (True, f'"{hashlib.md5(digests).hexdigest()}-3"') == (data == server.get("bucket", "k"), etag)


def test_upload_in_parts_is_downloaded_by_boto3(server, s3, tmp_path):
    """boto3's transfer in ranges, which compares lengths and ETags."""
    server.put("bucket", "k", _DATA * 1200, part_bytes=5 * 1024 * 1024)
    s3.download_file("bucket", "k", str(tmp_path / "k"), Config=TransferConfig(multipart_threshold=1024))
    assert _DATA * 1200 == (tmp_path / "k").read_bytes()


def _upload(s3, *bodies, **arguments):
    upload = s3.create_multipart_upload(Bucket="bucket", Key="k", **arguments)["UploadId"]
    parts = []
    for number, body in enumerate(bodies, start=1):
        named = s3.upload_part(Bucket="bucket", Key="k", UploadId=upload, PartNumber=number, Body=body)
        parts.append({"PartNumber": number, "ETag": named["ETag"]})
    return {"Bucket": "bucket", "Key": "k", "UploadId": upload, "MultipartUpload": {"Parts": parts}}


def test_checksum_of_an_upload_in_parts_is_composite(s3):
    """The CRC32 of the parts' CRC32s, marked with their number."""
    s3.complete_multipart_upload(**_upload(s3, bytes(5 << 20), b"end", ChecksumAlgorithm="CRC32"))
    head = s3.head_object(Bucket="bucket", Key="k", ChecksumMode="ENABLED")
    assert ("COMPOSITE", True) == (head["ChecksumType"], head["ChecksumCRC32"].endswith("-2"))


def test_checksum_of_an_upload_in_parts_may_be_of_the_whole(s3):
    """CRC64NVME is always of the whole object: the same as when it is written in one piece."""
    s3.complete_multipart_upload(**_upload(s3, bytes(5 << 20), b"end", ChecksumAlgorithm="CRC64NVME"))
    in_parts = s3.head_object(Bucket="bucket", Key="k", ChecksumMode="ENABLED")
    s3.put_object(Bucket="bucket", Key="one", Body=bytes(5 << 20) + b"end", ChecksumAlgorithm="CRC64NVME")
    whole = s3.head_object(Bucket="bucket", Key="one", ChecksumMode="ENABLED")
    assert ("FULL_OBJECT", whole["ChecksumCRC64NVME"]) == (in_parts["ChecksumType"], in_parts["ChecksumCRC64NVME"])


def test_upload_in_parts_only_over_the_version_that_is_meant(server, s3):
    """If-Match at the completion: 412, the object is untouched and the upload stays open."""
    server.put("bucket", "k", b"theirs")
    upload = _upload(s3, b"mine")
    with pytest.raises(ClientError) as caught:
        s3.complete_multipart_upload(**upload, IfMatch='"other"')
    assert ((412, "PreconditionFailed"), b"theirs", ["k"]) == (
        _code(caught), server.get("bucket", "k"), server.open_uploads("bucket")
    )  # fmt: skip


def test_aborted_upload_is_gone(server, s3):
    """Its parts are dropped, and it can't be completed."""
    upload = _upload(s3, b"mine")
    s3.abort_multipart_upload(Bucket="bucket", Key="k", UploadId=upload["UploadId"])
    with pytest.raises(ClientError) as caught:
        s3.complete_multipart_upload(**upload)
    assert ((404, "NoSuchUpload"), []) == (_code(caught), server.open_uploads("bucket"))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda parts: parts.reverse(), "InvalidPartOrder"),
        (lambda parts: parts[0].update(ETag='"wrong"'), "InvalidPart"),
        (lambda parts: parts.clear(), "MalformedXML"),
        (lambda parts: None, "EntityTooSmall"),
    ],
)
def test_completion_that_names_wrong_parts_is_refused(s3, change, code):
    """Out of order, with another ETag, none at all, or one that is too small and not the last."""
    upload = _upload(s3, b"one", b"two")
    change(upload["MultipartUpload"]["Parts"])
    with pytest.raises(ClientError) as caught:
        s3.complete_multipart_upload(**upload)
    assert (400, code) == _code(caught)


def test_small_parts_for_tests_that_need_many():
    """The least size of a part can be set."""
    with FaultServer(min_part_bytes=1) as server:
        etag = server.put("bucket", "k", b"12345", part_bytes=2).etag
        assert (b"12345", True) == (server.get("bucket", "k"), etag.endswith("-3"))


@pytest.mark.parametrize(
    ("wrong", "code"),
    [({"ChecksumCRC64NVME": "AAAAAAAAAAA="}, "BadDigest"), ({"MpuObjectSize": 1}, "InvalidRequest")],
)
def test_completion_that_expects_another_object_is_refused(s3, wrong, code):
    """Its checksum, or its size."""
    upload = _upload(s3, _DATA, ChecksumAlgorithm="CRC64NVME")
    with pytest.raises(ClientError, match=code):
        s3.complete_multipart_upload(**upload, **wrong)


def test_completion_tells_the_kind_of_its_checksum(s3):
    """Of the whole object, where it is that."""
    answer = s3.complete_multipart_upload(**_upload(s3, _DATA, ChecksumAlgorithm="CRC64NVME"))
    assert answer["ChecksumType"] == "FULL_OBJECT"


@pytest.mark.parametrize("conditions", [{"IfMatch": '"other"'}, {"IfNoneMatch": "*"}])
def test_a_store_may_ignore_the_conditions_of_writes(conditions):
    """As some do that speak S3 otherwise."""
    with FaultServer(heeds_write_conditions=False) as server:
        server.put("bucket", "k", b"old")
        s3 = boto3.client("s3", endpoint_url=server.endpoint_url)
        s3.put_object(Bucket="bucket", Key="k", Body=b"new", **conditions)
        s3.close()
        assert server.get("bucket", "k") == b"new"
