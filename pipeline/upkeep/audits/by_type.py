"""Whether the counts of event types agree among themselves: a day with its hours, and these with
their quarters. Needs no archive, and changes nothing.

To be called while flush and archive are held off.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time

from sqlalchemy import Connection, text

from pipeline.counting.apply import Counters
from pipeline.days import UTC, hour_text
from pipeline.reading.live_counters import find_pending_types
from pipeline.redis.counters import DailyCounter, HourlyCounter, QuarterCounter, day_of
from pipeline.redis.keys import Keys
from pipeline.upkeep.snapshot import read_unstored

_AT_ONCE = 20
"""Days of types that one script reads, with 121 counters each."""
_NAMES_AT_ONCE = 1_000
_MOST_LIVE = 2_000
"""Days of types beyond which those that wait for a flush are left to the next audit."""

Pair = tuple[str, date]
"""An event type and a day."""


def _walk(name: str, table: str) -> str:
    """The event types that a table has: some microseconds for each, however many rows it has."""
    return (
        f"{name} (event_type) AS (SELECT min(event_type) FROM schema$.{table} UNION ALL "
        f"SELECT (SELECT min(event_type) FROM schema$.{table} AS next "
        f"WHERE next.event_type > {name}.event_type) FROM {name} "
        f"WHERE {name}.event_type IS NOT NULL)"
    )


def _sum(table: str) -> str:
    column = "hour" if table == "analytics_hourly" else "quarter"
    return (
        f"COALESCE((SELECT sum(count) FROM schema$.{table} AS one "
        f"WHERE one.event_type = types.event_type AND {column} >= of_day.begin "
        f"AND {column} < of_day.end), 0)"
    )


_READ = text(
    f"WITH RECURSIVE {_walk('of_days', 'analytics_daily')}, "
    f"{_walk('of_hours', 'analytics_hourly')}, "
    f"{_walk('of_quarters', 'analytics_quarter_hourly')}, types AS ("
    "SELECT event_type FROM of_days UNION SELECT event_type FROM of_hours "
    "UNION SELECT event_type FROM of_quarters), "
    "of_day (day, begin, \"end\") AS (SELECT day, timezone('UTC', CAST(day AS TIMESTAMP)), "
    "timezone('UTC', CAST(day + 1 AS TIMESTAMP)) FROM unnest(CAST(:days AS DATE[])) AS day) "
    "SELECT types.event_type, of_day.day, COALESCE((SELECT sum(count) "
    "FROM schema$.analytics_daily AS one WHERE one.event_type = types.event_type "
    f"AND one.date = of_day.day), 0), {_sum('analytics_hourly')}, "
    f"{_sum('analytics_quarter_hourly')} "
    "FROM types CROSS JOIN of_day WHERE types.event_type IS NOT NULL"
)


@dataclass
class Counts:
    """A day of an event type: its count, that of its hours, and that of their quarters."""

    of_day: int = 0
    of_hours: int = 0
    of_quarters: int = 0


@dataclass
class TypeCounts:
    """The counts of all event types on some days, by day and type."""

    found: defaultdict[date, defaultdict[str, Counts]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Counts))
    )
    types: set[str] = field(default_factory=set)
    """Those that Postgres knows."""

    def count_events(self, day: date) -> int:
        """How many events were counted on a day, about: its counts may have been changed."""
        return sum(max(one.of_day, one.of_hours) for one in self.found[day].values())


def read_type_counts(
    counters: Counters, connection: Connection, days: Sequence[date]
) -> TypeCounts:
    """What Postgres and Redis have of these days; each day of a type is of one instant."""
    every = TypeCounts()
    for event_type, day, *sums in connection.execute(_READ, {"days": list(days)}):
        every.types.add(event_type)
        if any(sums):
            every.found[day][event_type] = Counts(*map(int, sums))
    live = sorted(
        {
            (one.event_type, day_of(one))
            for _, one in find_pending_types(counters.client, counters.keys)
            if isinstance(one, DailyCounter | HourlyCounter | QuarterCounter)
            and day_of(one) in set(days)
        }
    )
    live += _find_others(counters, connection, every, live)
    for event_type, day in live[_MOST_LIVE:]:
        every.found[day].pop(event_type, None)
    for at in range(0, len(live[:_MOST_LIVE]), _AT_ONCE):
        _add_live(counters, connection, every, live[at : at + _AT_ONCE])
    return every


def _find_others(
    counters: Counters, connection: Connection, every: TypeCounts, live: Sequence[Pair]
) -> list[Pair]:
    """Days of types that are not pending, and have a counter all the same: another hand's."""
    known = [(event_type, day) for day, found in every.found.items() for event_type in found]
    others = sorted(set(known) - set(live))
    found: list[Pair] = []
    for at in range(0, len(others), _NAMES_AT_ONCE):
        some = others[at : at + _NAMES_AT_ONCE]
        names = [counters.keys.daily(event_type, f"{day}") for event_type, day in some]
        counts = read_unstored(counters, connection, names)
        found += [pair for pair, n in zip(some, counts, strict=True) if n]
    return found


def _add_live(
    counters: Counters,
    connection: Connection,
    every: TypeCounts,
    pairs: Sequence[Pair],
) -> None:
    named = [(pair, *one) for pair in pairs for one in _names(counters.keys, *pair)]
    live = read_unstored(counters, connection, [name for _, name, _ in named])
    for ((event_type, day), _, parts), n in zip(named, live, strict=True):
        counts = every.found[day][event_type]
        for part in parts:
            setattr(counts, part, getattr(counts, part) + n)


def _names(keys: Keys, event_type: str, day: date) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The counters of an event type on a day, each with what it is part of."""
    yield keys.daily(event_type, f"{day}"), ("of_day",)
    for number in range(24):
        hour = hour_text(datetime.combine(day, time(number), UTC))
        of_before, *quarters = keys.names_of_hour(event_type, hour)
        yield of_before, ("of_hours",)
        yield from ((name, ("of_hours", "of_quarters")) for name in quarters)
