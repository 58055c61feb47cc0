"""The points of a series: every hour in one of them, in any zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UnsuitableTimeZone
from pipeline.reading.series.periods import (
    FIRST_DAY,
    LAST_DAY,
    Compared,
    find_compared_range,
    find_previous_range,
    find_zone,
    list_points,
)

ZONES = [
    *("UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Pacific/Apia"),
    *("Asia/Kolkata", "Asia/Tehran", "Asia/Kathmandu", "Australia/Adelaide"),
    *("Pacific/Chatham", "Australia/Lord_Howe", "Antarctica/Troll", "America/St_Johns"),
]


@given(
    first=st.dates(date(1980, 1, 1), date(2030, 1, 1)),
    days=st.integers(0, 40),
    granularity=st.sampled_from(["quarter_hour", "hour", "day", "week", "month"]),
    name=st.sampled_from(ZONES),
)
def test_points_follow_each_other_and_hold_every_quarter_hour_once(
    first: date, days: int, granularity: str, name: str
) -> None:
    last = first + timedelta(days=days)
    zone = ZoneInfo(name)
    found = list_points(first, last, granularity, find_zone(name))  # type: ignore[arg-type]

    assert all(one.end == other.begin for one, other in pairwise(found))
    skipped = first == date(2011, 12, 30) and name == "Pacific/Apia"  # the calendar left it out
    assert found[0].begin.astimezone(zone).date() == first or skipped
    assert not any(at.minute % 15 or at.second for one in found for at in (one.begin, one.end))
    if granularity in {"hour", "quarter_hour"}:
        step = timedelta(hours=1) if granularity == "hour" else timedelta(minutes=15)
        assert all(timedelta() < one.end - one.begin <= step for one in found)
        assert [one.at for one in found] == [
            one.begin.astimezone(zone).isoformat() for one in found
        ]
        for one in found:  # one hour of the clock, under one offset
            local, before_end = (
                at.astimezone(zone) for at in (one.begin, one.end - timedelta(minutes=1))
            )
            # Clocks of St John's changed at 00:01, which is in no quarter hour's beginning.
            same = (local.hour, local.utcoffset()) == (before_end.hour, before_end.utcoffset())
            assert same or (name == "America/St_Johns" and local.year < 2012)


def test_a_day_has_23_hours_when_clocks_go_forward_and_25_when_they_go_back() -> None:
    berlin = find_zone("Europe/Berlin")
    for day, hours in ((date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 5, 1), 24)):
        assert len(list_points(day, day, "hour", berlin)) == hours
        (point,) = list_points(day, day, "day", berlin)
        assert point.end - point.begin == timedelta(hours=hours)


def test_a_day_that_the_calendar_left_out_is_empty() -> None:
    days = list_points(date(2011, 12, 29), date(2011, 12, 31), "day", find_zone("Pacific/Apia"))
    assert [point.end - point.begin for point in days][1] == timedelta()


def test_where_clocks_change_by_half_an_hour_an_hour_is_two_points() -> None:
    island = find_zone("Australia/Lord_Howe")

    back = [one.at[11:] for one in list_points(date(2026, 4, 5), date(2026, 4, 5), "hour", island)]
    forward = [
        one.at[11:] for one in list_points(date(2026, 10, 4), date(2026, 10, 4), "hour", island)
    ]

    assert back[:4] == ["00:00:00+11:00", "01:00:00+11:00", "01:30:00+10:30", "02:00:00+10:30"]
    assert len(back) == 25
    assert forward[:4] == ["00:00:00+10:30", "01:00:00+10:30", "02:30:00+11:00", "03:00:00+11:00"]
    assert len(forward) == 24


@pytest.mark.parametrize(
    ("name", "utc"),
    [
        ("Asia/Kolkata", "18:30"),
        ("Asia/Tehran", "20:30"),
        ("Asia/Kathmandu", "18:15"),
        ("Australia/Adelaide", "13:30"),
        ("Pacific/Chatham", "10:15"),
    ],
)
def test_a_day_begins_at_a_quarter_hour(name: str, utc: str) -> None:
    (day,) = list_points(date(2026, 1, 2), date(2026, 1, 2), "day", find_zone(name))
    hours = list_points(date(2026, 1, 2), date(2026, 1, 2), "hour", find_zone(name))

    assert f"{day.begin:%Y-%m-%d %H:%M}" == f"2026-01-01 {utc}"
    assert day.end - day.begin == timedelta(hours=24)
    assert [one.at[11:16] for one in hours] == [f"{hour:02}:00" for hour in range(24)]


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("Africa/Monrovia", date(1971, 5, 1)),
        ("Pacific/Kiritimati", date(1979, 9, 30)),
        ("Asia/Kolkata", date(1890, 1, 1)),
    ],
)
@pytest.mark.parametrize("granularity", ["quarter_hour", "hour", "day", "month"])
def test_days_that_begin_within_a_quarter_hour_are_refused(
    name: str, day: date, granularity: str
) -> None:
    with pytest.raises(
        UnsuitableTimeZone, match=f"{name} was not whole quarter hours from UTC on {day}"
    ):
        list_points(day, day, granularity, find_zone(name))  # type: ignore[arg-type]


def test_since_1980_every_zone_is_whole_quarter_hours_from_utc() -> None:
    for zone in map(ZoneInfo, available_timezones()):
        for year in range(1980, 2040):
            for month in (1, 7):
                offset = datetime(year, month, 1, tzinfo=zone).utcoffset()
                assert offset is not None
                assert offset % timedelta(minutes=15) == timedelta(), (zone.key, year)


@pytest.mark.parametrize(
    "name", ["", "Mars", "localtime", "../UTC", "Europe", "europe/berlin", "\x00", "x" * 10_000]
)
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(UnsuitableTimeZone, match="is no time zone"):
        find_zone(name)


@pytest.mark.parametrize(
    ("given_", "meant"),
    [
        ("asia/kolkatta", "Asia/Kolkata"),
        ("Kolkata", "Asia/Kolkata"),
        ("berlin", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("Europe/Lodnon", "Europe/London"),
    ],
)
def test_the_zone_that_was_meant_is_named(given_: str, meant: str) -> None:
    with pytest.raises(UnsuitableTimeZone, match=f"did you mean {meant}[?]"):
        find_zone(given_)


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


@pytest.mark.parametrize(
    ("compared", "days", "expected"),
    [
        ("year", ("2026-03-02", "2026-03-20"), ("2025-03-02", "2025-03-20")),
        ("year", ("2025-02-01", "2025-02-28"), ("2024-02-01", "2024-02-29")),
        ("year", ("2024-02-29", "2024-02-29"), ("2023-02-28", "2023-02-28")),
        ("weekdays", ("2026-11-23", "2026-11-29"), ("2025-11-24", "2025-11-30")),
        ("previous", ("2026-11-23", "2026-11-29"), ("2026-11-16", "2026-11-22")),
    ],
)
def test_a_range_is_compared_with_one_of_the_year_before(
    compared: Compared, days: tuple[str, str], expected: tuple[str, str]
) -> None:
    found = find_compared_range(*map(date.fromisoformat, days), compared)

    assert tuple(map(str, found)) == expected


@pytest.mark.parametrize("compared", ["year", "weekdays"])
def test_the_first_years_of_the_calendar_have_none_before(compared: Compared) -> None:
    with pytest.raises(OverflowError):
        find_compared_range(date(2, 1, 1), date(2, 1, 1), compared)


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
