"""Redis at `maxmemory`: producers are refused or wait, and all that makes room starts and works."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from kombu.exceptions import OperationalError

from pipeline.producer.app import configure
from pipeline.producer.celery_tasks import track_event, track_events
from pipeline.producer.publisher import PublishUnconfirmed
from pipeline.services import Services
from pipeline.upkeep.heartbeats import list_nodes
from tests.helpers.processes import run_python
from tests.helpers.support import Workers, count_events, event, eventually, rows

MESSAGES, EVENTS_A_MESSAGE = 60, 10
NOTE = {"note": "x" * 16_000}  # ten of these, in a message, are a quarter of a megabyte


@pytest.fixture
def limited(client: redis.Redis) -> Iterator[redis.Redis]:
    """The client; the limit that the test sets goes with it."""
    yield client
    client.config_set("maxmemory", 0)


def used_bytes(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])


def stored_by_user(services: Services) -> Counter[str]:
    counts: Counter[str] = Counter()
    for _, _, user, count in rows(services, "analytics_user_daily"):
        counts[user] += count
    return counts


def living(services: Services) -> set[str]:
    return {one.kind for one in list_nodes(services.redis, services.keys)}


def all_is_stored(services: Services) -> bool:
    status = services.status()
    waiting = ("queue_depth", "unacknowledged", "pending_counters", "inflight_batches")
    return not any(status[name] for name in waiting)


def test_a_full_redis_refuses_producers_while_workers_start_drain_and_flush_it(
    sending: None, services: Services, workers: Workers, limited: redis.Redis
) -> None:
    empty_bytes = used_bytes(limited)
    count_events(services, event(user_id="counted before"))
    for message in range(MESSAGES):
        users = [f"u{message}.{n}" for n in range(EVENTS_A_MESSAGE)]
        track_events.delay(
            [{"event_type": "page_view", "user_id": user, "properties": NOTE} for user in users]
        )
    limit_bytes = (empty_bytes + used_bytes(limited)) // 2
    limited.config_set("maxmemory", limit_bytes)

    configure(publish_timeout_s=0.1)
    for options in ({}, {"retry": False}, {"countdown": 1}):  # the last is sent by Celery
        with pytest.raises(OperationalError, match="maxmemory") as caught:
            track_event.apply_async(("page_view", "refused"), **options)
        assert not isinstance(caught.value, PublishUnconfirmed)

    with ThreadPoolExecutor(1) as patient:
        configure(publish_timeout_s=90)
        waits = patient.submit(track_event.delay, "page_view", "waited")

        # What makes room starts while there is none. (Celery itself has no connection until then.)
        workers.start("flush", ready=False)
        beat = workers.celery("beat", "beat", "--pidfile=", FLUSH_INTERVAL_S="0.5")
        eventually(lambda: stored_by_user(services), what="no flush came")
        eventually(lambda: {"flush", "beat"} <= living(services), what="not both are alive")
        assert used_bytes(limited) > limit_bytes
        assert not waits.done()

        events = workers.start("events", ready=False)
        eventually(lambda: "events" in living(services))
        check = ("-m", "pipeline.cli", "status", "--node", f"{events.name}@tests")
        assert run_python(*check, environment=workers.environment).returncode == 0
        waits.result(timeout=60)
    assert used_bytes(limited) < limit_bytes
    track_event.delay("page_view", "sent after")

    eventually(lambda: all_is_stored(services), what="not all was counted and stored")
    assert stored_by_user(services) == Counter(
        ["counted before", "waited", "sent after"]
        + [f"u{message}.{n}" for message in range(MESSAGES) for n in range(EVENTS_A_MESSAGE)]
    )
    status = services.status()
    assert status["books"]["balanced"]
    assert status["dead_letters"] == 0
    assert beat.alive()
    for worker in workers.started:
        assert "Traceback" not in worker.said()
        if worker is not beat:
            eventually(lambda worker=worker: "ready." in worker.said())
