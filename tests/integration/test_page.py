"""Does the page of a catalog do in a browser what it promises? It is searched, sorted, copied from and looked at."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from datacachalog import Freshness
from datacachalog.cli._page_html import PageEntry

from ..conftest import wait_until
from ._chromium import Chromium, ChromiumError, Tab
from ._shop import NOW, SHOP, entry, version, written

NAMES = [each.dataset.name for each in SHOP]

ROW = "[...document.querySelectorAll('tbody tr')].filter(row => !row.hidden).map(row => row.cells[0].textContent)"
"""The names of the datasets that are shown, in their order."""


HOSTILE = (
    "</script><img src=https://example.org/x onerror='window.isHit = true'><b onmouseover=\"window.isHit = true\">"
)
LONG = "an-uncommonly-long-name-without-a-single-place-to-break-it" * 3
ODD = [
    entry(f'odd/{HOSTILE}"', f"s3://acme/{HOSTILE}", HOSTILE, HOSTILE, Freshness.UNKNOWN, size=1, reason=HOSTILE),
    entry(
        LONG,
        f"s3://acme/{LONG}",
        LONG,
        LONG,
        Freshness.FRESH,
        size=10**15,
        age=1,
        cached=1,
        versions=[version(3, 1)] * 2,
    ),
]


@contextmanager
def shown(chromium: Chromium, directory: Path, entries: Sequence[PageEntry] = SHOP, **window: Any) -> Iterator[Tab]:
    """Show a page; at the end it must have asked for nothing but itself, and nothing must have been wrong with it."""
    address = written(directory, entries)
    with chromium.tab(**window) as tab:
        tab.open(address)
        yield tab
        assert {address} == {request.partition("#")[0] for request in tab.requests}
        assert [] == tab.complaints


def search(tab: Tab, words: str) -> list[str]:
    """Write into the search field, as a person does, and give the names of what is shown then."""
    tab.evaluate("document.querySelector('input').select()")
    tab.evaluate("document.querySelector('input').focus()")
    if words:
        tab.type(words)
    else:
        tab.press("Backspace", code=8)
    names: list[str] = tab.evaluate(ROW)
    return names


def shows(tab: Tab, names: list[str]) -> None:
    """Wait until these datasets are shown: a link's search comes a moment after the click."""
    wait_until(lambda: names == tab.evaluate(ROW), otherwise=lambda: f"{names} != {tab.evaluate(ROW)}")


def roles(tab: Tab) -> dict[str, list[str]]:
    """Give the names of all that a screen reader is told of, by their roles."""
    named: dict[str, list[str]] = {}
    for node in tab.command("Accessibility.getFullAXTree")["nodes"]:
        if not node["ignored"]:
            named.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    return named


# -- looking


def test_the_page_asks_for_nothing_and_runs_nothing_of_the_catalogs(chromium: Chromium, tmp_path: Path) -> None:
    """Texts that would be markup are shown as they are; no request leaves and the console stays empty."""
    with shown(chromium, tmp_path, [*SHOP, *ODD]) as tab:
        assert [*NAMES, f'odd/{HOSTILE}"', LONG] == tab.evaluate(ROW)
        assert HOSTILE == tab.evaluate("document.querySelectorAll('.description')[6].textContent")
        assert 0 == tab.evaluate("document.images.length")
        assert [f'odd/{HOSTILE}"'] == search(tab, "onerror")
        tab.click("tbody tr:not([hidden]) .where a")
        wait_until(lambda: tab.evaluate("document.querySelector('input').value.startsWith('#')"))
        shows(tab, [f'odd/{HOSTILE}"'])
        tab.click("thead .name button")
        tab.click("tbody tr:not([hidden]) .snippet button")
        assert tab.evaluate("window.isHit") is None


def test_what_the_policy_does_not_name_is_refused(chromium: Chromium, tmp_path: Path) -> None:
    """Even if a text became markup, its script would not run and its picture would not be asked for."""
    address = written(tmp_path, SHOP)
    file = tmp_path / "catalog.html"
    markup = (
        "<script>window.isHit = true</script><img src='http://127.0.0.1:9/x.png'><p onclick='1' style='color: red'>"
    )
    file.write_text(file.read_text(encoding="utf-8").replace("<footer>", f"{markup}<footer>"), encoding="utf-8")
    with chromium.tab() as tab:
        tab.open(address)
        assert (None, True) == (tab.evaluate("window.isHit"), len(tab.complaints) >= 3)
        failed = [event for event in tab.events if event["method"] == "Network.loadingFailed"]
        assert ["csp"] == [event["params"]["blockedReason"] for event in failed]
        with pytest.raises(ChromiumError, match="TrustedHTML"):
            tab.evaluate("document.body.innerHTML = 'x'")


