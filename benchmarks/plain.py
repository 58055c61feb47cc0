"""The rival: an ordinary Celery task that makes the same counters by one pipeline per event."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import cache

import redis
from celery import Celery

URL = os.environ.get("ANALYTICS_REDIS_URL", "redis://localhost:6379/0")
QUEUE = "plain.events"
DONE = "plain:done"
_LIFETIME_S = 7 * 86_400

app = Celery("plain", broker=URL, set_as_current=False)
app.conf.update(task_ignore_result=True, task_default_queue=QUEUE, task_acks_late=True)


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(URL)


@app.task(name="plain.count")
def count(event_type: str, user_id: str) -> None:
    """Count an event per day and hour, and its user per day."""
    now = datetime.now(UTC)
    names = [
        f"plain:counter:{event_type}:{now:%Y-%m-%d}",
        f"plain:counter:{event_type}:{now:%Y-%m-%d:%H}",
        f"plain:user:{user_id}:{event_type}:{now:%Y-%m-%d}",
    ]
    pipeline = _client().pipeline(transaction=False)
    for name in names:
        pipeline.incr(name)
        pipeline.expire(name, _LIFETIME_S)
        pipeline.sadd("plain:pending", name)
    pipeline.incr(DONE)
    pipeline.execute()
