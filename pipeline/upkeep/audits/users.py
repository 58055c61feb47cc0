"""Whether what is sealed of users agrees with the rows of its days. Changes nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Engine, text

from pipeline.postgres.sealing.bitmaps import read_bitmap
from pipeline.postgres.sealing.seals import read_sealed

_STREAMED_AT_ONCE = 64
_IN_DAYS = "date = ANY(CAST(:days AS DATE[]))"
# A person whose erasure did not come to its end has rows and a number: that is one user.
_HAS_ROWS = (
    "SELECT 1 FROM schema$.analytics_user_numbers AS one "
    "JOIN schema$.analytics_user_daily AS seen USING (user_id) "
    "WHERE one.number = erased.number AND seen.date = erased.date"
)
_COUNT_ROWS = text(
    f"""
    SELECT date, event_type, count(DISTINCT user_id)
    FROM schema$.analytics_user_daily WHERE {_IN_DAYS} GROUP BY date, event_type
    UNION ALL
    SELECT date, '', count(DISTINCT user_id)
    FROM schema$.analytics_user_daily WHERE {_IN_DAYS} GROUP BY date
    UNION ALL
    SELECT date, event_type, count(*)
    FROM schema$.analytics_anonymous_daily AS erased
    WHERE {_IN_DAYS} AND NOT EXISTS ({_HAS_ROWS} AND seen.event_type = erased.event_type)
    GROUP BY date, event_type
    UNION ALL
    SELECT date, '', count(DISTINCT number)
    FROM schema$.analytics_anonymous_daily AS erased
    WHERE {_IN_DAYS} AND NOT EXISTS ({_HAS_ROWS}) GROUP BY date
    """
)
_READ_SEALED = text(
    f"SELECT date, event_type, users, count FROM schema$.analytics_day_users WHERE {_IN_DAYS}"
)


@dataclass(frozen=True)
class UsersDifference:
    """A day of an event type, of any where it is empty, whose seal does not stand for the users
    that its rows have: how many there are sealed, and stored in rows."""

    event_type: str
    day: date
    sealed: int
    stored: int

    def describe(self) -> str:
        """A line for a log."""
        what = f"users of {self.event_type or 'any event'}, {self.day}"
        return f"{what}: {self.sealed} sealed, {self.stored} stored"


def audit_users(engine: Engine, first: date, last: date) -> list[UsersDifference]:
    """What differs on the sealed days from `first` to `last`, of one instant."""
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        days = {"days": sorted(read_sealed(connection, "users", first, last))}
        sealed, stored = dict[tuple[date, str], int](), Counter[tuple[date, str]]()
        streamed = connection.execute(
            _READ_SEALED, days, execution_options={"yield_per": _STREAMED_AT_ONCE}
        )
        for day, event_type, users, count in streamed:
            in_bitmap = len(read_bitmap(users))
            sealed[day, event_type] = count if count == in_bitmap else -in_bitmap
        for day, event_type, count in connection.execute(_COUNT_ROWS, days):
            stored[day, event_type] += count
    return [
        UsersDifference(
            event_type, day, abs(sealed.get((day, event_type), 0)), stored[day, event_type]
        )
        for day, event_type in sorted({*sealed, *stored})
        if sealed.get((day, event_type), 0) != stored[day, event_type]
    ]
