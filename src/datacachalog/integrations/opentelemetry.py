"""How does what happens come into traces and metrics? By OpenTelemetry's API, in the words of its conventions.

A span for each operation, a child of the caller's span; below it one for each file that is transferred. Names and units
are those of https://opentelemetry.io/docs/specs/semconv/ where it has them (object stores, URLs, files, errors), and
begin with `datacachalog.` where it doesn't. No query and no user part of a URI leaves this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from .._errors import redact_uri
from .._sources import split_uri
from ..ports import (
    DatasetFailed,
    Event,
    FileFinished,
    OperationFinished,
    OperationStarted,
    RequestRetried,
    TransferRestarted,
    TransferStarted,
)

_SCOPE = "datacachalog"
_DURATIONS = (0.005, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Bounds of the histogram's buckets, in seconds: a warm fetch takes a thousandth, a catalog of terabytes an hour."""


@dataclass(slots=True)
class _Operation:
    """An operation that is running: its span, and those of its transfers by dataset and URI."""

    span: Span
    kind: str
    transfers: dict[tuple[str, str], Span] = field(default_factory=dict)
    resent: dict[tuple[str, str], int] = field(default_factory=dict)
    error_type: str | None = None


class OpenTelemetryObserver:
    """An observer that makes spans and metrics of events.

    May serve several catalogs. A pickled one uses the global providers of the process that it comes to.

    Args:
        tracer_provider: None means the global one.
        meter_provider: None means the global one.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)
        self._operations: dict[int, _Operation] = {}
        self._duration = meter.create_histogram(
            "datacachalog.operation.duration",
            unit="s",
            description="How long calls took.",
            explicit_bucket_boundaries_advisory=_DURATIONS,
        )
        self._io = meter.create_counter(
            "datacachalog.network.io", unit="By", description="Bytes of files that were received and sent."
        )
        self._files = meter.create_counter(
            "datacachalog.files", unit="{file}", description="Files that are there, by what was done for them."
        )
        self._failures = meter.create_counter(
            "datacachalog.dataset.failures", unit="{dataset}", description="Datasets that failed, by their error."
        )
        self._retries = meter.create_counter(
            "datacachalog.request.retries", unit="{retry}", description="Requests that were sent again."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    def __call__(self, event: Event) -> None:
        """Record an event."""
        if isinstance(event, OperationStarted):
            attributes = {"datacachalog.operation": event.kind, "datacachalog.datasets": event.datasets}
            span = self._tracer.start_span(f"datacachalog {event.kind}", attributes=attributes)
            self._operations[event.operation] = _Operation(span, event.kind)
            return
        operation = self._operations.get(event.operation)
        if operation is None:
            return
        match event:
            case TransferStarted(dataset=dataset, uri=uri):
                self._transfer(operation, dataset, uri)
            case TransferRestarted(dataset=dataset, uri=uri, restart=restart):
                self._transfer(operation, dataset, uri).add_event("restart", {"datacachalog.restart": restart})
            case RequestRetried(dataset=dataset, uri=uri):
                self._retries.add(1)
                operation.resent[dataset, uri] = operation.resent.get((dataset, uri), 0) + 1
                span = operation.transfers.get((dataset, uri), operation.span)
                span.add_event("retry", {**_attributes(dataset, uri), "datacachalog.delay": event.delay_seconds})
            case FileFinished():
                self._finish_file(operation, event)
            case DatasetFailed(dataset=dataset, error_type=error_type):
                operation.error_type = operation.error_type or error_type
                failed = {"datacachalog.dataset": dataset, "error.type": error_type}
                self._failures.add(1, {"error.type": error_type})
                operation.span.add_event("dataset failed", {**failed, "exception.message": event.reason})
                _end([span for key, span in operation.transfers.items() if key[0] == dataset], error_type)
                operation.transfers = {key: span for key, span in operation.transfers.items() if key[0] != dataset}
            case OperationFinished():
                self._finish_operation(self._operations.pop(event.operation), event)

    def _transfer(self, operation: _Operation, dataset: str, uri: str) -> Span:
        """Give the span of a transfer, begun now if it isn't yet."""
        span = operation.transfers.get((dataset, uri))
        if span is None:
            span = self._tracer.start_span(
                "datacachalog upload" if operation.kind == "push" else "datacachalog download",
                context=trace.set_span_in_context(operation.span),
                kind=SpanKind.CLIENT,
                attributes=_attributes(dataset, uri),
            )
            operation.transfers[dataset, uri] = span
        return span

    def _finish_file(self, operation: _Operation, event: FileFinished) -> None:
        self._files.add(1, {"datacachalog.action": event.action})
        for direction, size in (("receive", event.bytes_downloaded), ("transmit", event.bytes_uploaded)):
            if size:
                self._io.add(size, {"network.io.direction": direction})
        key = event.dataset, event.uri
        if event.action in ("downloaded", "uploaded") or key in operation.transfers:
            span = self._transfer(operation, *key)
            del operation.transfers[key]
            span.set_attribute("file.size", event.size_bytes)
            span.set_attribute("datacachalog.action", event.action)
            if key in operation.resent:
                span.set_attribute("http.request.resend_count", operation.resent[key])
            span.end()

    def _finish_operation(self, operation: _Operation, event: OperationFinished) -> None:
        error_type = operation.error_type or ("CancelledError" if event.is_cancelled else None)
        _end(list(operation.transfers.values()), error_type)
        attributes = {"datacachalog.operation": operation.kind}
        if error_type is not None:
            attributes["error.type"] = error_type
        self._duration.record(event.seconds, attributes)
        operation.span.set_attribute("datacachalog.datasets.failed", event.failed)
        _end([operation.span], error_type)


def _end(spans: list[Span], error_type: str | None) -> None:
    for span in spans:
        if error_type is not None:
            span.set_status(StatusCode.ERROR)
            span.set_attribute("error.type", error_type)
        span.end()


def _attributes(dataset: str, uri: str) -> Mapping[str, str]:
    """Give what the conventions say of an object: of S3, of a file, or a URL without what may be secret."""
    public = redact_uri(uri)
    scheme, bucket, key = split_uri(public)
    if scheme == "s3":
        return {"datacachalog.dataset": dataset, "aws.s3.bucket": bucket, "aws.s3.key": key}
    name = "file.path" if scheme == "file" else "url.full"
    return {"datacachalog.dataset": dataset, name: public}
