"""The control: plain Celery tasks on the stock transport, as most would write them.

Late acknowledgement, tasks rejected when their worker is lost, the client's and Celery's own
retries, a duplicate check for events with an id, all increments of an event in one transaction, and
a flush that takes counters and adds them to Postgres in one transaction. Under the campaign this
loses events and counts others twice; a campaign that does not see it is blind.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from functools import cache
from typing import Any

import psycopg
import redis
from celery import Celery

from tests.chaos.checks.account import Key, increments_of

EVENTS_QUEUE = "control.events"
UNACKED = "unacked"
_FLUSH_QUEUE = "control.flush"
_PENDING = "control:pending"
_FLUSHED_AT_ONCE = 1_000
_CONNECT_TIMEOUT_S = 5


def _options() -> dict[str, Any]:
    return {
        "broker_url": os.environ["ANALYTICS_REDIS_URL"],
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "visibility_timeout": int(os.environ["ANALYTICS_VISIBILITY_TIMEOUT_S"]),
            # kombu's defaults would make the campaign wait for minutes.
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "unacked_mutex_expire": 5,
        },
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_ignore_result": True,
        "task_routes": {
            "control.track": {"queue": EVENTS_QUEUE},
            "control.flush": {"queue": _FLUSH_QUEUE},
        },
        "beat_scheduler": "celery.beat:Scheduler",
        "beat_schedule": {
            "flush": {
                "task": "control.flush",
                "schedule": float(os.environ["ANALYTICS_FLUSH_INTERVAL_S"]),
            }
        },
    }


app = Celery("control", set_as_current=False)
app.add_defaults(_options)


@cache
def _redis(pid: int) -> redis.Redis:
    return redis.Redis.from_url(os.environ["ANALYTICS_REDIS_URL"])


@app.task(name="control.track")
def track(event: dict[str, Any]) -> None:
    """Count one event."""
    client = _redis(os.getpid())
    event_id = event.get("event_id")
    if event_id is not None and not client.set(f"seen:{event_id}", 1, nx=True, ex=86_400):
        return
    pipeline = client.pipeline()
    for key, n in increments_of(event).items():
        name = json.dumps(key)
        pipeline.incrby(name, n)
        pipeline.sadd(_PENDING, name)
    pipeline.execute()


@app.task(name="control.flush")
def flush() -> None:
    """Move what is pending into Postgres."""
    client = _redis(os.getpid())
    while names := client.spop(_PENDING, _FLUSHED_AT_ONCE):
        counts = {name.decode(): int(client.getdel(name) or 0) for name in names}
        with psycopg.connect(
            os.environ["ANALYTICS_POSTGRES_URL"].replace("+psycopg", ""),
            connect_timeout=_CONNECT_TIMEOUT_S,
        ) as connection:
            connection.cursor().executemany(
                "INSERT INTO control_counts VALUES (%s, %s) ON CONFLICT (name) "
                "DO UPDATE SET count = control_counts.count + excluded.count",
                sorted(counts.items()),
            )


def create_table(postgres_url: str) -> None:
    """Set the database up."""
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE control_counts (name TEXT PRIMARY KEY, count BIGINT)")


def counts(redis_url: str, postgres_url: str) -> dict[Key, int]:
    """Every counter, stored and live."""
    found: Counter[Key] = Counter()
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        for name, count in connection.execute("SELECT name, count FROM control_counts"):
            found[tuple(json.loads(name))] += count
    with redis.Redis.from_url(redis_url) as client:
        for name in client.scan_iter("[[]*", count=1_000):
            found[tuple(json.loads(name))] += int(client.get(name) or 0)
    for _, _, event_type, day in [key for key in found if key[0] == "user"]:
        found["users", event_type, day] += 1
    return dict(found)
