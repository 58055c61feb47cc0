"""A worker so slow that its messages are given back while it holds them, and that fetches them
again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from pipeline.counting.batch import Delivery
from pipeline.services import Services
from tests.helpers.aging import grow_older
from tests.helpers.support import TODAY, event
from tests.integration.transport.support import KEYS, QUEUE, Connect, consume, drain, publish

MESSAGES = 30
VISIBILITY_TIMEOUT_S = 60


class SlowWorker:
    """Keeps what it is handed, as the batch consumer does while it cannot count."""

    def __init__(self, channel: Any, task_ids: bool) -> None:
        self.channel = channel
        self.task_ids = task_ids
        self.held: list[tuple[str, bytes]] = []
        channel.raw_handler = self.handle

    def handle(self, fetched: Any) -> list[Any]:
        self.held.extend(fetched)
        return []

    def deliveries(self) -> list[Delivery]:
        """A message of a stock client is known by its task id, one of ours by its tag alone."""
        return [
            Delivery([event()], tag=tag, task_id=tag.partition("~")[0] if self.task_ids else None)
            for tag, _ in self.held
        ]


@pytest.fixture
def slow(connect: Connect, task_ids: bool) -> SlowWorker:
    """A worker that has fetched all messages, was too slow, and has fetched them again."""
    connection = connect(visibility_timeout=VISIBILITY_TIMEOUT_S)
    publish(connection, *range(MESSAGES))
    channel, _ = consume(connection)
    worker = SlowWorker(channel, task_ids)
    drain(connection, lambda: len(worker.held) == MESSAGES)
    return worker


def fetch_again(slow: SlowWorker, services: Services) -> None:
    """The visibility timeout passes while the worker is at work; its own sweep gives them back."""
    grow_older(services, timedelta(seconds=VISIBILITY_TIMEOUT_S + 1))
    slow.channel.qos.restore_visible(interval=1)
    drain(slow.channel.connection.client, lambda: len(slow.held) == 2 * MESSAGES)
    assert len({tag for tag, _ in slow.held}) == 2 * MESSAGES


@pytest.mark.parametrize("task_ids", [False, True], ids=["ours", "stock"])
@pytest.mark.parametrize("order", ["one batch", "first the old", "first the new"])
def test_a_message_restored_and_fetched_again_by_the_same_slow_worker_is_counted_once(
    slow: SlowWorker, services: Services, server: redis.Redis, order: str
) -> None:
    fetch_again(slow, services)
    deliveries = slow.deliveries()
    old, new = deliveries[:MESSAGES], deliveries[MESSAGES:]
    batches = {
        "one batch": [deliveries],
        "first the old": [old, new],
        "first the new": [new, old],
    }[order]

    counted = [services.counters.apply(batch, datetime.now(UTC)) for batch in batches]
    slow.channel.close()

    assert sum(one.counted for one in counted) == MESSAGES
    assert sum(one.duplicate for one in counted) == 0
    assert services.stats.daily_count("page_view", TODAY) == MESSAGES
    assert not server.exists(QUEUE, KEYS.unacked, KEYS.unacked_index)


@pytest.mark.parametrize("task_ids", [False])
def test_a_message_counted_late_and_restored_too_late_is_counted_once(
    slow: SlowWorker, services: Services, server: redis.Redis
) -> None:
    """The worker counts after the timeout has passed and before the sweep."""
    grow_older(services, timedelta(seconds=VISIBILITY_TIMEOUT_S + 1))
    services.counters.apply(slow.deliveries(), datetime.now(UTC))
    slow.channel.qos.restore_visible(interval=1)
    slow.channel.close()
    assert services.stats.daily_count("page_view", TODAY) == MESSAGES
    assert not server.exists(QUEUE, KEYS.unacked, KEYS.unacked_index)
