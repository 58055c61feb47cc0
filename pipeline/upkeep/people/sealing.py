"""Seals users: of each closed day a bitmap for each event type and one for any, and at the
beginning of a month one of all who were seen before it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import date, datetime, timedelta
from itertools import groupby
from operator import itemgetter

from pyroaring import BitMap
from sqlalchemy import Connection, Engine, text

from pipeline.days import begin_month, begin_next_month
from pipeline.postgres.sealing.bitmaps import read_bitmap, read_numbers, write_bitmap
from pipeline.postgres.sealing.numbers import give_numbers
from pipeline.postgres.sealing.seals import read_sealed, seal, unseal
from pipeline.postgres.sealing.tables import ANY_TYPE
from pipeline.reading.people.snapshot import (
    find_base,
    list_days_with_users,
    list_past_days,
    read_kept_since,
)

GRACE = timedelta(hours=1)
"""How long after its end a day is closed: most events that are late have been stored by then."""
_DAY = timedelta(days=1)
_STREAMED_AT_ONCE = 64
_READ_ROWS = text(
    """
    SELECT event_type, string_agg(int4send(number), '') FROM (
        SELECT event_type, number FROM schema$.analytics_user_daily
        JOIN schema$.analytics_user_numbers USING (user_id)
        WHERE date = ANY(CAST(:days AS DATE[]))
        UNION ALL
        SELECT event_type, number FROM schema$.analytics_anonymous_daily
        WHERE date = ANY(CAST(:days AS DATE[]))
    ) AS seen GROUP BY event_type
    """
)
_CLEAR_DAY = text("DELETE FROM schema$.analytics_day_users WHERE date = :day")
_WRITE_DAY = text(
    "INSERT INTO schema$.analytics_day_users AS day (date, event_type, users, count) "
    "VALUES (:day, :event_type, :users, :count) ON CONFLICT (date, event_type) "
    "DO UPDATE SET users = excluded.users, count = excluded.count"
)
_READ_PAST = text("SELECT event_type, users FROM schema$.analytics_past_users WHERE month = :month")
_READ_DAYS = text(
    "SELECT event_type, users FROM schema$.analytics_day_users "
    'WHERE date = ANY(CAST(:days AS DATE[])) ORDER BY event_type COLLATE "C"'
)
_CLEAR_PAST = text("DELETE FROM schema$.analytics_past_users WHERE month = :month")
_WRITE_PAST = text(
    "INSERT INTO schema$.analytics_past_users AS past (month, event_type, users) "
    "VALUES (:month, :event_type, :users) ON CONFLICT (month, event_type) "
    "DO UPDATE SET users = excluded.users"
)

Sets = dict[str, BitMap]
"""Users by event type."""


def seal_users(engine: Engine, now: datetime, within_s: float | None = None) -> list[date]:
    """Seal the users of the closed days that are not sealed, the newest first, and of the months
    that have begun all who were seen before; returns the days.

    Ends after about `within_s`; the next run goes on. A repeat does nothing, and runs at once share
    the work. Raises `NumbersUsedUp`.
    """
    is_over = _limit(within_s)
    end = (now - GRACE).date()
    with engine.connect() as connection:
        since = read_kept_since(connection) or date.min
        every = list_days_with_users(connection, since, end - _DAY)
        days = sorted(every - read_sealed(connection, "users"), reverse=True)
        months = {begin_next_month(day) for day in every} - read_sealed(connection, "past")
    sealed = seal(engine, "users", days, _write_day, is_over)
    begun = sorted(month for month in months if month <= begin_month(end))
    if not is_over():
        seal(engine, "past", begun, write_past, is_over)
    return sealed


def unseal_users(engine: Engine, days: Collection[date]) -> None:
    """Break the seals of these days, so that they are made anew."""
    with engine.begin() as connection:
        unseal(connection, "users", days)


def write_past(connection: Connection, month: date) -> None:
    """Write who was seen before the month, by type: those known from an earlier month, and those of
    the days since, from their bitmaps or, where there is no seal, from their rows."""
    base = find_base(connection, month - _DAY, read_kept_since(connection))
    days = list_past_days(connection, base, month)
    sealed = read_sealed(connection, "users", min(days), max(days)) & days if days else set()
    past = _add_rows(connection, days - sealed, _read_base(connection, base.month))
    connection.execute(_CLEAR_PAST, {"month": month})
    streamed = connection.execute(
        _READ_DAYS, {"days": sorted(sealed)}, execution_options={"yield_per": _STREAMED_AT_ONCE}
    )
    for event_type, found in _join(streamed):
        past.setdefault(event_type, BitMap()).update(found)
    for event_type, users in sorted(past.items()):
        values = {"month": month, "event_type": event_type, "users": write_bitmap(users)}
        connection.execute(_WRITE_PAST, values)


def _write_day(connection: Connection, day: date) -> None:
    users = _add_rows(connection, {day}, {})
    connection.execute(_CLEAR_DAY, {"day": day})
    for event_type, of_type in sorted(users.items()):
        values = {"day": day, "event_type": event_type, "count": len(of_type)}
        connection.execute(_WRITE_DAY, values | {"users": write_bitmap(of_type)})


def _add_rows(connection: Connection, days: Collection[date], to: Sets) -> Sets:
    """Add the users of rows of these days, who get numbers; those of any type too."""
    if days:
        give_numbers(connection, sorted(days))
        for event_type, joined in connection.execute(_READ_ROWS, {"days": sorted(days)}):
            users = read_numbers(joined)
            for name in (event_type, ANY_TYPE):
                to.setdefault(name, BitMap()).update(users)
    return to


def _read_base(connection: Connection, month: date | None) -> Sets:
    known = connection.execute(_READ_PAST, {"month": month})
    return {event_type: read_bitmap(users) for event_type, users in known}


def _join(rows: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, BitMap]]:
    """The users of each type, from its bitmaps, which follow each other."""
    for event_type, of_type in groupby(rows, key=itemgetter(0)):
        users = BitMap()
        for _, stored in of_type:
            users |= read_bitmap(stored)
        yield event_type, users


def _limit(within_s: float | None) -> Callable[[], bool]:
    end_s = None if within_s is None else time.monotonic() + within_s
    return lambda: end_s is not None and time.monotonic() >= end_s
