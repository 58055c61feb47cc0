"""Of all requests for a run one runs, one more is wanted, and none waits for ever."""

from __future__ import annotations

import json
from math import inf

import pytest
import redis
from celery import Celery

from pipeline.contract import (
    ARCHIVE_EVENTS,
    AUDIT,
    FLUSH_COUNTERS,
    FLUSH_QUEUE,
    MAINTENANCE_QUEUE,
    PRUNE,
)
from pipeline.lanes.lanes import Lanes
from pipeline.redis.keys import Keys

KEYS = Keys()


@pytest.fixture
def lanes(client: redis.Redis) -> Lanes:
    return Lanes(client, KEYS)


def kill(client: redis.Redis, lane: str = "flush") -> None:
    """What becomes of the lane of a killed worker after some seconds."""
    client.delete(KEYS.lane(lane))


def test_a_request_that_comes_while_one_runs_leads_to_one_more_run(lanes: Lanes) -> None:
    first = lanes.begin(FLUSH_COUNTERS, "a")
    assert first
    assert lanes.begin(FLUSH_COUNTERS, "b") is None
    assert lanes.begin(FLUSH_COUNTERS, "c") is None
    assert lanes.end(first, is_done=True) == [FLUSH_COUNTERS]
    second = lanes.begin(FLUSH_COUNTERS, "d")
    assert second
    assert lanes.end(second, is_done=True) == []
    assert lanes.find_overdue() == []


@pytest.mark.parametrize("is_done", [True, False])
def test_a_request_that_comes_while_one_fails_is_not_forgotten(lanes: Lanes, is_done: bool) -> None:
    first = lanes.begin(ARCHIVE_EVENTS, "a")
    assert first
    assert lanes.begin(ARCHIVE_EVENTS, "b") is None
    assert lanes.end(first, is_done=is_done) == [ARCHIVE_EVENTS]


def test_what_waited_for_a_run_that_was_killed_is_overdue(
    lanes: Lanes, client: redis.Redis
) -> None:
    assert lanes.begin(FLUSH_COUNTERS, "a")
    assert lanes.begin(FLUSH_COUNTERS, "b") is None
    assert lanes.find_overdue() == []
    kill(client)
    assert lanes.find_overdue() == [FLUSH_COUNTERS]
    assert lanes.begin(FLUSH_COUNTERS, "c")
    assert lanes.find_overdue() == []


def test_a_request_that_has_not_begun_for_long_is_overdue(lanes: Lanes) -> None:
    """Its message may have been refused by a full Redis."""
    assert lanes.ask(FLUSH_COUNTERS, FLUSH_QUEUE)
    assert lanes.find_overdue(60) == lanes.find_overdue() == []
    assert lanes.find_overdue(-1) == [FLUSH_COUNTERS]
    run = lanes.begin(FLUSH_COUNTERS, "a")
    assert run
    assert lanes.find_overdue(-1) == []
    lanes.end(run, is_done=True)
    assert lanes.find_overdue(-1) == []


def test_a_message_delivered_again_while_it_runs_leads_to_no_further_run(
    lanes: Lanes, client: redis.Redis
) -> None:
    run = lanes.begin(PRUNE, "a")
    assert run
    assert lanes.begin(PRUNE, "a") is None
    assert lanes.end(run, is_done=True) == []
    assert lanes.find_overdue() == []


def test_a_message_delivered_again_whose_run_was_killed_leads_to_one(
    lanes: Lanes, client: redis.Redis
) -> None:
    assert lanes.begin(PRUNE, "a")
    assert lanes.begin(PRUNE, "a") is None
    kill(client, "maintenance")
    assert lanes.find_overdue() == [PRUNE]


def test_a_message_delivered_again_hides_no_other_request(lanes: Lanes) -> None:
    run = lanes.begin(FLUSH_COUNTERS, "a")
    assert run
    for request in ("a", "b", "a"):
        assert lanes.begin(FLUSH_COUNTERS, request) is None
    assert lanes.end(run, is_done=True) == [FLUSH_COUNTERS]


def test_lanes_do_not_hold_up_each_other_and_maintenance_is_one(lanes: Lanes) -> None:
    assert lanes.begin(FLUSH_COUNTERS, "a")
    assert lanes.begin(ARCHIVE_EVENTS, "b")
    audit = lanes.begin(AUDIT, "c")
    assert audit
    assert lanes.begin(PRUNE, "d") is None
    assert lanes.end(audit, is_done=True) == [PRUNE]


def test_a_lane_has_a_lifetime_and_is_extended_by_its_own_run_only(
    lanes: Lanes, client: redis.Redis
) -> None:
    run = lanes.begin(FLUSH_COUNTERS, "a")
    assert run
    client.pexpire(KEYS.lane("flush"), 1_000)
    assert lanes.extend(run)
    assert client.pttl(KEYS.lane("flush")) > 2_000
    kill(client)
    other = lanes.begin(FLUSH_COUNTERS, "b")
    assert other
    assert not lanes.extend(run)
    lanes.end(run, is_done=True)
    assert lanes.extend(other)


