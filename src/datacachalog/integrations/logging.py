"""How does what happens come into the program's log? As records of `logging` with the facts beside the text."""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import assert_never

from .._errors import redact_uri
from ..ports import (
    DatasetFailed,
    DatasetFinished,
    DatasetResolved,
    Event,
    FileFinished,
    OperationFinished,
    OperationStarted,
    RequestRetried,
    TransferAdvanced,
    TransferAwaited,
    TransferRestarted,
    TransferStarted,
    UnpackStarted,
)


class LoggingObserver:
    """An observer that logs each event but `TransferAdvanced`, of which there are many.

    The fields of the event are attributes of the record, and so is `event`, its name: a formatter that writes JSON has
    them as keys. Errors are `ERROR`; retries, restarts and copies that may be out of date `WARNING`; files that were
    transferred and the ends of operations `INFO`; the rest `DEBUG`. It pickles. A handler that writes to a slow place
    belongs behind a `logging.handlers.QueueHandler`, because it is called on the catalog's event loop.

    Args:
        name: of the logger.
    """

    def __init__(self, name: str = "datacachalog.events") -> None:
        self.name = name

    def __call__(self, event: Event) -> None:
        """Log an event."""
        logger, level = logging.getLogger(self.name), _level_of(event)
        if level is None or not logger.isEnabledFor(level):
            return
        facts = {field.name: getattr(event, field.name) for field in fields(event)}
        if "uri" in facts:
            facts["uri"] = redact_uri(facts["uri"])
        text = ", ".join(f"{name}={value}" for name, value in facts.items())
        name = type(event).__name__
        logger.log(level, "%s: %s", name, text, extra={"event": name, **facts})


def _level_of(event: Event) -> int | None:
    match event:
        case TransferAdvanced():
            return None
        case DatasetFailed():
            return logging.ERROR
        case RequestRetried() | TransferRestarted() | FileFinished(action="stale"):
            return logging.WARNING
        case OperationFinished() | FileFinished(action="downloaded" | "uploaded"):
            return logging.INFO
        case (
            OperationStarted()
            | DatasetResolved()
            | TransferStarted()
            | TransferAwaited()
            | UnpackStarted()
            | FileFinished()
            | DatasetFinished()
        ):
            return logging.DEBUG
        case _:
            assert_never(event)
