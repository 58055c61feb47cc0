"""An ordinary Celery task that counts one event, with late acknowledgement so that a killed worker
loses none."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import redis
from celery import Celery

from benchmarks.rivals.counters import add_event

URL = os.environ.get("ANALYTICS_REDIS_URL", "redis://localhost:6379/0")
QUEUE = "rival.celery"

app = Celery("rival", broker=URL, set_as_current=False)
app.conf.update(task_ignore_result=True, task_default_queue=QUEUE, task_acks_late=True)


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(URL)


@app.task(name="rival.count")
def count(event_type: str, user_id: str, properties: dict[str, Any]) -> None:
    """Count an event per day and hour, and its user per day."""
    pipeline = _client().pipeline(transaction=False)
    add_event(pipeline, event_type, user_id)
    pipeline.execute()
