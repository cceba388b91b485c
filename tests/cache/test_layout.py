"""Where a copy lies: injective, readable back, inside."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from datacachalog import UnsafePathError
from datacachalog.cache._layout import _path, _segments, candidates, decode_segment, encode_segment
from datacachalog.ports import CacheKey

WINDOWS = pytest.mark.parametrize("is_windows", [False, True], ids=["posix", "windows"])

# Short texts of the characters that make trouble meet each other far more often than any text would.
NASTY = st.text(alphabet=' %./\\:*?"<>|@~0125AEFaefCONaux.\x00\n\x7fü', max_size=12)
KEYS = st.one_of(
    NASTY, st.text(max_size=20), st.sampled_from(["..", ".", "", "/", "a//b", "../../x", "CON", "aux.txt"])
)
SEGMENTS = KEYS.map(lambda key: key.replace("/", ""))
BUCKETS = st.one_of(
    SEGMENTS,
    st.sampled_from(["bucket", ".datacachalog", "CACHEDIR.TAG", "cachedir.tag", "@versions", "@alt", "..", "."]),
).filter(lambda bucket: not any("\ud800" <= c <= "\udfff" for c in bucket))
RESERVED = {".datacachalog", "cachedir.tag"}


def places(key: CacheKey, *, is_windows: bool) -> list[str]:
    return list(candidates(key, is_windows=is_windows))


def is_inside(place: str, *, is_windows: bool) -> bool:
    """Whether a place can neither leave the cache nor be one of the cache's own files."""
    segments = place.split("/")
    return (
        not any(segment in ("", ".", "..") or "\0" in segment for segment in segments)
        and segments[0].casefold() not in RESERVED
        and not (is_windows and any(set(segment) & set('<>:"\\|?*') or segment[-1] in ". " for segment in segments))
    )


@WINDOWS
@given(segment=SEGMENTS)
@example("%")
@example("%2")
@example("%2F")
@example("%%2F")
@example("..")
@example("%2E%2E")
@example("con.")
def test_segment_can_be_read_back(is_windows, segment):
    """Decoding what was encoded gives the segment."""
    assert segment == decode_segment(encode_segment(segment, is_windows=is_windows))


@WINDOWS
@given(one=SEGMENTS, other=SEGMENTS)
def test_two_segments_have_two_encodings(is_windows, one, other):
    """No two segments are encoded alike."""
    encoded = [encode_segment(segment, is_windows=is_windows) for segment in (one, other)]
    assert (one == other) == (encoded[0] == encoded[1])


@WINDOWS
@given(bucket=BUCKETS, key=KEYS, version_id=st.none() | SEGMENTS)
def test_g8_every_key_stays_inside(is_windows, bucket, key, version_id):
    """Whatever bucket, key and version are called, the place is inside and none of the cache's own."""
    found = places(CacheKey(f"s3://{bucket}/{key}", version_id), is_windows=is_windows)
    assert [True] * len(found) == [is_inside(place, is_windows=is_windows) for place in found]


@WINDOWS
@given(
    one=st.tuples(BUCKETS, KEYS, st.none() | SEGMENTS),
    other=st.tuples(BUCKETS, KEYS, st.none() | SEGMENTS),
)
@example(("bucket", "a/b", None), ("bucket", "a//b", None))
@example(("bucket", "a/v/b", "v"), ("bucket", "a/b", "v"))
@example(("@versions", "bucket/v/b", None), ("bucket", "b", "v"))
@example((".datacachalog", "x", None), ("%2Edatacachalog", "x", None))
def test_g1_two_objects_have_two_places(is_windows, one, other):
    """No two keys of S3, and no two versions, share a place: neither the first choice nor the other."""
    first, second = (
        places(CacheKey(f"s3://{bucket}/{key}", version), is_windows=is_windows)
        # An empty version is written like an empty segment, and S3 has none.
        for bucket, key, version in ((b, k, v or None) for b, k, v in (one, other))
    )
    is_same = (*one[:2], one[2] or None) == (*other[:2], other[2] or None)
    assert is_same == bool(set(first) & set(second))


