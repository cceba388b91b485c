"""What does it cost to ask about many cached datasets, and is it as right as asking about each?"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from datacachalog import AsyncCatalog, CatalogConfig, Dataset, FetchAllError, Freshness, ObjectNotFoundError, S3Storage
from datacachalog.testing import FaultServer, MemoryStorage, Status

COUNT = 20
MakeCatalog = Callable[..., AsyncCatalog]


@pytest.fixture
async def make_catalog(server: FaultServer, tmp_path: Path) -> AsyncIterator[MakeCatalog]:
    """Make catalogs of the objects of one prefix, which are closed at the end."""
    made: list[AsyncCatalog] = []
    for number in range(COUNT):
        server.put("bucket", f"data/{number:03}", b"old")

    def make(**settings: object) -> AsyncCatalog:
        datasets = [Dataset(f"{number}", f"s3://bucket/data/{number:03}") for number in range(COUNT)]
        storage = S3Storage(endpoint_url=server.endpoint_url, region="us-east-1")
        config = CatalogConfig(**{"retries": 0, **settings})
        catalog = AsyncCatalog(datasets, cache_dir=tmp_path / "cache", config=config, storage=storage, progress=False)
        made.append(catalog)
        return catalog

    yield make
    for catalog in made:
        await catalog.aclose()


@pytest.fixture
async def cached(server: FaultServer, make_catalog: MakeCatalog) -> AsyncCatalog:
    """A catalog whose datasets are all cached; the server has forgotten how."""
    catalog = make_catalog()
    await catalog.fetch_all()
    server.clear_requests()
    return catalog


def sent(server: FaultServer) -> Counter[str]:
    """How many requests of each kind the server was sent."""
    kinds = Counter("LIST" if "list-type" in request.query else request.method for request in server.requests)
    server.clear_requests()
    return kinds


# -- fetch_all


async def test_many_cached_datasets_are_revalidated_by_a_listing(server: FaultServer, cached: AsyncCatalog) -> None:
    """One request for all; each is told as revalidated, with its path."""
    report = await cached.fetch_all()
    assert ({"LIST": 1}, 1, COUNT) == (sent(server), report.requests, len(report))
    assert {("revalidated", b"old", 0)} == {
        (result.action, result.path.read_bytes(), result.bytes_downloaded) for result in report.values()
    }


async def test_what_has_changed_or_is_missing_goes_the_ordinary_way(server: FaultServer, cached: AsyncCatalog) -> None:
    """A listing confirms; what it doesn't confirm is asked for by itself, so new bytes and a 404 come from there."""
    server.put("bucket", "data/007", b"new")
    server.delete("bucket", "data/013")
    report = await cached.fetch_all(on_error="collect")
    assert ({"LIST": 1, "GET": 2}, 3) == (sent(server), report.requests)
    assert ("downloaded", b"new") == (report["7"].action, report["7"].path.read_bytes())
    assert [("13", ObjectNotFoundError)] == [(name, type(error)) for name, error in report.errors.items()]
    assert b"old" == (await cached.fetch("13", offline=True)).read_bytes()


async def test_a_version_of_the_same_length_is_noticed(server: FaultServer, cached: AsyncCatalog) -> None:
    """The ETag tells, not the size."""
    server.put("bucket", "data/000", b"odd")
    assert b"odd" == (await cached.fetch_all())["0"].path.read_bytes()


async def test_g6_a_changed_copy_is_not_confirmed_by_a_listing(server: FaultServer, cached: AsyncCatalog) -> None:
    """The listing speaks of the remote: a copy that was edited or truncated is downloaded again."""
    paths = {name: result.path for name, result in (await cached.fetch_all()).items()}
    paths["1"].write_bytes(b"odd")
    paths["2"].write_bytes(b"ol")
    paths["3"].unlink()
    report = await cached.fetch_all()
    downloaded = [name for name, result in report.items() if result.action == "downloaded"]
    assert (["1", "2", "3"], {b"old"}) == (downloaded, {path.read_bytes() for path in paths.values()})


