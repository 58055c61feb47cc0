"""The settings of the web server: what each takes, and that the secret is shown nowhere."""

from __future__ import annotations

import os

import pytest

from config.description import describe
from config.settings import load
from pipeline.errors import InvalidConfiguration

SECRET = "0123456789abcdef-secret"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("ANALYTICS_"):
            monkeypatch.delenv(name)


def test_what_nobody_has_set() -> None:
    settings = load()
    assert settings.web_port == 8080
    assert settings.user_id_secret is None
    assert settings.key_events_per_s == 50_000
    assert settings.address_requests_per_s == 1_000
    assert settings.trusted_proxies == []


def test_proxies_are_addresses_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYTICS_TRUSTED_PROXIES", '["10.0.0.7", "192.168.0.0/16", "::1"]')
    assert load().trusted_proxies == ["10.0.0.7", "192.168.0.0/16", "::1"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TRUSTED_PROXIES", "10.0.0.7", "must be a JSON list of addresses or networks"),
        ("TRUSTED_PROXIES", "[1]", "must be a JSON list of addresses or networks"),
        ("TRUSTED_PROXIES", '["*"]', "must be a JSON list of addresses or networks"),
        ("TRUSTED_PROXIES", '["10.0.0.7/8"]', "has host bits set"),
        ("WEB_PORT", "65536", "of 0 or more, at most 65535"),
        ("KEY_EVENTS_PER_S", "-1", "of 0 or more"),
        ("ADDRESS_REQUESTS_PER_S", "many", "of 0 or more"),
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


def test_a_secret_that_can_be_guessed_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANALYTICS_USER_ID_SECRET", "hunter2")
    with pytest.raises(InvalidConfiguration, match="16 characters or more") as caught:
        load()
    assert "hunter2" not in str(caught.value)
    assert "ANALYTICS_USER_ID_SECRET=***" in str(caught.value)


def test_the_secret_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYTICS_USER_ID_SECRET", SECRET)
    settings = load()
    assert SECRET not in repr(settings)
    assert SECRET not in repr(describe(settings))
    assert settings.user_id_secret is not None
    assert settings.user_id_secret.get_secret_value() == SECRET
