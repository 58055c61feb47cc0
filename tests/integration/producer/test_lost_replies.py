"""Replies that are lost after the request was carried out: every step is repeated without harm."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from sqlalchemy import make_url

from config.options import pipeline_options
from config.settings import Settings
from pipeline import track_event, track_events
from pipeline.counting.batch import BadEvent, Delivery
from pipeline.errors import ServerUnavailable
from pipeline.intake.unacknowledged import Unacknowledged
from pipeline.producer.app import configure
from pipeline.producer.settings import ProducerSettings
from pipeline.redis.scripts import Script
from pipeline.services import Services, connect
from tests.helpers.reply_cutter import ReplyCutter
from tests.helpers.support import (
    NOW,
    QUEUE,
    TODAY,
    count_events,
    event,
    eventually,
    fetch,
    message,
    restore,
    rows,
    sent,
    stored_total,
)


@pytest.fixture
def to_redis(redis_url: str) -> Iterator[ReplyCutter]:
    cutter = ReplyCutter(make_url(redis_url).port or 0)
    yield cutter
    cutter.close()


@pytest.fixture
def to_postgres(postgres_url: str) -> Iterator[ReplyCutter]:
    cutter = ReplyCutter(make_url(postgres_url).port or 0)
    yield cutter
    cutter.close()


@pytest.fixture
def unlucky(
    to_redis: ReplyCutter, to_postgres: ReplyCutter, redis_url: str, postgres_url: str
) -> Iterator[Services]:
    """Services whose way to the servers can lose an answer."""
    services = connect(
        pipeline_options(Settings()),
        through(to_redis, redis_url),
        through(to_postgres, postgres_url),
    )
    yield services
    services.close()


def through(cutter: ReplyCutter, url: str) -> str:
    return make_url(url).set(port=cutter.port).render_as_string(hide_password=False)


def sha(name: str) -> bytes:
    """What a call of the script holds."""
    return Script(name).sha1.encode()


def read(services: Services) -> int:
    return services.stats.daily_count("page_view", TODAY)


def push(services: Services, tag: str = "t") -> None:
    services.redis.lpush(QUEUE, json.dumps({"body": "", "properties": {"delivery_tag": tag}}))


# Producers


def test_a_publish_whose_reply_was_lost_is_taken_once(
    services: Services, client: redis.Redis, redis_url: str, to_redis: ReplyCutter
) -> None:
    configure(ProducerSettings(redis_url=through(to_redis, redis_url)))
    to_redis.lose_the_answer_to(sha("pipeline.producer.publish"))
    track_event.delay("page_view")
    to_redis.lose_the_answer_to(sha("pipeline.producer.publish"))
    track_events.delay([{"event_type": "page_view"}] * 3)
    assert to_redis.cut == len(sent(client)) == 2
    books = services.status()["books"]
    assert (books["published"], books["missing_messages"], books["balanced"]) == (4, 0, True)


# Workers


def test_an_apply_whose_reply_was_lost_is_repeated_and_counts_once(
    services: Services, unlucky: Services, to_redis: ReplyCutter
) -> None:
    push(services)
    [(tag, _)] = fetch(services)
    deliveries = [
        Delivery([event(event_id="k")], [BadEvent(b"{}", "reason")], tag=tag),
        message(event(), event()),
    ]
    to_redis.lose_the_answer_to(sha("pipeline.counting.apply"))
    with pytest.raises(redis.ConnectionError):
        unlucky.counters.apply(deliveries, NOW)
    again = unlucky.counters.apply(deliveries, NOW)
    assert to_redis.cut == 1
    assert (again.counted, again.duplicate, again.dead) == (0, 2, 0)
    assert read(services) == 3
    assert services.status()["dead_letters"] == 1
    assert services.status()["books"]["balanced"]


def test_messages_whose_fetch_was_lost_are_given_back_and_fetched_again(
    services: Services, unlucky: Services, to_redis: ReplyCutter
) -> None:
    push(services)
    to_redis.lose_the_answer_to(sha("pipeline.intake.fetch"))
    with pytest.raises(redis.ConnectionError):
        fetch(unlucky)
    assert (services.redis.llen(QUEUE), services.redis.hlen(services.keys.unacked)) == (0, 1)
    to_redis.lose_the_answer_to(sha("pipeline.intake.restore"))
    with pytest.raises(redis.ConnectionError):
        restore(unlucky)
    assert restore(unlucky) == 0
    assert services.redis.llen(QUEUE) == len(fetch(unlucky)) == 1
    services.redis.delete(services.keys.unacked, services.keys.unacked_index)


def test_a_postponement_whose_reply_was_lost_leaves_one_message(
    services: Services, unlucky: Services, to_redis: ReplyCutter
) -> None:
    push(services)
    [(tag, _)] = fetch(services)
    messages = Unacknowledged(unlucky.redis, unlucky.keys)
    to_redis.lose_the_answer_to(sha("pipeline.intake.postpone"))
    with pytest.raises(redis.ConnectionError):
        messages.postpone([(tag, time.time() + 0.2)])
    assert messages.postpone([(tag, time.time() + 0.2)]) == set()
    assert services.redis.zcard(services.keys.delayed) == 1
    assert not services.redis.exists(services.keys.unacked)

    to_redis.lose_the_answer_to(sha("pipeline.intake.restore"))
    eventually(lambda: services.redis.time()[0] >= time.time() - 1)
    with pytest.raises(redis.ConnectionError):
        eventually(lambda: messages.queue_due() is None)
    eventually(lambda: messages.queue_due() is None)
    assert services.redis.llen(QUEUE) == len(fetch(services)) == 1
    services.redis.delete(services.keys.unacked, services.keys.unacked_index)


# Flushers

LOST = {
    "claim": [sha("pipeline.flushing.claim")],
    "ledger": [b"INSERT INTO flush_batches"],
    "counts": [b"INSERT INTO analytics_user_daily"],
    "commit": [b"INSERT INTO flush_batches", b"COMMIT"],  # not that of a partition
    "settle": [sha("pipeline.flushing.settle")],
    "note_flush": [sha("pipeline.flushing.note_flush")],
}


@pytest.mark.parametrize("left_over", [False, True], ids=["", "a batch was left over"])
@pytest.mark.parametrize("lost", LOST)
def test_a_flush_that_loses_a_reply_is_repeated_and_stores_once(
    services: Services,
    unlucky: Services,
    to_redis: ReplyCutter,
    to_postgres: ReplyCutter,
    lost: str,
    left_over: bool,
) -> None:
    count_events(services, *[event(user_id=f"u{n}") for n in range(5)])
    if left_over:
        services.claims.claim("b1", 3, (0, 0))
    cutter = to_redis if lost in ("claim", "settle", "note_flush") else to_postgres
    cutter.lose_the_answer_to(*LOST[lost])

    with pytest.raises(ServerUnavailable):
        unlucky.flush()

    assert cutter.cut == 1
    assert read(services) == 5
    unlucky.flush()
    assert stored_total(services) == read(services) == 5
    assert [row[-1] for row in rows(services, "analytics_user_daily")] == [1] * 5
    assert services.claims.open_batches() == []


def test_a_claim_whose_reply_was_lost_returns_the_same_when_it_is_repeated(
    services: Services, unlucky: Services, to_redis: ReplyCutter
) -> None:
    count_events(services, event(user_id="u1"))
    to_redis.lose_the_answer_to(sha("pipeline.flushing.claim"))
    with pytest.raises(redis.ConnectionError):
        unlucky.claims.claim("b1", 1_000, (0, 0))
    count_events(services, event("click"))
    again = unlucky.claims.claim("b1", 1_000, (0, 0))
    assert (again.number, again.size) == (1, 3)
    assert set(again.named) == {services.keys.daily("page_view", f"{TODAY}")}
    found = services.claims.take_over("b1")
    assert (again.named, again.buckets) == (found.named, found.buckets)
    assert list(services.claims.read_buckets(again)) == [
        {f"u1:page_view:{TODAY}".encode(): b"1"},
        {f"quarter:page_view:{TODAY}:15:00".encode(): b"1"},
    ]
    assert services.claims.pending() == again.pending == 2


# Maintenance


STEPS: dict[str, Callable[[Services], Any]] = {
    "pipeline.upkeep.repair": lambda services: services.repair_counters(),
    "pipeline.flushing.accept": lambda services: services.accept_redis_state(),
    "XDEL": lambda services: services.move_dead_letters(),
    "DELETE FROM flush_batches": lambda services: services.maintain(datetime.now(UTC)),
}


@pytest.mark.parametrize("lost", STEPS)
def test_maintenance_that_loses_a_reply_is_repeated_without_harm(
    services: Services,
    unlucky: Services,
    to_redis: ReplyCutter,
    to_postgres: ReplyCutter,
    lost: str,
) -> None:
    for _ in range(2):
        count_events(services, event())
        services.flush()
    services.redis.delete(services.keys.batches)
    with services.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE flush_batches SET stored_at = stored_at - '1y'::interval"
        )
    services.counters.apply([message(event(), bad=[BadEvent(b"{}", "reason")])], NOW)
    services.redis.delete(services.keys.pending_flush)
    cutter = to_postgres if lost.startswith("DELETE") else to_redis
    cutter.lose_the_answer_to(sha(lost) if lost.islower() else lost.encode())

    with pytest.raises(ServerUnavailable):
        STEPS[lost](unlucky)

    assert cutter.cut == 1
    for step in STEPS.values():
        step(unlucky)
    unlucky.flush()
    assert stored_total(services) == read(services) == 3
    assert (services.status()["dead_letters"], len(rows(services, "dead_letters"))) == (1, 1)
