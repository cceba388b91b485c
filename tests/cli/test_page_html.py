"""The page of a catalog as HTML: what it shows, and that nothing in it is anything but text."""

from __future__ import annotations

import ast
import base64
import hashlib
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog import ConfigurationError, Dataset, DatasetStatus, Freshness, ObjectVersion
from datacachalog.cli._page_html import Page, PageEntry, page_html, snippet

NOW = datetime(2026, 3, 14, 15, 9, 26, 535897, tzinfo=UTC)
PAGE = Page(title="Shop", entries=[], made_at=NOW, setup="catalog = Catalog.discover()")


def entry(name: str = "customers", source: str = "s3://acme/customers.csv", **values: Any) -> PageEntry:
    """An entry of a dataset that is cached and fresh, but for what is said."""
    ours = {key: values.pop(key) for key in ("versions", "has_more_versions", "versions_problem") if key in values}
    about = {key: values.pop(key) for key in ("description", "tags") if key in values}
    status = DatasetStatus(name, source, Freshness.FRESH, None, 1234, NOW - timedelta(hours=1), "why", NOW)
    return PageEntry(dataset=Dataset(name, source, **about), status=replace(status, **values), **ours)


def version(number: int, **values: Any) -> ObjectVersion:
    return ObjectVersion(f"v{number}", NOW, None, number, is_latest=number == 3, is_delete_marker=False, **values)


@dataclass
class Read(HTMLParser):
    """What a browser makes of a page: its elements with their attributes, and its text."""

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def shape(self) -> list[tuple[str, list[str]]]:
        return [(tag, sorted(attributes)) for tag, attributes in self.elements]


def read(*entries: PageEntry, **values: Any) -> Read:
    reader = Read()
    reader.feed(page_html(replace(PAGE, entries=entries, **values)))
    reader.close()
    return reader


# -- what it shows


def test_a_dataset_is_shown_with_all_that_is_known_of_it() -> None:
    """Name, description, tags, source, size, when it was written and cached, to the second, and how it stands."""
    shown = read(entry("core/customers", description="Who bought something.", tags=("crm",)))
    for text in ("core/", "customers", "Who bought something.", "#crm", "s3://acme/customers.csv", "1.2 kB", "Fresh"):
        assert text in shown.texts
    times = [attributes for tag, attributes in shown.elements if tag == "time"]
    expected = ["2026-03-14T15:09:26Z", "2026-03-14T15:09:26Z", "2026-03-14T14:09:26Z"]
    assert expected == [attributes["datetime"] for attributes in times]
    assert "2026-03-14 15:09:26 UTC" == times[0]["title"]


def test_a_time_of_any_zone_is_said_in_utc() -> None:
    """The reader may be anywhere."""
    moment = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    shown = read(entry(last_modified=moment))
    assert "2025-12-31" in shown.texts


def test_what_is_not_known_is_a_dash() -> None:
    """A dataset that nobody could ask about has neither size nor age, and the reason is told."""
    shown = read(
        entry(freshness=Freshness.UNKNOWN, size=None, cached_at=None, last_modified=None, reason="no such bucket")
    )
    assert 2 == shown.texts.count("—")
    assert {"Unknown", "no such bucket", "not cached"} <= set(shown.texts)


def test_what_is_not_cached_is_not_called_missing() -> None:
    """To readers of the page, missing data would be data that is lost."""
    shown = read(entry(freshness=Freshness.MISSING, cached_at=None))
    assert (True, False) == ("Not cached" in shown.texts, "issing" in shown.text.partition("use strict")[0])


def test_an_offline_page_says_once_that_nobody_was_asked() -> None:
    """A reason at each dataset would say the same a thousand times."""
    shown = read(entry(freshness=Freshness.UNKNOWN, reason="offline: the remote may not be asked"), is_offline=True)
    assert (True, False) == ("Made offline" in shown.text, "may not be asked" in shown.text)


