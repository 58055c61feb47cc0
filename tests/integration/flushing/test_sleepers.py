"""A flusher that sleeps for an hour in the middle of its work, and a reader that does for minutes.

No clock is moved: everything else grows older meanwhile (`tests/helpers/aging.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError

from pipeline.flushing.claims import Claim, Claims, Fields
from pipeline.flushing.flush import flush
from pipeline.reading.stats import Stats
from pipeline.services import Services
from tests.helpers.aging import grow_older
from tests.helpers.interruptions import InterruptedReader
from tests.helpers.support import TODAY, count_events, event, execute, rows, store, stored_total

HOUR = timedelta(hours=1)
EVENTS = 5
BATCH = 2
"""Counters claimed at a time: a flush of these events takes more than one."""


def some_events(services: Services) -> None:
    count_events(services, *[event(user_id=f"u{n % 2}") for n in range(EVENTS)])


def read(services: Services) -> tuple[int, int, int]:
    """The events of the day, of its hours and of its users, as reads tell them."""
    stats = services.stats
    users = (stats.user_count(f"u{n}", "page_view", TODAY, TODAY) for n in range(2))
    hours = sum(stats.hourly_counts("page_view", TODAY))
    return stats.daily_count("page_view", TODAY), hours, sum(users)


# The flusher


class SleepyFlusher(Claims):
    """Sleeps once, after the step named; `asleep` is what happens meanwhile."""

    step = ""
    asleep: Callable[[], None] | None = None

    def claim(self, batch_id: str, limit: int, newest_stored: tuple[int, int]) -> Claim:
        claimed = super().claim(batch_id, limit, newest_stored)
        if claimed.number:
            self._done("claim")
        return claimed

    def read_buckets(self, claim: Claim) -> Iterator[Fields]:
        for page in super().read_buckets(claim):
            yield page
            self._done("a page of a bucket")

    def take_over(self, batch_id: str) -> Claim:
        found = super().take_over(batch_id)
        self._done("a look into the journal")
        return found

    def settle(self, batch_id: str) -> None:
        self._done("commit")
        super().settle(batch_id)

    def _done(self, step: str) -> None:
        if step == self.step and self.asleep is not None:
            asleep, self.asleep = self.asleep, None
            asleep()


def sleepy_flush(services: Services, step: str, asleep: Callable[[], None]) -> None:
    flusher = SleepyFlusher(services.redis, services.keys)
    flusher.step, flusher.asleep = step, asleep
    flush(flusher, services.store, BATCH)
    assert flusher.asleep is None, f"no {step}"


def end_idle_sessions(services: Services) -> None:
    """What Postgres does with a transaction in which nothing happens for a minute."""
    ended = execute(
        services,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND state = 'idle in transaction'",
    )
    assert ended == [(True,)]


@pytest.mark.parametrize("session", ["lives", "has ended"])
@pytest.mark.parametrize("others", ["flush", "do nothing"])
@pytest.mark.parametrize(
    "step", ["claim", "a look into the journal", "a page of a bucket", "commit"]
)
def test_a_flusher_that_sleeps_for_an_hour_stores_nothing_twice(
    services: Services, step: str, others: str, session: str
) -> None:
    some_events(services)
    if step == "a look into the journal":
        services.claims.claim("left by another", BATCH, (0, 0))
    ended = session == "has ended" and step != "commit"  # with the commit it has ended anyway

    def an_hour() -> None:
        if ended:
            end_idle_sessions(services)
        for _ in range(2):  # long enough for the journal of what is settled meanwhile to go
            grow_older(services, HOUR / 2)
            assert read(services) == (EVENTS, EVENTS, EVENTS)
            if others == "flush":
                services.flush()
            assert read(services) == (EVENTS, EVENTS, EVENTS)

    if ended:
        with pytest.raises(OperationalError):
            sleepy_flush(services, step, an_hour)
    else:
        sleepy_flush(services, step, an_hour)

    assert read(services) == (EVENTS, EVENTS, EVENTS)
    some_events(services)
    services.flush()
    assert stored_total(services) == 2 * EVENTS
    assert [row[-1] for row in rows(services, "analytics_user_daily")] == [6, 4]
    grow_older(services, HOUR)  # so that nothing but Postgres is left to read
    assert read(services) == (2 * EVENTS, 2 * EVENTS, 2 * EVENTS)
    assert services.claims.open_batches() == []


def test_a_claim_that_slept_for_an_hour_is_listed_and_read_all_along(services: Services) -> None:
    some_events(services)
    claim = services.claims.claim("b1", 1_000, (0, 0))
    grow_older(services, HOUR)
    assert services.claims.take_over("b1") == claim
    assert services.claims.open_batches() == ["b1"]
    assert read(services) == (EVENTS, EVENTS, EVENTS)


# The reader


FLUSH_STEPS = ["claim", "store", "settle"]


def go_on_with_flush(services: Services, done: int, until: int) -> None:
    """The steps of a flush from `done` to `until`, of one batch."""
    claims, steps = services.claims, FLUSH_STEPS[done:until]
    if "claim" in steps:
        claims.claim("b1", 1_000, (0, 0))
    if "store" in steps:
        store(services, claims.take_over("b1"))
    if "settle" in steps:
        claims.settle("b1")


@pytest.mark.parametrize("hours", [0.1, 1])
@pytest.mark.parametrize("done", [0, 1, 2, 3], ids=["live", "claimed", "stored", "settled"])
def test_a_reader_that_sleeps_between_its_steps_is_exact(
    services: Services, done: int, hours: float
) -> None:
    """A flush has come some way when the read begins, and goes on to its end meanwhile."""
    some_events(services)
    go_on_with_flush(services, 0, done)
    reader = InterruptedReader(services.redis, services.keys)

    def asleep() -> None:
        go_on_with_flush(services, done, 3)
        grow_older(services, hours * HOUR)

    reader.then = asleep

    assert Stats(reader, services.engine).daily_count("page_view", TODAY) == EVENTS
    assert reader.asked == (2 if done == 0 else 1), "what was live when it began is stored by now"


def test_a_reader_of_a_users_counters_that_sleeps_six_minutes_is_exact(services: Services) -> None:
    some_events(services)
    reader = InterruptedReader(services.redis, services.keys)

    def asleep() -> None:
        go_on_with_flush(services, 0, 3)
        grow_older(services, HOUR / 10)

    reader.then = asleep

    assert Stats(reader, services.engine).user_counts("u0") == {"page_view": {TODAY: 3}}
    assert reader.asked == 2
