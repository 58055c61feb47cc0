"""Which users were forgotten, and when: what workers and the archive ask before they keep anything.

Redis holds a digest of each user's id and the moment (ms), and a version that changes with every
entry. The apply script compares the version with the one a worker knows, so an event that was in
flight when its user was forgotten is dropped by whichever worker gets it, at the price of one
look-up a batch.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import cast

import msgspec
import redis

from pipeline.counting.log_entries import RawEvents
from pipeline.event.model import Event
from pipeline.options import CountBy
from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Script

_ERASE = Script("pipeline.counting.erase")
_EXPIRE_ERASED = Script("pipeline.counting.expire_erased")

VERSION = "forgotten_version"
"""The field of the totals."""
KEPT_DAYS = 30
"""For which events of a forgotten user are dropped: longer than any queue is left standing."""

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode
_decode_user = msgspec.json.Decoder(dict[str, object]).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Forgotten:
    """The forgotten users as of a version: digest of the id -> moment (Unix ms)."""

    version: str = "0"
    at_ms: Mapping[str, int] = field(default_factory=dict)

    def drops(self, event: Event) -> bool:
        """Whether the event is of a user who was forgotten at its time or later."""
        if event.user_id is None:
            return False
        at_ms = self.at_ms.get(digest(event.user_id))
        return at_ms is not None and event.timestamp.timestamp() * 1000 <= at_ms

    def names(self, raw: bytes) -> bool:
        """Whether a bad event, as JSON, is of a forgotten user, whatever its time."""
        try:
            user_id = _decode_user(raw).get("user_id")
        except (msgspec.DecodeError, UnicodeError):
            return False
        return isinstance(user_id, str) and digest(user_id) in self.at_ms

    def anonymised(self, events: RawEvents, logged_at_ms: int, count_by: CountBy) -> RawEvents:
        """The events of an entry as the archive may keep them.

        Users who were forgotten when the entry was made, or later, are taken out of them; what is
        counted stays. (What a user did after that, no earlier entry holds.)
        """
        at = [
            position
            for position, user_id in enumerate(events.user_ids)
            if user_id is not None and self.at_ms.get(digest(user_id), -1) >= logged_at_ms
        ]
        if not at:
            return events
        users, ids = list(events.user_ids), list(events.event_ids)
        properties = list(events.properties)
        for position in at:
            users[position] = ids[position] = None
            counted = count_by.get(events.event_types[position], ())
            properties[position] = msgspec.Raw(counted_only(properties[position], counted))
        return RawEvents(events.event_types, events.timestamps, users, properties, ids)


NOBODY = Forgotten()


@lru_cache(maxsize=65_536)
def digest(user_id: str) -> str:
    """120 bits in place of an id: Redis does not go on naming the user."""
    return b64encode(blake2b(user_id.encode(), digest_size=15).digest()).decode()


def counted_only(properties: bytes | msgspec.Raw, counted: Collection[str]) -> bytes:
    """Properties, as JSON, without those that are not counted; `null` when nothing is left."""
    found = _decode_object(properties) or {}
    kept = {name: found[name] for name in counted if name in found}
    return _encode(kept or None)


def read(client: redis.Redis, keys: Keys) -> Forgotten:
    """Who is forgotten now, and the version, of one instant."""
    pipeline = client.pipeline(transaction=True)
    pipeline.hget(keys.totals, VERSION)
    pipeline.hgetall(keys.forgotten)
    version, at_ms = pipeline.execute()
    # A moment that is no number is somebody else's, and must not make messages unreadable.
    return Forgotten(
        (version or b"0").decode(errors="replace"),
        {
            name.decode(errors="replace"): int(ms)
            for name, ms in cast("dict[bytes, bytes]", at_ms).items()
            if ms.isdigit()
        },
    )


def enter(client: redis.Redis, keys: Keys, user_id: str, counters: Sequence[str]) -> int:
    """Note that a user is forgotten from now on, and drop these counters, live and in the journals
    of open batches, in the same step; returns the moment (Unix ms). May be repeated."""
    return cast(
        "int",
        _ERASE.run(
            client,
            keys=[keys.forgotten, keys.totals, keys.pending_flush, keys.batches],
            args=[digest(user_id), keys.inflight, *counters],
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
