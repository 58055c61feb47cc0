"""The hold: an advisory lock between what moves data from Redis to Postgres and what compares both.

A transfer (a flush, the archive, the move of dead letters) shares the lock, so that transfers run
side by side. An audit, a rebuild and an erasure hold it exclusively: while they do, no transfer
stores anything. Postgres releases the lock with the transaction, also when its client dies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text

from pipeline.postgres.engine import refuse_read_only

_HOLD = "hashtext('schema$.analytics:hold')"
_HOLD_TRANSFERS = text(f"SELECT pg_advisory_xact_lock({_HOLD})")
_SHARE = f"SELECT pg_advisory_xact_lock_shared({_HOLD})"
_SHARE_HOLD = text(_SHARE)
_BE_PATIENT = text("SELECT set_config('lock_timeout', :lock_timeout, true)")
# An audit may take as long as it needs, so the lock is waited for before the limits are set.
_BEGIN_TRANSFER = text(
    f"{_SHARE}, "
    "set_config('synchronous_commit', 'on', true), "
    "set_config('idle_in_transaction_session_timeout', '60s', true), "
    "set_config('statement_timeout', '120s', true), "
    "set_config('lock_timeout', :lock_timeout, true), "
    "current_setting('transaction_read_only')"
)


@contextmanager
def hold_transfers(engine: Engine, patience_s: float | None = None) -> Iterator[Connection]:
    """Open a transaction during which no transfer stores anything: transfers wait for its end.

    Waits for the transfers under way; with `patience_s`, for no lock any longer than that, and
    raises sqlalchemy.exc.DBAPIError then (`LOCK_TIMEOUT`).
    """
    with engine.begin() as connection:
        if patience_s is not None:
            connection.execute(_BE_PATIENT, {"lock_timeout": f"{round(patience_s * 1000)}ms"})
        connection.execute(_HOLD_TRANSFERS)
        yield connection


@contextmanager
def begin_transfer(engine: Engine, lock_timeout_s: float = 30) -> Iterator[Connection]:
    """Open a transaction that shares the hold, commits synchronously and does not wait for ever.

    Raises sqlalchemy.exc.DBAPIError when Postgres is away or read-only, before anything is taken
    from Redis.
    """
    with engine.begin() as connection:
        began = connection.execute(_BEGIN_TRANSFER, {"lock_timeout": f"{lock_timeout_s}s"})
        if began.one()[-1] == "on":
            raise refuse_read_only(connection)
        yield connection


def share_hold(connection: Connection) -> None:
    """Share the hold until the transaction ends; waits while it is held exclusively."""
    connection.execute(_SHARE_HOLD)
