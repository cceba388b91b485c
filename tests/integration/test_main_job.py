"""The main job against a real store: everything arrives, once, and again only what changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from datacachalog import Catalog, Dataset, FetchReport, S3Storage

from ._bucket import MIB, Bucket, new_bucket, noise
from ._rgw import Gateway

SMALL_OBJECTS = 500
LARGE_BYTES = 1024 * MIB
PART_BYTES = 8 * MIB
MEMORY_LIMIT_BYTES = 120_000_000
ODD_KEYS = (
    "odd/with space.csv",
    "odd/ lead and trail ",
    "odd/größe-日本-🐋.csv",
    "odd/caf\u00e9",
    "odd/cafe\u0301",
    "odd/a+b.csv",
    "odd/100%.csv",
    "odd/%41%2Fb.csv",
    "odd//double.csv",
    "/leading.csv",
    "odd/x#y&z='q',~(1)@v;w:$.csv",
    "odd/back\\slash.csv",
    "odd/./dot.csv",
    "odd/../../up.csv",
    "odd/node",
    "odd/node/leaf",
    "odd/Case",
    "odd/case",
)


@dataclass(frozen=True, slots=True)
class Story:
    """What happened to the bucket's objects, one run after the other, in one cache."""

    expected: dict[str, str]
    """Key → SHA-256 of what was written."""
    small: FetchReport
    large: FetchReport
    odd: FetchReport
    empty: FetchReport
    arrived: dict[str, str]
    """Key → SHA-256 of what lay in the cache after these four."""
    again: FetchReport
    one_again: FetchReport
    expected_after_change: dict[str, str]
    after_change: FetchReport
    arrived_after_change: dict[str, str]


