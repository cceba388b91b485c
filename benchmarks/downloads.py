"""How long does it take until objects are files? Whole processes of each contender, in turn, their bytes checked.

    python benchmarks/downloads.py --works large-http,small-far --contenders datacachalog,obstore -n 3
    BENCH_PYTHON=/other/venv/bin/python python benchmarks/downloads.py --works large-http --measure whole

Two things are measured, in processes of their own: `whole` is a process from its start to its end; `call` is the call
in it, after the libraries were imported, the client made, and one other object asked for.

`datacachalog@/other/venv/bin/python` in `--contenders` measures another installation beside this one. With
`BENCH_BUCKET` the same objects are put into that bucket (below `datacachalog-benchmarks/`, with the credentials, region
and endpoint that the environment has), and read from there instead; the works that differ only in the stand-in's
distance or encryption are left out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from _contenders import CONTENDERS, MIB, command_of, downloaded, has_warm_call, takes_part
from _harness import Run, arguments, digest_of, in_turn, run_process, save, summary, workplace
from _objects import Store, running_store, write_job
from _report import downloads_table


@dataclass(frozen=True, slots=True)
class Work:
    """Which objects come from where, and the options that do best there: contender → its arguments."""

    server: str
    count: int
    size: int
    rounds: int
    tuned: Mapping[str, Sequence[str]]


ONE_LARGE = {
    "s5cmd": ["1", "--concurrency", "16", "--part-size", "16"],
    "obstore": ["16", str(16 * MIB)],
    "boto3": ["default", "10", str(8 * MIB)],
    "boto3-tuned": ["tuned", "10", str(16 * MIB)],
    "boto3-crt": ["crt", "10", str(8 * MIB)],
    "s3fs": ["1", str(16 * MIB), "10"],
    "floor-asyncio": ["4", str(64 * MIB)],
    "floor-threads": ["4", str(64 * MIB)],
}
MANY_SMALL = {
    "s5cmd": ["64"],
    "obstore": ["32", str(8 * MIB)],
    "boto3": ["default", "10", str(8 * MIB)],
    "boto3-tuned": ["tuned", "10", str(8 * MIB)],
    "boto3-crt": ["crt", "10", str(8 * MIB)],
    "s3fs": ["64", str(8 * MIB), "1"],
    "floor-curl": ["16"],
    "floor-asyncio": ["16", str(8 * MIB)],
    "floor-threads": ["8", str(8 * MIB)],
}
FAR_LARGE = ONE_LARGE | {
    "s5cmd": ["1", "--concurrency", "64", "--part-size", "8"],
    "obstore": ["64", str(8 * MIB)],
    "boto3-tuned": ["tuned", "32", str(8 * MIB)],
    "s3fs": ["1", str(8 * MIB), "64"],
    "floor-asyncio": ["32", str(8 * MIB)],
    "floor-threads": ["32", str(8 * MIB)],
}
FAR_SMALL = MANY_SMALL | {
    "s5cmd": ["256"],
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
WORKS = {
    "large-http": Work("http", 1, 1024 * MIB, 3, ONE_LARGE),
    "large-https": Work("https", 1, 1024 * MIB, 3, ONE_LARGE),
    "small-http": Work("http", 2000, 16 * 1024, 5, MANY_SMALL),
    "large-far": Work("far", 1, 1024 * MIB, 3, FAR_LARGE),
    "small-far": Work("far", 1000, 16 * 1024, 5, FAR_SMALL),
    "medium-http": Work("http", 64, 16 * MIB, 3, SOME_MEDIUM),
}


def process(contender: str, work: Work, store: Store, place: Path, *, is_whole: bool) -> Callable[[], Run]:
    """Give what runs a contender once and checks the files that it has made."""
    objects = store.objects[work.count, work.size]
    url = store.url(work.server)
    tuned = work.tuned.get(contender, [])

    def run() -> Run:
        target = place / "target"
        target.mkdir()
        job = write_job(
            place / "job.json",
            endpoint=url,
            bucket=store.bucket,
            keys=list(objects.digests),
            size=work.size,
            target=str(target),
            warm=None if is_whole else next(iter(store.objects[1, 1].digests)),
        )
        command = command_of(contender, tuned, job=job, objects=objects, store=store, url=url, target=target)
        try:
            result = run_process(command, dict(store.environment))
            for key, digest in objects.digests.items():
                path = downloaded(contender, store, target, key)
                if path.stat().st_size != work.size or digest_of(path) != digest:
                    raise RuntimeError(f"{path} has not the bytes of {key}")
        finally:
            shutil.rmtree(target)
        return result

    return run


def main() -> None:
    options = arguments(
        works=tuple(WORKS), contenders=CONTENDERS, measure=("whole", "call"), rounds="(3, or 5 of small objects)"
    )
    works = {name: WORKS[name] for name in options.works}
    if options.quick:
        for name, work in works.items():
            size = min(work.size, 32 * MIB)
            works[name] = replace(work, count=min(work.count, 100 * MIB // size, 100), size=size, rounds=1)
    results: dict[str, dict[str, dict[str, object]]] = {}
    with workplace() as place, running_store(place, [(work.count, work.size) for work in works.values()]) as store:
        for work_name, work in works.items():
            if store.endpoints is None and work.server != "http":
                continue
            of_work = results[work_name] = {}
            for measured in options.measure:
                contenders = {
                    name: process(name, work, store, place, is_whole=measured == "whole")
                    for name in options.contenders
                    if measured == "whole" or has_warm_call(name)
                    if takes_part(name, is_stand_in=store.endpoints is not None)
                }
                runs = in_turn(contenders, options.n or work.rounds, label=f"{work_name} {measured}")
                for name, values in runs.items():
                    of_work.setdefault(name, {})[measured] = summary(values)
            print(downloads_table({work_name: of_work}), flush=True)
    if options.save:
        save("downloads", results)


if __name__ == "__main__":
    main()
