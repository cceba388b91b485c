"""Events as spans and metrics, against OpenTelemetry's own SDK, with its exporters in memory."""

from __future__ import annotations

import pickle
import subprocess
import sys
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import (
    aws_attributes,
    error_attributes,
    exception_attributes,
    file_attributes,
    http_attributes,
    network_attributes,
    url_attributes,
)
from opentelemetry.trace import SpanKind, StatusCode

from datacachalog import (
    AsyncCatalog,
    Catalog,
    CatalogConfig,
    Dataset,
    FetchAllError,
    RouterStorage,
    S3Storage,
)
from datacachalog.integrations.opentelemetry import OpenTelemetryObserver
from datacachalog.ports import FileFinished, OperationFinished, OperationStarted
from datacachalog.testing import FaultServer, Status


@pytest.fixture
def telemetry():
    """An SDK that keeps what it gets."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    meters = MeterProvider([reader], shutdown_on_exit=False)
    yield SimpleNamespace(
        spans=spans.get_finished_spans,
        metrics=lambda: metrics_of(reader),
        tracers=tracers,
        observer=OpenTelemetryObserver(tracers, meters),
    )
    meters.shutdown()
    tracers.shutdown()


def metrics_of(reader: InMemoryMetricReader) -> dict[str, tuple[str, dict[tuple[str, ...], float]]]:
    """Name → unit, and value or count by the values of the attributes."""
    data = reader.get_metrics_data()
    return {
        metric.name: (
            metric.unit,
            {
                tuple(str(value) for value in point.attributes.values()): getattr(point, "value", None)
                if hasattr(point, "value")
                else point.count
                for point in metric.data.data_points
            },
        )
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def arguments(server: FaultServer, tmp_path, observer, *names: str) -> dict[str, object]:
    return {
        "datasets": [Dataset(name, f"s3://bucket/dir/{name}") for name in names],
        "cache_dir": tmp_path / "cache",
        "storage": RouterStorage({"s3": S3Storage(endpoint_url=server.endpoint_url)}),
        "config": CatalogConfig(retries=1),
        "progress": observer,
    }


def test_operation_is_a_span_below_the_callers(server, tmp_path, telemetry):
    """The blocking catalog works in a thread of its own, and its spans belong to its caller's trace all the same."""
    server.put("bucket", "dir/a", b"content")
    tracer = telemetry.tracers.get_tracer("test")
    catalog = Catalog(**arguments(server, tmp_path, telemetry.observer, "a"))
    with catalog, tracer.start_as_current_span("caller") as caller:
        catalog.fetch("a")
    download, fetch, _ = telemetry.spans()
    assert ("datacachalog fetch", caller.get_span_context()) == (fetch.name, fetch.parent)
    assert ("datacachalog download", SpanKind.CLIENT) == (download.name, download.kind)
    assert fetch.get_span_context() == download.parent


async def test_operations_of_many_tasks_keep_to_their_callers(server, tmp_path, telemetry):
    """Calls overlap, and each is in its own caller's trace."""
    import anyio

    for name in "ab":
        server.put("bucket", f"dir/{name}", b"content")
    tracer = telemetry.tracers.get_tracer("test")
    callers = {}

    async with AsyncCatalog(**arguments(server, tmp_path, telemetry.observer, "a", "b")) as catalog:

        async def one(name):
            with tracer.start_as_current_span(f"caller {name}") as span:
                callers[span.get_span_context().span_id] = name
                await catalog.fetch(name)

        async with anyio.create_task_group() as tasks:
            for name in "ab":
                tasks.start_soon(one, name)
    fetches = {
        s.get_span_context().span_id: callers[s.parent.span_id] for s in telemetry.spans() if s.name.endswith("fetch")
    }
    downloads = [span for span in telemetry.spans() if span.name.endswith("download")]
    assert {("a", "a"), ("b", "b")} == {
        (span.attributes["datacachalog.dataset"], fetches[span.parent.span_id]) for span in downloads
    }


def test_attributes_have_the_names_of_the_conventions(server, tmp_path, telemetry):
    """Bucket, key, size, repeated requests."""
    server.put("bucket", "dir/a", b"content")
    server.add_faults(Status(503))
    with Catalog(**arguments(server, tmp_path, telemetry.observer, "a")) as catalog:
        catalog.fetch("a")
    download, fetch = telemetry.spans()
    assert {
        "datacachalog.dataset": "a",
        "datacachalog.action": "downloaded",
        aws_attributes.AWS_S3_BUCKET: "bucket",
        aws_attributes.AWS_S3_KEY: "dir/a",
        file_attributes.FILE_SIZE: 7,
        http_attributes.HTTP_REQUEST_RESEND_COUNT: 1,
    } == dict(download.attributes)
    assert ["retry"] == [event.name for event in (*fetch.events, *download.events)]


