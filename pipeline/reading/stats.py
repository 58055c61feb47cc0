"""Reads: exact at any moment, flushed or not.

How a count is exact while a flush runs is in `exact.py`; here are the questions and their SQL.
Rankings alone are as of the last flush, and say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from heapq import nlargest
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Engine,
    Text,
    bindparam,
    func,
    select,
)

from pipeline.counting.increments import decode_value, encode_value
from pipeline.days import list_days
from pipeline.options import NO_SUMS, Sums
from pipeline.postgres.tables import daily, dimension_daily, flush_batches, user_daily
from pipeline.reading.exact import ExactReader, Question, UnstoredCounts, with_ledger
from pipeline.reading.hours import HourReader, QuarterCounts
from pipeline.reading.live_counters import find_user_counters
from pipeline.reading.overview.reader import AllTypes, AllTypesReader
from pipeline.reading.people.retention import Retention, count_retention
from pipeline.reading.people.users import (
    ActiveUsers,
    Period,
    Users,
    UserSeries,
    count_active,
    count_users,
    count_users_by,
)
from pipeline.reading.series.periods import Granularity
from pipeline.reading.series.reader import CountedPeriod, SeriesReader, SeriesRequest
from pipeline.reading.sums import SumReader
from pipeline.redis.counters import UserCounter
from pipeline.redis.keys import Keys

if TYPE_CHECKING:
    from pipeline.reading.journeys.breakdown import Breakdown, BreakdownQuestion
    from pipeline.reading.journeys.funnels import Funnel, FunnelQuestion


def _in_range(column: ColumnElement[Any]) -> ColumnElement[bool]:
    return column.between(bindparam("first"), bindparam("last"))


_DAYS = with_ledger(
    select(daily.c.date, daily.c.count).where(
        daily.c.event_type == bindparam("event_type"), _in_range(daily.c.date)
    )
)
_TYPES_OF_DAY = with_ledger(
    select(daily.c.event_type, daily.c.count).where(
        daily.c.date == bindparam("day"),
        daily.c.event_type == func.any(bindparam("event_types", type_=ARRAY(Text))),
    )
)
_USER_DAYS = with_ledger(
    select(user_daily.c.date, user_daily.c.count).where(
        user_daily.c.user_id == bindparam("user_id"),
        user_daily.c.event_type == bindparam("event_type"),
        _in_range(user_daily.c.date),
    )
)
_USER = with_ledger(
    select(user_daily.c.date, user_daily.c.event_type, user_daily.c.count).where(
        user_daily.c.user_id == bindparam("user_id"), _in_range(user_daily.c.date)
    )
)
_VALUE_DAYS = with_ledger(
    select(dimension_daily.c.date, dimension_daily.c.count).where(
        dimension_daily.c.event_type == bindparam("event_type"),
        dimension_daily.c.property == bindparam("property"),
        dimension_daily.c.value == bindparam("value"),
        _in_range(dimension_daily.c.date),
    )
)


MOST_TYPES_OF_USER = 1_000
"""A bound on what a read returns: the sender of an event chooses its type freely."""


def keep_largest(
    counts: dict[str, dict[date, int]], limit: int = MOST_TYPES_OF_USER
) -> tuple[dict[str, dict[date, int]], int]:
    """The event types with the most events among those of `Stats.user_counts`, in the order of
    their names, and how many more there are."""
    largest = nlargest(limit, counts, key=lambda name: (sum(counts[name].values()), name))
    return {name: counts[name] for name in sorted(largest)}, len(counts) - len(largest)


@dataclass(frozen=True)
class Ranking:
    """The largest counts, largest first, as they were stored at `as_of` (None: nothing has been
    flushed yet)."""

    top: list[tuple[str, int]]
    as_of: datetime | None


class Stats:
    """Exact counts from one Redis and one Postgres. Days and hours are UTC; ranges include both
    ends.

    Every method raises redis.RedisError or sqlalchemy.exc.OperationalError when a server is away.
    """

    def __init__(self, unstored: UnstoredCounts, engine: Engine, sums: Sums = NO_SUMS) -> None:
        self._unstored = unstored
        self._keys: Keys = unstored.keys
        self._engine = engine
        self._exact = ExactReader(unstored, engine)
        self._hours = HourReader(unstored, self._exact)
        self._series = SeriesReader(unstored, self._exact)
        self._all_types = AllTypesReader(unstored, self._exact)
        self.sums = SumReader(unstored, self._exact, sums)
        """Sums and distributions of the numbers of properties."""

    def daily_count(self, event_type: str, day: date) -> int:
        """How often the event happened on a day."""
        return self.count(event_type, day, day)

    def count(self, event_type: str, first: date, last: date) -> int:
        """How often the event happened from `first` to `last`."""
        return sum(count for _, count in self._by_day(event_type, first, last))

    def daily_counts(self, event_types: Collection[str], day: date) -> dict[str, int]:
        """How often each of these events happened on a day, all of one instant."""
        names = {event_type: self._keys.daily(event_type, f"{day}") for event_type in event_types}
        found = self._exact.read(
            Question(
                _TYPES_OF_DAY,
                {"event_types": list(names), "day": day},
                lambda event_type: self._keys.daily(event_type, f"{day}"),
                list(names.values()),
            )
        )
        return {event_type: found[name] for event_type, name in names.items()}

    def hourly_counts(self, event_type: str, day: date) -> list[int]:
        """24 counts, one for each hour of a day."""
        return [count for _, count in self._hours.read_hours(event_type, day, day)]

    def series(
        self, event_type: str, first: date, last: date, by: Literal["hour", "day"]
    ) -> Sequence[tuple[date, int]]:
        """One (time, count) for every hour or day of the range, zeros included. An hour is an aware
        datetime."""
        read: Callable[[str, date, date], Sequence[tuple[date, int]]] = (
            self._hours.read_hours if by == "hour" else self._by_day
        )
        return read(event_type, first, last)

    def quarter_counts(self, event_type: str, first: date, last: date) -> QuarterCounts:
        """The same by quarter hour (UTC): see `QuarterCounts`."""
        return self._hours.read_quarters(event_type, first, last)

    def read_series(self, wanted: SeriesRequest) -> list[CountedPeriod]:
        """A series in a time zone, after that of the range it is compared with, if there is one;
        see `SeriesReader.read`."""
        return self._series.read(wanted)

    def read_all_types(
        self, ranges: list[tuple[date, date]], granularity: Granularity, time_zone: str
    ) -> AllTypes:
        """Events of all types in each of these ranges, by time and by type; see
        `AllTypesReader.read`."""
        return self._all_types.read(ranges, granularity, time_zone)

    def user_count(self, user_id: str, event_type: str, first: date, last: date) -> int:
        """How often a user did something from `first` to `last`."""

        def name(day: date) -> str:
            return self._keys.user(user_id, event_type, f"{day}")

        wanted = {"user_id": user_id, "event_type": event_type, "first": first, "last": last}
        return sum(
            self._read(
                Question(_USER_DAYS, wanted, name, [name(day) for day in list_days(first, last)])
            )
        )

    def property_count(
        self, event_type: str, property_name: str, value: str, first: date, last: date
    ) -> int:
        """How often the event happened with a value of one of its counted properties."""
        return sum(
            n for _, n in self.property_counts(event_type, property_name, value, first, last)
        )

    def property_counts(
        self, event_type: str, property_name: str, value: str, first: date, last: date
    ) -> list[tuple[date, int]]:
        """The same for every day of the range, zeros included."""
        value = encode_value(value)

        def name(day: date) -> str:
            return self._keys.value(event_type, property_name, value, f"{day}")

        wanted = {
            "event_type": event_type,
            "property": property_name,
            "value": value,
            "first": first,
            "last": last,
        }
        days = list_days(first, last)
        counts = self._read(Question(_VALUE_DAYS, wanted, name, [name(day) for day in days]))
        return list(zip(days, counts, strict=True))

    def user_counts(
        self, user_id: str, first: date | None = None, last: date | None = None
    ) -> dict[str, dict[date, int]]:
        """All that a user did, by event type and day; without a range, ever. Days without events
        are left out.

        Looks through one bucket of live counters.
        """
        live = sorted(find_user_counters(self._unstored.client, self._keys, user_id))
        first, last = first or date.min, last or date.max
        found = self._exact.read(
            Question(
                _USER,
                {"user_id": user_id, "first": first, "last": last},
                lambda day, event_type: self._keys.user(user_id, event_type, f"{day}"),
                live,
            )
        )
        counts: dict[str, dict[date, int]] = {}
        for name, n in found.items():
            counter = self._keys.parse(name)
            if n and isinstance(counter, UserCounter) and first <= counter.day <= last:
                counts.setdefault(counter.event_type, {})[counter.day] = n
        return {
            event_type: dict(sorted(days.items())) for event_type, days in sorted(counts.items())
        }

    def counts_of_user(
        self, forms: Iterable[str], first: date | None = None, last: date | None = None
    ) -> dict[str, dict[date, int]]:
        """`user_counts` of a user who is stored under several forms of the id, added up."""
        counts: dict[str, Counter[date]] = {}
        for form in forms:
            for event_type, days in self.user_counts(form, first, last).items():
                counts.setdefault(event_type, Counter()).update(days)
        return {
            event_type: dict(sorted(days.items())) for event_type, days in sorted(counts.items())
        }

    def top(
        self,
        event_type: str,
        of: str,
        first: date | None = None,
        last: date | None = None,
        limit: int = 10,
    ) -> Ranking:
        """The users (`of` is "user") or the values of property `of` with the most events, as of the
        last flush."""
        if of == "user":
            table, value = user_daily, user_daily.c.user_id
            conditions: list[ColumnElement[bool]] = []
        else:
            table, value = dimension_daily, dimension_daily.c.value
            conditions = [dimension_daily.c.property == of]
        conditions.append(table.c.event_type == event_type)
        if first is not None:
            conditions.append(table.c.date >= first)
        if last is not None:
            conditions.append(table.c.date <= last)
        total = func.sum(table.c.count)
        ranking = (
            select(value, total)
            .where(*conditions)
            .group_by(value)
            .order_by(total.desc(), value)
            .limit(limit)
        )
        with self._engine.connect().execution_options(
            isolation_level="REPEATABLE READ"
        ) as connection:
            rows = connection.execute(ranking).all()
            as_of = connection.execute(select(func.max(flush_batches.c.stored_at))).scalar_one()
        read = str if of == "user" else decode_value
        return Ranking([(read(row[0]), int(row[1])) for row in rows], as_of)

    def users(self, event_types: Collection[str], first: date, last: date) -> Users:
        """How many users did one of these, of any event where none is named, as of the last flush:
        in all, new and returning."""
        return count_users(self._engine, event_types, first, last)

    def users_by(
        self, event_types: Collection[str], first: date, last: date, by: Period
    ) -> UserSeries:
        """The same for each day, week or month of the range as well. Raises `TooManyPeriods`."""
        return count_users_by(self._engine, event_types, first, last, by)

    def active_users(self, day: date) -> ActiveUsers:
        """Users of any event on a day and in the 7 and 30 days that it ends, as of the last
        flush."""
        return count_active(self._engine, day)

    def retention(self, start: str, return_: str, by: Period, first: date, last: date) -> Retention:
        """Of the users who did `start` in a period, how many did `return_` so many periods later,
        as of the last flush. Raises `TooManyPeriods`."""
        return count_retention(self._engine, start, return_, by, (first, last))

    def funnel(self, question: FunnelQuestion) -> Funnel:
        """How many users did one thing after another, as of the last archive run; see
        `pipeline.reading.journeys.funnels`. Raises `QuestionTooLarge` beyond its limits."""
        from pipeline.reading.journeys.funnels import find_funnel  # loads numpy

        return find_funnel(self._engine, question)

    def breakdown(self, question: BreakdownQuestion) -> Breakdown:
        """Archived events by any property, on any condition, as of the last archive run; see
        `pipeline.reading.journeys.breakdown`. Raises `QuestionTooLarge` beyond its limits."""
        from pipeline.reading.journeys.breakdown import find_breakdown

        return find_breakdown(self._engine, question)

    def _by_day(self, event_type: str, first: date, last: date) -> list[tuple[date, int]]:
        def name(day: date) -> str:
            return self._keys.daily(event_type, f"{day}")

        days = list_days(first, last)
        wanted = {"event_type": event_type, "first": first, "last": last}
        counts = self._read(Question(_DAYS, wanted, name, [name(day) for day in days]))
        return list(zip(days, counts, strict=True))

    def _read(self, question: Question) -> list[int]:
        found = self._exact.read(question)
        return [found[name] for name in question.names]
