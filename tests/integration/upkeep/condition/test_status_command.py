"""`analytics status` begins with the sentence of the dashboard's Pipeline page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

from pipeline.lanes.ticks import note_tick
from pipeline.services import Services
from pipeline.upkeep import heartbeats
from tests.helpers.support import count_events, event

WELL = "All events are accounted for."


@pytest.fixture
def run_status(
    redis_url: str, analytics: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., str]]:
    """Runs it, with a Celery app of this test, and returns what it prints."""
    app = Celery(broker=redis_url, set_as_current=False)
    monkeypatch.setattr("pipeline.cli.commands.operating._PING_TIMEOUT_S", 0.01)
    monkeypatch.setattr("pipeline.cli.commands.operating.load_celery_app", lambda: app)

    def run(*options: str) -> str:
        code, out, err = analytics("status", *options)
        assert code == 0, err
        return str(out)

    yield run
    app.close()


def test_the_sentence_comes_first_with_what_to_do(
    services: Services, run_status: Callable[..., str]
) -> None:
    heartbeats.beat(services.redis, services.keys, "flush", "flush@here")
    note_tick(services.redis, services.keys)
    count_events(services, event())
    services.flush()
    services.redis.hset(services.keys.totals, "claims", 0)
    sentence, remedy, other, title, *_ = run_status().splitlines()
    assert sentence.startswith("Redis is older than what Postgres has stored: ")
    assert "`analytics accept-redis-state`" in remedy
    assert other.startswith("  No event worker was seen for 60 s: ")
    assert "`analytics worker events`" in other
    assert title == "Status"

    services.accept_redis_state()
    state = json.loads(run_status("--json"))
    [finding] = state["findings"]
    assert (finding["gravity"], finding["what"]) == ("stopped", state["summary"])
    assert f"  {finding['what']} {finding['remedy']}" == other
    assert state["books"]["balanced"]

    heartbeats.beat(services.redis, services.keys, "events", "events@here")
    assert run_status().splitlines()[:2] == [WELL, "Status"]
