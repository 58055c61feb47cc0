"""Pruning: old days leave, no name stays that has no rows, and who was seen before is not new."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from pipeline.days import begin_month
from pipeline.postgres import partitions
from pipeline.services import Services
from pipeline.upkeep.retention import prune
from tests.helpers.measures.people import CLOCK, TODAY, day_before, track
from tests.helpers.support import execute

KEPT_DAYS = 60
BEFORE = begin_month(TODAY - timedelta(days=KEPT_DAYS))
"""The first day that is kept."""
OLD, LAST_OLD, FIRST_KEPT = BEFORE - timedelta(days=40), BEFORE - timedelta(days=1), BEFORE


def prune_users(services: Services) -> list[str]:
    found = prune(services.engine, TODAY, 0, KEPT_DAYS)
    return found.busy


def names(services: Services) -> set[str]:
    return {name for (name,) in execute(services, "SELECT user_id FROM analytics_user_numbers")}


@pytest.fixture(params=["open", "sealed"])
def lived(services: Services, request: pytest.FixtureRequest) -> Services:
    """Ann and bob come on old days, ann and others later."""
    track(services, (OLD, "ann"), (LAST_OLD, "bob"), (LAST_OLD, "gone"))
    track(services, (FIRST_KEPT, "ann"), (day_before(2), "bob"), (TODAY, "new"), (TODAY, "ann"))
    if request.param == "sealed":
        services.seal_users(CLOCK)
    return services


def test_who_was_seen_before_what_was_pruned_is_not_new(lived: Services) -> None:
    before = lived.stats.users([], FIRST_KEPT, TODAY)
    assert (before.users, before.new) == (3, 1)
    assert prune_users(lived) == []
    assert execute(lived, f"SELECT * FROM analytics_user_daily WHERE date < '{BEFORE}'") == []
    after = lived.stats.users([], FIRST_KEPT, TODAY)
    assert (after.users, after.new, after.kept_since) == (3, 1, None)
    lived.seal_users(CLOCK)
    assert (after.users, after.new) == (3, 1)
    assert lived.stats.users(["page_view"], day_before(2), TODAY).new == 1
    assert lived.audit_users(date.min, date.max) == []


def test_no_name_outlives_its_rows_and_no_bitmap_its_day(lived: Services) -> None:
    lived.seal_users(CLOCK)
    assert "gone" in names(lived)
    prune_users(lived)
    assert names(lived) == {"ann", "bob"}
    for table, column in (("day_users", "date"), ("past_users", "month"), ("seals", "date")):
        old = f"SELECT * FROM analytics_{table} WHERE {column} < '{BEFORE}'"
        assert execute(lived, old) == []
    prune_users(lived)
    assert names(lived) == {"ann", "bob"}


def test_a_range_that_begins_earlier_is_counted_from_the_first_kept_day(lived: Services) -> None:
    prune_users(lived)
    found = lived.stats.users([], OLD, TODAY)
    assert (found.users, found.new, found.kept_since) == (3, 1, BEFORE)
    found = lived.stats.users([], OLD, LAST_OLD)
    assert (found.users, found.kept_since) == (0, BEFORE)


def test_late_events_of_pruned_days_make_no_one_new_whenever_they_come(lived: Services) -> None:
    prune_users(lived)
    track(lived, (OLD, "new"), (OLD, "late"))
    assert lived.stats.users([], FIRST_KEPT, TODAY).new == 0
    track(lived, (TODAY, "late"))
    lived.seal_users(CLOCK)
    for _ in range(2):
        found = lived.stats.users([], FIRST_KEPT, TODAY)
        assert (found.users, found.new) == (4, 0)
        assert lived.stats.users([], OLD, LAST_OLD).users == 0
        assert prune_users(lived) == []
    assert execute(lived, f"SELECT * FROM analytics_user_daily WHERE date < '{BEFORE}'") == []


def test_erased_persons_of_pruned_days_leave_with_them(lived: Services) -> None:
    lived.erase_user("gone")
    lived.erase_user("ann")
    before = lived.stats.users([], FIRST_KEPT, TODAY)
    prune_users(lived)
    after = lived.stats.users([], FIRST_KEPT, TODAY)
    assert (after.users, after.new) == (before.users, before.new) == (3, 1)
    assert execute(lived, f"SELECT * FROM analytics_anonymous_daily WHERE date < '{BEFORE}'") == []


def test_types_removed_after_the_prune_keep_their_past(lived: Services) -> None:
    track(lived, (LAST_OLD, "bob", "junk"), (day_before(2), "bob", "junk"))
    prune_users(lived)
    lived.remove_types(["junk"], TODAY)
    lived.seal_users(CLOCK)
    found = lived.stats.users(["__other__"], FIRST_KEPT, TODAY)
    assert (found.users, found.new) == (1, 0)


def test_rows_that_come_while_old_ones_are_dropped_put_the_drop_off(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    track(services, (LAST_OLD, "ann"), (TODAY, "ann"), (TODAY, "bob"))
    drop = partitions.drop

    def drop_too_late(*args: object) -> None:
        monkeypatch.setattr(partitions, "drop", drop)
        track(services, (LAST_OLD, "bob"))
        drop(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(partitions, "drop", drop_too_late)
    assert prune_users(services) == [f"analytics_user_daily_{LAST_OLD:%Y_%m}"]
    assert services.stats.users([], FIRST_KEPT, TODAY).new == 0
    assert prune_users(services) == []
    assert services.stats.users([], FIRST_KEPT, TODAY).new == 0
    assert execute(services, f"SELECT * FROM analytics_user_daily WHERE date < '{BEFORE}'") == []
