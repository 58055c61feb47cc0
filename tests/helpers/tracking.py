"""What tests of the trackers share: what was sent, and a broker that takes nothing for a while."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import redis

from pipeline import Tracker
from pipeline.embedded import Server
from pipeline.services import Services
from tests.helpers.processes import run_python
from tests.helpers.support import arguments, fetch, sent

WAIT_FOR_EVER_S = 3_600.0
"""An age that no event reaches in a test."""


def messages_sent(client: redis.Redis) -> list[list[dict[str, Any]]]:
    """The events of each message in the queue, in the order in which they were sent."""
    return [arguments(message)[0][0] for message in sent(client)]


def users_sent(client: redis.Redis) -> list[str]:
    """Of every event in the queue its user, in order."""
    return [event["user_id"] for events in messages_sent(client) for event in events]


def users(count: int, prefix: str = "u") -> list[str]:
    return [f"{prefix}{n}" for n in range(count)]


def track_all(tracker: Tracker, names: list[str]) -> None:
    """One event of each user."""
    for name in names:
        tracker.track("page_view", name)


@contextmanager
def refusing(client: redis.Redis) -> Iterator[None]:
    """Redis takes no events for the time of the block: its memory is full."""
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


@contextmanager
def standing_still(server: Server) -> Iterator[None]:
    """The server answers nothing for the time of the block, and all that was asked after it."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def count_queue(services: Services) -> Counter[str]:
    """Count what waits in the queue as a worker does; returns how often each user was counted."""
    from tasks.consumer.messages import read_message  # reads the settings of workers

    now = datetime.now(UTC)
    counted: Counter[str] = Counter()
    while fetched := fetch(services):
        for tag, raw in fetched:
            read = read_message(tag, raw, now)
            assert read is not None
            assert not read.delivery.bad
            applied = services.counters.apply([read.delivery], now)
            if applied.counted:
                counted.update(event.user_id or "" for event in read.delivery.events)
    return counted


def run(program: str, redis_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, which must end well."""
    environment = {"ANALYTICS_REDIS_URL": redis_url}
    ran = run_python("-c", program, *arguments, environment=environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran
