"""Distinct users: of a range, new and returning, by period, active; sealed or not."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from pipeline.days import list_days
from pipeline.reading.people.users import list_periods
from pipeline.services import Services
from tests.helpers.measures.people import CLOCK, TODAY, day_before, track, visit
from tests.helpers.support import count_events, execute

VIEW, BUY = "page_view", "purchase"


def users(services: Services, *types: str, days: tuple[int, int] = (0, 0)) -> tuple[int, int, int]:
    found = services.stats.users(types, day_before(days[0]), day_before(days[1]))
    return found.users, found.new, found.returning


@pytest.fixture(params=[False, True], ids=["open", "sealed"])
def lived(services: Services, request: pytest.FixtureRequest) -> Services:
    """Some days of some users, with every closed day open, or sealed."""
    track(
        services,
        *[(day_before(40), name) for name in ("ann", "bob")],
        *[(day_before(9), name) for name in ("ann", "cid")],
        (day_before(9), "cid", BUY),
        (day_before(2), "bob"),
        (day_before(2), "dan", BUY),
        *[(day_before(0), name) for name in ("ann", "eve")],
        (day_before(0), "eve", BUY),
    )
    if request.param:
        services.seal_users(CLOCK)
    return services


def test_users_of_a_type_of_several_and_of_any(lived: Services) -> None:
    assert users(lived, VIEW) == (2, 1, 1)
    assert users(lived, BUY) == (1, 1, 0)
    assert users(lived, VIEW, days=(9, 0)) == (4, 2, 2)
    assert users(lived, VIEW, BUY, days=(9, 0)) == (5, 3, 2)
    assert users(lived, days=(9, 0)) == (5, 3, 2)
    assert users(lived, days=(2, 2)) == (2, 1, 1)
    assert users(lived, BUY, days=(2, 0)) == (2, 2, 0)
    assert users(lived, days=(400, 0)) == (5, 5, 0)


def test_a_day_without_events_has_no_users(lived: Services) -> None:
    assert users(lived, VIEW, days=(5, 5)) == (0, 0, 0)
    assert users(lived, "unheard_of", days=(40, 0)) == (0, 0, 0)


def test_a_series_has_every_period_and_says_who_is_new_in_it(lived: Services) -> None:
    found = lived.stats.users_by([], day_before(9), TODAY, "day")
    by_day = {at: (one.users, one.new) for at, one in found.points}
    assert list(by_day) == list_days(day_before(9), TODAY)
    assert {day: n for day, n in by_day.items() if n != (0, 0)} == {
        day_before(9): (2, 1),
        day_before(2): (2, 1),
        day_before(0): (2, 1),
    }
    assert (found.total.users, found.total.new) == (5, 3)


@pytest.mark.parametrize("by", ["week", "month"])
def test_a_week_or_month_counts_the_days_of_it_that_are_in_the_range(
    lived: Services, by: str
) -> None:
    found = lived.stats.users_by([], day_before(40), TODAY, by)  # type: ignore[arg-type]
    assert sum(one.new for _, one in found.points) == 5
    assert found.points[0][1].users == 2
    for at, one in found.points:
        last = min(TODAY, (at + timedelta(days=6)) if by == "week" else _end_of_month(at))
        first = max(at, day_before(40))
        assert one == lived.stats.users([], first, last)


def _end_of_month(day: date) -> date:
    return (day + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def test_weeks_begin_on_monday_and_the_calendar_has_ends() -> None:
    assert list_periods(date(2026, 11, 29), date(2026, 12, 7), "week") == [
        date(2026, 11, 23),
        date(2026, 11, 30),
        date(2026, 12, 7),
    ]
    assert list_periods(date.min, date(1, 1, 2), "week") == [date.min]
    assert list_periods(date.max, date.max, "month") == [date(9999, 12, 1)]


def test_active_users_are_those_of_the_day_the_week_and_thirty_days(lived: Services) -> None:
    found = lived.stats.active_users(TODAY)
    assert (found.dau, found.wau, found.mau, found.stickiness) == (2, 4, 5, 0.4)
    found = lived.stats.active_users(day_before(9))
    assert (found.dau, found.wau, found.mau, found.stickiness) == (2, 2, 2, 1.0)
    none = lived.stats.active_users(day_before(200))
    assert (none.dau, none.mau, none.stickiness) == (0, 0, None)


def test_thirty_days_are_thirty(services: Services) -> None:
    track(services, (day_before(29), "in"), (day_before(30), "out"), (day_before(6), "in the week"))
    found = services.stats.active_users(TODAY)
    assert (found.dau, found.wau, found.mau) == (0, 1, 2)


def test_an_answer_is_as_of_the_last_flush(services: Services) -> None:
    assert services.stats.users([], TODAY, TODAY).as_of is None
    assert services.stats.active_users(TODAY).as_of is None
    track(services, (TODAY, "ann"))
    count_events(services, visit(TODAY, "bob"))
    found = services.stats.users([], TODAY, TODAY)
    assert found.users == 1
    [(newest,)] = execute(services, "SELECT max(stored_at) FROM flush_batches")
    assert found.as_of == newest


def test_ids_of_every_kind_are_users(services: Services) -> None:
    ids = ["\U0001f9d1" * 256, "\\u0000", "a'b\"c", "%00", "{x}:y", "é", "e\u0301", " a b ", "١"]
    days = (day_before(3), day_before(1), TODAY)
    track(services, *[(day, one) for day in days for one in ids])
    before = services.stats.users_by([], days[0], TODAY, "day")
    services.seal_users(CLOCK)
    assert services.stats.users_by([], days[0], TODAY, "day") == before
    assert (before.total.users, before.total.new) == (len(ids), len(ids))