def digests(report: FetchReport) -> dict[str, str]:
    found = {}
    for name, result in report.items():
        with result.path.open("rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


@pytest.fixture(scope="module")
def bucket_of_everything(gateway: Gateway) -> Iterator[tuple[Bucket, dict[str, str]]]:
    """500 objects of 1 KB to 1 MB, as many of each order of magnitude; one of 1 GiB; odd names; and an empty one."""
    with new_bucket(gateway) as bucket:
        sizes = [int(1000 * 1000 ** (number / (SMALL_OBJECTS - 1))) for number in range(SMALL_OBJECTS)]
        small = ((f"small/{number:03}.bin", noise(size, seed=number)) for number, size in enumerate(sizes))
        expected = bucket.put_many(small)
        expected |= {key: bucket.put(key, key.encode()) for key in ODD_KEYS}
        expected["empty.csv"] = bucket.put("empty.csv", b"")
        expected["large.bin"] = bucket.put_in_parts("large.bin", LARGE_BYTES, seed=SMALL_OBJECTS)
        yield bucket, expected


@pytest.fixture(scope="module")
def story(
    bucket_of_everything: tuple[Bucket, dict[str, str]],
    storage: S3Storage,
    tmp_path_factory: pytest.TempPathFactory,
    note_figure: Callable[[str, str], None],
) -> Iterator[Story]:
    """Fetch everything, fetch it again, change one object, fetch it once more."""
    bucket, expected = bucket_of_everything
    cache_dir = tmp_path_factory.mktemp("cache")
    # The key is the dataset's name, but for the space around one of them, which a name can't have.
    name_of_key = {key: key.strip() if key.strip() == key else f"[{key}]" for key in expected}
    key_of_name = {name: key for key, name in name_of_key.items()}
    datasets = [Dataset(name, bucket.uri(key)) for name, key in key_of_name.items()]
    small = [key for key in expected if key.startswith("small/")]

    def arrived(*reports: FetchReport) -> dict[str, str]:
        return {key_of_name[name]: digest for report in reports for name, digest in digests(report).items()}

    with Catalog(datasets, cache_dir=cache_dir, storage=storage, progress=False) as catalog:
        cold = [
            catalog.fetch_all(small),
            catalog.fetch_all(["large.bin"]),
            catalog.fetch_all([name_of_key[key] for key in ODD_KEYS]),
            catalog.fetch_all(["empty.csv"]),
        ]
        arrived_cold = arrived(*cold)
        again = catalog.fetch_all()
        one_again = catalog.fetch_all([small[0]])
        changed = {small[7]: bucket.put(small[7], noise(70_000, seed=-1))}
        after_change = catalog.fetch_all()
        yield Story(
            expected, *cold, arrived_cold, again, one_again, expected | changed, after_change, arrived(after_change)
        )
    shutil.rmtree(cache_dir)

    note_figure("small miss", f"{cold[0].requests / len(small):.2f} requests per object, {_summary(cold[0])}")
    note_figure("large", f"1 GiB in parts of 8 MiB, {_summary(cold[1])}")
    note_figure("empty", _summary(cold[3]))
    note_figure("fresh, one object", f"{_summary(one_again)}")
    note_figure("fresh, all at once", f"{again.requests / len(again):.3f} requests per object, {_summary(again)}")
    note_figure("one changed of all", _summary(after_change))


def _summary(report: FetchReport) -> str:
    return (
        f"{len(report)} dataset(s), {report.requests} request(s),"
        f" {report.bytes_downloaded / 1e6:.1f} MB, {report.seconds:.2f} s"
    )


@pytest.mark.parametrize("group", ["small", "large", "odd", "empty"])
def test_every_object_arrives_as_it_was_written(story: Story, group: str) -> None:
    """G1: what lies in the cache has the SHA-256 of what was written to the store."""
    prefixes = {"small": ("small/",), "large": ("large.bin",), "odd": ODD_KEYS, "empty": ("empty.csv",)}
    keys = [key for key in story.expected if key.startswith(prefixes[group])]

    assert {key: story.expected[key] for key in keys} == {key: story.arrived[key] for key in keys}


def test_objects_of_any_name_stay_apart(story: Story) -> None:
    """Names that a file system could confuse each have a file of their own."""
    assert len(ODD_KEYS) == len({result.path.resolve() for result in story.odd.values()})


def test_a_second_run_downloads_nothing(story: Story) -> None:
    """A cached object that is still the newest is not downloaded again."""
    assert (0, {"revalidated"}) == (story.again.bytes_downloaded, {result.action for result in story.again.values()})


def test_after_a_change_just_the_changed_object_is_downloaded(story: Story) -> None:
    """A change of one object costs that object's bytes and nothing else's."""
    downloaded = {name: r.bytes_downloaded for name, r in story.after_change.items() if r.action == "downloaded"}

    assert {"small/007.bin": 70_000} == downloaded


def test_after_a_change_the_cache_holds_the_newest_bytes(story: Story) -> None:
    """G1: after a change every file has the SHA-256 of the newest version."""
    assert story.expected_after_change == story.arrived_after_change


def test_a_small_miss_takes_one_request(story: Story) -> None:
    """An object that fits into a part is fetched by one request, without a HEAD before it."""
    assert SMALL_OBJECTS == story.small.requests


def test_a_fresh_object_takes_one_request(story: Story) -> None:
    """Whether a cached object is still the newest is asked in one request."""
    assert 1 == story.one_again.requests


def test_a_large_object_takes_a_request_a_part_and_one_for_its_checksum(story: Story) -> None:
    """An object of many parts costs a request a part, and a HEAD that asks for the checksum of the whole."""
    assert LARGE_BYTES // PART_BYTES + 1 == story.large.requests


def test_fresh_objects_take_no_more_requests_than_they_are(story: Story) -> None:
    """Revalidating everything never costs more than a request an object."""
    assert story.again.requests <= len(story.again)


def test_a_gibibyte_is_fetched_in_little_memory(
    bucket_of_everything: tuple[Bucket, dict[str, str]],
    gateway: Gateway,
    tmp_path: Path,
    note_figure: Callable[[str, str], None],
) -> None:
    """G12: the whole process that fetches 1 GiB never has more than 120 MB in memory."""
    bucket, _ = bucket_of_everything
    script = Path(__file__).with_name("_measured_fetch.py")
    command = [sys.executable, str(script), gateway.endpoint_url, bucket.uri("large.bin"), str(tmp_path / "cache")]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout
    shutil.rmtree(tmp_path / "cache")
    figures = json.loads(output)
    note_figure(
        "memory, 1 GiB",
        f"peak {figures['after'] / 1e6:.0f} MB, {figures['before'] / 1e6:.0f} MB of them before the fetch;"
        f" {figures['requests']} requests, {figures['seconds']:.2f} s",
    )

    assert figures["after"] <= MEMORY_LIMIT_BYTES
