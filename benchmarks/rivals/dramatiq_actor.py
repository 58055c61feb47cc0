"""A dramatiq actor that counts one event, on dramatiq's own Redis broker."""

from __future__ import annotations

import os
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

from benchmarks.rivals.counters import add_event

URL = os.environ.get("ANALYTICS_REDIS_URL", "redis://localhost:6379/0")
QUEUE = "rival"
KEYS = (f"dramatiq:{QUEUE}.msgs", f"dramatiq:{QUEUE}")
"""Where the broker keeps the messages, and the list of their ids."""

broker = RedisBroker(url=URL)
dramatiq.set_broker(broker)
_client = redis.Redis.from_url(URL)


@dramatiq.actor(queue_name=QUEUE)
def count(event_type: str, user_id: str, properties: dict[str, Any]) -> None:
    """Count an event per day and hour, and its user per day."""
    pipeline = _client.pipeline(transaction=False)
    add_event(pipeline, event_type, user_id)
    pipeline.execute()
