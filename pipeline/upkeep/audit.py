"""Whether the archive and the counters agree, by event type and hour. Changes nothing.

What was counted in an hour is in the archive, or waits in the event log, or was noted as a gap; and
the count of a day is that of its hours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date
from typing import Any

from sqlalchemy import Connection, Engine, func, select, text

from pipeline.counting.apply import Counters
from pipeline.counting.log_entries import FULL, OFF
from pipeline.days import bound_days, list_days
from pipeline.event_log.streams import EventLog
from pipeline.postgres.locks import hold_transfers
from pipeline.postgres.tables import daily, event_log_gaps, events, hourly
from pipeline.redis.keys import Keys, hour_text
from pipeline.upkeep.retention import read_pruned_before
from pipeline.upkeep.snapshot import Snapshot

_DAYS_AT_ONCE = 10
"""Days of event types that one script reads, with 73 counters each."""

Moment = tuple[str, str]
"""An event type and an hour (`YYYY-MM-DD:HH`) or a day (`YYYY-MM-DD`)."""


@dataclass(frozen=True)
class Difference:
    """An hour of an event type, or a day of its own counter, whose numbers do not add up: `logged`
    events are archived or wait to be, `gap` were counted and not logged."""

    event_type: str
    day: date
    hour: int | None
    counted: int
    logged: int
    gap: int

    @property
    def drift(self) -> int:
        """How many too many are counted; below zero, how many too few."""
        return self.counted - self.logged - self.gap


def audit(
    counters: Counters, log: EventLog, engine: Engine, first: date, last: date
) -> list[Difference]:
    """What differs from `first` to `last`, both included, at one instant; nothing when all is well.

    Days whose raw events were pruned are left out. A flush and the archive wait for the moment in
    which the counters are read.
    """
    snapshot = engine.connect().execution_options(isolation_level="REPEATABLE READ")
    with snapshot:
        with hold_transfers(engine):
            first = max(first, find_first_kept_day(snapshot))
            if first > last:
                return []
            counted, gaps, waiting = _counted(counters, log, snapshot, (first, last))
        logged = _archived(snapshot, first, last)
    for moment, n in waiting.items():
        logged[moment] += n
    for (event_type, hour), n in list(logged.items()):
        logged[event_type, hour[:10]] += n
    found = [
        _difference(moment, counted[moment], logged[moment], gaps[moment])
        for moment in sorted({*counted, *logged, *gaps})
    ]
    return [one for one in found if one.drift]


def _difference(moment: Moment, counted: int, logged: int, gap: int) -> Difference:
    event_type, when = moment
    day, _, hour = when.partition(":")
    return Difference(
        event_type, date.fromisoformat(day), int(hour) if hour else None, counted, logged, gap
    )


Sums = Counter[Moment]


def _counted(
    counters: Counters, log: EventLog, snapshot: Connection, days: tuple[date, date]
) -> tuple[Sums, Sums, Sums]:
    """By moment: what is counted, what was not logged, and what is logged and not archived, as of
    the same instant; the first two for days too."""
    keys = counters.keys
    stored = read_stored_counts(snapshot, keys, *days)
    types = stored.types | list_counted_types(counters)
    missing = Snapshot(counters, log, snapshot)
    counted, gaps, waiting, logged = Sums(), Sums(), Sums(), Sums()
    pairs = [
        (event_type, day) for event_type in sorted(types) for day in map(str, list_days(*days))
    ]
    for at in range(0, len(pairs), _DAYS_AT_ONCE):
        some = pairs[at : at + _DAYS_AT_ONCE]
        named = [row for event_type, day in some for row in _names(keys, event_type, day)]
        live, new = missing.read([name for name, _, _ in named])
        for event in new:
            waiting[event.event_type, hour_text(event.timestamp)] += 1
        for (name, moment, is_gap), n in zip(named, live, strict=True):
            (gaps if is_gap else counted)[moment] += n + stored.counts[name]
            if is_gap:
                gaps[moment[0], moment[1][:10]] += n + stored.counts[name]
            elif ":" in moment[1]:
                logged[moment] = waiting[moment]  # of this instant
    return counted, gaps, logged


def _names(keys: Keys, event_type: str, day: str) -> Iterator[tuple[str, Moment, bool]]:
    """The counters of an event type on a day: name, what it counts, and whether it is a gap's."""
    yield keys.daily(event_type, day), (event_type, day), False
    for hour in (f"{day}:{n:02}" for n in range(24)):
        yield keys.hourly(event_type, hour), (event_type, hour), False
        for reason in (OFF, FULL):
            yield keys.gap(event_type, reason, hour), (event_type, hour), True


@dataclass(frozen=True)
class Stored:
    """Counts in Postgres by the name of their counter, and which types have any."""

    counts: Counter[str]
    types: set[str]


def read_stored_counts(connection: Connection, keys: Keys, first: date, last: date) -> Stored:
    """The counts by day and by hour, and the gaps, from `first` to `last`."""
    begin, end = bound_days(first, last)
    counts: Counter[str] = Counter()
    types: set[str] = set()

    def add(event_type: str, name: str, count: int) -> None:
        counts[name] += count
        types.add(event_type)

    of_days = select(daily).where(daily.c.date.between(first, last))
    for row in connection.execute(of_days):
        add(row.event_type, keys.daily(row.event_type, f"{row.date}"), row._mapping["count"])
    of_hours = select(hourly).where(hourly.c.hour >= begin, hourly.c.hour < end)
    for row in connection.execute(of_hours):
        name = keys.hourly(row.event_type, hour_text(row.hour.astimezone(UTC)))
        add(row.event_type, name, row._mapping["count"])
    gap = event_log_gaps.c
    for row in connection.execute(select(event_log_gaps).where(gap.hour >= begin, gap.hour < end)):
        name = keys.gap(row.event_type, row.reason, hour_text(row.hour.astimezone(UTC)))
        add(row.event_type, name, row._mapping["count"])
    return Stored(counts, types)


def list_counted_types(counters: Counters) -> set[str]:
    """The event types in the books of Redis."""
    fields: Any = counters.client.hkeys(counters.keys.totals)
    names = (field.decode(errors="replace").partition(":") for field in fields)
    return {event_type for field, _, event_type in names if field == "counted" and event_type}


def find_first_kept_day(connection: Connection) -> date:
    """The first day of which the archive has all. Until the transaction ends, no day is pruned."""
    connection.execute(text("LOCK TABLE events IN ACCESS SHARE MODE"))
    return read_pruned_before(connection, events) or date.min


def _archived(connection: Connection, first: date, last: date) -> Sums:
    begin, end = bound_days(first, last)
    hour = func.to_char(func.timezone("UTC", events.c.timestamp), "YYYY-MM-DD:HH24")
    sums = (
        select(events.c.event_type, hour, func.count())
        .where(events.c.timestamp >= begin, events.c.timestamp < end)
        .group_by(events.c.event_type, hour)
    )
    return Counter({(row[0], row[1]): row[2] for row in connection.execute(sums)})
