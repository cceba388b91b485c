"""What is asked for, of whom, and with whose password."""

from __future__ import annotations

import pytest

from datacachalog import ConfigurationError, InvalidSourceError
from datacachalog.storage._http_address import Address, headers_of, origin_of, parse_address, redirected


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://host/a/b.csv", "https://host/a/b.csv"),
        ("HTTPS://Host.Example:443/A", "https://host.example/A"),
        ("http://host:8080", "http://host:8080/"),
        ("http://host:/a", "http://host/a"),
        ("http://host?x=1", "http://host/?x=1"),
        ("https://[2001:DB8::1]:8443/a", "https://[2001:db8::1]:8443/a"),
        ("https://münchen.example/a", "https://xn--mnchen-3ya.example/a"),
        ("https://host/a b/ü?q=ü ", "https://host/a%20b/%C3%BC?q=%C3%BC%20"),
        ("https://host/100%/%2f%zz", "https://host/100%25/%2f%25zz"),
        ("https://host/a?sig=a%2Bb%2F+c=&x[]=1", "https://host/a?sig=a%2Bb%2F+c=&x[]=1"),
        ("https://host/a/../b//./c", "https://host/a/../b//./c"),
        ('https://host/"<>\\^`{|}\r\n', "https://host/%22%3C%3E%5C%5E%60%7B%7C%7D%0D%0A"),
        ("https://ada:secret@host/a@b", "https://host/a@b"),
    ],
)
def test_url_is_sent_as_it_stands(uri, expected):
    """But for what no URL can have; a signature in it stays what it is, and a password is not in it."""
    assert expected == parse_address(uri).url


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://ada:sec%3Aret%40@host/a", ("ada", "sec:ret@")),
        ("https://ada@host/a", ("ada", "")),
        ("https://a@b:c@host/a", ("a@b", "c")),
        ("https://:token@host/a", ("", "token")),
        ("https://@host/a", None),
        ("https://host/a", None),
    ],
)
def test_user_part_is_user_and_password(uri, expected):
    """Percent-encoded where it has to be (RFC 3986, section 3.2.1)."""
    assert expected == parse_address(uri).user


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://host/a",
        "/data/a",
        "https://ho st/a",
        "https://host:x/a",
        "https://host:99999/a",
        "https://host:0/a",
        "https://[::1/a",
        "https://..ü/a",
        "https://host/\ud800",
    ],
)
def test_what_is_no_url_is_refused(uri):
    """Before anything is asked."""
    with pytest.raises(InvalidSourceError):
        parse_address(uri)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/b?x", Address("https://host", "/b?x", ("ada", "secret"))),
        ("c#part", Address("https://host", "/dir/c", ("ada", "secret"))),
        ("https://host:443/b", Address("https://host", "/b", ("ada", "secret"))),
        ("https://HOST/b", Address("https://host", "/b", ("ada", "secret"))),
        ("//other/b", Address("https://other", "/b")),
        ("https://host:8443/b", Address("https://host:8443", "/b")),
        ("https://eve:trap@host/b", Address("https://host", "/b", ("ada", "secret"))),
        ("https://eve:trap@other/b", Address("https://other", "/b")),
    ],
)
def test_password_stays_with_its_origin(location, expected):
    """Another host, port or scheme is another origin; and whoever redirects doesn't say who we are."""
    assert expected == redirected(parse_address("https://ada:secret@host/dir/a"), location)


@pytest.mark.parametrize("location", ["http://host/a", "ftp://host/a", "file:///etc/passwd"])
def test_redirect_to_less_than_https_is_refused(location):
    """What began encrypted and authenticated stays so."""
    with pytest.raises(InvalidSourceError):
        redirected(parse_address("https://host/a"), location)


def test_redirect_to_https_is_followed():
    """Also without the password, because it is another origin."""
    address = redirected(parse_address("http://ada:secret@host/a"), "https://host/a")
    assert Address("https://host", "/a") == address


@pytest.mark.parametrize(
    ("credential", "expected"),
    [
        (("ada", "secret"), {"Authorization": "Basic YWRhOnNlY3JldA=="}),
        (("ü", "ü"), {"Authorization": "Basic w7w6w7w="}),
        ("token", {"Authorization": "Bearer token"}),
        ({"X-Api-Key": "k"}, {"X-Api-Key": "k"}),
    ],
)
def test_credential_is_sent_in_its_headers(credential, expected):
    """Basic (RFC 7617, in UTF-8), Bearer (RFC 6750), or as the server wants it."""
    assert expected == headers_of(credential)


@pytest.mark.parametrize(
    "credential", [None, 5, ("secret",), "secret\nX: y", {"X": "secret\r\n"}, {"X Y": "secret"}, {"X": 5}, "sécret"]
)
def test_what_cannot_be_sent_is_refused_without_being_shown(credential):
    """A line end in a header would be another header."""
    with pytest.raises(ConfigurationError) as caught:
        headers_of(credential)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["host", "https://host/path", "https://ada:secret@host", "ftp://host", ""])
def test_credentials_are_for_an_origin(url):
    """Not for a part of one, which could be asked for by other names."""
    with pytest.raises(ConfigurationError) as caught:
        origin_of(url)
    assert "secret" not in str(caught.value)