def test_the_head_counts_states_and_catalogs() -> None:
    """Each count is a link that searches for what it counts."""
    shown = read(entry("core/a"), entry("core/b", freshness=Freshness.STALE), entry("ops/c"), entry("d"))
    links = [attributes["href"] for tag, attributes in shown.elements if tag == "a"][:4]
    assert ["#q=is:fresh", "#q=is:stale", "#q=in:core/", "#q=in:ops/"] == links
    assert {"3 fresh", "1 stale", "2 in core/", "1 in ops/"} <= set(shown.texts)


def test_an_empty_catalog_has_a_page_that_says_so() -> None:
    """No table, no search, no snippet."""
    shown = read()
    assert "The catalog has no datasets yet." in shown.texts
    assert {"hidden": None} == {
        k: v for tag, a in shown.elements if tag == "table" for k, v in a.items() if k == "hidden"
    }


def test_versions_are_listed_with_what_fetches_them() -> None:
    """The newest first, a deletion without a snippet, and whether there are more."""
    gone = ObjectVersion("v4", NOW, None, 0, is_latest=False, is_delete_marker=True)
    shown = read(entry(versions=[version(3), gone, version(2)], has_more_versions=True))
    assert "The newest 3 versions" in shown.texts
    assert ['catalog.fetch("customers", version_id="v3")', 'catalog.fetch("customers", version_id="v2")'] == [
        text for text in shown.texts if "version_id" in text and text.startswith("catalog")
    ]
    assert {"latest, 3 B, written ", "deleted "} <= set(shown.texts)
    assert "1 version" in read(entry(versions=[version(1)])).texts
    assert "The newest version" in read(entry(versions=[version(1)], has_more_versions=True)).texts
    assert "Versions: access denied" in read(entry(versions_problem="access denied")).texts


@pytest.mark.parametrize("name", ["customers", 'odd "name"', "back\\slash", "é'ü 漢", "a/b"])
def test_a_snippet_is_python_that_names_the_dataset(name: str) -> None:
    """Whatever is in a name, the string in the code is that name."""
    [call] = ast.parse(snippet(Dataset(name, "x"), "v'\"1")).body
    assert isinstance(call, ast.Expr)
    assert isinstance(call.value, ast.Call)
    assert name == ast.literal_eval(call.value.args[0])
    assert "v'\"1" == ast.literal_eval(call.value.keywords[0].value)


def test_a_snippet_of_many_files_calls_what_gives_many() -> None:
    """A glob or prefix has `fetch_files`; an asynchronous catalog is awaited."""
    assert 'catalog.fetch_files("a")' == snippet(Dataset("a", "x/*.csv"))
    assert 'await catalog.fetch("a")' == snippet(Dataset("a", "x"), call="await catalog")


def test_where_the_project_lies_is_left_out() -> None:
    """Local sources, and errors about them, are relative to the project."""
    local = entry(source="/home/ada/shop/a.csv", freshness=Freshness.UNKNOWN, reason="/home/ada/shop/a.csv: gone")
    shown = read(local, root="/home/ada/shop")
    assert ("a.csv" in shown.texts, "a.csv: gone" in shown.texts, "/home/ada" in shown.text) == (True, True, False)


# -- what it can't do


def test_the_page_asks_nobody_for_anything() -> None:
    """Every link stays on the page, the icon is in it, and its policy allows its own style and script alone."""
    shown = read(entry("a/b", tags=["t"], description="javascript:alert(1) https://example.org"))
    targets = [a[k] or "" for _, a in shown.elements for k in ("href", "src", "action", "srcset", "data") if k in a]
    assert [] == [target for target in targets if not target.startswith(("#q=", "data:image/svg+xml,"))]
    text = page_html(replace(PAGE, entries=[entry()]))
    blocks = {name: re.search(f"<{name}>(.*?)</{name}>", text, re.DOTALL) for name in ("style", "script")}
    [policy] = [a["content"] or "" for tag, a in shown.elements if tag == "meta" and "http-equiv" in a]
    assert policy.startswith("default-src 'none'; ")
    for name, block in blocks.items():
        assert block is not None
        digest = base64.b64encode(hashlib.sha256(block[1].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}';" in policy
        assert [] == re.findall(r"url\(|@import|https?:|fetch\(|XMLHttp|innerHTML|eval", block[1])


HARMLESS = entry("name", "s3://b/source", description="d", tags=["t"], freshness=Freshness.UNKNOWN, reason="r",
                 versions=[version(1)])  # fmt: skip
HOSTILE = (
    "</script><script>alert(1)</script>",
    "\"onmouseover='alert(1)'",
    "<!--",
    "]]>&lt;&#0;&amp",
    "</style><img src=x onerror=alert(1)>",
    "\x00\u202egnp.exe\ud800",
)
texts = st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1)).filter(str.strip)


