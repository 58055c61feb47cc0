"""A series of counts in a time zone, and that of the range it is compared with: of one instant."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from sqlalchemy import (
    ARRAY,
    BindParameter,
    DateTime,
    Select,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    union_all,
)

from pipeline.days import MOST_DAYS, count_days, hour_text, quarter_text
from pipeline.errors import CountedByHour
from pipeline.postgres.tables import daily, hourly, quarter_hourly
from pipeline.reading.exact import Counts, ExactReader, Question, UnstoredCounts, with_ledger
from pipeline.reading.live_counters import find_measures
from pipeline.reading.series import periods
from pipeline.reading.series.moments import (
    Counted,
    Needed,
    count_until,
    find_needed,
    floor_hour,
    list_quarters,
)
from pipeline.reading.series.periods import Compared, Granularity
from pipeline.redis.counters import QuarterCounter
from pipeline.redis.keys import QUARTERS, Keys, escape

_MOST_QUARTER_HOURLY_DAYS = 100
_MOST_DAYS_OF_ZONE = 800
_MOST_NAMED_HOURS = 1_000
"""Of which the quarter hours are asked for by name: each takes Redis a look."""
_MOST_NAMED = 3
_COUNTERS_OF_HOUR = 5
Range = tuple[date, date]


@dataclass(frozen=True)
class SeriesRequest:
    """Which series: days of the zone, both included, and the step from point to point."""

    event_type: str
    first: date
    last: date
    granularity: Granularity = "day"
    time_zone: str = "UTC"
    compared: Compared | None = None

    def zone(self) -> ZoneInfo:
        """Raises `UnsuitableTimeZone`."""
        return periods.find_zone(self.time_zone)

    def ranges(self) -> list[Range]:
        """The days, after those they are compared with. Raises OverflowError where the calendar
        has none."""
        days = self.first, self.last
        if self.compared is None:
            return [days]
        return [periods.find_compared_range(*days, self.compared), days]

    def count_counters(self) -> int:
        """How many counters a read looks up, at most."""
        days = sum(count_days(*one) for one in self.ranges())
        if self.is_by_hour:
            return days * 24
        return days if self.time_zone == "UTC" else days * (1 + 12 * _COUNTERS_OF_HOUR)

    @property
    def is_by_hour(self) -> bool:
        """Whether its points are hours or parts of them."""
        return self.granularity in {"hour", "quarter_hour"}


@dataclass(frozen=True)
class CountedPeriod:
    """A range and what happened in it: (name of the point, count), zeros included."""

    first: date
    last: date
    points: list[tuple[str, int]]

    @property
    def count(self) -> int:
        """How much happened in all of it."""
        return sum(n for _, n in self.points)


def _select_all() -> Select[tuple[str, datetime, int]]:
    """Days, hours and quarter hours of a type, each with its kind, and without a zone, so that
    every year can be read whatever the session's zone is."""
    of_type: BindParameter[str] = bindparam("event_type")
    days = select(
        literal_column("'day'").label("kind"),
        cast(daily.c.date, DateTime).label("at"),
        daily.c.count,
    ).where(
        daily.c.event_type == of_type,
        daily.c.date.between(bindparam("first"), bindparam("last")),
    )
    hours, quarters = (
        select(
            literal_column(f"'{kind}'"),
            func.timezone(literal_column("'UTC'"), at),
            at.table.c.count,
        ).where(
            at.table.c.event_type == of_type,
            at == func.any(bindparam(f"{kind}s", type_=ARRAY(DateTime(timezone=True)))),
        )
        for kind, at in (("hour", hourly.c.hour), ("quarter", quarter_hourly.c.quarter))
    )
    rows = union_all(days, hours, quarters).subquery()
    return select(rows.c.kind, rows.c.at, rows.c.count)


def limit_days(granularity: Granularity, time_zone: str) -> int:
    """How many days a series may have: a read asks Redis for its counters in one step."""
    if granularity == "quarter_hour":
        return _MOST_QUARTER_HOURLY_DAYS
    return MOST_DAYS if time_zone == "UTC" or granularity == "hour" else _MOST_DAYS_OF_ZONE


_COUNTERS = with_ledger(_select_all())