def fill(redis_url: str, client: redis.Redis) -> None:
    """Requests as clients write them, and what only resembles one."""
    with Celery(broker=redis_url) as stock:
        stock.conf.task_create_missing_queues = True
        for _ in range(40):
            stock.send_task(FLUSH_COUNTERS, queue=FLUSH_QUEUE)
        stock.send_task(FLUSH_COUNTERS, queue=FLUSH_QUEUE, expires=60)
        stock.send_task(FLUSH_COUNTERS, queue=FLUSH_QUEUE, countdown=20)
        stock.send_task(FLUSH_COUNTERS, queue=FLUSH_QUEUE, time_limit=20)
        stock.send_task(FLUSH_COUNTERS, [1], queue=FLUSH_QUEUE)
        stock.send_task(FLUSH_COUNTERS, queue=FLUSH_QUEUE, link=stock.signature("x"))
        stock.send_task(ARCHIVE_EVENTS, queue=FLUSH_QUEUE)
    client.rpush(FLUSH_QUEUE, "no JSON, with analytics.flush_counters", "[]")


def test_a_run_serves_what_waits_and_leaves_what_asks_for_more(
    lanes: Lanes, client: redis.Redis, redis_url: str
) -> None:
    fill(redis_url, client)
    run = lanes.begin(FLUSH_COUNTERS, "a", lists=[FLUSH_QUEUE, f"{FLUSH_QUEUE}\x06\x163"])
    assert run
    assert run.joined == 41
    left = client.lrange(FLUSH_QUEUE, 0, -1)
    assert len(left) == 7
    assert sum(b"analytics.archive_events" in text for text in left) == 1
    client.delete(FLUSH_QUEUE)


def test_a_request_is_asked_for_once_while_it_waits(
    lanes: Lanes, client: redis.Redis, redis_url: str
) -> None:
    assert lanes.ask(FLUSH_COUNTERS, FLUSH_QUEUE) == 1
    assert lanes.ask(FLUSH_COUNTERS, FLUSH_QUEUE) == 2  # its sender was killed before it sent it
    with Celery(broker=redis_url) as stock:
        stock.conf.task_create_missing_queues = True
        stock.send_task(FLUSH_COUNTERS, queue=FLUSH_QUEUE, expires=60)
        assert lanes.ask(FLUSH_COUNTERS, FLUSH_QUEUE) == 3  # that one may expire
        stock.send_task(FLUSH_COUNTERS, queue=FLUSH_QUEUE)
    assert lanes.ask(FLUSH_COUNTERS, FLUSH_QUEUE) is None
    assert lanes.ask(ARCHIVE_EVENTS, FLUSH_QUEUE) == 1
    assert lanes.ask(PRUNE, MAINTENANCE_QUEUE) == 1
    client.delete(FLUSH_QUEUE)


def test_without_a_list_to_see_a_request_counts_as_waiting_for_a_while(lanes: Lanes) -> None:
    assert lanes.ask(FLUSH_COUNTERS, None) == 1
    assert lanes.ask(FLUSH_COUNTERS, None) is None
    assert lanes.ask(FLUSH_COUNTERS, None, ask_again_s=0) == 2
    run = lanes.begin(FLUSH_COUNTERS, "a", 1)
    assert run
    assert lanes.ask(FLUSH_COUNTERS, None) == 3


def test_a_late_request_is_served_by_a_run_that_is_done_and_by_no_other(
    lanes: Lanes, client: redis.Redis
) -> None:
    for _ in range(3):
        lanes.ask(FLUSH_COUNTERS, FLUSH_QUEUE)
    killed = lanes.begin(FLUSH_COUNTERS, "a", 1)
    assert killed
    kill(client)
    run = lanes.begin(FLUSH_COUNTERS, "a", 1)
    assert run
    lanes.end(run, is_done=True)
    assert lanes.begin(FLUSH_COUNTERS, "b", 2) is None
    assert lanes.begin(FLUSH_COUNTERS, "c", 3) is None
    assert lanes.find_overdue() == []
    assert lanes.begin(FLUSH_COUNTERS, "d", 4)


def test_a_failed_run_serves_nothing(lanes: Lanes) -> None:
    for _ in range(2):
        lanes.ask(FLUSH_COUNTERS, FLUSH_QUEUE)
    run = lanes.begin(FLUSH_COUNTERS, "a", 1)
    assert run
    lanes.end(run, is_done=False)
    assert lanes.begin(FLUSH_COUNTERS, "b", 2)


def test_the_requests_of_another_form_are_read(lanes: Lanes, client: redis.Redis) -> None:
    message = {
        "body": "[[],{},null]",
        "headers": {"task": PRUNE, "id": "1"},
        "properties": {"delivery_tag": "t"},
    }
    client.lpush(MAINTENANCE_QUEUE, json.dumps(message))
    assert lanes.ask(PRUNE, MAINTENANCE_QUEUE) is None
    run = lanes.begin(PRUNE, "a", lists=[MAINTENANCE_QUEUE])
    assert run
    assert run.joined == 1


def test_how_long_a_task_rests_is_known_after_its_first_run(lanes: Lanes) -> None:
    assert lanes.measure_rest_s(FLUSH_COUNTERS) == (inf, 0)
    run = lanes.begin(FLUSH_COUNTERS, "a")
    assert run
    lanes.end(run, is_done=True)
    ended_s, took_s = lanes.measure_rest_s(FLUSH_COUNTERS)
    assert 0 <= ended_s < 10
    assert 0 <= took_s < 10
