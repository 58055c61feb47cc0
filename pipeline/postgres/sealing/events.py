"""The raw events of a closed day by user: what a funnel reads in place of the archive's rows.

Numbers of users and times stand in columns of bytes, packed by Postgres: a million events take
seconds, and none of them leaves Postgres. A user's number stays when the user is erased, and so
does what was counted of them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from datetime import date
from typing import Any

from sqlalchemy import Connection, Engine, text

from pipeline.days import bound_days
from pipeline.postgres.journeys import BUCKET_BITS
from pipeline.postgres.sealing.numbers import give_numbers_of_events
from pipeline.postgres.sealing.seals import seal, unseal

MOST_DAYS_AT_ONCE = 400
_FIND_ERASED = text(
    "SELECT DISTINCT number FROM schema$.analytics_anonymous_daily AS erased WHERE date = :day "
    "AND NOT EXISTS (SELECT 1 FROM schema$.analytics_user_numbers AS one "
    "WHERE one.number = erased.number)"
)
_READ_PACKED = text(
    "SELECT event_type, bucket, numbers, times FROM schema$.analytics_day_events WHERE date = :day"
)
_ADD = text(
    "INSERT INTO schema$.analytics_day_events AS packed "
    "(date, event_type, bucket, count, numbers, times) "
    "VALUES (:day, :event_type, :bucket, :count, :numbers, :times) "
    "ON CONFLICT (date, event_type, bucket) DO UPDATE SET count = packed.count + excluded.count, "
    "numbers = packed.numbers || excluded.numbers, times = packed.times || excluded.times"
)
_FORGET_TYPES = text(
    "DELETE FROM schema$.analytics_day_events WHERE event_type = ANY(CAST(:types AS TEXT[]))"
)
_CLEAR = text("DELETE FROM schema$.analytics_day_events WHERE date = :day")
_PACK = text(
    "INSERT INTO schema$.analytics_day_events "
    "(date, event_type, bucket, count, numbers, times) "
    f"SELECT CAST(:day AS DATE), event_type, number >> {BUCKET_BITS}, count(*), "
    "string_agg(int4send(number), ''), string_agg(timestamptz_send(timestamp), '') "
    "FROM schema$.events JOIN schema$.analytics_user_numbers USING (user_id) "
    "WHERE timestamp >= :begin AND timestamp < :end GROUP BY 2, 3"
)
_FIND_DAYS = text(
    "SELECT DISTINCT date FROM schema$.analytics_daily WHERE date < :end AND date >= COALESCE("
    "(SELECT before FROM schema$.pruned WHERE table_name = 'events'), '-infinity') "
    "EXCEPT SELECT date FROM schema$.analytics_seals "
    "WHERE kind = 'events' AND sealed_at IS NOT NULL ORDER BY 1 DESC LIMIT :most"
)
_FIND_CHANGED = text(
    "SELECT DISTINCT CAST(timestamp AT TIME ZONE 'UTC' AS DATE) FROM schema$.events "
    "WHERE event_type = ANY(CAST(:types AS TEXT[]))"
)
_PRUNE = (
    text("DELETE FROM schema$.analytics_day_events WHERE date < :before"),
    text("DELETE FROM schema$.analytics_seals WHERE kind = 'events' AND date < :before"),
)


def seal_events(
    engine: Engine, end: date, is_over: Callable[[], bool] = lambda: False
) -> list[date]:
    """Seal the raw events of days before `end`, the newest first; returns the days that were. Leave
    days that have ended within the hour to a later run: the clocks of workers may differ.

    May be repeated and raced; a run that dies leaves its days to the next. Raises
    sqlalchemy.exc.DBAPIError.
    """
    with engine.connect() as connection:
        found = {"end": end, "most": MOST_DAYS_AT_ONCE}
        days = list(connection.execute(_FIND_DAYS, found).scalars())
    return seal(engine, "events", days, pack_day, is_over)


def pack_day(connection: Connection, day: date) -> None:
    """Write a day's events by user anew, in a sealing's transaction.

    Users who were erased since the day was last packed keep what was packed of them. Raises
    `NumbersUsedUp`.
    """
    begin, end = bound_days(day, day)
    give_numbers_of_events(connection, begin, end)
    erased = _read_erased(connection, day)
    connection.execute(_CLEAR, {"day": day})
    connection.execute(_PACK, {"day": day, "begin": begin, "end": end})
    if erased:
        connection.execute(_ADD, erased)


def _read_erased(connection: Connection, day: date) -> list[dict[str, Any]]:
    """What was packed of users whose numbers stand for no name any more."""
    numbers = set(connection.execute(_FIND_ERASED, {"day": day}).scalars())
    found = list[dict[str, Any]]()
    packed = connection.execute(_READ_PACKED, {"day": day}) if numbers else ()
    for event_type, bucket, users, times in packed:
        at = [n for n, (user,) in enumerate(struct.iter_unpack(">i", users)) if user in numbers]
        if at:
            found.append(
                {
                    "day": day,
                    "event_type": event_type,
                    "bucket": bucket,
                    "count": len(at),
                    "numbers": b"".join(users[4 * n : 4 * n + 4] for n in at),
                    "times": b"".join(times[8 * n : 8 * n + 8] for n in at),
                }
            )
    return found


def unseal_events(engine: Engine, days: Collection[date]) -> None:
    """Break the seals of these days, so that they are made anew."""
    with engine.begin() as connection:
        unseal(connection, "events", days)


def unseal_types(connection: Connection, types: Collection[str]) -> None:
    """Break the seals of the days of these types, which this transaction removes, and let go of
    what was packed under their names."""
    # In the order in which a sealing takes these locks: packed rows first.
    connection.execute(_FORGET_TYPES, {"types": sorted(types)})
    days = connection.execute(_FIND_CHANGED, {"types": sorted(types)}).scalars()
    unseal(connection, "events", list(days))


def prune_day_events(engine: Engine, before: date) -> None:
    """Delete what was made of the raw events of days before that one. May be repeated."""
    with engine.begin() as connection:
        for statement in _PRUNE:
            connection.execute(statement, {"before": before})
