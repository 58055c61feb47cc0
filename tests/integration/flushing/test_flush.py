"""Flushing: every counter reaches Postgres once, whatever step a crash falls on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Barrier, get_ident
from typing import ClassVar

import pytest

from pipeline.event.model import Event
from pipeline.flushing.claims import Claim, Claims, Fields
from pipeline.flushing.flush import flush, store_left_over
from pipeline.flushing.store import FlushTransaction, Store
from pipeline.services import Services
from tests.conftest import MakeServices
from tests.helpers.interruptions import Crash, Crashing
from tests.helpers.support import (
    NOW,
    TODAY,
    count_events,
    event,
    execute,
    rows,
    store,
    stored_total,
    users_of_one_bucket,
)

USERS = 20
"""Of `some_events`, which makes so many counters and two more."""
FIELDS_AT_ONCE = 50
"""Read of a bucket at a time where a test has it so."""


class CrashingClaims(Crashing, Claims):
    """Ends the process before or after a step in Redis."""

    def claim(self, batch_id: str, limit: int, newest_stored: tuple[int, int]) -> Claim:
        self.reached("before claim")
        claimed = super().claim(batch_id, limit, newest_stored)
        self.reached("after claim")
        return claimed

    def take_over(self, batch_id: str) -> Claim:
        found = super().take_over(batch_id)
        self.reached("after reading the journal")
        return found

    def read_buckets(self, claim: Claim) -> Iterator[Fields]:
        for page in super().read_buckets(claim):
            yield page
            self.reached("between two pages of a batch")

    def settle(self, batch_id: str) -> None:
        self.reached("before settle")
        super().settle(batch_id)
        self.reached("after settle")

    def note_flush(self, began_s: int) -> None:
        self.reached("at the end")
        super().note_flush(began_s)


class CrashingStore(Crashing, Store):
    """Ends the process before or after the commit."""

    @contextmanager
    def transaction(self, lock_timeout_s: int = 30) -> Iterator[FlushTransaction]:
        with super().transaction(lock_timeout_s) as transaction:
            yield transaction
            self.reached("before commit")
        self.reached("after commit")


def crashing_flush(services: Services, step: str, batch_size: int, after: int = 1) -> None:
    """A flush that ends when it reaches the step for the time `after`."""
    claims = CrashingClaims(services.redis, services.keys)
    claims.step, claims.times = step, after
    crashing_store = CrashingStore(services.engine, services.keys)
    crashing_store.step, crashing_store.times = step, after
    with pytest.raises(Crash):
        flush(claims, crashing_store, batch_size)


def some_events(services: Services) -> None:
    count_events(services, *[event(user_id=f"u{n}") for n in range(USERS)])


def expected(times: int = 1) -> dict[str, list[tuple[object, ...]]]:
    hour = NOW.replace(minute=0, second=0)
    return {
        "analytics_daily": [("page_view", TODAY, USERS * times)],
        "analytics_hourly": [("page_view", hour, USERS * times)],
        "analytics_user_daily": sorted((TODAY, "page_view", f"u{n}", times) for n in range(USERS)),
        "analytics_dimension_daily": [],
    }


def stored(services: Services) -> dict[str, list[tuple[object, ...]]]:
    return {table: rows(services, table) for table in expected()}


def read(services: Services) -> int:
    return services.stats.daily_count("page_view", TODAY)


def open_batches(services: Services) -> Sequence[str]:
    return services.claims.open_batches()


# What a flush stores


def test_a_flush_stores_every_counter_and_says_how_many(services: Services) -> None:
    count_events(services, event(user_id="u1", properties={"path": "/"}), event("click"))
    assert services.flush() == 6
    assert rows(services, "analytics_daily") == [("click", TODAY, 1), ("page_view", TODAY, 1)]
    hour = NOW.replace(minute=0, second=0)
    assert rows(services, "analytics_hourly") == [("click", hour, 1), ("page_view", hour, 1)]
    assert rows(services, "analytics_user_daily") == [(TODAY, "page_view", "u1", 1)]
    assert rows(services, "analytics_dimension_daily") == [(TODAY, "page_view", "path", "/", 1)]
    assert (services.claims.pending(), open_batches(services)) == (0, [])


def test_counts_of_several_flushes_add_up(services: Services) -> None:
    for _ in range(3):
        some_events(services)
        services.flush()
    assert stored(services) == expected(times=3)


def test_a_flush_of_nothing_stores_nothing(services: Services) -> None:
    assert services.flush() == 0
    assert execute(services, "SELECT * FROM flush_batches") == []


def test_more_than_one_batch_is_stored_by_one_flush(make_services: MakeServices) -> None:
    services = make_services(flush_batch_size=1)
    some_events(services)
    assert services.flush() == USERS + 2
    assert stored(services) == expected()


def test_events_of_any_age_are_stored(services: Services) -> None:
    times = [datetime(1, 1, 1, tzinfo=UTC), datetime(1999, 12, 31, 23, tzinfo=UTC)]
    times += [datetime(2000, 1, 1, tzinfo=UTC), datetime(2015, 5, 17, 10, tzinfo=UTC)]
    properties = {"path": "/"}
    events = [event(user_id="u", properties=properties, timestamp=at) for at in times]
    count_events(services, *events)
    services.flush()
    assert rows(services, "analytics_daily") == [("page_view", at.date(), 1) for at in times]
    stats = services.stats
    for at in times:
        assert stats.hourly_counts("page_view", at.date())[at.hour] == 1
        assert stats.user_count("u", "page_view", at.date(), at.date()) == 1
        assert stats.property_count("page_view", "path", "/", at.date(), at.date()) == 1
    assert list(stats.user_counts("u")["page_view"]) == [at.date() for at in times]


def test_months_of_two_years_get_their_own_partitions_and_older_ones_share_one(
    services: Services,
) -> None:
    now = datetime.now(UTC)
    own = [now, now - timedelta(days=40), now - timedelta(days=690)]
    shared = [now - timedelta(days=800), NOW.replace(year=2003), NOW.replace(year=1)]
    count_events(services, *[Event("page_view", at, "u") for at in (*own, *shared)])
    services.flush()
    found = execute(services, "SELECT date, tableoid::regclass::text FROM analytics_user_daily")
    assert dict(found) == {
        **{at.date(): f"analytics_user_daily_{at:%Y_%m}" for at in own},
        **{at.date(): "analytics_user_daily_default" for at in shared},
    }


def test_a_month_that_began_in_the_default_partition_stays_there(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.postgres.partitions._LOCK_TIMEOUT", "50ms")
    now = datetime.now(UTC)
    count_events(services, Event("page_view", now, "u"))
    with services.engine.connect() as reading:
        reading.exec_driver_sql("SELECT 1 FROM analytics_user_daily")
        services.flush()
    count_events(services, Event("page_view", now, "u"))
    services.flush()
    services.maintain(now)
    found = execute(services, "SELECT count, tableoid::regclass::text FROM analytics_user_daily")
    assert found == [(2, "analytics_user_daily_default")]


# Crashes

STEPS = [
    "before claim",
    "after claim",
    "before commit",
    "after commit",
    "before settle",
    "after settle",
    "at the end",
]


@pytest.mark.parametrize("batch_size", [1_000, 3])
@pytest.mark.parametrize("step", STEPS)
def test_a_flush_that_crashes_at_any_step_and_is_repeated_is_exact(
    services: Services, step: str, batch_size: int
) -> None:
    some_events(services)
    crashing_flush(services, step, batch_size)
    assert read(services) == USERS
    some_events(services)
    assert read(services) == 2 * USERS
    services.flush()
    assert stored(services) == expected(times=2)
    assert read(services) == 2 * USERS
    assert open_batches(services) == []


@pytest.mark.parametrize("step", STEPS)
def test_a_flush_that_crashes_again_and_again_is_exact(services: Services, step: str) -> None:
    for _ in range(3):
        some_events(services)
        crashing_flush(services, step, batch_size=1_000)
    services.flush()
    assert stored(services) == expected(times=3)


@pytest.mark.parametrize(
    "step", ["after reading the journal", "before commit", "after commit", "before settle"]
)
def test_the_repair_of_a_crash_may_crash_as_well(services: Services, step: str) -> None:
    some_events(services)
    for batch_id in ("b1", "b2", "b3"):
        assert services.claims.claim(batch_id, 5, (0, 0)).number
    crashing_flush(services, step, batch_size=5)
    assert read(services) == USERS
    services.flush()
    assert stored(services) == expected()


def test_counters_claimed_by_a_flush_that_crashed_are_stored_by_the_next(
    services: Services,
) -> None:
    some_events(services)
    crashing_flush(services, "after claim", batch_size=1_000)
    assert services.claims.pending() == 0
    assert services.flush() == USERS + 2
    assert services.flush() == 0


def many_users(services: Services, times: int = 1) -> int:
    """Events of more users of one bucket than are read at a time, and of others; returns how
    many."""
    ids = users_of_one_bucket(6 * FIELDS_AT_ONCE, 3) + users_of_one_bucket(FIELDS_AT_ONCE, 9)
    count_events(services, *[event(user_id=one) for one in ids] * times)
    return len(ids)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.flushing.claims.FIELDS_AT_ONCE", FIELDS_AT_ONCE)


def stored_users(services: Services) -> tuple[int, int]:
    """How many users there are in Postgres, and how often they were counted."""
    counts = [row[-1] for row in rows(services, "analytics_user_daily")]
    return len(counts), sum(counts)


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize(("batch_size", "batch"), [(2, 2), (2, 3), (100, 2)])
@pytest.mark.parametrize("step", ["between two pages of a batch", *STEPS[:-1]])
def test_a_flush_of_several_batches_that_crashes_in_any_of_them_is_exact(
    services: Services, step: str, batch_size: int, batch: int
) -> None:
    users = many_users(services)
    crashing_flush(services, step, batch_size, after=batch)
    assert read(services) == users
    many_users(services)
    assert read(services) == 2 * users
    services.flush()
    assert stored_total(services) == read(services) == 2 * users
    assert stored_users(services) == (users, 2 * users)
    assert open_batches(services) == []


# Several flushes at once


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("is_staged", [False, True])
@pytest.mark.parametrize("stores_at", ["the first page", "a later page", "the end"])
def test_a_batch_that_another_flush_takes_over_while_it_is_read_counts_once(
    services: Services, stores_at: str, is_staged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one finds it in the journal, and stores and settles it in the middle."""
    if is_staged:
        monkeypatch.setattr("pipeline.flushing.store.SORTED_IN_MEMORY", 0)
    at_page = {"the first page": 1, "a later page": 3}.get(stores_at)
    others: list[Claim] = []

    def store_others(batch_id: str) -> None:
        others.append(services.claims.take_over(batch_id))
        assert store(services, others[0]) == users + 2
        services.claims.settle(batch_id)

    class Interrupted(Claims):
        def read_buckets(self, claim: Claim) -> Iterator[Fields]:
            for n, page in enumerate(super().read_buckets(claim), start=1):
                yield page
                if n == at_page:
                    store_others(claim.batch_id)
            if at_page is None:
                store_others(claim.batch_id)

    users = many_users(services)
    assert flush(Interrupted(services.redis, services.keys), services.store, 10_000) == 0
    assert [one.size for one in others] == [users + 2]
    assert open_batches(services) == []

    services.flush()
    assert stored_total(services) == read(services) == users
    assert stored_users(services) == (users, users)


