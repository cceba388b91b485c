"""The settings: bounds, environment, catalog file, and which goes before which."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest

from datacachalog import CatalogConfig, ConfigurationError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("part_bytes", 1023),
        ("part_bytes", 8.0),
        ("part_bytes", "8MiB"),
        ("max_concurrency", 0),
        ("max_concurrency", True),
        ("retries", -1),
        ("restarts", -1),
        ("connect_timeout_seconds", 0),
        ("read_timeout_seconds", -1),
        ("read_timeout_seconds", float("nan")),
        ("read_timeout_seconds", "30"),
        ("retry_deadline_seconds", -1),
        ("max_age_seconds", -0.1),
        ("lock_wait_seconds", -1),
        ("cache_max_bytes", -1),
        ("cache_max_bytes", 1e9),
        ("cache_min_free_bytes", "10GiB"),
        ("eviction_grace_seconds", -1),
        ("on_unreachable", "ignore"),
        ("offline", 1),
        ("offline", "yes"),
    ],
)
def test_value_that_cannot_be_is_refused_by_name(name, value):
    """A value out of range, or of another type, is refused with the setting's name and the value."""
    with pytest.raises(ConfigurationError, match=name) as caught:
        CatalogConfig(**{name: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("part_bytes", 1024), ("max_concurrency", 1), ("retries", 0), ("restarts", 0), ("max_age_seconds", 0)],
)
def test_bounds_are_inclusive(name, value):
    """The least value is a value."""
    assert value == getattr(CatalogConfig(**{name: value}), name)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("part_bytes", "2048", 2048),
        ("max_concurrency", " 8 ", 8),
        ("connect_timeout_seconds", "2.5", 2.5),
        ("read_timeout_seconds", "60", 60.0),
        ("retries", "0", 0),
        ("restarts", "1", 1),
        ("retry_deadline_seconds", "0", 0.0),
        ("max_age_seconds", "3600", 3600.0),
        ("lock_wait_seconds", "1", 1.0),
        ("cache_max_bytes", "1000", 1000),
        ("cache_min_free_bytes", "0", 0),
        ("eviction_grace_seconds", "0", 0.0),
        ("on_unreachable", "raise", "raise"),
        ("offline", "1", True),
        ("offline", "Yes", True),
        ("offline", "0", False),
        ("offline", "off", False),
        ("offline", "", False),
    ],
)
def test_environment_gives_each_setting(monkeypatch, name, text, expected):
    """`DATACACHALOG_<FIELD>` is the setting's default; an empty one is none."""
    monkeypatch.setenv(f"DATACACHALOG_{name.upper()}", text)
    assert expected == getattr(CatalogConfig(), name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("part_bytes", "8MiB"),
        ("part_bytes", "8.5"),
        ("part_bytes", "1"),
        ("retries", "many"),
        ("read_timeout_seconds", "nan"),
        ("offline", "maybe"),
        ("on_unreachable", "ignore"),
    ],
)
def test_environment_that_cannot_be_read_is_refused_by_name(monkeypatch, name, text):
    """A text that is no such value is refused with the setting's name and the text."""
    monkeypatch.setenv(f"DATACACHALOG_{name.upper()}", text)
    with pytest.raises(ConfigurationError, match=f"(?i){name}"):
        CatalogConfig()


def test_argument_goes_before_environment_before_file_before_default(monkeypatch):
    """The order in which a setting is looked for."""
    monkeypatch.setenv("DATACACHALOG_RETRIES", "7")
    found = CatalogConfig.from_mapping({"retries": 3, "restarts": 2})
    assert (1, 7, 2, 64) == (CatalogConfig(retries=1).retries, found.retries, found.restarts, found.max_concurrency)


def test_unknown_setting_is_refused_with_those_there_are():
    """A misspelt key of the catalog file is an error that lists the keys."""
    with pytest.raises(ConfigurationError, match=r"unknown setting 'retry'.*retries"):
        CatalogConfig.from_mapping({"retry": 3})


def test_every_field_is_documented():
    """Each setting has its line under Args."""
    assert [] == [
        field.name
        for field in fields(CatalogConfig)
        if f"\n    {field.name}: " not in inspect.cleandoc(CatalogConfig.__doc__)  # 3.13 does that by itself
    ]
