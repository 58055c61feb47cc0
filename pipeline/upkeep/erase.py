"""Erasing a user: nothing names them any more, and every total stays.

The steps, each of which may be repeated, and the whole of them after a crash at any point:

1. With flush and archive held off, the user is entered among the erased and their counters are
   dropped from Redis, in one script. From that moment no worker counts an event of theirs that is
   not newer, and the archive keeps none.
2. In the transaction that holds them off, their stored counters and dead letters are deleted, and
   archived events lose user, event id and all properties that are not counted: totals can still be
   made anew from them.

A user who comes back is counted anew.
"""

from __future__ import annotations

import logging
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from sqlalchemy import Connection, Engine, delete, select, text

from pipeline.counting import erased_users
from pipeline.counting.apply import Counters
from pipeline.event.model import Event
from pipeline.postgres.locks import hold_transfers
from pipeline.postgres.tables import dead_letters, user_daily
from pipeline.reading.exact import UnstoredCounts
from pipeline.redis.keys import Keys, UserCounter

_DROPPED_AT_ONCE = 500
_LETTERS_AT_ONCE = 500
_MOST_ROUNDS = 20
_DEEPEST = 110
_ANONYMISE = text(
    "UPDATE events SET user_id = NULL, event_id = NULL, properties = ("
    "SELECT json_object_agg(one.key, one.value) FROM json_each(events.properties) AS one "
    "WHERE one.key = ANY(CAST(CAST(:counted AS JSON) ->> events.event_type AS TEXT[]))) "
    "WHERE user_id = :user_id"
)
_decode = msgspec.json.Decoder().decode

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Erasure:
    """What an erasure removed: counters (in Redis and stored), dead letters; `events` are those
    of the archive that no longer name the user."""

    erased_at: datetime
    counters: int
    events: int
    dead_letters: int


def erase_user(counters: Counters, engine: Engine, user_id: str) -> Erasure:
    """Erase a user. A repeat removes what is new since.

    Waits for a flush that runs, and holds off others meanwhile. Raises `InvalidEvent` for what can
    be no user's id, and redis.RedisError or sqlalchemy.exc.OperationalError when a server is away:
    then repeat it.
    """
    Event.create("forget", user_id, now=datetime.now(UTC))  # checks the id
    with hold_transfers(engine) as connection:
        at_ms, live = _drop_counters(counters, user_id)
        stored = connection.execute(delete(user_daily).where(user_daily.c.user_id == user_id))
        events = connection.execute(_ANONYMISE, {"user_id": user_id, "counted": _arrays(counters)})
        letters = _drop_letters(counters, connection, user_id)
    erasure = Erasure(
        datetime.fromtimestamp(at_ms / 1000, UTC), live + stored.rowcount, events.rowcount, letters
    )
    # Not the id: the log would go on naming the user.
    logger.info(
        "a user was forgotten (digest %s): %d counters, %d archived events, %d dead letters",
        erased_users.digest_user(user_id),
        erasure.counters,
        erasure.events,
        erasure.dead_letters,
    )
    return erasure


def _drop_counters(counters: Counters, user_id: str) -> tuple[int, int]:
    """Enter the user and drop their counters until none is found; returns the moment of the last
    entry and how many were dropped.

    A counter that an old event made just before the entry is found by the next look. One of a user
    who comes back at this moment goes too, with its event's name in the archive: the entry is made
    anew with what it drops.
    """
    client, keys = counters.client, counters.keys
    at_ms, dropped, names = 0, 0, _names(counters, user_id)
    for _ in range(_MOST_ROUNDS):
        for first in range(0, max(1, len(names)), _DROPPED_AT_ONCE):
            at_ms = erased_users.enter(
                client, keys, user_id, names[first : first + _DROPPED_AT_ONCE]
            )
        dropped += len(names)
        names = _names(counters, user_id)
        if not names:
            break
    return at_ms, dropped


def _names(counters: Counters, user_id: str) -> list[str]:
    """The user's counters in Redis: pending, claimed, or lost from the pending ones."""
    found = set(UnstoredCounts(counters.client, counters.keys).names_of_user(user_id))
    pattern = counters.keys.user_pattern(user_id)
    for name in counters.client.scan_iter(pattern, count=10_000):
        found.add(cast("bytes", name).decode(errors="surrogateescape"))
    return sorted(found)


def _arrays(counters: Counters) -> str:
    """`count_by` as JSON: event type -> a Postgres array literal of its properties."""
    arrays = {
        event_type: "{" + ",".join(_quoted(name) for name in names) + "}"
        for event_type, names in counters.options.count_by.items()
    }
    return msgspec.json.encode(arrays).decode()


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _drop_letters(counters: Counters, connection: Connection, user_id: str) -> int:
    """Drop the user's dead letters. No letter moves to Postgres meanwhile."""
    dropped = 0
    for entry_id, fields in _letters(counters):
        body = fields.get(b"body") or fields.get(b"counter", b"")
        if concerns(user_id, fields[b"kind"].decode(), body, counters.keys):
            dropped += counters.client.xdel(counters.keys.dead, entry_id)
    letters = select(dead_letters.c.id, dead_letters.c.kind, dead_letters.c.body)
    streamed = connection.execute(letters.execution_options(yield_per=_LETTERS_AT_ONCE))
    ids = [
        row.id for row in streamed if concerns(user_id, row.kind, bytes(row.body), counters.keys)
    ]
    if ids:
        connection.execute(delete(dead_letters).where(dead_letters.c.id.in_(ids)))
    return dropped + len(ids)


def _letters(counters: Counters) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    after = "-"
    while True:
        page: Any = counters.client.xrange(counters.keys.dead, after, "+", count=_LETTERS_AT_ONCE)
        yield from page
        if len(page) < _LETTERS_AT_ONCE:
            return
        after = f"({page[-1][0].decode()}"


def concerns(user_id: str, kind: str, body: bytes, keys: Keys) -> bool:
    """Whether a dead letter is about the user: an event of theirs, a message that holds one, or one
    of their counters."""
    if kind == "counter":
        try:
            counter = keys.parse(body.decode().split(" ")[0])
        except ValueError:
            return False
        return isinstance(counter, UserCounter) and counter.user_id == user_id
    return kind in ("event", "message") and _names_user(user_id, body)


def _names_user(user_id: str, body: bytes) -> bool:
    """Whether a JSON text has `user_id` with this value anywhere, or begins a task's arguments, in
    whatever form they are wrapped."""
    try:
        found = _decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        # Not JSON: as text, in either way of writing it.
        ascii_ = msgspec.json.encode(user_id)
        return ascii_ in body or f'"{user_id}"'.encode() in body
    return _holds(user_id, found, 0)


def _holds(user_id: str, found: object, depth: int) -> bool:
    if isinstance(found, dict):
        if found.get("user_id") == user_id:
            return True
        wrapped = found.get("body")
        if isinstance(wrapped, str) and depth == 0:  # the broker's message
            return _names_user(user_id, _unwrapped(wrapped))
        inner = list(found.values())
    elif isinstance(found, list):
        inner = found
        if len(found) > 1 and isinstance(found[0], str) and found[1] == user_id:
            return True  # positional arguments: [event_type, user_id, …]
    else:
        return False
    return depth < _DEEPEST and any(_holds(user_id, one, depth + 1) for one in inner)


def _unwrapped(body: str) -> bytes:
    """The arguments of a task: in base64, or as they are."""
    try:
        return b64decode(body, validate=True)
    except ValueError:
        return body.encode(errors="replace")
