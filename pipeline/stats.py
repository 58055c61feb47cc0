"""Reads: exact at any moment, flushed or not.

A read lists the journal's batches, asks Postgres for the counts and for which of these batches it
holds, both in one statement, and then asks Redis for everything that is not among them. Whatever a
flush does in between, each count is found in exactly one place. Rankings alone are as of the last
flush, and say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Engine,
    Select,
    Text,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from pipeline.counters import Counters
from pipeline.counting import counted_value
from pipeline.keys import Keys, UserCounter, hour_text
from pipeline.tables import daily, dimension_daily, flush_batches, hourly, user_daily

_RECENT = timedelta(minutes=10)

StoredCounts = dict[str, int]
"""Stored counts by the name of their counter in Redis."""


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

    def __init__(self, counters: Counters, engine: Engine) -> None:
        self._counters = counters
        self._keys: Keys = counters.keys
        self._engine = engine

    def daily_count(self, event_type: str, day: date) -> int:
        """How often the event happened on a day."""
        return self.count(event_type, day, day)

    def count(self, event_type: str, first: date, last: date) -> int:
        """How often the event happened from `first` to `last`."""
        return sum(count for _, count in self._by_day(event_type, first, last))

    def hourly_counts(self, event_type: str, day: date) -> list[int]:
        """24 counts, one for each hour of a day."""
        return [count for _, count in self._by_hour(event_type, day, day)]

    def series(
        self, event_type: str, first: date, last: date, by: Literal["hour", "day"]
    ) -> Sequence[tuple[date, int]]:
        """One (time, count) for every hour or day of the range, zeros included. An hour is an aware
        datetime."""
        read: Callable[[str, date, date], Sequence[tuple[date, int]]] = (
            self._by_hour if by == "hour" else self._by_day
        )
        return read(event_type, first, last)

    def user_count(self, user_id: str, event_type: str, first: date, last: date) -> int:
        """How often a user did something from `first` to `last`."""
        table = user_daily.c
        days = {self._keys.user(user_id, event_type, f"{day}"): day for day in _days(first, last)}
        stored = select(table.date, table.count).where(
            table.user_id == user_id,
            table.event_type == event_type,
            table.date.between(first, last),
        )
        return sum(self._read(stored, lambda day: self._keys.user(user_id, event_type, day), days))

    def property_count(
        self, event_type: str, property_name: str, value: str, first: date, last: date
    ) -> int:
        """How often the event happened with a value of one of its counted properties."""
        table = dimension_daily.c
        value = counted_value(value)

        def name(day: str) -> str:
            return self._keys.value(event_type, property_name, value, day)

        stored = select(table.date, table.count).where(
            table.event_type == event_type,
            table.property == property_name,
            table.value == value,
            table.date.between(first, last),
        )
        return sum(self._read(stored, name, [name(f"{day}") for day in _days(first, last)]))

    def user_counts(
        self, user_id: str, first: date | None = None, last: date | None = None
    ) -> dict[str, dict[date, int]]:
        """All that a user did, by event type and day; without a range, ever. Days without events
        are left out.

        Looks through the names of all pending counters, so it takes longer the more are pending.
        """
        table = user_daily.c
        live = sorted(self._counters.names_of_user(user_id))
        stored = select(table.date, table.event_type, table.count).where(table.user_id == user_id)
        if first is not None:
            stored = stored.where(table.date >= first)
        if last is not None:
            stored = stored.where(table.date <= last)
        found = self._read_named(
            stored, lambda day, event_type: self._keys.user(user_id, event_type, day), live
        )
        counts: dict[str, dict[date, int]] = {}
        for name, n in found.items():
            counter = self._keys.parse(name)
            if (
                n
                and isinstance(counter, UserCounter)
                and (first is None or counter.day >= first)
                and (last is None or counter.day <= last)
            ):
                counts.setdefault(counter.event_type, {})[counter.day] = n
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
        return Ranking([(row[0], int(row[1])) for row in rows], as_of)

    # -- the protocol of an exact read --

    def _by_day(self, event_type: str, first: date, last: date) -> list[tuple[date, int]]:
        days = _days(first, last)
        names = [self._keys.daily(event_type, f"{day}") for day in days]
        stored = select(daily.c.date, daily.c.count).where(
            daily.c.event_type == event_type, daily.c.date.between(first, last)
        )
        counts = self._read(stored, lambda day: self._keys.daily(event_type, day), names)
        return list(zip(days, counts, strict=True))

    def _by_hour(self, event_type: str, first: date, last: date) -> list[tuple[datetime, int]]:
        hours = [
            datetime.combine(day, time(hour), UTC)
            for day in _days(first, last)
            for hour in range(24)
        ]
        if not hours:
            return []
        names = [self._keys.hourly(event_type, hour_text(hour)) for hour in hours]
        at = func.to_char(func.timezone("UTC", hourly.c.hour), "YYYY-MM-DD:HH24")
        stored = select(at, hourly.c.count).where(
            hourly.c.event_type == event_type, hourly.c.hour.between(hours[0], hours[-1])
        )
        counts = self._read(stored, lambda hour: self._keys.hourly(event_type, hour), names)
        return list(zip(hours, counts, strict=True))

    def _read(
        self, stored: Select[Any], name: Callable[..., str], names: Iterable[str]
    ) -> list[int]:
        wanted = list(names)
        found = self._read_named(stored, name, wanted)
        return [found.get(name, 0) for name in wanted]

    def _read_named(
        self, stored: Select[Any], name: Callable[..., str], names: Sequence[str]
    ) -> StoredCounts:
        """Counts by counter name: what `stored` selects (key columns, then the count), and what is
        not stored yet.

        `name` makes a counter's name of the key columns, which come as text; `names` are the
        counters to ask Redis for beside those that Postgres returns.
        """
        while True:
            journal = self._counters.journal()
            rows, batches = self._stored(stored, [*journal.open, *journal.settled])
            counts = {name(*key): int(count) for *key, count in rows}
            asked = list({**dict.fromkeys(names), **dict.fromkeys(counts)})
            unstored = self._counters.unstored(asked, batches, journal.at_ms)
            if unstored is not None:
                for counter, count in zip(asked, unstored, strict=True):
                    counts[counter] = counts.get(counter, 0) + count
                return counts

    def _stored(
        self, query: Select[Any], batch_ids: Sequence[str]
    ) -> tuple[list[list[Any]], list[str]]:
        """In one statement, and so of one instant: the rows of `query`, and the batches that the
        ledger holds."""
        rows = query.subquery()
        ledger = select(
            func.coalesce(func.array_agg(flush_batches.c.batch_id), cast([], ARRAY(Text)))
        ).where(
            or_(
                flush_batches.c.batch_id
                == func.any(cast(literal(batch_ids, ARRAY(Text)), ARRAY(Text))),
                flush_batches.c.stored_at > func.clock_timestamp() - _RECENT,
            )
        )
        as_array = func.json_build_array(*rows.c)
        counts = select(
            func.coalesce(func.json_agg(as_array), literal_column("'[]'::json", JSON))
        ).select_from(rows)
        with self._engine.connect() as connection:
            found = connection.execute(
                select(counts.scalar_subquery(), ledger.scalar_subquery())
            ).one()
        return found[0], found[1]


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
