"""From events to increments: which counters an event adds to. Pure; no server, no clock.

An event counts its type per day and per quarter hour, its user per day, for each property named in
`count_by` the property's value per day, and for each in `sums` what `sums.py` says.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Any

import msgspec

from pipeline.counting.sums import PropertySums
from pipeline.days import UTC, quarter_text
from pipeline.event.model import Event
from pipeline.options import NO_SUMS, TOGETHER, CountBy, Sums, split_name
from pipeline.redis.keys import QUARTERS, Keys, bucket_of, escape, escape_again, value_field

MAX_VALUE_CHARACTERS = 200
CUT_MARK = "…"
_ESCAPED_PLUS = str.maketrans({"\\": r"\\", TOGETHER: rf"\{TOGETHER}"})
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
    sums: dict[str, list[tuple[str, str, int]]] = {}
    """Value -> sums of the events with it: (field, that of the rest, increment)"""


class Increments(msgspec.Struct):
    """What a batch of events adds to the counters, summed: one entry a counter, however many
    events."""

    counters: dict[str, int]
    """Of event types, by key."""
    fields: dict[int, dict[str, int]]
    """Of users, quarter hours, sums and sizes: by bucket, then field."""
    values: list[ValueIncrements]
    hours: dict[tuple[str, str], int] = {}
    """Events by (event type, hour)."""

    def __len__(self) -> int:
        fields = sum(map(len, self.fields.values()))
        values = sum(len(group.counters) + bool(group.rest) for group in self.values)
        return len(self.counters) + fields + values


def count(
    events: Iterable[Event], count_by: CountBy, keys: Keys, now: datetime, sums: Sums = NO_SUMS
) -> Increments:
    """Sum what `events` add to the counters, of values (`count_by`) and numbers (`sums`) too.
    `now` bounds the lifetime of the sets of distinct values of days long past."""
    quarters: defaultdict[tuple[str, str], int] = defaultdict(int)
    measured = PropertySums(sums)
    users: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    values: dict[tuple[str, str, str], Counter[str]] = {}
    for event in events:
        quarter = quarter_text(event.timestamp)
        day = quarter[:10]
        quarters[event.event_type, quarter] += 1
        numbers = measured.add(event, quarter) if event.event_type in sums else None
        if event.user_id is not None:
            users[event.user_id, event.event_type, day] += 1
        for name in count_by.get(event.event_type, ()):
            value = _value(event.properties, name)
            if value is not None:
                values.setdefault((event.event_type, name, day), Counter())[value] += 1
                if numbers:
                    measured.add_by_value(numbers, (event.event_type, name, day), value)

    days: defaultdict[str, int] = defaultdict(int)
    hours: defaultdict[tuple[str, str], int] = defaultdict(int)
    buckets: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for (event_type, quarter), n in quarters.items():
        days[keys.daily(event_type, quarter[:10])] += n
        hours[event_type, quarter[:13]] += n
        buckets[QUARTERS][f"quarter:{escape_again(event_type)}:{quarter}"] = n
    buckets |= measured.list_buckets()
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
            sums=measured.list_by_value(event_type, name, day, OTHER) if measured.of_values else {},
        )
        for (event_type, name, day), found in values.items()
    ]
    return Increments(days, buckets, groups, hours)


def _value(properties: Mapping[str, Any] | None, name: str) -> str | None:
    """The text under which a property's value is counted: text as it is, everything else as its
    JSON (`true`, `12`, `{"a":1}`). None when the event does not have the property, or has null."""
    found = properties.get(name) if properties else None
    if found is None:
        return _join_values(properties, name) if properties and TOGETHER in name else None
    text = found if isinstance(found, str) else msgspec.json.encode(found).decode()
    return text if len(text) <= MAX_VALUE_CHARACTERS and text.isprintable() else encode_value(text)


def _join_values(properties: Mapping[str, Any], name: str) -> str | None:
    """The value of properties that are counted together: theirs, joined as their names are. None
    where one is missing."""
    texts: list[str] = []
    for found in map(properties.get, split_name(name)):
        if found is None:
            return None
        text = found if isinstance(found, str) else msgspec.json.encode(found).decode()
        texts.append(text.translate(_ESCAPED_PLUS))
    return encode_value(TOGETHER.join(texts))


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
