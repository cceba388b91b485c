"""How does user code look to a type checker? Read by mypy and pyright in strict mode; never run."""

# pyright: strict

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, assert_type

from cloudpathlib import S3Path
from upath import UPath

from datacachalog import (
    AsyncCatalog,
    CacheInfo,
    CachePort,
    Catalog,
    CatalogConfig,
    Dataset,
    DatasetStatus,
    FetchAllError,
    FetchReport,
    FetchResult,
    FileCache,
    FileMetadata,
    FilesystemStorage,
    Freshness,
    ObjectVersion,
    Observer,
    Plan,
    PushAllError,
    PushReport,
    Reader,
    RouterStorage,
    S3Storage,
    StoragePort,
)

DATASETS = [
    Dataset("customers", "s3://bucket/customers.parquet", max_age=60, tags=["crm"]),
    Dataset("orders", Path("orders") / "*.csv", reader=list),
    Dataset("survey", "s3://bucket/survey.bin", unpack="zip"),
    Dataset("events", UPath("s3://bucket/events.parquet")),
    Dataset("prices", S3Path("s3://bucket/prices.json")),
]


def ports() -> tuple[StoragePort, CachePort]:
    """Every adapter is accepted where its port is asked for."""
    storages: list[StoragePort] = [
        S3Storage(endpoint_url="http://localhost:9000", anonymous=True),
        FilesystemStorage(),
        RouterStorage({"s3": S3Storage(profile="research"), "file": FilesystemStorage()}),
    ]
    cache: CachePort = FileCache("cache")
    return storages[0], cache


def readers_and_observers() -> tuple[Reader, Observer]:
    """Plain functions are readers and observers."""

    def read(path: Path, *, columns: list[str]) -> int:
        return len(columns) + path.stat().st_size

    events: list[object] = []
    return read, events.append


def blocking() -> None:
    """The blocking methods return values."""
    storage, cache = ports()
    reader, observer = readers_and_observers()
    Catalog.discover("project", offline=True).close()
    with Catalog(DATASETS, config=CatalogConfig(retries=2), storage=storage, cache=cache, progress=observer) as catalog:
        assert_type(catalog.fetch("customers", force=True, offline=False), Path)
        assert_type(catalog.fetch_files("orders"), list[Path])
        assert_type(catalog.fetch("customers", as_of=datetime(2026, 1, 1, tzinfo=UTC)), Path)
        assert_type(catalog.versions("customers", limit=3), list[ObjectVersion])
        assert_type(catalog.lock(["customers"]), Path)
        assert_type(catalog.plan(["customers"]), Plan)
        assert_type(catalog.load("customers", reader, columns=["id"]), Any)
        assert_type(catalog.load("customers", as_="polars", columns=["id"]), Any)
        assert_type(catalog.is_stale("customers"), bool)
        assert_type(catalog.status(), list[DatasetStatus])
        assert_type(catalog.push("customers", Path("new.parquet"), on_conflict="overwrite"), FileMetadata)
        try:
            pushed = catalog.push_all({"customers": "new.parquet"})
        except PushAllError as error:
            pushed = error.report
        assert_type(pushed, PushReport)
        assert_type(pushed["customers"], FileMetadata)
        assert_type(catalog.invalidate("customers"), int)
        assert_type(catalog.cache_info(), CacheInfo)
        assert_type(catalog.evict(max_bytes=10**9), int)
        assert_type(catalog.clean(), int)
        with catalog.open_path("customers") as path:
            assert_type(path, Path)
        assert_type(catalog.datasets, list[Dataset])
        assert_type(catalog.get_dataset("customers"), Dataset)
        try:
            report = catalog.fetch_all()
        except FetchAllError as error:
            report = error.report
        assert_type(report, FetchReport)
        errors: Mapping[str, Exception] = report.errors
        result: FetchResult = report["customers"]
        with open(result, "rb") as file:
            assert_type(file.read(), bytes)
        if not errors and catalog.status()[0].freshness is Freshness.FRESH:
            assert_type(result.path, Path)


async def awaited() -> None:
    """The async methods return the same, awaited."""
    async with AsyncCatalog(DATASETS, cache_dir="cache", progress=False) as catalog:
        assert_type(await catalog.fetch("customers"), Path)
        assert_type(await catalog.fetch("customers", version_id="v"), Path)
        assert_type(await catalog.versions("customers"), list[ObjectVersion])
        assert_type(await catalog.lock(path="datacachalog.lock"), Path)
        assert_type(await catalog.fetch_files("orders", offline=True, on_unreachable="raise"), list[Path])
        assert_type(await catalog.fetch_all(["orders"], on_error="collect"), FetchReport)
        assert_type(await catalog.plan(), Plan)
        assert_type(await catalog.is_stale("customers"), bool)
        assert_type(await catalog.push("customers", "new.parquet"), FileMetadata)
        assert_type(await catalog.push_all({"customers": "new.parquet"}, on_error="collect"), PushReport)
        assert_type(await catalog.status(["orders"]), list[DatasetStatus])
        assert_type(await catalog.invalidate("customers"), int)
        assert_type(await catalog.cache_info(), CacheInfo)
        assert_type(await catalog.evict(min_free_bytes=10**9), int)
        async with catalog.open_path("customers") as path:
            assert_type(path, Path)


def in_fastapi() -> None:
    """The lifespan fits FastAPI."""
    from fastapi import FastAPI

    FastAPI(lifespan=AsyncCatalog(DATASETS).lifespan)


CHECKED: tuple[Callable[..., object], ...] = (blocking, awaited, in_fastapi)
