"""Credentials that expire while they are in use: found anew, once, and the refused request is repeated."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from datacachalog import (
    AccessDeniedError,
    AsyncCatalog,
    CatalogConfig,
    CredentialsError,
    DatacachalogError,
    Dataset,
    RouterStorage,
    S3Storage,
)
from datacachalog.ports import ReadRequest
from datacachalog.testing import FaultServer, Meanwhile, Status

PART = 64 * 1024
PARTS = 24
CONTENT = b"".join(number.to_bytes(4, "big") for number in range(PARTS * PART // 4))
URI = "s3://bucket/big.bin"
CUSTOMER_KEY = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "0" * 32}


class Login:
    """A place where credentials are found, whose access key another program replaces."""

    def __init__(self, tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
        self.tmp_path = tmp_path
        self.patch = patch

    def storage(self, **settings: Any) -> S3Storage:
        return S3Storage(**settings)

    def write(self, access_key: str) -> None:
        raise NotImplementedError


class Environment(Login):
    def write(self, access_key: str) -> None:
        self.patch.setenv("AWS_ACCESS_KEY_ID", access_key)


class SharedFile(Login):
    def write(self, access_key: str) -> None:
        file = Path(self.tmp_path / "credentials")
        file.write_text(f"[lab]\naws_access_key_id = {access_key}\naws_secret_access_key = s\naws_session_token = t\n")
        self.patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    def storage(self, **settings: Any) -> S3Storage:
        return S3Storage(profile="lab", **settings)


class Process(Login):
    """A program that is asked for credentials, which know when they expire, and counts how often."""

    valid_seconds = 86400.0

    def write(self, access_key: str) -> None:
        self.patch.delenv("AWS_ACCESS_KEY_ID", raising=False)
        expiration = datetime.now(UTC) + timedelta(seconds=self.valid_seconds)
        printed = {"Version": 1, "AccessKeyId": access_key, "SecretAccessKey": "s", "SessionToken": "t"}
        (self.tmp_path / "printed").write_text(json.dumps(printed | {"Expiration": expiration.isoformat()}))
        script = self.tmp_path / "print.sh"
        script.write_text(f"echo asked >> {self.tmp_path}/asked\ncat {self.tmp_path}/printed\n")
        (self.tmp_path / "config").write_text(f"[default]\ncredential_process = /bin/sh {script}\n")
        self.patch.setenv("AWS_CONFIG_FILE", str(self.tmp_path / "config"))

    @property
    def times_asked(self) -> int:
        return len((self.tmp_path / "asked").read_text().splitlines())


class OwnSession(Login):
    """A session of the user's, in which the user sets other credentials."""

    session: Any = None

    def write(self, access_key: str) -> None:
        from aiobotocore.session import AioSession

        if self.session is None:
            self.session = AioSession()
        self.session.set_credentials(access_key, "s", "t")

    def storage(self, **settings: Any) -> S3Storage:
        return S3Storage(session=self.session, **settings)


class OwnSessionOfAProcess(Process):
    """A session of the user's that finds its credentials itself."""

    def storage(self, **settings: Any) -> S3Storage:
        from aiobotocore.session import AioSession

        return S3Storage(session=AioSession(), **settings)


LOGINS = [Environment, SharedFile, Process, OwnSession, OwnSessionOfAProcess]


@pytest.fixture
def keyed() -> Iterator[FaultServer]:
    """A server that serves only the access key `first`, until that expires."""
    with FaultServer(access_key="first") as server:
        server.put("bucket", "big.bin", CONTENT)
        yield server


@pytest.fixture
def make_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Login]], Any]:
    def make(kind: type[Login]) -> Login:
        login = kind(tmp_path, monkeypatch)
        login.write("first")
        return login

    return make


def catalog_of(storage: S3Storage, cache_dir: Path, **settings: Any) -> AsyncCatalog:
    return AsyncCatalog(
        [Dataset("big", URI)],
        cache_dir=cache_dir,
        storage=RouterStorage({"s3": storage}),
        config=CatalogConfig(part_bytes=PART, **settings),
        progress=False,
    )


def served(server: FaultServer) -> list[str]:
    """The ranges whose bytes were sent."""
    return sorted(r.range or "" for r in server.requests if r.method == "GET" and r.status in (200, 206))


