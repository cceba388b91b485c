"""How many parts are asked for at once: more while that brings more, fewer when the store says so."""

from __future__ import annotations

import pytest

from datacachalog._pipeline import width as width_module
from datacachalog._pipeline.width import Width, first_of

MB = 1_000_000


@pytest.fixture(autouse=True)
def _four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(width_module, "_FIRST", 4)


def test_it_begins_with_a_few():
    """As many as there are processors: where two keep them busy, four only pass the interpreter's lock around."""
    assert [2, 2, 3, 4, 4] == [first_of(processors) for processors in (1, 2, 3, 4, 64)]


def observed(rates_and_cpu: list[tuple[float, float]], most: int = 64) -> list[int]:
    """What is wanted after each tenth of a second, of these megabytes and seconds of processor time a second."""
    width, received, spent = Width(most), 0.0, 0.0
    width.begin(0.0, 0)
    wanted = [width.wanted]
    for tick, (rate, cpu) in enumerate(rates_and_cpu, start=1):
        received += rate * MB / 10
        spent += cpu / 10
        width.observe(tick / 10, int(received), spent)
        wanted.append(width.wanted)
    return wanted


def test_distant_store_is_asked_for_more_while_that_brings_more():
    """Each connection gives 60 MB/s and costs little: doubled until there are as many as there may be."""
    assert [4, 8, 16, 32, 32] == observed([(240, 0.1), (480, 0.2), (960, 0.3), (1920, 0.4)])


def test_store_whose_answers_are_slow_to_begin_is_asked_for_more_at_once():
    """Its connections are slow to begin, too, and each gives little."""
    assert [4, 4, 16, 16] == [Width(64, seconds).wanted for seconds in (0.0, 0.009, 0.01, 0.5)]
    assert 6 == Width(6, 0.5).wanted


def test_full_line_is_left_as_it_is():
    """Twice as many brought no more."""
    assert [4, 8, 8, 8] == observed([(100, 0.1), (104, 0.1), (100, 0.1)])


def test_near_store_that_keeps_the_processor_busy_gets_no_more():
    """A gigabyte a second from four: the others would only wait for the processor."""
    assert [4, 4, 4] == observed([(1000, 0.9), (1100, 0.9)])


def test_growth_goes_on_when_the_line_gets_better():
    """A connection's first round trips are slow."""
    assert [4, 8, 8, 16] == observed([(50, 0.1), (50, 0.1), (200, 0.1)])


def test_never_more_than_there_are_parts_or_the_budget_has():
    """The limit that was given is a hard one."""
    assert [2, 2] == observed([(100, 0.1)], most=2)
    assert [4, 6] == observed([(100, 0.1)], most=6)


def test_store_that_throttles_gets_fewer_and_never_more_again():
    """Half as many, one at the least."""
    width = Width(64)
    width.begin(0.0, 0)
    width.observe(0.1, MB, 0.0)
    width.throttle()
    halved = width.wanted
    width.observe(0.2, 100 * MB, 0.0)
    assert (4, 4) == (halved, width.wanted)
    for _ in range(5):
        width.throttle()
    assert width.wanted == 1


def test_nothing_is_made_of_a_look_at_once():
    """Two looks in the same moment say nothing of a rate."""
    width = Width(64)
    width.begin(1.0, 0)
    width.observe(1.0, 100 * MB, 0.0)
    assert width.wanted == 4
