"""Messages whose headers make no sense end no worker: they are dead letters, or are run."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery

from pipeline.contract import FLUSH_COUNTERS, FLUSH_QUEUE
from pipeline.services import Services
from tests.helpers.support import (
    Workers,
    count_events,
    event,
    eventually,
    stored_total,
    waiting_letters,
)

HEADERS: dict[str, tuple[dict[str, Any], int]] = {
    "texts": ({"timelimit": ["x", "y"]}, 1),
    "one": ({"timelimit": [1]}, 1),
    "number": ({"timelimit": 5}, 1),
    "negative": ({"timelimit": [-1, -1]}, 1),
    "nested": ({"timelimit": [[], {}]}, 1),
    "true": ({"timelimit": [True, True]}, 1),
    "retries": ({"retries": "x"}, 0),
    "ids": ({"group": ["x"], "parent_id": [1], "root_id": {}, "origin": 7}, 0),
    "limits": ({"timelimit": [60, 30.5]}, 0),
    "no limits": ({"timelimit": [None, None]}, 0),
}


@pytest.mark.parametrize(("headers", "dead"), HEADERS.values(), ids=HEADERS)
def test_a_header_that_makes_no_sense_ends_no_worker(
    services: Services, workers: Workers, redis_url: str, headers: dict[str, Any], dead: int
) -> None:
    worker = workers.start("flush")
    count_events(services, event())
    with Celery(broker=redis_url) as stock:
        stock.send_task(FLUSH_COUNTERS, queue=FLUSH_QUEUE, headers=headers)
        stock.send_task(FLUSH_COUNTERS, queue=FLUSH_QUEUE)

    eventually(lambda: stored_total(services) == 1)
    eventually(lambda: not services.redis.llen(FLUSH_QUEUE))
    eventually(lambda: not services.redis.hlen(services.keys.jobs_unacked))
    assert worker.alive()
    assert services.status()["dead_letters"] == dead


BODIES: list[list[Any]] = [
    [["x"], {}, {}],
    [[], {"x": 1}, {}],
    [[], {}, {"callbacks": ["x"]}],
    [[], {}, {"callbacks": {"a": 1}}],
    [[], {}, {"callbacks": [{"args": []}]}],
    [[], {}, {"chain": [None]}],
    [[], {}, {"chord": 5}],
    [[], {}, 7],
    [[], {}],
]


def test_a_body_that_makes_no_sense_is_a_dead_letter_and_no_traceback(
    services: Services, workers: Workers, redis_url: str
) -> None:
    worker = workers.start("flush")
    for body in BODIES:
        put(services.redis, FLUSH_QUEUE, body)
    with Celery(broker=redis_url) as stock:
        stock.send_task(FLUSH_COUNTERS, queue=FLUSH_QUEUE)

    eventually(lambda: services.status()["dead_letters"] == len(BODIES))
    eventually(lambda: not services.redis.llen(FLUSH_QUEUE))
    assert worker.alive()
    assert "Traceback" not in worker.said()


def put(client: redis.Redis, queue: str, body: list[Any]) -> None:
    """A message with this body, as a Celery client would send a right one."""
    message = {
        "body": b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": FLUSH_COUNTERS, "id": uuid4().hex},
        "properties": {
            "correlation_id": "x",
            "delivery_info": {"exchange": "", "routing_key": queue},
            "delivery_tag": uuid4().hex,
            "body_encoding": "base64",
        },
    }
    client.lpush(queue, json.dumps(message))


def envelope(**properties: Any) -> bytes:
    """A message whose body is no matter, with these properties among the usual ones."""
    usual = {"delivery_tag": "t", "delivery_info": {"exchange": "", "routing_key": FLUSH_QUEUE}}
    return json.dumps({"body": "e30=", "headers": {}, "properties": usual | properties}).encode()


UNREADABLE = [
    *(b"", b"no JSON", b"\xff", b"[]", b"7", b"null", b"{}", b"[" * 100_000),
    *(b'{"properties": null}', b'{"properties": {}, "body": 5}', b"9" * 5_000),
    *(envelope(delivery_tag=tag) for tag in (None, 7, True, [], {})),
    *(envelope(delivery_info=info) for info in (None, "x", {}, {"exchange": "", "routing_key": 7})),
    *(envelope(body_encoding=name) for name in ("base64", "none such", [7])),
]
UNREADABLE[-3] = UNREADABLE[-3].replace(b"e30=", b"e30")  # cut off
"""What kombu itself cannot read, and has taken by then."""


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_what_kombu_cannot_read_is_a_dead_letter_as_it_came_and_cuts_no_connection(
    services: Services, workers: Workers, client: redis.Redis, redis_url: str, pool: str
) -> None:
    worker = workers.start("flush", "-P", pool)
    count_events(services, event())
    client.lpush(FLUSH_QUEUE, *UNREADABLE)
    with Celery(broker=redis_url) as stock:
        stock.send_task(FLUSH_COUNTERS, queue=FLUSH_QUEUE)

    eventually(lambda: stored_total(services) == 1)
    eventually(lambda: not services.redis.hlen(services.keys.jobs_unacked))
    assert {fields[b"body"] for fields in waiting_letters(services)} == set(UNREADABLE)
    assert services.status()["books"]["balanced"]
    assert worker.said().count("a message becomes a dead letter: it cannot be read") == len(
        UNREADABLE
    )
    assert "Connection to broker lost" not in worker.said()


BROADCASTS = [
    *("null", "[]", "5", "{}", '{"properties": null}', '{"properties": {}, "body": 5}'),
    '{"properties": {"delivery_tag": {}}, "headers": 1}',
]


def test_a_broadcast_that_makes_no_sense_ends_no_worker(
    services: Services, workers: Workers, redis_url: str
) -> None:
    started = [workers.start(kind) for kind in ("events", "flush")]
    with Celery(broker=redis_url) as stock:
        eventually(lambda: len(stock.control.ping(timeout=0.5)) == len(started))
        for message in BROADCASTS:
            services.redis.publish("/0.celery.pidbox", message)

        eventually(lambda: len(stock.control.ping(timeout=0.5)) == len(started))
    for worker in started:
        assert worker.alive()
