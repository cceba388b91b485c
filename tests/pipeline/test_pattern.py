"""What a source with wildcards means, compared with a matcher that is slow and plain."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from datacachalog._pipeline.pattern import parse_pattern

BASE = "s3://bucket/"


def matches(pattern: str, text: str) -> bool:
    """The rule itself: character by character, trying everything."""
    if not pattern:
        return not text
    if pattern.startswith("**"):
        rest = pattern[2:]
        return any(matches(rest, text[n:]) for n in range(len(text) + 1))
    head, rest = pattern[0], pattern[1:]
    if head == "*":
        lengths = range(len(text.partition("/")[0]) + 1)
        return any(matches(rest, text[n:]) for n in lengths)
    if head == "[" and (close := pattern.find("]", 2)) != -1:
        members = pattern[1:close]
        is_negated = members.startswith("!") and len(members) > 1
        allowed = set(members[1:] if is_negated else members)
        return (
            bool(text)
            and text[0] != "/"
            and (text[0] in allowed) != is_negated
            and matches(pattern[close + 1 :], text[1:])
        )
    if head == "?":
        return bool(text) and text[0] != "/" and matches(rest, text[1:])
    return text.startswith(head) and matches(rest, text[1:])


def segment_matches(pattern: str, text: str) -> bool:
    """The rule with `**/` as a segment of its own: it may also be no segment at all."""
    if pattern.startswith("**/"):
        tails = [text, *(text[n + 1 :] for n, c in enumerate(text) if c == "/")]
        return any(segment_matches(pattern[3:], tail) for tail in tails)
    if "/**/" in pattern:
        # The first one: what is before it ends with a slash in the text too.
        before, _, after = pattern.partition("/**/")
        return any(
            matches(before, text[:n]) and segment_matches("**/" + after, text[n + 1 :])
            for n, c in enumerate(text)
            if c == "/"
        )
    return matches(pattern, text)


PIECES = st.sampled_from(
    ["*", "?", "**", "**/", "/", "a", "b", "-", "[ab]", "[!a]", "[*]", "[!-a]", ".", "$", "+", "]", "a/"]
)
PATTERNS = st.lists(PIECES, min_size=1, max_size=6).map("".join)
TEXTS = st.text(alphabet="ab/-*.$+]\n", max_size=7)


@given(pattern=PATTERNS, text=TEXTS)
@example("**/a", "a")
@example("a/**/b", "a/b")
@example("a**/b", "ab")
@example("a/**", "a/")
@example("**", "a/b")
def test_pattern_means_what_the_plain_matcher_says(pattern, text):
    """Each pattern matches the same keys as the rule, character by character; keys that end in a slash are no files."""
    if pattern.endswith("/"):
        pattern += "**"
    if "***" in pattern:
        return
    expected = not (text == "" or text.endswith("/")) and segment_matches(pattern, text)
    assert expected == parse_pattern(BASE + pattern).matches(BASE + text)


@given(pattern=PATTERNS, text=TEXTS)
def test_what_matches_begins_with_the_prefix(pattern, text):
    """Listing the prefix finds every match, and the base is the prefix's last directory."""
    found = parse_pattern(BASE + pattern)
    assert not found.matches(BASE + text) or (BASE + text).startswith(found.prefix)
    assert (True, True) == (found.prefix.startswith(found.base), found.base.endswith("/"))


@given(
    body=st.text(alphabet="ab-!^]&~|[\\./%", min_size=1, max_size=6),
    text=st.text(alphabet="ab-!^]&~|[\\/,", max_size=2),
)
def test_any_bracket_is_read_without_a_warning(body, text):
    """No set that a key may hold makes the library warn or fail: a bracket that is none is a character."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse_pattern(f"{BASE}[{body}]").matches(BASE + text)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*.csv", ["a.csv", ".csv"], ["a/b.csv", "a.csvx", "acsv", "a.csv\n"]),
        ("?.csv", ["a.csv", "ü.csv", "🦆.csv"], [".csv", "ab.csv", "/.csv"]),
        ("**/*.csv", ["a.csv", "a/b.csv", "a/b/c.csv", "/a.csv"], ["a.txt"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z", "a//z"], ["az", "a/bz", "z"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "a/", "ab"]),
        ("**", ["a", "a/b"], ["a/"]),
        ("a**", ["a", "ab", "ab/c"], ["ba"]),
        ("a**/b", ["a/b", "ax/b", "ax/y/b"], ["ab"]),
        ("**.csv", ["a.csv", "a/b.csv"], ["a.txt"]),
        ("[ab].csv", ["a.csv", "b.csv"], ["c.csv", "ab.csv", "/.csv"]),
        ("[a-c]", ["a", "b", "c"], ["d", "-", "/"]),
        ("[!a-c]", ["d", "-", "!"], ["a", "b", "/", ""]),
        ("[!-c]", ["d", "A", "0"], ["-", "c"]),
        ("[a-]", ["a", "-"], ["b"]),
        ("[-a]", ["a", "-"], ["b"]),
        ("[+--]", ["+", ",", "-"], ["a"]),
        ("[]]", ["]"], ["[", "a"]),
        ("[^a]", ["^", "a"], ["b"]),
        ("[.-0]", [".", "0"], ["/", "a"]),
        ("[*]", ["*"], ["a", "[*]"]),
        ("[?]", ["?"], ["a"]),
        ("[[]", ["["], ["a"]),
        ("[!]", ["!"], ["a"]),
        ("[z-a]", ["[z-a]"], ["z", "a"]),
        ("[a", ["[a"], ["a"]),
        ("[]", ["[]"], [""]),
        ("[a/b]", ["[a/b]"], ["a", "b"]),
        ("a[*]b/*.csv", ["a*b/c.csv"], ["axb/c.csv"]),
        ("a.b+c/*", ["a.b+c/d"], ["aXb+c/d", "a.bbc/d"]),
        ("dir/", ["dir/a", "dir/a/b"], ["dir/", "dir", "dirx/a", "dir/sub/"]),
        ("dir/*/", ["dir/a/b", "dir/a/b/c"], ["dir/a", "dir/a/"]),
        ("new\nline/*", ["new\nline/a\nb"], ["new"]),
    ],
)
def test_wildcards(pattern, yes, no):
    """The wildcards one by one, with the characters that mean something elsewhere."""
    found = parse_pattern(BASE + pattern)
    assert (yes, []) == (
        [key for key in yes if found.matches(BASE + key)],
        [key for key in no if found.matches(BASE + key)],
    )


@pytest.mark.parametrize(
    ("source", "prefix", "base"),
    [
        ("s3://b/dir/", "s3://b/dir/", "s3://b/dir/"),
        ("s3://b/", "s3://b/", "s3://b/"),
        ("s3://b/dir/part-*.csv", "s3://b/dir/part-", "s3://b/dir/"),
        ("s3://b/*", "s3://b/", "s3://b/"),
        ("s3://b/a[*]b/c*", "s3://b/a*b/c", "s3://b/a*b/"),
        ("s3://b/a[*]b", "s3://b/a*b", "s3://b/"),
        ("s3://b/a[bc]/d", "s3://b/a", "s3://b/"),
        ("/data/x/**/*.csv", "/data/x/", "/data/x/"),
    ],
)
def test_prefix_is_all_that_is_certain(source, prefix, base):
    """What is listed is the longest beginning without a wildcard; the base is its last directory."""
    found = parse_pattern(source)
    assert (prefix, base) == (found.prefix, found.base)
