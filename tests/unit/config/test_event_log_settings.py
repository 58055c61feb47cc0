"""The settings of the event log and of retention."""

from __future__ import annotations

import pytest

from config.description import describe
from config.settings import Settings, load
from pipeline.errors import InvalidConfiguration


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("all", "all"),
        ("None", "none"),
        ('["page_view", "sale"]', ["page_view", "sale"]),
        ("[]", []),
    ],
)
def test_what_is_logged(monkeypatch: pytest.MonkeyPatch, given: str, meant: object) -> None:
    monkeypatch.setenv("ANALYTICS_EVENT_LOG", given)
    settings = load()
    assert settings.event_log == meant
    [row] = [row for row in describe(settings) if row.name == "ANALYTICS_EVENT_LOG"]
    assert row.value in (given, given.lower())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("some", "must be all, none or a JSON list"),
        ("page_view,sale", "must be all, none or a JSON list"),
        ('{"a": 1}', "must be all, none or a JSON list"),
        ("[1]", "must be all, none or a JSON list"),
        ('[""]', "cannot be an event type"),
    ],
)
def test_what_cannot_be_logged(monkeypatch: pytest.MonkeyPatch, given: str, said: str) -> None:
    monkeypatch.setenv("ANALYTICS_EVENT_LOG", given)
    with pytest.raises(InvalidConfiguration) as caught:
        load()
    assert "\n" not in str(caught.value)
    assert said in str(caught.value)
    assert "ANALYTICS_EVENT_LOG=" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EVENT_LOG_PARTITIONS", "17"),
        ("EVENT_LOG_PARTITIONS", "0"),
        ("EVENT_LOG_MAX_BYTES", "0"),
        ("EVENT_LOG_MAX_ENTRIES", "many"),
        ("EVENTS_RETENTION_DAYS", "-1"),
        ("COUNTERS_RETENTION_DAYS", "1.5"),
    ],
)
def test_numbers_out_of_range(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"ANALYTICS_{name}", value)
    with pytest.raises(InvalidConfiguration, match=rf"ANALYTICS_{name}=.*must be a whole number"):
        load()


def test_the_defaults() -> None:
    settings = Settings()
    assert settings.event_log == "all"
    assert (settings.events_retention_days, settings.counters_retention_days) == (90, 400)
