"""Which counters Redis holds: live ones, and those claimed by open batches.

Each search finds what is there all the while, needs the memory of one page, and may give a counter
twice. It holds up no other client.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import redis

from pipeline.flushing.claims import Claims
from pipeline.redis.counters import (
    Counter,
    DailyCounter,
    GapCounter,
    HourlyCounter,
    QuarterCounter,
    UserCounter,
)
from pipeline.redis.keys import (
    PAD,
    QUARTERS,
    Keys,
    bucket_of,
    escape,
    field_pattern,
    key_text,
    match_literally,
)

_SCANNED_AT_ONCE = 1_000
_OF_TYPES = "[cg][oa]*"
"""Matches `counter:…` and `gap:…` in one pass over all keys."""
_OF_ALL = "[cgud][oasi]*"
"""Matches `user:…` and `dim:…` too, of which the version before made keys."""


def find_type_counters(
    client: redis.Redis, keys: Keys
) -> Iterator[DailyCounter | HourlyCounter | QuarterCounter | GapCounter]:
    """The counters of event types, without users, values and sums."""
    for name in _names(client, keys, keys.prefix + _OF_TYPES):
        counter = _parse(keys, name)
        if isinstance(counter, DailyCounter | HourlyCounter | GapCounter):
            yield counter
    for _, found in _parsed(keys, _fields(client, keys, QUARTERS)):
        if isinstance(found, QuarterCounter):
            yield found


def find_pending_types(client: redis.Redis, keys: Keys) -> Iterator[tuple[str, Counter]]:
    """The same by name, those that are whole. Looks through what waits for a flush, and not through
    the names of all keys; what the version before left out of that is not found."""
    pattern = match_literally(keys.prefix) + "counter:*"
    waiting = client.sscan_iter(keys.pending_flush, match=pattern, count=_SCANNED_AT_ONCE)
    yield from _parsed(keys, (key_text(cast("bytes", name)) for name in waiting))
    yield from _parsed(keys, _names_in_journals(client, keys, pattern))
    yield from _parsed(keys, _fields(client, keys, QUARTERS))


def find_pending(
    client: redis.Redis, keys: Keys, *, only_types: bool = False
) -> Iterator[tuple[str, Counter]]:
    """All counters that wait for a flush, or are claimed by one, by name; or those of event types
    alone."""
    waiting = client.sscan_iter(keys.pending_flush, count=_SCANNED_AT_ONCE)
    yield from _parsed(keys, (key_text(cast("bytes", name)) for name in waiting))
    yield from _parsed(keys, _names_in_journals(client, keys, f"{match_literally(keys.prefix)}*"))
    for bucket in (QUARTERS,) if only_types else range(len(keys.live_buckets)):
        yield from _parsed(keys, _fields(client, keys, bucket))


def find_measures(
    client: redis.Redis, keys: Keys, bucket: int, head: str | None = None
) -> set[str]:
    """Names of the counters in a bucket of measures: of all, or of those whose fields begin with
    `head` and a colon."""
    pattern = None if head is None else f"{match_literally(head)}:*"
    return set(_fields(client, keys, bucket, pattern))


def find_counters(client: redis.Redis, keys: Keys) -> Iterator[tuple[str, Counter]]:
    """All counters, by name. Takes about a second for a million."""
    yield from _parsed(keys, _names(client, keys, keys.prefix + _OF_ALL))
    for bucket in range(len(keys.live_buckets)):
        yield from _parsed(keys, _fields(client, keys, bucket))


def find_user_counters(client: redis.Redis, keys: Keys, user_id: str) -> set[str]:
    """Names of the user's counters. Looks through one bucket, and the few counters outside of
    buckets. The fields found may be a value's as well, of an event type with the name of the user.
    """
    pattern = keys.user_pattern(user_id)
    scanned = client.sscan_iter(keys.pending_flush, match=pattern, count=_SCANNED_AT_ONCE)
    names = {key_text(cast("bytes", name)) for name in scanned}
    names.update(_names_in_journals(client, keys, pattern))
    bucket = bucket_of(escape(user_id))
    names.update(_fields(client, keys, bucket, field_pattern(user_id)))
    return {name for name, found in _parsed(keys, names) if isinstance(found, UserCounter)}


def _names(client: redis.Redis, keys: Keys, pattern: str) -> Iterator[str]:
    """Names of counters that are keys, or were."""
    for name in client.scan_iter(pattern, count=_SCANNED_AT_ONCE):
        yield key_text(cast("bytes", name))
    yield from _names_in_journals(client, keys, pattern)


def _names_in_journals(client: redis.Redis, keys: Keys, pattern: str) -> Iterator[str]:
    for batch_id in Claims(client, keys).open_batches():  # of what is settled by now, Postgres has
        yield from _scan(client, keys.inflight + batch_id, pattern)


def _fields(
    client: redis.Redis, keys: Keys, bucket: int, pattern: str | None = None
) -> Iterator[str]:
    """Names of counters that are fields of a bucket, live or claimed."""
    yield from map(keys.name_of, _scan(client, keys.live_buckets[bucket], pattern))
    for batch_id in Claims(client, keys).open_batches():
        name = keys.journal_buckets(batch_id)[bucket]
        yield from map(keys.name_of, _scan(client, name, pattern))


def _scan(client: redis.Redis, name: str, pattern: str | None) -> Iterator[str]:
    for field, _ in client.hscan_iter(name, match=pattern, count=_SCANNED_AT_ONCE):
        text = key_text(cast("bytes", field))
        if text != PAD:
            yield text


def _parsed(keys: Keys, names: Iterable[str]) -> Iterator[tuple[str, Counter]]:
    for name in names:
        counter = _parse(keys, name)
        if counter is not None:
            yield name, counter


def _parse(keys: Keys, name: str) -> Counter | None:
    try:
        return keys.parse(name)
    except ValueError:
        return None