def test_failure_is_an_error_with_its_type(server, tmp_path, telemetry):
    """Of the whole operation, and of each dataset that failed."""
    catalog = Catalog(**arguments(server, tmp_path, telemetry.observer, "gone"))
    with catalog, pytest.raises(FetchAllError):
        catalog.fetch_all()
    [fetch] = telemetry.spans()
    [event] = fetch.events
    assert StatusCode.ERROR == fetch.status.status_code
    assert "ObjectNotFoundError" == fetch.attributes[error_attributes.ERROR_TYPE]
    assert ("gone", "ObjectNotFoundError") == (
        event.attributes["datacachalog.dataset"],
        event.attributes[error_attributes.ERROR_TYPE],
    )
    assert "s3://bucket/dir/gone" in event.attributes[exception_attributes.EXCEPTION_MESSAGE]
    assert ("{dataset}", {("ObjectNotFoundError",): 1}) == telemetry.metrics()["datacachalog.dataset.failures"]


def test_metrics_count_what_was_done(server, tmp_path, telemetry):
    """Files by action, bytes by direction, retries, and how long calls took; with units."""
    server.put("bucket", "dir/a", b"content")
    server.add_faults(Status(503))
    (tmp_path / "new").write_bytes(b"newer content")
    with Catalog(**arguments(server, tmp_path, telemetry.observer, "a")) as catalog:
        catalog.fetch("a")
        catalog.fetch("a")
        catalog.push("a", tmp_path / "new")
    found = telemetry.metrics()
    assert ("{file}", {("downloaded",): 1, ("revalidated",): 1, ("uploaded",): 1}) == found["datacachalog.files"]
    assert ("By", {("receive",): 7, ("transmit",): 13}) == found["datacachalog.network.io"]
    assert ("{retry}", {(): 1}) == found["datacachalog.request.retries"]
    assert ("s", {("fetch",): 2, ("push",): 1}) == found["datacachalog.operation.duration"]
    assert "network.io.direction" == network_attributes.NETWORK_IO_DIRECTION


def test_cancelled_operation_ends_its_spans(telemetry):
    """None is left open, and the error says that it was cancelled."""
    observer = telemetry.observer
    observer(OperationStarted(operation=1, datasets=1))
    observer(OperationFinished(operation=1, seconds=1.0, finished=0, failed=0, bytes_downloaded=0, is_cancelled=True))
    [fetch] = telemetry.spans()
    assert "CancelledError" == fetch.attributes[error_attributes.ERROR_TYPE]


@pytest.mark.parametrize(
    ("uri", "name", "expected"),
    [
        ("https://me:hunter2@host/a?signature=hunter2", url_attributes.URL_FULL, "https://host/a?…"),
        ("gs://bucket/a", url_attributes.URL_FULL, "gs://bucket/a"),
        ("/data/a.csv", file_attributes.FILE_PATH, "/data/a.csv"),
    ],
)
def test_g13_no_secret_of_a_uri_is_in_a_span(telemetry, uri, name, expected):
    """A URL is there without its user and its query; a path as a path."""
    observer = telemetry.observer
    observer(OperationStarted(operation=1, datasets=1))
    observer(FileFinished(operation=1, dataset="a", uri=uri, action="downloaded", size_bytes=1))
    [download] = telemetry.spans()
    assert (expected, False) == (download.attributes[name], "hunter2" in str(download.attributes))


def test_pickled_observer_uses_the_global_providers(server, tmp_path, telemetry):
    """So a catalog with an observer can be given to a process pool."""
    copy = pickle.loads(pickle.dumps(telemetry.observer))
    server.put("bucket", "dir/a", b"content")
    with Catalog(**arguments(server, tmp_path, copy, "a")) as catalog:
        assert b"content" == catalog.fetch("a").read_bytes()
    assert () == telemetry.spans()


def test_nothing_is_imported_unless_it_is_wanted():
    """A program without telemetry doesn't pay for it."""
    code = "from datacachalog import Catalog; Catalog([]); import sys; print('opentelemetry' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "False\n" == done.stdout
