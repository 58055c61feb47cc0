"""Applies that are under way while the next is made ready: each message counts once, whatever
becomes of the answer."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import redis

from pipeline import track_events
from pipeline.counting.apply import Applying
from pipeline.counting.batch import Applied, Delivery
from pipeline.services import Services
from tests.helpers.support import NOW, Workers, count_events, counted_here, event, eventually

CLOCK = datetime.now(UTC)


def fetched(services: Services, tag: str, events: int = 1) -> Delivery:
    services.redis.hset(services.keys.unacked, tag, "[]")
    services.redis.zadd(services.keys.unacked_index, {tag: NOW.timestamp()})
    return Delivery([event() for _ in range(events)], tag=tag)


def cut_all_connections(client: redis.Redis) -> None:
    client.client_kill_filter(_type="normal", skipme=True)


def test_several_applies_under_way_count_each_its_own(services: Services) -> None:
    first = Applying(services.counters, [fetched(services, "t1", 2)], CLOCK)
    second = Applying(services.counters, [fetched(services, "t2", 3)], CLOCK)
    assert (second.finish().counted, first.finish().counted) == (3, 2)
    assert counted_here(services.redis) == {"page_view": 5}
    assert not services.redis.exists(services.keys.unacked)


def test_a_message_in_two_applies_under_way_counts_once(services: Services) -> None:
    delivery = fetched(services, "t1")
    both = [Applying(services.counters, [delivery], CLOCK) for _ in range(2)]
    assert [one.finish().counted for one in both] == [1, 0]
    assert counted_here(services.redis) == {"page_view": 1}


def test_an_apply_that_was_dropped_may_be_applied_again(services: Services) -> None:
    delivery = fetched(services, "t1")
    Applying(services.counters, [delivery], CLOCK).drop()
    eventually(lambda: not services.redis.exists(services.keys.unacked))
    assert services.counters.apply([delivery], CLOCK) == Applied(pending=2)
    assert counted_here(services.redis) == {"page_view": 1}


def test_a_connection_cut_while_an_apply_is_under_way_counts_nothing_twice(
    services: Services, client: redis.Redis
) -> None:
    delivery = fetched(services, "t1")
    client.client_pause(60_000, all=False)  # writes wait
    under_way = Applying(services.counters, [delivery], CLOCK)
    cut_all_connections(client)
    client.client_unpause()
    with pytest.raises(redis.ConnectionError):
        under_way.finish()
    services.counters.apply([delivery], CLOCK)
    assert counted_here(client) == {"page_view": 1}


def test_a_server_that_has_forgotten_the_script_is_sent_it(services: Services) -> None:
    count_events(services, event())
    services.redis.script_flush()
    assert count_events(services, event()).counted == 1


@pytest.mark.usefixtures("sending")
def test_a_worker_whose_connections_are_cut_again_and_again_counts_each_event_once(
    client: redis.Redis, services: Services, workers: Workers
) -> None:
    worker = workers.start("events")
    events = [{"event_type": "page_view", "user_id": f"u{n}"} for n in range(50)]
    for cut in range(1, 9):
        for _ in range(25):
            track_events.delay(events)
        before = 1_250 * (cut - 1)
        eventually(lambda before=before: counted_here(client).get("page_view", 0) > before)
        cut_all_connections(client)
    eventually(lambda: counted_here(client) == {"page_view": 10_000})
    eventually(lambda: not client.exists(services.keys.unacked))
    assert worker.alive()
    assert services.status()["books"]["balanced"]
