"""The points of a series: which hours belong to each, in a time zone. Pure; no server.

Counters exist for UTC days and UTC hours. A day of another zone is the sum of its hours, so that it
is exact where the zone's days begin at a full UTC hour, and is refused elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import accumulate
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones

from pipeline.errors import UnsuitableTimeZone

Granularity = Literal["hour", "day", "week", "month"]

FIRST_DAY = date(1, 1, 2)
LAST_DAY = date(9998, 12, 31)
"""Between them every day exists in every zone, and so does the one after it."""

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Point:
    """A stretch of time: its name, when it begins, and when it has ended (UTC)."""

    at: str
    begin: datetime
    end: datetime


def find_zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name. Raises `UnsuitableTimeZone`."""
    if name not in _list_zone_names():
        raise UnsuitableTimeZone(
            f"{name[:80]!r} is no time zone: give an IANA name such as Europe/Berlin"
        )
    return ZoneInfo(name)


def list_points(first: date, last: date, granularity: Granularity, tz: ZoneInfo) -> list[Point]:
    """The points from the first day to the last, both included, in order and without a gap.

    A week is named by its Monday and a month by its first day, also where the range cuts it; then
    it counts the days of the range only. Raises `UnsuitableTimeZone` where a day of the zone does
    not begin at a full UTC hour.
    """
    if granularity == "hour":
        begin, end = _find_midnight(first, tz), _find_midnight(last + _DAY, tz)
        starts = [begin + n * _HOUR for n in range((end - begin) // _HOUR)]
        return [Point(at.astimezone(tz).isoformat(), at, at + _HOUR) for at in starts]
    names: dict[date, date] = {}  # of each point, and the first of its days
    for n in range((last - first).days + 1):
        day = first + n * _DAY
        names.setdefault(_name_point(day, granularity), day)
    begins = [_find_midnight(day, tz) for day in names.values()]
    ends = [*begins[1:], _find_midnight(last + _DAY, tz)]
    return [
        Point(name.isoformat(), begin, end)
        for name, begin, end in zip(names, begins, ends, strict=True)
    ]


def find_previous_range(first: date, last: date) -> tuple[date, date]:
    """The period of the same length directly before: as many months where the range is whole
    months, else as many days. Raises OverflowError where the calendar has none."""
    end = first - _DAY
    if first.day == 1 and (last + _DAY).day == 1:
        months = (last.year - first.year) * 12 + last.month - first.month + 1
        year, month = divmod(first.year * 12 + first.month - 1 - months, 12)
        if year < FIRST_DAY.year:
            raise OverflowError("there is no such month")
        return date(year, month + 1, 1), end
    return end - (last - first), end


def sum_points(
    wanted: Sequence[Point], origin: date, step: timedelta, counts: Sequence[int]
) -> list[int]:
    """The count of each point, from the counts of equal steps (hours or days) that follow the
    beginning of the UTC day `origin`."""
    start = datetime.combine(origin, time(), UTC)
    until = [0, *accumulate(counts)]
    return [
        until[(point.end - start) // step] - until[(point.begin - start) // step]
        for point in wanted
    ]


def find_utc_days(wanted: Sequence[Point]) -> tuple[date, date]:
    """The first and the last UTC day that these points, in order, have a part of."""
    last_hour = max(wanted[-1].end - _HOUR, wanted[0].begin)
    return wanted[0].begin.date(), last_hour.date()


def _name_point(day: date, granularity: Granularity) -> date:
    if granularity == "week":
        return day - timedelta(days=min(day.weekday(), day.toordinal() - 1))
    return day.replace(day=1) if granularity == "month" else day


def _find_midnight(day: date, tz: ZoneInfo) -> datetime:
    """When a day begins in the zone. Where clocks jump over midnight, that is when they do."""
    at = datetime.combine(day, time(), tz).astimezone(UTC)
    if at.minute or at.second:
        raise UnsuitableTimeZone(
            f"{tz.key} is not whole hours from UTC on {day}, and counts are kept by UTC hour: ask "
            "for UTC, or for a zone that is"
        )
    return at


@cache
def _list_zone_names() -> frozenset[str]:
    return frozenset(available_timezones())
