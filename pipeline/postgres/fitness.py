"""Whether a database can hold our tables, whether it has them, and whether they are ours.

Each fault is one line: what was found, under which name, and what to do. What is asked costs a
process a few milliseconds when it starts; it is asked again when a statement fails as it does on
the tables of another version, or of another program.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Table, text
from sqlalchemy.exc import DBAPIError

from pipeline.errors import InvalidConfiguration
from pipeline.postgres import journeys as _of_journeys  # noqa: F401 - adds to the metadata
from pipeline.postgres import shared as _of_viewers  # noqa: F401 - adds to the metadata
from pipeline.postgres.names import find_schema
from pipeline.postgres.ownership import check_owner, claim_tables
from pipeline.postgres.refusals import blames_table
from pipeline.postgres.sealing import tables as _of_users  # noqa: F401 - adds to the metadata
from pipeline.postgres.tables import DIALECT, metadata
from pipeline.server_errors import report_errors, walk_causes

VERSION_TABLE = "analytics_schema_version"
NEWEST_VERSION = "0008"
"""The last of the migrations, which this code is written for; Alembic takes long to load."""

OWN_SCHEMA = (
    "set ANALYTICS_POSTGRES_SCHEMA to a schema of its own, such as analytics, and run "
    "`analytics migrate`"
)
_OURS = re.compile(r"\d{4}")
_ALSO = {"text": "character varying", "json": "jsonb", "integer": "bigint"}
"""Types of columns that serve as well."""
_KINDS = {"v": "a view", "m": "a materialised view", "f": "a foreign table", "S": "a sequence"}
_KINDS |= {"i": "an index", "I": "an index", "c": "a type", "r": "a table", "p": "a table"}
_WRITES = ("INSERT", "UPDATE", "DELETE")

_FIND_VERSION_TABLE = text(
    f"SELECT to_regclass('schema$.{VERSION_TABLE}') IS NOT NULL, current_database(), "
    "current_schema()"
)
_READ_VERSIONS = text(f"SELECT * FROM schema$.{VERSION_TABLE} LIMIT 2")
_FIND_ELSEWHERE = text(
    "SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
    f"WHERE relname = '{VERSION_TABLE}' AND relkind = 'r' ORDER BY nspname LIMIT 1"
)
_READ_COLUMNS = text(
    "SELECT wanted.name, nspname, relkind, attname, format_type(atttypid, NULL), "
    "attnotnull AND NOT atthasdef AND attidentity = '' AND attgenerated = '' "
    "FROM unnest(CAST(:names AS TEXT[])) AS wanted (name) "
    "LEFT JOIN pg_class ON pg_class.oid = to_regclass('schema$.' || wanted.name) "
    "LEFT JOIN pg_namespace ON pg_namespace.oid = relnamespace "
    "LEFT JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped "
    "ORDER BY wanted.name, attnum"
)
_READ_RIGHTS = text(
    "SELECT wanted.name, privilege, current_user FROM "
    "unnest(CAST(:names AS TEXT[])) AS wanted (name), "
    "unnest(CAST(:privileges AS TEXT[])) AS privilege "
    "WHERE NOT has_table_privilege(to_regclass('schema$.' || wanted.name), privilege) LIMIT 1"
)
_IS_READ_ONLY = text(
    "SELECT current_setting('transaction_read_only') = 'on', pg_is_in_recovery(), current_user"
)


def check_postgres(engine: Engine, *, writes: bool = False) -> None:
    """Refuse a database that is not migrated, or to another version than ours, or whose tables are
    not ours; with `writes` also one that this user may only read, and tables without an
    installation become this one's.

    Raises `InvalidConfiguration` or `ServerUnavailable`.
    """
    with report_errors(postgres=engine), engine.connect() as connection:
        check_tables(connection)
        if writes:
            check_writable(connection)
            check_rights(connection)
            claim_tables(connection)


def check_tables(connection: Connection) -> None:
    """Do as `check_postgres` in a transaction that is open already, such as one that is about to
    blame a row for what may be the table's fault."""
    check_version(connection)
    check_columns(connection)
    check_owner(connection)


@contextmanager
def report_misfit(engine: Engine) -> Iterator[None]:
    """When a statement fails as it does on tables of another version or another program, see
    whether they are, and raise `InvalidConfiguration` that says so. Others pass through."""
    try:
        yield
    except Exception as error:
        if any(isinstance(one, DBAPIError) and blames_table(one) for one in walk_causes(error)):
            try:
                check_postgres(engine)
            except InvalidConfiguration as found:
                raise found from error
        raise


