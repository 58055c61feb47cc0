"""Erasing a user: nothing names them any more, and every total stays.

The steps, each of which may be repeated, and the whole of them after a crash at any point:

1. The user is entered among the erased. From that moment no worker counts an event of theirs that
   is not newer, and the archive keeps none.
2. With flush and archive held off, the days and event types on which they were seen, in Redis and
   stored, are entered under their number: totals of users stay. Once more, until none is new.
3. With both held off, their counters are dropped from Redis, in one script that enters them anew.
4. In the transaction that holds them off, their stored counters, their number's name and dead
   letters are deleted, and archived events lose user, event id and all properties that are not
   counted: totals can still be made anew from them.

A user who comes back is counted anew.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from sqlalchemy import Connection, Engine, delete, select, text

from pipeline.counting import erased_users
from pipeline.counting.apply import Counters
from pipeline.counting.named_users import find_user_ids, names_as_text
from pipeline.event.pseudonyms import is_pseudonym as has_pseudonym_form
from pipeline.event.pseudonyms import list_forms, pseudonym
from pipeline.event.rules import check_user_id
from pipeline.postgres.locks import hold_transfers
from pipeline.postgres.sealing.numbers import take_numbers
from pipeline.postgres.tables import dead_letters, user_daily
from pipeline.reading.live_counters import find_user_counters
from pipeline.redis.counters import UserCounter
from pipeline.redis.keys import Keys, key_text
from pipeline.upkeep.people.anonymous import enter_anonymous

_DROPPED_AT_ONCE = 500
_LETTERS_AT_ONCE = 500
_MOST_ROUNDS = 20
_IDS_AT_ONCE = 5_000
_HAS_NUL = r"(position('\u0000' IN CAST(properties AS TEXT)) > 0)"
Named = dict[str, UserCounter]
"""Counters of a user by their names in Redis."""

_ANONYMISE = text(
    "UPDATE schema$.events SET user_id = NULL, event_id = NULL, properties = ("
    "SELECT json_object_agg(one.key, one.value) FROM json_each(events.properties) AS one "
    "WHERE one.key = ANY(CAST(CAST(:counted AS JSON) ->> events.event_type AS TEXT[]))) "
    # Postgres takes no string with a NUL apart: see `_anonymise_with_nul`.
    f"WHERE user_id = :user_id AND (properties IS NULL OR NOT {_HAS_NUL})"
)
_FIND_WITH_NUL = text(
    "SELECT tableoid, ctid, event_type, CAST(properties AS TEXT) AS properties "
    "FROM schema$.events "
    f"WHERE user_id = :user_id AND {_HAS_NUL}"
)
_ANONYMISE_ONE = text(
    "UPDATE schema$.events SET user_id = NULL, event_id = NULL, "
    "properties = CAST(:kept AS JSON) "
    "WHERE tableoid = :table AND ctid = CAST(:row AS TID) AND user_id = :user_id"
)
_STORED_IDS = text(
    "SELECT user_id FROM schema$.analytics_user_daily UNION "
    "SELECT user_id FROM schema$.analytics_user_numbers UNION "
    "SELECT user_id FROM schema$.events WHERE user_id IS NOT NULL"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Erasure:
    """What an erasure removed: counters in Redis and stored, dead letters; `events` are those of
    the archive that no longer name the user."""

    erased_at: datetime
    live_counters: int
    stored_counters: int
    events: int
    dead_letters: int

    @property
    def counters(self) -> int:
        """All counters, in Redis and stored."""
        return self.live_counters + self.stored_counters

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the user was stored."""
        return not (self.counters or self.events or self.dead_letters)


@dataclass(frozen=True)
class SoughtUser:
    """A user by every form of the id: plain, and the pseudonym. Made by `find_user`."""

    forms: tuple[str, ...]
    secret: str = field(default="", repr=False)
    """Set where a pseudonym was given: any plain id may be the one it was made of."""

    def is_named_by(self, user_id: str) -> bool:
        """Whether this is one of the user's ids."""
        return user_id in self.forms or (
            bool(self.secret) and pseudonym(self.secret, user_id) in self.forms
        )


def find_user(engine: Engine, secret: str, user_id: str, *, is_pseudonym: bool) -> SoughtUser:
    """The user with this id. The plain ids of a pseudonym are found among those that the tables
    hold, which takes longer the more users there are.

    Raises `InvalidEvent` for what can be no user's id.
    """
    if not user_id or user_id.strip(" "):  # spaces alone were an id before ids were cleaned
        check_user_id(user_id)
    forms = (user_id,) if is_pseudonym else list_forms(secret, user_id)
    if not secret or not has_pseudonym_form(user_id):
        return SoughtUser(forms)
    with engine.connect() as connection:
        streamed = connection.execution_options(yield_per=_IDS_AT_ONCE).execute(_STORED_IDS)
        found = (row.user_id for row in streamed if not has_pseudonym_form(row.user_id))
        plain = tuple(one for one in found if pseudonym(secret, one) == user_id)
    return SoughtUser(forms + plain, secret)


