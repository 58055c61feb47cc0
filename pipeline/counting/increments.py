"""From events to increments: which counters an event adds to. Pure; no server, no clock.

An event counts its type per day and per hour, its user per day, and for each property named in
`count_by` the property's value per day.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec

from pipeline.event.model import Event
from pipeline.options import CountBy
from pipeline.redis.keys import Keys, bucket_of, escape, escape_again, hour_text, value_field

MAX_VALUE_CHARACTERS = 200
CUT_MARK = "…"
_MARK = "\uffff"
"""Begins what stands for NUL, and for itself: a character that Unicode keeps free for such use."""
OTHER = "__other__"
VALUES_LIFETIME = timedelta(days=2)
_OWN_VALUES = timedelta(days=1_100)
"""How far back a day has a set of distinct values, and so a cap, of its own."""
_LONG_PAST = "past"


class ValueIncrements(msgspec.Struct):
    """The increments of one property on one day, apart from the others because of the cap on
    distinct values."""

    values_key: str
    rest_bucket: int
    rest_field: str
    rest: int
    """Events whose value is `OTHER` itself."""
    expire_at_s: int
    counters: list[tuple[str, int, str, int]]
    """(value, bucket, field, increment)"""


class Increments(msgspec.Struct):
    """What a batch of events adds to the counters, summed: one entry a counter, however many
    events."""

    counters: dict[str, int]
    """Of event types, by key."""
    users: dict[int, dict[str, int]]
    """By bucket, then field."""
    values: list[ValueIncrements]
    hours: dict[tuple[str, str], int] = {}
    """Events by (event type, hour)."""

    def __len__(self) -> int:
        users = sum(map(len, self.users.values()))
        values = sum(len(group.counters) + bool(group.rest) for group in self.values)
        return len(self.counters) + users + values


def count(events: Iterable[Event], count_by: CountBy, keys: Keys, now: datetime) -> Increments:
    """Sum what `events` add to the counters, the values of the properties in `count_by` among them.
    `now` bounds the lifetime of the sets of distinct values of days long past."""
    hours: defaultdict[tuple[str, str], int] = defaultdict(int)
    users: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    values: dict[tuple[str, str, str], Counter[str]] = {}
    for event in events:
        hour = hour_text(event.timestamp)
        day = hour[:10]
        hours[event.event_type, hour] += 1
        if event.user_id is not None:
            users[event.user_id, event.event_type, day] += 1
        for name in count_by.get(event.event_type, ()):
            value = _value(event.properties, name)
            if value is not None:
                values.setdefault((event.event_type, name, day), Counter())[value] += 1

    counters: defaultdict[str, int] = defaultdict(int)
    for (event_type, hour), n in hours.items():
        hourly = keys.hourly(event_type, hour)
        counters[hourly] = n
        counters[hourly[:-3]] += n  # that of the day
    buckets: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for (user_id, event_type, day), n in users.items():
        user = escape(user_id)
        buckets[bucket_of(user)][f"{user}:{escape_again(event_type)}:{day}"] = n
    groups = [
        ValueIncrements(
            keys.values(event_type, name, _capped_with(day, now)),
            *value_field(event_type, name, OTHER, day),
            rest=found.pop(OTHER, 0),
            expire_at_s=_values_expire_at_s(day, now),
            counters=[(v, *value_field(event_type, name, v, day), n) for v, n in found.items()],
        )
        for (event_type, name, day), found in values.items()
    ]
    return Increments(counters, buckets, groups, hours)


def _value(properties: Mapping[str, Any] | None, name: str) -> str | None:
    """The text under which a property's value is counted: text as it is, everything else as its
    JSON (`true`, `12`, `{"a":1}`). None when the event does not have the property, or has null."""
    found = properties.get(name) if properties else None
    if found is None:
        return None
    text = found if isinstance(found, str) else msgspec.json.encode(found).decode()
    return text if len(text) <= MAX_VALUE_CHARACTERS and text.isprintable() else encode_value(text)


def encode_value(text: str) -> str:
    """The value as it is counted: cut and marked when it is too long, and with a mark in place of
    NUL, which neither a name in Redis nor text in Postgres may hold."""
    if len(text) > MAX_VALUE_CHARACTERS:
        text = text[:MAX_VALUE_CHARACTERS] + CUT_MARK
    return text.replace(_MARK, f"{_MARK}1").replace("\x00", f"{_MARK}0")


def decode_value(counted: str) -> str:
    """The value that is counted as this."""
    return counted.replace(f"{_MARK}0", "\x00").replace(f"{_MARK}1", _MARK)


def _capped_with(day: str, now: datetime) -> str:
    """The day, or what stands for all days long past: a client that names thousands of them must
    not fill Redis with a set for each."""
    is_recent = date.fromisoformat(day) > now.date() - _OWN_VALUES
    return day if is_recent else _LONG_PAST


def _values_expire_at_s(day: str, now: datetime) -> int:
    end_of_day = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() + 86_400
    return int(max(end_of_day, now.timestamp()) + VALUES_LIFETIME.total_seconds())
