"""Messages whose headers make no sense end no worker: they are dead letters, or are run."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from pipeline.contract import FLUSH_COUNTERS, FLUSH_QUEUE
from pipeline.services import Services
from tests.helpers.support import Workers, count_events, event, eventually, stored_total

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
    eventually(lambda: not services.redis.hlen(services.keys.unacked))
    assert worker.alive()
    assert services.status()["dead_letters"] == dead
