"""How long a statement of a thread may take: Postgres itself ends it, though its client is gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, event


class _OfThread(threading.local):
    longest_s: float | None = None


_of_thread = _OfThread()


@contextmanager
def limit_statements(longest_s: float) -> Iterator[None]:
    """Have no statement of this thread's transactions that begin meanwhile take longer, on engines
    that `obey_limits`; one that does raises sqlalchemy.exc.OperationalError (57014)."""
    before, _of_thread.longest_s = _of_thread.longest_s, longest_s
    try:
        yield
    finally:
        _of_thread.longest_s = before


def obey_limits(engine: Engine) -> None:
    """Have the transactions of an engine keep to `limit_statements`."""
    event.listen(engine, "begin", _set_limit)


def _set_limit(connection: Connection) -> None:
    if _of_thread.longest_s is not None:
        milliseconds = round(_of_thread.longest_s * 1000)
        # For the transaction alone: a pooler may give the session to another client after it.
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")
