"""The raw events of a closed day by user: what a funnel reads in place of the archive's rows.

Numbers of users and times stand in columns of bytes, packed by Postgres: a million events take
seconds, and none of them leaves Postgres. A user's number stays when the user is erased, and so
does what was counted of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import date
from typing import Any

from sqlalchemy import Connection, Engine, text

from pipeline.days import bound_days
from pipeline.postgres.journeys import BUCKET_BITS
from pipeline.postgres.sealing.numbers import keep_numbers
from pipeline.postgres.sealing.seals import seal

MOST_DAYS_AT_ONCE = 400
_NUMBER_USERS = text(
    "INSERT INTO schema$.analytics_user_numbers (user_id) "
    "SELECT DISTINCT user_id FROM schema$.events AS event "
    "WHERE timestamp >= :begin AND timestamp < :end AND user_id IS NOT NULL AND NOT EXISTS ("
    "SELECT 1 FROM schema$.analytics_user_numbers AS known WHERE known.user_id = event.user_id) "
    "ORDER BY user_id ON CONFLICT DO NOTHING"
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
    text("DELETE FROM schema$.analytics_seals WHERE kind = 'events' AND date < :before"),
    text("DELETE FROM schema$.analytics_day_events WHERE date < :before"),
)


def seal_events(
    engine: Engine, end: date, is_over: Callable[[], bool] = lambda: False
) -> list[date]:
    """Seal the raw events of days before `end`, of the newest that are not; returns the days that
    were sealed. Leave days that have ended within the hour to a later run: the clocks of workers
    may differ.

    May be repeated and raced; a run that dies leaves its days to the next. Raises
    sqlalchemy.exc.DBAPIError.
    """
    with engine.connect() as connection:
        found = {"end": end, "most": MOST_DAYS_AT_ONCE}
        days = list(connection.execute(_FIND_DAYS, found).scalars())
    return seal(engine, "events", days, pack_day, is_over)


def pack_day(connection: Connection, day: date) -> None:
    """Write a day's events by user anew, in a sealing's transaction."""
    begin, end = bound_days(day, day)
    values: dict[str, Any] = {"day": day, "begin": begin, "end": end}
    keep_numbers(connection)
    connection.execute(_NUMBER_USERS, values)
    connection.execute(_CLEAR, values)
    connection.execute(_PACK, values)


def find_days_of_types(connection: Connection, types: Collection[str]) -> list[date]:
    """The days on which the archive has events of these types."""
    return list(connection.execute(_FIND_CHANGED, {"types": sorted(types)}).scalars())


def prune_day_events(engine: Engine, before: date) -> None:
    """Delete what was made of the raw events of days before that one. May be repeated."""
    with engine.begin() as connection:
        for statement in _PRUNE:
            connection.execute(statement, {"before": before})