@pytest.mark.parametrize("settings", [{}, {"server_side_encryption": CUSTOMER_KEY}], ids=["short-way", "client"])
@pytest.mark.parametrize("kind", LOGINS)
async def test_object_whose_credentials_expire_midway_comes_whole(keyed, make_login, tmp_path, kind, settings):
    """New credentials are found where the first were, and no part is downloaded twice."""
    login = make_login(kind)

    def expire() -> None:  # other parts are under way, so there is never a moment without good credentials
        keyed.issue_access_key("second")
        login.write("second")
        keyed.expire_access_key("second")

    keyed.add_faults(Meanwhile(nth=6, action=expire))
    storage = login.storage(endpoint_url=keyed.endpoint_url, **settings)
    async with catalog_of(storage, tmp_path / "cache", retries=0) as catalog:
        path = await catalog.fetch("big")
    assert path.read_bytes() == CONTENT
    assert sorted(f"bytes={n * PART}-{(n + 1) * PART - 1}" for n in range(PARTS)) == served(keyed)
    assert sum(r.bytes_sent for r in keyed.requests if r.status in (200, 206) and r.method == "GET") == len(CONTENT)


async def test_first_listing_looks_for_other_credentials_too(keyed, make_login):
    """Also where it is what the client is made for, and these have expired by the time that it is sent."""
    login = make_login(SharedFile)
    keyed.issue_access_key("second")
    keyed.expire_access_key("second")

    async with login.storage(endpoint_url=keyed.endpoint_url).connect(CatalogConfig()) as session:
        make_client = session._make_client

        def make_client_in_time(uri: str) -> Any:
            made = make_client(uri)
            login.write("second")
            return made

        session._make_client = make_client_in_time
        page = await session.list_page("s3://bucket/")
    assert ([URI], [400, 200]) == ([found.uri for found in page.objects], [r.status for r in keyed.requests])


async def test_credentials_are_looked_for_once_for_all_requests_that_were_refused(keyed, make_login, tmp_path):
    """However many parts are refused at the same moment, the provider is asked once for all of them."""
    login = make_login(Process)
    storage = login.storage(endpoint_url=keyed.endpoint_url)
    async with storage.connect(CatalogConfig()) as session:
        await session.head(URI)
        keyed.expire_access_key("second")
        login.write("second")

        async def ask() -> None:
            async with session.read(ReadRequest(uri=URI, stop=10)) as outcome:
                assert CONTENT[:10] == b"".join([chunk async for chunk in outcome.chunks])

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(ask)
    assert login.times_asked == 2


@pytest.mark.parametrize("kind", LOGINS)
async def test_g4_expired_credentials_without_newer_ones_raise_promptly_and_keep_the_copy(
    keyed, make_login, tmp_path, kind
):
    """There is nothing to try again with: `CredentialsError`, no retries, and the copy stays."""
    login = make_login(kind)
    async with catalog_of(login.storage(endpoint_url=keyed.endpoint_url), tmp_path / "cache") as catalog:
        path = await catalog.fetch("big")
        keyed.put("bucket", "big.bin", CONTENT[::-1])
        keyed.clear_requests()
        keyed.expire_access_key("second")
        with anyio.fail_after(5), pytest.raises(CredentialsError, match="log in again"):
            await catalog.fetch("big")
        assert {400} == {request.status for request in keyed.requests}
        assert len(keyed.requests) <= 2  # the short way, and the client for an answer that is for it to judge
        assert (CONTENT, path) == (path.read_bytes(), await catalog.fetch("big", offline=True))


