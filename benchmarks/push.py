"""How long does it take to push a file of 1 GiB? To a Ceph gateway that keeps its objects in memory, read back after.

datacachalog copies the file into its cache as well, so that the next fetch needs no download; the others don't.
With `BENCH_BUCKET` it is that bucket.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from _harness import HERE, Run, arguments, digest_of, in_turn, python, run_process, s5cmd, save, summary, workplace
from _objects import clean_environment, write_job
from _report import downloads_table

sys.path.insert(0, str(HERE.parent / "tests" / "integration"))
from _rgw import running_gateway

CONTENDERS = ("datacachalog", "s5cmd", "boto3", "boto3-tuned")
S5CMD_SETTINGS = ["--concurrency", "16", "--part-size", "16"]


@contextlib.contextmanager
def running_bucket() -> Iterator[tuple[str | None, str, Mapping[str, str]]]:
    """Give endpoint, bucket and environment: a fresh gateway for each push, since it frees its memory late."""
    if real := os.environ.get("BENCH_BUCKET"):
        yield os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"), real, os.environ
        return
    with running_gateway() as gateway:
        environment = {
            **clean_environment(),
            "AWS_ACCESS_KEY_ID": gateway.access_key,
            "AWS_SECRET_ACCESS_KEY": gateway.secret_key,
        }
        run_process([s5cmd(), "--endpoint-url", gateway.endpoint_url, "mb", "s3://bench"], environment)
        yield gateway.endpoint_url, "bench", environment


def pushing(contender: str, source: Path, digest: str, place: Path, *, is_whole: bool) -> Callable[[], Run]:
    """Give what pushes the file once and reads it back."""

    def run() -> Run:
        cache, back, key = place / "cache", place / "back", "datacachalog-benchmarks/pushed.bin"
        with running_bucket() as (url, bucket, environment):
            tool = [s5cmd(), *(["--endpoint-url", url] if url else []), "--log", "error"]
            warm = "datacachalog-benchmarks/warm.bin"
            run_process([*tool, "cp", str(Path(__file__)), f"s3://{bucket}/{warm}"], dict(environment))
            job = write_job(
                place / "job.json",
                endpoint=url,
                bucket=bucket,
                keys=[key],
                target=str(cache),
                source=str(source),
                warm=None if is_whole else warm,
            )
            if contender == "s5cmd":
                command = [*tool, "cp", *S5CMD_SETTINGS, str(source), f"s3://{bucket}/{key}"]
            else:
                interpreter = python() if contender == "datacachalog" else sys.executable
                command = [interpreter, str(HERE / "contenders" / "pushing.py"), job, contender]
            try:
                result = run_process(command, dict(environment))
                run_process([*tool, "cp", f"s3://{bucket}/{key}", str(back)], dict(environment))
                if digest_of(back) != digest:
                    raise RuntimeError(f"{contender} pushed other bytes")
            finally:
                back.unlink(missing_ok=True)
                shutil.rmtree(cache, ignore_errors=True)
        return result

    return run


def main() -> None:
    options = arguments(contenders=CONTENDERS, measure=("whole", "call"), rounds="(3)")
    size = (64 if options.quick else 1024) << 20
    results: dict[str, Any] = {"push": {}}
    with workplace() as place:
        source = place / "source.bin"
        with source.open("wb") as file:
            for _ in range(size >> 20):
                file.write(os.urandom(1 << 20))
        digest = digest_of(source)
        for measured in options.measure:
            contenders = {
                name: pushing(name, source, digest, place, is_whole=measured == "whole")
                for name in options.contenders
                if measured == "whole" or name != "s5cmd"
            }
            runs = in_turn(contenders, options.n or (1 if options.quick else 3), label=f"push {measured}")
            for name, values in runs.items():
                results["push"].setdefault(name, {})[measured] = summary(values)
    printed = downloads_table("push", results["push"])
    print(printed)
    save(options, "push", results, [printed])


if __name__ == "__main__":
    main()
