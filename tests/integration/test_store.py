"""What a real store answers, and what the catalog makes of it: globs, versions, changes, and every kind of no."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from datacachalog import (
    AccessDeniedError,
    AsyncCatalog,
    BucketNotFoundError,
    CatalogConfig,
    CredentialsError,
    Dataset,
    EmptyGlobMatchError,
    FetchAllError,
    ObjectNotFoundError,
    S3Storage,
    StorageError,
)
from datacachalog.ports import Event, TransferAdvanced

from ._bucket import MIB, Bucket, noise, sha256
from ._midway import ReplacedMidway
from ._rgw import Gateway


def _names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


@pytest.fixture
def tree(bucket: Bucket) -> Bucket:
    """A few folders, and the empty object that some consoles make for a folder."""
    keys = ("logs/1.csv", "logs/2.csv", "logs/2.txt", "logs/deep/3.csv", "logs/deep/deeper/4.csv", "logs-old/5.csv")
    for key in keys:
        bucket.put(key, key.encode())
    bucket.put("logs/deep/", b"")
    bucket.put("literal/what?.csv", b"?")
    bucket.put("literal/whats.csv", b"s")
    return bucket


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("logs/*.csv", ["1.csv", "2.csv"]),
        ("logs/[13].csv", ["1.csv"]),
        ("logs/?.t?t", ["2.txt"]),
        ("logs/**/*.csv", ["1.csv", "2.csv", "3.csv", "4.csv"]),
        ("logs/", ["1.csv", "2.csv", "2.txt", "3.csv", "4.csv"]),
        ("literal/what[?].csv", ["what?.csv"]),
    ],
)
async def test_a_pattern_brings_the_files_it_means(
    tree: Bucket, storage: S3Storage, tmp_path: Path, pattern: str, expected: list[str]
) -> None:
    """`*`, `?` and `[]` match within a segment, `**` across, a final slash means all below it; no folder markers."""
    async with AsyncCatalog([Dataset("files", tree.uri(pattern))], cache_dir=tmp_path, storage=storage) as catalog:
        assert expected == _names(await catalog.fetch_files("files"))


async def test_a_pattern_without_a_match_says_so(tree: Bucket, storage: S3Storage, tmp_path: Path) -> None:
    """A glob that matches nothing is an error, not an empty list."""
    async with AsyncCatalog([Dataset("files", tree.uri("no/*.csv"))], cache_dir=tmp_path, storage=storage) as catalog:
        with pytest.raises(EmptyGlobMatchError):
            await catalog.fetch_files("files")


async def test_a_file_that_joins_a_pattern_is_fetched(tree: Bucket, storage: S3Storage, tmp_path: Path) -> None:
    """A glob means what matches now; what is cached of it is not downloaded again."""
    async with AsyncCatalog([Dataset("files", tree.uri("logs/*.csv"))], cache_dir=tmp_path, storage=storage) as catalog:
        await catalog.fetch_files("files")
        tree.put("logs/9.csv", b"new")
        report = await catalog.fetch_all()

        assert (["1.csv", "2.csv", "9.csv"], 3) == (_names(list(report["files"].paths)), report.bytes_downloaded)


async def test_a_missing_key_is_named(bucket: Bucket, storage: S3Storage, tmp_path: Path) -> None:
    """A key that isn't there raises the error that says so, with the object's URI."""
    async with AsyncCatalog([Dataset("gone", bucket.uri("gone.csv"))], cache_dir=tmp_path, storage=storage) as catalog:
        with pytest.raises(ObjectNotFoundError) as caught:
            await catalog.fetch("gone")

    assert bucket.uri("gone.csv") == caught.value.uri


@pytest.mark.parametrize("source", ["s3://no-such-bucket/x.csv", "s3://no-such-bucket/*.csv"])
async def test_a_missing_bucket_is_told_from_a_missing_key(storage: S3Storage, tmp_path: Path, source: str) -> None:
    """A bucket that isn't there raises another error than a key that isn't there, for patterns too."""
    async with AsyncCatalog([Dataset("gone", source)], cache_dir=tmp_path, storage=storage) as catalog:
        with pytest.raises(BucketNotFoundError):
            await catalog.fetch_files("gone")


@pytest.mark.parametrize(
    ("variable", "value"), [("AWS_SECRET_ACCESS_KEY", "not the secret"), ("AWS_ACCESS_KEY_ID", "nobody")]
)
async def test_credentials_that_the_store_refuses_are_told(
    bucket: Bucket, storage: S3Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """A wrong secret and an unknown key id are errors of the credentials."""
    bucket.put("x.csv", b"x")
    monkeypatch.setenv(variable, value)
    async with AsyncCatalog([Dataset("x", bucket.uri("x.csv"))], cache_dir=tmp_path, storage=storage) as catalog:
        with pytest.raises(CredentialsError):
            await catalog.fetch("x")


async def test_no_text_has_the_secret(
    bucket: Bucket, storage: S3Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G13: the error of a refused secret doesn't show it."""
    bucket.put("x.csv", b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    async with AsyncCatalog([Dataset("x", bucket.uri("x.csv"))], cache_dir=tmp_path, storage=storage) as catalog:
        with pytest.raises(CredentialsError) as caught:
            await catalog.fetch("x")

    assert "not-the-secret" not in f"{caught.value!r} {caught.value}"


async def test_a_stranger_is_denied(bucket: Bucket, gateway: Gateway, tmp_path: Path) -> None:
    """Who may not read an object is told that, not that it is missing."""
    bucket.put("x.csv", b"x")
    stranger = S3Storage(endpoint_url=gateway.endpoint_url, region="us-east-1", anonymous=True)
    async with AsyncCatalog([Dataset("x", bucket.uri("x.csv"))], cache_dir=tmp_path, storage=stranger) as catalog:
        with pytest.raises(AccessDeniedError):
            await catalog.fetch("x")


async def test_one_failure_leaves_the_others_done(bucket: Bucket, storage: S3Storage, tmp_path: Path) -> None:
    """`fetch_all` finishes every other dataset before it reports the failures."""
    bucket.put("x.csv", b"x")
    datasets = [Dataset("gone", bucket.uri("gone.csv")), Dataset("x", bucket.uri("x.csv"))]
    async with AsyncCatalog(datasets, cache_dir=tmp_path, storage=storage) as catalog:
        with pytest.raises(FetchAllError) as caught:
            await catalog.fetch_all()

    assert (["gone"], ["x"]) == (list(caught.value.report.errors), list(caught.value.report))


async def test_an_object_replaced_between_two_fetches_is_fetched_again(
    bucket: Bucket, storage: S3Storage, tmp_path: Path
) -> None:
    """The second fetch returns the second version, of the same length and within the same second."""
    async with AsyncCatalog([Dataset("x", bucket.uri("x.csv"))], cache_dir=tmp_path, storage=storage) as catalog:
        bucket.put("x.csv", b"one")
        await catalog.fetch("x")
        bucket.put("x.csv", b"two")

        assert b"two" == (await catalog.fetch("x")).read_bytes()


async def test_an_object_deleted_between_two_fetches_is_missed_but_not_lost(
    bucket: Bucket, storage: S3Storage, tmp_path: Path
) -> None:
    """G4: a 404 raises, and the cached copy stays where it is."""
    async with AsyncCatalog([Dataset("x", bucket.uri("x.csv"))], cache_dir=tmp_path, storage=storage) as catalog:
        bucket.put("x.csv", b"one")
        path = await catalog.fetch("x")
        bucket.delete("x.csv")
        with pytest.raises(ObjectNotFoundError):
            await catalog.fetch("x")

    assert b"one" == path.read_bytes()


async def test_many_cached_objects_are_revalidated_by_a_listing(
    bucket: Bucket, storage: S3Storage, tmp_path: Path
) -> None:
    """One request for all, whatever their names and however they were uploaded; and what has changed is noticed."""
    keys = [
        f"many/{name}" for name in ("a b", "c+d", "100%", "%20", "ümlaut", "日本-🦆", "x/y", "x/y/z", "&<>\"'", "~")
    ]
    keys += [f"zz/{number}" for number in range(10)]
    bucket.put_many((key, key.encode()) for key in keys)
    bucket.put_many((f"others/{number:04}", b"x") for number in range(300))
    bucket.put_in_parts("zz/large", 9 * MIB, seed=3)
    datasets = [Dataset(f"{number}", bucket.uri(key)) for number, key in enumerate([*keys, "zz/large"])]
    async with AsyncCatalog(datasets, cache_dir=tmp_path, storage=storage) as catalog:
        await catalog.fetch_all()
        again = await catalog.fetch_all()
        bucket.put("zz/5", b"other")
        changed = await catalog.fetch_all()

    assert (2, {"revalidated"}) == (again.requests, {result.action for result in again.values()})
    downloaded = [result.path.read_bytes() for result in changed.values() if result.action == "downloaded"]
    assert ([b"other"], 3) == (downloaded, changed.requests)


async def test_who_may_not_list_is_asked_for_each(bucket: Bucket, gateway: Gateway, tmp_path: Path) -> None:
    """Objects that everybody may read, in a bucket that only its owner may list."""
    for number in range(20):
        bucket.client.put_object(Bucket=bucket.name, Key=f"{number}", Body=b"x", ACL="public-read")
    stranger = S3Storage(endpoint_url=gateway.endpoint_url, region="us-east-1", anonymous=True)
    datasets = [Dataset(f"{number}", bucket.uri(f"{number}")) for number in range(20)]
    async with AsyncCatalog(datasets, cache_dir=tmp_path, storage=stranger) as catalog:
        await catalog.fetch_all()
        requests = [(await catalog.fetch_all()).requests for _ in range(2)]

    assert [21, 20] == requests


async def test_an_object_replaced_while_it_is_downloaded_arrives_whole(
    bucket: Bucket, storage: S3Storage, tmp_path: Path
) -> None:
    """G5: the download starts again with the new version; no torn file, and no error."""
    bucket.put("x.bin", noise(4 * MIB, seed=1))
    replacement = noise(5 * MIB, seed=2)
    async with AsyncCatalog(
        [Dataset("x", bucket.uri("x.bin"))],
        cache_dir=tmp_path,
        storage=ReplacedMidway(storage, lambda: bucket.put("x.bin", replacement)),
        config=CatalogConfig(part_bytes=MIB),
    ) as catalog:
        assert sha256(replacement) == sha256((await catalog.fetch("x")).read_bytes())


async def test_the_newest_version_of_a_versioned_object_is_read(
    bucket: Bucket, storage: S3Storage, tmp_path: Path
) -> None:
    """In a bucket that keeps versions, a fetch without one means the newest."""
    bucket.keep_versions()
    bucket.put("x.csv", b"one")
    bucket.put("x.csv", b"two")
    async with AsyncCatalog([Dataset("x", bucket.uri("x.csv"))], cache_dir=tmp_path, storage=storage) as catalog:
        assert b"two" == (await catalog.fetch("x")).read_bytes()


async def test_an_object_under_a_delete_marker_is_missing(bucket: Bucket, storage: S3Storage, tmp_path: Path) -> None:
    """In a bucket that keeps versions, a deleted object is not there, although its versions are."""
    bucket.keep_versions()
    bucket.put("x.csv", b"one")
    bucket.delete("x.csv")
    async with AsyncCatalog([Dataset("x", bucket.uri("x.csv"))], cache_dir=tmp_path, storage=storage) as catalog:
        with pytest.raises(ObjectNotFoundError):
            await catalog.fetch("x")


async def test_an_interrupted_download_is_resumed(bucket: Bucket, storage: S3Storage, tmp_path: Path) -> None:
    """G3: what was cancelled goes on with what it lacks, demanding the very version."""
    content = noise(6 * MIB, seed=5)
    bucket.put("large.bin", content)
    started = anyio.Event()

    def watch(event: Event) -> None:
        if isinstance(event, TransferAdvanced) and event.received_bytes >= MIB:
            started.set()

    datasets = [Dataset("x", bucket.uri("large.bin"))]
    config = CatalogConfig(part_bytes=MIB, max_concurrency=1)
    async with AsyncCatalog(datasets, cache_dir=tmp_path, storage=storage, config=config, progress=watch) as catalog:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(catalog.fetch, "x")
            await started.wait()
            tasks.cancel_scope.cancel()
        result = (await catalog.fetch_all())["x"]
    assert sha256(content) == sha256(result.path.read_bytes())
    assert result.bytes_downloaded < len(content)


async def test_an_object_encrypted_with_a_key_of_the_customer_is_read(
    bucket: Bucket, gateway: Gateway, tmp_path: Path
) -> None:
    """With the key as it was written, in parts and revalidated; without it the store refuses."""
    key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
    content = noise(2 * MIB, seed=6)
    bucket.client.put_object(Bucket=bucket.name, Key="x", Body=content, **key)
    datasets = [Dataset("x", bucket.uri("x"))]
    config = CatalogConfig(part_bytes=MIB, retries=0)
    for encryption in (key, None):
        storage = S3Storage(endpoint_url=gateway.endpoint_url, region="us-east-1", server_side_encryption=encryption)
        cache_dir = tmp_path / str(encryption is None)
        async with AsyncCatalog(
            datasets, cache_dir=cache_dir, storage=storage, config=config, progress=False
        ) as catalog:
            if encryption is None:
                with pytest.raises(StorageError):
                    await catalog.fetch("x")
            else:
                assert sha256(content) == sha256((await catalog.fetch("x")).read_bytes())
                assert "revalidated" == (await catalog.fetch_all())["x"].action