@WINDOWS
@given(one=st.tuples(KEYS, st.none() | KEYS), other=st.tuples(KEYS, st.none() | KEYS))
@example(("a/b", "q"), ("a/?q/b", None))
@example(("a/b", ""), ("a/b", None))
@example(("a/b", "../x"), ("a/../x/b", None))
def test_g1_two_queries_have_two_places_and_stay_inside(is_windows, one, other):
    """No two sources of HTTP share a place, whatever their paths and queries, and each place is inside."""

    def url(path, query):
        # As a source is spelled: in a path a '?' would begin the query.
        path = path.replace("?", "%3F")
        return f"https://host/{path}" if query is None else f"https://host/{path}?{query}"

    first, second = (places(CacheKey(url(*each)), is_windows=is_windows) for each in (one, other))
    assert (url(*one) == url(*other)) == bool(set(first) & set(second))
    assert all(is_inside(place, is_windows=is_windows) for place in first + second)


@given(bucket=BUCKETS, key=KEYS)
@example("cachedir.tag", "a")
@example("bucket", "a//b")
def test_look_at_a_whole_key_finds_what_a_look_at_each_segment_finds(bucket, key):
    """Most keys need no escape, which is seen in one look; the place is the same."""
    cache_key = CacheKey(f"s3://{bucket}/{key}")
    assert "/".join(_segments(cache_key, is_windows=False)) == _path(cache_key, is_windows=False)


@given(key=st.text(min_size=1, max_size=20).filter(lambda key: not set(key) & set("%") and key.isprintable()))
@example("dir/file.parquet")
@example("with space+plus.csv")
@example("ümlaut/日本.csv")
def test_plain_keys_lie_where_everybody_looks_for_them(key):
    """A key without trouble in it is a path: bucket, directories, name and suffix."""
    if any(segment in ("", ".", "..") for segment in key.split("/")):
        return
    assert f"bucket/{key}" == places(CacheKey(f"s3://bucket/{key}"), is_windows=False)[0]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (CacheKey("s3://bucket/a.csv"), "bucket/a.csv"),
        (CacheKey("s3://bucket/../a"), "bucket/%2E%2E/a"),
        (CacheKey("s3://bucket/a//b"), "bucket/a/%2F/b"),
        (CacheKey("s3://bucket//a"), "bucket/%2F/a"),
        (CacheKey("s3://bucket/100%25"), "bucket/100%2525"),
        (CacheKey("s3://bucket/100%"), "bucket/100%"),
        (CacheKey("s3://.datacachalog/a"), "%2Edatacachalog/a"),
        (CacheKey("s3://CACHEDIR.TAG/a"), "%43ACHEDIR.TAG/a"),
        (CacheKey("s3://@alt/a"), "%40alt/a"),
        (CacheKey("gs://bucket/a"), "@gs/bucket/a"),
        (CacheKey("https://host:80/a%3Fb"), "@https/host:80/a%253Fb"),
        (CacheKey("https://host:80/?b"), "@https/host:80/%3Fb/%2F"),
        (CacheKey("https://host/a/b.csv?query-12/.."), "@https/host/a/%3Fquery-12%2F../b.csv"),
        (CacheKey("https://[::1]:80/a"), "@https/[::1]:80/a"),
        (CacheKey("/data/a.csv"), "@file/data/a.csv"),
        (CacheKey("s3://bucket/dir/a.csv", "v1"), "@versions/bucket/dir/v1/a.csv"),
        (CacheKey("s3://bucket/dir/a.csv", "../v/1"), "@versions/bucket/dir/..%2Fv%2F1/a.csv"),
        (CacheKey("s3://bucket/a", cache_path="my/own place.csv"), "my/own place.csv"),
    ],
)
def test_place_is_bucket_and_key(key, expected):
    """Other schemes, versions and what is the cache's own lie beside the buckets."""
    assert expected == places(key, is_windows=False)[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CON", "%43ON"),
        ("aux.txt", "%61ux.txt"),
        ("console", "console"),
        ("lpt1.tar.gz", "%6Cpt1.tar.gz"),
        ("a:b", "a%3Ab"),
        ("a\\b", "a%5Cb"),
        ("trailing.", "trailing%2E"),
        ("trailing ", "trailing%20"),
    ],
)
def test_windows_names_are_escaped_on_windows_only(name, expected):
    """What Windows can't hold is escaped there, and stays readable elsewhere."""
    assert (expected, name) == (encode_segment(name, is_windows=True), encode_segment(name, is_windows=False))


