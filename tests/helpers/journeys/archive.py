"""Events put into the archive as they are, past workers and event log."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import text

from pipeline.services import Services

Row = tuple[str, datetime, str | None, str | None]
"""Event type, moment, user, and properties as JSON."""

_INSERT = text(
    "INSERT INTO events (event_type, timestamp, user_id, properties) "
    "VALUES (:event_type, :at, :user_id, CAST(:properties AS JSON))"
)
_COUNT = text(
    "INSERT INTO analytics_daily (event_type, date, count) "
    "SELECT event_type, CAST(timestamp AT TIME ZONE 'UTC' AS DATE), count(*) FROM events "
    "GROUP BY 1, 2 ON CONFLICT (event_type, date) DO UPDATE SET count = excluded.count"
)
_COUNT_USERS = text(
    "INSERT INTO analytics_user_daily (event_type, date, user_id, count) "
    "SELECT event_type, CAST(timestamp AT TIME ZONE 'UTC' AS DATE), user_id, count(*) FROM events "
    "WHERE user_id IS NOT NULL GROUP BY 1, 2, 3 "
    "ON CONFLICT (date, event_type, user_id) DO UPDATE SET count = excluded.count"
)


def put(services: Services, rows: Iterable[Row]) -> None:
    """Put these events into the archive, and count them by day and user."""
    names = ("event_type", "at", "user_id", "properties")
    values = [dict(zip(names, row, strict=True)) for row in rows]
    with services.engine.begin() as connection:
        if values:
            connection.execute(_INSERT, values)
        connection.execute(_COUNT)
        connection.execute(_COUNT_USERS)


def clear(services: Services) -> None:
    """Empty the archive, and all that was made of it."""
    tables = (
        "events, analytics_daily, analytics_user_daily, analytics_seals, analytics_day_events, "
        "analytics_user_numbers"
    )
    with services.engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {tables}"))
