"""Dead letters by reason: as many as have the same are replayed or dropped at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, Text, cast, delete, func, literal, select, tuple_

from pipeline.errors import CannotReplay
from pipeline.postgres.tables import dead_letters
from pipeline.upkeep.dead_letters import DeadLetter, replay_letter

_ID_CHARACTERS = 16
_READ_AT_ONCE = 200
_OPEN = dead_letters.c.replayed_at.is_(None)


@dataclass(frozen=True)
class Group:
    """Dead letters of one kind and one reason, neither replayed nor dropped. `id` is made of both,
    and names them in URLs."""

    id: str
    kind: str
    reason: str
    count: int
    first_at: datetime
    last_at: datetime

    @property
    def can_be_replayed(self) -> bool:
        """Whether they are events: nothing else can be sent again."""
        return self.kind == "event"


@dataclass(frozen=True)
class Replayed:
    """How many were sent again, and how many are no valid event still, with the reason of the
    first; whether the time was enough for all."""

    sent: int
    refused: int
    why: str
    is_whole: bool


def list_groups(engine: Engine, limit: int) -> list[Group]:
    """The largest groups."""
    with engine.connect() as connection:
        rows = connection.execute(_select_groups().limit(limit))
        return [Group(**row._mapping) for row in rows]


def find_group(engine: Engine, group_id: str) -> Group | None:
    """The group with this id; None where nothing is left of it."""
    with engine.connect() as connection:
        row = connection.execute(_select_groups().where(_id() == group_id)).first()
    return Group(**row._mapping) if row else None


def list_letters(engine: Engine, group_id: str, limit: int) -> list[DeadLetter]:
    """The oldest dead letters of a group."""
    oldest = (
        select(dead_letters)
        .where(_OPEN, _id() == group_id)
        .order_by(dead_letters.c.created_at, dead_letters.c.id)
        .limit(limit)
    )
    with engine.connect() as connection:
        return [DeadLetter(**row._mapping) for row in connection.execute(oldest)]


def replay_group(
    engine: Engine,
    group_id: str,
    until: datetime,
    publish: Callable[[DeadLetter], None],
    for_s: float,
) -> Replayed:
    """Replay the letters of a group that came until then, oldest first, for at most some seconds;
    a repeat goes on. See `replay`: each is counted once."""
    end_s = time.monotonic() + for_s
    sent, refused, why = 0, 0, ""
    after: tuple[datetime, str] | None = None
    while letters := _read_page(engine, group_id, until, after):
        for letter in letters:
            try:
                sent += replay_letter(engine, letter, publish)
            except CannotReplay as error:
                refused, why = refused + 1, why or str(error)
            if time.monotonic() > end_s:
                return Replayed(sent, refused, why, is_whole=False)
        after = (letters[-1].created_at, letters[-1].id)
    return Replayed(sent, refused, why, is_whole=True)


def drop_group(engine: Engine, group_id: str, until: datetime) -> int:
    """Delete the letters of a group that came until then; returns how many. May be repeated."""
    found = delete(dead_letters).where(_OPEN, _id() == group_id, dead_letters.c.created_at <= until)
    with engine.begin() as connection:
        return connection.execute(found).rowcount


def _read_page(
    engine: Engine, group_id: str, until: datetime, after: tuple[datetime, str] | None
) -> list[DeadLetter]:
    place = tuple_(dead_letters.c.created_at, dead_letters.c.id)
    page = (
        select(dead_letters)
        .where(_OPEN, _id() == group_id, dead_letters.c.created_at <= until)
        .order_by(dead_letters.c.created_at, dead_letters.c.id)
        .limit(_READ_AT_ONCE)
    )
    if after is not None:
        page = page.where(place > after)
    with engine.connect() as connection:
        return [DeadLetter(**row._mapping) for row in connection.execute(page)]


def _select_groups() -> Any:
    columns = dead_letters.c
    return (
        select(
            _id().label("id"),
            columns.kind,
            columns.reason,
            func.count().label("count"),
            func.min(columns.created_at).label("first_at"),
            func.max(columns.created_at).label("last_at"),
        )
        .where(_OPEN)
        .group_by(columns.kind, columns.reason)
        .order_by(func.count().desc(), columns.kind, columns.reason)
    )


def _id() -> ColumnElement[str]:
    both = dead_letters.c.kind + literal(":", Text) + dead_letters.c.reason
    digest = func.encode(func.sha256(func.convert_to(both, "UTF8")), "hex")
    return func.left(cast(digest, Text), _ID_CHARACTERS)
