"""Events of all types in ranges of days of a time zone: by time, and by type, of one instant.

A count in a range is that of the UTC days it touches, without the hours of the first before it and
those of the last after it; so the types cost one row each however long the range is. What Redis has
not stored is looked for first, among the names of what waits for a flush, and read with what is
stored in one exact read. A counter that is made in between is of an event that came since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    Boolean,
    DateTime,
    Select,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    union_all,
)

from pipeline.days import begin_day
from pipeline.errors import CountedByHour
from pipeline.postgres.tables import daily, hourly, quarter_hourly
from pipeline.reading.exact import ExactReader, Question, UnstoredCounts, with_ledger
from pipeline.reading.live_counters import find_pending_types
from pipeline.reading.series import periods
from pipeline.reading.series.moments import (
    Counted,
    Needed,
    count_until,
    find_needed,
    floor_hour,
    list_quarters,
)
from pipeline.reading.series.periods import Granularity, Point
from pipeline.reading.series.reader import CountedPeriod
from pipeline.redis.counters import DailyCounter, HourlyCounter, QuarterCounter

_QUARTER, _HOUR, _DAY = timedelta(minutes=15), timedelta(hours=1), timedelta(days=1)
_TIME = DateTime(timezone=True)
Live = DailyCounter | HourlyCounter | QuarterCounter
Range = tuple[date, date]

_IN_DAYS = daily.c.date.between(bindparam("first"), bindparam("last"))


@dataclass(frozen=True)
class AllTypes:
    """What happened in some ranges: the points of each, and the events of each type in it, most
    first. Types without events are left out."""

    periods: list[CountedPeriod]
    types: list[dict[str, int]]


@dataclass(frozen=True)
class _Span:
    """A range as moments of UTC, and the days that it touches."""

    points: list[Point]
    begin: datetime
    end: datetime

    @property
    def first(self) -> date:
        return self.begin.date()

    @property
    def last(self) -> date:
        return max(self.begin, self.end - _QUARTER).date()

    def list_outside(self) -> tuple[list[datetime], list[datetime]]:
        """The hours of these days that are outside of the range, and the quarter hours of those
        that it cuts."""
        until = begin_day(self.last) + _DAY
        before = _list_between(begin_day(self.first), floor_hour(self.begin), _HOUR)
        after = _list_between(floor_hour(self.end + _HOUR - _QUARTER), until, _HOUR)
        quarters = _list_between(floor_hour(self.begin), self.begin, _QUARTER)
        quarters += _list_between(self.end, after[0] if after else until, _QUARTER)
        return before + after, quarters

    def weigh(self, counter: Live) -> int:
        """How often the events of a counter belong into a sum of these days' counters and, below
        zero, of those outside of the range."""
        if isinstance(counter, DailyCounter):
            return int(self.first <= counter.day <= self.last)
        at = counter.hour if isinstance(counter, HourlyCounter) else counter.quarter
        return -int(self.first <= at.date() <= self.last and not self.begin <= at < self.end)


class AllTypesReader:
    """Reads all types. Without state but what it reads by. Raises as `SeriesReader` does."""

    def __init__(self, unstored: UnstoredCounts, exact: ExactReader) -> None:
        self._client, self._keys, self._exact = unstored.client, unstored.keys, exact

    def read(self, ranges: list[Range], granularity: Granularity, time_zone: str) -> AllTypes:
        """What happened in these ranges, each of days of the zone, both included."""
        zone = periods.find_zone(time_zone)
        spans = []
        for one in ranges:
            points = periods.list_points(*one, granularity, zone)
            spans.append(_Span(points, points[0].begin, points[-1].end))
        moments = {at for span in spans for one in span.points for at in (one.begin, one.end)}
        needed = find_needed(moments, by_hour=granularity in {"hour", "quarter_hour"})
        counted, types = self._read(needed, spans, by_hour=granularity in {"hour", "quarter_hour"})
        if coarse := _find_coarse(counted, needed):
            raise CountedByHour(
                f"in {time_zone} a part of an hour is asked for, and that of "
                f"{coarse[0]:%Y-%m-%d %H:00} UTC was counted whole; `analytics rebuild` counts "
                "its quarter hours, and zones that are whole hours from UTC need none"
            )
        until = count_until(moments, counted)
        found = [
            CountedPeriod(*days, [(one.at, until[one.end] - until[one.begin]) for one in s.points])
            for days, s in zip(ranges, spans, strict=True)
        ]
        return AllTypes(found, [_rank(one) for one in types])

    def _read(
        self, needed: Needed, spans: list[_Span], *, by_hour: bool
    ) -> tuple[Counted, list[Counter[str]]]:
        live = dict(_list_read(find_pending_types(self._client, self._keys)))
        rows: list[tuple[str, Any, int]] = []

        def name_row(kind: str, event_type: str, at: datetime | None, span: int) -> str:
            rows.append((kind, at.replace(tzinfo=UTC) if at else event_type, span))
            return f"{len(rows) - 1}"

        values = _bind(needed, spans, by_hour=by_hour)
        found = self._exact.read(Question(_compile(len(spans)), values, name_row, list(live)))
        sums = {kind: Counter[Any]() for kind in ("day", "hour", "quarter")}
        types = [Counter[str]() for _ in spans]
        for name, n in found.items():
            if name in live:
                _add_live(live[name], n, sums, types, spans)
            else:
                kind, key, span = rows[int(name)]
                (types[span] if kind == "type" else sums[kind])[key] += int(n)
        hours = {at: sums["hour"][at] for at in needed.hours}
        if by_hour:
            days = dict.fromkeys(needed.days, 0)
            for at, n in hours.items():
                days[at.date()] += n
        else:
            days = {day: sums["day"][begin_day(day)] for day in needed.days}
        quarters = {at: sums["quarter"][at] for hour in needed.split for at in list_quarters(hour)}
        return Counted(days, hours, quarters), types


def _add_live(
    counter: Live,
    n: int,
    sums: Mapping[str, Counter[Any]],
    types: list[Counter[str]],
    spans: list[_Span],
) -> None:
    if isinstance(counter, DailyCounter):
        sums["day"][begin_day(counter.day)] += n
    elif isinstance(counter, HourlyCounter):
        sums["hour"][counter.hour] += n
    else:
        sums["hour"][counter.quarter.replace(minute=0)] += n
        sums["quarter"][counter.quarter] += n
    for of_span, span in zip(types, spans, strict=True):
        of_span[counter.event_type] += span.weigh(counter) * n


def _list_between(begin: datetime, end: datetime, step: timedelta) -> list[datetime]:
    return [begin + n * step for n in range((end - begin) // step)]


def _list_read(found: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Live]]:
    for name, counter in found:
        if isinstance(counter, DailyCounter | HourlyCounter | QuarterCounter):
            yield name, counter


def _find_coarse(counted: Counted, needed: Needed) -> list[datetime]:
    return [
        hour
        for hour in needed.split
        if counted.hours[hour] > sum(counted.quarters[at] for at in list_quarters(hour))
    ]


def _rank(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted((one for one in counts.items() if one[1] > 0), key=_most_first))


def _most_first(one: tuple[str, int]) -> tuple[int, str]:
    return -one[1], one[0]


def _select_types(span: int) -> list[Select[Any]]:
    """The counts of a span's days by type, and below zero those of what is outside of it."""
    name: Any = literal_column("'type'")
    number: Any = literal_column(f"{span}")
    days = daily.c.date.between(bindparam(f"first_{span}"), bindparam(f"last_{span}"))
    no_time: Any = cast(None, DateTime)
    return [
        select(name.label("kind"), table.c.event_type, no_time.label("at"), number.label("span"), n)
        .where(outside)
        .group_by(table.c.event_type)
        for table, n, outside in (
            (daily, func.sum(daily.c.count).label("n"), days),
            (hourly, -func.sum(hourly.c.count), _is_one_of(hourly, hourly.c.hour, f"hours_{span}")),
            (
                quarter_hourly,
                -func.sum(quarter_hourly.c.count),
                _is_one_of(quarter_hourly, quarter_hourly.c.quarter, f"quarters_{span}"),
            ),
        )
    ]


