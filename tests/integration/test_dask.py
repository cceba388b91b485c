"""Does a Dask cluster get its data once per host, or once in all? A real scheduler, real workers and connections."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from distributed import Client

from datacachalog import AsyncCatalog, Catalog, CatalogConfig, Dataset, ObjectNotFoundError, S3Storage
from datacachalog.integrations.dask import WarmError, WarmPlugin, local_catalog, warm, warm_async
from datacachalog.ports import DatasetFailed, Event, FileFinished, OperationFinished, OperationStarted
from datacachalog.testing import FaultServer, Stall

from ..conftest import cached_files, partial_files, wait_until
from ._cluster import Cluster, running_cluster

MIB = 1024 * 1024
PART_BYTES = MIB

pytestmark = pytest.mark.leaks  # the client of the cluster, which serves all tests, has threads and connections


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Five workers on three hosts, each with a cache of its own. Two tests kill one of the first host's."""
    with running_cluster(tmp_path_factory.mktemp("cluster"), "a", "a", "a", "b", "c") as cluster:
        yield cluster


@pytest.fixture
def caches(cluster: Cluster, request: pytest.FixtureRequest) -> Callable[[Any], str]:
    """Gives, on a worker, the cache of its host that only this test uses."""
    name = request.node.name

    def cache_of(worker: object) -> str:
        return f"{os.environ['DATACACHALOG_CACHE_DIR']}/{name}"

    return cache_of


@pytest.fixture
def directories(cluster: Cluster, request: pytest.FixtureRequest) -> dict[str, Path]:
    """The same caches, by the names of the hosts in a report."""
    hosts = sorted(set(cluster.hosts))
    return {f"127.0.0.1:{(place := cluster.cache_dir(host) / request.node.name)}": place for host in hosts}


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def put(server: FaultServer, sizes: dict[str, int]) -> dict[str, bytes]:
    contents = {f"bucket/{name}.bin": noise(size) for name, size in sizes.items()}
    for key, content in contents.items():
        server.put("bucket", key.removeprefix("bucket/"), content)
    return contents


def catalog_of(server: FaultServer, *names: str, **arguments: Any) -> Catalog:
    return Catalog(
        [Dataset(name, f"s3://bucket/{name}.bin") for name in names],
        **{
            "storage": S3Storage(endpoint_url=server.endpoint_url, region="us-east-1"),
            "config": CatalogConfig(part_bytes=PART_BYTES),
            "progress": False,
            **arguments,
        },
    )


def bytes_of(cache_dir: Path) -> dict[str, bytes]:
    return {name: (cache_dir / name).read_bytes() for name in cached_files(cache_dir)}


def all_bytes(directories: dict[str, Path]) -> dict[str, dict[str, bytes]]:
    return {host: bytes_of(place) for host, place in directories.items()}


def sent_bytes(server: FaultServer) -> int:
    """How many bytes of objects were sent."""
    return sum(request.bytes_sent for request in server.requests if request.status in (200, 206))


def test_the_store_is_read_once_per_host(cluster, server, caches, directories):
    """Each host fetches each file once, however many workers it has, and finds it in its own cache."""
    contents = put(server, {"one": 3_000_000, "two": 100_000, "three": 0})
    report = warm(cluster.client, catalog_of(server, "one", "two", "three"), cache_dir=caches)
    assert dict.fromkeys(directories, contents) == all_bytes(directories)
    total = sum(map(len, contents.values()))
    assert (len(directories) * total, len(directories) * total) == (sent_bytes(server), report.bytes_from_store)
    assert sorted(directories) == sorted(report)
    assert len(cluster.client.nthreads()) == sum(map(len, report.workers.values()))


def test_the_store_is_read_once_for_the_cluster_from_host_to_host(cluster, server, caches, directories):
    """With `peer_to_peer` each byte is read from the store once; the rest travels between the hosts."""
    names = [f"f{number}" for number in range(30)]
    contents = put(server, {name: 200_000 * (number % 7) + number for number, name in enumerate(names)})
    # With so small a budget everybody waits for neighbours with all of it, which must not become a deadlock.
    config = CatalogConfig(part_bytes=PART_BYTES, max_concurrency=2)
    catalog = catalog_of(server, *names, config=config)
    report = warm(cluster.client, catalog, cache_dir=caches, peer_to_peer=True)
    assert dict.fromkeys(directories, contents) == all_bytes(directories)
    total = sum(map(len, contents.values()))
    assert (total, total) == (sent_bytes(server), report.bytes_from_store)
    assert (len(directories) - 1) * total == sum(report.bytes_from_peers.values())
    # What came from a neighbour is a copy of the store's object as any other: it is fresh.
    place = next(iter(directories.values()))
    with catalog_of(server, *names, cache_dir=place) as local:
        assert {"revalidated"} == {result.action for result in local.fetch_all().values()}


