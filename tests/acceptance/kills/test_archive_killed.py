"""Archive consumers killed at named points and at random: the table holds each event once.

`ANALYTICS_TEST_ARCHIVE_KILLS` and `ANALYTICS_TEST_ARCHIVE_EVENTS` make the random run longer.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from pipeline.event.model import Event
from pipeline.services import Services
from tests.acceptance.drivers.archive_driver import MOMENTS
from tests.helpers.processes import LIMIT_S, piped_python
from tests.helpers.support import NOW, count_events, execute

KILLS = int(os.environ.get("ANALYTICS_TEST_ARCHIVE_KILLS", "30"))
EVENTS = int(os.environ.get("ANALYTICS_TEST_ARCHIVE_EVENTS", "20000"))
EVENTS_AN_ENTRY = 100
CONSUMERS = 2


class Consumers:
    """Starts runs of the archive in processes of their own."""

    def __init__(self, redis_url: str, postgres_url: str) -> None:
        self.urls = redis_url, postgres_url

    @contextmanager
    def running(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        command = ["-m", "tests.acceptance.drivers.archive_driver", *self.urls]
        with piped_python(*command, *options) as process:
            yield process

    def killed(self, at: str, nth: int, *options: str) -> None:
        """Run one that must die at this moment."""
        with self.running("--at", at, "--nth", f"{nth}", *options) as process:
            said = process.communicate(timeout=LIMIT_S)
            assert process.returncode == -9, f"{at} {nth} never came: {said}"

    def whole(self, *options: str) -> int:
        """Run one to its end; returns how many events it archived."""
        with self.running(*options) as process:
            out, err = process.communicate(timeout=LIMIT_S)
            assert process.returncode == 0, err
            return int(out.split()[-1])


@pytest.fixture
def consumers(redis_url: str, postgres_url: str) -> Consumers:
    return Consumers(redis_url, postgres_url)


def count(services: Services, events: int, first: int = 0) -> None:
    """Count events of so many users, some in an entry."""
    for begin in range(first, first + events, EVENTS_AN_ENTRY):
        numbers = range(begin, min(begin + EVENTS_AN_ENTRY, first + events))
        count_events(services, *(Event("page_view", NOW, f"u{n}", {"path": "/"}) for n in numbers))


def often(services: Services) -> dict[int, int]:
    """How many users are in the archive how often."""
    statement = (
        "SELECT n, count(*) FROM (SELECT count(*) AS n FROM events GROUP BY user_id) AS of_user "
        "GROUP BY n"
    )
    return dict(map(tuple, execute(services, statement)))


def catalogued(services: Services) -> list[int]:
    """How many events the catalogue has of the type, and of its property."""
    tables = ("analytics_event_types", "analytics_event_properties")
    return [n for name in tables for (n,) in execute(services, f"SELECT events FROM {name}")]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_consumer_killed_at_any_step_leaves_each_event_once(
    services: Services, consumers: Consumers, moment: str
) -> None:
    count(services, 1_000)

    consumers.killed(moment, 2)

    count(services, 300, first=1_000)
    consumers.whole()
    assert often(services) == {1: 1_300}
    assert catalogued(services) == [1_300, 1_300]
    assert services.event_log.read_status()["entries"] == 0


def test_a_consumer_killed_while_it_takes_over_from_a_killed_one_leaves_each_event_once(
    services: Services, consumers: Consumers
) -> None:
    count(services, 1_000)
    for moment in ("before copy", "before commit", "after commit", "before finish"):
        consumers.killed(moment, 1)
    consumers.whole()
    assert often(services) == {1: 1_000}
    assert catalogued(services) == [1_000, 1_000]


def test_without_the_ledger_a_consumer_killed_before_it_finishes_doubles_events(
    services: Services, consumers: Consumers
) -> None:
    count(services, 1_000)
    consumers.killed("before finish", 1, "--without-ledger")
    consumers.whole("--without-ledger")
    assert often(services) == {1: 1_000 - 4 * EVENTS_AN_ENTRY, 2: 4 * EVENTS_AN_ENTRY}
    assert catalogued(services) == [1_000 + 4 * EVENTS_AN_ENTRY] * 2


@pytest.mark.timeout(120 + KILLS + EVENTS // 500)
def test_consumers_killed_at_random_leave_each_event_once(
    services: Services, consumers: Consumers
) -> None:
    count(services, EVENTS)
    counted = EVENTS
    options = ["--events-at-once", "1000", "--kills", f"{KILLS // CONSUMERS}", "--seed"]
    with ExitStack() as stack:
        killers = [
            stack.enter_context(consumers.running(*options, f"{seed}")) for seed in range(CONSUMERS)
        ]
        while any(one.poll() is None for one in killers):
            # Every consumer has work when it dies.
            if services.event_log.read_status()["events"] < EVENTS // 2:
                count(services, 1_000, first=counted)
                counted += 1_000
        killed = [int(one.communicate()[0]) for one in killers]
    assert killed == [KILLS // CONSUMERS] * CONSUMERS
    dead = {one["name"] for one in services.event_log.read_status()["consumers"]}
    print(f"\n{sum(killed)} kills, {counted:,} events, {len(dead)} dead consumers in the group")

    consumers.whole("--events-at-once", "20000")

    assert often(services) == {1: counted}
    assert catalogued(services) == [counted, counted]
    services.flush()
    assert services.audit(NOW.date(), NOW.date()) == []
