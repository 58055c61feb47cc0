"""Samples are taken once for a stretch of time, are few, and go after a day."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from pipeline.services import Services
from pipeline.upkeep import heartbeats
from pipeline.upkeep.condition.history import EVERY_S, KEPT_S, read_samples, take_sample
from pipeline.upkeep.heartbeats import list_workers, measure_silence_s
from tests.helpers.support import Workers, count_events, event, eventually


def test_of_many_workers_one_takes_the_sample(services: Services) -> None:
    count_events(services, event(), event())
    while time.time() % EVERY_S > EVERY_S - 2:
        time.sleep(0.1)  # the test must not reach into the next stretch
    taken = [take_sample(services.redis, services.keys, with_queue=True) for _ in range(5)]
    assert taken == [True, False, False, False, False]
    [sample] = read_samples(services.redis, services.keys, 60)
    assert sample.at_s % EVERY_S == 0
    assert sample.numbers["counted"] == 2
    assert sample.numbers["logged"] == 2
    assert sample.numbers["queued"] == sample.numbers["unacknowledged"] == 0
    assert sample.numbers["pending"] == services.claims.pending()


def test_with_another_broker_the_queue_is_not_known(services: Services) -> None:
    assert take_sample(services.redis, services.keys, with_queue=False)
    [sample] = read_samples(services.redis, services.keys, 60)
    assert {"queued", "unacknowledged"}.isdisjoint(sample.numbers)


def test_a_day_of_samples_is_small_and_no_more_are_kept(services: Services) -> None:
    client, name = services.redis, services.keys.history
    newest_ms = (int(time.time()) // EVERY_S - 1) * EVERY_S * 1000
    kept = KEPT_S // EVERY_S
    pipeline = client.pipeline(transaction=False)
    fields = ("published", "counted", "queued", "unacknowledged", "pending", "logged")
    for back in range(kept + 500, 0, -1):
        numbers: dict[str, int] = dict.fromkeys(fields, 10**9 + back)
        pipeline.xadd(name, numbers, id=f"{newest_ms - back * EVERY_S * 1000}-1")  # type: ignore[arg-type]
    pipeline.execute()
    assert take_sample(client, services.keys, with_queue=True)
    assert kept <= client.xlen(name) < kept + 200
    assert client.memory_usage(name, samples=0) < 400_000
    assert KEPT_S - 5 < client.ttl(name) <= KEPT_S
    assert len(read_samples(client, services.keys, 3_600)) < 3_600 / EVERY_S + 1


def test_a_clock_that_was_set_back_adds_nothing(services: Services) -> None:
    ahead_ms = int(time.time() + 600) * 1000
    services.redis.xadd(services.keys.history, {"counted": 5}, id=f"{ahead_ms}-1")
    services.redis.expire(services.keys.history, 60)
    assert not take_sample(services.redis, services.keys, with_queue=True)


def test_a_full_redis_refuses_the_sample(services: Services) -> None:
    with _full(services.redis), pytest.raises(redis.RedisError):
        take_sample(services.redis, services.keys, with_queue=True)
    assert not services.redis.exists(services.keys.history)


@contextmanager
def _full(client: redis.Redis) -> Iterator[None]:
    before = client.config_get("maxmemory")["maxmemory"]
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", before)


def test_heartbeats_of_this_version_and_the_one_before_are_read(services: Services) -> None:
    heartbeats.beat(services.redis, services.keys, "events", "events@new:1")
    now_s = time.time()
    others = {
        "flush:by-type:flush@before": now_s - 100,
        "events:events@older": now_s - 200,
        "events:by-type:events@new:1": now_s - 300,  # the same, before it was upgraded
    }
    services.redis.zadd(services.keys.workers, others)
    found = list_workers(services.redis, services.keys)
    assert [(one.kind, one.name) for one in found] == [
        ("events", "events@new:1"),
        ("flush", "flush@before"),
        ("events", "events@older"),
    ]
    assert found[0].version.count(".") >= 1
    assert (found[1].version, found[2].version) == ("", "")
    assert [one.is_seen for one in found] == [True, False, False]
    silence_s = measure_silence_s(services.redis, services.keys)
    assert silence_s["events"] < 5
    assert 99 <= silence_s["flush"] <= 105


def test_workers_take_samples(services: Services, workers: Workers) -> None:
    workers.start("flush")
    eventually(lambda: services.redis.exists(services.keys.history) == 1, 30)
    assert [one.kind for one in list_workers(services.redis, services.keys)] == ["flush"]
