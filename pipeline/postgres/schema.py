"""Brings our tables in Postgres up to date, and refuses a database that cannot hold them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from pipeline.errors import InvalidConfiguration
from pipeline.postgres.fitness import (
    NEWEST_VERSION,
    OWN_SCHEMA,
    check_writable,
    current_version,
    describe_misfit,
    explain_newer,
    is_newer,
)
from pipeline.postgres.names import find_schema, quote
from pipeline.postgres.refusals import read_sqlstate
from pipeline.postgres.tables import metadata
from pipeline.server_errors import report_errors

if TYPE_CHECKING:
    from alembic.config import Config

_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtext('schema$.analytics:migrate'))")
_EXISTS_ALREADY = ("42P07", "42710")
"""SQLSTATE: a relation, or a type, of this name is there."""
_FIND_SCHEMA = text(
    "SELECT nspname FROM pg_namespace WHERE lower(nspname) = lower(:name) "
    "ORDER BY nspname = :name DESC LIMIT 1"
)
_READ_RIGHTS = text(
    "SELECT current_user, current_database(), coalesce(:name, current_schema()), "
    "has_database_privilege(current_database(), 'CREATE'), "
    "has_schema_privilege(coalesce(:name, current_schema()), 'CREATE') "
    "AND has_schema_privilege(coalesce(:name, current_schema()), 'USAGE')"
)


def migrate(engine: Engine) -> str:
    """Bring the schema up to date and return its version. May be repeated, and run from several
    places at once.

    Raises `InvalidConfiguration`, with nothing changed, when the database cannot hold our tables or
    holds others under their names, and `ServerUnavailable`.
    """
    with report_errors(postgres=engine):
        try:
            return _migrate(engine)
        except DBAPIError as error:
            if read_sqlstate(error) not in _EXISTS_ALREADY:
                raise
            with engine.connect() as connection:
                reason = _explain_taken_name(connection, str(error.orig))
            raise InvalidConfiguration(reason) from error


def _migrate(engine: Engine) -> str:
    from alembic import command  # Alembic loads slowly, and only migrations need it

    config = _config()
    with engine.begin() as connection:
        connection.execute(_ONE_AT_A_TIME)
        schema = find_schema(connection)
        is_there = schema is None or _find_own_schema(connection, schema)
        version = current_version(connection) if is_there else None
        if version is not None and is_newer(version):
            raise InvalidConfiguration(explain_newer(version))
        if version == NEWEST_VERSION:
            return version
        check_writable(connection)
        if schema is not None and not is_there:
            _create_schema(connection, schema)
        _check_rights(connection, schema)
        if schema is not None:  # for the texts of migrations; ends with the transaction
            connection.execute(text(f"SET LOCAL search_path TO {quote(schema)}"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        return current_version(connection) or ""


def _find_own_schema(connection: Connection, schema: str) -> bool:
    """Whether the schema is there. Raises `InvalidConfiguration` where one is that differs in its
    capitals: SQL writes names without quotes in small letters."""
    found = connection.execute(_FIND_SCHEMA, {"name": schema}).scalar_one_or_none()
    if found not in (None, schema):
        raise InvalidConfiguration(
            f"the database has no schema {schema}, but one of the name {found}: set "
            f"ANALYTICS_POSTGRES_SCHEMA={found}, or rename it"
        )
    return found is not None


def _create_schema(connection: Connection, schema: str) -> None:
    user, database, _, may_create, _ = connection.execute(_READ_RIGHTS, {"name": None}).one()
    if not may_create:
        raise InvalidConfiguration(
            f"the database {database} has no schema {schema}, and the user {user} may not make "
            f"one: as the owner of the database run CREATE SCHEMA {quote(schema)} AUTHORIZATION "
            f"{quote(user)}"
        )
    connection.execute(text(f"CREATE SCHEMA {quote(schema)}"))


def _check_rights(connection: Connection, schema: str | None) -> None:
    user, database, name, _, may_use = connection.execute(_READ_RIGHTS, {"name": schema}).one()
    if name is None:
        raise InvalidConfiguration(
            f"the search_path of the user {user} leads to no schema of the database {database}: "
            f"{OWN_SCHEMA}"
        )
    if not may_use:
        raise InvalidConfiguration(
            f"the user {user} may not make tables in the schema {name} of the database {database}: "
            f"as its owner run GRANT CREATE, USAGE ON SCHEMA {quote(name)} TO {quote(user)}, or "
            f"{OWN_SCHEMA}"
        )


def _explain_taken_name(connection: Connection, refusal: str) -> str:
    """What stands where a migration makes a table of ours, and the remedy."""
    named = [one for one in metadata.sorted_tables if re.search(rf"\b{one.name}\b", refusal)]
    misfit = describe_misfit(connection, named)
    reason = " ".join(refusal.partition("\n")[0].split())
    if misfit is None:
        return (
            f"a migration cannot make a table, for something of its name is there ({reason}) and "
            f"no version is noted: {OWN_SCHEMA}"
        )
    return f"{misfit}, so it is not the table of this program ({reason}): {OWN_SCHEMA}"


def newest_version() -> str:
    """The last of the migrations, as Alembic finds it: that of `NEWEST_VERSION`."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "pipeline.postgres:migrations")
    config.set_main_option("path_separator", "os")
    return config
