"""Flush workers: requests that pile up are one run, no lane waits for another, and what takes long
and is delivered again is one run all the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from celery import Celery
from sqlalchemy import text

from pipeline import track_events
from pipeline.contract import (
    ARCHIVE_EVENTS,
    AUDIT,
    FLUSH_COUNTERS,
    FLUSH_QUEUE,
    MAINTAIN,
    MAINTENANCE_QUEUE,
    PRUNE,
)
from pipeline.services import Services
from tests.helpers.support import (
    Workers,
    count_events,
    event,
    eventually,
    execute,
    stored_total,
)


def runs(services: Services, task: str = FLUSH_COUNTERS) -> int:
    return int(services.redis.hget(services.keys.requests, f"{task}:runs") or 0)


def send(redis_url: str, task: str, queue: str = FLUSH_QUEUE, times: int = 1) -> None:
    """Send plain requests, as a client without this package does."""
    with Celery(broker=redis_url) as stock:
        for _ in range(times):
            stock.send_task(task, queue=queue)


def wait_until_quiet(services: Services) -> None:
    for queue in (FLUSH_QUEUE, MAINTENANCE_QUEUE):
        eventually(lambda queue=queue: not services.redis.llen(queue))  # type: ignore[misc]
    eventually(lambda: not services.redis.hlen(services.keys.jobs_unacked))


@contextlib.contextmanager
def locked(services: Services, table: str) -> Iterator[None]:
    """Hold up whatever writes to the table."""
    with services.engine.begin() as connection:
        connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        yield


def wait_for_lock(services: Services, task: str = FLUSH_COUNTERS) -> None:
    """Wait until a run of the task is held up."""
    eventually(lambda: runs(services, task))
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    eventually(lambda: execute(services, waiting)[0][0])


def test_an_hour_of_missed_ticks_is_one_flush_and_one_archive_run(
    services: Services, workers: Workers, redis_url: str
) -> None:
    send(redis_url, FLUSH_COUNTERS)
    text_of_one = services.redis.lindex(FLUSH_QUEUE, 0)
    services.redis.lpush(FLUSH_QUEUE, *[text_of_one] * 3_600)
    send(redis_url, ARCHIVE_EVENTS, times=60)
    send(redis_url, AUDIT, MAINTENANCE_QUEUE, times=10)
    count_events(services, event())
    workers.start("flush")

    eventually(lambda: stored_total(services) == 1)
    wait_until_quiet(services)
    eventually(lambda: runs(services, AUDIT))
    # Those that the worker had fetched already when the first began, one for each of its three
    # processes, may have led to runs of their own.
    assert runs(services) <= 2  # they have one number
    assert runs(services, ARCHIVE_EVENTS) <= 3
    assert runs(services, AUDIT) <= 3


def test_beats_leave_one_request_of_each_kind_for_the_workers_to_come(
    services: Services, workers: Workers
) -> None:
    for name in ("beat1", "beat2"):
        # Less talkative, it says nothing of its ticks.
        workers.celery(name, "beat", "--pidfile=", "-l", "DEBUG", FLUSH_INTERVAL_S="0.1")
    asked = f"{FLUSH_COUNTERS}:asked"
    eventually(
        lambda: all(
            beat.said().count("(analytics.flush_counters)") > 20 for beat in workers.started
        )
    )
    assert int(services.redis.hget(services.keys.requests, asked) or 0) <= 2
    assert services.redis.llen(FLUSH_QUEUE) <= 2


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_flush_longer_than_the_visibility_timeout_is_one_run(
    services: Services, workers: Workers, redis_url: str, pool: str
) -> None:
    count_events(services, event())
    workers.start("flush", "-P", pool, VISIBILITY_TIMEOUT_S="2")
    with locked(services, "analytics_daily"):
        send(redis_url, FLUSH_COUNTERS)
        wait_for_lock(services)
        now_s = services.redis.time()[0]
        eventually(lambda: services.redis.time()[0] >= now_s + 6)
    eventually(lambda: stored_total(services) == 1)
    wait_until_quiet(services)
    assert runs(services) == 1


def test_the_flush_of_a_killed_worker_comes_back(
    services: Services, workers: Workers, redis_url: str
) -> None:
    count_events(services, event())
    first = workers.start("flush", VISIBILITY_TIMEOUT_S="2")
    with locked(services, "analytics_daily"):
        send(redis_url, FLUSH_COUNTERS)
        wait_for_lock(services)
        first.kill()
    workers.start("flush", VISIBILITY_TIMEOUT_S="2")
    eventually(lambda: stored_total(services) == 1)


def test_a_request_that_comes_while_a_flush_runs_leads_to_one_more(
    services: Services, workers: Workers, redis_url: str
) -> None:
    count_events(services, event())
    workers.start("flush")
    with locked(services, "analytics_daily"):
        send(redis_url, FLUSH_COUNTERS)
        wait_for_lock(services)
        count_events(services, event())
        send(redis_url, FLUSH_COUNTERS, times=20)
        eventually(lambda: not services.redis.llen(FLUSH_QUEUE))
        assert runs(services) == 1
    eventually(lambda: stored_total(services) == 2)
    wait_until_quiet(services)
    assert runs(services) <= 3


def test_a_long_archive_run_and_long_maintenance_hold_up_no_flush(
    services: Services, workers: Workers, redis_url: str
) -> None:
    # As many processes as the line of the version before asks for.
    worker = workers.start("flush", "-c", "2")
    count_events(services, event())
    with locked(services, "archived_entries"):
        send(redis_url, MAINTAIN, MAINTENANCE_QUEUE, times=5)
        send(redis_url, PRUNE, MAINTENANCE_QUEUE, times=5)
        send(redis_url, ARCHIVE_EVENTS, times=5)
        wait_for_lock(services, ARCHIVE_EVENTS)
        send(redis_url, FLUSH_COUNTERS)
        eventually(lambda: stored_total(services) == 1)
    wait_until_quiet(services)
    eventually(lambda: runs(services, PRUNE))
    assert worker.alive()


def test_a_flush_by_hand_with_a_callback_has_it_called(
    services: Services, workers: Workers, redis_url: str
) -> None:
    count_events(services, event())
    workers.start("flush")
    with Celery(broker=redis_url) as stock:
        link = stock.signature("analytics.prune", immutable=True, queue=MAINTENANCE_QUEUE)
        stock.send_task(FLUSH_COUNTERS, queue=FLUSH_QUEUE, link=link)
        stock.send_task(FLUSH_COUNTERS, queue=FLUSH_QUEUE, countdown=1)
    eventually(lambda: stored_total(services) == 1)
    eventually(lambda: runs(services, PRUNE) == 1)
    eventually(lambda: runs(services) == 1)


def test_past_the_threshold_a_flush_is_asked_for(
    services: Services, workers: Workers, sending: None
) -> None:
    workers.start("flush")
    workers.start("events", FLUSH_THRESHOLD="10")
    track_events.delay([{"event_type": "page_view", "user_id": f"u{n}"} for n in range(20)])
    eventually(lambda: stored_total(services) == 20)
    assert runs(services) == 1