class SeriesReader:
    """Reads series exactly. Without state but what it reads by."""

    def __init__(self, unstored: UnstoredCounts, exact: ExactReader) -> None:
        self._client, self._keys, self._exact = unstored.client, unstored.keys, exact

    def read(self, wanted: SeriesRequest) -> list[CountedPeriod]:
        """What happened in each of the ranges, that of the request last.

        Raises `UnsuitableTimeZone`, `CountedByHour` where a point begins within an hour that was
        counted as a whole, OverflowError where the calendar has no range to compare with, and
        redis.RedisError or sqlalchemy.exc.OperationalError when a server is away.
        """
        zone, ranges = wanted.zone(), wanted.ranges()
        listed = [periods.list_points(*one, wanted.granularity, zone) for one in ranges]
        moments = {at for points in listed for one in points for at in (one.begin, one.end)}
        until = count_until(moments, self._read(wanted, moments))
        return [
            CountedPeriod(*days, [(one.at, until[one.end] - until[one.begin]) for one in points])
            for days, points in zip(ranges, listed, strict=True)
        ]

    def _read(self, wanted: SeriesRequest, moments: Collection[datetime]) -> Counted:
        needed, live = find_needed(moments), None
        is_of_days = wanted.granularity == "day" and len(needed.hours) > _MOST_NAMED_HOURS
        if wanted.is_by_hour or is_of_days:  # each day has a moment, hence all of its hours
            needed = find_needed(moments, by_hour=True)
            live = self._find_live(wanted.event_type)
        names = _Names(self._keys, wanted.event_type, needed, live)
        values = {
            "event_type": wanted.event_type,
            "first": needed.days[0],
            "last": needed.days[-1],
            "hours": needed.hours,
            "quarters": [at for hour in needed.split for at in list_quarters(hour)],
        }
        found = self._exact.read(Question(_COUNTERS, values, names.name_row, names.list_all()))
        counted = names.sort(found)
        coarse = [
            hour
            for hour in needed.split
            if counted.hours[hour] > sum(counted.quarters[at] for at in list_quarters(hour))
        ]
        if coarse:
            raise CountedByHour(_explain(wanted, coarse))
        return counted

    def _find_live(self, event_type: str) -> dict[datetime, str]:
        """The quarter hours in Redis."""
        head = f"quarter:{escape(event_type)}"
        names = find_measures(self._client, self._keys, QUARTERS, head)
        parsed = ((self._keys.parse(name), name) for name in names)
        return {one.quarter: name for one, name in parsed if isinstance(one, QuarterCounter)}


class _Names:
    """The names of the counters that are needed, in Redis; there, an hour is its quarters, and what
    the version before has counted by the hour.

    Where all hours of the days are needed, `live` are the quarter hours that were found there. One
    that came since is left out, so the days, which have it, are made of their hours.
    """

    def __init__(
        self, keys: Keys, event_type: str, needed: Needed, live: Mapping[datetime, str] | None
    ) -> None:
        self._split, self._live = needed.split, live
        self._days = {day: keys.daily(event_type, f"{day}") for day in needed.days}
        self._hours = {at: keys.hourly(event_type, hour_text(at)) for at in needed.hours}
        if live is None:
            quarters = (at for hour in needed.hours for at in list_quarters(hour))
            self._quarters = {at: keys.quarterly(event_type, quarter_text(at)) for at in quarters}
        else:
            self._quarters = {
                at: name for at, name in live.items() if floor_hour(at) in self._hours
            }

    def list_all(self) -> list[str]:
        """Of what may be in Redis."""
        days = self._days.values() if self._live is None else ()
        return [*days, *self._hours.values(), *self._quarters.values()]

    def name_row(self, kind: str, at: datetime) -> str:
        """The name under which a stored row is counted. That of a quarter hour is one of its own,
        since the row of its hour counts it too."""
        if kind == "day":
            return self._days[at.date()]
        at = at.replace(tzinfo=UTC)
        return self._hours[at] if kind == "hour" else _name_stored(at)

    def sort(self, found: Counts) -> Counted:
        """The counts by time."""
        hours = {hour: found[name] for hour, name in self._hours.items()}
        quarters = {
            at: found[_name_stored(at)] for hour in self._split for at in list_quarters(hour)
        }
        for at, name in self._quarters.items():
            hours[floor_hour(at)] += found[name]
            if at in quarters:
                quarters[at] += found[name]
        if self._live is None:
            return Counted({day: found[name] for day, name in self._days.items()}, hours, quarters)
        days = dict.fromkeys(self._days, 0)
        for hour, n in hours.items():
            days[hour.date()] += n
        return Counted(days, hours, quarters)


def _name_stored(quarter: datetime) -> str:
    return f"stored {quarter.isoformat()}"


def _explain(wanted: SeriesRequest, hours: Sequence[datetime]) -> str:
    """Why hours that were counted as a whole cannot be parted, and what to do."""
    named = ", ".join(f"{at:%Y-%m-%d %H:00}" for at in hours[:_MOST_NAMED])
    more = f" and {len(hours) - _MOST_NAMED:,} more" if len(hours) > _MOST_NAMED else ""
    step = wanted.granularity.replace("_", " ")
    return (
        f"a {step} of {wanted.time_zone} begins within an hour of UTC that was counted as a whole, "
        f"by a version without quarter hours: {named}{more}. `analytics rebuild --from "
        f"{hours[0].date()} --to {hours[-1].date()}` counts its quarter hours from the archive; "
        "hours of UTC, and days of zones that are whole hours from it, need none"
    )
