"""Reads of the archive in one snapshot, bounded in time and in rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any, cast

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from pipeline.days import bound_days
from pipeline.errors import QuestionTooLarge
from pipeline.postgres.names import place_tables

MOST_ROWS = 20_000_000
"""Rows of the archive that one question reads. What was packed of sealed days is not counted."""
TIME_LIMIT_S = 30.0
"""For each statement of a question."""
NARROW = "ask about fewer days (--from, --to), or a rarer event type"
_ROWS_AT_ONCE = 2_000
_LAST_RUN = "SELECT max(archived_at) FROM schema$.archived_entries"
_PRUNED = "SELECT before FROM schema$.pruned WHERE table_name = 'events'"
_COUNTED = (
    "SELECT CAST(COALESCE(sum(count), 0) AS BIGINT) FROM schema$.analytics_daily "
    "WHERE event_type = ANY(%(types)s) AND date BETWEEN %(first)s AND %(last)s"
)
_EXPLAIN = (
    "EXPLAIN (FORMAT JSON) SELECT 1 FROM schema$.events "
    "WHERE event_type = ANY(%(types)s) AND timestamp >= %(begin)s AND timestamp < %(end)s"
)


class Snapshot:
    """A read-only transaction on the archive. Made by `open_snapshot`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        self._driver = driver

    def rows(self, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows of a statement with psycopg's placeholders, bytes as they are."""
        with self._driver.cursor(binary=True) as cursor:
            placed = place_tables(statement, self.connection)
            return cursor.execute(placed, values, prepare=False).fetchall()

    def stream(self, statement: str, values: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
        """The same, some thousand at a time."""
        with self._driver.cursor("analytics_events", binary=True) as cursor:
            cursor.itersize = _ROWS_AT_ONCE
            cursor.execute(place_tables(statement, self.connection), values)
            yield from cursor


@contextmanager
def open_snapshot(engine: Engine, timeout_s: float) -> Iterator[Snapshot]:
    """A snapshot in which no statement takes longer than that.

    Raises `QuestionTooLarge` where one does, and sqlalchemy.exc.DBAPIError.
    """
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        limit = f"SET LOCAL statement_timeout = {round(timeout_s * 1000)}"
        connection.exec_driver_sql(limit)
        try:
            yield Snapshot(connection)
        except psycopg.Error as error:
            if connection.connection.driver_connection.closed:  # type: ignore[union-attr]
                connection.invalidate(error)
            if isinstance(error, psycopg.errors.QueryCanceled):
                raise QuestionTooLarge(
                    f"this read more of the archive than can be read in {timeout_s:g} s: {NARROW}"
                ) from error
            raise _as_others(error) from error


def _as_others(error: psycopg.Error) -> DBAPIError:
    """The error as SQLAlchemy raises those of its own statements."""
    raised = DBAPIError.instance("a read of the archive", None, error, psycopg.Error)
    assert isinstance(raised, DBAPIError)
    return raised


def read_as_of(snapshot: Snapshot) -> datetime | None:
    """When the archive was last added to; None where the ledger knows of no time."""
    return cast("datetime | None", snapshot.rows(_LAST_RUN, {})[0][0])


def read_kept_since(snapshot: Snapshot, first: date) -> date | None:
    """The day before which the archive was pruned, where that cuts a range that begins there."""
    rows = snapshot.rows(_PRUNED, {})
    return rows[0][0] if rows and rows[0][0] > first else None


def describe_kept_since(kept_since: date | None) -> dict[str, str]:
    """What an answer says of a range that was cut; nothing of others."""
    return {} if kept_since is None else {"counted_from": kept_since.isoformat()}


def write_moment(moment: datetime | None) -> str | None:
    """A moment as answers have it."""
    return None if moment is None else moment.isoformat()


def estimate_rows(snapshot: Snapshot, types: Collection[str], first: date, last: date) -> int:
    """How many rows the archive has of these types on these days, about: at most as many as were
    counted, and as Postgres's planner thinks."""
    begin, end = bound_days(first, last)
    days = {"types": list(types), "first": first, "last": last}
    [(counted,)] = snapshot.rows(_COUNTED, days)
    moments = {"types": list(types), "begin": begin, "end": end}
    [(plan,)] = snapshot.rows(_EXPLAIN, moments)
    return min(int(counted), int(plan[0]["Plan"]["Plan Rows"]))


def check_rows(rows: int) -> None:
    """Raise `QuestionTooLarge` where so many rows are too many."""
    if rows > MOST_ROWS:
        raise QuestionTooLarge(
            f"this would read about {rows:,} rows of the archive, and {MOST_ROWS:,} is the most "
            f"that one question reads: {NARROW}"
        )
