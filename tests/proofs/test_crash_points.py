"""What is left when a process dies at any one of its effects on the disk? The old version, the new one, or nothing.

Each thing that is done to the file system while something is fetched or dropped has a number. For each number a process
ends just before it (which is just after the one before) and, in a write, in the middle; then another one looks, and
goes on (G1, G3).
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ._child import CRASHED, NEW, OLD, copy_cache
from .conftest import Child, ChildFailedError, Forks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="made of forks and signals")


@dataclass(frozen=True)
class Scenario:
    """Something that a process does, and what others did before it.

    Args:
        title: what to call it.
        name: which object.
        action: what is done: `"fetch"`, `"touch"` (a fetch that finds it fresh), `"invalidate"`, `"evict"`, `"clean"`.
        version: the remote's version by then.
        before: what was done before, each with the version that the remote had; an unfinished fetch is `"break"`.
    """

    title: str
    name: str
    action: str
    version: int
    before: tuple[tuple[str, int], ...] = ()

    @property
    def may_be_found(self) -> set[int]:
        """Which versions may be there after a crash; 0 means none."""
        return {0, self.version} | {version for action, version in self.before if action == "fetch"}


SCENARIOS = [
    Scenario("first fetch, small", "small", "fetch", NEW),
    Scenario("first fetch, large", "large", "fetch", NEW),
    Scenario("replace, small", "small", "fetch", NEW, (("fetch", OLD),)),
    Scenario("replace, large", "large", "fetch", NEW, (("fetch", OLD),)),
    Scenario("resume, large", "large", "fetch", NEW, (("break", NEW),)),
    Scenario("resume and replace, large", "large", "fetch", NEW, (("fetch", OLD), ("break", NEW))),
    Scenario("drop the partial of an old version", "large", "fetch", NEW, (("break", OLD),)),
    Scenario("find it fresh", "small", "touch", NEW, (("fetch", NEW),)),
    Scenario("invalidate", "large", "invalidate", NEW, (("fetch", NEW),)),
    Scenario("evict", "small", "evict", NEW, (("fetch", NEW),)),
    Scenario("clean", "small", "clean", NEW, (("fetch", NEW), ("break", NEW))),
]


def prepare(scenario: Scenario, template: Path, forks: Forks) -> None:
    """Make the cache as it is before the scenario."""
    template.mkdir()
    for action, version in scenario.before:
        if action == "fetch":
            forks.run("act", root=str(template), name=scenario.name, action="fetch", version=version)
            continue
        count = len(
            effects_of(Scenario("", scenario.name, "fetch", version), template, template.parent / "count", forks)
        )
        child = forks.start(
            "act", root=str(template), name=scenario.name, action="fetch", version=version, stop_at=count * 2 // 3
        )
        assert CRASHED == forks.wait(child)


def effects_of(scenario: Scenario, template: Path, root: Path, forks: Forks) -> list[str]:
    """Give the names of all effects of the scenario."""
    shutil.rmtree(root, ignore_errors=True)
    copy_cache(str(template), str(root))
    found = forks.run("act", root=str(root), name=scenario.name, action=scenario.action, version=scenario.version)
    assert [] == found["missed"], "effects without a number"
    return found["effects"]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.title)
def test_g3_a_process_that_dies_at_any_effect_leaves_old_new_or_nothing(
    scenario: Scenario, tmp_path: Path, forks: Forks, tell: Callable[[str], None]
) -> None:
    """Whatever was last done to the disk, the next process finds right bytes or none, and goes on where it was."""
    template = tmp_path / "template"
    prepare(scenario, template, forks)
    effects = effects_of(scenario, template, tmp_path / "count", forks)
    points = [(number, "before") for number in range(1, len(effects) + 1)]
    points += [(number, "middle") for number, effect in enumerate(effects, start=1) if effect == "write"]
    points.append((len(effects), "after"))
    found = Counter[str]()
    failures: list[str] = []
    for some in batched(points, 4):
        died = [(point, start_dying(scenario, point, template, tmp_path, forks)) for point in some]
        looking: list[tuple[str, Child]] = []
        for (number, when), child in died:
            name = f"{number} {when} {effects[number - 1]}"
            status = forks.wait(child)
            if status == CRASHED:
                root = str(tmp_path / f"{number}-{when}")
                looking.append((name, forks.start("recover", root=root, name=scenario.name, version=scenario.version)))
            else:
                failures.append(f"{name}: ended with {status}\n{said_by(child)}")
        for name, child in looking:
            try:
                seen = child.result()
            except ChildFailedError as error:
                failures.append(f"{name}: {error}")
                continue
            wrong = wrong_of(seen, scenario)
            if wrong:
                failures.append(f"{name}: {wrong}: {seen}")
            found[{0: "nothing", scenario.version: "new"}.get(seen["found"], "old")] += 1
    assert [] == failures, "\n".join(failures)
    left = ", ".join(f"{count} times {what}" for what, count in found.items())
    tell(f"crash points, {scenario.title}: {len(points)} tried, the next process found {left}")


def test_g1_what_was_written_out_of_order_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, forks: Forks) -> None:
    """A power cut leaves no file with zeros in place of a part: nothing is written to it after its last fsync."""
    name = "large"
    trace = forks.run("act", root=str(tmp_path), name=name, action="fetch", version=NEW)["trace"]
    target = str(tmp_path / "bucket" / f"{name}.bin")
    [renamed_at] = [at for at, (effect, _, to) in enumerate(trace) if effect == "replace" and to == target]
    done = [effect for effect, path, _ in trace[:renamed_at] if path == trace[renamed_at][1]]
    assert "fsync" == [effect for effect in done if effect in ("write", "fsync")][-1]


def start_dying(scenario: Scenario, point: tuple[int, str], template: Path, directory: Path, forks: Forks) -> Child:
    """Start a process that does what the scenario says, in a copy of the cache, and ends at that point."""
    number, when = point
    root = directory / f"{number}-{when}"
    copy_cache(str(template), str(root))
    return forks.start(
        "act", root=str(root), name=scenario.name, action=scenario.action, version=scenario.version,
        stop_at=number, when=when,
    )  # fmt: skip


def batched(points: list[tuple[int, str]], size: int) -> Iterator[list[tuple[int, str]]]:
    for start in range(0, len(points), size):
        yield points[start : start + size]


def said_by(child: Child) -> str:
    return child.errors.read_text() if child.errors.exists() else ""


def wrong_of(seen: dict[str, object], scenario: Scenario) -> str:
    """Say what is wrong with what the next process saw; nothing, if nothing is."""
    if seen["found"] not in scenario.may_be_found or seen["served_offline"] != seen["found"]:
        return "another version is there"
    if seen["fetched"] != scenario.version:
        return "the newest version was not fetched"
    if seen["again"] != "revalidated":
        return "it does not stay"
    if seen["useless"] != []:
        return "cleaning it left something of no use"
    expected = 0 if seen["found"] == scenario.version else int(str(seen["size"])) - int(str(seen["journaled"]))
    if seen["received"] != expected:
        return f"{seen['received']} bytes were received instead of {expected}"
    return ""
