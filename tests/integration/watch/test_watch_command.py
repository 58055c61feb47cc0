"""`analytics watch --once`, for cron: what it prints, its exit status, and that it tells once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from pipeline.lanes.ticks import note_tick
from pipeline.services import Services
from pipeline.system.file_locks import FileLock
from pipeline.upkeep import heartbeats
from pipeline.watch.notices import Notice
from pipeline.watch.rules import make_rules


@pytest.fixture
def notices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Notice]:
    """What was sent; its state is in a directory of the test."""
    sent: list[Notice] = []
    monkeypatch.setattr(
        "pipeline.watch.webhook.Webhook.send", lambda _, notice: sent.append(notice)
    )
    monkeypatch.setenv("ANALYTICS_ALARM_WEBHOOK", "https://hooks.example/x")
    monkeypatch.setenv("ANALYTICS_DATA_DIR", str(tmp_path / "data"))
    return sent


@pytest.fixture
def alive(services: Services) -> Services:
    """All is well."""
    services.maintain(datetime.now(UTC))
    note_tick(services.redis, services.keys)
    heartbeats.beat(services.redis, services.keys, "events", "events@here")
    heartbeats.beat(services.redis, services.keys, "flush", "flush@here")
    return services


def test_an_alarm_is_told_once_and_has_an_exit_status(
    analytics: Any, alive: Services, notices: list[Notice]
) -> None:
    assert analytics("watch", "--once") == (0, "No alarm.\n", "")
    client, letters = alive.redis, alive.keys.dead
    client.xadd(letters, {"kind": "message", "reason": "r", "payload": "x", "at_s": "1"})
    for _ in range(2):
        status, said, _ = analytics("watch", "--once")
        assert status == 1
        assert said.startswith("dead_letters: 1 dead letter waits: ")
    assert [(one.alarm, one.status) for one in notices] == [("dead_letters", "raised")]
    assert analytics("watch", "--once", "--ignore", "dead_letters")[0] == 0
    client.delete(letters)
    assert analytics("watch", "--once")[0] == 0
    assert [one.status for one in notices] == ["raised", "cleared"]


def test_servers_that_are_away_are_alarms_and_no_errors(
    analytics: Any, notices: list[Notice], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANALYTICS_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("ANALYTICS_POSTGRES_URL", "postgresql://a@127.0.0.1:1/a")
    status, said, _ = analytics("watch", "--once")
    assert status == 1
    assert "redis_away: Redis does not answer" in said
    assert {one.alarm for one in notices} == {"redis_away", "postgres_away"}


def test_tables_of_another_version_are_an_alarm(
    analytics: Any,
    notices: list[Notice],
    empty_postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    client: redis.Redis,
) -> None:
    monkeypatch.setenv("ANALYTICS_POSTGRES_URL", empty_postgres_url)
    assert analytics("watch", "--once")[0] == 1
    assert "postgres_unfit" in {one.alarm for one in notices}


def test_it_prints_the_rules_of_prometheus(analytics: Any) -> None:
    assert analytics("watch", "--rules") == (0, make_rules(), "")


def test_a_notice_can_be_tried(analytics: Any, notices: list[Notice]) -> None:
    assert analytics("watch", "--test") == (0, "Sent to the webhook.\n", "")
    assert [one.alarm for one in notices] == ["test"]


def test_an_alarm_that_does_not_exist_cannot_be_ignored(analytics: Any, alive: Services) -> None:
    status, _, said = analytics("watch", "--once", "--ignore", "flood")
    assert status == 1
    assert "there is no such alarm; there are archive_late, audit_off" in said


def test_a_second_watch_with_the_same_file_is_refused(
    analytics: Any, alive: Services, notices: list[Notice], tmp_path: Path
) -> None:
    state = tmp_path / "alarms.json"
    lock = FileLock.try_acquire(tmp_path / "alarms.json.lock")
    assert lock is not None
    status, _, said = analytics("watch", "--state", f"{state}")
    lock.close()
    assert (status, notices) == (1, [])
    assert f"`analytics watch` already runs with {state} " in said
