"""What is left when a process dies while it unpacks? The old tree, the new one, or nothing; never half of one.

As in `test_crash_points`: at each thing that is done to the file system a process ends, and another one looks.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ._child import CRASHED, NEW, OLD
from .conftest import ChildFailedError, Forks
from .test_crash_points import batched, said_by

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="made of forks and signals")


@dataclass(frozen=True)
class Scenario:
    """Something that is done with an archive, and which version was unpacked before."""

    title: str
    action: str
    before: int
    is_changed: bool = False


SCENARIOS = [
    Scenario("unpack a new version", "fetch", OLD),
    Scenario("unpack again what was changed", "fetch", NEW, is_changed=True),
    Scenario("drop it", "invalidate", NEW),
    Scenario("evict it", "evict", NEW),
]


def prepare(scenario: Scenario, template: Path, forks: Forks) -> None:
    template.mkdir()
    forks.run("act", root=str(template), name="archive", action="fetch", version=scenario.before)
    if scenario.is_changed:
        [changed] = template.glob("@unpacked/*/*/archive/x")
        changed.write_bytes(b"changed")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.title)
def test_g3_a_process_that_dies_while_it_unpacks_leaves_a_whole_tree_or_none(
    scenario: Scenario, tmp_path: Path, forks: Forks, tell: Callable[[str], None]
) -> None:
    """Whatever was last done to the disk, what is served is one version whole, and no half tree stays."""
    template = tmp_path / "template"
    prepare(scenario, template, forks)

    def start(root: Path, **stop: object):
        shutil.copytree(template, root)
        return forks.start("act", root=str(root), name="archive", action=scenario.action, version=NEW, **stop)

    counted = start(tmp_path / "count").result()
    assert [] == counted["missed"], "effects without a number"
    effects = counted["effects"]
    points = [(number, "before") for number in range(1, len(effects) + 1)]
    points += [(number, "middle") for number, effect in enumerate(effects, start=1) if effect == "write"]
    found = Counter[int]()
    failures: list[str] = []
    for some in batched(points, 4):
        died = [(p, start(tmp_path / f"{p[0]}-{p[1]}", stop_at=p[0], when=p[1])) for p in some]
        for (number, when), child in died:
            name, root = f"{number} {when} {effects[number - 1]}", str(tmp_path / f"{number}-{when}")
            if forks.wait(child) != CRASHED:
                failures.append(f"{name}: {said_by(child)}")
                continue
            try:
                seen = forks.run("recover_archive", root=root, version=NEW)
            except ChildFailedError as error:
                failures.append(f"{name}: {error}")
                continue
            found[seen["found"]] += 1
            right = {"fetched": NEW, "again": [NEW, "revalidated"], "half": [], "trees": 1}
            if seen["found"] not in (0, NEW, scenario.before) or seen != {"found": seen["found"], **right}:
                failures.append(f"{name}: {seen}")
    assert [] == failures, "\n".join(failures)
    left = ", ".join(f"{count} times {({0: 'nothing', NEW: 'new'}).get(what, 'old')}" for what, count in found.items())
    tell(f"crash points, {scenario.title}: {len(points)} tried, the next process found {left}")