@WINDOWS
@pytest.mark.parametrize(
    "name", ["n" * 250 + ".parquet", "ü" * 200 + ".csv", "%00" * 120 + ".csv", "x" * 300, "." * 300, "a." + "s" * 300]
)
def test_name_that_is_too_long_keeps_its_suffix_where_it_is_short(is_windows, name):
    """An over-long name lies under a hash of its key, shortened, its suffix kept; and every file system holds it."""
    (place,) = places(CacheKey(f"s3://bucket/{name}"), is_windows=is_windows)
    last = place.rpartition("/")[2]
    suffix = name.rpartition(".")[2]
    assert (True, True, True, True) == (
        place.startswith("@alt/"),
        len(last.encode()) <= 150,
        is_inside(place, is_windows=is_windows),
        len(suffix) > 40 or last.endswith(suffix),
    )


def test_path_that_is_too_long_lies_elsewhere():
    """So does a path whose segments are short, but many."""
    (place,) = places(CacheKey("s3://bucket/" + "dir/" * 1000 + "a.csv"), is_windows=False)
    assert (True, True) == (place.startswith("@alt/"), place.endswith("/a.csv"))


@WINDOWS
@pytest.mark.parametrize("name", ["\udcff.csv", "\ud800", "a\udc80b/c.csv", "a/\udcff"])
def test_name_that_is_no_text_has_a_place(is_windows, name):
    """A local file's name may hold bytes that are no text: its copy lies under a hash, in a path that is text."""
    (place,) = places(CacheKey(f"/data/{name}"), is_windows=is_windows)
    assert (True, True) == (place.isprintable(), is_inside(place, is_windows=is_windows))


@WINDOWS
@pytest.mark.parametrize(
    "cache_path",
    [
        "", ".", "..", "/", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a/..", "a\0b", "a\nb",
        ".datacachalog/meta/x", ".DATACACHALOG/x", "CACHEDIR.TAG", "cachedir.tag", "@versions/x", "@mine", "C:/x",
    ],
)  # fmt: skip  # one a line says no more
def test_g8_own_place_that_could_leave_is_refused(is_windows, cache_path):
    """A `cache_path` is a setting: what would leave the cache, or be its own file, is refused with the reason."""
    with pytest.raises(UnsafePathError, match="cache_path"):
        places(CacheKey("s3://bucket/a", cache_path=cache_path), is_windows=is_windows)


@pytest.mark.parametrize("cache_path", ["..\\a", "a\\..\\b", "\\a", "a\\", "CON", "a.txt.", "a:b"])
def test_g8_own_place_that_windows_would_misread_is_refused_there(cache_path):
    """Backslashes separate there, devices and trailing dots mean something else."""
    with pytest.raises(UnsafePathError):
        places(CacheKey("s3://bucket/a", cache_path=cache_path), is_windows=True)


@WINDOWS
@given(cache_path=KEYS)
def test_g8_own_place_is_inside_or_refused(is_windows, cache_path):
    """Whatever is given, the place is inside, or there is none."""
    try:
        (place,) = places(CacheKey("s3://bucket/a", cache_path=cache_path), is_windows=is_windows)
    except UnsafePathError:
        return
    assert is_inside(place, is_windows=is_windows)
