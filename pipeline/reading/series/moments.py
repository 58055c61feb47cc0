"""How much was counted until each of some moments: from days, hours and quarter hours. Pure.

Until a moment were counted the days before it, and of its own day the hours from the nearer end:
those before it, or all of the day without those after it. Only the hour that a moment falls into is
looked up by quarter hours, so what was counted by the hour alone serves every zone whose hours are
those of UTC, and every moment apart from those within such an hour.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from pipeline.days import begin_day, list_days

HOURS = 24
_NOON = 12
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_QUARTER = timedelta(minutes=15)


@dataclass(frozen=True)
class Needed:
    """The counters from which the counts until some moments follow. `split` are the hours of which
    the quarter hours are needed too."""

    days: list[date]
    hours: list[datetime]
    split: list[datetime]


@dataclass(frozen=True)
class Counted:
    """Their counts, in UTC."""

    days: Mapping[date, int]
    hours: Mapping[datetime, int]
    quarters: Mapping[datetime, int]


def find_needed(moments: Collection[datetime], *, by_hour: bool = False) -> Needed:
    """What is needed for the counts between these moments, which are in UTC and begin a quarter
    hour each; at least one. `by_hour` takes all hours of their days, so that the days are sums of
    them and need not be looked up; each day must have a moment."""
    split = sorted({floor_hour(at) for at in moments if at.minute})
    first, last = min(moments), max(moments)
    end = max(last - _QUARTER, first)
    days = list_days(first.date(), end.date())
    if by_hour:
        begun = {at.date() for at in moments}.intersection(days)
        hours = [begin_day(day) + n * _HOUR for day in begun for n in range(HOURS)]
        return Needed(days, sorted(hours), split)
    mornings, evenings = _find_sides(moments)
    hours = [begin_day(day) + n * _HOUR for day, until in mornings.items() for n in range(until)]
    hours += [
        begin_day(day) + n * _HOUR for day, since in evenings.items() for n in range(since, HOURS)
    ]
    return Needed(days, sorted(hours), split)


def count_until(moments: Collection[datetime], counted: Counted) -> dict[datetime, int]:
    """By moment, how much was counted from the first of the days until then."""
    mornings, evenings = _find_sides(moments)
    before: dict[datetime, int] = {}  # each midnight and each hour
    total = 0
    for day, n in counted.days.items():
        midnight = begin_day(day)
        before[midnight] = running = total
        for hour in (midnight + n * _HOUR for n in range(mornings.get(day, 0))):
            before[hour] = running
            running += counted.hours[hour]
            before[hour + _HOUR] = running
        before[midnight + _DAY] = total = running = total + n
        for hour in (
            midnight + n * _HOUR for n in reversed(range(evenings.get(day, HOURS), HOURS))
        ):
            running -= counted.hours[hour]
            before[hour] = running
    return {
        at: before[floor_hour(at)] + _count_in_hour(at, counted) if at.minute else before[at]
        for at in moments
    }


def list_quarters(hour: datetime) -> list[datetime]:
    """When each quarter of an hour begins."""
    return [hour + n * _QUARTER for n in range(4)]


def floor_hour(at: datetime) -> datetime:
    """When the hour of a moment begins."""
    return at.replace(minute=0)


def _find_sides(moments: Iterable[datetime]) -> tuple[dict[date, int], dict[date, int]]:
    """By day, how many hours are needed from its beginning, and from which on until its end."""
    mornings: dict[date, int] = {}
    evenings: dict[date, int] = {}
    for at in moments:
        day = at.date()
        if at.hour < _NOON:
            mornings[day] = max(mornings.get(day, 0), at.hour + bool(at.minute))
        else:
            evenings[day] = min(evenings.get(day, HOURS), at.hour)
    return mornings, evenings


def _count_in_hour(at: datetime, counted: Counted) -> int:
    """What was counted of the hour of a moment before it."""
    quarters = list_quarters(floor_hour(at))[: at.minute // 15]
    return sum(counted.quarters[quarter] for quarter in quarters)
