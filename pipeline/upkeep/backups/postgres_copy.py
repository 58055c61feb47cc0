"""A copy of our tables in Postgres by its own programs, pg_dump and pg_restore."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo
from sqlalchemy import Connection, Engine, text

from pipeline.errors import CannotBackUp, CannotRestore, PipelineError
from pipeline.postgres import fitness
from pipeline.postgres.address import read_address
from pipeline.postgres.names import find_schema, quote
from pipeline.postgres.tables import metadata
from pipeline.server_errors import report_errors

_FIND_TABLES = text(
    "WITH RECURSIVE ours AS ("
    "SELECT CAST(to_regclass('schema$.' || name) AS oid) AS id "
    "FROM unnest(CAST(:names AS TEXT[])) AS wanted (name) "
    "UNION SELECT inhrelid FROM pg_inherits JOIN ours ON inhparent = id) "
    "SELECT nspname, relname FROM ours JOIN pg_class ON pg_class.oid = id "
    "JOIN pg_namespace ON pg_namespace.oid = relnamespace ORDER BY nspname, relname"
)


@dataclass(frozen=True)
class PostgresPrograms:
    """Where pg_dump and pg_restore are, and which database they are for (a URL of ours)."""

    directory: Path
    url: str


def find_tables(connection: Connection) -> list[tuple[str, str]]:
    """Schema and name of every table and partition of ours that is there."""
    names = [*metadata.tables, fitness.VERSION_TABLE]
    return [(row[0], row[1]) for row in connection.execute(_FIND_TABLES, {"names": names})]


def dump_tables(
    programs: PostgresPrograms, tables: Sequence[tuple[str, str]], snapshot: str, path: Path
) -> None:
    """Write the tables, as a snapshot that is held has them, in the custom format of pg_dump.
    Raises `CannotBackUp` with what it says."""
    named = [f"--table={quote(schema)}.{quote(name)}" for schema, name in tables]
    options = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}"]
    said = _run(programs, "pg_dump", *options, f"--file={path}", *named)
    if said is not None:
        raise CannotBackUp(f"pg_dump failed: {said}")


def restore_tables(programs: PostgresPrograms, engine: Engine, path: Path) -> None:
    """Make the tables anew, in one transaction.

    Raises `CannotRestore` when one of them is there already, or with what pg_restore says.
    """
    with report_errors(postgres=engine), engine.begin() as connection:
        there = find_tables(connection)
        if there:
            raise CannotRestore(
                f"Postgres has the table {'.'.join(there[0])} already: restore into an empty "
                "database, or drop the tables of this installation first"
            )
        schema = find_schema(connection)
        if schema is not None:
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
    options = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"]
    said = _run(programs, "pg_restore", *options, f"{path}")
    if said is not None:
        raise CannotRestore(f"pg_restore failed, and nothing was restored: {said}")


def _run(programs: PostgresPrograms, name: str, *arguments: str) -> str | None:
    """Run a program of Postgres on the database; returns what it says when it fails."""
    given = dict(read_address(programs.url))
    environment = dict(os.environ)
    password = given.pop("password", None)
    if password is not None:  # it would be in the list of processes
        environment["PGPASSWORD"] = password
    address = make_conninfo(**given)
    program = programs.directory / name
    try:
        done = subprocess.run(
            [program, f"--dbname={address}", "--no-password", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise PipelineError(
            f"{program} cannot be run ({error.strerror}): install the client programs of Postgres, "
            "or name their directory with --postgres-bin"
        ) from error
    return None if done.returncode == 0 else " ".join(done.stderr.split())[-1_000:]
