"""Exact counts by hour and by quarter hour.

Events are counted by quarter hour, and stored by both. The version before counted by hour alone:
of its hours, and of those only, more is known than of their quarters together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import ColumnElement, Table, bindparam, literal_column, select, union_all

from pipeline.days import bound_days, hour_text, list_days, quarter_text
from pipeline.postgres.tables import hourly, quarter_hourly
from pipeline.reading.exact import ExactReader, Question, UnstoredCounts, with_ledger
from pipeline.reading.live_counters import find_measures
from pipeline.redis.counters import HourlyCounter, QuarterCounter
from pipeline.redis.keys import QUARTERS, escape

QUARTER = timedelta(minutes=15)


def _in_time(table: Table, moment: str) -> ColumnElement[bool]:
    at = table.c[moment]
    is_of_type = table.c.event_type == bindparam("event_type")
    return is_of_type & (at >= bindparam("begin")) & (at < bindparam("end"))


_HOURS = with_ledger(select(hourly.c.hour, hourly.c.count).where(_in_time(hourly, "hour")))
_BOTH = union_all(
    select(literal_column("'hour'").label("kind"), hourly.c.hour.label("at"), hourly.c.count).where(
        _in_time(hourly, "hour")
    ),
    select(literal_column("'quarter'"), quarter_hourly.c.quarter, quarter_hourly.c.count).where(
        _in_time(quarter_hourly, "quarter")
    ),
).subquery()
_QUARTERS = with_ledger(select(_BOTH.c.kind, _BOTH.c.at, _BOTH.c.count))
_STORED = "stored "
"""Before the name of a counter, for what Postgres has of it."""


@dataclass(frozen=True)
class QuarterCounts:
    """Events by the beginning of their quarter hour (UTC); and by that of their hour, those of
    which no more is known than the hour. What is left out is 0."""

    quarters: Mapping[datetime, int] = field(default_factory=dict)
    unsplit: Mapping[datetime, int] = field(default_factory=dict)


class HourReader:
    """Reads the hours of event types. Raises as `ExactReader`."""

    def __init__(self, unstored: UnstoredCounts, exact: ExactReader) -> None:
        self._client, self._keys, self._exact = unstored.client, unstored.keys, exact

    def read_hours(self, event_type: str, first: date, last: date) -> list[tuple[datetime, int]]:
        """One (time, count) for each hour (UTC) of the days, zeros included."""
        hours = _list_hours(first, last)
        counts = Counter[datetime]()
        for name, n in self._read(_HOURS, event_type, first, last).items():
            counts[self._find_hour(name)] += n
        return [(hour, counts[hour]) for hour in hours]

    def read_quarters(self, event_type: str, first: date, last: date) -> QuarterCounts:
        """The quarter hours of the days (UTC)."""
        quarters, unsplit = Counter[datetime](), Counter[datetime]()
        for name, n in self._read(_QUARTERS, event_type, first, last).items():
            counter = self._keys.parse(name.removeprefix(_STORED))
            if isinstance(counter, HourlyCounter):
                unsplit[counter.hour] += n
            elif isinstance(counter, QuarterCounter):
                quarters[counter.quarter] += n
                if name.startswith(_STORED):  # it is part of the hour that is stored
                    unsplit[counter.quarter.replace(minute=0)] -= n
        begin, end = bound_days(first, last)
        return QuarterCounts(
            {at: n for at, n in quarters.items() if n and begin <= at < end},
            {at: n for at, n in unsplit.items() if n and begin <= at < end},
        )

    def _read(self, statement: str, event_type: str, first: date, last: date) -> Counter[str]:
        keys = self._keys
        names = [keys.hourly(event_type, hour_text(hour)) for hour in _list_hours(first, last)]
        if not names:
            return Counter()
        live = find_measures(self._client, keys, QUARTERS, f"quarter:{escape(event_type)}")

        def name(*row: object) -> str:
            at = row[-1]
            assert isinstance(at, datetime)
            at = at.astimezone(UTC)
            if row[0] == "quarter":
                return _STORED + keys.quarterly(event_type, quarter_text(at))
            return keys.hourly(event_type, hour_text(at))

        begin, end = bound_days(first, last)
        wanted = {"event_type": event_type, "begin": begin, "end": end}
        return self._exact.read(Question(statement, wanted, name, [*names, *sorted(live)]))

    def _find_hour(self, name: str) -> datetime:
        counter = self._keys.parse(name)
        if isinstance(counter, QuarterCounter):
            return counter.quarter.replace(minute=0)
        assert isinstance(counter, HourlyCounter)
        return counter.hour


def _list_hours(first: date, last: date) -> list[datetime]:
    return [
        datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
        for day in list_days(first, last)
        for hour in range(24)
    ]
