"""Events in the program's log."""

from __future__ import annotations

import logging
import pickle

import pytest

from datacachalog import Catalog, CatalogConfig, Dataset, FetchAllError, StaleDataWarning
from datacachalog.integrations.logging import LoggingObserver
from datacachalog.ports import FileFinished
from datacachalog.testing import FaultyStorage, MemoryStorage, Unreachable


@pytest.fixture
def memory() -> MemoryStorage:
    storage = MemoryStorage()
    storage.put("mem://bucket/a", b"content")
    return storage


def catalog(tmp_path, storage, *names: str, observer=None, retries: int = 0) -> Catalog:
    return Catalog(
        [Dataset(name, f"mem://bucket/{name}") for name in names],
        cache_dir=tmp_path,
        storage=storage,
        config=CatalogConfig(retries=retries),
        progress=observer or LoggingObserver(),
    )


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.event) for record in caplog.records if record.name == "datacachalog.events"]


def test_events_are_records_with_their_facts(tmp_path, memory, caplog):
    """Each field is an attribute of the record, for formatters that write JSON; the text has them too."""
    caplog.set_level(logging.DEBUG, "datacachalog.events")
    with catalog(tmp_path, memory, "a") as one:
        one.fetch("a")
    names = [name for _, name in logged(caplog)]
    assert ("OperationStarted", "OperationFinished", False) == (names[0], names[-1], "TransferAdvanced" in names)
    [record] = [record for record in caplog.records if getattr(record, "event", "") == "FileFinished"]
    assert ("a", "mem://bucket/a", "downloaded", 7) == (record.dataset, record.uri, record.action, record.size_bytes)
    assert "FileFinished: operation=" in record.getMessage()


def test_what_went_well_is_info_and_little_of_it(tmp_path, memory, caplog):
    """At the level of most programs: the files that were transferred, and the sums."""
    caplog.set_level(logging.INFO, "datacachalog.events")
    with catalog(tmp_path, memory, "a") as one:
        one.fetch("a")
        one.fetch("a")
    assert [("INFO", "FileFinished"), ("INFO", "OperationFinished"), ("INFO", "OperationFinished")] == logged(caplog)


def test_what_went_wrong_is_louder(tmp_path, memory, caplog):
    """Retries and copies that may be out of date are warnings, failures are errors."""
    caplog.set_level(logging.WARNING, "datacachalog.events")
    storage = FaultyStorage(memory, faults=[Unreachable()])
    with catalog(tmp_path, storage, "a", "gone", retries=1) as one, pytest.raises(FetchAllError):
        one.fetch_all()
    assert {("WARNING", "RequestRetried"), ("ERROR", "DatasetFailed")} == set(logged(caplog))
    [failed] = [record for record in caplog.records if getattr(record, "event", "") == "DatasetFailed"]
    assert ("gone", "ObjectNotFoundError") == (failed.dataset, failed.error_type)
    caplog.clear()
    with catalog(tmp_path, FaultyStorage(memory, faults=[Unreachable()]), "a") as one, pytest.warns(StaleDataWarning):
        one.fetch("a")
    assert [("WARNING", "FileFinished")] == logged(caplog)


def test_g13_no_secret_of_a_uri_is_logged(caplog):
    """A signed URL is logged without its query, and without a user."""
    caplog.set_level(logging.DEBUG, "datacachalog.events")
    uri = "https://me:hunter2@host/a?signature=hunter2"
    LoggingObserver()(FileFinished(operation=1, dataset="a", uri=uri, action="cached", size_bytes=1))
    [record] = caplog.records
    assert ("https://host/a?…", False) == (record.uri, "hunter2" in record.getMessage())


def test_logger_has_the_name_that_is_given(tmp_path, memory, caplog):
    """Also after pickling, as a catalog is pickled with its observer."""
    caplog.set_level(logging.INFO)
    observer = pickle.loads(pickle.dumps(LoggingObserver("shop.data")))
    with catalog(tmp_path, memory, "a", observer=observer) as one:
        one.fetch("a")
    assert {"shop.data"} == {record.name for record in caplog.records if hasattr(record, "event")}
