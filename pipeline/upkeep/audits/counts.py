"""Whether the archive and the counters agree, by event type and hour. Changes nothing.

What was counted in an hour is in the archive, or waits in the event log, or was noted as a gap; and
the count of a day is that of its hours. Postgres adds up and compares, so that this process needs
little memory however many types there are; what Redis holds is lent to it in a temporary table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from time import sleep

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from pipeline.counting.apply import Counters
from pipeline.counting.log_entries import FULL, OFF
from pipeline.days import bound_days
from pipeline.event.model import Event
from pipeline.event_log.streams import EventLog
from pipeline.postgres.locks import hold_transfers
from pipeline.postgres.refusals import LOCK_TIMEOUT, read_sqlstate
from pipeline.postgres.tables import events
from pipeline.reading.live_counters import find_type_counters
from pipeline.redis.counters import day_of
from pipeline.redis.keys import (
    Keys,
)
from pipeline.upkeep.retention import read_pruned_before
from pipeline.upkeep.snapshot import Snapshot

MOST_DIFFERENCES = 100_000
_DAYS_AT_ONCE = 20
"""Days of event types that one script reads, with 169 counters each."""
_LOOK_AGAIN_S = 0.2
_EXCLUDE_AUDITS = text("LOCK TABLE schema$.pruned IN SHARE UPDATE EXCLUSIVE MODE NOWAIT")
"""Takes no snapshot, and stands in the way of nothing but another audit."""
_CREATE_UNSTORED = text(
    "CREATE TEMPORARY TABLE unstored (event_type TEXT, day DATE, hour INTEGER, "
    "counted BIGINT, logged BIGINT, gap BIGINT) ON COMMIT DROP"
)
_ADD_UNSTORED = text(
    "INSERT INTO unstored SELECT * FROM unnest(CAST(:types AS TEXT[]), CAST(:days AS DATE[]), "
    "CAST(:hours AS INTEGER[]), CAST(:counted AS BIGINT[]), CAST(:logged AS BIGINT[]), "
    "CAST(:gap AS BIGINT[]))"
)
_COMPARE = text(
    """
    WITH of_hours AS (
        SELECT event_type, timezone('UTC', hour) AS at, count AS counted, 0 AS logged, 0 AS gap
        FROM schema$.analytics_hourly WHERE hour >= :begin AND hour < :end
        UNION ALL
        SELECT event_type, timezone('UTC', hour), 0, 0, count
        FROM schema$.event_log_gaps WHERE hour >= :begin AND hour < :end
        UNION ALL
        SELECT event_type, date_trunc('hour', timezone('UTC', timestamp)), 0, count(*), 0
        FROM schema$.events WHERE timestamp >= :begin AND timestamp < :end GROUP BY 1, 2
    ), noted AS (
        SELECT event_type, CAST(at AS DATE) AS day, CAST(extract(hour FROM at) AS INTEGER) AS hour,
            counted, logged, gap FROM of_hours
        UNION ALL
        SELECT event_type, CAST(at AS DATE), NULL, 0, logged, gap FROM of_hours
        UNION ALL
        SELECT event_type, date, NULL, count, 0, 0
        FROM schema$.analytics_daily WHERE date BETWEEN :first AND :last
        UNION ALL
        SELECT * FROM unstored
    )
    SELECT event_type, day, hour, CAST(sum(counted) AS BIGINT), CAST(sum(logged) AS BIGINT),
        CAST(sum(gap) AS BIGINT)
    FROM noted GROUP BY event_type, day, hour HAVING sum(counted) <> sum(logged) + sum(gap)
    ORDER BY event_type COLLATE "C", day, hour NULLS FIRST LIMIT :most
    """
)

Place = tuple[str, date, int | None]
"""An event type and an hour, given by its day and its number; or, without a number, a day."""


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

    def describe(self) -> str:
        """A line for a log."""
        when = f"{self.day}" if self.hour is None else f"{self.day} {self.hour:02}:00"
        numbers = f"{self.counted} counted, {self.logged} logged, {self.gap} in gaps"
        return f"{self.event_type}, {when}: {numbers}"


def audit(
    counters: Counters, log: EventLog, engine: Engine, first: date, last: date
) -> list[Difference]:
    """What differs from `first` to `last`, both included, at one instant; nothing when all is well,
    `MOST_DIFFERENCES` at most.

    Days whose raw events were pruned are left out. A flush and the archive wait for the moment in
    which the counters are read.
    """
    with open_snapshot(engine) as snapshot:
        with hold_transfers(engine):
            first = max(first, find_first_kept_day(snapshot))
            if first > last:
                return []
            snapshot.execute(_CREATE_UNSTORED)
            for some in _read_unstored(counters, log, snapshot, (first, last)):
                snapshot.execute(_ADD_UNSTORED, some)
        begin, end = bound_days(first, last)
        values = {"first": first, "last": last, "begin": begin, "end": end}
        found = snapshot.execute(_COMPARE, values | {"most": MOST_DIFFERENCES})
        return [Difference(*row) for row in found]


@contextmanager
def open_snapshot(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees what Postgres has at its first SELECT.

    An audit needs two connections, and a pooler may have no more. So it waits for the second with
    nothing in hand that others wait for, and for another audit with no connection.
    """
    while True:
        with engine.connect() as connection:
            connection.execution_options(isolation_level="REPEATABLE READ")
            try:
                connection.execute(_EXCLUDE_AUDITS)
            except DBAPIError as error:
                if read_sqlstate(error) != LOCK_TIMEOUT:
                    raise
            else:
                yield connection
                return
        sleep(_LOOK_AGAIN_S)


