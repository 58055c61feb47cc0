"""Counters of closed days, made anew from the archive while counting goes on.

All that was logged of a day is in the archive or waits in the event log. With flush and archive
held off, what Postgres should hold of a counter is that, less what Redis still holds of it: the
flush will add this later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from sqlalchemy import Connection, Engine, delete

from pipeline.counting.apply import Counters
from pipeline.days import hour_text
from pipeline.errors import CannotRebuild
from pipeline.event_log.streams import EventLog
from pipeline.flushing.store import UPSERTS, parameters_of, rows_of
from pipeline.postgres import partitions
from pipeline.postgres.locks import hold_transfers
from pipeline.postgres.sealing.seals import unseal
from pipeline.postgres.tables import PARTITIONED_BY_MONTH
from pipeline.reading.live_counters import find_type_counters
from pipeline.redis.counters import GapCounter, QuarterCounter
from pipeline.redis.keys import Keys
from pipeline.upkeep.audits.by_counter import REBUILT, Changed, DayRecount, is_of_day
from pipeline.upkeep.audits.recount_state import forget_found

_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild changed, or would change: by counter, the count that reads gave before and the
    one they give now. `left_alone` are event types that are not, or were not always, logged."""

    day: date
    changed: Changed = field(default_factory=dict)
    left_alone: Sequence[str] = ()


@dataclass(frozen=True)
class Rebuilder:
    """Rebuilds on these servers."""

    counters: Counters
    log: EventLog
    engine: Engine

    def rebuild(self, day: date, now: datetime, *, dry_run: bool = False) -> Rebuilt:
        """Make the counters of a closed day anew, in one transaction; `now` says what is closed.

        Flush before, so that little is left in Redis. A repeat changes nothing. Raises
        `CannotRebuild` when the day is not over, was pruned, or has a gap.
        """
        self.check(day, now)
        for table in PARTITIONED_BY_MONTH:
            partitions.ensure_months(self.engine, table, {f"{day}": 1}, now.date())
        with hold_transfers(self.engine) as connection:
            recount = self._recount(connection, day)
            changed = recount.compare()
            if not dry_run:
                _write(connection, self.counters.keys, day, changed)
        if not dry_run:
            forget_found(self.counters.client, self.counters.keys, day)
        return Rebuilt(day, changed, recount.left_alone)

    def check(self, day: date, now: datetime) -> None:
        """Raise `CannotRebuild` for a day that cannot be rebuilt; changes nothing."""
        if day >= now.date():
            raise CannotRebuild(f"{day} is not over yet (UTC): rebuild the days before it")
        with hold_transfers(self.engine) as connection:
            self._recount(connection, day).check()

    def _recount(self, connection: Connection, day: date) -> DayRecount:
        return DayRecount(self.counters, self.log, connection, day, self._find_gaps)

    def _find_gaps(self) -> Iterator[GapCounter]:
        for one in find_type_counters(self.counters.client, self.counters.keys):
            if isinstance(one, GapCounter):
                yield one


def _write(connection: Connection, keys: Keys, day: date, changed: Changed) -> None:
    deltas = Counter({name: right - shown for name, (shown, right) in changed.items()})
    for name, n in list(deltas.items()):
        counter = keys.parse(name)
        if isinstance(counter, QuarterCounter):  # its hour gets as much with it
            hour = hour_text(counter.quarter)
            deltas[keys.hourly(counter.event_type, hour)] -= n
    names = sorted(name for name in deltas if deltas[name])
    for first in range(0, len(names), _ROWS_AT_ONCE):
        some = {name: deltas[name] for name in names[first : first + _ROWS_AT_ONCE]}
        for table, groups in rows_of(some, keys)[0]:
            connection.execute(UPSERTS[table.name], parameters_of(table, groups))
    unseal(connection, "users", [day] if deltas else [])
    for table in REBUILT if deltas else ():
        connection.execute(delete(table).where(is_of_day(table, day), table.c.count == 0))
