"""Reads: exact at any moment, flushed or not.

A read asks Redis what it holds of its counters, live or in open batches, and then Postgres for the
counts it has and for the claims in its ledger, both in one statement. What a batch held is added if
the ledger did not have it. When a batch was claimed and stored in between, what was live is in both
answers, and the read begins again. So each count is found in exactly one place, whatever a flush
does meanwhile. Rankings alone are as of the last flush, and say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    CompoundSelect,
    Engine,
    Select,
    Text,
    bindparam,
    func,
    null,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from pipeline.counting.apply import Counters, Unstored
from pipeline.counting.increments import counted_value
from pipeline.postgres.engine import Reader
from pipeline.postgres.tables import daily, dimension_daily, flush_batches, hourly, user_daily
from pipeline.redis.keys import Keys, UserCounter, hour_text

_DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]


def _with_ledger(rows: Select[Any]) -> str:
    """In one statement, and so of one instant: the rows (key columns, then the count), and the
    batches that are stored, from the claim after a given one on.

    A row is (keys …, count, NULL, NULL), a batch (NULL …, epoch, claim, id). Compiled once for each
    read: SQLAlchemy takes longer to put such a statement together than Postgres to answer it.
    """
    keys = len(rows.selected_columns) - 1
    batch = flush_batches.c
    batches = select(*[null()] * keys, batch.epoch, batch.claim, batch.batch_id).where(
        tuple_(batch.epoch, batch.claim) > tuple_(bindparam("epoch"), bindparam("claim"))
    )
    both: CompoundSelect[Any] = union_all(rows.add_columns(null(), null()), batches)
    return str(both.compile(dialect=_DIALECT))


def _in_range(column: ColumnElement[Any]) -> ColumnElement[bool]:
    return column.between(bindparam("first"), bindparam("last"))


_DAYS = _with_ledger(
    select(daily.c.date, daily.c.count).where(
        daily.c.event_type == bindparam("event_type"), _in_range(daily.c.date)
    )
)
_TYPES_OF_DAY = _with_ledger(
    select(daily.c.event_type, daily.c.count).where(
        daily.c.date == bindparam("day"),
        daily.c.event_type == func.any(bindparam("event_types", type_=ARRAY(Text))),
    )
)
_HOURS = _with_ledger(
    select(hourly.c.hour, hourly.c.count).where(
        hourly.c.event_type == bindparam("event_type"), _in_range(hourly.c.hour)
    )
)
_USER_DAYS = _with_ledger(
    select(user_daily.c.date, user_daily.c.count).where(
        user_daily.c.user_id == bindparam("user_id"),
        user_daily.c.event_type == bindparam("event_type"),
        _in_range(user_daily.c.date),
    )
)
_USER = _with_ledger(
    select(user_daily.c.date, user_daily.c.event_type, user_daily.c.count).where(
        user_daily.c.user_id == bindparam("user_id"), _in_range(user_daily.c.date)
    )
)
_VALUE_DAYS = _with_ledger(
    select(dimension_daily.c.date, dimension_daily.c.count).where(
        dimension_daily.c.event_type == bindparam("event_type"),
        dimension_daily.c.property == bindparam("property"),
        dimension_daily.c.value == bindparam("value"),
        _in_range(dimension_daily.c.date),
    )
)


Counts = Counter[str]
"""By the name of their counter in Redis."""


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
        self._reader = Reader(engine)

    def daily_count(self, event_type: str, day: date) -> int:
        """How often the event happened on a day."""
        return self.count(event_type, day, day)

    def count(self, event_type: str, first: date, last: date) -> int:
        """How often the event happened from `first` to `last`."""
        return sum(count for _, count in self._by_day(event_type, first, last))

    def daily_counts(self, event_types: Collection[str], day: date) -> dict[str, int]:
        """How often each of these events happened on a day, all of one instant."""
        names = {event_type: self._keys.daily(event_type, f"{day}") for event_type in event_types}
        found = self._read_named(
            _TYPES_OF_DAY,
            {"event_types": list(names), "day": day},
            lambda event_type: self._keys.daily(event_type, f"{day}"),
            list(names.values()),
        )
        return {event_type: found[name] for event_type, name in names.items()}

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

        def name(day: date) -> str:
            return self._keys.user(user_id, event_type, f"{day}")

        wanted = {"user_id": user_id, "event_type": event_type, "first": first, "last": last}
        return sum(self._read(_USER_DAYS, wanted, name, [name(day) for day in _days(first, last)]))

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
        value = counted_value(value)

        def name(day: date) -> str:
            return self._keys.value(event_type, property_name, value, f"{day}")

        wanted = {
            "event_type": event_type,
            "property": property_name,
            "value": value,
            "first": first,
            "last": last,
        }
        days = _days(first, last)
        counts = self._read(_VALUE_DAYS, wanted, name, [name(day) for day in days])
        return list(zip(days, counts, strict=True))

    def user_counts(
        self, user_id: str, first: date | None = None, last: date | None = None
    ) -> dict[str, dict[date, int]]:
        """All that a user did, by event type and day; without a range, ever. Days without events
        are left out.

        Looks through the names of all pending counters, so it takes longer the more are pending.
        """
        live = sorted(self._counters.names_of_user(user_id))
        first, last = first or date.min, last or date.max
        found = self._read_named(
            _USER,
            {"user_id": user_id, "first": first, "last": last},
            lambda day, event_type: self._keys.user(user_id, event_type, f"{day}"),
            live,
        )
        counts: dict[str, dict[date, int]] = {}
        for name, n in found.items():
            counter = self._keys.parse(name)
            if n and isinstance(counter, UserCounter) and first <= counter.day <= last:
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
        def name(day: date) -> str:
            return self._keys.daily(event_type, f"{day}")

        days = _days(first, last)
        wanted = {"event_type": event_type, "first": first, "last": last}
        counts = self._read(_DAYS, wanted, name, [name(day) for day in days])
        return list(zip(days, counts, strict=True))

    def _by_hour(self, event_type: str, first: date, last: date) -> list[tuple[datetime, int]]:
        hours = [
            datetime.combine(day, time(hour), UTC)
            for day in _days(first, last)
            for hour in range(24)
        ]
        if not hours:
            return []

        def name(hour: datetime) -> str:
            return self._keys.hourly(event_type, hour_text(hour.astimezone(UTC)))

        wanted = {"event_type": event_type, "first": hours[0], "last": hours[-1]}
        counts = self._read(_HOURS, wanted, name, [name(hour) for hour in hours])
        return list(zip(hours, counts, strict=True))

    def _read(
        self,
        statement: str,
        wanted: Mapping[str, Any],
        name: Callable[..., str],
        names: Sequence[str],
    ) -> list[int]:
        found = self._read_named(statement, wanted, name, names)
        return [found[name] for name in names]

    def _read_named(
        self,
        statement: str,
        wanted: Mapping[str, Any],
        name: Callable[..., str],
        names: Sequence[str],
    ) -> Counts:
        """Counts by counter name, of all `names` and of what else Postgres returns.

        `name` makes a counter's name of the key columns.
        """
        stored_before: set[str] = set()
        while True:
            unstored = self._counters.unstored(names)
            rows, stored = self._stored(statement, wanted, unstored)
            since = {id_ for id_, claim in stored.items() if claim > unstored.newest_claim}
            if since <= stored_before:
                break  # a Redis that went back is behind the ledger, however often it is asked
            stored_before |= since
        counts = Counter(dict(zip(names, unstored.live, strict=True)))
        for *key, count in rows:
            counts[name(*key)] += count
        for batch_id, held in unstored.claimed.items():
            if batch_id not in stored:
                for position, count in held:
                    counts[names[position]] += count
        return counts

    def _stored(
        self, statement: str, wanted: Mapping[str, Any], unstored: Unstored
    ) -> tuple[list[tuple[Any, ...]], dict[str, tuple[int, int]]]:
        """The rows, and the batches in the ledger that the read has to know of, with their
        claims."""
        epoch, claim = unstored.before_claimed
        found = self._reader.rows(statement, {**wanted, "epoch": epoch, "claim": claim})
        rows = [row[:-2] for row in found if row[-1] is None]
        return rows, {row[-1]: row[-3:-1] for row in found if row[-1] is not None}


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
