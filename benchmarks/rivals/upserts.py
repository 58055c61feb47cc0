"""Two ways to store user counters without our flush: upserts by executemany, a hundred to a
transaction, and Postgres's own INSERT … SELECT … ON CONFLICT from a table that holds them already.

Both write new rows to a table with our columns, indexes and monthly partitions. The first is
psycopg's executemany, a quarter faster than the same statement by SQLAlchemy. The rows of the
second lie in the table in the order in which counters leave Redis, which is none.
"""

from __future__ import annotations

import time
from datetime import date

import psycopg

TABLE = "rival_user_daily"
AT_A_TIME = 100

_UPSERT = f"""
    INSERT INTO {TABLE} (date, event_type, user_id, count) VALUES (%s, %s, %s, %s)
    ON CONFLICT (date, event_type, user_id)
    DO UPDATE SET count = {TABLE}.count + excluded.count, updated_at = now()
"""
_INSERT_SELECT = f"""
    INSERT INTO {TABLE} (date, event_type, user_id, count)
    SELECT date, event_type, user_id, count FROM rival_staging {{order}}
    ON CONFLICT (date, event_type, user_id)
    DO UPDATE SET count = {TABLE}.count + excluded.count, updated_at = now()
"""


def make_tables(connection: psycopg.Connection, event_type: str, day: date, rows: int) -> None:
    """Make the target, and the table that `INSERT … SELECT` reads, with so many users in it."""
    connection.execute(
        f"CREATE TABLE {TABLE} (LIKE analytics_user_daily INCLUDING ALL) PARTITION BY RANGE (date)"
    )
    connection.execute(
        f"CREATE TABLE {TABLE}_month PARTITION OF {TABLE} "
        f"FOR VALUES FROM ('{day:%Y-%m-01}') TO ('{day:%Y-%m-01}'::date + '1 month'::interval)"
    )
    connection.execute(
        "CREATE TABLE rival_staging AS SELECT %s::date AS date, %s::text AS event_type, "
        "'user' || number AS user_id, 1::bigint AS count "
        "FROM generate_series(0, %s - 1) AS number ORDER BY md5(number::text)",
        [day, event_type, rows],
    )
    connection.execute("VACUUM ANALYZE rival_staging")


def drop_tables(connection: psycopg.Connection) -> None:
    """Undo `make_tables`."""
    connection.execute(f"DROP TABLE {TABLE}, rival_staging")


def executemany_per_s(
    connection: psycopg.Connection, event_type: str, day: date, rows: int
) -> float:
    """Rows a second, upserted into the empty table."""
    connection.execute(f"TRUNCATE {TABLE}")
    connection.execute("CHECKPOINT")
    began = time.perf_counter()
    for first in range(0, rows, AT_A_TIME):
        numbers = range(first, first + AT_A_TIME)
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(
                _UPSERT, [(day, event_type, f"user{number}", 1) for number in numbers]
            )
    return rows / (time.perf_counter() - began)


def insert_select_per_s(connection: psycopg.Connection, rows: int, order: str = "") -> float:
    """Rows a second, inserted into the empty table by one statement."""
    connection.execute(f"TRUNCATE {TABLE}")
    connection.execute("CHECKPOINT")
    began = time.perf_counter()
    connection.execute(_INSERT_SELECT.format(order=order))
    return rows / (time.perf_counter() - began)