@given(name=texts, source=texts, description=texts, tag=texts, reason=texts, version_id=texts, title=texts)
def test_whatever_texts_say_they_are_text(name, source, description, tag, reason, version_id, title) -> None:
    """No text of a catalog or a remote makes an element or an attribute, and every page can be written as UTF-8."""
    name, source = re.sub("/", "_", name), re.sub(r"[*?[/]", "_", source)
    try:
        dataset = Dataset(name, f"s3://b/{source}", description=description, tags=[tag])
    except ConfigurationError:  # a name that no dataset can have
        dataset = Dataset("name", f"s3://b/{source}", description=description, tags=[tag])
    status = replace(HARMLESS.status, reason=reason)
    hostile = PageEntry(dataset=dataset, status=status, versions=[replace(version(1), version_id=version_id)])
    shown = read(hostile, title=title)
    assert read(HARMLESS).shape == shown.shape
    page_html(replace(PAGE, title=title, entries=[hostile])).encode()


@pytest.mark.parametrize("text", HOSTILE[:5])
def test_a_hostile_text_is_shown_as_it_is(text: str) -> None:
    """Escaped, not removed: people see what the catalog says."""
    assert text in read(entry(description=text)).texts


def test_what_html_cannot_hold_is_replaced() -> None:
    """Control characters, halves of characters, and marks that turn the text behind them around."""
    assert "a\ufffdb\ufffdc\ufffd\nd" in read(entry(description="a\x00b\u202ec\ud800\nd")).texts


def test_g13_no_secret_of_a_source_is_in_the_page() -> None:
    """Neither a password nor a signature."""
    page = page_html(replace(PAGE, entries=[entry(source="https://me:hunter2@host/x.csv?X-Amz-Signature=hunter2")]))
    assert (False, True) == ("hunter2" in page, "https://host/x.csv?…" in page)


# -- how it reads


def test_a_dataset_takes_less_than_a_kilobyte() -> None:
    """So a catalog of ten thousand is a page of less than ten megabytes."""
    some = [
        entry(f"core/customers-{n:05}", description="One row for each of them.", tags=["daily"]) for n in range(100)
    ]
    size = len(page_html(replace(PAGE, entries=some))) - len(page_html(replace(PAGE, entries=some[:1])))
    assert size < 99 * 1000


def luminance(color: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_the_contrast_that_wcag_asks_for(scheme: str) -> None:
    """4.5 for text on each of its grounds, 3 for the edge of the search field (WCAG 2.2 AA, 1.4.3 and 1.4.11)."""
    blocks = re.findall(r":root \{(.*?)\}", page_html(PAGE), re.DOTALL)
    colors = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+);", blocks[0 if scheme == "light" else 1]))
    pairs = [(text, ground, 4.5) for text in ("text", "muted", "accent") for ground in ("ground", "panel", "sunk")]
    pairs += [(state, f"{state}-ground", 4.5) for state in ("fresh", "stale", "not-cached", "unknown")]
    pairs += [("unknown", "panel", 4.5), ("accent", "mark", 4.5), ("edge", "ground", 3), ("edge", "panel", 3)]
    weak = {}
    for text, ground, needed in pairs:
        darker, lighter = sorted((luminance(colors[text]), luminance(colors[ground])))
        if (contrast := (lighter + 0.05) / (darker + 0.05)) < needed:
            weak[text, ground] = round(contrast, 2)
    assert {} == weak