def _is_one_of(table: Any, at: Any, name: str) -> Any:
    """Looked up by type, since that is what the index begins with."""
    known = select(daily.c.event_type).where(_IN_DAYS).distinct()
    times: Any = bindparam(name, type_=ARRAY(_TIME))
    return table.c.event_type.in_(known) & (at == func.any(times))


def _select_all(spans: int) -> str:
    no_type: Any = cast(None, Text)
    zero: Any = literal_column("0")
    parts = [one for span in range(spans) for one in _select_types(span)]
    parts.append(
        select(
            literal_column("'day'"),
            no_type,
            cast(daily.c.date, DateTime),
            zero,
            func.sum(daily.c.count),
        )
        .where(_IN_DAYS, bindparam("by_day", type_=Boolean))
        .group_by(daily.c.date)
    )
    for kind, at in (("hour", hourly.c.hour), ("quarter", quarter_hourly.c.quarter)):
        time = func.timezone(literal_column("'UTC'"), at)
        parts.append(
            select(literal_column(f"'{kind}'"), no_type, time, zero, func.sum(at.table.c.count))
            .where(_is_one_of(at.table, at, f"{kind}s"))
            .group_by(at)
        )
    rows = union_all(*parts).subquery()
    return with_ledger(select(rows.c.kind, rows.c.event_type, rows.c.at, rows.c.span, rows.c.n))


@cache
def _compile(spans: int) -> str:
    return _select_all(spans)


def _bind(needed: Needed, spans: list[_Span], *, by_hour: bool) -> dict[str, Any]:
    values: dict[str, Any] = {
        "first": min(needed.days),
        "last": max(needed.days),
        "by_day": not by_hour,
        "hours": needed.hours,
        "quarters": [at for hour in needed.split for at in list_quarters(hour)],
    }
    for n, span in enumerate(spans):
        hours, quarters = span.list_outside()
        values |= {f"first_{n}": span.first, f"last_{n}": span.last}
        values |= {f"hours_{n}": hours, f"quarters_{n}": quarters}
    return values
