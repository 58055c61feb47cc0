"""Nothing depends on one beat: a killed one of two is replaced, and without any, workers ask."""

from __future__ import annotations

import signal
from typing import Any

import pytest
import redis

from pipeline.lanes.lanes import LANES
from pipeline.redis.keys import Keys
from pipeline.services import Services
from tests.helpers.support import Workers, count_events, event, eventually

KEYS = Keys()


def count_runs(client: redis.Redis, task: str) -> int:
    return int(client.hget(KEYS.requests, f"{task}:runs") or 0)


def do_all_long_ago(client: redis.Redis) -> None:
    client.hset(KEYS.requests, mapping={f"{task}:ended_ms": 1_000 for task in LANES})


def test_without_beat_a_flush_worker_asks_for_what_is_overdue(
    services: Services, workers: Workers, client: redis.Redis
) -> None:
    do_all_long_ago(client)
    count_events(services, event())
    workers.start("flush")
    eventually(lambda: services.claims.pending() == 0, 20)
    eventually(lambda: all(count_runs(client, task) for task in LANES), 20)
    assert {count_runs(client, task) for task in LANES} == {1}


def test_of_two_beats_one_asks_and_the_other_follows_when_it_is_killed(
    client: redis.Redis, workers: Workers
) -> None:
    # The lock is kept for five of the longest pauses.
    options = ("beat", "--scheduler", "tasks.several_beats.OneOfSeveral", "--pidfile=")
    options += ("--max-interval", "1", "-l", "INFO")
    first = workers.celery("beat1", *options, FLUSH_INTERVAL_S="1")
    eventually(lambda: "beat: Acquired lock" in first.said(), 20)
    second = workers.celery("beat2", *options, FLUSH_INTERVAL_S="1")
    eventually(lambda: "beat: Starting" in second.said(), 20)

    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    assert "beat: Acquired lock" not in second.said()
    client.delete("analytics.flush", "analytics.maintenance")
    do_all_long_ago(client)
    eventually(lambda: "beat: Acquired lock" in second.said(), 20)
    eventually(lambda: client.llen("analytics.flush"), 20)
    second.kill()
    for name in client.scan_iter("analytics:redbeat:*"):
        client.delete(name)


def test_a_beat_with_sentinels_needs_no_redbeat(
    analytics: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANALYTICS_REDIS_URL", "sentinel://127.0.0.1:1/0?master_name=m")
    status, _, said = analytics("beat", "--redbeat")
    assert status == 1
    assert "run two beats, which do no work twice either" in said


def test_redbeat_is_asked_for_where_it_is_missing(
    analytics: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cli.commands.processes.find_spec", lambda _: None)
    status, _, said = analytics("beat", "--redbeat")
    assert status == 1
    assert "pip install 'analytics-pipeline[redbeat]'" in said