@pytest.mark.parametrize("settings", [{}, {"server_side_encryption": CUSTOMER_KEY}], ids=["short-way", "client"])
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "ExpiredToken"),
        (403, "ExpiredToken"),
        (400, "ExpiredTokenException"),
        (403, "InvalidToken"),
        (400, "TokenRefreshRequired"),
        (403, "InvalidAccessKeyId"),
    ],
)
@pytest.mark.parametrize("ask", ["read", "head", "list"])
async def test_request_refused_for_its_credentials_is_repeated(keyed, make_login, ask, status, code, settings):
    """Whatever is asked for, by whichever way, and however the store says that the credentials have expired."""
    login = make_login(SharedFile)
    async with login.storage(endpoint_url=keyed.endpoint_url, **settings).connect(CatalogConfig()) as session:
        await session.head(URI)
        # What the short way can't judge (400) is asked again through the client, which is refused too.
        times = 2 if status == 400 and ask != "list" and not settings else 1
        keyed.add_faults(Status(status=status, code=code, method=None, times=times))
        keyed.expire_access_key("second")
        login.write("second")
        if ask == "head":
            assert (await session.head(URI)).size == len(CONTENT)
        elif ask == "list":
            assert [URI] == [found.uri for found in (await session.list_page("s3://bucket/")).objects]
        else:
            async with session.read(ReadRequest(uri=URI, stop=5)) as outcome:
                assert CONTENT[:5] == b"".join([chunk async for chunk in outcome.chunks])
    assert keyed.requests[-1].status in (200, 206)


async def test_refusals_that_new_credentials_would_not_change_do_not_ask_for_them_each(keyed, make_login):
    """A HEAD doesn't say why it is refused; the provider is asked once, and not for each of many refusals."""
    login = make_login(Process)
    keyed.add_faults(Status(status=403, method="HEAD", times=None))
    async with login.storage(endpoint_url=keyed.endpoint_url).connect(CatalogConfig()) as session:
        for _ in range(5):
            with pytest.raises(AccessDeniedError):
                await session.head(URI)
    assert (2, 5) == (login.times_asked, len(keyed.requests))


async def test_missing_permission_asks_for_no_credentials(keyed, make_login):
    """A refusal that says AccessDenied is about the object, not about the credentials."""
    login = make_login(Process)
    keyed.add_faults(Status(status=403))
    async with login.storage(endpoint_url=keyed.endpoint_url).connect(CatalogConfig()) as session:
        with pytest.raises(AccessDeniedError):
            async with session.read(ReadRequest(uri=URI)):
                pass
    assert (1, 1) == (login.times_asked, len(keyed.requests))


async def test_credentials_set_by_hand_are_not_replaced_by_found_ones(keyed, make_login, monkeypatch):
    """Who set credentials in a session of his own wants those, and nobody else's from the environment."""
    login = make_login(OwnSession)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "second")
    keyed.expire_access_key("second")
    async with login.storage(endpoint_url=keyed.endpoint_url).connect(CatalogConfig()) as session:
        with pytest.raises(CredentialsError, match="ExpiredToken"):
            await session.list_page("s3://bucket/")


async def test_provider_that_fails_leaves_the_refusal(keyed, make_login, tmp_path):
    """Where no credentials can be had any more, the error is the remote's, and its cause the provider's."""
    login = make_login(Process)
    async with login.storage(endpoint_url=keyed.endpoint_url).connect(CatalogConfig()) as session:
        await session.list_page("s3://bucket/")
        keyed.expire_access_key("second")
        (tmp_path / "printed").unlink()
        errors = []
        for _ in range(3):
            with pytest.raises(CredentialsError, match="ExpiredToken") as caught:
                await session.list_page("s3://bucket/")
            errors.append(caught.value)
    assert "custom-process" in str(errors[0].__cause__.__cause__)
    assert login.times_asked == 2


async def test_provider_of_expired_credentials_is_a_credentials_error(keyed, make_login, monkeypatch):
    """A provider whose new credentials have expired too is told as such, and nothing is sent with them."""
    monkeypatch.setattr(Process, "valid_seconds", -60.0)
    login = make_login(Process)
    async with login.storage(endpoint_url=keyed.endpoint_url).connect(CatalogConfig()) as session:
        with pytest.raises(CredentialsError, match="still expired"):
            await session.head(URI)
    assert [] == keyed.requests


async def test_cancelled_look_leaves_the_others_to_find_credentials(keyed, make_login):
    """Who is cancelled while credentials are looked for takes nothing from the one who asks next."""
    login = make_login(Process)
    async with login.storage(endpoint_url=keyed.endpoint_url).connect(CatalogConfig()) as session:
        await session.head(URI)
        keyed.expire_access_key("second")
        login.write("second")
        with suppress(DatacachalogError), anyio.move_on_after(0.01):
            await session.list_page("s3://bucket/")
        assert [URI] == [found.uri for found in (await session.list_page("s3://bucket/")).objects]