def test_the_store_is_asked_once_a_file_whether_copies_are_fresh(cluster, server, caches, directories):
    """With `peer_to_peer` one host asks for each file, and what it learns goes round."""
    contents = put(server, {"one": 2_000_000, "two": 1_000})
    catalog = catalog_of(server, "one", "two")
    warm(cluster.client, catalog, cache_dir=caches, peer_to_peer=True)
    contents |= put(server, {"one": 2_500_000})
    server.clear_requests()
    report = warm(cluster.client, catalog, cache_dir=caches, peer_to_peer=True)
    assert dict.fromkeys(directories, contents) == all_bytes(directories)
    assert {("downloaded", "revalidated")} == {(r["one"].action, r["two"].action) for r in report.values()}
    assert (2_500_000, 1) == (sent_bytes(server), [r.key for r in server.requests].count("two.bin"))


def test_g12_memory_stays_bounded_from_host_to_host(cluster, server, caches, directories):
    """A file of 64 MiB goes through hosts that grow by much less than that."""

    def peak_bytes() -> int:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    catalog = catalog_of(server, "large", config=CatalogConfig(part_bytes=8 * MIB, max_concurrency=16))
    put(server, {"large": 16 * MIB})
    warm(cluster.client, catalog, cache_dir=caches, peer_to_peer=True)
    before = cluster.client.run(peak_bytes)
    contents = put(server, {"large": 64 * MIB})
    warm(cluster.client, catalog, cache_dir=caches, peer_to_peer=True)
    assert dict.fromkeys(directories, contents) == all_bytes(directories)
    grown = {worker: (peak - before[worker]) // MIB for worker, peak in cluster.client.run(peak_bytes).items()}
    assert max(grown.values()) < 32, grown


def test_wrong_bytes_of_a_neighbour_are_not_published(cluster, server, caches, directories):
    """A copy that was spoilt at its host, its size and time unchanged, goes nowhere: the others read the store."""
    contents = put(server, {"spoilt": 2_000_000})
    catalog = catalog_of(server, "spoilt")
    report = warm(cluster.client, catalog, cache_dir=caches, peer_to_peer=True)
    [root] = [host for host, received in report.bytes_from_peers.items() if received == 0]
    for host, place in directories.items():
        file = place / "bucket/spoilt.bin"
        if host != root:
            file.unlink()
            continue
        found = file.stat()
        with file.open("r+b") as spoilt:
            spoilt.seek(1_000_000)
            spoilt.write(b"?" * 10)
        os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    server.clear_requests()
    report = warm(cluster.client, catalog, cache_dir=caches, peer_to_peer=True)
    others = {host: bytes_of(place) for host, place in directories.items() if host != root}
    assert dict.fromkeys(others, contents) == others
    assert len(others) * 2_000_000 == sent_bytes(server) == report.bytes_from_store


def test_a_failing_dataset_is_reported_by_each_host(cluster, server, caches, directories):
    """What fails on a host stops neither its other datasets nor other hosts, with and without neighbours."""
    contents = put(server, {"there": 1_500_000})
    catalog = catalog_of(server, "there", "gone")
    for peer_to_peer in (False, True):
        with pytest.raises(WarmError) as caught:
            warm(cluster.client, catalog, cache_dir=caches, peer_to_peer=peer_to_peer)
        report = caught.value.report
        assert dict.fromkeys(directories, contents) == all_bytes(directories)
        assert dict.fromkeys(directories, ("gone",)) == {host: tuple(each.errors) for host, each in report.items()}
        assert {ObjectNotFoundError} == {type(error) for each in report.values() for error in each.errors.values()}


def test_a_host_that_can_not_fetch_stops_no_other(cluster, server, caches, directories):
    """A host whose cache can't be written is told apart, and the others take its files from elsewhere."""
    contents = put(server, {f"f{number}": 1_100_000 + number for number in range(4)})
    broken, *others = directories
    directories[broken].write_bytes(b"a file in the place of the cache")
    catalog = catalog_of(server, *(f"f{number}" for number in range(4)))
    report = warm(cluster.client, catalog, cache_dir=caches, peer_to_peer=True, on_error="collect")
    assert [broken] == [host for host, each in report.items() if each.errors]
    assert dict.fromkeys(others, contents) == {host: bytes_of(directories[host]) for host in others}


def test_progress_shows_all_hosts_together(cluster, server, caches, directories):
    """The caller's observer is told what all hosts do, each as a dataset of one operation."""
    put(server, {"one": 3_000_000, "two": 200_000})
    events: list[Event] = []
    catalog = catalog_of(server, "one", "two", progress=events.append)
    warm(cluster.client, catalog, cache_dir=caches)
    assert OperationStarted(operation=events[0].operation, datasets=len(directories)) == events[0]
    finished = [(event.dataset, event.bytes_downloaded) for event in events if isinstance(event, FileFinished)]
    assert sorted((host, size) for host in directories for size in (3_000_000, 200_000)) == sorted(finished)
    assert isinstance(events[-1], OperationFinished)
    assert (len(directories), 0) == (events[-1].finished, events[-1].failed)
    assert len(directories) * 3_200_000 == events[-1].bytes_downloaded
    assert {events[0].operation} == {event.operation for event in events}


def test_workers_of_one_host_are_told_by_who_asks(cluster, server, caches, directories):
    """`host_of` decides which workers are one host; those that find nothing of it in their own cache fetch it."""
    contents = put(server, {"one": 1_200_000})
    report = warm(cluster.client, catalog_of(server, "one"), cache_dir=caches, host_of=lambda worker: "all")
    assert ["all"] == list(report)
    assert dict.fromkeys(directories, contents) == all_bytes(directories)


def test_a_task_finds_what_its_host_has(cluster, server, caches):
    """A task takes the catalog with its worker's own cache, and sends no request."""
    contents = put(server, {"one": 10_000})
    catalog = catalog_of(server, "one")
    warm(cluster.client, catalog, cache_dir=caches)
    server.clear_requests()

    def task(catalog: Catalog) -> bytes:
        with local_catalog(catalog, cache_dir=caches) as local:
            return local.fetch("one", offline=True).read_bytes()

    futures = [cluster.client.submit(task, catalog, workers=[worker]) for worker in cluster.client.nthreads()]
    assert [contents["bucket/one.bin"]] * len(futures) == cluster.client.gather(futures)
    assert [] == server.requests


def test_ctrl_c_stops_the_workers_and_leaves_what_can_be_resumed(cluster, server, caches, directories):
    """Ctrl-C at the caller ends the work on every host; the next `warm` goes on where each was."""
    contents = put(server, {"large": 2 * MIB})  # two parts: so many are asked for at once on any machine
    server.add_faults(Stall(after_bytes=300_000, uri="*/large.bin", times=None))
    catalog = catalog_of(server, "large")

    def interrupt() -> None:
        stalled = 2 * len(directories)
        server.wait_for(lambda requests: sum(r.is_stalled for r in requests) == stalled, timeout_seconds=30)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        warm(cluster.client, catalog, cache_dir=caches)
    interrupting.join()
    server.wait_for(lambda requests: not any(r.is_stalled for r in requests))
    assert {} == {host: found for host, found in all_bytes(directories).items() if found}
    server.clear_faults()
    server.clear_requests()
    warm(cluster.client, catalog, cache_dir=caches)
    assert dict.fromkeys(directories, contents) == all_bytes(directories)
    assert sent_bytes(server) < len(directories) * 2 * MIB


async def test_a_cancelled_call_of_an_asynchronous_client_stops_the_workers(cluster, server, caches, directories):
    """`warm_async` is the same on an event loop, where cancelling it does what Ctrl-C does."""
    contents = put(server, {"large": 3 * MIB})
    server.add_faults(Stall(after_bytes=300_000, uri="*/large.bin", times=None))
    catalog = AsyncCatalog(
        [Dataset("large", "s3://bucket/large.bin")],
        storage=S3Storage(endpoint_url=server.endpoint_url, region="us-east-1"),
        config=CatalogConfig(part_bytes=PART_BYTES),
        progress=False,
    )
    async with Client(scheduler_file=str(cluster.scheduler_file), asynchronous=True, set_as_default=False) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: warm_async(client, catalog, cache_dir=caches))
            hosts = len(directories)
            await anyio.to_thread.run_sync(
                lambda: server.wait_for(lambda r: sum(each.is_stalled for each in r) >= hosts, timeout_seconds=30)
            )
            tasks.cancel_scope.cancel()
        await anyio.to_thread.run_sync(lambda: server.wait_for(lambda r: not any(each.is_stalled for each in r)))
        server.clear_faults()
        report = await warm_async(client, catalog, cache_dir=caches)
    assert sorted(directories) == sorted(report)
    assert dict.fromkeys(directories, contents) == all_bytes(directories)