def find_first_kept_day(connection: Connection) -> date:
    """The first day of which the archive has all. Until the transaction ends, no day is pruned."""
    connection.execute(text("LOCK TABLE schema$.events IN ACCESS SHARE MODE"))
    return read_pruned_before(connection, events) or date.min


def _read_unstored(
    counters: Counters, log: EventLog, connection: Connection, days: tuple[date, date]
) -> Iterator[dict[str, list[object]]]:
    """What Redis holds of the days, as columns of the temporary table, some days of types at a
    time; each day of a type is of one instant.

    A counter that is made after the search for names began belongs to an event that came after it:
    where it is of a day of a type that the search did not find, both are left out.
    """
    missing = Snapshot(counters, log, connection)
    waiting: Counter[Place] = Counter()
    _add(waiting, missing.read([])[1])
    found = {(event_type, day) for event_type, day, _ in waiting}
    for one in find_type_counters(counters.client, counters.keys):
        found.add((one.event_type, day_of(one)))
    pairs = sorted(pair for pair in found if days[0] <= pair[1] <= days[1])
    for at in range(0, len(pairs), _DAYS_AT_ONCE):
        some = pairs[at : at + _DAYS_AT_ONCE]
        named = [one for pair in some for one in _names(counters.keys, *pair)]
        live, new = missing.read([name for name, _, _ in named])
        _add(waiting, new)
        yield _columns(waiting, [(place, is_gap) for _, place, is_gap in named], live)


def _columns(
    waiting: Counter[Place], named: Sequence[tuple[Place, bool]], live: Sequence[int]
) -> dict[str, list[object]]:
    counted, gaps = Counter[Place](), Counter[Place]()
    for (place, is_gap), n in zip(named, live, strict=True):
        (gaps if is_gap else counted)[place] += n
        if is_gap:
            gaps[place[0], place[1], None] += n
    noted = [
        (*place, counted[place], waiting[place], gaps[place])
        for place in dict.fromkeys(place for place, _ in named)
        if counted[place] or waiting[place] or gaps[place]
    ]
    names = ("types", "days", "hours", "counted", "logged", "gap")
    return {name: [row[at] for row in noted] for at, name in enumerate(names)}


def _add(waiting: Counter[Place], logged: Iterable[Event]) -> None:
    for event in logged:
        at: datetime = event.timestamp
        waiting[event.event_type, at.date(), at.hour] += 1
        waiting[event.event_type, at.date(), None] += 1


def _names(keys: Keys, event_type: str, day: date) -> Iterator[tuple[str, Place, bool]]:
    """The counters of an event type on a day: name, what it counts, and whether it is a gap's."""
    yield keys.daily(event_type, f"{day}"), (event_type, day, None), False
    for number in range(24):
        place, hour = (event_type, day, number), f"{day}:{number:02}"
        for name in keys.names_of_hour(event_type, hour):
            yield name, place, False
        for reason in (OFF, FULL):
            yield keys.gap(event_type, reason, hour), place, True
