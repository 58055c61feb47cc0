"""Pages of archived events, each within a limit of time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from psycopg.errors import QueryCanceled
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from pipeline.errors import QuestionTooLarge
from pipeline.event.model import Event
from pipeline.event_log.queries import EventFilter, Position, read_page_on

TIMEOUT_S = 8.0
_LAST_RUN = text("SELECT max(archived_at) FROM schema$.archived_entries")


@dataclass(frozen=True)
class ArchivedPage:
    """Events, newest first, as of an archive run (None: the ledger knows of none); `last` is where
    the next page begins, None after the last."""

    events: list[Event]
    last: Position | None
    as_of: datetime | None


def read_archived(
    engine: Engine, wanted: EventFilter, limit: int, after: Position | None = None
) -> ArchivedPage:
    """A page of at most `limit` events. Raises `QuestionTooLarge` where it takes too long."""
    with _open_bounded(engine) as connection:
        as_of = connection.execute(_LAST_RUN).scalar_one()
        events, last = read_page_on(connection, wanted, limit, after)
        return ArchivedPage(events, last, as_of)


def read_newest_archived(engine: Engine, wanted: EventFilter, limit: int) -> Iterator[Event]:
    """The newest `limit` events, some hundred in memory. Raises `QuestionTooLarge` where a part of
    them takes too long."""
    after: Position | None = None
    left = limit
    with _open_bounded(engine) as connection:
        while left > 0:
            events, after = read_page_on(connection, wanted, min(left, 1_000), after)
            yield from events
            left -= len(events)
            if after is None:
                return


@contextmanager
def _open_bounded(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {round(TIMEOUT_S * 1000)}")
        try:
            yield connection
        except OperationalError as error:
            if not isinstance(error.orig, QueryCanceled):
                raise
            raise QuestionTooLarge(
                f"this read more of the archive than can be read in {TIMEOUT_S:g} s: ask about "
                "fewer days, a type or a user"
            ) from error