def test_another_worker_goes_on_for_one_that_is_killed(cluster, server, caches, directories):
    """A worker that is killed in the middle is replaced by another of its host, which reads only what is missing."""
    contents = put(server, {"large": 8 * MIB})
    catalog = catalog_of(server, "large")
    workers = warm(cluster.client, catalog, cache_dir=caches).workers
    [(host, (first, *_))] = [(host, addresses) for host, addresses in workers.items() if len(addresses) > 1]
    place = directories[host]
    shutil.rmtree(place)
    # The other hosts ask once whether theirs is fresh; of what this one asks for, three parts or more arrive.
    server.add_faults(Stall(after_bytes=100_000, uri="*/large.bin", nth=len(directories) + 3, times=None))

    def kill() -> None:
        server.wait_for(lambda requests: sum(r.is_stalled for r in requests) >= 3, timeout_seconds=30)
        wait_until(lambda: sum(file.stat().st_blocks * 512 for file in partial_files(place)) >= 3 * MIB, seconds=30)
        cluster.kill(first)
        server.clear_faults()
        server.release()

    killing = threading.Thread(target=kill)
    killing.start()
    report = warm(cluster.client, catalog, cache_dir=caches)
    killing.join()
    assert contents == bytes_of(place)
    assert 0 < report[host].bytes_downloaded <= 5 * MIB
    assert first != report.workers[host][0]


