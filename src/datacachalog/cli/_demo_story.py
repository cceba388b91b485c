"""What does a catalog do for me? Six steps of its life, told to a person who sees it for the first time.

What is told goes to stdout, the progress of the downloads to stderr. Nothing leaves the machine.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.csv
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.tree import Tree

from .. import Catalog, Dataset, FetchReport, S3Storage, __version__
from ..progress._wording import bytes_text, seconds_text
from ._demo_data import CUSTOMERS, customers, make_datasets
from ._demo_server import BUCKET, DemoServer, own_environment, running_server

SCRIPT = """\
from datacachalog import Catalog, Dataset

catalog = Catalog([
    Dataset("customers", "s3://your-bucket/crm/customers.csv"),
    Dataset("sensors", "s3://your-bucket/sensors/*.parquet"),
])
catalog.fetch_all()                     # all at once, and only what is new
path = catalog.fetch("customers")       # a local Path with the right bytes
files = catalog.fetch_files("sensors")  # the paths of everything that matches
print(path, *files, sep="\\n")
"""
"""What the reader takes home."""


def tell(kept_dir: Path | None) -> None:
    """Run the demo from beginning to end.

    Args:
        kept_dir: where the cache is to stay; None means in a temporary directory, which is removed at the end, and
            when Ctrl-C ends the demo.
    """
    with own_environment(), _cache_dir(kept_dir) as cache_dir:
        story = _Story(Console(highlight=False), cache_dir)
        story.introduce()
        with running_server() as server, story.fill(server) as catalog:
            story.fetch_everything(catalog)
            story.fetch_again(catalog)
            server.put("crm/customers.csv", customers(CUSTOMERS + 1))
            story.fetch_the_change(catalog)
            story.load(catalog)
        story.show_cache()
        story.end(is_kept=kept_dir is not None)


@contextlib.contextmanager
def _cache_dir(kept_dir: Path | None) -> Iterator[Path]:
    if kept_dir is not None:
        yield kept_dir
        return
    with tempfile.TemporaryDirectory(prefix="catalog-demo-") as name:
        yield Path(name, "cache")


class _Story:
    def __init__(self, console: Console, cache_dir: Path) -> None:
        self._console = console
        self._cache_dir = cache_dir
        self._step = 0

    def introduce(self) -> None:
        self._say(
            f"[bold]datacachalog {__version__}[/]  a small shop's data, in an S3 server in this process", indent=0
        )

    def fill(self, server: DemoServer) -> Catalog:
        datasets = []
        sizes = []
        for made in make_datasets():
            datasets.append(Dataset(made.name, f"s3://{BUCKET}/{made.source}"))
            for key, content in made.objects.items():
                server.put(key, content)
                sizes.append(len(content))
        total = f"{len(datasets)} datasets, {len(sizes)} files, {bytes_text(sum(sizes))}"
        self._say(f"[dim]{total}, served at {server.endpoint_url}[/]", indent=0)
        storage = S3Storage(endpoint_url=server.endpoint_url, region="us-east-1", anonymous=True)
        return Catalog(datasets, cache_dir=self._cache_dir, storage=storage)

    def fetch_everything(self, catalog: Catalog) -> None:
        self._begin("An empty cache: everything is downloaded", "catalog.fetch_all()")
        report = catalog.fetch_all()
        files = sum(len(result.paths) for result in report.values())
        what = f"{len(report)} datasets, {files} files, {bytes_text(report.bytes_downloaded)}"
        self._say(f"[green]✓[/] {what} in {_cost(report)}")

    def fetch_again(self, catalog: Catalog) -> None:
        self._begin("Once more: S3 is only asked what is new", "catalog.fetch_all()")
        report = catalog.fetch_all()
        downloaded = bytes_text(report.bytes_downloaded) if report.bytes_downloaded else "nothing"
        self._say(f"[green]✓[/] {downloaded} downloaded, {len(report)} datasets confirmed in {_cost(report)}")

    def fetch_the_change(self, catalog: Catalog) -> None:
        self._begin("Somebody writes a new customers.csv: just that one", "catalog.fetch_all()")
        report = catalog.fetch_all()
        changed = [result for result in report.values() if result.action == "downloaded"]
        for result in changed:
            why = escape(result.reason)
            self._say(f"[green]✓[/] {result.name}: {bytes_text(result.bytes_downloaded)} downloaded, {why}")
        self._say(f"  [dim]the other {len(report) - len(changed)} are still right; {_cost(report)}[/]")

    def load(self, catalog: Catalog) -> None:
        self._begin("Open one: the newest version, as a table", 'catalog.load("customers", csv.read_csv)')
        table = catalog.load("customers", pyarrow.csv.read_csv)
        self._say(_rows(table.slice(table.num_rows - 3)))
        self._say(f"[dim]the last 3 of {table.num_rows:,} rows[/]")

    def show_cache(self) -> None:
        self._begin("The cache: plain files, under the names they have in the bucket")
        self._say(_tree(self._cache_dir))

    def end(self, *, is_kept: bool) -> None:
        self._begin("Your turn")
        self._console.print()
        # Without an indent, so that it can be copied from the terminal and run.
        code = Syntax("", "python", theme="ansi_dark", background_color="default").highlight(SCRIPT)
        code.rstrip()
        self._say(code, indent=0)
        if is_kept:
            self._console.print(f"\nThe cache is still there: {self._cache_dir}", markup=False, soft_wrap=True)

    def _begin(self, title: str, code: str = "") -> None:
        self._step += 1
        self._console.print()
        self._say(f"[bold cyan]{self._step}[/]  [bold]{title}[/]", indent=0)
        if code:
            self._say(f"[dim]>>> {code}[/]")

    def _say(self, what: RenderableType, *, indent: int = 3) -> None:
        # Padding fills every line up to the longest one, which whoever copies the text would copy too.
        self._console.print(Padding(what, (0, 0, 0, indent), expand=False) if indent else what)


def _cost(report: FetchReport) -> str:
    seconds = seconds_text(report.seconds) if report.seconds >= 1 else f"{report.seconds * 1000:.0f} ms"
    return f"{seconds}, {report.requests} request{'' if report.requests == 1 else 's'}"


def _rows(table: Any) -> Table:
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in table.column_names:
        shown.add_column(name, no_wrap=True)
    for row in table.to_pylist():
        shown.add_row(*(str(value) for value in row.values()))
    return shown


def _tree(root: Path) -> Tree:
    """Draw the folder with its sizes; many files in one folder take one line."""
    tree = Tree(f"{root.name}/", guide_style="dim")
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir()):
        if folder.name.startswith("."):
            tree.add(f"[dim]{folder.name}/  what is known of each file: ETag, digest, time[/]")
        else:
            _grow(tree, folder)
    return tree


def _grow(tree: Tree, folder: Path) -> None:
    branch = tree.add(f"{escape(folder.name)}/")
    entries = sorted(folder.iterdir())
    for entry in entries:
        if entry.is_dir():
            _grow(branch, entry)
    files = [entry for entry in entries if entry.is_file()]
    if len(files) > 3 and len({file.suffix for file in files}) == 1:
        branch.add(f"{files[0].name} … {files[-1].name}  [dim]{len(files)} files, {_total(files)}[/]")
    else:
        for file in files:
            branch.add(f"{file.name}  [dim]{_total([file])}[/]")


def _total(files: list[Path]) -> str:
    return bytes_text(sum(file.stat().st_size for file in files))
