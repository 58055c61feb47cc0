"""What is kept of users by event type, when types are folded into the rest."""

from __future__ import annotations

from collections.abc import Sequence

from pyroaring import BitMap
from sqlalchemy import Connection, text

from pipeline.counting.increments import OTHER
from pipeline.postgres.sealing.bitmaps import read_bitmap, write_bitmap
from pipeline.postgres.sealing.seals import unseal

_OF_TYPES = "event_type = ANY(CAST(:types AS TEXT[]))"
_FIND_DAYS = text(
    f"SELECT date FROM schema$.analytics_user_daily WHERE {_OF_TYPES} "
    f"UNION SELECT date FROM schema$.analytics_anonymous_daily WHERE {_OF_TYPES}"
)
_FOLD_ANONYMOUS = text(
    f"WITH gone AS (DELETE FROM schema$.analytics_anonymous_daily WHERE {_OF_TYPES} "
    "RETURNING date, number) "
    "INSERT INTO schema$.analytics_anonymous_daily (date, event_type, number) "
    "SELECT DISTINCT date, :other, number FROM gone ON CONFLICT DO NOTHING"
)
_READ_PAST = text(
    "SELECT month, users FROM schema$.analytics_past_users "
    f"WHERE {_OF_TYPES} OR event_type = :other ORDER BY month"
)
_DROP_PAST = text(f"DELETE FROM schema$.analytics_past_users WHERE {_OF_TYPES}")
_WRITE_PAST = text(
    "INSERT INTO schema$.analytics_past_users AS past (month, event_type, users) "
    "VALUES (:month, :other, :users) "
    "ON CONFLICT (month, event_type) DO UPDATE SET users = excluded.users"
)


def fold_users(connection: Connection, types: Sequence[str]) -> None:
    """Make the users of these types those of the rest, and break the seals of the days that have
    some: in the transaction that folds the rows, and before it does. A repeat does nothing."""
    values = {"types": list(types), "other": OTHER}
    unseal(connection, "users", set(connection.execute(_FIND_DAYS, values).scalars()))
    connection.execute(_FOLD_ANONYMOUS, values)
    # Of pruned days nothing but these is left.
    past: dict[object, BitMap] = {}
    for month, users in connection.execute(_READ_PAST, values):
        past.setdefault(month, BitMap()).update(read_bitmap(users))
    connection.execute(_DROP_PAST, values)
    for month, joined in past.items():
        connection.execute(
            _WRITE_PAST, {"month": month, "other": OTHER, "users": write_bitmap(joined)}
        )
