"""The points of a series: every hour in one of them, in any zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UnsuitableTimeZone
from pipeline.reading.periods import (
    FIRST_DAY,
    LAST_DAY,
    find_previous_range,
    find_utc_days,
    find_zone,
    list_points,
    sum_points,
)

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Pacific/Apia"]


@given(
    first=st.dates(date(1975, 1, 1), date(2030, 1, 1)),
    days=st.integers(0, 40),
    granularity=st.sampled_from(["hour", "day", "week", "month"]),
    name=st.sampled_from(ZONES),
)
def test_points_follow_each_other_and_hold_every_hour_once(
    first: date, days: int, granularity: str, name: str
) -> None:
    last = first + timedelta(days=days)
    found = list_points(first, last, granularity, find_zone(name))  # type: ignore[arg-type]

    assert all(one.end == other.begin for one, other in pairwise(found))
    assert found[0].begin.astimezone(ZoneInfo(name)).date() == first or name == "Pacific/Apia"
    origin, end = find_utc_days(found)
    hours = [1] * ((end - origin).days + 1) * 24
    counts = sum_points(found, origin, timedelta(hours=1), hours)
    assert sum(counts) == (found[-1].end - found[0].begin) // timedelta(hours=1)


def test_a_day_has_23_hours_when_clocks_go_forward_and_25_when_they_go_back() -> None:
    berlin = find_zone("Europe/Berlin")
    for day, hours in ((date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 5, 1), 24)):
        assert len(list_points(day, day, "hour", berlin)) == hours
        (point,) = list_points(day, day, "day", berlin)
        assert point.end - point.begin == timedelta(hours=hours)


def test_a_day_that_the_calendar_left_out_is_empty() -> None:
    days = list_points(date(2011, 12, 29), date(2011, 12, 31), "day", find_zone("Pacific/Apia"))
    assert [point.end - point.begin for point in days][1] == timedelta()


@pytest.mark.parametrize("name", ["Asia/Kolkata", "Australia/Adelaide", "Asia/Kathmandu"])
def test_zones_that_are_not_whole_hours_from_utc_are_refused(name: str) -> None:
    with pytest.raises(
        UnsuitableTimeZone, match=f"{name} is not whole hours from UTC on 2026-01-01"
    ):
        list_points(date(2026, 1, 1), date(2026, 1, 1), "day", find_zone(name))


@pytest.mark.parametrize("name", ["", "Mars", "../UTC", "Europe", "europe/berlin", "\x00"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(UnsuitableTimeZone, match="is no time zone"):
        find_zone(name)


def test_the_period_before_is_of_the_same_length() -> None:
    assert find_previous_range(date(2026, 3, 1), date(2026, 3, 31)) == (
        date(2026, 2, 1),
        date(2026, 2, 28),
    )
    assert find_previous_range(date(2026, 1, 1), date(2026, 2, 28)) == (
        date(2025, 11, 1),
        date(2025, 12, 31),
    )
    assert find_previous_range(date(2026, 1, 2), date(2026, 1, 5)) == (
        date(2025, 12, 29),
        date(2026, 1, 1),
    )
    assert find_previous_range(date(2026, 1, 5), date(2026, 1, 5)) == (
        date(2026, 1, 4),
        date(2026, 1, 4),
    )


def test_before_the_first_days_of_the_calendar_there_is_none() -> None:
    for first, last in (
        (FIRST_DAY, FIRST_DAY + timedelta(days=9)),
        (date(1, 2, 1), date(1, 12, 31)),
    ):
        with pytest.raises(OverflowError):
            find_previous_range(first, last)


def test_the_first_and_the_last_day_of_all_have_points() -> None:
    for day in (FIRST_DAY, LAST_DAY):
        assert len(list_points(day, day, "hour", find_zone("UTC"))) == 24
        (week,) = list_points(day, day, "week", find_zone("UTC"))
        assert week.begin == datetime.combine(day, datetime.min.time(), UTC)
