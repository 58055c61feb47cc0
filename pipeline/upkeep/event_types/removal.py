"""Removing junk event types: all that was counted of them becomes part of the rest, and every total
stays.

The steps, each of which may be repeated, and the whole of them after a crash at any point:

1. The types are noted as removed, in one script. From that moment every worker counts their events
   as `__other__`: what Redis holds under their names only becomes less.
2. With flush and archive held off, what waits of them in the event log is archived, their counters
   in Redis are folded, and in the transaction that holds transfers off their stored rows and their
   archived events become those of the rest. Each counter is folded in one step.
3. So are their rows in the books.

Between the fold in Redis and the end of the transaction an audit that a crash lets in finds the two
apart; a repeat of the removal brings them together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import cast

import msgspec
import redis
from sqlalchemy import Connection, text

from pipeline.counting.apply import Counters
from pipeline.counting.event_types import ORIGINAL, is_named
from pipeline.counting.increments import OTHER
from pipeline.days import hour_text, quarter_text
from pipeline.errors import CannotRemoveType
from pipeline.event.rules import check_event_type
from pipeline.event_log import catalogue
from pipeline.event_log.archive import Archive
from pipeline.event_log.streams import Entry, EventLog
from pipeline.postgres.locks import hold_transfers
from pipeline.postgres.sealing.events import unseal_types
from pipeline.reading.live_counters import find_counters
from pipeline.redis.counters import (
    Counter,
    DailyCounter,
    GapCounter,
    HourlyCounter,
    QuarterCounter,
    UserCounter,
)
from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Script
from pipeline.upkeep.event_types.books import fold_books, list_sets
from pipeline.upkeep.people.folding import fold_users

_FOLD_COUNTERS = Script("pipeline.upkeep.event_types.fold_counters")
_MARK_REMOVED = Script("pipeline.upkeep.event_types.mark_removed")
KEPT_S = 30 * 86_400
MOST_REMOVED = 10_000
_AT_ONCE = 500
_ENTRIES_AT_ONCE = 16

Fold = tuple[str | int, ...]
"""A counter and what it is added to, as `fold_counters.lua` describes it."""

_FOLD = (
    "WITH gone AS (DELETE FROM schema$.{table} WHERE event_type = ANY(CAST(:types AS TEXT[])) "
    "RETURNING {keys}, count) INSERT INTO schema$.{table} (event_type, {keys}, count) "
    f"SELECT '{OTHER}', {{keys}}, CAST(sum(count) AS BIGINT) FROM gone GROUP BY {{keys}} "
    "ON CONFLICT (event_type, {keys}) DO UPDATE "
    "SET count = {table}.count + excluded.count, updated_at = now()"
)
_FOLDED_TABLES = {
    "analytics_daily": "date",
    "analytics_hourly": "hour",
    "analytics_quarter_hourly": "quarter",
    "analytics_user_daily": "date, user_id",
    "event_log_gaps": "reason, hour",
}
_SUM = text(
    "SELECT CAST(COALESCE(sum(count), 0) AS BIGINT) FROM schema$.analytics_daily "
    "WHERE event_type = ANY(CAST(:types AS TEXT[]))"
)
_DROPPED_TABLES = (
    "analytics_dimension_daily",
    "analytics_sums",
    "analytics_value_sums",
    "analytics_distributions",
)
_DROP = "DELETE FROM schema$.{table} WHERE event_type = ANY(CAST(:types AS TEXT[]))"
# As text, so that no number or escape in the properties changes.
_RENAME = text(
    "UPDATE schema$.events SET event_type = :other, properties = CAST("
    "'{' || to_json(CAST(:original AS TEXT)) || ':' || to_json(event_type) || "
    "CASE WHEN CAST(properties AS TEXT) ~ '^\\s*[{]\\s*[^}\\s]' "
    "THEN ',' || regexp_replace(CAST(properties AS TEXT), '^\\s*[{]', '') ELSE '}' END AS JSON) "
    "WHERE event_type = ANY(CAST(:types AS TEXT[]))"
).bindparams(other=OTHER, original=ORIGINAL)


@dataclass(frozen=True)
class Removal:
    """What a removal folded: events that were counted, and archived events that were renamed."""

    events: int = 0
    archived: int = 0


@dataclass(frozen=True)
class TypeRemover:
    """Removes and restores event types on these servers."""

    counters: Counters
    log: EventLog
    archive: Archive

    def remove(self, types: Collection[str], today: date) -> Removal:
        """Fold all that was counted of these types into the rest; for 30 days their events count
        there too. A repeat does nothing.

        Flush and archive before, so that little is left in Redis. Waits for transfers under way and
        holds off others; counting goes on. Raises `InvalidEvent` for what can be no type,
        `CannotRemoveType` for one that the settings name, and redis.RedisError or
        sqlalchemy.exc.DBAPIError when a server is away: then repeat it.
        """
        wanted = {check_event_type(name) for name in types}
        for name in sorted(wanted):
            if is_named(name, self.counters.options):
                raise CannotRemoveType(
                    f"{name!r} is named in ANALYTICS_COUNT_BY or ANALYTICS_EVENT_LOG, or is one of "
                    "the pipeline's own types: take it out of the settings first"
                )
        self._mark(today, removed=wanted)
        with hold_transfers(self.archive.engine) as connection:
            self._archive_waiting(connection, wanted)
            removal = self._fold(connection, wanted)
            fold_books(self.counters.client, self.counters.keys, wanted)
        return removal

    def restore(self, types: Collection[str], today: date) -> int:
        """Count events of these types under their own names again; returns how many were removed.
        What was folded stays so."""
        return self._mark(today, restored=set(types))

    def expire(self, today: date) -> int:
        """Let go of removals that are older than `KEPT_S`; returns how many. May be repeated."""
        return self._mark(today)

    def _mark(
        self, today: date, removed: Collection[str] = (), restored: Collection[str] = ()
    ) -> int:
        keys = self.counters.keys
        both = msgspec.msgpack.encode([list(removed), list(restored)])
        return cast(
            "int",
            _MARK_REMOVED.run(
                self.counters.client,
                keys=[keys.removed_types, keys.totals, *list_sets(keys, today)],
                args=[KEPT_S, MOST_REMOVED, both],
            ),
        )

    def _archive_waiting(self, connection: Connection, types: Collection[str]) -> None:
        """Archive the entries of the event log that have events of the types; no new ones come.
        Their consumer finds them in the ledger."""
        for stream in self.log.open():
            for entries in self._pages(stream.partition):
                waiting = [one for one in entries if _holds(one, types)]
                if waiting:
                    self.archive.save(connection, waiting)

    def _pages(self, partition: int) -> Iterator[list[Entry]]:
        client, stream = self.log.client, self.log.streams[partition]
        newest = cast("list[tuple[bytes, object]]", client.xrevrange(stream, count=1))
        after, last = "-", newest[0][0].decode() if newest else "0-0"
        while True:
            raw = cast("list[object]", client.xrange(stream, after, last, count=_ENTRIES_AT_ONCE))
            entries = [Entry.parse(partition, one) for one in raw]
            if not entries:
                return
            yield entries
            after = f"({entries[-1].entry_id}"

    def _fold(self, connection: Connection, types: Collection[str]) -> Removal:
        values = {"types": sorted(types)}
        folded = self._fold_redis(types)
        fold_users(connection, values["types"])
        events = connection.execute(_SUM, values).scalar_one()
        for table, columns in _FOLDED_TABLES.items():
            connection.execute(text(_FOLD.format(table=table, keys=columns)), values)
        for table in _DROPPED_TABLES:
            connection.execute(text(_DROP.format(table=table)), values)
        catalogue.fold(connection, types)
        unseal_types(connection, types)
        archived = connection.execute(_RENAME, values).rowcount
        return Removal(events + folded, archived)

    def _fold_redis(self, types: Collection[str]) -> int:
        """Fold the types' counters in Redis; returns how many events the counters of days had. None
        is made meanwhile."""
        client, keys = self.counters.client, self.counters.keys
        events, some = 0, list[Fold]()
        for name, counter in find_counters(client, keys):
            if counter.event_type in types:
                some.append(_fold(keys, name, counter))
            if len(some) >= _AT_ONCE:
                events, some = events + _fold_some(client, keys, some), []
        return events + _fold_some(client, keys, some)


def _fold(keys: Keys, name: str, counter: Counter) -> Fold:
    into = _name_of_rest(counter, keys)
    fold = (name, into, int(isinstance(counter, DailyCounter)))
    place = keys.field_of(name)
    # A user's counters share a bucket.
    return fold if place is None else (*fold, *place, into and keys.field_in_bucket(into))


def _fold_some(client: redis.Redis, keys: Keys, some: Sequence[Fold]) -> int:
    return cast(
        "int",
        _FOLD_COUNTERS.run(
            client,
            keys=[keys.pending_flush, keys.batches, *keys.live_buckets],
            args=[keys.inflight, msgspec.msgpack.encode(some)],
        ),
    )


def _name_of_rest(counter: Counter, keys: Keys) -> str:
    """The counter of the rest that has the same day, hour and user; '' for those of properties."""
    match counter:
        case DailyCounter(day=day):
            return keys.daily(OTHER, f"{day}")
        case HourlyCounter(hour=hour):
            return keys.hourly(OTHER, hour_text(hour))
        case QuarterCounter(quarter=quarter):
            return keys.quarterly(OTHER, quarter_text(quarter))
        case UserCounter(user_id=user_id, day=day):
            return keys.user(user_id, OTHER, f"{day}")
        case GapCounter(reason=reason, hour=hour):
            return keys.gap(OTHER, reason, hour_text(hour))
    return ""


def _holds(entry: Entry, types: Collection[str]) -> bool:
    try:
        return not set(types).isdisjoint(entry.unpack().event_types)
    except ValueError:  # it becomes a dead letter, as it is
        return False
