"""How is it said? The same words on every surface, as plain text that can't do anything to a terminal."""

from __future__ import annotations

from .._errors import redact_uri
from ._tally import ActiveFile, Progress, Summary

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_RATED_BYTES = 1_000_000


def printable(text: str) -> str:
    """Replace what would move the cursor, change its colour or turn the writing direction."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)


def bytes_text(count: float) -> str:
    """Say a number of bytes in decimal units."""
    unit = _unit(count)
    return f"{_in_unit(count, unit)} {_UNITS[unit]}"


def bytes_of_text(progress: Progress | ActiveFile) -> str:
    """Say how many bytes of how many, in one unit; `+` says that more files may join."""
    if isinstance(progress, Progress):
        size_bytes, more = progress.total_bytes, "" if progress.are_sizes_known else "+"
    elif progress.size_bytes is not None:
        size_bytes, more = progress.size_bytes, ""
    else:
        return bytes_text(progress.received_bytes)
    unit = _unit(size_bytes)
    return f"{_in_unit(progress.received_bytes, unit)} of {_in_unit(size_bytes, unit)}{more} {_UNITS[unit]}"


def _unit(count: float) -> int:
    unit = 0
    # 999.95 would be said as 1000.0 of the smaller unit.
    while count >= (999.95 if unit else 1000) and unit < len(_UNITS) - 1:
        count /= 1000
        unit += 1
    return unit


def _in_unit(count: float, unit: int) -> str:
    return f"{count / 1000**unit:.1f}" if unit else f"{count:.0f}"


def clock_text(seconds: float) -> str:
    """Say a time to come: `0:07`, `12:34`, `1:02:03`."""
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


def seconds_text(seconds: float) -> str:
    """Say a time that has passed: `0.8 s`, `2:05 min`, `1:02:03 h`."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    return f"{clock_text(seconds)} {'min' if seconds < 3599.5 else 'h'}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def count_text(progress: Progress) -> str:
    """Say how many datasets are done, or how many files where they are more; `+` says that there may be more."""
    if progress.files > progress.datasets:
        more = "" if progress.are_files_known else "+"
        return f"{progress.files_finished}/{progress.files}{more} files"
    text = f"{progress.datasets_finished}/{_plural(progress.datasets, 'dataset')}"
    return f"{text} pushed" if progress.is_push else text


def rate_text(progress: Progress) -> str:
    """Say the rate; nothing before it is known."""
    return "" if progress.bytes_per_second is None else f"{bytes_text(progress.bytes_per_second)}/s"


def left_text(progress: Progress) -> str:
    """Say the time left; nothing where it can't be told."""
    return "" if progress.seconds_left is None else f"{clock_text(progress.seconds_left)} left"


def retries_text(count: int) -> str:
    """Say the retries; nothing if there were none."""
    return "" if not count else "1 retry" if count == 1 else f"{count} retries"


def failed_text(count: int) -> str:
    """Say how many datasets failed; nothing if none did."""
    return f"{count} failed" if count else ""


def line_text(progress: Progress) -> str:
    """Say all of it in one line."""
    parts = (
        count_text(progress),
        bytes_of_text(progress) if progress.total_bytes else "",
        rate_text(progress) if progress.total_bytes else "",
        left_text(progress),
        retries_text(progress.retries),
        failed_text(progress.datasets_failed),
    )
    return ", ".join(part for part in parts if part)


def file_text(file: ActiveFile) -> str:
    """Name a file under way: by its dataset, by its own name where that has more than one, by its owner, its way."""
    name = (
        file.dataset if file.is_only_file else f"{file.dataset}: {redact_uri(file.uri).rstrip('/').rpartition('/')[2]}"
    )
    if file.is_unpacking:
        name = f"{name} (unpacking)"
    elif file.owner is not None:
        name = f"{name} (by {file.owner})"
    elif file.is_push:
        name = f"{name} (push)"
    return printable(name)


def fraction(progress: Progress) -> float:
    """Tell how much of the work is done, 0 to 1: by bytes once all sizes are known, before that by files."""
    if progress.are_sizes_known and progress.total_bytes:
        part = progress.received_bytes / progress.total_bytes
    else:
        part = progress.files_finished / progress.files if progress.files else 0.0
    return min(1.0, max(0.0, part))


def file_fraction(file: ActiveFile) -> float:
    """Tell how much of a file is here, 0 to 1."""
    return min(1.0, max(0.0, file.received_bytes / file.size_bytes)) if file.size_bytes else 0.0


def summary_text(summary: Summary) -> str:
    """Say what it came to, in one line."""
    took = seconds_text(summary.seconds)
    received, sent = bytes_text(summary.bytes_downloaded), bytes_text(summary.bytes_uploaded)
    moved = [f"{_plural(summary.files_downloaded, 'file')}, {received}"] if summary.files_downloaded else []
    moved += [f"{_plural(summary.files_uploaded, 'file')} pushed, {sent}"] if summary.files_uploaded else []
    if summary.is_cancelled:
        finished = summary.files_downloaded + summary.files_fresh + summary.files_stale + summary.files_uploaded
        amounts = [] if summary.is_push else [f"{received} received"]
        amounts += [f"{sent} sent"] if summary.is_push or summary.bytes_uploaded else []
        head = f"cancelled after {took}: {_plural(finished, 'file')} finished, {', '.join(amounts)}"
    elif moved:
        total_bytes = summary.bytes_downloaded + summary.bytes_uploaded
        # Of a few bytes, the seconds are those of asking: their rate would say nothing of the network.
        has_rate = total_bytes >= _RATED_BYTES and summary.seconds > 0
        rate = f" ({bytes_text(total_bytes / summary.seconds)}/s)" if has_rate else ""
        head = f"{', '.join(moved)} in {took}{rate}"
    else:
        head = f"nothing {'pushed' if summary.is_push else 'downloaded'} in {took}"
    parts = (
        head,
        f"{summary.files_fresh} up to date" if summary.files_fresh else "",
        f"{summary.files_stale} stale" if summary.files_stale else "",
        retries_text(summary.retries),
        failed_text(summary.datasets_failed),
    )
    text = ", ".join(part for part in parts if part)
    return f"{printable(summary.dataset)}: {text}" if summary.dataset is not None else text