@pytest.mark.parametrize("width", [320, 360, 390, 768, 1280])
def test_no_width_scrolls_sideways(chromium: Chromium, tmp_path: Path, width: int) -> None:
    """Not even with names that nothing can break, and with the versions open."""
    with shown(chromium, tmp_path, [*SHOP, *ODD], width=width) as tab:
        tab.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        for row in range(len(SHOP) + len(ODD)):  # what was never in sight is not laid out yet
            tab.evaluate(f"document.querySelectorAll('tbody tr')[{row}].scrollIntoView()")
            assert width >= tab.evaluate("document.documentElement.scrollWidth")


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_the_page_is_as_dark_as_the_reader_prefers(chromium: Chromium, tmp_path: Path, scheme, is_dark) -> None:
    """The ground and the text change places, and the browser's own parts go along."""
    with shown(chromium, tmp_path, color_scheme=scheme) as tab:
        ground, text = (
            sum(tab.evaluate(f"getComputedStyle(document.body).{name}.match(/\\d+/g).slice(0, 3).map(Number)"))
            for name in ("backgroundColor", "color")
        )
        assert is_dark == (ground < 150) == (text > 600)
        assert "light dark" == tab.evaluate("getComputedStyle(document.documentElement).colorScheme")


def test_ages_are_of_now_and_times_are_exact(chromium: Chromium, tmp_path: Path) -> None:
    """How long ago it is when the page is read, and the time itself, in UTC, on request."""
    with shown(chromium, tmp_path) as tab:
        ages = tab.evaluate("[...document.querySelectorAll('.age')].slice(1).map(cell => cell.textContent)")
        assert ["1 year ago", "1 day ago", "3 hours ago", "1 month ago", "2 days ago", "—"] == ages
        moment = NOW - timedelta(hours=3.1)
        time = "document.querySelectorAll('tbody .age time')[2]"
        assert f"{moment:%Y-%m-%d %H:%M:%S} UTC" == tab.evaluate(f"{time}.title")
        assert f"{moment:%Y-%m-%dT%H:%M:%SZ}" == tab.evaluate(f"{time}.dateTime")


def test_without_a_script_the_page_can_be_read(chromium: Chromium, tmp_path: Path) -> None:
    """All datasets with their dates; what only a script can do isn't offered."""
    with shown(chromium, tmp_path, has_script=False) as tab:
        assert NAMES == tab.evaluate(ROW)
        assert f"{NOW - timedelta(hours=3.1):%Y-%m-%d}" == tab.evaluate(
            "document.querySelectorAll('tbody .age')[2].textContent"
        )
        assert 0 == tab.evaluate("document.querySelectorAll('button').length")
        assert 0 == tab.evaluate("document.querySelector('.search').getClientRects().length")


def test_paper_gets_everything_but_the_controls(chromium: Chromium, tmp_path: Path) -> None:
    """Black on white, also of who prefers the dark, and times instead of ages."""
    with shown(chromium, tmp_path, color_scheme="dark") as tab:
        tab.prefer(media="print", color_scheme="dark")
        visible = "element => element.getClientRects().length > 0"
        assert not tab.evaluate(f"[...document.querySelectorAll('.search, .snippet button')].some({visible})")
        assert tab.evaluate(f"[...document.querySelectorAll('tbody tr')].every({visible})")
        assert "rgb(255, 255, 255)" == tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert "rgb(0, 0, 0)" == tab.evaluate("getComputedStyle(document.body).color")
        assert "rgb(20, 101, 58)" == tab.evaluate("getComputedStyle(document.querySelector('.badge.fresh')).color")
        time = "document.querySelector('.made time')"
        assert "0px" == tab.evaluate(f"getComputedStyle({time}).fontSize")
        assert f'"{NOW:%Y-%m-%d %H:%M:%S} UTC"' == tab.evaluate(f"getComputedStyle({time}, '::after').content")


def test_nothing_moves_for_who_prefers_that(chromium: Chromium, tmp_path: Path) -> None:
    """No transition is left with reduced motion."""
    duration = "getComputedStyle(document.querySelector('.snippet button')).transitionDuration"
    with shown(chromium, tmp_path, reduced_motion="reduce") as tab:
        assert "0s" == tab.evaluate(duration)
        tab.prefer(reduced_motion="no-preference")
        assert "0s" != tab.evaluate(duration)


