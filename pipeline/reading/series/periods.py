"""The points of a series: which stretch of time each of them is, in a time zone. Pure; no server.

Counters exist for UTC days, hours and quarter hours. Since 1980 every time zone is whole quarter
hours from UTC, so that its days, and its hours, begin with one; where one does not, it is refused.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones

from pipeline.errors import UnsuitableTimeZone
from pipeline.reading.suggestions import find_alike

Granularity = Literal["quarter_hour", "hour", "day", "week", "month"]
Compared = Literal["previous", "year", "weekdays"]
"""What a range is compared with: see `find_compared_range`."""

FIRST_DAY = date(1, 1, 2)
LAST_DAY = date(9998, 12, 31)
"""Between them every day exists in every zone, and so does the one after it."""

_HOUR = timedelta(hours=1)
_QUARTER = timedelta(minutes=15)
_DAY = timedelta(days=1)
_YEAR_OF_WEEKS = timedelta(weeks=52)


@dataclass(frozen=True, slots=True)
class Point:
    """A stretch of time: its name, when it begins, and when it has ended (UTC)."""

    at: str
    begin: datetime
    end: datetime


def find_zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name. Raises `UnsuitableTimeZone`, with the name that was perhaps
    meant."""
    if name not in _list_zone_names():
        near = find_alike(name, _list_zone_names() | _list_cities())
        meant = f"did you mean {near}? Give" if near else "give"
        raise UnsuitableTimeZone(
            f"{name[:80]!r} is no time zone: {meant} an IANA name such as Europe/Berlin"
        )
    return ZoneInfo(name)


def list_points(first: date, last: date, granularity: Granularity, tz: ZoneInfo) -> list[Point]:
    """The points from the first day to the last, both included, in order and without a gap.

    A week is named by its Monday and a month by its first day, also where the range cuts it; then
    it counts the days of the range only. An hour is one of the zone's clock: where clocks change
    within it, it is two points, each named by its beginning. Raises `UnsuitableTimeZone` where a
    day or an hour does not begin with a quarter hour of UTC.
    """
    if granularity in {"hour", "quarter_hour"}:
        begin, end = _find_midnight(first, tz), _find_midnight(last + _DAY, tz)
        steps = _list_hours if granularity == "hour" else _list_quarters
        begins = [*steps(begin, end, tz), end]
        return [
            Point(at.astimezone(tz).isoformat(), at, begins[n + 1])
            for n, at in enumerate(begins[:-1])
        ]
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


def find_compared_range(first: date, last: date, compared: Compared) -> tuple[date, date]:
    """The range that another is compared with: the `previous` one, the same days a `year` before,
    or the same `weekdays` a year (52 weeks) before. Raises OverflowError where the calendar has
    none."""
    if compared == "previous":
        return find_previous_range(first, last)
    if first.year <= FIRST_DAY.year + 1:
        raise OverflowError("there is no such year")
    if compared == "weekdays":
        return first - _YEAR_OF_WEEKS, last - _YEAR_OF_WEEKS
    if _is_whole_months(first, last):
        return first.replace(year=first.year - 1), _end_month(last.year - 1, last.month)
    return _find_year_before(first), _find_year_before(last)


def find_previous_range(first: date, last: date) -> tuple[date, date]:
    """The period of the same length directly before: as many months where the range is whole
    months, else as many days. Raises OverflowError where the calendar has none."""
    end = first - _DAY
    if _is_whole_months(first, last):
        months = (last.year - first.year) * 12 + last.month - first.month + 1
        year, month = divmod(first.year * 12 + first.month - 1 - months, 12)
        if year < FIRST_DAY.year:
            raise OverflowError("there is no such month")
        return date(year, month + 1, 1), end
    return end - (last - first), end


def _find_year_before(day: date) -> date:
    end = _end_month(day.year - 1, day.month)
    return end.replace(day=min(day.day, end.day))


def _is_whole_months(first: date, last: date) -> bool:
    return first.day == 1 and (last + _DAY).day == 1


def _end_month(year: int, month: int) -> date:
    return date(year, month, monthrange(year, month)[1])


def _name_point(day: date, granularity: Granularity) -> date:
    if granularity == "week":
        return day - timedelta(days=min(day.weekday(), day.toordinal() - 1))
    return day.replace(day=1) if granularity == "month" else day


def _find_midnight(day: date, tz: ZoneInfo) -> datetime:
    """When a day begins in the zone. Where clocks jump over midnight, that is when they do."""
    return _check_quarter(datetime.combine(day, time(), tz).astimezone(UTC), tz)


def _list_quarters(begin: datetime, end: datetime, _: ZoneInfo) -> Iterator[datetime]:
    """When each quarter hour begins."""
    yield from (begin + n * _QUARTER for n in range((end - begin) // _QUARTER))


def _list_hours(begin: datetime, end: datetime, tz: ZoneInfo) -> Iterator[datetime]:
    """When each hour of the zone's clock begins, and when the clock changes within one."""
    at = begin
    while at < end:
        yield at
        local = at.astimezone(tz)
        follows = at + _HOUR - timedelta(minutes=local.minute)
        if follows.astimezone(tz).utcoffset() != local.utcoffset():
            quarters = _list_quarters(at, follows, tz)
            changed = (one for one in quarters if _offset(one, tz) != local.utcoffset())
            follows = next(changed, follows)
        at = _check_quarter(follows, tz)


def _offset(at: datetime, tz: ZoneInfo) -> timedelta | None:
    return at.astimezone(tz).utcoffset()


def _check_quarter(at: datetime, tz: ZoneInfo) -> datetime:
    """The moment, if it begins a quarter hour."""
    if at.minute % 15 or at.second:
        raise UnsuitableTimeZone(
            f"{tz.key} was not whole quarter hours from UTC on {at.astimezone(tz).date()}, and "
            "counts are kept by quarter hour of UTC: ask for UTC, or for days since 1980"
        )
    return at


@cache
def _list_zone_names() -> dict[str, str]:
    # localtime is whatever zone this machine is set to.
    return {name: name for name in available_timezones() - {"localtime", "Factory"}}


@cache
def _list_cities() -> dict[str, str]:
    """The zones by the last part of their names."""
    return {name.rpartition("/")[2].replace("_", " "): name for name in sorted(_list_zone_names())}
