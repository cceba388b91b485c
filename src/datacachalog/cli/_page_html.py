"""What does the page of a catalog look like? Values in, one HTML text out, that asks nobody for anything.

Invariant: whatever comes from a catalog or a remote is text when it gets here and text in the page. It goes through
`_text`, which escapes it, and sources lose what may be secret first. The page's policy allows nothing but the style and
the script that are in it, named by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from urllib.parse import quote

from .. import __version__
from .._errors import redact_uri
from .._models import Dataset, DatasetStatus, Freshness, ObjectVersion
from ._output import size_text

_STATES = {
    Freshness.FRESH: ("fresh", "Fresh"),
    Freshness.STALE: ("stale", "Stale"),
    Freshness.MISSING: ("not-cached", "Not cached"),
    Freshness.UNKNOWN: ("unknown", "Unknown"),
}
"""What the page calls a freshness, in a search and for people: to them "missing" would mean that the data is lost."""

_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What HTML can't hold, and what would turn the writing direction of the text behind it."""

_MOST_CATALOGS = 24
"""How many named catalogs have a link of their own at the head of the page."""

_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cg fill='none'"
    " stroke='%230a66c2' stroke-width='1.6'%3E%3Cellipse cx='8' cy='4' rx='5.5' ry='2.3'/%3E%3Cpath d='M2.5 4v8c0 1.3"
    " 2.5 2.3 5.5 2.3s5.5-1 5.5-2.3V4M2.5 8c0 1.3 2.5 2.3 5.5 2.3s5.5-1 5.5-2.3'/%3E%3C/g%3E%3C/svg%3E"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageEntry:
    """What the page shows of one dataset.

    Args:
        dataset: as the catalog has it.
        status: how it stands.
        versions: the newest ones, newest first; none where the storage keeps none, or nobody asked.
        has_more_versions: whether the storage keeps more.
        versions_problem: why they could not be listed; empty if they could, or nobody asked.
    """

    dataset: Dataset
    status: DatasetStatus
    versions: Sequence[ObjectVersion] = ()
    has_more_versions: bool = False
    versions_problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the page shows.

    Args:
        title: its heading.
        entries: the datasets, in the order of the catalog.
        made_at: of when all of it is; aware.
        setup: the Python lines that make the catalog.
        call: what stands before a call: `"catalog"`, or `"await catalog"` for an asynchronous one.
        root: the project's directory, which is taken off local sources; empty if there is none.
        is_offline: whether the remote was not asked.
    """

    title: str
    entries: Sequence[PageEntry]
    made_at: datetime
    setup: str
    call: str = "catalog"
    root: str = ""
    is_offline: bool = False


def page_html(page: Page) -> str:
    """Write the page."""
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:;"
        " base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    rows = "\n".join(_row(page, entry) for entry in page.entries)
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta name="generator" content="datacachalog {__version__}">
<title>{_text(page.title)}: {_count(len(page.entries), "dataset")}</title>
<link rel="icon" href="{_ICON}">
<style>{style}</style>
</head>
<body{' class="offline"' if page.is_offline else ""}>
{_header(page)}
<main>
<form class="search" role="search" hidden>
<input type="search" aria-label="Search the datasets" placeholder="Name, description, tag or source" \
autocomplete="off" autocapitalize="none" spellcheck="false" aria-keyshortcuts="/">
<output></output>
</form>
<p class="nothing"{" hidden" if page.entries else ""}>{_nothing(page)}</p>
<table role="table" aria-label="Datasets"{"" if page.entries else " hidden"}>
<thead role="rowgroup">
<tr role="row">\
<th role="columnheader" scope="col" class="name">Dataset</th>\
<th role="columnheader" scope="col" class="unseen">About</th>\
<th role="columnheader" scope="col" class="size">Size</th>\
<th role="columnheader" scope="col" class="age">Age</th>\
<th role="columnheader" scope="col" class="state">State</th>\
</tr>
</thead>
<tbody role="rowgroup">
{rows}
</tbody>
</table>
<p class="told unseen" role="status"></p>
</main>
<footer>
<p>The states are those of the copies on the machine that made this page: fresh if the remote has the same version,
stale if it has another one, unknown if it could not be asked. Size and age are the copy's, or the remote's where there
is no copy; the age counts from when the data was written there.</p>
<p>Made with <code>catalog page</code> of datacachalog {__version__}.</p>
</footer>
<script>{script}</script>
</body>
</html>
"""


def snippet(dataset: Dataset, version_id: str | None = None, *, call: str = "catalog") -> str:
    """Give the Python that fetches a dataset."""
    method = "fetch_files" if dataset.is_multi_file else "fetch"
    version = "" if version_id is None else f", version_id={_python(version_id)}"
    return f"{call}.{method}({_python(dataset.name)}{version})"


# -- the head of the page


def _header(page: Page) -> str:
    sizes = [entry.status.size for entry in page.entries if entry.status.size is not None]
    known = f", {size_text(sum(sizes))}" if sizes else ""
    notice = (
        '<p class="notice">Made offline: the remote was not asked, so whether the copies are fresh is not known.</p>\n'
        if page.is_offline
        else ""
    )
    start = f'<div class="start"><h2>In Python</h2>{_snippet(page.setup)}</div>\n' if page.entries else ""
    return f"""\
<header>
<div>
<h1>{_text(page.title)}</h1>
<p class="made">{_count(len(page.entries), "dataset")}{known}, as of {_time(page.made_at, has_clock=True)}</p>
{_counts(page)}</div>
{start}</header>
{notice}"""