@pytest.mark.parametrize("width", [390, 1280])
def test_screen_readers_are_told_what_is_what(chromium: Chromium, tmp_path: Path, width: int) -> None:
    """It stays a table whatever it looks like; the search and each button have a name of their own."""
    with shown(chromium, tmp_path, width=width) as tab:
        # The browser adds to that tree some time after it has drawn what is in it.
        wait_until(lambda: NAMES == roles(tab).get("rowheader"), otherwise=lambda: str(roles(tab)))
        named = roles(tab)
        assert ["Datasets"] == named["table"]
        assert ["Dataset", "About", "Size", "Age", "State"] == named["columnheader"]
        assert len(SHOP) + 1 == len(named["row"])
        assert ["Search the datasets"] == named["searchbox"]
        assert {f'Copy catalog.fetch("{name}")' for name in NAMES if name != "core/orders"} <= set(named["button"])
        assert all(named["button"])
        assert all(named["link"])


def test_a_page_of_an_empty_catalog_has_nothing_to_search(chromium: Chromium, tmp_path: Path) -> None:
    """It says so, and that is all."""
    with shown(chromium, tmp_path, []) as tab:
        assert ["The catalog has no datasets yet."] == tab.evaluate(
            "document.querySelector('main').innerText.split('\\n')"
        )


# -- searching


def test_the_search_looks_at_names_descriptions_tags_and_sources(chromium: Chromium, tmp_path: Path) -> None:
    """Each word must be somewhere, in any case and with or without accents."""
    with shown(chromium, tmp_path) as tab:
        assert ["science/churn-model"] == search(tab, "churn")
        assert ["core/prices"] == search(tab, "MULLER")
        assert ["core/customers", "science/survey"] == search(tab, "#crm")
        assert ["science/churn-model"] == search(tab, "acme-models")
        assert ["core/orders"] == search(tab, "finance month")
        assert ["core/orders"] == search(tab, "is:stale")
        assert NAMES[1:4] == search(tab, "in:core/")
        assert "3 of 6" == tab.evaluate("document.querySelector('output').textContent")
        assert NAMES == search(tab, "")
        assert "" == tab.evaluate("document.querySelector('output').textContent")


def test_a_search_without_a_match_says_so_and_leads_back(chromium: Chromium, tmp_path: Path) -> None:
    """An empty table would look like a broken page."""
    with shown(chromium, tmp_path) as tab:
        assert [] == search(tab, "nowhere")
        assert "No dataset matches. Show all" == tab.evaluate("document.querySelector('.nothing').innerText")
        tab.click(".nothing a")
        shows(tab, NAMES)


def test_the_search_works_from_the_keyboard_and_is_in_the_address(chromium: Chromium, tmp_path: Path) -> None:
    """`/` goes there, Escape empties it; the address can be passed on, whatever somebody made of it."""
    with shown(chromium, tmp_path) as tab:
        tab.press("/", code=191, text="/")
        tab.type("#crm daily")
        assert (["core/customers"], "#q=%23crm%20daily") == (tab.evaluate(ROW), tab.evaluate("location.hash"))
        tab.press("Escape", code=27)
        assert (NAMES, "") == (tab.evaluate(ROW), tab.evaluate("location.hash"))
        address = tab.evaluate("location.href").partition("#")[0]
        tab.open(f"{address}#q=%23crm")
        shows(tab, ["core/customers", "science/survey"])
        tab.click("a.badge.stale")
        shows(tab, ["core/orders"])
        assert "is:stale" == tab.evaluate("document.querySelector('input').value")
        tab.open(f"{address}#q=%E0%A4%A")
        shows(tab, NAMES)


# -- sorting


@pytest.mark.parametrize(
    ("column", "first", "expected"),
    [
        ("name", "ascending", [1, 2, 3, 0, 4, 5]),
        ("size", "descending", [4, 2, 1, 3, 0, 5]),
        ("age", "ascending", [2, 1, 4, 3, 0, 5]),
        ("state", "descending", [5, 2, 4, 0, 1, 3]),
    ],
)
@pytest.mark.parametrize("width", [390, 1280])
def test_a_heading_sorts_turns_round_and_gives_the_order_back(
    chromium: Chromium, tmp_path: Path, width: int, column: str, first: str, expected: list[int]
) -> None:
    """What isn't known comes last either way; the heading says how it is sorted."""
    second = {"ascending": "descending", "descending": "ascending"}[first]
    known = expected[:-1] if column in ("size", "age") else expected
    turned = list(reversed(known))
    if column == "state":  # of equals, the catalog's order stays
        turned = [0, 1, 3, 4, 2, 5]
    sort = f"document.querySelector('thead .{column}').getAttribute('aria-sort')"
    with shown(chromium, tmp_path, width=width) as tab:
        for direction, order in ((first, expected), (second, [*turned, *expected[len(known) :]]), (None, range(6))):
            tab.click(f"thead .{column} button")
            assert (direction, [NAMES[number] for number in order]) == (tab.evaluate(sort), tab.evaluate(ROW))


