"""What nginx, a web server that isn't ours, answers, and what becomes of it in a catalog."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import anyio
import pytest

from datacachalog import AccessDeniedError, AsyncCatalog, CatalogConfig, CredentialsError, Dataset, ObjectNotFoundError
from datacachalog.ports import Event, TransferStarted
from datacachalog.storage import HTTPStorage
from datacachalog.storage._http_answers import NONE, RECENT, TIMED
from datacachalog.testing.contracts import Delete, ReadableStorageContract, Seed

from ._bucket import MIB, noise
from ._nginx import PASSWORD, PROGRAM, USER, WebServer, running_nginx

CONFIG = CatalogConfig(part_bytes=MIB, retries=2)
LARGE = noise(6 * MIB + 17, seed=1)
OTHER = noise(6 * MIB + 17, seed=2)
LONG_AGO = 1_000_000_000.0


@pytest.fixture(scope="module")
def nginx() -> Iterator[WebServer]:
    if not PROGRAM.exists():
        text = f"{PROGRAM} is needed: nox -s integration brings Debian's"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    with running_nginx() as nginx:
        yield nginx


@pytest.fixture
def make_catalog(tmp_path: Path) -> Callable[..., AsyncCatalog]:
    def make(*sources: str, storage: HTTPStorage | None = None) -> AsyncCatalog:
        datasets = [Dataset(str(number), source) for number, source in enumerate(sources)]
        return AsyncCatalog(datasets, cache_dir=tmp_path / "cache", storage=storage, config=CONFIG, progress=False)

    return make


class TestNginx(ReadableStorageContract):
    """Its ETag is made of the time, in seconds, and the size: so each version gets another second."""

    @pytest.fixture
    def storage(self) -> HTTPStorage:
        return HTTPStorage()

    @pytest.fixture
    def seed(self, nginx: WebServer) -> Seed:
        seconds = itertools.count(int(LONG_AGO))

        async def seed(key: str, data: bytes) -> str:
            nginx.put(f"contract/{key}", data, modified_at=float(next(seconds)))
            return f"{nginx.url}/contract/{key}"

        return seed

    @pytest.fixture
    def delete(self, nginx: WebServer) -> Delete:
        async def delete(uri: str) -> None:
            (nginx.data / uri.partition(f"{nginx.url}/")[2]).unlink()

        return delete


async def test_g1_large_file_comes_in_parts_of_one_version(nginx, make_catalog):
    """Each demands the ETag; and the next fetch costs one answer without bytes."""
    nginx.put("parts.bin", LARGE)
    async with make_catalog(f"{nginx.url}/parts.bin") as catalog:
        report = await catalog.fetch_all()
        again = await catalog.fetch_all()
        status = await catalog.status()
    assert LARGE == report["0"].path.read_bytes()
    assert (8, "revalidated", 1) == (report.requests, again["0"].action, again.requests)
    assert "fresh" == status[0].freshness.value


@pytest.mark.parametrize("place", ["slow", "slow/timed"])
async def test_g5_file_replaced_while_it_comes_is_begun_again(nginx, tmp_path, place):
    """nginx heeds If-Match and If-Unmodified-Since: the parts that follow are refused, and the new file comes whole."""
    name = f"{place.replace('/', '-')}.bin"
    nginx.put(name, LARGE, modified_at=LONG_AGO)
    config = CatalogConfig(part_bytes=MIB, max_concurrency=2)  # 7 parts, a quarter of a second each
    datasets = [Dataset("0", f"{nginx.url}/{place}/{name}")]

    started = anyio.Event()

    def watch(event: Event) -> None:
        if isinstance(event, TransferStarted):
            started.set()

    async def replace() -> None:
        await started.wait()
        await anyio.to_thread.run_sync(lambda: nginx.put(name, OTHER, modified_at=LONG_AGO + 1))

    async with (
        AsyncCatalog(datasets, cache_dir=tmp_path / "cache", config=config, progress=watch) as catalog,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(replace)
        path = await catalog.fetch("0")
    assert OTHER == path.read_bytes()
    assert "412" in [asked[1] for asked in nginx.asked() if asked[3].endswith(name)]


@pytest.mark.parametrize(
    ("place", "age", "caveat", "action"),
    [
        ("", 5, "", "revalidated"),
        ("timed/", 100, TIMED, "revalidated"),
        ("timed/", 5, RECENT, "downloaded"),
        ("unnamed/", 100, NONE, "downloaded"),
        ("whole/", 100, "", "revalidated"),
        ("compressing/", 100, "", "revalidated"),
        ("compressed/", 100, "", "revalidated"),
        ("chunked/", 100, NONE, "downloaded"),
    ],
)
async def test_what_is_served_in_other_ways_arrives(nginx, make_catalog, place, age, caveat, action):
    """With every validator and none, without ranges, without a length, compressed unasked: these bytes; and the result
    says what isn't promised.
    """
    name = f"other-{place.strip('/')}-{age}.bin"
    nginx.put(name, LARGE, modified_at=time.time() - age)
    async with make_catalog(f"{nginx.url}/{place}{name}") as catalog:
        first = (await catalog.fetch_all())["0"]
        assert LARGE == first.path.read_bytes()
        again = (await catalog.fetch_all())["0"]
    assert "; ".join(filter(None, ["not cached", caveat])) == first.reason
    assert (action, LARGE) == (again.action, again.path.read_bytes())


async def test_times_hold_parts_together(nginx, make_catalog):
    """Without an ETag, by If-Unmodified-Since."""
    nginx.put("timed-parts.bin", LARGE, modified_at=LONG_AGO)
    async with make_catalog(f"{nginx.url}/timed/timed-parts.bin") as catalog:
        path = await catalog.fetch("0")
        nginx.put("timed-parts.bin", OTHER, modified_at=LONG_AGO - 1)  # an older one
        await catalog.fetch("0")
    ranges = [asked[4] for asked in nginx.asked() if asked[3].endswith("timed-parts.bin") and asked[1] == "206"]
    assert (OTHER, 14) == (path.read_bytes(), len(ranges))


async def test_basic_authentication(nginx, make_catalog):
    """User and password in the URL, or of the storage; redirected on the same host, and not to another."""
    nginx.put("private.csv", b"a,b\n")
    host = nginx.url.removeprefix("http://")
    user = f"{USER}:{quote(PASSWORD)}"
    storage = HTTPStorage(credentials={nginx.url: (USER, PASSWORD)})
    async with make_catalog(f"http://{user}@{host}/moved/private.csv") as catalog:
        assert b"a,b\n" == (await catalog.fetch("0")).read_bytes()
    places = ("private", "moved", "elsewhere")
    async with make_catalog(*(f"{nginx.url}/{p}/private.csv" for p in places), storage=storage) as catalog:
        report = await catalog.fetch_all(on_error="collect")
    async with make_catalog(f"http://{USER}:wrong@{host}/private/private.csv") as catalog:
        with pytest.raises(CredentialsError):
            await catalog.fetch("0", force=True)
    assert (["0", "1"], [CredentialsError]) == (list(report), [type(error) for error in report.errors.values()])


async def test_signed_url_is_for_one_method(nginx, make_catalog):
    """A signature is sent as it stands; HEAD is refused with it, so GET is asked."""
    nginx.put("signed.csv", b"a,b\n", modified_at=LONG_AGO)
    async with make_catalog(
        *(f"{nginx.url}/signed/signed.csv?signature={s}" for s in ("right/+=", "wrong"))
    ) as catalog:
        path = await catalog.fetch("0")
        [fresh, _] = await catalog.status()
        with pytest.raises(AccessDeniedError, match="signed URL"):
            await catalog.fetch("1")
    assert (b"a,b\n", "signed.csv", "fresh") == (path.read_bytes(), path.name, fresh.freshness.value)


async def test_https_with_an_authority_of_ones_own(nginx, make_catalog, monkeypatch):
    """Named by SSL_CERT_FILE."""
    monkeypatch.setenv("SSL_CERT_FILE", str(nginx.authority))
    nginx.put("secure.bin", LARGE)
    async with make_catalog(f"{nginx.https_url}/secure.bin") as catalog:
        assert LARGE == (await catalog.fetch("0")).read_bytes()


async def test_file_that_is_gone_is_an_error_and_the_copy_stays(nginx, make_catalog):
    """404 says so at once, and drops nothing."""
    nginx.put("gone.csv", b"a,b\n", modified_at=LONG_AGO)
    async with make_catalog(f"{nginx.url}/gone.csv") as catalog:
        path = await catalog.fetch("0")
        (nginx.data / "gone.csv").unlink()
        with pytest.raises(ObjectNotFoundError):
            await catalog.fetch("0")
    assert b"a,b\n" == path.read_bytes()
