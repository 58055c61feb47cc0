"""The lane in workers of every pool: controlled, cut off from Celery's connection, stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery

from pipeline.contract import EVENTS_QUEUE, FLUSH_QUEUE
from pipeline.producer.celery_tasks import track_event
from pipeline.services import Services
from tests.helpers.support import Workers, counted_here, eventually
from tests.integration.consumer.lane.support import KEYS, LISTS, waiting

POOLS = {"solo": (), "threads": ("-c", "2"), "prefork": ("-c", "1")}


@pytest.fixture
def stock(redis_url: str) -> Iterator[Celery]:
    with Celery("other", broker=redis_url, set_as_current=False) as app:
        yield app


def only(answers: dict[str, Any] | None) -> Any:
    """What the only worker that answered says."""
    [answer] = (answers or {}).values()
    return answer


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.usefixtures("sending")
def test_a_worker_of_every_pool_counts_answers_pauses_and_ends(
    services: Services, workers: Workers, stock: Celery, pool: str
) -> None:
    worker = workers.start("events", "-P", pool, *POOLS[pool])
    for _ in range(100):
        track_event.delay("page_view", "u1")
    eventually(lambda: counted_here(services.redis) == {"page_view": 100})

    inspect = stock.control.inspect(timeout=10, limit=1)
    assert [queue["name"] for queue in only(inspect.active_queues())] == [EVENTS_QUEUE]
    assert only(inspect.stats())["total"] == {"analytics.track_event": 100}

    stock.control.cancel_consumer(EVENTS_QUEUE, reply=True, limit=1, timeout=10)
    assert only(inspect.active_queues()) == []
    eventually(lambda: not blocked(services.redis))
    track_event.delay("page_view", "u1")
    assert waiting(services.redis) == 1
    stock.control.add_consumer(EVENTS_QUEUE, reply=True, limit=1, timeout=10)
    eventually(lambda: counted_here(services.redis) == {"page_view": 101})

    assert worker.stop(10) == 0
    assert not services.redis.exists(KEYS.unacked)
    assert "Traceback" not in worker.said()


@pytest.mark.usefixtures("sending")
def test_a_gevent_worker_counts_and_ends(services: Services, workers: Workers) -> None:
    """Celery answers no control commands there."""
    worker = workers.start("events", "-P", "gevent", "-c", "10")
    track_event.delay("page_view", "u1")
    eventually(lambda: counted_here(services.redis) == {"page_view": 1})
    assert worker.stop(10) == 0


def blocked(client: redis.Redis) -> int:
    """How many clients look at the queue."""
    return sum(one["cmd"] == "blmove" for one in client.client_list())


@pytest.mark.usefixtures("sending")
def test_counting_goes_on_while_celery_cannot_connect(
    services: Services, workers: Workers, stock: Celery
) -> None:
    client = services.redis
    worker = workers.start("events", "-Q", f"{EVENTS_QUEUE},{FLUSH_QUEUE}")
    client.set(FLUSH_QUEUE, "no list")  # kombu's look for messages fails, again and again
    try:
        eventually(lambda: worker.said().count("Connection to broker lost") > 2)
        track_event.delay("page_view", "u1")
        eventually(lambda: counted_here(client) == {"page_view": 1})
    finally:
        client.delete(FLUSH_QUEUE)
    assert worker.alive()


@pytest.mark.usefixtures("sending")
def test_at_no_instant_is_a_message_in_a_process_alone(
    services: Services, workers: Workers, client: redis.Redis
) -> None:
    """Each is in the queue, unacknowledged or counted, at every moment that Redis knows."""
    for kind in range(2):
        workers.start("events", "-n", f"events{kind}@tests", ready=False)
    sending = threading.Thread(
        target=lambda: [track_event.delay("page_view", "u1") for _ in range(2_000)]
    )
    sending.start()
    samples = 0

    def all_accounted_for() -> bool:
        nonlocal samples
        with client.pipeline(transaction=True) as pipe:
            pipe.hmget(KEYS.totals, "published_messages", "consumed_messages").hlen(KEYS.unacked)
            for name in LISTS:
                pipe.llen(name)
            (published, consumed), unacknowledged, *queued = pipe.execute()
        found = int(consumed or 0) + unacknowledged + sum(queued)
        assert int(published or 0) == found
        samples += 1
        return int(consumed or 0) == 2_000

    eventually(all_accounted_for, 60)
    sending.join()
    assert samples > 20
