"""Postgres: that it answers, has our tables and partitions, and keeps what it acknowledges."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from pipeline.days import today
from pipeline.errors import PipelineError, ServerUnavailable
from pipeline.postgres import fitness
from pipeline.postgres.ownership import check_owner
from pipeline.postgres.partitions import find_missing_ahead
from pipeline.server_errors import report_errors
from pipeline.upkeep.checkup.check import Check, find_refusal, split
from pipeline.upkeep.checkup.redis_server import judge_clock

_ASK = text(
    "SELECT current_setting('server_version'), extract(epoch FROM clock_timestamp()), "
    "current_setting('fsync'), current_setting('full_page_writes'), "
    "current_setting('server_encoding')"
)


def check_postgres(engine: Engine) -> Iterator[Check]:
    """Checks of the server and of our tables; where it cannot be used that alone.

    A server that is too old, and a database in another encoding than UTF8, cannot be.
    """
    try:
        with report_errors(postgres=engine), engine.connect() as connection:
            found = list(_check_server(connection))
            found += _check_tables(connection)
    except ServerUnavailable as error:
        yield Check("postgres", "away", f"{error}")
    except PipelineError as error:
        yield split("postgres", "wrong", f"{error}")
    else:
        yield from found


def _check_server(connection: Connection) -> Iterator[Check]:
    before = time.time()
    version, at_s, fsync, full_page_writes, encoding = connection.execute(_ASK).one()
    offset_s = float(at_s) - (before + time.time()) / 2
    yield Check("postgres", "fine", "answers")
    yield Check("postgres version", "fine", str(version))
    yield Check("postgres encoding", "fine", str(encoding))
    off = [
        name
        for name, value in (("fsync", fsync), ("full_page_writes", full_page_writes))
        if value != "on"
    ]
    if off:
        what = f"Postgres has {' and '.join(off)} off, so a power cut may destroy the database"
        remedy = "ALTER SYSTEM RESET " + "; ALTER SYSTEM RESET ".join(off)
        yield Check("postgres durability", "wrong", what, f"{remedy}; SELECT pg_reload_conf()")
    else:
        yield Check("postgres durability", "fine", "it syncs what it commits")
    yield judge_clock("postgres", "Postgres", offset_s)


def _check_tables(connection: Connection) -> Iterator[Check]:
    """The tables; what rests on their version is not checked where that is another."""
    version = f"version {fitness.NEWEST_VERSION}"
    [found] = find_refusal("migrations", partial(fitness.check_version, connection), version)
    yield found
    if found.state != "fine":
        return
    for name, check, fine in (
        ("tables", fitness.check_columns, "all are there"),
        ("owner of the tables", check_owner, "this installation, or none yet"),
        ("postgres writes", fitness.check_writable, "this server takes them"),
        ("postgres rights", fitness.check_rights, "this user may write to every table"),
    ):
        [found] = find_refusal(name, partial(check, connection), fine)
        yield found
        if name == "tables" and found.state != "fine":
            return
    yield _check_partitions(connection)


def _check_partitions(connection: Connection) -> Check:
    try:
        missing = find_missing_ahead(connection, today())
    except SQLAlchemyError as error:
        return Check("partitions", "unknown", f"they cannot be listed ({error.__class__.__name__})")
    if not missing:
        return Check("partitions", "fine", "those needed soon are there")
    shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    return Check(
        "partitions",
        "wrong",
        f"not made yet: {shown}; their rows would share a default partition",
        "maintenance makes them, hourly: see that a flush worker runs, and what its log says; "
        "its user must own the tables and may make some in their schema",
    )