def test_sorting_works_from_the_keyboard_and_only_one_heading_says_so(chromium: Chromium, tmp_path: Path) -> None:
    """The headings are buttons."""
    with shown(chromium, tmp_path) as tab:
        tab.click("thead .name button")
        tab.evaluate("document.querySelector('thead .size button').focus()")
        tab.press("Enter", code=13, text="\r")
        assert "science/churn-model" == tab.evaluate(ROW)[0]
        assert ["Size"] == tab.evaluate(
            "[...document.querySelectorAll('[aria-sort]')].map(heading => heading.textContent)"
        )
        assert NAMES[1:4] == sorted(search(tab, "in:core/"))


# -- copying

BUTTON = ".snippet button[aria-label*='core/customers']"


def test_a_snippet_is_copied(chromium: Chromium, tmp_path: Path) -> None:
    """The clipboard has the code, and the reader and the screen reader are told."""
    with shown(chromium, tmp_path) as tab:
        tab.click(BUTTON)
        code = 'catalog.fetch("core/customers")'
        assert code == tab.evaluate("navigator.clipboard.readText()")
        assert "Copied" == tab.evaluate(f"document.querySelector({json.dumps(BUTTON)}).textContent")
        assert f"Copied: {code}" == tab.evaluate("document.querySelector('.told').textContent")
        tab.click("summary")
        tab.click("details li:nth-child(2) button")
        assert 'catalog.fetch("core/customers", version_id="3HL4kqtJlcpXroDTDm2")' == tab.evaluate(
            "navigator.clipboard.readText()"
        )


def test_without_the_clipboard_a_snippet_is_copied_or_selected(chromium: Chromium, tmp_path: Path) -> None:
    """Pages from plain HTTP have none: the older way is tried, and else what is selected can be copied by hand."""
    with shown(chromium, tmp_path) as tab:
        tab.evaluate("const clipboard = navigator.clipboard; globalThis.read = () => clipboard.readText()")
        tab.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
        tab.click(BUTTON)
        code = 'catalog.fetch("core/customers")'
        assert (code, f"Copied: {code}") == (
            tab.evaluate("read()"),
            tab.evaluate("document.querySelector('.told').textContent"),
        )
        tab.evaluate("document.execCommand = () => false")
        tab.click("tbody tr .snippet button")
        assert ('catalog.fetch("holidays")', "Ctrl+C") == (
            tab.evaluate("getSelection().toString()"),
            tab.evaluate("document.querySelector('tbody tr .snippet button').textContent"),
        )


# -- many


def test_ten_thousand_datasets_stay_usable(chromium: Chromium, tmp_path: Path) -> None:
    """A search and a sorting end while somebody waits; what is quadratic would take minutes."""
    many = [
        entry(
            f"core/table-{n:05}",
            f"s3://acme/{n}",
            "One row for each of them.",
            "daily",
            Freshness.FRESH,
            size=n,
            age=n,
            cached=n,
        )
        for n in range(10_000)
    ]
    with shown(chromium, tmp_path, many) as tab:
        tab.evaluate(
            "globalThis.seconds = f => { const t = performance.now(); f(); return (performance.now() - t) / 1000 }"
        )
        field = "const i = document.querySelector('input')"
        for words, count in (("table-0012", 10), ("is:fresh", 10_000), ("table-09999", 1)):
            asked = f"i.value = '{words}'; i.dispatchEvent(new Event('input')); document.body.offsetHeight"
            assert tab.evaluate(f"seconds(() => {{ {field}; {asked} }})") < 5
            assert count == tab.evaluate(f"{ROW}.length")
        search(tab, "")
        for column in ("name", "size", "age", "state"):
            clicked = f"document.querySelector('thead .{column} button').click(); document.body.offsetHeight"
            assert tab.evaluate(f"seconds(() => {{ {clicked} }})") < 10
