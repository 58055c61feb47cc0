"""Whether the sums of properties agree with the archive, by day. Changes nothing.

A property may be summed since the middle of a day, so fewer numbers than were logged are no
difference. As many, with another sum, are one; so are more, and other sizes than numbers. Types of
which not all was logged on a day are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, text

from pipeline.counting.apply import Counters
from pipeline.days import bound_days
from pipeline.event.scale import LARGEST, LIMB_DIGITS, scale
from pipeline.event_log.streams import EventLog
from pipeline.postgres.locks import hold_transfers
from pipeline.reading.conditions.sql import ODD
from pipeline.reading.live_counters import find_measures, find_type_counters
from pipeline.reading.sums import PropertySum, add_up
from pipeline.redis.counters import BinCounter, Counter, GapCounter, SumCounter, day_of
from pipeline.redis.keys import MEASURES
from pipeline.upkeep.audits.counts import find_first_kept_day, open_snapshot
from pipeline.upkeep.snapshot import Snapshot

_READ_SUMS = text(
    "SELECT event_type, property, CAST(timezone('UTC', quarter) AS DATE), part, sum(count) "
    "FROM schema$.analytics_sums WHERE quarter >= :begin AND quarter < :end GROUP BY 1, 2, 3, 4"
)
_READ_BINS = text(
    "SELECT event_type, property, date, sum(count) FROM schema$.analytics_distributions "
    "WHERE date BETWEEN :first AND :last GROUP BY 1, 2, 3"
)
_READ_GAPS = text(
    "SELECT DISTINCT event_type, CAST(timezone('UTC', hour) AS DATE) FROM schema$.event_log_gaps "
    "WHERE count > 0 AND hour >= :begin AND hour < :end"
)
_OF_TYPE = "event_type = :event_type AND timestamp >= :begin AND timestamp < :end"
_READ_ODD = text(
    "SELECT CAST(timezone('UTC', timestamp) AS DATE), CAST(properties AS TEXT) "
    f"FROM schema$.events WHERE {_OF_TYPE} AND {ODD}"
)
_PROPERTY = "CAST(:property AS TEXT)"
# As `pipeline.event.scale` reads a number.
_READ_LOGGED = text(
    rf"""
    SELECT day, count(number), count(*) - count(number), COALESCE(sum(number), 0) FROM (
        SELECT day, CASE WHEN abs(rounded) * CAST(:factor AS NUMERIC) < {LARGEST}
            THEN rounded END AS number
        FROM (
            SELECT day, CASE WHEN kind = 'number'
                OR (kind = 'string' AND found ~ '^-?[0-9]{{1,40}}(\.[0-9]{{1,40}})?$')
                THEN round(CAST(found AS NUMERIC), CAST(:decimals AS INTEGER)) END AS rounded
            FROM (
                SELECT CAST(timezone('UTC', timestamp) AS DATE) AS day,
                    CASE WHEN NOT {ODD} THEN json_typeof(properties -> {_PROPERTY}) END AS kind,
                    CASE WHEN NOT {ODD} THEN properties ->> {_PROPERTY} END AS found
                FROM schema$.events WHERE {_OF_TYPE}
            ) AS read WHERE kind IS NOT NULL
        ) AS rounded
    ) AS scaled GROUP BY day
    """
)

Place = tuple[str, str, date]
"""An event type, a summed property, and a day."""


@dataclass(frozen=True)
class SumDifference:
    """A day of a property whose sum is not that of the numbers logged: what is counted, what was
    logged, and how many numbers there are by size."""

    event_type: str
    property: str
    day: date
    counted: PropertySum
    logged: PropertySum
    sized: int

    def describe(self) -> str:
        """A line for a log."""
        counted, logged = self.counted, self.logged
        return (
            f"{self.property} of {self.event_type}, {self.day}: {counted.sum} of {counted.count} "
            f"numbers summed, {logged.sum} of {logged.count} logged, {self.sized} sizes"
        )


@dataclass
class _Found:
    """Of a place: counts by part, numbers by size, and what was logged."""

    parts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    sized: int = 0
    logged: PropertySum = field(default_factory=PropertySum)

    def add_logged(self, more: PropertySum) -> None:
        """Add numbers that were logged."""
        one = self.logged
        others = one.not_numbers + more.not_numbers
        self.logged = PropertySum(one.sum + more.sum, one.count + more.count, others)

    def differs(self, decimals: int) -> bool:
        """Whether counters and log cannot both be right."""
        counted, logged = add_up(self.parts), self.logged
        of_both = (counted.count, counted.not_numbers), (logged.count, logged.not_numbers)
        if self.sized != counted.count or any(a > b for a, b in zip(*of_both, strict=True)):
            return True
        usual = {f"e{-decimals}", f"e{LIMB_DIGITS - decimals}"}
        as_set = usual.issuperset(part for part in self.parts if part[1:].lstrip("-").isdigit())
        return of_both[0] == of_both[1] and as_set and counted.sum != logged.sum


def audit_sums(
    counters: Counters, log: EventLog, engine: Engine, first: date, last: date
) -> list[SumDifference]:
    """What differs from `first` to `last`, both included, at one instant, of the properties that
    the settings sum. A flush and the archive wait for the moment in which the counters are read.
    """
    sums, found = counters.options.sums, defaultdict[Place, _Found](_Found)
    if not sums:
        return []
    with open_snapshot(engine) as snapshot:
        with hold_transfers(engine):
            first = max(first, find_first_kept_day(snapshot))
            if first > last:
                return []
            unlogged = _read_redis(counters, Snapshot(counters, log, snapshot), found)
        begin, end = bound_days(first, last)
        values = {"first": first, "last": last, "begin": begin, "end": end}
        unlogged |= {(row[0], row[1]) for row in snapshot.execute(_READ_GAPS, values)}
        for event_type, name, day, part, n in snapshot.execute(_READ_SUMS, values):
            found[event_type, name, day].parts[part] += int(n)
        for event_type, name, day, n in snapshot.execute(_READ_BINS, values):
            found[event_type, name, day].sized += int(n)
        _read_archive(counters, snapshot, values, found)
    return [
        SumDifference(*place, add_up(one.parts), one.logged, one.sized)
        for place, one in sorted(found.items())
        if first <= place[2] <= last and (place[0], place[2]) not in unlogged
        if place[1] in sums.get(place[0], {}) and one.differs(sums[place[0]][place[1]])
    ]


def _read_redis(
    counters: Counters, missing: Snapshot, found: defaultdict[Place, _Found]
) -> set[tuple[str, date]]:
    """Add what Redis holds, of one instant; returns types and days of which not all was logged."""
    client, keys = counters.client, counters.keys
    names = sorted(find_measures(client, keys, MEASURES))
    live, waiting = missing.read(names)
    for name, n in zip(names, live, strict=True):
        counter: Counter = keys.parse(name)
        if isinstance(counter, SumCounter):
            place = counter.event_type, counter.property, day_of(counter)
            found[place].parts[counter.part] += n
        elif isinstance(counter, BinCounter):
            found[counter.event_type, counter.property, counter.day].sized += n
    _add_events(
        counters,
        ((one.event_type, one.timestamp.date(), one.properties or {}) for one in waiting),
        found,
    )
    gaps = find_type_counters(client, keys)
    return {(one.event_type, day_of(one)) for one in gaps if isinstance(one, GapCounter)}


def _read_archive(
    counters: Counters,
    connection: Connection,
    values: dict[str, Any],
    found: defaultdict[Place, _Found],
) -> None:
    """Add what is archived: most of it by Postgres, and what it cannot take apart by us."""
    within = {"begin": values["begin"], "end": values["end"]}
    for event_type, properties in counters.options.sums.items():
        of_type = within | {"event_type": event_type}
        for name, decimals in properties.items():
            wanted = of_type | {"property": name, "decimals": decimals, "factor": 10**decimals}
            for day, n, others, total in connection.execute(_READ_LOGGED, wanted):
                found[event_type, name, day].add_logged(PropertySum(total, n, others))
        odd = connection.execute(_READ_ODD, of_type)
        decoded = ((event_type, day, msgspec.json.decode(raw)) for day, raw in odd)
        _add_events(counters, decoded, found)


def _add_events(
    counters: Counters,
    events: Iterable[tuple[str, date, dict[str, Any]]],
    found: defaultdict[Place, _Found],
) -> None:
    for event_type, day, properties in events:
        for name, decimals in counters.options.sums.get(event_type, {}).items():
            if name in properties:
                number = scale(properties[name], decimals)
                one = PropertySum(not_numbers=1)
                if number is not None:
                    one = PropertySum(Decimal(number).scaleb(-decimals), 1)
                found[event_type, name, day].add_logged(one)
