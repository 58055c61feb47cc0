"""Which event types there are, and how often each came: the largest first, and never all at once.

The sets of the cap in Redis, the books and the tables each know of types that the others may have
forgotten.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from heapq import nlargest
from itertools import islice
from typing import cast

import redis
from sqlalchemy import ARRAY, Engine, Text, bindparam, func, select, text

from pipeline.counting.event_types import list_named
from pipeline.counting.increments import OTHER
from pipeline.days import begin_day
from pipeline.options import CounterOptions
from pipeline.postgres.tables import daily
from pipeline.reading.exact import ExactReader, Question, UnstoredCounts, with_ledger
from pipeline.reading.live_counters import find_type_counters
from pipeline.reading.stats import Stats
from pipeline.reading.totals import rank_types
from pipeline.redis.counters import DailyCounter, HourlyCounter, QuarterCounter
from pipeline.redis.keys import Keys

_IS_TODAY = daily.c.date == bindparam("today")
_COUNTS = with_ledger(
    select(daily.c.event_type, _IS_TODAY, func.sum(daily.c.count))
    .where(daily.c.event_type == func.any(bindparam("event_types", type_=ARRAY(Text))))
    .group_by(daily.c.event_type, _IS_TODAY)
)
_LARGEST = text(
    "SELECT event_type FROM schema$.analytics_daily GROUP BY event_type "
    "ORDER BY sum(count) DESC, event_type LIMIT :most"
)
_HOW_MANY = text(
    "SELECT count(*) FROM (SELECT event_type FROM schema$.analytics_daily "
    "UNION SELECT unnest(CAST(:live AS TEXT[]))) AS every"
)
_DAYS = text(
    "SELECT event_type, min(date), max(date) FROM schema$.analytics_daily "
    "WHERE event_type = ANY(CAST(:event_types AS TEXT[])) GROUP BY event_type"
)
# Each of them is the end of an index.
_NEWEST = text(
    "SELECT name, GREATEST("
    "(SELECT last FROM schema$.analytics_event_types WHERE event_type = name), "
    "(SELECT max(quarter) FROM schema$.analytics_quarter_hourly WHERE event_type = name), "
    "(SELECT max(hour) FROM schema$.analytics_hourly WHERE event_type = name)) "
    "FROM unnest(CAST(:event_types AS TEXT[])) AS name"
)


@dataclass(frozen=True)
class TypeSummary:
    """An event type: events today (UTC) and of all days, how many of them are not stored yet, the
    first and the last day of any, and the time of the newest: to the hour until it is archived."""

    event_type: str
    today: int
    total: int
    unstored: int
    first_day: date
    last_day: date
    last: datetime


class TypeReader:
    """Reads event types from one Redis and one Postgres. Without state but the clients.

    Raises redis.RedisError or sqlalchemy.exc.OperationalError when a server is away.
    """

    def __init__(self, unstored: UnstoredCounts, engine: Engine, options: CounterOptions) -> None:
        self._client, self._keys = unstored.client, unstored.keys
        self._engine, self._options = engine, options
        self._stats = Stats(unstored, engine)
        self._exact = ExactReader(unstored, engine)

    def count_largest(self, day: date, limit: int, also: Collection[str] = ()) -> dict[str, int]:
        """The counts of the `limit` types with the most events of a day, largest first, and of
        those named in `also`; all of one instant."""
        types = {OTHER, *also, *list_named(self._options), *self._list_admitted(day)}
        types.update(islice(read_books(self._client, self._keys), limit))
        counts = self._stats.daily_counts(types, day)
        largest = nlargest(limit, counts.items(), key=lambda one: (one[1], one[0]))
        return {name: n for name, n in largest if n} | {name: counts[name] for name in also}

    def list_largest(self, today: date, limit: int) -> tuple[list[TypeSummary], int]:
        """The `limit` types with the most events of all days, largest first, each exact; and how
        many types there are.

        Looks through the names of all keys in Redis.
        """
        live: defaultdict[str, set[date]] = defaultdict(set)
        hours: defaultdict[str, set[datetime]] = defaultdict(set)
        for one in find_type_counters(self._client, self._keys):
            if isinstance(one, DailyCounter):
                live[one.event_type].add(one.day)
            elif isinstance(one, HourlyCounter):
                hours[one.event_type].add(one.hour)
            elif isinstance(one, QuarterCounter):
                hours[one.event_type].add(one.quarter)
        with self._engine.connect() as connection:
            types = {*live, *connection.execute(_LARGEST, {"most": limit}).scalars()}
            how_many = connection.execute(_HOW_MANY, {"live": list(live)}).scalar_one()
        # With no connection in hand, since this takes one.
        before, now, unstored = self._count(sorted(types), live, today)
        total = before + now
        largest = nlargest(limit, types, key=lambda name: (total[name], name))
        with self._engine.connect() as connection:
            found = connection.execute(_DAYS, {"event_types": largest})
            days = {row[0]: {row[1], row[2]} for row in found}
            newest = dict(map(tuple, connection.execute(_NEWEST, {"event_types": largest})))
        found_types = []
        for name in largest:
            if every := days.get(name, set()) | live.get(name, set()):
                counts = now[name], total[name], unstored[name]
                times = [*hours.get(name, ()), begin_day(max(every))]
                times += [newest[name]] if newest[name] else []
                found_types.append(TypeSummary(name, *counts, min(every), max(every), max(times)))
        return found_types, how_many

    def _count(
        self, types: Sequence[str], live: dict[str, set[date]], today: date
    ) -> tuple[Counter[str], Counter[str], Counter[str]]:
        """By type: events of other days than today, of today, and not stored."""
        sums = Counter[str](), Counter[str](), Counter[str]()
        before, now, unstored = sums
        names = {
            self._keys.daily(name, f"{day}"): (name, day == today)
            for name in types
            for day in live.get(name, ())
        }

        def name_row(event_type: str, is_today: bool) -> str:
            name = self._keys.daily(event_type, "today" if is_today else "before")
            stored[name] = event_type, is_today
            return name

        stored: dict[str, tuple[str, bool]] = {}
        wanted = {"event_types": list(types), "today": today}
        found = self._exact.read(Question(_COUNTS, wanted, name_row, list(names)))
        for name, n in found.items():
            event_type, is_today = names.get(name) or stored[name]
            (now if is_today else before)[event_type] += int(n)
            unstored[event_type] += int(n) if name in names else 0
        return sums

    def _list_admitted(self, day: date) -> set[str]:
        name = self._keys.types(f"{day}")
        found = cast("set[bytes]", self._client.sunion([name, f"{name}:pages"]))
        return {one.decode(errors="replace") for one in found}


def read_books(client: redis.Redis, keys: Keys) -> dict[str, dict[str, int]]:
    """The rows of the books by event type, the largest first."""
    totals = cast("dict[bytes, bytes]", client.hgetall(keys.totals))
    return rank_types({name.decode(): int(n) for name, n in totals.items() if b":" in name})