async def test_g6_a_changed_copy_is_noticed_inside_the_window(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """`max_age` says that the remote need not be asked; the copy is looked at all the same, on every fetch."""
    catalog = make_catalog(max_age_seconds=1e6)
    path = await catalog.fetch("0")
    found = []
    for spoil in (lambda: path.write_bytes(b"odd"), lambda: path.write_bytes(b"o"), path.unlink):
        assert b"old" == (await catalog.fetch("0")).read_bytes()
        spoil()
        found.append((await catalog.fetch("0")).read_bytes())
    assert ([b"old"] * 3, {"GET": 4}) == (found, sent(server))


async def test_without_permission_to_list_each_is_asked_for(server: FaultServer, cached: AsyncCatalog) -> None:
    """A refusal costs one request, once while the catalog is open."""
    server.add_faults(Status(status=403, method="LIST", times=None))
    first = await cached.fetch_all()
    assert ({"LIST": 1, "GET": COUNT}, COUNT + 1) == (sent(server), first.requests)
    second = await cached.fetch_all()
    assert ({"GET": COUNT}, {"revalidated"}) == (sent(server), {result.action for result in second.values()})


@pytest.mark.parametrize("status", [501, 503])
async def test_a_listing_that_fails_leaves_the_ordinary_way(
    server: FaultServer, cached: AsyncCatalog, status: int
) -> None:
    """A store that can't list, or didn't this time, has its objects asked for one by one."""
    server.add_faults(Status(status=status, method="LIST", times=None))
    report = await cached.fetch_all()
    assert ({"LIST": 1, "GET": COUNT}, {"revalidated"}) == (sent(server), {r.action for r in report.values()})


async def test_g4_without_an_answer_every_copy_is_served(server: FaultServer, cached: AsyncCatalog) -> None:
    """A listing that nobody answers changes nothing of what is promised for an outage."""
    server.add_faults(Status(status=500, method=None, times=None))
    with pytest.warns(match="may be out of date"):
        report = await cached.fetch_all()
    assert (COUNT, {"stale"}) == (len(report), {result.action for result in report.values()})


async def test_what_a_listing_confirmed_opens_the_window(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """With `max_age`, a copy that a listing has confirmed needs no request for so long."""
    await make_catalog().fetch_all()
    catalog = make_catalog(max_age_seconds=1e6)
    long_ago = time.time() - 2e6
    for sidecar in catalog._cache.cache_dir.rglob("*.json"):
        os.utime(sidecar, (long_ago, long_ago))
    sent(server)
    assert {"revalidated"} == {result.action for result in (await catalog.fetch_all()).values()}
    assert {"cached"} == {result.action for result in (await catalog.fetch_all()).values()}
    assert {"LIST": 1} == sent(server)


async def test_forced_fetch_is_not_listed(server: FaultServer, cached: AsyncCatalog) -> None:
    """`force` downloads in any case, so there is nothing to confirm."""
    await cached.fetch_all(force=True)
    assert {"GET": COUNT} == sent(server)


async def test_two_datasets_of_one_object_are_both_served(tmp_path: Path) -> None:
    """A listing tells of the object once, and it holds for each."""
    memory = MemoryStorage()
    memory.put("s3://bucket/a", b"a")
    datasets = [Dataset(f"{n}", "s3://bucket/a", cache_path=f"place/{n}") for n in range(2)]
    datasets += [Dataset(f"b{n}", f"s3://bucket/b{n}") for n in range(COUNT)]
    for n in range(COUNT):
        memory.put(f"s3://bucket/b{n}", b"b")
    async with AsyncCatalog(datasets, cache_dir=tmp_path, storage=memory, progress=False) as catalog:
        await catalog.fetch_all()
        memory.clear_requests()
        report = await catalog.fetch_all()
    assert (COUNT + 2, ["LIST"]) == (len({r.path for r in report.values()}), [r.method for r in memory.requests])


async def test_files_are_not_listed(tmp_path: Path) -> None:
    """To look at a file costs less than to list its directory."""
    datasets = []
    for number in range(COUNT):
        path = tmp_path / f"{number}"
        path.write_bytes(b"x")
        datasets.append(Dataset(path.name, path))
    async with AsyncCatalog(datasets, cache_dir=tmp_path / "cache", progress=False) as catalog:
        await catalog.fetch_all()
        report = await catalog.fetch_all()
    assert (COUNT, {"revalidated"}) == (report.requests, {result.action for result in report.values()})


async def test_objects_without_an_etag_are_fetched_one_by_one(tmp_path: Path) -> None:
    """What has no validator can't be confirmed by the one of a listing."""
    memory = MemoryStorage()
    for number in range(COUNT):
        memory.put(f"s3://bucket/{number}", b"x", has_etag=False)
    datasets = [Dataset(f"{number}", f"s3://bucket/{number}") for number in range(COUNT)]
    async with AsyncCatalog(datasets, cache_dir=tmp_path, storage=memory, progress=False) as catalog:
        await catalog.fetch_all()
        memory.clear_requests()
        await catalog.fetch_all()
    assert {"GET"} == {request.method for request in memory.requests}


async def test_missing_datasets_are_downloaded_beside_the_listing(tmp_path: Path) -> None:
    """What isn't cached doesn't wait for what is."""
    memory = MemoryStorage()
    for number in range(2 * COUNT):
        memory.put(f"s3://bucket/{number:03}", b"x")
    datasets = [Dataset(f"{number}", f"s3://bucket/{number:03}") for number in range(2 * COUNT)]
    async with AsyncCatalog(datasets, cache_dir=tmp_path, storage=memory, progress=False) as catalog:
        await catalog.fetch_all(str(number) for number in range(0, 2 * COUNT, 2))
        memory.clear_requests()
        report = await catalog.fetch_all()
    assert [dataset.name for dataset in datasets] == list(report)
    assert {"downloaded": COUNT, "revalidated": COUNT} == Counter(result.action for result in report.values())
    assert {"GET": COUNT, "LIST": 1} == Counter(request.method for request in memory.requests)


# -- status, plan


async def test_status_of_many_takes_a_listing(server: FaultServer, cached: AsyncCatalog) -> None:
    """Fresh and stale are told by the listing, missing by the request that says so."""
    server.put("bucket", "data/007", b"newer")
    server.delete("bucket", "data/013")
    statuses = {status.name: status for status in await cached.status()}
    assert {"LIST": 1, "HEAD": 1} == sent(server)
    assert (Freshness.STALE, Freshness.UNKNOWN) == (statuses["7"].freshness, statuses["13"].freshness)
    assert COUNT - 2 == sum(status.freshness is Freshness.FRESH for status in statuses.values())


async def test_plan_counts_the_listing_and_comes_true(server: FaultServer, cached: AsyncCatalog) -> None:
    """What the plan says in requests and bytes is what the fetch sends and brings."""
    server.put("bucket", "data/007", b"newer")
    plan = await cached.plan()
    assert {"LIST": 1} == sent(server)
    assert {"revalidate": COUNT - 1, "download": 1} == Counter(step.action for step in plan.steps)
    assert (2, 5) == (plan.requests, plan.bytes)
    assert plan.requests == sum(step.requests for step in plan.steps)
    report = await cached.fetch_all()
    assert (plan.requests, plan.bytes) == (report.requests, report.bytes_downloaded)


async def test_plan_of_a_cold_catalog_takes_sizes_from_a_listing(
    server: FaultServer, make_catalog: MakeCatalog
) -> None:
    """One request to plan twenty downloads; a fetch sends twenty."""
    catalog = make_catalog()
    plan = await catalog.plan()
    assert ({"LIST": 1}, COUNT, 3 * COUNT) == (sent(server), plan.requests, plan.bytes)
    report = await catalog.fetch_all()
    assert (plan.requests, plan.bytes) == (report.requests, report.bytes_downloaded)


async def test_a_dataset_that_is_gone_is_a_step_that_fails(server: FaultServer, make_catalog: MakeCatalog) -> None:
    """Not being listed is no proof: the object is asked for, and the plan has the store's own words."""
    server.delete("bucket", "data/013")
    plan = await make_catalog().plan()
    failing = [step for step in plan.steps if step.action == "fail"]
    assert ({"LIST": 1, "HEAD": 1}, ["13"]) == (sent(server), [step.name for step in failing])
    with pytest.raises(FetchAllError):
        await make_catalog().fetch_all()


async def test_offline_nothing_is_listed(server: FaultServer, cached: AsyncCatalog, make_catalog: MakeCatalog) -> None:
    """`offline` means no request at all, for looking too."""
    catalog = make_catalog(offline=True)
    await catalog.plan()
    statuses = await catalog.status()
    report = await catalog.fetch_all()
    assert ({}, {Freshness.UNKNOWN}) == (sent(server), {status.freshness for status in statuses})
    assert {"cached"} == {result.action for result in report.values()}
