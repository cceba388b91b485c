"""Does a service start with its data, serve it, and end? With uvicorn and FastAPI as they are, in a process."""

from __future__ import annotations

import json
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from datacachalog.testing import FaultServer, Slow

from ._children import MIB, Lab, Program
from .conftest import cached_files, partial_files

SERVICE = """
    import uvicorn
    from fastapi import FastAPI

    catalog = make({kind}, **{settings!r})
    catalog_datasets = [dataset.name for dataset in catalog.datasets]
    app = FastAPI(lifespan=catalog.lifespan)

    @app.get("/async/{{name}}")
    async def in_loop(name: str) -> int:
        found = catalog.fetch(name)
        path = found if {kind} is Catalog else await found
        return len(path.read_bytes())

    @app.get("/sync/{{name}}")
    def in_thread(name: str) -> int:
        found = make(Catalog).fetch(name) if {kind} is AsyncCatalog else catalog.fetch(name)
        return len(found.read_bytes())

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="info", access_log=False))

    @app.get("/stop")
    def stop() -> None:
        server.should_exit = True

    server.run()
    say("ended", server.started)
"""


@pytest.fixture
def lab(server: FaultServer, tmp_path: Path) -> Lab:
    """A server with all datasets of the programs."""
    lab = Lab(server, tmp_path)
    for name in ("big", "big2"):
        lab.put(name, 4 * MIB)
    for name in ("small", "small2", "small3", "small4"):
        lab.put(name, 10_000)
    return lab


def address_of(program: Program) -> str:
    """Where it listens, as uvicorn says."""
    program.wait_for_errors("Uvicorn running on ")
    found = re.search(r"http://127\.0\.0\.1:\d+", program.errors)
    assert found is not None
    return found[0]


def get(url: str) -> object:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)


@pytest.mark.parametrize("kind", ["AsyncCatalog", "Catalog"])
def test_g11_a_service_starts_with_its_data_and_serves_it(lab: Lab, kind: str) -> None:
    """`FastAPI(lifespan=catalog.lifespan)` has everything fetched when it starts, and fetches in loop and threads."""
    with lab.program(SERVICE.format(kind=kind, settings={})) as program:
        address = address_of(program)
        assert 6 == len(cached_files(lab.cache_dir))
        urls = [f"{address}/{way}/{name}" for way in ("async", "sync") for name in ("big", "small", "small2")]
        with ThreadPoolExecutor(12) as pool:
            sizes = list(pool.map(get, urls * 4))
        get(f"{address}/stop")
        ended = program.wait()
    assert [4 * MIB, 10_000, 10_000] * 8 == sizes
    assert (0, "ended True\n") == (ended.status, ended.output)
    assert [] == [line for line in ended.errors.splitlines() if not line.startswith("INFO:")]


@pytest.mark.parametrize("kind", ["AsyncCatalog", "Catalog"])
def test_g11_a_service_whose_data_is_missing_does_not_start(lab: Lab, kind: str) -> None:
    """A dataset that can't be fetched stops the start of the application, with an error that names it."""
    lab.server.delete("bucket", "small2.bin")
    ended = lab.run(SERVICE.format(kind=kind, settings={}))
    assert 0 != ended.status or "ended False\n" == ended.output
    assert "Application startup failed" in ended.errors
    assert "s3://bucket/small2.bin" in ended.errors
    assert [] == partial_files(lab.cache_dir)


@pytest.mark.parametrize("kind", ["AsyncCatalog", "Catalog"])
def test_g12_requests_are_answered_while_a_service_fetches(lab: Lab, kind: str) -> None:
    """A slow fetch in one request holds no other one up, in the loop with AsyncCatalog, in threads with Catalog."""
    with lab.program(SERVICE.format(kind=kind, settings={})) as program:
        address = address_of(program)
        lab.put("big", 4 * MIB + 1)
        lab.server.add_faults(Slow(uri="*/big.bin", times=None, bytes_per_second=2 * MIB))
        way = "async" if kind == "AsyncCatalog" else "sync"
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(get, f"{address}/{way}/big")
            lab.wait_until_sent("big.bin", 4 * MIB + 64 * 1024)
            assert 10_000 == get(f"{address}/{way}/small")
            assert not slow.done()
            assert 4 * MIB + 1 == slow.result(30)
        get(f"{address}/stop")
        assert 0 == program.wait().status
