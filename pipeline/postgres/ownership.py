"""Whose counts the tables hold: those of one installation, which is known by its prefix.

It stands as a comment on the ledger, so that a dump and a restore keep it. The first flush worker
writes it. Two installations that share tables would add to each other's counts.
"""

from __future__ import annotations

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

from pipeline.errors import InvalidConfiguration
from pipeline.postgres.names import place_tables
from pipeline.postgres.refusals import read_sqlstate

_OPTION = "analytics_prefix"
_OWNED_BY = "counts of ANALYTICS_PREFIX="
_NO_RIGHT = "42501"
_READ_OWNER = text(
    "SELECT obj_description(to_regclass('schema$.flush_batches'), 'pg_class'), current_database()"
)
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtext('schema$.analytics:owner'))")


def use_prefix(engine: Engine, prefix: str) -> None:
    """Note whose engine this is, for `check_owner` and `claim_tables`."""
    engine.update_execution_options(**{_OPTION: prefix})


def check_owner(connection: Connection) -> bool:
    """Whether it is settled whose the tables are: this installation's, or, where the ledger has a
    comment of the operator's, that it is not noted.

    Raises `InvalidConfiguration` where they are another's.
    """
    prefix = connection.get_execution_options().get(_OPTION)
    comment, database = connection.execute(_READ_OWNER).one()
    if prefix is None or comment is None:
        return False
    if not comment.startswith(_OWNED_BY):
        return True
    owner = comment.removeprefix(_OWNED_BY)
    if owner != prefix:
        raise InvalidConfiguration(
            f"the tables in the database {database} hold the counts of ANALYTICS_PREFIX={owner}, "
            f"not of this installation ({prefix}): give each a database, or an "
            "ANALYTICS_POSTGRES_SCHEMA, of its own. Where this one is to go on with the counts of "
            "the other, which is gone: COMMENT ON TABLE flush_batches IS NULL"
        )
    return True


def claim_tables(connection: Connection) -> None:
    """Enter this installation as the owner of tables that have none; of two at once one wins. Does
    nothing for a user who does not own the tables. Raises `InvalidConfiguration`."""
    prefix = connection.get_execution_options().get(_OPTION)
    if prefix is None or check_owner(connection):
        return
    connection.execute(_ONE_AT_A_TIME)
    if check_owner(connection):
        return
    # The prefix was checked: there is nothing in it that would end the text.
    note = f"COMMENT ON TABLE schema$.flush_batches IS '{_OWNED_BY}{prefix}'"
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(place_tables(note, connection))
    except ProgrammingError as error:
        if read_sqlstate(error) != _NO_RIGHT:
            raise
    connection.commit()
