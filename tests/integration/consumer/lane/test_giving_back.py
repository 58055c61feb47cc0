"""What a worker held goes back into the queue: by itself, or after the visibility timeout."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
import redis

from pipeline.contract import EVENTS_QUEUE
from pipeline.counting.batch import Delivery
from pipeline.intake.unacknowledged import Fetch, Unacknowledged
from pipeline.services import Services
from tests.helpers.aging import grow_older
from tests.helpers.support import TODAY, event
from tests.integration.consumer.lane.full_redis import full
from tests.integration.consumer.lane.support import KEYS, LISTS, raw_message, waiting

VISIBILITY_TIMEOUT_S = 60


@pytest.fixture
def messages(client: redis.Redis) -> Unacknowledged:
    return Unacknowledged(client, KEYS)


def take(client: redis.Redis) -> list[str]:
    """Fetch all that waits; returns the tags."""
    tags: list[str] = []
    while found := Fetch(client, KEYS, [EVENTS_QUEUE]).answer():
        tags += [tag for tag, _ in found]
    return tags


def test_what_a_worker_gives_back_is_in_order(
    client: redis.Redis, messages: Unacknowledged
) -> None:
    client.lpush(EVENTS_QUEUE, *[raw_message(f"{n}", tag=f"{n}") for n in range(1_234)])
    before = client.lrange(EVENTS_QUEUE, 0, -1)
    tags = take(client)
    assert len(tags) == 1_234

    messages.give_back(tags)
    messages.give_back(tags)

    assert client.lrange(EVENTS_QUEUE, 0, -1) == before
    assert not client.exists(KEYS.unacked, KEYS.unacked_index)


def test_what_lost_answers_held_goes_back_in_order_and_nothing_else(
    client: redis.Redis, messages: Unacknowledged
) -> None:
    def fetch(mark: str, most: int) -> list[str]:
        return [tag for tag, _ in Fetch(client, KEYS, [EVENTS_QUEUE], most, mark).answer()]

    client.lpush(EVENTS_QUEUE, *[raw_message(f"{n}", tag=f"{n}") for n in range(1_234)])
    before = client.lrange(EVENTS_QUEUE, 0, -1)
    held, of_another = fetch("a-", 10), fetch("b-", 10)
    for _ in range(3):
        assert fetch("a-", 400)

    assert messages.give_back_lost("a-", held) == 1_200
    assert messages.give_back_lost("a-", held) == 0

    assert client.lrange(EVENTS_QUEUE, 0, -1) == before[:-20]
    assert {tag.decode() for tag in client.hkeys(KEYS.unacked)} == {*held, *of_another}


@pytest.mark.parametrize("place", range(4))
def test_a_message_goes_back_to_its_priority_byte_for_byte(
    client: redis.Redis, messages: Unacknowledged, place: int
) -> None:
    text = raw_message("a", priority=3 * place).encode()
    client.lpush(LISTS[place], text)
    with full(client):
        messages.give_back(take(client))
    assert client.lrange(LISTS[place], 0, -1) == [text]
    client.delete(LISTS[place])


def test_messages_of_a_dead_worker_return_after_the_timeout_and_not_before(
    services: Services, messages: Unacknowledged
) -> None:
    client = services.redis
    client.lpush(EVENTS_QUEUE, *[raw_message(f"{n}", tag=f"{n}") for n in range(1_100)])
    before = client.lrange(EVENTS_QUEUE, 0, -1)
    take(client)
    assert messages.give_back_older(VISIBILITY_TIMEOUT_S) == 0
    grow_older(services, timedelta(seconds=VISIBILITY_TIMEOUT_S + 1))
    client.zadd(KEYS.unacked_index, {"gone": 1})

    assert messages.give_back_older(VISIBILITY_TIMEOUT_S) == 1_100

    assert sorted(client.lrange(EVENTS_QUEUE, 0, -1)) == sorted(before)
    assert not client.exists(KEYS.unacked, KEYS.unacked_index)


def test_a_job_that_the_version_before_held_returns_to_its_own_queue(
    client: redis.Redis, messages: Unacknowledged
) -> None:
    job = raw_message("flush")
    client.hset(KEYS.unacked, "job", f'[{job}, "", "analytics.flush"]')
    client.zadd(KEYS.unacked_index, {"job": 1})
    messages.give_back_older(VISIBILITY_TIMEOUT_S)
    assert client.lrange("analytics.flush", 0, -1) == [job.encode()]


@pytest.mark.parametrize(
    "entry",
    ["not JSON", '{"a": 1}', json.dumps([{}, "an exchange", "analytics.events"]), "[]", ""],
)
def test_an_entry_that_names_no_queue_becomes_a_dead_letter(
    client: redis.Redis, messages: Unacknowledged, entry: str
) -> None:
    client.hset(KEYS.unacked, "odd", entry)
    client.zadd(KEYS.unacked_index, {"odd": 1})
    messages.give_back_older(VISIBILITY_TIMEOUT_S)
    [(_, letter)] = client.xrange(KEYS.dead)
    assert letter[b"body"] == entry.encode()
    assert not client.exists(KEYS.unacked, KEYS.unacked_index)


# A worker so slow that its messages are given back while it holds them, and fetched again


@pytest.mark.parametrize("is_stock", [False, True], ids=["ours", "stock"])
@pytest.mark.parametrize("order", ["one batch", "first the old", "first the new"])
def test_a_message_restored_and_fetched_again_by_the_same_slow_worker_is_counted_once(
    services: Services, messages: Unacknowledged, order: str, is_stock: bool
) -> None:
    """A message of a stock client is known by its task id, one of ours by its tag alone."""
    client, number = services.redis, 30
    client.lpush(EVENTS_QUEUE, *[raw_message(tag=f"t{n}") for n in range(number)])
    old = take(client)
    grow_older(services, timedelta(seconds=VISIBILITY_TIMEOUT_S + 1))
    messages.give_back_older(VISIBILITY_TIMEOUT_S)
    new = take(client)
    assert len({*old, *new}) == 2 * number
    batches = {
        "one batch": [old + new],
        "first the old": [old, new],
        "first the new": [new, old],
    }[order]

    counted = [
        services.counters.apply(
            [
                Delivery([event()], tag=tag, task_id=tag.partition("~")[0] if is_stock else None)
                for tag in tags
            ],
            datetime.now(UTC),
        )
        for tags in batches
    ]

    assert sum(one.counted for one in counted) == number
    assert sum(one.duplicate for one in counted) == 0
    assert services.stats.daily_count("page_view", TODAY) == number
    assert not waiting(client)
    assert not client.exists(KEYS.unacked, KEYS.unacked_index)


def test_a_message_counted_late_and_restored_too_late_is_counted_once(
    services: Services, messages: Unacknowledged
) -> None:
    services.redis.lpush(EVENTS_QUEUE, raw_message())
    tags = take(services.redis)
    grow_older(services, timedelta(seconds=VISIBILITY_TIMEOUT_S + 1))
    services.counters.apply([Delivery([event()], tag=tag) for tag in tags], datetime.now(UTC))
    assert messages.give_back_older(VISIBILITY_TIMEOUT_S) == 0
    assert not waiting(services.redis)
