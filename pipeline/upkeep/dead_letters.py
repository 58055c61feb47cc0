"""Dead letters: what could not be counted, kept as it came with the reason, until it is
replayed or dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import redis
from sqlalchemy import Connection, Engine, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from pipeline.errors import PipelineError
from pipeline.postgres.locks import share_hold
from pipeline.postgres.tables import dead_letters
from pipeline.redis.keys import Keys

_MOVED_AT_ONCE = 500


@dataclass(frozen=True)
class DeadLetter:
    """`kind` is "event" (body: its JSON), "message" (the broker's message) or "counter" (its name
    and count) or "entry" (of the event log, compressed)."""

    id: str
    kind: str
    body: bytes
    reason: str
    created_at: datetime
    replayed_at: datetime | None = None


def move(client: redis.Redis, keys: Keys, engine: Engine) -> int:
    """Move dead letters from Redis to Postgres and return how many; exact when repeated: the id is
    the same."""
    moved = 0
    while True:
        with engine.begin() as connection:
            # Before the letters are read: an erasure holds off transfers, and so finds every
            # letter in one place.
            share_hold(connection)
            entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", _oldest(client, keys))
            if not entries:
                return moved
            connection.execute(
                insert(dead_letters).on_conflict_do_nothing(),
                [_row(entry_id, fields) for entry_id, fields in entries],
            )
        client.xdel(keys.dead, *[entry_id for entry_id, _ in entries])
        moved += len(entries)


def count_waiting(client: redis.Redis, keys: Keys) -> int:
    """How many dead letters wait in Redis to be moved."""
    return client.xlen(keys.dead)


def count_stored(engine: Engine) -> int:
    """How many in Postgres have been neither replayed nor dropped."""
    with engine.connect() as connection:
        return count_open(connection)


def count_open(connection: Connection) -> int:
    """The same, read with a connection."""
    open_ = select(func.count()).where(dead_letters.c.replayed_at.is_(None))
    return connection.execute(open_).scalar_one()


def list_stored(engine: Engine, limit: int = 100) -> list[DeadLetter]:
    """The newest dead letters in Postgres, newest first."""
    newest = (
        select(dead_letters)
        .order_by(dead_letters.c.created_at.desc(), dead_letters.c.id.desc())
        .limit(limit)
    )
    with engine.connect() as connection:
        return [DeadLetter(**row._mapping) for row in connection.execute(newest)]


def find(engine: Engine, ids: Sequence[str]) -> list[DeadLetter]:
    """The dead letters with these ids. Raises `PipelineError` naming one that is not there."""
    with engine.connect() as connection:
        rows = connection.execute(select(dead_letters).where(dead_letters.c.id.in_(ids)))
        found = {row.id: DeadLetter(**row._mapping) for row in rows}
    missing = [letter_id for letter_id in ids if letter_id not in found]
    if missing:
        raise PipelineError(
            f"there is no dead letter {missing[0]!r}: `analytics dead-letters list` shows their ids"
        )
    return [found[letter_id] for letter_id in ids]


def replay(engine: Engine, ids: Sequence[str], publish: Callable[[DeadLetter], None]) -> int:
    """Hand each letter to `publish` that was not replayed before, and note that it was; returns how
    many. A repeat replays nothing.

    `publish` must send under a key made from the letter's id, so that one that was sent, and not
    noted, is counted once.
    """
    return sum(replay_letter(engine, letter, publish) for letter in find(engine, ids))


def replay_letter(
    engine: Engine, letter: DeadLetter, publish: Callable[[DeadLetter], None]
) -> bool:
    """Hand a letter to `publish` as it is now, and note that it was replayed; returns whether it
    was. One that another replay sends, or has sent, is left alone. See `replay`."""
    found = select(dead_letters).where(dead_letters.c.id == letter.id).with_for_update()
    with engine.begin() as connection:
        row = connection.execute(found).first()
        if row is None or row.replayed_at is not None:
            return False
        publish(DeadLetter(**row._mapping))
        connection.execute(
            update(dead_letters)
            .where(dead_letters.c.id == letter.id)
            .values(replayed_at=datetime.now(UTC))
        )
        return True


def drop(engine: Engine, ids: Sequence[str]) -> int:
    """Delete these dead letters and return how many were there. May be repeated."""
    with engine.begin() as connection:
        return connection.execute(delete(dead_letters).where(dead_letters.c.id.in_(ids))).rowcount


def _oldest(client: redis.Redis, keys: Keys) -> object:
    return client.xrange(keys.dead, count=_MOVED_AT_ONCE)


def _row(entry_id: bytes, fields: dict[bytes, bytes]) -> dict[str, Any]:
    kind = fields[b"kind"].decode()
    counter = kind == "counter"
    body = fields[b"counter"] + b" " + fields[b"count"] if counter else fields[b"body"]
    return {
        "id": entry_id.decode(),
        "kind": kind,
        "body": body,
        "reason": fields[b"reason"].decode(errors="replace").replace("\x00", "�"),
        "created_at": datetime.fromtimestamp(int(fields[b"at_s"]), UTC),
    }
