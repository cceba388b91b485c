"""`catalog page`: how do colleagues see what there is? In one HTML file, to be mailed or put on any web server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .._models import NULL_VERSION, DatasetStatus, Freshness
from ._chosen import Chosen, chosen_datasets, chosen_names, open_catalog, own_arguments
from ._options import Settings, catalog_command, dataset_names
from ._output import print_json, print_paths, say

if TYPE_CHECKING:
    from .._catalog import AsyncCatalog
    from .._sync import Catalog
    from ._page_html import PageEntry

_VERSIONS = 5
"""How many versions of a dataset are shown if nobody says how many."""
_MOST_ASKED = 100
"""Of how many datasets they are asked for then: each takes a request of its own."""


@catalog_command("page")
@dataset_names()
@click.option(
    "-o", "--output", default="catalog.html", metavar="FILE", show_default=True,
    type=click.Path(dir_okay=False, allow_dash=True), help="Write this file; - means standard output.",
)  # fmt: skip
@click.option(
    "--versions", "limit", metavar="N", type=click.IntRange(min=0),
    help=f"Show the newest N versions of each dataset; it takes a request for each of them."
    f"  [default: {_VERSIONS}; 0 for more than {_MOST_ASKED} datasets]",
)  # fmt: skip
@click.option("--title", metavar="TEXT", help="The page's heading.  [default: the name of the project's directory]")
@click.pass_obj
def command(settings: Settings, names: tuple[str, ...], output: str, limit: int | None, title: str | None) -> None:
    """Write a page that shows the datasets, as one HTML file.

    Description, tags, source, size, age, freshness, versions, and what to type to fetch each; with a search. The page
    needs no server and sends no request. To make it, the remote is asked for metadata only. Prints the file's path.

    \b
    Examples:
      catalog page
      catalog page core/ --output public/index.html --title "The core data"
      catalog page --offline --output - | gzip > catalog.html.gz
    """  # noqa: D301  # \\b is click's mark for lines that stay as they are
    is_printed = output == "-"
    if is_printed and settings.json:
        raise click.UsageError("--output - prints the page itself, so there is no JSON: leave out one of them.")
    chosen = chosen_datasets(settings)
    with open_catalog(settings, chosen) as catalog:
        is_offline = own_arguments(catalog)["config"].offline
        statuses = catalog.status(chosen_names(names, chosen.datasets))
        if limit is None:
            limit = _VERSIONS if len(statuses) <= _MOST_ASKED else 0
            if not limit and not is_offline:
                say(settings, f"Versions are left out, with {len(statuses):,} datasets: --versions N shows them.")
        entries = _entries(catalog, statuses, 0 if is_offline else limit)

    from ._page_html import Page, page_html

    setup, call = _setup(settings, chosen)
    content = page_html(
        Page(
            title=title or _title(settings, chosen),
            entries=entries,
            made_at=datetime.now(UTC),
            setup=setup,
            call=call,
            root="" if chosen.file is None else str(chosen.file.root),
            is_offline=is_offline,
        )
    ).encode()
    if is_printed:
        click.echo(content, nl=False)
        return
    path = os.path.abspath(output)
    _write(path, content)
    if settings.json:
        print_json({"file": path, "datasets": len(entries), "bytes": len(content)})
    else:
        print_paths([Path(path)])


def _entries(catalog: Catalog, statuses: Sequence[DatasetStatus], limit: int) -> list[PageEntry]:
    from .._pipeline.workers import each
    from ._page_html import PageEntry

    found: dict[str, PageEntry] = {
        status.name: PageEntry(dataset=catalog.get_dataset(status.name), status=status) for status in statuses
    }

    async def ask(core: AsyncCatalog) -> None:
        async def one(status: DatasetStatus) -> None:
            found[status.name] = await _with_versions(core, status, limit)

        # Who did not answer, or has no such object, isn't asked again.
        asked = [
            status
            for status in statuses
            if status.freshness is not Freshness.UNKNOWN and not core.get_dataset(status.name).is_multi_file
        ]
        await each(asked, one, at_once=own_arguments(core)["config"].max_concurrency)

    if limit:
        catalog._run(ask)  # noqa: SLF001  # the command is of this package
    return [found[status.name] for status in statuses]


async def _with_versions(catalog: AsyncCatalog, status: DatasetStatus, limit: int) -> PageEntry:
    from .._errors import DatacachalogError, VersioningNotSupportedError
    from ._page_html import PageEntry

    dataset = catalog.get_dataset(status.name)
    try:
        versions = await catalog.versions(status.name, limit + 1)
    except VersioningNotSupportedError:
        return PageEntry(dataset=dataset, status=status)
    except DatacachalogError as error:
        return PageEntry(dataset=dataset, status=status, versions_problem=str(error))
    if [version.version_id for version in versions] == [NULL_VERSION]:  # the bucket never kept any
        versions = []
    return PageEntry(dataset=dataset, status=status, versions=versions[:limit], has_more_versions=len(versions) > limit)


def _setup(settings: Settings, chosen: Chosen) -> tuple[str, str]:
    """Give the Python that makes the catalog, and what stands before a call of it."""
    from .._catalog import AsyncCatalog

    if chosen.file is not None:
        return "from datacachalog import Catalog\ncatalog = Catalog.discover()", "catalog"
    module, _, attribute = str(settings.catalog).partition(":")
    imported = f"from {module} import {attribute}"
    if isinstance(chosen.python, list):
        return f"from datacachalog import Catalog\n{imported}\ncatalog = Catalog({attribute})", "catalog"
    renamed = imported if attribute == "catalog" else f"{imported} as catalog"
    return renamed, "await catalog" if isinstance(chosen.python, AsyncCatalog) else "catalog"


def _title(settings: Settings, chosen: Chosen) -> str:
    if chosen.file is None:
        return str(settings.catalog).partition(":")[0]
    return chosen.file.root.name or "Data catalog"


def _write(path: str, content: bytes) -> None:
    from .._replacing import replace_file

    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as device:  # a pipe, or /dev/null: it takes what it is given
                device.write(content)
        else:
            replace_file(os.path.realpath(path), content)
    except OSError as error:
        raise click.ClickException(f"{path} can't be written: {error.strerror or error}") from None