def _counts(page: Page) -> str:
    """Say how many datasets are of each state, and in each named catalog: links that search for them."""
    states = Counter(entry.status.freshness for entry in page.entries)
    catalogs = Counter(_catalog_of(entry.dataset.name) for entry in page.entries)
    links = [
        (word, f"is:{word}", f"{states[freshness]:,} {label.lower()}")
        for freshness, (word, label) in _STATES.items()
        if states[freshness]
    ]
    if 1 < len(catalogs) <= _MOST_CATALOGS:
        links += [("plain", f"in:{name}", f"{count:,} in {name}") for name, count in catalogs.items() if name]
    items = "".join(
        f'<li><a class="badge {kind}" href="{_query(query)}">{_text(text)}</a></li>' for kind, query, text in links
    )
    return f'<ul class="counts" aria-label="Search for">{items}</ul>\n' if items else ""


def _nothing(page: Page) -> str:
    if not page.entries:
        return "The catalog has no datasets yet."
    return 'No dataset matches. <a href="#q=">Show all</a>'


# -- a dataset


def _row(page: Page, entry: PageEntry) -> str:
    dataset, status = entry.dataset, entry.status
    word, label = _STATES[status.freshness]
    size = "—" if status.size is None else f'<data value="{status.size}">{size_text(status.size)}</data>'
    age = "—" if status.last_modified is None else _time(status.last_modified)
    cached = "not cached" if status.cached_at is None else f"cached {_time(status.cached_at)}"
    copy = "" if status.freshness is Freshness.MISSING else f"<small>{cached}</small>"
    return (
        f'<tr role="row" class="{word}">'
        f'<th role="rowheader" scope="row" class="name">{_name(dataset.name)}</th>'
        f'<td role="cell" class="about">{"".join(_about(page, entry))}</td>'
        f'<td role="cell" class="size">{size}</td>'
        f'<td role="cell" class="age">{age}</td>'
        f'<td role="cell" class="state"><span class="badge {word}">{label}</span>{copy}</td>'
        "</tr>"
    )


def _about(page: Page, entry: PageEntry) -> Iterator[str]:
    dataset, status = entry.dataset, entry.status
    if dataset.description:
        yield f'<p class="description" dir="auto">{_text(dataset.description)}</p>'
    tags = "".join(f'<a href="{_query(f"#{tag}")}">#{_text(tag)}</a> ' for tag in dataset.tags)
    source = redact_uri(dataset.source).removeprefix(page.root and f"{page.root}/")
    yield f'<p class="where">{tags}<code>{_text(source)}</code></p>'
    if status.freshness is Freshness.UNKNOWN and not page.is_offline:
        yield f'<p class="problem">{_text(_without_root(status.reason, page.root))}</p>'
    yield _snippet(snippet(dataset, call=page.call))
    if entry.versions:
        count = _count(len(entry.versions), "version")
        head = f"The newest {count.removeprefix('1 ')}" if entry.has_more_versions else count
        items = "".join(_version(page, dataset, version) for version in entry.versions)
        yield f"<details><summary>{head}</summary><ul>{items}</ul></details>"
    elif entry.versions_problem:
        yield f'<p class="problem">Versions: {_text(_without_root(entry.versions_problem, page.root))}</p>'


def _version(page: Page, dataset: Dataset, version: ObjectVersion) -> str:
    if version.is_delete_marker:
        return f"<li><p>deleted {_time(version.last_modified)}</p></li>"
    latest = "latest, " if version.is_latest else ""
    code = _snippet(snippet(dataset, version.version_id, call=page.call))
    return f"<li><p>{latest}{size_text(version.size)}, written {_time(version.last_modified)}</p>{code}</li>"


def _name(name: str) -> str:
    """Show a name, and what is before its first slash as a link to all of that catalog."""
    catalog = _catalog_of(name)
    link = f'<a href="{_query(f"in:{catalog}")}">{_text(catalog)}</a>' if catalog else ""
    return f"{link}{_text(name.removeprefix(catalog))}"


def _catalog_of(name: str) -> str:
    """Give the named catalog that a dataset is in, with its slash; empty for none."""
    catalog, slash, rest = name.partition("/")
    return f"{catalog}/" if catalog and slash and rest else ""


def _without_root(text: str, root: str) -> str:
    """Leave out where the project lies: the page is for others too."""
    return text.replace(f"{root}/", "") if root else text


# -- pieces


def _text(text: str) -> str:
    """Make text into HTML that shows it, in an element or in an attribute."""
    return html.escape(_UNWANTED.sub("\ufffd", text))


def _query(query: str) -> str:
    """Give the link that searches the page for something."""
    return f"#q={quote(_UNWANTED.sub('', query), safe=':/')}"


def _python(text: str) -> str:
    """Write a Python string; JSON's escapes are Python's too."""
    return json.dumps(text, ensure_ascii=False)


def _snippet(code: str) -> str:
    return f'<div class="snippet"><pre><code>{_text(code)}</code></pre></div>'


def _time(moment: datetime, *, has_clock: bool = False) -> str:
    """Show a time as its date, until the script says how long ago that is."""
    utc = moment.astimezone(UTC).replace(microsecond=0)
    exact = f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    shown = f"{utc:%Y-%m-%d %H:%M} UTC" if has_clock else f"{utc:%Y-%m-%d}"
    return f'<time datetime="{utc:%Y-%m-%dT%H:%M:%SZ}" title="{exact}">{shown}</time>'


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _asset(name: str) -> str:
    return files("datacachalog").joinpath("cli", "page_assets", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Name an inline style or script in a Content-Security-Policy (CSP Level 3, section 2.3.1)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