def test_the_others_do_without_a_neighbour_that_is_killed(cluster, server, caches, directories):
    """Who waits for a worker that is killed, or has half of a file from it, turns to others, and to the store last."""
    contents = put(server, {f"f{number}": 3 * MIB for number in range(6)})
    catalog = catalog_of(server, *(f"f{number}" for number in range(6)))
    where = cluster.client.run(lambda: os.environ["DATACACHALOG_CACHE_DIR"])
    first = min(address for address, cache_dir in where.items() if cache_dir == str(cluster.cache_dir("a")))
    server.add_faults(Stall(after_bytes=100_000, nth=6, times=None))

    def kill() -> None:
        server.wait_for(lambda requests: sum(r.is_stalled for r in requests) >= 5, timeout_seconds=30)
        cluster.kill(first)
        server.clear_faults()
        server.release()

    killing = threading.Thread(target=kill)
    killing.start()
    report = warm(cluster.client, catalog, cache_dir=caches, peer_to_peer=True)
    killing.join()
    assert dict.fromkeys(directories, contents) == all_bytes(directories)
    assert sum(report.bytes_from_peers.values()) > 0


def test_a_new_worker_warms_itself(cluster, server, caches):
    """A worker that joins a cluster with a `WarmPlugin` fetches, in an instant where its host has everything."""
    contents = put(server, {"one": 1_300_000})
    name = "test_a_new_worker_warms_itself"
    cluster.client.register_plugin(WarmPlugin(catalog_of(server, "one"), cache_dir=caches), name=name)
    cluster.add_workers("e")
    place = cluster.cache_dir("e") / name
    wait_until(lambda: cached_files(place) == ["bucket/one.bin"], seconds=30)
    assert contents == bytes_of(place)
    cluster.client.unregister_worker_plugin(name)


def test_a_plugin_that_raises_tells_who_registers_it(cluster, server, caches):
    """With `on_error="raise"` what fails on the workers that are there reaches the caller."""
    plugin = WarmPlugin(catalog_of(server, "gone"), cache_dir=caches, on_error="raise")
    with pytest.raises(Exception, match="gone"):
        cluster.client.register_plugin(plugin, name="raising")
    cluster.client.unregister_worker_plugin("raising")


def test_failures_are_told_to_the_observer(cluster, server, caches, directories):
    """A host on which something failed is shown as failed."""
    events: list[Event] = []
    catalog = catalog_of(server, "gone", progress=events.append)
    warm(cluster.client, catalog, cache_dir=caches, on_error="collect")
    assert sorted(directories) == sorted(event.dataset for event in events if isinstance(event, DatasetFailed))
