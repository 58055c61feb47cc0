"""Measure and print ratios: times on one machine say little, ratios in one run say more."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from config.settings import Settings
from pipeline import producer, schema
from pipeline.deliveries import Delivery
from pipeline.embedded import PrivateServers
from pipeline.events import Event
from pipeline.services import Services, connect

USERS = 5_000
PUBLISHED_AT_ONCE = 200
ROUNDS = 5
OUR_EVENTS, PLAIN_EVENTS = 20_000, 2_000
COUNTERS, PLAIN_ROWS = 100_000, 10_000
_UPSERT = text(
    "INSERT INTO plain_user_daily (date, event_type, user_id, count) "
    "VALUES (:date, 'page_view', :user_id, 1) ON CONFLICT (date, event_type, user_id) "
    "DO UPDATE SET count = plain_user_daily.count + excluded.count"
)


def main() -> None:
    """Run every row on private servers with `appendfsync everysec`, for rivals and us alike."""
    with (
        tempfile.TemporaryDirectory() as directory,
        PrivateServers.start(Path(directory) / "servers", appendfsync="everysec") as servers,
    ):
        assert servers.redis_url is not None
        assert servers.postgres_url is not None
        os.environ |= {
            "ANALYTICS_REDIS_URL": servers.redis_url,
            "ANALYTICS_POSTGRES_URL": servers.postgres_url,
            "ANALYTICS_APPENDFSYNC": "everysec",
        }
        services = connect(Settings(), servers.redis_url, servers.postgres_url)
        schema.migrate(services.engine)
        producer.configure(redis_url=servers.redis_url)
        table = Table("what", "ours", "rival", "rival is", "ratio", title="Benchmarks")
        for row in (publish(), count(services), flush(services)):
            table.add_row(*row)
        services.close()
        Console().print(table)


def publish() -> tuple[str, ...]:
    """Microseconds in the caller of one `.delay()`."""
    from benchmarks import plain

    ours, rival = [], []
    for _ in range(ROUNDS):
        ours.append(_each(lambda i: producer.track_event.delay("bench", user_id=f"u{i}")))
        rival.append(_each(lambda i: plain.count.delay("bench", f"u{i}")))
    mine, theirs = statistics.median(ours), statistics.median(rival)
    return (
        "track_event.delay(), µs in the caller",
        f"{mine * 1e6:,.0f}",
        f"{theirs * 1e6:,.0f}",
        "Celery's .delay()",
        f"{theirs / mine:.1f} times less",
    )


def count(services: Services) -> tuple[str, ...]:
    """Single-event messages counted a second by one worker process."""
    from benchmarks import plain

    client = services.redis
    for i in range(OUR_EVENTS - client.llen(producer.EVENTS_QUEUE)):
        producer.track_event.delay("bench", user_id=f"u{i % USERS}")
    for i in range(PLAIN_EVENTS - client.llen(plain.QUEUE)):
        plain.count.delay("bench", f"u{i % USERS}")
    with _worker("tasks", producer.EVENTS_QUEUE):
        ours = _rate(OUR_EVENTS, lambda: int(client.hget("analytics:totals", "counted") or 0))
    with _worker("benchmarks.plain", plain.QUEUE):
        rival = _rate(PLAIN_EVENTS, lambda: int(client.get(plain.DONE) or 0))
    return (
        "single events counted a second, one worker",
        f"{ours:,.0f}",
        f"{rival:,.0f}",
        "a plain Celery task, one pipeline per event",
        f"{ours / rival:.1f} times",
    )


def flush(services: Services) -> tuple[str, ...]:
    """User counters stored a second."""
    now = datetime.now(UTC)
    services.flush()
    for first in range(0, COUNTERS, 1_000):
        users = range(first, first + 1_000)
        events = [Event.create("bench", f"flushed{user}", now=now) for user in users]
        services.counters.apply([Delivery(events)], now)
    began = time.perf_counter()
    ours = services.flush() / (time.perf_counter() - began)
    with services.engine.begin() as connection:
        connection.execute(text("CREATE TABLE plain_user_daily (LIKE analytics_user_daily)"))
        connection.execute(
            text("ALTER TABLE plain_user_daily ADD PRIMARY KEY (date, event_type, user_id)")
        )
    began = time.perf_counter()
    for first in range(0, PLAIN_ROWS, 100):
        with services.engine.begin() as connection:
            rows = [{"date": now.date(), "user_id": f"u{first + i}"} for i in range(100)]
            connection.execute(_UPSERT, rows)
    rival = PLAIN_ROWS / (time.perf_counter() - began)
    return (
        "user counters flushed a second",
        f"{ours:,.0f}",
        f"{rival:,.0f}",
        "upserts by executemany in hundreds",
        f"{ours / rival:.1f} times",
    )


def _each(send: Callable[[int], object]) -> float:
    began = time.perf_counter()
    for i in range(PUBLISHED_AT_ONCE):
        send(i)
    return (time.perf_counter() - began) / PUBLISHED_AT_ONCE


def _rate(events: int, counted: Callable[[], int]) -> float:
    """Events a second between the first look that finds some counted and the last event."""
    while not (before := counted()):
        time.sleep(0.002)
    began = time.perf_counter()
    while counted() < events:
        time.sleep(0.002)
    return (events - before) / (time.perf_counter() - began)


@contextmanager
def _worker(app: str, queue: str) -> Iterator[None]:
    command = [sys.executable, "-m", "celery", "-A", app, "worker", "-Q", queue, "-P", "solo"]
    worker = subprocess.Popen(
        [*command, "-l", "ERROR"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        worker.terminate()
        worker.wait()


if __name__ == "__main__":
    main()
