"""Engines of Postgres, and the checks made before one is trusted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    DisconnectionError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.pool import ConnectionPoolEntry

from pipeline import schema
from pipeline.errors import ConfigurationError, ServerUnavailable, without_password

OLDEST_POSTGRES = 15
_CONNECT_TIMEOUT_S = 5
_IDLE_S = 0.02


def postgres_engine(url: str) -> Engine:
    """An engine whose connections are checked before use. Opens none. Raises `ConfigurationError`
    on a wrong URL."""
    try:
        address = make_url(url)
        if address.get_backend_name() not in ("postgresql", "postgres"):
            raise ValueError(f"{address.drivername} is another database")
        engine = create_engine(
            address.set(drivername="postgresql+psycopg"),
            pool_size=5,
            max_overflow=10,
            connect_args={"connect_timeout": _CONNECT_TIMEOUT_S, "application_name": "analytics"},
        )
        event.listen(engine, "checkin", _note_use)
        event.listen(engine, "checkout", _check_idle)
        return engine
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(
            f"the Postgres URL {without_password(url)} is wrong ({error}): "
            "use postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        ) from error


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


def check_postgres(engine: Engine) -> None:
    """Refuse a Postgres that is too old or not migrated. Raises `ConfigurationError` or
    `ServerUnavailable`."""
    with reported_postgres_errors(engine), engine.connect() as connection:
        number = int(connection.execute(text("SHOW server_version_num")).scalar_one())
        version = schema.current_version(connection)
    if number // 10_000 < OLDEST_POSTGRES:
        raise ConfigurationError(
            f"Postgres {number // 10_000} is too old: {OLDEST_POSTGRES} is the oldest that works"
        )
    if version != schema.newest_version():
        found = f"at version {version}" if version else "not set up"
        raise ConfigurationError(
            f"the database is {found}, this program needs {schema.newest_version()}: "
            "run `analytics migrate`"
        )


@contextmanager
def reported_postgres_errors(engine: Engine) -> Iterator[None]:
    """Turn the ways in which Postgres can be out of reach into one clear error each."""
    where = f"{engine.url.host}:{engine.url.port or 5432}"
    try:
        yield
    except OperationalError as error:
        reason = _first_line(error)
        if "password" in reason or "does not exist" in reason or "authentication" in reason:
            raise ConfigurationError(
                f"Postgres at {where} refuses the connection ({reason}): "
                "correct ANALYTICS_POSTGRES_URL"
            ) from error
        raise ServerUnavailable(
            f"Postgres at {where} does not answer ({reason}): "
            "start it, or correct ANALYTICS_POSTGRES_URL"
        ) from error
    except ProgrammingError as error:
        if not isinstance(error.orig, psycopg.errors.UndefinedTable):
            raise
        raise ConfigurationError(
            f"the database at {where} lacks our tables ({_first_line(error)}): "
            "run `analytics migrate`"
        ) from error


def _first_line(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return lines[0].strip() if lines else type(error.orig).__name__
