"""Whatever lies in a queue: workers live on and count what is right, and the books say where the
rest went."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from pipeline.contract import (
    EVENTS_QUEUE,
    FLUSH_COUNTERS,
    FLUSH_QUEUE,
    MAINTENANCE_QUEUE,
    TRACK_EVENT,
)
from pipeline.services import Services
from tests.fuzz.budget import fuzz
from tests.fuzz.memory import MAY_GROW_BYTES, memory_bytes
from tests.fuzz.strategies.messages import control_messages, event_messages, other_messages
from tests.helpers.support import Worker, Workers, eventually
from tests.helpers.web_process import lately, wait_until_consumed

EXAMPLES = 25
MESSAGES = 20
"""In an example, before a good event must have been counted."""
PIDBOX = "/0.celery.pidbox"

pytestmark = pytest.mark.timeout(300)


@dataclass
class Queues:
    """Worker processes, and what they are sent."""

    services: Services
    workers: list[Worker]
    stock: Celery

    def __post_init__(self) -> None:
        self.good = 0

    def put(self, queue: str, messages: list[bytes]) -> None:
        self.services.redis.lpush(queue, *messages)

    def publish(self, channel: str, messages: list[bytes]) -> None:
        for message in messages:
            self.services.redis.publish(channel, message)

    def check_alive(self) -> None:
        """A good event is counted, and a flush done: nothing has ended or blocked a worker."""
        self.good += 1
        self.stock.send_task(TRACK_EVENT, ["good"], queue=EVENTS_QUEUE)
        self.stock.send_task(FLUSH_COUNTERS, queue=FLUSH_QUEUE)
        eventually(self._is_done, what="what was sent is done")
        assert all(worker.alive() for worker in self.workers)

    def _is_done(self) -> bool:
        waiting = [EVENTS_QUEUE, FLUSH_QUEUE, MAINTENANCE_QUEUE]
        with self.services.redis.pipeline() as pipeline:
            for queue in waiting:
                pipeline.llen(queue)
            return not any(pipeline.execute())


@pytest.fixture
def queues(services: Services, workers: Workers, redis_url: str) -> Iterator[Queues]:
    started = [
        workers.start(kind, "-l", "WARNING", ready=False, VISIBILITY_TIMEOUT_S="5")
        for kind in ("events", "flush")
    ]
    with Celery(broker=redis_url) as stock:
        queues = Queues(services, started, stock)
        queues.check_alive()
        yield queues


@pytest.mark.parametrize(
    ("queue", "strategy"),
    [
        (EVENTS_QUEUE, event_messages | other_messages),
        (FLUSH_QUEUE, other_messages),
        (MAINTENANCE_QUEUE, other_messages),
        (PIDBOX, control_messages()),
    ],
    ids=["events", "flush", "maintenance", "control"],
)
def test_any_message_ends_no_worker_and_the_books_balance(
    queues: Queues, queue: str, strategy: SearchStrategy[bytes]
) -> None:
    send: Callable[[str, list[bytes]], None] = queues.publish if queue == PIDBOX else queues.put
    before = [memory_bytes(worker.process.pid) for worker in queues.workers]

    @given(messages=st.lists(strategy, min_size=1, max_size=MESSAGES))
    def check(messages: list[bytes]) -> None:
        send(queue, messages)
        queues.check_alive()

    fuzz(check, EXAMPLES)

    services = queues.services
    wait_until_consumed(services)
    assert services.stats.count("good", *lately()) == queues.good
    books = services.status()["books"]
    assert books["balanced"]
    for worker, before_bytes in zip(queues.workers, before, strict=True):
        assert memory_bytes(worker.process.pid) - before_bytes < MAY_GROW_BYTES
        # Celery answers a control command that fails with a traceback, and logs it.
        assert queue == PIDBOX or "Traceback" not in worker.said()
        # kombu raises of a broadcast that it cannot read.
        assert queue == PIDBOX or "Connection to broker lost" not in worker.said()
