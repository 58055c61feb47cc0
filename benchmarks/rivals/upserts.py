"""Two ways to store user counters without our flush: upserts by executemany, a hundred to a
transaction, and Postgres's own INSERT … SELECT … ORDER BY … ON CONFLICT from a table that holds
them already.

Both write to a table made like ours: columns, indexes and monthly partition, with the storage
parameters of each. The first is psycopg's executemany, a quarter faster than the same statement by
SQLAlchemy. The rows of the second lie in the table in the order in which counters leave Redis,
which is none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import psycopg

OURS = "analytics_user_daily"
TABLE = "rival_user_daily"
AT_A_TIME = 100

_UPSERT = f"""
    INSERT INTO {TABLE} (date, event_type, user_id, count) VALUES (%s, %s, %s, %s)
    ON CONFLICT (date, event_type, user_id)
    DO UPDATE SET count = {TABLE}.count + excluded.count, updated_at = now()
"""
_INSERT_SELECT = f"""
    INSERT INTO {TABLE} (date, event_type, user_id, count)
    SELECT date, event_type, user_id, count FROM rival_staging ORDER BY date, event_type, user_id
    ON CONFLICT (date, event_type, user_id)
    DO UPDATE SET count = {TABLE}.count + excluded.count, updated_at = now()
"""
_PARTITION = f"""
    SELECT partition.oid::regclass::text, pg_get_expr(partition.relpartbound, partition.oid),
        coalesce('WITH (' || array_to_string(partition.reloptions, ', ') || ')', '')
    FROM pg_inherits JOIN pg_class AS partition ON partition.oid = inhrelid
    WHERE inhparent = '{OURS}'::regclass
        AND pg_get_expr(partition.relpartbound, partition.oid) LIKE %s
"""


@contextmanager
def tables(connection: psycopg.Connection, event_type: str, day: date, rows: int) -> Iterator[None]:
    """The target, and the table that `INSERT … SELECT` reads, with so many users in it; both are
    dropped at the end. Meanwhile Postgres vacuums nothing by itself, which would hinder the one or
    the other: `prepare` does."""
    _make_target(connection, day)
    connection.execute(
        "CREATE TABLE rival_staging AS SELECT %s::date AS date, %s::text AS event_type, "
        "'user' || number AS user_id, 1::bigint AS count "
        "FROM generate_series(0, %s - 1) AS number ORDER BY md5(number::text)",
        [day, event_type, rows],
    )
    connection.execute("VACUUM ANALYZE rival_staging")
    _configure(connection, "SET autovacuum = off")
    try:
        yield
    finally:
        _configure(connection, "RESET autovacuum")
        connection.execute(f"DROP TABLE {TABLE}, rival_staging")


def _make_target(connection: psycopg.Connection, day: date) -> None:
    # Made from the partition of this month and not by PARTITION OF: a partitioned table has no
    # storage parameters, and its indexes may have others than those of the partition.
    found = connection.execute(_PARTITION, [f"%FROM ('{day:%Y-%m-01}')%"]).fetchone()
    assert found is not None
    partition, bound, parameters = found
    connection.execute(
        f"CREATE TABLE {TABLE} (LIKE {OURS} INCLUDING ALL) PARTITION BY RANGE (date)"
    )
    connection.execute(f"CREATE TABLE {TABLE}_month (LIKE {partition} INCLUDING ALL) {parameters}")
    connection.execute(f"ALTER TABLE {TABLE} ATTACH PARTITION {TABLE}_month {bound}")
    _check_like(connection, partition, f"{TABLE}_month")


def _check_like(connection: psycopg.Connection, ours: str, theirs: str) -> None:
    """Raise RuntimeError unless both have the same indexes, their parameters included."""
    ours_has, theirs_has = (
        connection.execute(
            "SELECT regexp_replace(pg_get_indexdef(indexrelid), 'INDEX .* USING', 'INDEX USING') "
            "AS definition FROM pg_index WHERE indrelid = %s::regclass ORDER BY definition",
            [table],
        ).fetchall()
        for table in (ours, theirs)
    )
    if ours_has != theirs_has:
        raise RuntimeError(f"{theirs} has the indexes {theirs_has}, and {ours} {ours_has}")


def _configure(connection: psycopg.Connection, change: str) -> None:
    connection.execute(f"ALTER SYSTEM {change}")
    connection.execute("SELECT pg_reload_conf()")


def prepare(connection: psycopg.Connection, table: str) -> None:
    """Do what autovacuum and the checkpointer do in the minutes between two flushes."""
    connection.execute(f"VACUUM (ANALYZE) {table}")
    connection.execute("CHECKPOINT")


def empty(connection: psycopg.Connection) -> None:
    """Make the target what it was when it was made."""
    connection.execute(f"TRUNCATE {TABLE}")
    prepare(connection, TABLE)


def executemany_per_s(
    connection: psycopg.Connection, event_type: str, day: date, rows: int
) -> float:
    """Rows a second, upserted into the empty table."""
    empty(connection)
    began = time.perf_counter()
    for first in range(0, rows, AT_A_TIME):
        numbers = range(first, first + AT_A_TIME)
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(
                _UPSERT, [(day, event_type, f"user{number}", 1) for number in numbers]
            )
    return rows / (time.perf_counter() - began)


def insert_select_per_s(connection: psycopg.Connection, rows: int) -> float:
    """Rows a second, stored by one statement into the table as it is."""
    began = time.perf_counter()
    connection.execute(_INSERT_SELECT)
    return rows / (time.perf_counter() - began)
