"""The settings of page views: names that exist, and an entry page only with sessions."""

from __future__ import annotations

import os

import pytest

from config.settings import load
from pipeline.contract import PAGE_PROPERTIES
from pipeline.errors import InvalidConfiguration

EVERY = '["referrer_host", "utm", "device", "browser", "system", "entry_page"]'


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("ANALYTICS_"):
            monkeypatch.delenv(name)


def test_nothing_is_added_unless_it_is_asked_for() -> None:
    settings = load()
    assert settings.page_properties == []
    assert settings.sessions is False


def test_every_property_may_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYTICS_SESSIONS", "1")
    monkeypatch.setenv("ANALYTICS_PAGE_PROPERTIES", EVERY)
    settings = load()
    assert tuple(settings.page_properties) == PAGE_PROPERTIES
    assert settings.sessions is True


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PAGE_PROPERTIES", "browser", "must be a JSON list of some of referrer_host, utm"),
        ("PAGE_PROPERTIES", '["os"]', "'os' is not among them"),
        ("PAGE_PROPERTIES", "[1]", "must be a JSON list of some of referrer_host, utm"),
        ("PAGE_PROPERTIES", '["entry_page"]', "set ANALYTICS_SESSIONS=1 too"),
        ("SESSIONS", "often", "must be 1 or 0 (default 0)"),
    ],
)
def test_a_wrong_one_is_named_with_value_and_remedy(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"ANALYTICS_{name}", value)
    with pytest.raises(InvalidConfiguration) as caught:
        load()
    assert str(caught.value).startswith(f"ANALYTICS_{name}={value}: ")
    assert said in str(caught.value)
