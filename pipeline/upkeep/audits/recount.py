"""The recount: a small audit every minute, of the newest days and, by turns, of older ones.

It compares what the audit does not: each counter of users, values and sums with what the events of
its day make of it, and the counts of event types with those of their hours and quarters. So what
was changed by another hand, in Redis or in Postgres, is found soon. It takes no more events than
`MOST_EVENTS` at a time. Of a day that has more Postgres compares the users, up to `MOST_OF_USERS`,
and of every day the counts of types are compared.

What differs is compared again at once, and is a finding where it differs still. What a day lacks
when it is first compared, such as the values of a property that was not counted then, is none.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from importlib.metadata import version

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import DBAPIError

from pipeline.counting.apply import Counters
from pipeline.errors import CannotRebuild, TooMuchWaiting
from pipeline.event_log.streams import EventLog
from pipeline.flushing.claims import Claims
from pipeline.postgres.locks import hold_transfers
from pipeline.postgres.partitions import existing
from pipeline.postgres.refusals import LOCK_TIMEOUT, read_sqlstate
from pipeline.postgres.tables import PARTITIONED_BY_MONTH, events, flush_batches
from pipeline.reading.live_counters import find_pending
from pipeline.redis.counters import Counter, GapCounter, UserCounter, day_of
from pipeline.upkeep.audits.by_counter import Changed, DayRecount
from pipeline.upkeep.audits.by_type import TypeCounts, read_type_counts
from pipeline.upkeep.audits.by_user import UserComparer
from pipeline.upkeep.audits.counts import find_first_kept_day
from pipeline.upkeep.audits.differences import (
    BY_COUNTER,
    BY_TYPE,
    BY_USER,
    Compared,
    Differences,
    compare_types,
    confirm,
    excuse,
    group,
    judge,
)
from pipeline.upkeep.audits.recount_state import (
    RecountState,
    day_of_key,
    name_key,
    read_recount_state,
    write_recount_state,
)
from pipeline.upkeep.retention import read_pruned_before

MOST_EVENTS = 50_000
"""Events that one recount takes: a second of a core."""
MOST_OF_USERS = 1_000_000
"""Events that it has Postgres take besides: two seconds of a core."""
MOST_EVENTS_AGAIN = 500_000
"""Of a day in which something differs, so that what was mended is found to be."""
MOST_LIVE = 50_000
"""Counters that wait for a flush, past which those of users and values are not searched for."""
_MOST_WAITING_BYTES = 2 * 1024 * 1024
"""Compressed; some 60,000 events that wait for the archive."""
_OLDER_DAYS = 3
_OLDEST_DAYS = 1_000
"""A cap on values is shared by days that are older."""
_PATIENCE_S = 2.0


@dataclass(frozen=True)
class Days:
    """Which days a recount compares, in which order, and those of them in which a counter differed
    from its events. `cursor` is the last of the older ones."""

    every: Sequence[date]
    again: Collection[date]
    kept_from: date
    cursor: str


@dataclass(frozen=True)
class Live:
    """What Redis holds: the names of counters by day, those of users again, and days of types of
    which not all was logged. `is_whole` says that users and values are among it."""

    names: Mapping[date, list[str]]
    users: Mapping[date, list[UserCounter]]
    gaps: list[GapCounter]
    is_whole: bool


@dataclass(frozen=True)
class Recounter:
    """Recounts on these servers."""

    counters: Counters
    log: EventLog
    engine: Engine

    def recount(self, now: datetime) -> RecountState | None:
        """Compare, and keep what was found for the next recount and for all who ask; returns it,
        None where a flush or a lock was in the way for too long, which leaves all as it was.

        Raises redis.RedisError, or sqlalchemy.exc.DBAPIError, when a server is away.
        """
        state = read_recount_state(self.counters.client, self.counters.keys)
        state = self._begin(state or RecountState(), now, is_first=state is None)
        try:
            days = self._choose(state, now.date())
            compared = self._compare(days)
            excuse(state, compared, now)
            differing = {key[1] for key, found in compared.items() if judge(state, key, found)}
            if differing:
                again = [day for day in days.every if day in differing]
                confirm(compared, differing, self._compare(replace(days, every=again)))
        except DBAPIError as error:
            if read_sqlstate(error) != LOCK_TIMEOUT:
                raise
            return None
        _note(state, days, compared)
        write_recount_state(self.counters.client, self.counters.keys, state)
        return state

    def _begin(self, state: RecountState, now: datetime, *, is_first: bool) -> RecountState:
        """Forget which days were compared where other counters are made from now on."""
        options = self.counters.options
        parts = [version("analytics-pipeline"), options.count_by, options.sums, options.values_cap]
        said = json.dumps(parts, sort_keys=True, default=list)
        settings = blake2b(said.encode(), digest_size=8).hexdigest()
        if state.settings != settings:
            is_new = is_first and not self._has_past(now)
            state.settings, state.excused = settings, {}
            state.changed_s = 0.0 if is_new else now.timestamp()
        return state

    def _has_past(self, now: datetime) -> bool:
        """Whether something was stored before today."""
        oldest = select(func.min(flush_batches.c.stored_at))
        with self.engine.connect() as connection:
            found: datetime | None = connection.execute(oldest).scalar()
        return found is not None and found.astimezone(UTC).date() < now.date()

    def _choose(self, state: RecountState, today: date) -> Days:
        newest = [today, today + timedelta(days=1), today - timedelta(days=1)]
        found = sorted({day_of_key(key) for key in state.found}, reverse=True)
        again = {day for day in found if name_key(BY_COUNTER, day) in state.found}
        with self.engine.connect() as connection:
            kept_from = _find_kept_from(connection, today)
            older = [
                one.first
                for one in reversed(existing(connection, events))
                if kept_from <= one.first < newest[-1]
            ]
        behind = [day for day in older if f"{day}" < (state.cursor or "9999")]
        turns = [*behind, *(day for day in older if day not in behind)][:_OLDER_DAYS]
        every = [day for day in dict.fromkeys([*found, *newest, *turns]) if day >= kept_from]
        return Days(every, again, kept_from, f"{turns[-1]}" if turns else "")

    def _compare(self, days: Days) -> Compared:
        with hold_transfers(self.engine, _PATIENCE_S) as connection:
            counts = read_type_counts(self.counters, connection, days.every)
        compared: Compared = {}
        live = self._find_live()
        of_types = dict[date, Collection[str]]()
        room, room_of_users = MOST_EVENTS, MOST_OF_USERS
        for day in days.every if self.log.count_bytes() <= _MOST_WAITING_BYTES else ():
            size = counts.count_events(day)
            if size <= (MOST_EVENTS_AGAIN if day in days.again else room):
                room -= min(room, size)
                found = self._compare_counters(counts, live, day)
                if found is not None:
                    compared[BY_COUNTER, day], of_types[day] = self._group(found[0]), found[1]
            elif size <= room_of_users and live.is_whole:
                room_of_users -= size
                compared[BY_USER, day] = self._group(self._compare_users(live, day))
        for day in days.every:
            compared[BY_TYPE, day] = compare_types(counts, day, of_types.get(day))
        return compared

    def _compare_counters(
        self, counts: TypeCounts, live: Live, day: date
    ) -> tuple[Changed, Collection[str]] | None:
        """The counters of a day that differ from its events, and the event types that were left
        alone; None where not all of its events are there."""
        with hold_transfers(self.engine, _PATIENCE_S) as connection:
            try:
                recount = DayRecount(self.counters, self.log, connection, day, lambda: live.gaps)
                changed = recount.compare(live.names[day], sorted(counts.types))
            except (CannotRebuild, TooMuchWaiting):
                return None
        return changed, recount.left_alone

    def _compare_users(self, live: Live, day: date) -> Changed:
        comparer = UserComparer(self.counters, self.log, self.engine, _PATIENCE_S)
        left_alone = {one.event_type for one in live.gaps if day_of(one) == day}
        return comparer.compare(day, live.users[day], left_alone)

    def _find_live(self) -> Live:
        client, keys = self.counters.client, self.counters.keys
        names, users = (
            defaultdict[date, list[str]](list),
            defaultdict[date, list[UserCounter]](list),
        )
        gaps = list[GapCounter]()
        is_whole = Claims(client, keys).pending() <= MOST_LIVE
        for name, counter in find_pending(client, keys, only_types=not is_whole):
            if isinstance(counter, GapCounter):
                gaps.append(counter)
                continue
            names[day_of(counter)].append(name)
            if isinstance(counter, UserCounter):
                users[counter.day].append(counter)
        return Live(names, users, gaps, is_whole)

    def _group(self, changed: Changed) -> Differences:
        """By kind, without counters of erased users: an erasure may be under way."""
        erased = self.counters.read_erased_users()

        def is_judged(counter: Counter) -> bool:
            return not (isinstance(counter, UserCounter) and erased.knows(counter.user_id))

        return group(self.counters.keys, changed, is_judged)


def _find_kept_from(connection: Connection, today: date) -> date:
    """The first day of which all events and all counters are kept."""
    pruned = [read_pruned_before(connection, table) for table in PARTITIONED_BY_MONTH]
    oldest = today - timedelta(days=_OLDEST_DAYS)
    return max(oldest, find_first_kept_day(connection), *(day for day in pruned if day))


def _note(state: RecountState, days: Days, compared: Compared) -> None:
    """Keep what differs of the days that were compared, beside what did of others."""
    for key, differences in compared.items():
        state.found[name_key(*key)] = judge(state, key, differences)
        if key[0] == BY_COUNTER:  # users too
            state.found.pop(name_key(BY_USER, key[1]), None)
    kept_from = days.kept_from
    state.found = {
        key: one for key, one in state.found.items() if one and day_of_key(key) >= kept_from
    }
    state.excused = {
        key: kinds for key, kinds in state.excused.items() if day_of_key(key) >= kept_from
    }
    state.cursor = days.cursor
