"""No command holds Redis for long, however many counters there are.

`make stalls` asks for five million counters and 20 ms; the suite for fewer, and for a limit that
other tests on the same cores do not break.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
import redis

from pipeline.event.model import Event
from pipeline.services import Services
from tasks.consumer.batch_consumer import MAX_EVENTS_AT_ONCE
from tests.conftest import MakeServices
from tests.helpers.support import count_events, stored_total

ASKED = os.environ.get("ANALYTICS_TEST_COUNTERS")
USERS = int(ASKED or 60_000)
LIMIT_MS = 20 if ASKED else 100
OF_THE_TYPE = 3
"""Counters of the day, the hour, and of events that are not logged."""
SHOWN = 10

pytestmark = pytest.mark.timeout(1_200 if ASKED else 120)


@contextmanager
def slow_commands(client: redis.Redis) -> Iterator[list[tuple[float, str]]]:
    """Fills the list with the longest commands, as (ms, command), the longest first. Redis rewrites
    no append-only file meanwhile."""
    settings = {
        "slowlog-log-slower-than": 2_000,
        "slowlog-max-len": 100_000,
        "auto-aof-rewrite-percentage": 0,
    }
    before = {name: client.config_get(name)[name] for name in settings}
    found: list[tuple[float, str]] = []
    for name, value in settings.items():
        client.config_set(name, value)
    client.slowlog_reset()
    try:
        yield found
        every = [
            (one["duration"] / 1_000, one["command"][:60].decode(errors="replace"))
            for one in client.slowlog_get(100_000)
        ]
        found += sorted(every, reverse=True)[:SHOWN]
    finally:
        for name, value in before.items():
            client.config_set(name, value)


def test_no_command_holds_redis_for_long(make_services: MakeServices) -> None:
    services: Services = make_services(event_log="none")
    now = datetime.now(UTC)
    day = now.date()
    with slow_commands(services.redis) as slow:
        for first in range(0, USERS, MAX_EVENTS_AT_ONCE):
            users = range(first, min(first + MAX_EVENTS_AT_ONCE, USERS))
            count_events(services, *[Event("page_view", now, f"user-{n:09d}") for n in users])
        assert services.status()["pending_counters"] == USERS + OF_THE_TYPE
        assert services.stats.user_counts("user-000000007") == {"page_view": {day: 1}}
        assert services.stats.daily_count("page_view", day) == USERS
        assert services.flush() == USERS + OF_THE_TYPE
        assert services.stats.daily_count("page_view", day) == USERS

    print(f"{USERS:,} counters; the longest commands (ms): {slow}")
    assert stored_total(services) == USERS
    assert [one for one in slow if one[0] >= LIMIT_MS] == []
