"""What do the figures say? Markdown tables, and a drawing.

`python benchmarks/_report.py DIRECTORY [README]` prints the newest figures of each script in a directory of results.
Into a README they go between its markers, with a drawing beside the results.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PEERS = ("s5cmd", "obstore", "boto3", "s3fs")
SCRIPTS = ("downloads", "push", "latency", "revalidate", "within_max_age", "start", "growth", "processes")
"""In the order of the report."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table; the first column is text, the others are numbers."""
    columns = list(zip(head, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    rule = [f"{'-' * widths[0]}", *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    lines = []
    for row in (head, rule, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def seconds(values: Mapping[str, float]) -> str:
    return f"{values['median']:.2f} [{values['min']:.2f} to {values['max']:.2f}]"


def times_of(contenders: Mapping[str, Any]) -> dict[str, dict[str, Mapping[str, float]]]:
    """Give the seconds of each contender of a work: of the whole process, and of the call. A program's call is all."""
    whole = {name: one["whole"]["wall_seconds"] for name, one in contenders.items() if "whole" in one}
    call = {name: one["call"]["call_seconds"] for name, one in contenders.items() if "call" in one}
    return {"process": whole, "call": call | {name: one for name, one in whole.items() if name.startswith("s5cmd")}}


def best(values: Mapping[str, Mapping[str, float]], kinds: tuple[str, ...]) -> str | None:
    """Name the fastest contender of a kind."""
    chosen = [name for name in values if name.startswith(kinds)]
    return min(chosen, key=lambda name: values[name]["median"], default=None)


def downloads_table(work: str, contenders: Mapping[str, Any]) -> str:
    """Lay out a work: seconds of the whole process and of the call, each as a ratio to the fastest peer's too."""
    times = times_of(contenders)
    rows = []
    for name, one in contenders.items():
        row = [name]
        for values in times.values():
            peer = best(values, PEERS)
            row.append(seconds(values[name]) if name in values else "")
            row.append(f"{values[name]['median'] / values[peer]['median']:.2f}" if name in values and peer else "")
        costs = one.get("whole") or one["call"]
        cpu, peak = costs["cpu_seconds"]["median"], costs["peak_bytes"]["median"]
        rows.append([*row, f"{cpu:.2f}", f"{peak / 1e6:.0f}"])
    return table([work, "process, s", "to best peer", "call, s", "to best peer", "CPU, s", "peak, MB"], rows)


def overview(works: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay out each work in a line: `datacachalog` beside the fastest peer and the floor."""
    rows = []
    for work, contenders in works.items():
        for measured, values in times_of(contenders).items():
            peer, floor = best(values, PEERS), best(values, ("floor",))
            if "datacachalog" not in values or peer is None:
                continue
            ours, theirs = values["datacachalog"]["median"], values[peer]["median"]
            lowest = f"{values[floor]['median']:.2f}" if floor else ""
            rows.append([f"{work}, {measured}", f"{ours:.2f}", peer, f"{theirs:.2f}", f"{ours / theirs:.2f}", lowest])
    return table(["work", "datacachalog, s", "fastest peer", "its, s", "ratio", "floor, s"], rows)


def newest(directory: Path) -> dict[str, dict[str, Any]]:
    """Read the newest results of each script."""
    found = {}
    for script in SCRIPTS:
        paths = sorted(directory.glob(f"*-{script}.json"))
        if paths:
            found[script] = json.loads(paths[-1].read_text())
    return found


def report(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Write it all as Markdown."""
    last = max(runs.values(), key=lambda run: run["date"])
    versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
    machine = f"{last['cores']} cores ({last['cpu']}), {last['memory_bytes'] / 1e9:.0f} GB, {last['system']}"
    parts = [f"{last['date'][:10]}: {machine}, Python {last['python']}. {versions}."]
    works = {name: work for script in ("downloads", "push") if script in runs for name, work in _works(runs[script])}
    if works:
        parts.append(overview(works))
    for script, run in runs.items():
        load = f", while the machine had a load of {run['load_before']}" if run["load_before"] > 0.5 else ""
        parts += [f"### `{script}.py`, {run['date']}{load}", *("\n".join(lines) for lines in run["tables"])]
    return "\n\n".join(parts)


def _works(run: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(run["results"].items())


def draw(runs: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw the seconds of each work as bars, and lines for distance and for the catalog's size."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "benchmarks"  # the same figures give the same file
    mpl.rcParams["svg.fonttype"] = "none"  # letters as text, not as outlines
    import matplotlib.pyplot as plt

    works = [pair for script in ("downloads", "push") if script in runs for pair in _works(runs[script])]
    lines = [script for script in ("latency", "growth") if script in runs]
    columns = 3
    figure, axes = plt.subplots(-(-(len(works) + len(lines)) // columns), columns, figsize=(14, 10), squeeze=False)
    panels = list(axes.flat)
    for panel, (name, contenders) in zip(panels, works, strict=False):
        _draw_bars(panel, name, contenders)
    for panel, script in zip(panels[len(works) :], lines, strict=False):
        (_draw_latency if script == "latency" else _draw_growth)(panel, runs[script]["results"])
    for panel in panels[len(works) + len(lines) :]:
        panel.set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def _draw_bars(panel: Any, name: str, contenders: Mapping[str, Any]) -> None:
    whole = times_of(contenders)["process"]
    names = sorted(whole, key=lambda one: whole[one]["median"], reverse=True)
    medians = [whole[one]["median"] for one in names]
    least = [whole[one]["median"] - whole[one]["min"] for one in names]
    most = [whole[one]["max"] - whole[one]["median"] for one in names]
    shades = {"f": "lightgrey", "d": "tab:blue"}  # floors and datacachalog
    panel.barh(names, medians, xerr=[least, most], color=[shades.get(one[0], "tab:orange") for one in names])
    panel.set_title(f"{name}: process, s")


def _draw_latency(panel: Any, results: Mapping[str, Any]) -> None:
    for contender in next(iter(results.values())):
        if not contender.startswith("floor"):
            points = {
                int(work.partition("-")[2]): times_of(one)["process"][contender]["median"]
                for work, one in results.items()
                if contender in times_of(one)["process"]
            }
            panel.plot(list(points), list(points.values()), marker="o", label=contender)
    panel.set_title("500 small objects: seconds by distance, ms")
    panel.legend(fontsize="small")


def _draw_growth(panel: Any, results: Mapping[str, Any]) -> None:
    counts = [int(count) for count in results]
    for step in next(iter(results.values())):
        panel.loglog(counts, [one[step]["call_seconds"] for one in results.values()], marker="o", label=step)
    panel.set_title("seconds by number of datasets")
    panel.legend(fontsize="small")


def main() -> None:
    directory = Path(sys.argv[1])
    runs = newest(directory)
    text = report(runs)
    print(text)
    if len(sys.argv) > 2:
        readme, drawing = Path(sys.argv[2]), directory / "figures.svg"
        draw(runs, drawing)
        link = f"![The figures as bars and lines]({drawing.relative_to(readme.parent)})"
        between = re.compile(r"(?<=<!-- figures -->\n).*(?=<!-- end of figures -->)", re.DOTALL)
        readme.write_text(between.sub(lambda _: f"\n{text}\n\n{link}\n\n", readme.read_text()))


if __name__ == "__main__":
    main()
