"""The version of the Postgres schema: bring it up to date, or say whether it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, text

if TYPE_CHECKING:
    from alembic.config import Config

VERSION_TABLE = "analytics_schema_version"


def migrate(engine: Engine) -> str:
    """Bring the schema up to date and return its version. May be repeated, and run from several
    places at once."""
    from alembic import command  # Alembic loads slowly, and only migrations and checks need it

    config = _config()
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('analytics:migrate'))"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        return current_version(connection) or ""


def current_version(connection: Connection) -> str | None:
    """The version that the database has; None before the first migration."""
    from alembic.runtime.migration import MigrationContext

    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def newest_version() -> str:
    """The version that this code is written for."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "pipeline.postgres:migrations")
    config.set_main_option("path_separator", "os")
    return config
