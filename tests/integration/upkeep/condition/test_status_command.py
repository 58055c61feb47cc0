"""`analytics status` begins with the sentence of the dashboard's Pipeline page."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery

from pipeline.lanes.ticks import note_tick
from pipeline.services import Services
from pipeline.upkeep import heartbeats
from tasks.worker.default_queue import find_discarding_workers
from tests.helpers.support import count_events, event

LOST, STOPPED = 1, 3
WELL = "All events are accounted for."


@pytest.fixture
def run_status(
    redis_url: str, analytics: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., str]]:
    """Runs it, with a Celery app of this test, and returns what it prints."""
    app = Celery(broker=redis_url, set_as_current=False)
    monkeypatch.setattr("pipeline.cli.commands.operating._PING_TIMEOUT_S", 0.01)
    monkeypatch.setattr("pipeline.cli.commands.operating.load_celery_app", lambda: app)

    def run(*options: str, status: int = 0) -> str:
        code, out, err = analytics("status", *options)
        assert code == status, err
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
    sentence, remedy, other, title, *_ = run_status(status=LOST).splitlines()
    assert sentence.startswith("Redis is older than what Postgres has stored: ")
    assert "`analytics accept-redis-state`" in remedy
    assert other.startswith("  No event worker was seen for 45 s: ")
    assert "`analytics worker events`" in other
    assert title == "Status"

    services.accept_redis_state()
    state = json.loads(run_status("--json", status=STOPPED))
    [finding] = state["findings"]
    assert (finding["gravity"], finding["what"]) == ("stopped", state["summary"])
    assert f"  {finding['what']} {finding['remedy']}" == other
    assert state["books"]["balanced"]

    heartbeats.beat(services.redis, services.keys, "events", "events@here")
    assert run_status().splitlines()[:2] == [WELL, "Status"]


def test_a_health_check_knows_who_was_seen_of_late(
    services: Services, analytics: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, keys = services.redis, services.keys
    heartbeats.beat(client, keys, "events", "events@here")
    heartbeats.beat(client, keys, "beat", "celerybeat@here")
    heartbeats.beat(client, keys, "flush", "hung@here")
    [hung] = [name for name in client.zrange(keys.workers, 0, -1) if b"hung" in name]
    client.zincrby(keys.workers, -61, hung)

    for name in ("events@here", "celerybeat@here"):
        assert analytics("status", "--node", name)[0] == 0
    code, _, said = analytics("status", "--node", "hung@here")
    assert code == 1
    assert re.search(r"hung@here was last seen 6\d s ago", said)
    code, _, said = analytics("status", "--node", "none@here")
    assert (code, "seen of late: celerybeat@here, events@here" in said) == (1, True)

    with socket.socket() as taken:  # and no server there
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANALYTICS_REDIS_URL", f"redis://127.0.0.1:{taken.getsockname()[1]}/0")
        code, _, said = analytics("status", "--node", "events@here")
        assert (code, "nothing is known of events@here: " in said) == (0, True)


def test_what_is_only_late_has_the_status_of_what_is_well(
    services: Services, run_status: Callable[..., str]
) -> None:
    for kind in ("events", "flush"):
        heartbeats.beat(services.redis, services.keys, kind, f"{kind}@here")
    services.redis.xadd(
        services.keys.dead, {"kind": "event", "body": "{}", "reason": "", "at_s": 1}
    )
    findings = json.loads(run_status("--json"))["findings"]
    assert {one["gravity"] for one in findings} == {"late"}


def test_workers_are_asked_again_after_redis_has_closed_connections(
    client: redis.Redis, redis_url: str
) -> None:
    broker = {"broker_url": redis_url}
    assert find_discarding_workers(broker, 0.1) == []
    client.client_kill_filter(_type="normal", skipme=True)
    assert find_discarding_workers(broker, 0.1) == []
