"""How is each contender started? The command line of each, and the settings that did best for it.

The settings are what was fastest on two cores that client and server share; `name:setting/setting` in `--contenders`
tries others.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from _harness import HERE, python, s5cmd
from _objects import Objects, Store

MIB = 1 << 20
CONTENDERS = (
    "datacachalog",
    "datacachalog-async",
    "datacachalog-uvloop",
    "s5cmd",
    "s5cmd-run",
    "obstore",
    "boto3",
    "boto3-tuned",
    "boto3-crt",
    "s3fs",
    "floor-curl",
    "floor-asyncio",
    "floor-threads",
)

ONLY_IF_NAMED = ("datacachalog-uvloop",)
"""Contenders that have been measured, and differed from another one by nothing but noise."""

# The settings of s5cmd are `--numworkers` and then its `cp`'s; of curl `--parallel-max`; of the others threads or
# requests at once, and bytes of a range; boto3 has its style first, and s3fs has the ranges at once last.
ONE_LARGE = {
    "s5cmd": ["1", "--concurrency", "8", "--part-size", "16"],
    "obstore": ["4", str(8 * MIB)],
    "boto3": ["default", "10", str(8 * MIB)],
    "boto3-tuned": ["tuned", "10", str(16 * MIB)],
    "boto3-crt": ["crt", "10", str(8 * MIB)],
    "s3fs": ["1", str(16 * MIB), "10"],
    "floor-curl": ["1"],
    "floor-asyncio": ["4", str(64 * MIB)],
    "floor-threads": ["4", str(64 * MIB)],
}
MANY_SMALL = {
    "s5cmd": ["64"],
    "s5cmd-run": ["64"],
    "obstore": ["32", str(8 * MIB)],
    "boto3": ["default", "10", str(8 * MIB)],
    "boto3-tuned": ["tuned", "10", str(8 * MIB)],
    "boto3-crt": ["crt", "10", str(8 * MIB)],
    "s3fs": ["64", str(8 * MIB), "1"],
    "floor-curl": ["16"],
    "floor-asyncio": ["16", str(8 * MIB)],
    "floor-threads": ["8", str(8 * MIB)],
}
FAR_LARGE = {name: settings for name, settings in ONE_LARGE.items() if name != "floor-curl"} | {
    "s5cmd": ["1", "--concurrency", "32", "--part-size", "16"],
    "obstore": ["32", str(8 * MIB)],
    "boto3-tuned": ["tuned", "32", str(8 * MIB)],
    "s3fs": ["1", str(8 * MIB), "64"],
    "floor-asyncio": ["32", str(8 * MIB)],
    "floor-threads": ["32", str(8 * MIB)],
}
FAR_SMALL = MANY_SMALL | {
    "s5cmd": ["256"],
    "s5cmd-run": ["256"],
    "obstore": ["128", str(8 * MIB)],
    "boto3-tuned": ["tuned", "64", str(8 * MIB)],
    "s3fs": ["256", str(8 * MIB), "1"],
    "floor-curl": ["128"],
    "floor-asyncio": ["128", str(8 * MIB)],
    "floor-threads": ["128", str(8 * MIB)],
}
SOME_MEDIUM = ONE_LARGE | {
    "s5cmd": ["8", "--concurrency", "2", "--part-size", "16"],
    "boto3-tuned": ["tuned", "10", str(16 * MIB)],
    "s3fs": ["16", str(16 * MIB), "1"],
    "floor-curl": ["4"],
}


def has_warm_call(contender: str) -> bool:
    """Whether its call can be measured without its start. A program's call is all of it; a floor starts nothing."""
    return contender.startswith(("datacachalog", "obstore", "boto3", "s3fs"))


def takes_part(contender: str, settings: Mapping[str, Sequence[str]], *, is_stand_in: bool) -> bool:
    """Whether it does this work: the floors speak to the stand-in only, and boto3's CRT to usual ports only."""
    if contender == "boto3-crt" if is_stand_in else contender.startswith("floor"):
        return False
    return contender in settings or contender.startswith("datacachalog") or ":" in contender


def command_of(
    contender: str,
    tuned: Mapping[str, Sequence[str]],
    *,
    job: str,
    objects: Objects,
    store: Store,
    url: str | None,
    target: Path,
) -> list[str]:
    """Give the command line of a contender.

    `name:16/8388608` has other settings than the tuned ones; `datacachalog@/interpreter` is another installation's.
    """
    name, _, others = contender.partition(":")
    name, _, interpreter = name.partition("@")
    settings = others.split("/") if others else list(tuned.get(name, ()))
    if name.startswith("s5cmd"):
        at = ["--endpoint-url", url] if url else []
        command = [s5cmd(), *at, "--log", "error", "--numworkers", settings[0]]
        if name == "s5cmd-run":  # each object by its name
            lines = [f"cp s3://{store.bucket}/{key} {target}/\n" for key in objects.digests]
            Path(f"{job}.run").write_text("".join(lines))
            return [*command, "run", f"{job}.run"]
        keys = next(iter(objects.digests)) if len(objects.digests) == 1 else f"{objects.prefix}*"
        return [*command, "cp", *settings[1:], f"s3://{store.bucket}/{keys}", f"{target}/"]
    if name == "floor-curl":
        config = Path(f"{job}.curl")
        lines = [
            f'url = "{url}/{store.bucket}/{key}"\noutput = "{downloaded(name, store, target, key)}"'
            for key in objects.digests
        ]
        config.write_text("\n".join(lines))
        return ["curl", "-sSf", "--parallel", "--parallel-max", *settings, "--config", str(config)]
    if name.startswith("datacachalog"):
        style = name.partition("-")[2] or "sync"
        return [interpreter or python(), str(HERE / "contenders" / "with_datacachalog.py"), job, style]
    script = name.replace("-", "_") if name.startswith("floor") else f"with_{name.partition('-')[0]}"
    return [sys.executable, str(HERE / "contenders" / f"{script}.py"), job, *settings]


def downloaded(contender: str, store: Store, target: Path, key: str) -> Path:
    """Give the file that a contender makes of an object."""
    return target / store.bucket / key if contender.startswith("datacachalog") else target / key.rpartition("/")[2]
