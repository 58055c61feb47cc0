"""Every measure is right during a flush, after one that is killed at any step, and after all that
changes what is stored: a rebuild, an erasure, a removal of types."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import pytest

from pipeline.event.model import Event
from pipeline.postgres.tables import COUNTER_TABLES
from pipeline.services import Services
from tests.acceptance.drivers.flushers import Flushers, finish
from tests.conftest import MakeServices
from tests.helpers.measures.every import (
    COUNT_BY,
    SUM,
    expect_archived,
    expect_live,
    expect_stored,
    make_events,
    read_archived,
    read_live,
    read_stored,
)
from tests.helpers.measures.people import CLOCK, TODAY, day_before
from tests.helpers.support import count_events, execute

DAYS = [day_before(3), day_before(2), day_before(1)]
RANGES = [(DAYS[0], DAYS[-1]), (DAYS[1], DAYS[1])]
EVENTS = make_events(DAYS)
MORE = EVENTS[1::2]
BATCH_SIZE = 30


@pytest.fixture
def services(make_services: MakeServices) -> Services:
    return make_services(count_by=COUNT_BY, sum=SUM)


@pytest.fixture
def settled(services: Services) -> Services:
    """All that was counted is stored, archived and sealed."""
    count_events(services, *EVENTS)
    services.flush()
    services.archive_events()
    services.seal_users(CLOCK)
    services.seal_events(CLOCK)
    return services


def assert_live(services: Services, events: Sequence[Event]) -> None:
    for days in RANGES:
        assert read_live(services, *days) == expect_live(events, *days)


def assert_all(services: Services, events: Sequence[Event] = EVENTS) -> None:
    assert_live(services, events)
    for days in RANGES:
        assert read_stored(services, *days) == expect_stored(events, *days)
        assert read_archived(services, *days) == expect_archived(events, *days)
    assert services.audit(DAYS[0], TODAY) == []
    assert services.audit_users(date.min, date.max) == []


@pytest.mark.parametrize(
    ("moment", "nth", "is_sealed"),
    [
        ("before claim", 1, False),
        ("after claim", 1, True),
        ("after claim", 4, False),
        ("after read", 20, True),
        ("before ledger", 2, False),
        ("after ledger", 3, True),
        ("after upsert", 5, False),
        ("after upsert", 5, True),
        ("before commit", 2, True),
        ("after commit", 3, False),
        ("after commit", 3, True),
        ("after settle", 2, True),
    ],
)
def test_every_measure_is_right_after_a_flush_that_is_killed(
    services: Services, redis_url: str, postgres_url: str, moment: str, nth: int, is_sealed: bool
) -> None:
    before: list[Event] = []
    if is_sealed:
        before = EVENTS[::3]
        count_events(services, *before)
        services.flush()
        services.seal_users(CLOCK)
    count_events(services, *EVENTS)
    every = [*before, *EVENTS]

    Flushers(redis_url, postgres_url, BATCH_SIZE).killed(moment, nth)

    assert_live(services, every)
    assert services.audit_users(date.min, date.max) == []
    count_events(services, *MORE)
    every += MORE
    assert_live(services, every)
    services.flush()
    services.archive_events()
    assert_all(services, every)
    services.seal_users(CLOCK)
    services.seal_events(CLOCK)
    assert_all(services, every)


def test_every_measure_is_right_while_a_flush_stands_still(
    services: Services, redis_url: str, postgres_url: str
) -> None:
    count_events(services, *EVENTS)
    with Flushers(redis_url, postgres_url, BATCH_SIZE).paused("before commit", 2) as flush:
        assert_live(services, EVENTS)
        count_events(services, *MORE)
        assert_live(services, [*EVENTS, *MORE])
        finish(flush)
    services.flush()
    services.archive_events()
    assert_all(services, [*EVENTS, *MORE])


def test_a_rebuild_from_nothing_makes_every_measure_anew(settled: Services) -> None:
    for table in COUNTER_TABLES:
        if table.name != "event_log_gaps":
            execute(settled, f"DELETE FROM {table.name}")
    execute(settled, "DELETE FROM analytics_seals WHERE kind IN ('users', 'past')")

    assert all(one.changed for one in settled.rebuild(DAYS, CLOCK))

    assert_all(settled)
    assert not any(one.changed for one in settled.rebuild(DAYS, CLOCK))


@pytest.mark.parametrize("user", ["user 1", "user 7"])
def test_no_measure_changes_when_a_person_is_erased(settled: Services, user: str) -> None:
    assert_all(settled)
    assert user in {one.user_id for one in EVENTS}

    settled.erase_user(user)

    assert_all(settled)
    settled.seal_users(CLOCK, DAYS)
    settled.seal_events(CLOCK)
    assert_all(settled)
    assert settled.stats.user_counts(user) == {}


@pytest.mark.parametrize("is_flushed", [True, False], ids=["flushed", "live"])
def test_no_measure_of_other_types_changes_when_types_are_removed(
    services: Services, is_flushed: bool
) -> None:
    junk = [Event("junk", one.timestamp, one.user_id, one.properties) for one in EVENTS]
    count_events(services, *EVENTS, *junk)
    if is_flushed:
        services.flush()
        services.seal_users(CLOCK)

    services.remove_types(["junk"], TODAY)
    services.flush()
    services.archive_events()

    assert_all(services, [*EVENTS, *junk])
    assert services.stats.count("__other__", DAYS[0], DAYS[-1]) == len(junk)
    of_rest = services.stats.quarter_counts("__other__", DAYS[0], DAYS[-1]).quarters
    assert sum(of_rest.values()) == len(junk)
    assert services.stats.users(["__other__"], DAYS[0], DAYS[-1]).users == 9


@pytest.mark.parametrize("is_flushed", [True, False], ids=["flushed", "live"])
def test_a_type_that_was_summed_and_is_removed_has_no_sums_any_more(
    services: Services, make_services: MakeServices, is_flushed: bool
) -> None:
    count_events(services, *EVENTS)
    if is_flushed:
        services.flush()
    today = make_services()  # what is named in the settings cannot be removed

    today.remove_types(["sale"], TODAY)
    today.flush()

    sums = services.stats.sums
    assert sums.read_sum("sale", "total", DAYS[0], DAYS[-1]).count == 0
    assert sums.read_distribution("sale", "total", DAYS[0], DAYS[-1]).count == 0
    assert sums.read_value_sums(("sale", "total", "plan"), DAYS[0], DAYS[-1]) == {}
    assert today.audit(DAYS[0], TODAY) == []


def test_a_day_without_events_has_nothing_of_any_measure(services: Services) -> None:
    count_events(services, *EVENTS)
    services.flush()
    services.archive_events()
    empty = DAYS[0] - timedelta(days=30)
    for day in (empty, TODAY + timedelta(days=30)):
        live = read_live(services, day, day)
        assert not any(live.values())
        stored = read_stored(services, day, day)
        assert stored.pop("retention") == [(0, [0])]
        assert not any(n for one in stored.values() for n in one)
        assert read_archived(services, day, day) == {"funnel": [0, 0]}
