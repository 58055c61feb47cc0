"""Reading the archive: the events of a type, a user or a time, newest first or as a stream of all.

All is as of the last archive run; what waits in the event log is not among it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any

import msgspec
from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    Text,
    cast,
    func,
    literal_column,
    select,
    text,
)

from pipeline.event.model import Event
from pipeline.postgres.tables import events

_ROWS_AT_ONCE = 5_000
_ROWS_OF_A_PAGE_AT_ONCE = 100
_MAX_PAGE_CHARACTERS = 1024 * 1024
"""Properties on a page, about: what several readers ask for at once must fit into memory."""
_BEHIND = text(
    "(events.timestamp < :at OR "
    "(events.tableoid, events.ctid) < (CAST(:table AS OID), CAST(:row AS TID)))"
)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any] | None).decode


@dataclass(frozen=True)
class PropertyFilter:
    """A condition on properties. `clause` lets events through of which it is true, and those that
    Postgres cannot judge: of them `is_met` says so, from the properties' JSON."""

    clause: ColumnElement[bool]
    is_met: Callable[[str | None], bool]


@dataclass(frozen=True)
class EventFilter:
    """Which events: of a type, of a user, from a moment on and before another (UTC), of which a
    condition is true."""

    event_type: str | None = None
    user_id: str | None = None
    first: datetime | None = None
    end: datetime | None = None
    other_user_ids: tuple[str, ...] = ()
    """Further forms of the same user's id."""
    where: PropertyFilter | None = None

    def matches(self, event: Event) -> bool:
        """Whether the event is one of them."""
        return (
            self.event_type in (None, event.event_type)
            and (self.user_id is None or event.user_id in self._user_ids)
            and (self.first is None or event.timestamp >= self.first)
            and (self.end is None or event.timestamp < self.end)
            and (self.where is None or self.where.is_met(_encode(event.properties).decode()))
        )

    def keep(self, rows: Iterable[Row[Any]]) -> Iterator[Row[Any]]:
        """Those of the selected rows that Postgres could not judge and are wanted, and all
        others."""
        for row in rows:
            text = row.properties
            if self.where is None or "\\u" not in (text or "") or self.where.is_met(text):
                yield row

    @property
    def _user_ids(self) -> tuple[str | None, ...]:
        return (self.user_id, *self.other_user_ids)

    def select(self) -> Select[Any]:
        """The columns of the events, in no order."""
        found = select(
            events.c.event_type,
            # Without a zone, so that every year can be read whatever the session's zone is.
            func.timezone("UTC", events.c.timestamp).label("at"),
            events.c.user_id,
            cast(events.c.properties, Text).label("properties"),
            events.c.event_id,
        )
        return found.where(*self._conditions())

    def count(self) -> Select[Any]:
        """How many there are; with a condition, and some that Postgres could not judge."""
        return select(func.count()).select_from(events).where(*self._conditions())

    def _conditions(self) -> list[Any]:
        conditions = []
        if self.event_type is not None:
            conditions.append(events.c.event_type == self.event_type)
        if self.user_id is not None:
            conditions.append(events.c.user_id.in_(self._user_ids))
        if self.first is not None:
            conditions.append(events.c.timestamp >= self.first)
        if self.end is not None:
            conditions.append(events.c.timestamp < self.end)
        if self.where is not None:
            conditions.append(self.where.clause)
        return conditions


def read_newest(engine: Engine, wanted: EventFilter, limit: int) -> list[Event]:
    """The newest events, newest first."""
    with engine.connect() as connection:
        if wanted.where is None:
            return [_event(row) for row in connection.execute(select_newest(wanted, limit))]
        statement = wanted.select().order_by(events.c.timestamp.desc())
        streamed = statement.execution_options(yield_per=_ROWS_OF_A_PAGE_AT_ONCE)
        with connection.execute(streamed) as rows:
            return [_event(row) for row in islice(wanted.keep(rows), limit)]


def select_newest(wanted: EventFilter, limit: int) -> Select[Any]:
    """The query of `read_newest`."""
    return wanted.select().order_by(events.c.timestamp.desc()).limit(limit)


class Position(msgspec.Struct, frozen=True, array_like=True):
    """Where an event stands among all, so that one can go on behind it: its time, and its row,
    which tells events of the same instant apart until the table is rewritten."""

    at: datetime
    table: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    row: Annotated[str, msgspec.Meta(pattern=r"^\([0-9]{1,9},[0-9]{1,4}\)$")]


def read_page(
    engine: Engine, wanted: EventFilter, limit: int, after: Position | None = None
) -> tuple[list[Event], Position | None]:
    """The newest events that come `after` a position, newest first, and the position of the last of
    them; None when no more follow. At most `limit`, and fewer where their properties are large.

    Whatever is archived meanwhile, going on from page to page leaves no event out and gives none
    twice.
    """
    with engine.connect() as connection:
        return read_page_on(connection, wanted, limit, after)


def read_page_on(
    connection: Connection, wanted: EventFilter, limit: int, after: Position | None = None
) -> tuple[list[Event], Position | None]:
    """The same on a connection with a transaction of its own."""
    table: ColumnClause[int] = literal_column("events.tableoid")
    row: ColumnClause[str] = literal_column("events.ctid")
    statement = (
        wanted.select()
        .add_columns(table.label("table"), cast(row, Text).label("row"))
        .order_by(events.c.timestamp.desc(), table.desc(), row.desc())
        .limit(limit + 1)
    )
    if after is not None:
        behind = _BEHIND.bindparams(at=after.at, table=after.table, row=after.row)
        statement = statement.where(events.c.timestamp <= after.at, behind)
    rows, more = _fetch_page(connection, statement, limit)
    last = None
    if more:
        last = Position(rows[-1].at.replace(tzinfo=UTC), rows[-1].table, rows[-1].row)
    return [_event(row) for row in wanted.keep(rows)], last


def _fetch_page(
    connection: Connection, statement: Select[Any], limit: int
) -> tuple[list[Row[Any]], bool]:
    """The rows of a page, and whether more follow."""
    rows: list[Row[Any]] = []
    characters = 0
    streamed = statement.execution_options(yield_per=_ROWS_OF_A_PAGE_AT_ONCE)
    with connection.execute(streamed) as found:
        for row in found:
            if len(rows) == limit or characters > _MAX_PAGE_CHARACTERS:
                return rows, True
            rows.append(row)
            characters += len(row.properties or "")
    return rows, False


def count_events(engine: Engine, wanted: EventFilter) -> int:
    """How many events there are; takes a while where there are millions."""
    with engine.connect() as connection:
        return int(connection.execute(wanted.count()).scalar_one())


def stream_events(engine: Engine, wanted: EventFilter) -> Iterator[Sequence[Event]]:
    """All events, oldest first, some thousand at a time; however many, little memory is used."""
    with engine.connect() as connection:
        yield from stream_on(connection, wanted)


def stream_on(connection: Connection, wanted: EventFilter) -> Iterator[Sequence[Event]]:
    """All events, as `stream_events`, on a connection with a transaction of its own."""
    statement = wanted.select().order_by(events.c.timestamp)
    streamed = statement.execution_options(yield_per=_ROWS_AT_ONCE)
    for rows in connection.execute(streamed).partitions():
        yield [_event(row) for row in wanted.keep(rows)]


def _event(row: Row[Any]) -> Event:
    properties = None if row.properties is None else _decode(row.properties)
    at = row.at.replace(tzinfo=UTC)
    return Event(row.event_type, at, row.user_id, properties, row.event_id)
