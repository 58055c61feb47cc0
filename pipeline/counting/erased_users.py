"""Which users were erased, and when: what workers and the archive ask before they keep anything.

Redis holds a digest of each user's id and the moment (ms), and a version that changes with every
entry. The apply script compares the version with the one a worker knows, so an event that was in
flight when its user was erased is dropped by whichever worker gets it, at the price of one
look-up a batch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import cast

import msgspec
import redis

from pipeline.counting.log_entries import RawEvents
from pipeline.counting.named_users import find_user_ids
from pipeline.event.model import Event
from pipeline.event.pseudonyms import is_pseudonym, pseudonym
from pipeline.options import CountBy
from pipeline.redis.keys import Keys, bucket_of, digest_id, escape
from pipeline.redis.scripts import Script

_ERASE = Script("pipeline.counting.erase")
_EXPIRE_ERASED = Script("pipeline.counting.expire_erased")

VERSION = "forgotten_version"
"""The field of the totals in Redis."""
KEPT_DAYS = 30
"""For which events of an erased user are dropped: longer than any queue is left standing, and than
an event may be delayed (`MAX_DELAY`)."""

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class ErasedUsers:
    """The erased users as of a version: digest of the id -> moment (Unix ms)."""

    version: str = "0"
    at_ms: Mapping[str, int] = field(default_factory=dict)
    secret: str = field(default="", repr=False)
    """By which a plain id is known for that of an erased pseudonym."""

    def drops(self, event: Event) -> bool:
        """Whether the event is of a user who was erased at its time or later."""
        if event.user_id is None:
            return False
        at_ms = self._find(event.user_id)
        return at_ms is not None and event.timestamp.timestamp() * 1000 <= at_ms

    def drops_bad(self, raw: bytes) -> bool:
        """Whether a bad event or message, as JSON, names an erased user, whatever its time."""
        return any(self._find(user_id) is not None for user_id in find_user_ids(raw) or ())

    def knows(self, user_id: str) -> bool:
        """Whether this user was erased, whenever that was."""
        return self._find(user_id) is not None

    def anonymise(self, events: RawEvents, logged_at_ms: int, kept: CountBy) -> RawEvents:
        """The events of an entry as the archive may keep them.

        Users who were erased when the entry was made, or later, are taken out of them; the `kept`
        properties of their types stay. (What a user did after that, no earlier entry holds.)
        """
        if not self.at_ms:
            return events
        at = [
            position
            for position, user_id in enumerate(events.user_ids)
            if user_id is not None and (self._find(user_id) or -1) >= logged_at_ms
        ]
        if not at:
            return events
        users, ids = list(events.user_ids), list(events.event_ids)
        properties = list(events.properties)
        for position in at:
            users[position] = ids[position] = None
            counted = kept.get(events.event_types[position], ())
            properties[position] = msgspec.Raw(keep_counted(properties[position], counted))
        return RawEvents(events.event_types, events.timestamps, users, properties, ids)

    def _find(self, user_id: str) -> int | None:
        """When this user was erased, under whichever form of the id."""
        at_ms = self.at_ms.get(digest_user(user_id))
        if self.secret and self.at_ms and not is_pseudonym(user_id):
            other_ms = self.at_ms.get(digest_user(pseudonym(self.secret, user_id)))
            return max((one for one in (at_ms, other_ms) if one is not None), default=None)
        return at_ms


NO_ERASED_USERS = ErasedUsers()


@lru_cache(maxsize=65_536)
def digest_user(user_id: str) -> str:
    """What stands for the user's id, so that Redis does not go on naming the user."""
    return digest_id(user_id)


def keep_counted(properties: bytes | msgspec.Raw, counted: Collection[str]) -> bytes:
    """Properties, as JSON, without those that are not counted; `null` when nothing is left."""
    found = _decode_object(properties) or {}
    kept = {name: found[name] for name in counted if name in found}
    return _encode(kept or None)


def read(client: redis.Redis, keys: Keys, secret: str = "") -> ErasedUsers:
    """Who is erased now, and the version, of one instant. `secret` is that of pseudonyms."""
    pipeline = client.pipeline(transaction=True)
    pipeline.hget(keys.totals, VERSION)
    pipeline.hgetall(keys.forgotten)
    version, at_ms = pipeline.execute()
    # A moment that is no number is not ours, and must not make messages unreadable.
    return ErasedUsers(
        (version or b"0").decode(errors="replace"),
        {
            name.decode(errors="replace"): int(ms)
            for name, ms in cast("dict[bytes, bytes]", at_ms).items()
            if ms.isdigit()
        },
        secret,
    )


def enter(client: redis.Redis, keys: Keys, user_id: str, counters: Sequence[str]) -> int:
    """Note that a user is erased from now on, and drop these counters of theirs, live and in open
    batches, in the same step; returns the moment (Unix ms). May be repeated."""
    bucket = bucket_of(escape(user_id))
    fields = [text for name in counters for text in (name, keys.field_in_bucket(name))]
    return cast(
        "int",
        _ERASE.run(
            client,
            keys=[
                *(keys.forgotten, keys.totals, keys.pending_flush, keys.batches),
                keys.live_buckets[bucket],
            ],
            args=[digest_user(user_id), keys.inflight, bucket, *fields],
        ),
    )


def expire(client: redis.Redis, keys: Keys) -> int:
    """Let go of entries that are older than `KEPT_DAYS`; returns how many. May be repeated."""
    return cast(
        "int",
        _EXPIRE_ERASED.run(
            client, keys=[keys.forgotten, keys.totals], args=[KEPT_DAYS * 86_400_000]
        ),
    )
