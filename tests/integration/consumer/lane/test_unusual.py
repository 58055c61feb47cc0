"""Events with an eta, an expiry or callbacks: counted when they are due, once, or not at all."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery, chain, chord, group

from pipeline.contract import EVENTS_QUEUE, MAX_DELAY, TRACK_EVENT, TRACK_EVENTS
from pipeline.counting.erased_users import KEPT_DAYS
from pipeline.intake.unacknowledged import Fetch, Unacknowledged
from pipeline.producer.celery_tasks import track_events
from pipeline.services import Services
from tests.helpers.processes import run_python
from tests.helpers.support import Worker, Workers, counted_here, eventually
from tests.integration.consumer.lane.support import KEYS, LISTS, waiting

ELSEWHERE = "other.queue"


@pytest.fixture
def stock(redis_url: str) -> Iterator[Celery]:
    """Another application's Celery, with Celery's own queues."""
    with Celery("other", broker=redis_url, set_as_current=False) as app:
        yield app


def event(stock: Celery, event_type: str, **options: Any) -> Any:
    """The signature of an event, as an application that has no code of ours writes it."""
    return stock.signature(TRACK_EVENT, (event_type,), queue=EVENTS_QUEUE, immutable=True).set(
        **options
    )


def books(services: Services) -> dict[str, Any]:
    found: dict[str, Any] = services.status()["books"]
    assert found["balanced"]
    return found


def settled(services: Services) -> bool:
    return not waiting(services.redis) and not services.redis.exists(KEYS.unacked)


def resident_kib(worker: Worker) -> int:
    pages = int(Path(f"/proc/{worker.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


# When


def test_a_thousand_events_of_the_next_hour_cost_the_worker_nothing(
    services: Services, workers: Workers, stock: Celery
) -> None:
    worker = workers.start("events", VISIBILITY_TIMEOUT_S="1")
    event(stock, "now").apply_async()
    eventually(lambda: counted_here(services.redis) == {"now": 1})
    before_kib = resident_kib(worker)
    with stock.producer_pool.acquire() as producer:
        for _ in range(1_000):
            event(stock, "late").apply_async(countdown=3_600, producer=producer)

    eventually(lambda: services.status()["delayed"] == 1_000)
    assert settled(services)
    assert resident_kib(worker) - before_kib < 4_096
    assert counted_here(services.redis) == {"now": 1}


def test_an_event_counts_when_it_is_due_and_not_before(
    services: Services, workers: Workers, stock: Celery
) -> None:
    workers.start("events")
    due_s = time.time() + 3
    event(stock, "late", countdown=3, priority=6).apply_async()
    eventually(lambda: services.redis.zcard(KEYS.delayed))
    assert services.status()["delayed"] == 1

    eventually(lambda: counted_here(services.redis) == {"late": 1})

    assert due_s <= time.time() < due_s + 10
    assert services.status()["delayed"] == 0
    assert books(services)["counted"] == 1
    assert settled(services)


def test_what_is_due_goes_to_its_priority(services: Services, stock: Celery) -> None:
    event(stock, "late", priority=6).apply_async()
    [text] = services.redis.lrange(LISTS[2], 0, -1)
    [(tag, _)] = Fetch(services.redis, KEYS, [EVENTS_QUEUE]).answer()
    messages = Unacknowledged(services.redis, KEYS)
    assert messages.postpone([(tag, time.time() - 1)]) == {tag}
    assert messages.postpone([(tag, time.time() + 0.3)]) == set()
    assert 0 < (messages.queue_due() or 0) <= 0.3
    assert not services.redis.exists(KEYS.unacked, KEYS.unacked_index)

    eventually(lambda: messages.queue_due() is None)

    assert services.redis.lrange(LISTS[2], 0, -1) == [text]
    services.redis.delete(LISTS[2])


def test_a_delayed_event_that_is_revoked_is_not_counted(
    services: Services, workers: Workers, stock: Celery
) -> None:
    workers.start("events")
    result = event(stock, "late", countdown=2).apply_async()
    eventually(lambda: services.redis.zcard(KEYS.delayed))
    stock.control.revoke(result.id)
    eventually(lambda: services.status()["delayed"] == 0 and settled(services))
    eventually(lambda: books(services)["expired"] == 1)
    assert counted_here(services.redis) == {}


def test_a_purge_removes_what_is_delayed_and_says_how_many(
    services: Services, workers: Workers, stock: Celery
) -> None:
    for _ in range(3):
        event(stock, "late").apply_async()
    [(tag, _)] = Fetch(services.redis, KEYS, [EVENTS_QUEUE], most=1).answer()
    Unacknowledged(services.redis, KEYS).postpone([(tag, time.time() + 3_600)])

    code = "from tasks import app; print(app.control.purge(), app.control.discard_all())"
    done = run_python("-c", code, environment=workers.environment)

    assert done.stdout.split() == ["3", "0"], done.stderr
    assert settled(services)
    assert services.status()["delayed"] == 0


def test_a_delayed_event_of_a_user_who_is_forgotten_meanwhile_is_not_counted(
    sending: None, services: Services, workers: Workers, stock: Celery
) -> None:
    workers.start("events")
    track_events.apply_async(
        ([{"event_type": "late", "user_id": user} for user in ("gone", "stays")],), countdown=2
    )
    far = event(stock, "far", eta=datetime.now(UTC) + MAX_DELAY + timedelta(days=2)).apply_async()
    eventually(lambda: services.redis.zcard(KEYS.delayed))
    services.erase_user("gone")

    eventually(lambda: books(services)["counted"] == 1)

    assert services.status()["delayed"] == 0
    assert books(services)["forgotten"] == 1
    today = datetime.now(UTC).date()
    users = [services.stats.user_count(user, "late", today, today) for user in ("gone", "stays")]
    assert users == [0, 1]
    [(_, letter)] = services.redis.xrange(KEYS.dead)
    assert far.id.encode() in letter[b"body"]
    assert b"is more than 14 days ahead" in letter[b"reason"]


def test_erased_users_are_known_for_longer_than_an_event_waits() -> None:
    assert timedelta(days=KEPT_DAYS) >= 2 * MAX_DELAY


@pytest.mark.parametrize("countdown", [0, 1])
def test_an_event_that_comes_too_late_is_expired_in_the_books(
    services: Services, workers: Workers, stock: Celery, countdown: int
) -> None:
    event(stock, "late", expires=0.1, countdown=countdown).apply_async()
    several = ([{"event_type": "late"}] * 3,)
    stock.send_task(TRACK_EVENTS, several, queue=EVENTS_QUEUE, expires=0.1)
    event(stock, "timely", expires=600).apply_async()
    time.sleep(0.2)
    workers.start("events")

    eventually(lambda: books(services)["expired"] == 4)

    assert counted_here(services.redis) == {"timely": 1}
    found = books(services)
    assert (found["consumed"], found["counted"]) == (5, 1)
    assert found["by_type"]["late"]["expired"] == 4


# Callbacks


def names(client: redis.Redis, queue: str) -> list[str]:
    """The tasks that wait in a queue, the oldest first."""
    return [json.loads(text)["headers"]["task"] for text in reversed(client.lrange(queue, 0, -1))]


def test_callbacks_are_sent_when_the_event_is_counted_to_their_queue_or_to_celerys(
    services: Services, workers: Workers, stock: Celery
) -> None:
    other = stock.signature(f"{ELSEWHERE}.default", immutable=True)
    named = stock.signature(f"{ELSEWHERE}.named", (1,), queue="other.queue")
    event(stock, "linked", link=[other, named, event(stock, "by_link")]).apply_async()
    chain(event(stock, "first"), event(stock, "second"), other, named).apply_async()
    chain(event(stock, "before_group"), group(event(stock, "in_group"), other)).apply_async()
    workers.start("events")

    expected = {"linked": 1, "by_link": 1, "first": 1, "second": 1, "before_group": 1}
    eventually(lambda: counted_here(services.redis) == expected | {"in_group": 1})

    client = services.redis
    eventually(lambda: len(names(client, "celery")) == 3)
    assert set(names(client, "celery")) == {f"{ELSEWHERE}.default"}
    assert names(client, "other.queue") == [f"{ELSEWHERE}.named"]
    eventually(lambda: settled(services))
    assert services.status()["dead_letters"] == 0
    assert books(services)["counted"] == 6
    client.delete("celery", "other.queue")


def test_a_worker_killed_before_the_callback_is_sent_leaves_it_to_the_next(
    services: Services, workers: Workers, stock: Celery
) -> None:
    other = stock.signature(f"{ELSEWHERE}.default", immutable=True)
    event(stock, "linked", link=other).apply_async()
    killer = ("--include", "tests.integration.consumer.killed_before_ack")
    killed = workers.start("events", *killer, ready=False)
    killed.wait(30)
    assert counted_here(services.redis) == {"linked": 1}
    assert names(services.redis, "celery") == []

    workers.start("events", VISIBILITY_TIMEOUT_S="1")

    eventually(lambda: names(services.redis, "celery") == [f"{ELSEWHERE}.default"])
    eventually(lambda: settled(services))
    assert counted_here(services.redis) == {"linked": 1}
    services.redis.delete("celery")


def test_a_callback_that_cannot_be_sent_is_dropped_with_a_line_and_the_event_counted(
    services: Services, workers: Workers, stock: Celery
) -> None:
    worker = workers.start("events")
    body = chord([stock.signature("a")], stock.signature("b"))
    event(stock, "linked", link=body).apply_async()  # which needs a result backend
    eventually(lambda: counted_here(services.redis) == {"linked": 1})
    eventually(lambda: settled(services))
    assert "is dropped" in worker.said()
    assert "Traceback" not in worker.said()
