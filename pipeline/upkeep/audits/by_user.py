"""The counters of users on a day of very many events, compared with these by Postgres.

It takes a microsecond for each event, and no memory of this process however many users there are.
Changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, Engine, text

from pipeline.counting.apply import Counters
from pipeline.days import bound_days
from pipeline.event.model import Event
from pipeline.event_log.streams import EventLog
from pipeline.postgres.locks import hold_transfers
from pipeline.postgres.tables import MAY_STAGE
from pipeline.redis.counters import UserCounter
from pipeline.upkeep.audits.by_counter import Changed
from pipeline.upkeep.audits.counts import find_first_kept_day, open_snapshot
from pipeline.upkeep.snapshot import Snapshot

_MOST_FOUND = 1_000
_AT_ONCE = 1_000
_CREATE_UNSTORED = text(
    "CREATE TEMPORARY TABLE unstored_users "
    "(event_type TEXT, user_id TEXT, counted BIGINT, logged BIGINT) ON COMMIT DROP"
)
_ADD_UNSTORED = text(
    "INSERT INTO unstored_users SELECT * FROM unnest(CAST(:types AS TEXT[]), "
    "CAST(:users AS TEXT[]), CAST(:counted AS BIGINT[]), CAST(:logged AS BIGINT[]))"
)
_FIND_GAPS = text(
    "SELECT DISTINCT event_type FROM schema$.event_log_gaps "
    "WHERE hour >= :begin AND hour < :end AND count > 0"
)
_COMPARE = text(
    """
    SELECT user_id, event_type, CAST(sum(counted) AS BIGINT), CAST(sum(logged) AS BIGINT) FROM (
        SELECT event_type, user_id, count AS counted, 0 AS logged
        FROM schema$.analytics_user_daily WHERE date = :day
        UNION ALL
        SELECT event_type, user_id, 0, count(*) FROM schema$.events
        WHERE timestamp >= :begin AND timestamp < :end AND user_id IS NOT NULL
        GROUP BY event_type, user_id
        UNION ALL
        SELECT * FROM unstored_users
    ) AS noted WHERE event_type <> ALL(CAST(:left_alone AS TEXT[]))
    GROUP BY event_type, user_id HAVING sum(counted) <> sum(logged) LIMIT :most
    """
)
User = tuple[str, str]
"""A user's id, and an event type."""


@dataclass(frozen=True)
class UserComparer:
    """Compares on these servers; a flush or another lock is waited for `patience_s` at most."""

    counters: Counters
    log: EventLog
    engine: Engine
    patience_s: float

    def compare(self, day: date, live: Iterable[UserCounter], left_alone: Iterable[str]) -> Changed:
        """The counters of users that differ from the events of a day, `_MOST_FOUND` at most: those
        stored, the `live` ones, which are all that there are in Redis, and those of its events; but
        for types that are `left_alone`.

        A flush and the archive wait for the moment in which the counters are read. Raises
        sqlalchemy.exc.DBAPIError when they, or another audit, are in the way for too long.
        """
        begin, end = bound_days(day, day)
        with open_snapshot(self.engine) as snapshot:
            snapshot.execute(text(f"SET LOCAL lock_timeout = {round(self.patience_s * 1000)}"))
            with hold_transfers(self.engine, self.patience_s):
                if day < find_first_kept_day(snapshot):  # its SELECT is what sees the moment
                    return {}
                if not snapshot.execute(MAY_STAGE).scalar_one():
                    return {}
                snapshot.execute(_CREATE_UNSTORED)
                for some in self._read_unstored(snapshot, day, live):
                    snapshot.execute(_ADD_UNSTORED, some)
            left = sorted(
                {*left_alone, *snapshot.execute(_FIND_GAPS, {"begin": begin, "end": end}).scalars()}
            )
            values = {"day": day, "begin": begin, "end": end, "left_alone": left}
            found = snapshot.execute(_COMPARE, values | {"most": _MOST_FOUND})
            keys = self.counters.keys
            return {
                keys.user(user_id, event_type, f"{day}"): (counted, logged)
                for user_id, event_type, counted, logged in found
            }

    def _read_unstored(
        self, connection: Connection, day: date, live: Iterable[UserCounter]
    ) -> Iterator[dict[str, list[object]]]:
        """What Postgres does not have of the day, as columns of the temporary table. Who comes
        after this began is left out, with the event that made the counter."""
        missing, waiting = Snapshot(self.counters, self.log, connection), Counter[User]()
        _add(waiting, day, missing.read([])[1])
        users = sorted({*waiting, *((one.user_id, one.event_type) for one in live)})
        for first in range(0, len(users), _AT_ONCE):
            some = users[first : first + _AT_ONCE]
            names = [self.counters.keys.user(*one, f"{day}") for one in some]
            counts, new = missing.read(names)
            _add(waiting, day, new)
            yield {
                "types": [event_type for _, event_type in some],
                "users": [user_id for user_id, _ in some],
                "counted": list(counts),
                "logged": [waiting[one] for one in some],
            }


def _add(waiting: Counter[User], day: date, logged: Iterable[Event]) -> None:
    for one in logged:
        if one.user_id is not None and one.timestamp.date() == day:
            waiting[one.user_id, one.event_type] += 1
