"""`analytics status` begins with the sentence of the dashboard's Pipeline page."""

from __future__ import annotations

import json
from typing import Any

from pipeline.services import Services
from pipeline.upkeep import heartbeats
from tests.helpers.support import count_events, event

WELL = "All events are accounted for."


def live(services: Services) -> None:
    heartbeats.beat(services.redis, services.keys, "events", "events@here")
    heartbeats.beat(services.redis, services.keys, "flush", "flush@here")


def test_the_sentence_comes_first(services: Services, analytics: Any) -> None:
    live(services)
    code, out, _ = analytics("status")
    assert (code, out.splitlines()[0]) == (0, WELL)
    assert out.splitlines()[1] == "Status"


def test_what_is_wrong_comes_with_what_to_do(services: Services, analytics: Any) -> None:
    live(services)
    count_events(services, event())
    services.flush()
    services.redis.hset(services.keys.totals, "claims", 0)
    services.redis.zremrangebyrank(services.keys.workers, 0, 0)
    code, out, _ = analytics("status")
    assert code == 0
    sentence, remedy, other, *_ = out.splitlines()
    assert sentence.startswith("Redis is older than what Postgres has stored: ")
    assert "`analytics accept-redis-state`" in remedy
    assert other.startswith("  No event worker was seen for 60 s: ")
    assert "`analytics worker events`" in other

    code, out, _ = analytics("status", "--json")
    state = json.loads(out)
    assert (code, state["summary"]) == (0, sentence)
    assert [one["gravity"] for one in state["findings"]] == ["lost", "stopped"]
    assert state["findings"][0]["remedy"] == remedy.strip()
    assert "books" in state
