"""The counters of a day as reads give them, and as its events make them. Changes nothing.

All that was logged of a day is in the archive or waits in the event log. To be compared while flush
and archive are held off, as what a flush moves would else be seen twice, or not at all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

from sqlalchemy import ColumnElement, Connection, Table, Text, any_, cast, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from pipeline.counting.apply import Counters
from pipeline.counting.increments import OTHER, ValueIncrements, count
from pipeline.counting.log_entries import FULL, OFF
from pipeline.days import bound_days, hour_text
from pipeline.errors import CannotRebuild
from pipeline.event.model import Event
from pipeline.event_log import queries
from pipeline.event_log.queries import EventFilter
from pipeline.event_log.streams import EventLog
from pipeline.flushing.counter_rows import counter_name
from pipeline.postgres.tables import COUNTER_TABLES, event_log_gaps
from pipeline.redis.counters import (
    BinCounter,
    GapCounter,
    HourlyCounter,
    SumCounter,
    ValueCounter,
    ValueSumCounter,
)
from pipeline.redis.keys import Keys
from pipeline.upkeep.audits.counts import find_first_kept_day
from pipeline.upkeep.snapshot import Snapshot

REBUILT = [table for table in COUNTER_TABLES if table is not event_log_gaps]
_COUNTERS_AT_ONCE = 500
_ROWS_AT_ONCE = 10_000
_MOMENTS = {"hour", "quarter"}
"""Columns that hold a moment of the day."""

Changed = dict[str, tuple[int, int]]
"""Counters that differ: by name, the count that reads give, and the one that is right."""
FindGaps = Callable[[], Iterable[GapCounter]]
"""Finds the counters in Redis of what was not logged, of any day."""


class DayRecount:
    """The counters of a day counted again, while all transfers are held off by the transaction of
    `connection`."""

    def __init__(
        self,
        counters: Counters,
        log: EventLog,
        connection: Connection,
        day: date,
        find_gaps: FindGaps,
    ) -> None:
        self._counters, self._connection = counters, connection
        self._keys, self._options = counters.keys, counters.options
        self._day, self._find_gaps = day, find_gaps
        self._now = datetime.now(UTC)
        self._snapshot = Snapshot(counters, log, connection)
        self._logged: Counter[str] = Counter()
        """What was logged, by counter; it grows by what is logged meanwhile."""
        self._left: set[str] = set()
        self._values: dict[str, set[str]] = {}
        """Of each property, under the counter of the rest: the counters of its values."""

    @property
    def left_alone(self) -> list[str]:
        """The event types that were not, or were not always, logged, sorted."""
        return sorted(self._left)

    def check(self) -> None:
        """Refuse a day of which the archive does not have all."""
        since = find_first_kept_day(self._connection)
        if self._day < since:
            raise CannotRebuild(
                f"raw events of days before {since} have been pruned: {self._day} cannot be "
                "rebuilt from them"
            )
        self._left, waiting = self._unlogged_types()
        self._add(waiting)

    def compare(self, live: Iterable[str] = (), types: Sequence[str] | None = None) -> Changed:
        """What reads show now of each counter, and what is right, where these differ.

        Compares the counters that are stored, of these `types` only, those that were logged, and
        the `live` ones. Raises `CannotRebuild` as `check` does.
        """
        self.check()
        stored = self._stored(types)
        named = {name for name in live if self._is_rebuilt(name)}
        begin, end = bound_days(self._day, self._day)
        for some in queries.stream_on(self._connection, EventFilter(first=begin, end=end)):
            self._add(some)
        changed = self._compare(stored, named)
        # Gaps only grow while all is held off: none now, none before.
        if self._unlogged_types()[0] != self._left:
            raise CannotRebuild(
                f"the event log was switched off meanwhile: rebuild {self._day} again"
            )
        if self._snapshot.unreadable:
            raise CannotRebuild(
                f"{self._snapshot.unreadable} entries of the event log cannot be read; they become "
                "dead letters after some more runs of `analytics archive`"
            )
        return changed

    def _compare(self, stored: Counter[str], live: Iterable[str]) -> Changed:
        _, waiting = self._snapshot.read([])
        self._add(waiting)
        names = sorted({*self._logged, *stored, *live})
        changed: Changed = {}
        for first in range(0, len(names), _COUNTERS_AT_ONCE):
            some = names[first : first + _COUNTERS_AT_ONCE]
            unflushed = self._read_live(some)
            for name in some:
                shown, right = stored[name] + unflushed[name], self._logged[name]
                if shown != right:
                    changed[name] = (shown, right)
        return self._without_equal_sums(changed)

    def _read_live(self, names: Sequence[str]) -> Counter[str]:
        """What Redis holds of these counters, to an hour also what it holds of its quarters; and
        add up what was logged until the same instant."""
        parts = [(name, part) for name in names for part in self._parts_of(name)]
        live, waiting = self._snapshot.read([part for _, part in parts])
        self._add(waiting)
        found: Counter[str] = Counter()
        for (name, _), n in zip(parts, live, strict=True):
            found[name] += n
        return found

    def _parts_of(self, name: str) -> Sequence[str]:
        counter = self._keys.parse(name)
        if isinstance(counter, HourlyCounter):
            return self._keys.names_of_hour(counter.event_type, hour_text(counter.hour))
        return [name]

    def _without_equal_sums(self, changed: Changed) -> Changed:
        """What changes, without the parts of sums of which only the parts differ, and not the sum:
        a worker splits the sum of each of its batches."""
        deltas: defaultdict[Hashable, list[tuple[str, Decimal]]] = defaultdict(list)
        for name, (shown, right) in changed.items():
            counter = self._keys.parse(name)
            if isinstance(counter, SumCounter | ValueSumCounter) and counter.part[0] == "e":
                delta = Decimal(right - shown).scaleb(int(counter.part[1:]))
                deltas[replace(counter, part="")].append((name, delta))
        equal = {
            name
            for parts in deltas.values()
            if not sum(delta for _, delta in parts)
            for name, _ in parts
        }
        return {name: found for name, found in changed.items() if name not in equal}

    def _unlogged_types(self) -> tuple[set[str], list[Event]]:
        """Types that were not always logged, and what was logged since the last look. Raises
        `CannotRebuild` when the log was full."""
        gaps = self._stored_gaps()
        for one in self._find_gaps():
            if one.hour.date() == self._day:
                gaps.setdefault(one, 0)
        every = sorted(gaps, key=lambda one: (one.event_type, one.reason, one.hour))
        logged: list[Event] = []
        for first in range(0, len(every), _COUNTERS_AT_ONCE):
            some = every[first : first + _COUNTERS_AT_ONCE]
            live, waiting = self._snapshot.read([_name_gap(self._keys, one) for one in some])
            logged += waiting
            for one, n in zip(some, live, strict=True):
                gaps[one] += n
        full = [one for one in every if one.reason == FULL and gaps[one]]
        if full:
            event_type = full[0].event_type
            found = {hour_text(one.hour): gaps[one] for one in full if one.event_type == event_type}
            raise CannotRebuild(
                f"{sum(found.values())} events of {event_type!r} were counted and not logged, "
                f"because the event log was full ({', '.join(found)}): {self._day} cannot be "
                "rebuilt"
            )
        return {one.event_type for one in every if one.reason == OFF and gaps[one]}, logged

    def _stored_gaps(self) -> dict[GapCounter, int]:
        begin, end = bound_days(self._day, self._day)
        gap = event_log_gaps.c
        of_day = select(event_log_gaps).where(gap.hour >= begin, gap.hour < end)
        return {
            GapCounter(row.event_type, row.reason, row.hour.astimezone(UTC)): row._mapping["count"]
            for row in self._connection.execute(of_day)
        }

    def _stored(self, types: Sequence[str] | None) -> Counter[str]:
        """What Postgres holds of the day's counters that are rebuilt."""
        stored: Counter[str] = Counter()
        for table in REBUILT:
            columns = [
                cast(func.timezone("UTC", column) if column.name in _MOMENTS else column, Text)
                for column in (*table.primary_key, table.c.count)
            ]
            wanted = select(*columns).where(is_of_day(table, self._day))
            if types is not None:  # most tables have an index by type, and none by day
                wanted = wanted.where(table.c.event_type == any_(literal(types, ARRAY(Text))))
            rows = self._connection.execute(wanted.execution_options(yield_per=_ROWS_AT_ONCE))
            for row in rows:
                name = counter_name(table, tuple(row), self._keys)
                if self._is_rebuilt(name):
                    stored[name] = int(row[-1])
        return stored

    def _is_rebuilt(self, name: str) -> bool:
        counter = self._keys.parse(name)
        if counter.event_type in self._left:
            return False
        if isinstance(counter, SumCounter | ValueSumCounter | BinCounter):
            is_summed = counter.property in self._options.sums.get(counter.event_type, ())
            by = counter.by if isinstance(counter, ValueSumCounter) else None
            return is_summed and by in (None, *self._options.count_by.get(counter.event_type, ()))
        if isinstance(counter, ValueCounter):
            if counter.property not in self._options.count_by.get(counter.event_type, ()):
                return False
            if counter.value != OTHER:
                rest = self._keys.value(
                    counter.event_type, counter.property, OTHER, f"{counter.day}"
                )
                self._values.setdefault(rest, set()).add(name)
        return True

    def _add(self, found: Iterable[Event]) -> None:
        """Add up events of the day, as a worker does. Of values past the cap those are counted one
        by one that are so already, and else the first."""
        of_day = [
            one
            for one in found
            if one.timestamp.date() == self._day and one.event_type not in self._left
        ]
        options = self._options
        increments = count(of_day, options.count_by, self._keys, self._now, options.sums)
        self._logged.update(increments.counters)
        for (event_type, hour), n in increments.hours.items():
            self._logged[self._keys.hourly(event_type, hour)] += n
        for fields in increments.fields.values():
            for one, n in fields.items():
                self._logged[self._keys.name_of(one)] += n
        for group in increments.values:
            self._add_values(group)

    def _add_values(self, group: ValueIncrements) -> None:
        rest = self._keys.name_of(group.rest_field)
        self._logged[rest] += group.rest
        known = self._values.setdefault(rest, set())
        admitted: set[str] = set()
        for value, _, one, n in group.counters:
            name = self._keys.name_of(one)
            if name not in known and len(known) >= self._options.values_cap:
                self._logged[rest] += n
            else:
                known.add(name)
                admitted.add(value)
                self._logged[name] += n
        for value, of_value in group.sums.items():
            for own, of_rest, n in of_value:
                field = own if value in admitted else of_rest
                self._logged[self._keys.name_of(field)] += n


def is_of_day(table: Table, day: date) -> ColumnElement[bool]:
    """The condition that a row of a counter table is of this day."""
    if "date" in table.c:
        return table.c.date == day
    begin, end = bound_days(day, day)
    [moment] = [column for column in table.primary_key if column.name in _MOMENTS]
    return (moment >= begin) & (moment < end)


def _name_gap(keys: Keys, gap: GapCounter) -> str:
    return keys.gap(gap.event_type, gap.reason, hour_text(gap.hour))