@pytest.mark.usefixtures("small_pages")
def test_two_flushers_that_read_the_same_batch_store_each_field_once(services: Services) -> None:
    users = many_users(services, times=2)
    services.claims.claim("b1", 10_000, (0, 0))
    both_have_read_a_page = Barrier(2, timeout=30)

    class AtTheSameMoment(Claims):
        met: ClassVar[set[int]] = set()

        def read_buckets(self, claim: Claim) -> Iterator[Fields]:
            for page in super().read_buckets(claim):
                yield page
                # One of them may read again, when it was first to make a partition.
                if get_ident() not in self.met:
                    self.met.add(get_ident())
                    both_have_read_a_page.wait()

    claims = AtTheSameMoment(services.redis, services.keys)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: store_left_over(claims, services.store), range(2)))
    assert sorted(stored for stored, _ in found) == [0, users + 2]
    assert stored_users(services) == (users, 2 * users)
    assert stored_total(services) == read(services) == 2 * users


def test_parallel_flushes_under_traffic_are_exact(make_services: MakeServices) -> None:
    services = make_services(count_by={"page_view": ["path"]}, flush_batch_size=7)

    def produce(part: int) -> None:
        for n in range(10):
            events = [event(user_id=f"u{n}", properties={"path": f"/{part % 2}"})] * 5
            count_events(services, *events)

    with ThreadPoolExecutor(6) as pool:
        producing = [pool.submit(produce, part) for part in range(3)]
        flushing = [pool.submit(services.flush) for _ in range(9)]
        for done in [*producing, *flushing]:
            done.result()
    services.flush()
    assert stored_total(services) == read(services) == 150
    assert [row[-1] for row in rows(services, "analytics_user_daily")] == [15] * 10
    assert [row[-1] for row in rows(services, "analytics_dimension_daily")] == [100, 50]


def test_flushes_that_find_the_same_left_over_batches_store_each_once(services: Services) -> None:
    for n in range(30):
        count_events(services, event(f"type {n}"))
        services.claims.claim(f"b{n}", 1_000, (0, 0))
    all_have_read_it = Barrier(4, timeout=30)

    class AtTheSameMoment(Claims):
        def take_over(self, batch_id: str) -> Claim:
            found = super().take_over(batch_id)
            all_have_read_it.wait()
            return found

    claims = AtTheSameMoment(services.redis, services.keys)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: store_left_over(claims, services.store), range(4)))
    assert rows(services, "analytics_daily") == sorted((f"type {n}", TODAY, 1) for n in range(30))
    assert open_batches(services) == []
