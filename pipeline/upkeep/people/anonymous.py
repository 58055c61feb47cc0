"""What erased users did, by number: every total of users stays, and nothing names them."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, text

from pipeline.postgres.sealing.numbers import give_numbers_to
from pipeline.postgres.sealing.seals import unseal
from pipeline.redis.counters import UserCounter

_ENTER = "INSERT INTO schema$.analytics_anonymous_daily (date, event_type, number) "
_ENTER_STORED = text(
    f"{_ENTER} SELECT date, event_type, number FROM schema$.analytics_user_daily "
    "JOIN schema$.analytics_user_numbers USING (user_id) "
    "WHERE user_id = ANY(CAST(:forms AS TEXT[])) ON CONFLICT DO NOTHING"
)
_ENTER_COUNTED = text(
    f"{_ENTER} SELECT day, event_type, number FROM unnest(CAST(:users AS TEXT[]), "
    "CAST(:days AS DATE[]), CAST(:types AS TEXT[])) AS seen (user_id, day, event_type) "
    "JOIN schema$.analytics_user_numbers USING (user_id) ON CONFLICT DO NOTHING RETURNING date"
)
_FIND_STORED = text(
    "SELECT DISTINCT user_id FROM schema$.analytics_user_daily "
    "WHERE user_id = ANY(CAST(:forms AS TEXT[]))"
)


def enter_anonymous(
    connection: Connection, forms: Iterable[str], counted: Iterable[UserCounter]
) -> int:
    """Enter the days and event types of a user, by each form of the id: those of the stored rows,
    and those of these counters in Redis; returns how many are new.

    To be committed before any of them is dropped: what is dropped in Redis is gone at once. Until
    then a person is counted once all the same, for a form and its number are one. May be repeated.
    """
    every, values = list(counted), {"forms": sorted(set(forms))}
    stored = connection.execute(_FIND_STORED, values).scalars()
    give_numbers_to(connection, {*stored, *(one.user_id for one in every)})
    new = connection.execute(_ENTER_STORED, values).rowcount
    seen = {
        "users": [one.user_id for one in every],
        "days": [one.day for one in every],
        "types": [one.event_type for one in every],
    }
    days = connection.execute(_ENTER_COUNTED, seen).scalars().all()
    unseal(connection, "users", set(days))
    return new + len(days)
