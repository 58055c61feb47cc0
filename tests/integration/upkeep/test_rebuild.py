"""Audit and rebuild: archive and counters are compared and mended while counting goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from pipeline.errors import CannotRebuild, TooMuchWaiting
from pipeline.event.model import Event
from pipeline.postgres.locks import hold_transfers
from pipeline.services import Services
from pipeline.upkeep.audits.counts import Difference
from pipeline.upkeep.audits.counts import audit as compare
from pipeline.upkeep.rebuild import Rebuilt
from tests.conftest import MakeServices
from tests.helpers.support import NOW, TODAY, count_events, event, eventually, execute, rows

CLOCK = datetime.now(UTC)
TABLES = (
    "analytics_daily",
    "analytics_hourly",
    "analytics_user_daily",
    "analytics_dimension_daily",
)


def some_events(count: int = 40) -> list[Event]:
    return [
        event(
            "sale" if n % 4 == 0 else "page_view",
            f"u{n % 7}" if n % 3 else None,
            properties={"path": f"/{n % 5}", "n": n},
            timestamp=NOW - timedelta(hours=n % 30),
        )
        for n in range(count)
    ]


def tables(services: Services) -> dict[str, list[tuple[Any, ...]]]:
    return {table: rows(services, table) for table in TABLES}


def audit(services: Services) -> list[Difference]:
    """Compare without archiving what waits, as `Services.audit` would."""
    first = TODAY - timedelta(days=2)
    return compare(services.counters, services.event_log, services.engine, first, TODAY)


def rebuild(services: Services, day: date = TODAY, *, dry_run: bool = False) -> Rebuilt:
    [found] = services.rebuild([day], CLOCK, dry_run=dry_run)
    return found


# Audit


@pytest.mark.parametrize("flushed", [False, True], ids=["live", "flushed"])
@pytest.mark.parametrize("archived", [False, True], ids=["waiting", "archived"])
def test_an_audit_is_clean_wherever_counts_and_events_are(
    services: Services, *, flushed: bool, archived: bool
) -> None:
    count_events(services, *some_events())
    services.claims.claim("left over", 5, (0, 0))
    if flushed:
        services.flush()
    if archived:
        services.archive_events()
    count_events(services, *some_events())
    assert audit(services) == []


@pytest.mark.parametrize("archived", [False, True], ids=["waiting", "archived"])
def test_an_audit_names_type_and_hour_of_what_differs(
    services: Services, *, archived: bool
) -> None:
    count_events(services, event(), event("sale"), event())
    services.flush()
    if archived:
        services.archive_events()
    execute(services, "DELETE FROM analytics_hourly WHERE event_type = 'page_view'")
    execute(services, "UPDATE analytics_daily SET count = 5 WHERE event_type = 'sale'")
    assert audit(services) == [
        Difference("page_view", TODAY, 15, counted=0, logged=2, gap=0),
        Difference("sale", TODAY, None, counted=5, logged=1, gap=0),
    ]
    found = services.audit(TODAY, TODAY)
    assert [one.drift for one in found] == [-2, 4]
    assert services.status()["books"]["audit_drift"] == 4


def test_an_audit_sees_lost_raw_events(services: Services) -> None:
    count_events(services, event(), event())
    services.archive_events()
    execute(services, "DELETE FROM events")
    assert [(one.hour, one.drift) for one in audit(services)] == [(None, 2), (15, 2)]


def test_an_audit_needs_no_books_and_reads_what_there_is_of_many_types(services: Services) -> None:
    for first in range(0, 3_000, 500):
        count_events(services, *[event(f"t{first + n}") for n in range(500)])
    services.redis.delete(services.keys.totals)
    services.redis.incr("analytics:counter:lost:2025-03-14:03")
    services.redis.sadd(services.keys.pending_flush, "analytics:counter:lost:2025-03-14:03")
    assert audit(services) == [Difference("lost", TODAY, 3, counted=1, logged=0, gap=0)]


def test_days_whose_raw_events_were_pruned_are_left_out(services: Services) -> None:
    yesterday = NOW - timedelta(days=1)
    count_events(services, event(), event(timestamp=yesterday))
    services.flush()
    services.archive_events()
    services.prune(TODAY + timedelta(days=services.options.events_retention_days))
    assert audit(services) == []
    execute(services, "UPDATE analytics_hourly SET count = 7")
    assert [(one.day, one.drift) for one in audit(services)] == [(TODAY, 6)]
    services.prune(TODAY + timedelta(days=1_000))
    assert audit(services) == []


def test_events_that_were_not_logged_are_no_difference(make_services: MakeServices) -> None:
    services = make_services(event_log=["sale"], event_log_max_entries=1)
    for _ in range(3):
        count_events(services, event(), event("sale"))
        assert audit(services) == []
    services.flush()
    assert audit(services) == []


def test_what_another_consumer_has_archived_but_not_deleted_counts_once(
    services: Services,
) -> None:
    count_events(services, event())
    services.event_log.open()
    entries = services.event_log.read(0, "slow", 10)
    services.archive.store(entries)
    assert audit(services) == []


def test_audits_are_clean_while_everything_runs(services: Services) -> None:
    over = threading.Event()

    def until_over(step: Callable[[], object]) -> None:
        while not over.is_set():
            step()

    with ThreadPoolExecutor(3) as pool:
        running = [
            pool.submit(until_over, step)
            for step in (
                lambda: count_events(services, *some_events(10)),
                services.flush,
                services.archive_events,
            )
        ]
        try:
            for _ in range(15):
                assert audit(services) == []
        finally:
            over.set()
        for one in running:
            one.result()
    assert audit(services) == []


def test_more_than_one_step_can_look_at_is_refused(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.upkeep.snapshot.MOST_WAITING_BYTES", 100)
    for _ in range(3):
        count_events(services, *some_events())
    with pytest.raises(TooMuchWaiting, match="analytics archive"):
        audit(services)
    assert services.audit(TODAY, TODAY) == []


# Rebuild


def test_a_rebuild_of_what_is_right_changes_nothing(services: Services) -> None:
    count_events(services, *some_events())
    services.flush()
    before = tables(services)
    assert rebuild(services).changed == {}
    assert tables(services) == before


def test_deleted_counters_are_made_anew_as_they_were(services: Services) -> None:
    count_events(services, *some_events())
    services.flush()
    before = tables(services)
    for table in TABLES:
        execute(services, f"DELETE FROM {table}")
    assert audit(services)
    for day in (TODAY, TODAY - timedelta(days=1)):
        rebuild(services, day)
    assert tables(services) == before
    assert audit(services) == []


def test_wrong_counters_are_put_right_and_those_of_nothing_removed(services: Services) -> None:
    count_events(services, *some_events())
    services.flush()
    before = tables(services)
    execute(services, "UPDATE analytics_user_daily SET count = count + 3")
    execute(services, "UPDATE analytics_daily SET count = 0")
    execute(
        services,
        f"INSERT INTO analytics_user_daily (date, event_type, user_id, count) "
        f"VALUES ('{TODAY}', 'sale', 'nobody', 7)",
    )
    day_before = rows(services, "analytics_user_daily")[0]
    found = rebuild(services)
    assert found.changed["analytics:user:nobody:sale:2025-03-14"] == (7, 0)
    after = tables(services)
    assert [row for row in after["analytics_user_daily"] if row[0] == TODAY] == [
        row for row in before["analytics_user_daily"] if row[0] == TODAY
    ]
    assert day_before in after["analytics_user_daily"], "other days are left alone"


def test_a_dry_run_shows_the_difference_and_changes_nothing(services: Services) -> None:
    count_events(services, event(user_id="u1"))
    services.flush()
    execute(services, "DELETE FROM analytics_daily")
    before = tables(services)
    found = rebuild(services, dry_run=True)
    assert found.changed == {"analytics:counter:page_view:2025-03-14": (0, 1)}
    assert tables(services) == before


def test_what_is_live_or_waits_at_that_moment_is_counted_once(services: Services) -> None:
    count_events(services, event(user_id="u1"))
    services.flush()
    services.archive_events()
    execute(services, "DELETE FROM analytics_daily")
    with_live = _Counting(services)
    found = with_live.rebuild(event(user_id="u1"), event(user_id="new"))
    assert found.changed == {"analytics:counter:page_view:2025-03-14": (2, 3)}
    assert services.stats.daily_count("page_view", TODAY) == 3
    services.flush()
    assert services.stats.daily_count("page_view", TODAY) == 3
    assert services.stats.user_counts("new") == {"page_view": {TODAY: 1}}
    assert audit(services) == []


class _Counting:
    """Counts events after the drain and before the work, as traffic does."""

    def __init__(self, services: Services) -> None:
        self.services = services

    def rebuild(self, *more: Event) -> Rebuilt:
        from pipeline.upkeep.rebuild import Rebuilder

        count_events(self.services, *more)
        parts = (self.services.counters, self.services.event_log, self.services.engine)
        return Rebuilder(*parts).rebuild(TODAY, CLOCK)


def test_a_rebuild_under_traffic_flushes_and_archive_is_exact(services: Services) -> None:
    count_events(services, *some_events())
    services.flush()
    for table in TABLES:
        execute(services, f"DELETE FROM {table}")
    counted, over = [40], threading.Event()

    def traffic() -> None:
        while not over.is_set():
            count_events(services, *some_events(10))
            counted[0] += 10

    def moving() -> None:
        while not over.is_set():
            services.flush()
            services.archive_events()

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(traffic), pool.submit(moving)]
        try:
            eventually(lambda: counted[0] > 100)
            for _ in range(3):
                rebuild(services)
                rebuild(services, TODAY - timedelta(days=1))
        finally:
            over.set()
        for one in running:
            one.result()
    assert audit(services) == []
    services.flush()
    assert sum(row[-1] for row in rows(services, "analytics_daily")) == counted[0]
    by_user = sum(row[-1] for row in rows(services, "analytics_user_daily"))
    of_users = sum(one.user_id is not None for one in some_events(10)) * (counted[0] - 40) // 10
    assert by_user == of_users + sum(one.user_id is not None for one in some_events())


def test_flush_and_archive_wait_for_a_rebuild(services: Services) -> None:
    count_events(services, event())
    with ThreadPoolExecutor(2) as pool:
        with hold_transfers(services.engine):
            moving = [pool.submit(services.flush), pool.submit(services.archive_events)]
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            eventually(lambda: execute(services, waiting) == [(2,)])
            assert services.claims.pending() == 2, "nothing is claimed meanwhile"
        assert [one.result() for one in moving] == [2, 1]


def test_values_past_the_cap_stay_in_the_rest(make_services: MakeServices) -> None:
    services = make_services(count_by={"page_view": ["path"]}, values_cap=2)
    for n in range(5):
        count_events(services, event(properties={"path": f"/{n}"}))
    services.flush()
    before = rows(services, "analytics_dimension_daily")
    assert rebuild(services).changed == {}
    execute(services, "DELETE FROM analytics_dimension_daily")
    rebuild(services)
    assert rows(services, "analytics_dimension_daily") == before


def test_a_property_that_is_no_longer_counted_is_left_alone(make_services: MakeServices) -> None:
    services = make_services(count_by={"page_view": ["path"]})
    count_events(services, event(properties={"path": "/", "agent": "a"}))
    services.flush()
    other = make_services(count_by={"page_view": ["agent"]})
    rebuild(other)
    found = {row[2:] for row in rows(services, "analytics_dimension_daily")}
    assert found == {("path", "/", 1), ("agent", "a", 1)}


# What it refuses


def test_a_day_that_is_not_over_is_refused(services: Services) -> None:
    with pytest.raises(CannotRebuild, match="not over"):
        rebuild(services, CLOCK.date())


@pytest.mark.parametrize("flushed", [False, True], ids=["live", "flushed"])
def test_a_day_with_a_gap_is_refused_and_the_hours_are_named(
    make_services: MakeServices, *, flushed: bool
) -> None:
    services = make_services(event_log_max_entries=1)
    for _ in range(2):
        count_events(services, event("sale"))
    if flushed:
        services.flush()
    execute(services, "DELETE FROM analytics_daily")
    with pytest.raises(CannotRebuild, match=r"'sale' .*2025-03-14:15"):
        rebuild(services)
    with pytest.raises(CannotRebuild):
        services.rebuild([TODAY - timedelta(days=1), TODAY], CLOCK)
    assert rebuild(services, TODAY - timedelta(days=1)).changed == {}


def test_types_that_are_not_logged_are_left_alone(make_services: MakeServices) -> None:
    services = make_services(event_log=["sale"])
    count_events(services, event(user_id="u1"), event("sale"))
    services.flush()
    before = tables(services)
    execute(services, "DELETE FROM analytics_daily WHERE event_type = 'sale'")
    found = rebuild(services)
    assert found.left_alone == ["page_view"]
    assert list(found.changed) == ["analytics:counter:sale:2025-03-14"]
    assert tables(services) == before


def test_a_pruned_day_is_refused(services: Services) -> None:
    count_events(services, event())
    services.flush()
    services.archive_events()
    services.prune(TODAY + timedelta(days=1_000))
    with pytest.raises(CannotRebuild, match="pruned"):
        rebuild(services)


def test_an_entry_that_cannot_be_read_stops_a_rebuild(services: Services) -> None:
    count_events(services, event())
    services.redis.xadd("analytics:events:0", {"somebody": "else's"})
    with pytest.raises(CannotRebuild, match="cannot be read"):
        rebuild(services)
