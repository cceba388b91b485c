"""What do the figures say? Markdown tables of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from _contenders import PEERS


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


def downloads_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """One table a work: seconds of the whole process and of the call, as ratios to the fastest peer's too."""
    parts = []
    for work, contenders in results.items():
        whole = {name: one["whole"]["wall_seconds"] for name, one in contenders.items() if "whole" in one}
        # A program's call is its whole process.
        call = {name: one["call"]["call_seconds"] for name, one in contenders.items() if "call" in one}
        call |= {name: values for name, values in whole.items() if name == "s5cmd"}
        best_whole = min((whole[name]["median"] for name in PEERS if name in whole), default=None)
        best_call = min((call[name]["median"] for name in PEERS if name in call), default=None)
        rows = []
        for name, one in contenders.items():
            kept = one.get("whole") or one["call"]
            rows.append(
                [
                    name,
                    *_with_ratio(whole.get(name), best_whole),
                    *_with_ratio(call.get(name), best_call),
                    f"{kept['cpu_seconds']['median']:.2f}",
                    f"{kept['peak_bytes']['median'] / 1e6:.0f}",
                ]
            )
        head = [work, "whole, s", "to best peer", "call, s", "to best peer", "CPU, s", "peak, MB"]
        parts.append(table(head, rows))
    return "\n\n".join(parts)


def _with_ratio(values: Mapping[str, float] | None, best: float | None) -> tuple[str, str]:
    if values is None:
        return "", ""
    return seconds(values), "" if best is None else f"{values['median'] / best:.2f}"
