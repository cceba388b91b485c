"""What is certain without botocore, compared with what botocore comes to."""

from __future__ import annotations

import os

import pytest

from datacachalog.storage._s3_settings import CertainSettings, certain_settings

PLAIN = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "eu-west-1"}


@pytest.fixture
def settings_of(monkeypatch, tmp_path):
    """What is certain in an environment, of a user without any configuration file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)

    def settings(
        *, endpoint_url=None, region=None, is_anonymous=False, addressing_style="auto", **environment
    ) -> CertainSettings | None:
        return certain_settings(
            endpoint_url=endpoint_url,
            region=region,
            is_anonymous=is_anonymous,
            addressing_style=addressing_style,
            environment=environment,
        )

    return settings


def botocores_url(monkeypatch, bucket, environment, *, endpoint_url, region, addressing_style):
    import botocore.session
    from botocore.config import Config

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config = Config(s3={"addressing_style": addressing_style})
    client = botocore.session.Session().create_client("s3", region, endpoint_url=endpoint_url, config=config)
    seen = []

    def look(request, **_):
        seen.append((request.url.partition("?")[0], request.headers["Authorization"].decode()))
        raise RuntimeError

    client.meta.events.register("before-send.s3.GetObject", look)
    with pytest.raises(RuntimeError):
        client.get_object(Bucket=bucket, Key="key")
    [(url, authorization)] = seen
    return url, authorization.split("/")[2]


@pytest.mark.parametrize("addressing_style", ["auto", "path", "virtual"])
@pytest.mark.parametrize("bucket", ["bucket", "bucket.with.dots", "b-1"])
@pytest.mark.parametrize(
    ("endpoint_url", "region", "environment"),
    [
        (None, None, {}),
        (None, "us-east-1", {}),
        (None, "ap-southeast-2", {"AWS_REGION": "eu-west-3"}),
        ("http://127.0.0.1:9000", None, {}),
        ("http://localhost:9000/", None, {"AWS_SESSION_TOKEN": "token"}),
        ("https://s3.example.com/base", "weird", {}),
        (None, None, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}),
        (None, None, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9000"}),
    ],
)
def test_what_is_certain_is_what_botocore_comes_to(
    settings_of, monkeypatch, addressing_style, bucket, endpoint_url, region, environment
):
    """The URL of an object and the region of its signature are botocore's, or left to it."""
    arguments = {"endpoint_url": endpoint_url, "region": region, "addressing_style": addressing_style}
    certain = settings_of(**arguments, **PLAIN, **environment)
    prefix = certain.prefix_of(bucket)
    if prefix is None:
        assert addressing_style == "virtual" or "." in bucket
        return
    expected = botocores_url(monkeypatch, bucket, PLAIN | environment, **arguments)
    assert expected == (f"{prefix}key", certain.region)


@pytest.mark.parametrize(
    "environment",
    [
        {"AWS_PROFILE": "x"},
        {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
        {"AWS_USE_FIPS_ENDPOINT": "true"},
        {"AWS_CREDENTIAL_EXPIRATION": "2030-01-01T00:00:00Z"},
        {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
        {"AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "regional"},
        {"AWS_SOMETHING_OF_TOMORROW": "1"},
        {"HTTPS_PROXY": "http://proxy:3128"},
        {"http_proxy": "http://proxy:3128"},
        {"AWS_DEFAULT_REGION": "cn-north-1"},
        {"AWS_DEFAULT_REGION": ""},
        {"AWS_SECRET_ACCESS_KEY": ""},
        {"AWS_ENDPOINT_URL": "https://bucket.s3.eu-west-1.amazonaws.com"},
        {"AWS_ENDPOINT_URL": "http://user:password@host"},
        {"AWS_ENDPOINT_URL": "http://host/?query"},
        {"AWS_ENDPOINT_URL": "no url"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_anything_else_is_left_to_botocore(settings_of, environment):
    """A variable that botocore looks at, or may come to look at, makes nothing certain."""
    assert settings_of(**PLAIN | environment) is None


@pytest.mark.parametrize("file", ["config", "credentials"])
def test_a_configuration_file_is_left_to_botocore(settings_of, tmp_path, file):
    """Where there is a file, only botocore can read it; an empty one says nothing."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / file).touch()
    assert settings_of(**PLAIN) is not None
    (tmp_path / ".aws" / file).write_text("[default]\n")
    assert settings_of(**PLAIN) is None


@pytest.mark.parametrize("bucket", ["arn:aws:s3:eu-west-1:1:accesspoint/x", "name--x-s3", "name-s3alias", "A_B", "x"])
def test_aliases_and_other_kinds_of_buckets_are_left_to_botocore(settings_of, bucket):
    """Access points, directory buckets and names that are no host's have rules of their own."""
    assert settings_of(**PLAIN).prefix_of(bucket) is None


def test_anonymous_needs_no_credentials(settings_of):
    """Unsigned requests need none, and use none that are there."""
    certain = settings_of(is_anonymous=True, AWS_DEFAULT_REGION="eu-west-1")
    assert certain.credentials is None