def erase_user(counters: Counters, engine: Engine, user: SoughtUser, asked_by: str) -> Erasure:
    """Erase a user. A repeat removes what is new since. The log says who asked for it.

    Waits for a flush that runs, and holds off others meanwhile. Raises redis.RedisError or
    sqlalchemy.exc.OperationalError when a server is away: then repeat it.
    """
    for form in user.forms:
        erased_users.enter(counters.client, counters.keys, form, ())
    erasure, rounds = None, 0
    while erasure is None:
        rounds += 1
        with hold_transfers(engine) as connection:
            found = {form: _find_counters(counters, form) for form in user.forms}
            seen = [one for of_form in found.values() for one in of_form.values()]
            if not enter_anonymous(connection, user.forms, seen) or rounds == _MOST_ROUNDS:
                erasure = _erase(counters, connection, user, found)
    # Not the id: the log would go on naming the user.
    logger.info(
        "%s had a user forgotten (digest %s): %d live counters, %d stored counters, %d archived "
        "events, %d dead letters",
        asked_by,
        erased_users.digest_user(max(user.forms, key=has_pseudonym_form)),
        erasure.live_counters,
        erasure.stored_counters,
        erasure.events,
        erasure.dead_letters,
    )
    return erasure


def _erase(
    counters: Counters, connection: Connection, user: SoughtUser, found: Mapping[str, Named]
) -> Erasure:
    """Drop these counters of the user from Redis, by form of the id, and what is stored."""
    live = stored = events = at_ms = 0
    for form, named in found.items():
        at_ms = _drop_counters(counters, form, sorted(named))
        live += len(named)
        of_form = delete(user_daily).where(user_daily.c.user_id == form)
        stored += connection.execute(of_form).rowcount
        values = {"user_id": form, "counted": _arrays(counters)}
        events += connection.execute(_ANONYMISE, values).rowcount
        events += _anonymise_with_nul(counters, connection, form)
    take_numbers(connection, user.forms)
    letters = _drop_letters(counters, connection, user)
    erased_at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return Erasure(erased_at, live, stored, events, letters)


def _anonymise_with_nul(counters: Counters, connection: Connection, user_id: str) -> int:
    """Anonymise the archived events of which a property holds a NUL; returns how many."""
    found = connection.execute(_FIND_WITH_NUL, {"user_id": user_id}).all()
    for row in found:
        counted = counters.options.kept_properties.get(row.event_type, ())
        kept = erased_users.keep_counted(row.properties.encode(), counted).decode()
        connection.execute(
            _ANONYMISE_ONE,
            {
                "kept": None if kept == "null" else kept,
                "table": row.tableoid,
                "row": row.ctid,
                "user_id": user_id,
            },
        )
    return len(found)


def _drop_counters(counters: Counters, user_id: str, names: Sequence[str]) -> int:
    """Enter the user anew and drop these counters, in one step with each part of them; returns the
    moment of the last entry (Unix ms).

    What an event of a user who comes back at this moment has added to one of them goes too, with
    its name in the archive.
    """
    client, keys, at_ms = counters.client, counters.keys, 0
    for first in range(0, max(1, len(names)), _DROPPED_AT_ONCE):
        at_ms = erased_users.enter(client, keys, user_id, names[first : first + _DROPPED_AT_ONCE])
    return at_ms


def _find_counters(counters: Counters, user_id: str) -> Named:
    """The user's counters in Redis: live, claimed, or lost from the pending ones."""
    client, keys = counters.client, counters.keys
    names = find_user_counters(client, keys, user_id)
    for name in client.scan_iter(keys.user_pattern(user_id), count=10_000):
        names.add(key_text(cast("bytes", name)))
    return {name: counter for name in names if (counter := _parse(keys, name)) is not None}


def _parse(keys: Keys, name: str) -> UserCounter | None:
    try:
        counter = keys.parse(name)
    except ValueError:
        return None
    return counter if isinstance(counter, UserCounter) else None


def _arrays(counters: Counters) -> str:
    """What is kept as JSON: event type -> a Postgres array literal of its properties."""
    arrays = {
        event_type: "{" + ",".join(_quoted(name) for name in names) + "}"
        for event_type, names in counters.options.kept_properties.items()
    }
    return msgspec.json.encode(arrays).decode()


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _drop_letters(counters: Counters, connection: Connection, user: SoughtUser) -> int:
    """Drop the user's dead letters. No letter moves to Postgres meanwhile."""
    dropped = 0
    for entry_id, fields in _letters(counters):
        body = fields.get(b"body") or fields.get(b"counter", b"")
        if concerns(user, fields[b"kind"].decode(), body, counters.keys):
            dropped += counters.client.xdel(counters.keys.dead, entry_id)
    letters = select(dead_letters.c.id, dead_letters.c.kind, dead_letters.c.body)
    streamed = connection.execute(letters.execution_options(yield_per=_LETTERS_AT_ONCE))
    ids = [row.id for row in streamed if concerns(user, row.kind, bytes(row.body), counters.keys)]
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


def concerns(user: SoughtUser, kind: str, body: bytes, keys: Keys) -> bool:
    """Whether a dead letter is about the user: an event of theirs, a message that holds one, or one
    of their counters."""
    if kind == "counter":
        try:
            counter = keys.parse(body.decode().split(" ")[0])
        except ValueError:
            return False
        return isinstance(counter, UserCounter) and user.is_named_by(counter.user_id)
    if kind not in ("event", "message"):
        return False
    named = find_user_ids(body)
    if named is None:
        return any(names_as_text(body, form) for form in user.forms)
    return any(map(user.is_named_by, named))
