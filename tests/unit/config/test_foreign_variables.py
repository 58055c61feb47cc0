"""Variables that begin like ours and are not: of other programs, and of Kubernetes."""

from __future__ import annotations

import logging

import pytest

from config import settings as settings_module
from config.settings import Settings, load
from pipeline.errors import InvalidConfiguration

SERVICE = {
    # A service "analytics", one "analytics-web" and one "analytics-redis" with two named ports.
    "ANALYTICS_SERVICE_HOST": "10.0.0.1",
    "ANALYTICS_SERVICE_PORT": "8080",
    "ANALYTICS_SERVICE_PORT_HTTP": "8080",
    "ANALYTICS_PORT": "tcp://10.0.0.1:8080",
    "ANALYTICS_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    "ANALYTICS_PORT_8080_TCP_PROTO": "tcp",
    "ANALYTICS_PORT_8080_TCP_PORT": "8080",
    "ANALYTICS_PORT_8080_TCP_ADDR": "10.0.0.1",
    "ANALYTICS_WEB_PORT": "tcp://[fd00::1]:8080",
    "ANALYTICS_WEB_SERVICE_HOST": "10.0.0.2",
    "ANALYTICS_WEB_PORT_8080_TCP_ADDR": "10.0.0.2",
    "ANALYTICS_FLOWER_PORT": "tcp://10.0.0.3:5555",
    "ANALYTICS_REDIS_SERVICE_PORT_METRICS": "9121",
    "ANALYTICS_REDIS_PORT_53_UDP": "udp://10.0.0.4:53",
}


@pytest.fixture(autouse=True)
def _nothing_warned_yet() -> None:
    settings_module._warn_once.cache_clear()


def test_what_kubernetes_sets_for_services_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in SERVICE.items():
        monkeypatch.setenv(name, value)

    assert load() == Settings.model_construct()
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["QQQ", "SEGMENT_WRITE_KEY", "TYPO", "TESTS"])
def test_a_variable_that_may_be_of_another_program_is_named_in_a_warning_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setenv(f"ANALYTICS_{name}", "secret")

    with caplog.at_level(logging.WARNING):
        load()
        load()

    [said] = [record.message for record in caplog.records]
    assert said == (
        f"ANALYTICS_{name}: there is no such setting; `analytics settings` lists them all"
    )


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("PORT", "8080", "ANALYTICS_WEB_PORT"),
        ("REDIS", "redis://10.0.0.1", "ANALYTICS_REDIS_URL"),
        ("POSTGRES", "postgresql://10.0.0.1/x", "ANALYTICS_POSTGRES_URL"),
        ("COUNTBY", "{}", "ANALYTICS_COUNT_BY"),
        ("DATADIR", "/data", "ANALYTICS_DATA_DIR"),
    ],
)
def test_a_variable_that_is_nearly_a_setting_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, meant: str
) -> None:
    monkeypatch.setenv(f"ANALYTICS_{name}", value)

    with pytest.raises(InvalidConfiguration) as raised:
        load()

    assert f"did you mean {meant}?" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("WEB_PORT", "http://10.0.0.1:80"), ("WEB_PORT", "tcp"), ("REDIS_URL", "tcp://10.0.0.1:6379")],
)
def test_a_wrong_value_of_a_setting_is_no_service(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"ANALYTICS_{name}", value)

    with pytest.raises(InvalidConfiguration, match=f"ANALYTICS_{name}"):
        load()
