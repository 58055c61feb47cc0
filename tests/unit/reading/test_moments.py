"""Counts until a moment follow from days, hours and few quarter hours."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pipeline.days import begin_day
from pipeline.reading.series.moments import Counted, count_until, find_needed, list_quarters
from pipeline.reading.series.periods import find_zone, list_points

FIRST = date(2026, 3, 27)
QUARTER = timedelta(minutes=15)

quarters = st.integers(0, 5 * 96).map(lambda n: begin_day(FIRST) + n * QUARTER)


def count_all(seed: int) -> dict[datetime, int]:
    """A count for each quarter hour of six days."""
    random = Random(seed)
    return {begin_day(FIRST) + n * QUARTER: random.randrange(100) for n in range(6 * 96)}


def only_needed(moments: set[datetime], counts: dict[datetime, int]) -> Counted:
    """What was counted, without what is not needed."""
    needed = find_needed(moments)
    return Counted(
        {day: sum(n for at, n in counts.items() if at.date() == day) for day in needed.days},
        {hour: sum(counts[at] for at in list_quarters(hour)) for hour in needed.hours},
        {at: counts[at] for hour in needed.split for at in list_quarters(hour)},
    )


@given(moments=st.sets(quarters, min_size=1), seed=st.integers(0, 9))
def test_counts_between_moments_are_the_sums_of_the_quarter_hours_between(
    moments: set[datetime], seed: int
) -> None:
    counts = count_all(seed)

    until = count_until(moments, only_needed(moments, counts))

    first = min(moments)
    assert {at: n - until[first] for at, n in until.items()} == {
        end: sum(n for at, n in counts.items() if first <= at < end) for end in moments
    }


@given(moments=st.sets(quarters, min_size=1), seed=st.integers(0, 9))
def test_days_may_be_made_of_their_hours(moments: set[datetime], seed: int) -> None:
    counts = count_all(seed)
    needed = find_needed(moments, by_hour=True)
    hours = {hour: sum(counts[at] for at in list_quarters(hour)) for hour in needed.hours}
    days = {day: sum(n for at, n in hours.items() if at.date() == day) for day in needed.days}
    split = {at: counts[at] for hour in needed.split for at in list_quarters(hour)}

    found = count_until(moments, Counted(days, hours, split))

    until = count_until(moments, only_needed(moments, counts))
    for day in {at.date() for at in moments}:
        on_day = sorted(at for at in moments if at.date() == day)
        for one, other in pairwise(on_day):
            assert found[other] - found[one] == until[other] - until[one]


def find_moments(zone: str, granularity: str) -> set[datetime]:
    """When the points of two days begin and end."""
    points = list_points(FIRST, FIRST + timedelta(days=1), granularity, find_zone(zone))  # type: ignore[arg-type]
    return {at for one in points for at in (one.begin, one.end)}


def test_days_of_utc_need_days_alone() -> None:
    needed = find_needed(find_moments("UTC", "day"))

    assert (needed.days, needed.hours, needed.split) == ([FIRST, date(2026, 3, 28)], [], [])


def test_days_of_other_zones_need_the_hours_at_the_nearer_end_of_a_day_of_utc() -> None:
    berlin = find_needed(find_moments("Europe/Berlin", "day"))
    new_york = find_needed(find_moments("America/New_York", "day"))

    assert {at.hour for at in berlin.hours} == {23}
    assert {at.hour for at in new_york.hours} == {0, 1, 2, 3}
    assert berlin.split == new_york.split == []


def test_only_hours_in_which_a_day_begins_need_quarter_hours() -> None:
    needed = find_needed(find_moments("Asia/Kathmandu", "day"))

    assert needed.split == [datetime(2026, 3, 26 + n, 18, tzinfo=UTC) for n in range(3)]
    assert {at.hour for at in needed.hours} == {18, 19, 20, 21, 22, 23}
