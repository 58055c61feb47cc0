"""Engines of Postgres, and the checks made before one is trusted."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import psycopg
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from pipeline import urls
from pipeline.errors import InvalidConfiguration
from pipeline.postgres.address import complete_parameters, make_engine_url, read_address
from pipeline.postgres.limits import obey_limits
from pipeline.postgres.names import place_tables, use_schema
from pipeline.postgres.refusals import STALE_SESSION

OLDEST_POSTGRES = 15
_IDLE_S = 0.02
_Connection = psycopg.Connection[tuple[Any, ...]]
# Our statements have one good plan each, but for a prepared one Postgres would make a new plan
# every time, which takes it longer than to answer.
_SET_UP = (
    "SELECT CASE WHEN pg_backend_pid() = %s THEN "
    "set_config('plan_cache_mode', 'force_generic_plan', false) END"
)


def postgres_engine(url: str, schema: str | None = None) -> Engine:
    """An engine whose connections are checked before use, for our tables in `schema` (None: where
    `search_path` leads). Opens none. Raises `InvalidConfiguration` on a wrong URL."""
    try:
        given = read_address(url)
        engine = create_engine(
            make_engine_url(given),
            pool_size=5,
            max_overflow=10,
            hide_parameters=True,  # in errors, which are logged: they have user ids
            connect_args=complete_parameters(given),
        )
        use_schema(engine, schema)
        obey_limits(engine)
        event.listen(engine, "connect", _check_database, insert=True)
        event.listen(engine, "connect", _set_up_session)
        event.listen(engine, "handle_error", _drop_stale)
        event.listen(engine, "checkin", _note_use)
        event.listen(engine, "checkout", _check_idle)
        return engine
    except (ArgumentError, ValueError) as error:
        raise InvalidConfiguration(
            f"the Postgres URL {urls.mask_url(url)} is wrong ({error}): "
            "use postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        ) from error


def _check_database(connection: Any, _: ConnectionPoolEntry) -> None:
    """Refuse a server that is too old, and a database that cannot hold every text. Both come with
    the connection: nothing is asked, and nothing that may be sent before is misread."""
    number, encoding = (
        connection.info.server_version,
        connection.info.parameter_status("server_encoding"),
    )
    database = connection.info.dbname
    if number // 10_000 < OLDEST_POSTGRES:
        connection.close()
        raise InvalidConfiguration(
            f"Postgres {number // 10_000} is too old: {OLDEST_POSTGRES} is the oldest that works"
        )
    if encoding not in (None, "UTF8"):
        connection.close()
        raise InvalidConfiguration(
            f"the database {database} has the encoding {encoding}, in which not every text can be "
            "kept: make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and name it "
            "in ANALYTICS_POSTGRES_URL"
        )


def _set_up_session(connection: Any, _: ConnectionPoolEntry) -> None:
    """Find out whether this is a session of Postgres, or one of a pooler such as pgbouncer, which
    may give every transaction to another process of Postgres: then what lasts longer than a
    transaction, prepared statements above all, is not used. A pooler announces a process id that it
    has made up."""
    with connection.cursor() as cursor:
        [(is_own,)] = cursor.execute(_SET_UP, [connection.info.backend_pid]).fetchall()
    connection.commit()
    if is_own is None:
        connection.prepare_threshold = None


def _drop_stale(context: ExceptionContext) -> None:
    """Have every connection made anew after an error that says that this one is of no more use."""
    if getattr(context.original_exception, "sqlstate", None) in STALE_SESSION:
        context.is_disconnect = True
        if context.engine is not None:
            context.engine.dispose()  # and Readers let go of theirs


def refuse_read_only(connection: Connection) -> DBAPIError:
    """The error to raise in a transaction that cannot write, as a statement would meet it; nothing
    uses its connection again, nor the others of the pool: after a failover they all may lead to
    what was the primary."""
    error = psycopg.errors.ReadOnlySqlTransaction("transactions are read-only there")
    connection.invalidate(error)
    connection.engine.dispose()
    refused = DBAPIError.instance("BEGIN", None, error, psycopg.Error, connection_invalidated=True)
    assert isinstance(refused, DBAPIError)
    return refused


def _note_use(_: Any, record: ConnectionPoolEntry) -> None:
    record.info["used_at_s"] = time.monotonic()


def _check_idle(connection: Any, record: ConnectionPoolEntry, _: Any) -> None:
    """Ask a connection that was idle for a while whether it is still there; SQLAlchemy's own check
    costs every read a round trip."""
    if time.monotonic() - record.info.get("used_at_s", time.monotonic()) < _IDLE_S:
        return
    try:
        connection.execute("")
        connection.rollback()
    except psycopg.Error as error:
        raise DisconnectionError(str(error)) from error  # the pool takes another


class Reader:
    """Single SELECTs on connections of an engine, outside transactions; for any number of threads.

    For reads that are over in less time than SQLAlchemy takes to lend a connection and to prepare
    and end a statement. Its connections are closed when the engine is disposed of.
    """

    def __init__(self, engine: Engine) -> None:
        """Opens no connection yet."""
        self._engine = engine
        self._idle: deque[_Connection] = deque()
        event.listen(engine, "engine_disposed", lambda _: self.close())

    def rows(self, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows of a statement with psycopg's placeholders.

        Raises what SQLAlchemy would, such as sqlalchemy.exc.OperationalError when Postgres is away.
        """
        statement = place_tables(statement, self._engine)
        try:
            while True:
                connection, is_new = self._lend()
                try:
                    rows = connection.execute(statement, values).fetchall()
                except psycopg.Error as error:
                    was_cut = connection.broken or error.sqlstate in STALE_SESSION
                    connection.close()
                    if is_new or not was_cut:
                        raise
                else:
                    self._idle.append(connection)
                    return rows
        except psycopg.Error as error:
            raise DBAPIError.instance(statement, values, error, psycopg.Error) from error

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().close()

    def _lend(self) -> tuple[_Connection, bool]:
        with suppress(IndexError):
            return self._idle.pop(), False
        pooled = self._engine.raw_connection()
        connection = cast("_Connection", pooled.driver_connection)
        pooled.detach()
        connection.autocommit = True
        return connection, True