def current_version(connection: Connection) -> str | None:
    """The version of the tables; None before the first migration.

    Raises `InvalidConfiguration` when the table that should hold it is another program's.
    """
    found, database, schema = connection.execute(_FIND_VERSION_TABLE).one()
    if not found:
        return None
    rows = connection.execute(_READ_VERSIONS)
    columns, versions = list(rows.keys()), [str(row[0]) for row in rows]
    if columns == ["version_num"] and len(versions) <= 1:
        if not versions:
            return None
        if _OURS.fullmatch(versions[0]):
            return versions[0]
    place = f"{find_schema(connection) or schema}.{VERSION_TABLE}"
    what = f"columns {', '.join(columns)}, versions {', '.join(versions) or 'none'}"
    raise InvalidConfiguration(
        f"the table {place} in the database {database} belongs to another program ({what[:200]}): "
        f"{OWN_SCHEMA}"
    )


def is_newer(version: str) -> bool:
    """Whether the version is of a later program than this one."""
    return version > NEWEST_VERSION


def explain_newer(version: str) -> str:
    """What to do when it is."""
    return (
        f"the database is at version {version}, newer than this program, which needs "
        f"{NEWEST_VERSION}: upgrade this program; where that was done, start this process again"
    )


def check_writable(connection: Connection) -> None:
    """Raise `InvalidConfiguration` where every transaction only reads."""
    only_reads, is_standby, user = connection.execute(_IS_READ_ONLY).one()
    if is_standby:
        raise InvalidConfiguration(
            "this Postgres is a standby, which only answers reads: correct ANALYTICS_POSTGRES_URL "
            "to name the primary"
        )
    if only_reads:
        raise InvalidConfiguration(
            f"the user {user} may only read (default_transaction_read_only is on): run `ALTER "
            f"ROLE {user} RESET default_transaction_read_only`, or give another user in "
            "ANALYTICS_POSTGRES_URL"
        )


def describe_misfit(connection: Connection, tables: Sequence[Table]) -> str | None:
    """What stands in the place of one of these tables and is not ours, as `schema.name` and what
    gives it away; None when all are as they should be, or missing."""
    found: dict[str, dict[str, tuple[str, bool]]] = {}
    for name, schema, kind, column, type_, needed in _read_columns(connection, tables):
        if schema is None:
            continue
        if kind not in ("r", "p"):
            return f"{schema}.{name} is {_KINDS.get(kind, 'no table')}"
        found.setdefault(f"{schema}.{name}", {})[column] = type_, needed
    for table in tables:
        for place, columns in found.items():
            if place.endswith(f".{table.name}"):
                fault = _compare(table, columns)
                if fault is not None:
                    return f"{place} {fault}"
    return None


def check_version(connection: Connection) -> None:
    """Raise `InvalidConfiguration` unless the tables are of this program's version."""
    version = current_version(connection)
    if version == NEWEST_VERSION:
        return
    if version is not None and is_newer(version):
        raise InvalidConfiguration(explain_newer(version))
    hint = "run `analytics migrate`"
    elsewhere = None if version else connection.execute(_FIND_ELSEWHERE).scalar_one_or_none()
    if elsewhere is not None:
        hint += (
            f"; or, to use the tables in its schema {elsewhere}, set ANALYTICS_POSTGRES_SCHEMA="
            f"{elsewhere}, and grant USAGE on it where that is missing"
        )
    found = f"at version {version}" if version else "not set up"
    schema = find_schema(connection)
    where = f"the schema {schema} of the database" if schema else "the database"
    raise InvalidConfiguration(f"{where} is {found}, this program needs {NEWEST_VERSION}: {hint}")


def check_columns(connection: Connection) -> None:
    """Raise `InvalidConfiguration` where a table is missing, or is another program's."""
    tables = list(metadata.tables.values())
    misfit = describe_misfit(connection, tables)
    if misfit is not None:
        raise InvalidConfiguration(
            f"{misfit}, so it is not the table of this program: {OWN_SCHEMA}"
        )
    for name, schema, *_ in _read_columns(connection, tables):
        if schema is None:
            raise InvalidConfiguration(
                f"the table {name} is missing, although the database says that it is at version "
                f"{NEWEST_VERSION}: restore it, or {OWN_SCHEMA}"
            )


def check_rights(connection: Connection) -> None:
    """Raise `InvalidConfiguration` where this user may not write to a table."""
    wanted = {"names": list(metadata.tables), "privileges": list(_WRITES)}
    missing = connection.execute(_READ_RIGHTS, wanted).first()
    if missing is not None:
        table, right, user = missing
        raise InvalidConfiguration(
            f"the user {user} lacks the right to {right} in the table {table}: as its owner run "
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {user}"
        )


def _read_columns(connection: Connection, tables: Sequence[Table]) -> Sequence[Any]:
    return connection.execute(_READ_COLUMNS, {"names": [one.name for one in tables]}).all()


def _compare(table: Table, columns: dict[str, tuple[str, bool]]) -> str | None:
    for column in table.columns:
        wanted = column.type.compile(DIALECT).lower()
        if column.name not in columns:
            return f"has no column {column.name}"
        type_, _ = columns[column.name]
        if type_ not in (wanted, _ALSO.get(wanted)):
            return f"has a column {column.name} of type {type_}, not {wanted}"
    for name, (_, needed) in columns.items():
        if needed and name not in table.columns:
            return f"has a column {name} that needs a value"
    return None
