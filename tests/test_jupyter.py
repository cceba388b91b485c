"""Do both catalogs work in a notebook, whose kernel runs an event loop all the time? In a real kernel."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import nbclient
import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from datacachalog.testing import FaultServer, Slow

from ._children import MIB, NAMES, PRELUDE, Lab
from .conftest import cached_files


@pytest.fixture
def lab(server: FaultServer, tmp_path: Path) -> Lab:
    lab = Lab(server, tmp_path)
    for name in NAMES:
        lab.put(name, 8 * MIB if name.startswith("big") else 10_000)
    return lab


class Notebook:
    """A notebook with a kernel that runs."""

    def __init__(self, client: nbclient.NotebookClient) -> None:
        self._client = client

    async def run(self, source: str) -> str:
        """Run a cell; what it printed, and what it raised at the end."""
        cells = self._client.nb.cells
        cells.append(nbformat.v4.new_code_cell(source))
        with suppress(CellExecutionError):
            await self._client.async_execute_cell(cells[-1], len(cells) - 1)
        return "".join(output.get("text") or output.get("ename", "") for output in cells[-1].outputs)

    async def interrupt(self) -> None:
        """Press the button with the square."""
        await self._client.km.interrupt_kernel()


@asynccontextmanager
async def notebook(lab: Lab) -> AsyncIterator[Notebook]:
    client = nbclient.NotebookClient(nbformat.v4.new_notebook(), timeout=60, kernel_name="python3")
    environment = os.environ | {"TEST_ENDPOINT": lab.server.endpoint_url, "TEST_CACHE": str(lab.cache_dir)}
    async with client.async_setup_kernel(env=environment):
        opened = Notebook(client)
        await opened.run(PRELUDE)
        yield opened


async def test_g11_both_catalogs_work_in_a_notebook(lab: Lab) -> None:
    """A cell calls the blocking catalog though the kernel's loop runs, or awaits the other; so do later cells."""
    async with notebook(lab) as cells:
        said = [
            await cells.run("catalog = make(); print(len(catalog.fetch('big').read_bytes()))"),
            await cells.run("print(len(catalog.fetch('small').read_bytes()))"),
            await cells.run("other = make(AsyncCatalog); print(len((await other.fetch('big2')).read_bytes()))"),
            await cells.run("print(sorted(await other.fetch_all(['small2', 'small3'])))"),
            await cells.run("async with other: print(len((await other.fetch('small4')).read_bytes()))"),
            await cells.run("catalog.close(); print(len(catalog.fetch('small4').read_bytes()))"),
        ]
    assert [f"{8 * MIB}\n", "10000\n", f"{8 * MIB}\n", "['small2', 'small3']\n", "10000\n", "10000\n"] == said


@pytest.mark.parametrize("call", ["catalog.fetch('big')", "await other.fetch('big')"], ids=["Catalog", "AsyncCatalog"])
async def test_g10_interrupting_a_cell_ends_its_fetch(lab: Lab, call: str) -> None:
    """The kernel's interrupt ends a fetch promptly, with nothing published, and both catalogs work in the next cell."""
    lab.server.add_faults(Slow(uri="*/big.bin", times=None, bytes_per_second=128 * 1024))
    async with notebook(lab) as cells:
        await cells.run("catalog = make(); other = make(AsyncCatalog); catalog.fetch('small2')")
        running = asyncio.create_task(cells.run(call))
        await asyncio.to_thread(lab.wait_until_sent, "big.bin", 64 * 1024)
        began = time.monotonic()
        await cells.interrupt()
        said = await running
        seconds = time.monotonic() - began
        published = cached_files(lab.cache_dir)
        lab.server.clear_faults()
        after = [
            await cells.run("print(len(catalog.fetch('small').read_bytes()))"),
            await cells.run("print(len((await other.fetch('big')).read_bytes()))"),
        ]
    assert said in ("KeyboardInterrupt", "CancelledError")
    assert seconds < 2
    assert ["bucket/small2.bin"] == published
    assert ["10000\n", f"{8 * MIB}\n"] == after
