"""`encode_event` takes a short cut for usual events: it must end where the long way does."""

from __future__ import annotations

import enum
import json
import math
from collections import OrderedDict, UserDict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import InvalidEvent
from pipeline.event.model import FIELDS, Event, encode_event
from pipeline.producer.tracking.tracker import _encode_fields
from tests.helpers.support import NOW


class Text(str):
    __slots__ = ()


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def in_a_circle() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["a"] = value
    return value


texts = st.text(st.characters(), max_size=5) | st.sampled_from(
    ["page_view", "", "ä", "\x00", "\ud800", "\u00ad", "null", "\\", "x" * 201, "x" * 257]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.sampled_from(
        [2**63, 2**64, -(2**63) - 1, 10**400, Decimal("1.50"), UUID(int=7), date(2025, 3, 14)]
    )
    | st.sampled_from([b"bytes", Text("text"), Colour.RED, Level.HIGH, object(), 1j, msgspec.UNSET])
    | st.sampled_from([timedelta(seconds=1.5), NOW, Text("\x00"), "x" * 40_000])
)
names = texts | st.integers() | st.sampled_from([None, 1.5, math.nan, Text("t"), Colour.RED, (1,)])
values = st.recursive(
    scalars | st.sampled_from([nested(99), nested(100), nested(101), {1, 2}, in_a_circle()]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(names, inner, max_size=3)
    ),
    max_leaves=8,
)
properties = st.dictionaries(names, values, max_size=4)
timestamps = (
    st.datetimes()
    | st.datetimes(timezones=st.just(UTC))
    | st.datetimes(timezones=st.sampled_from([timezone(timedelta(hours=n)) for n in (-14, 14)]))
    | st.datetimes().map(lambda at: at.isoformat() + "+01:00")
    | st.integers(-(10**12), 10**12)
    | st.floats()
    | scalars
)
fields_of_events = st.fixed_dictionaries(
    {"event_type": texts | scalars},
    optional={
        "user_id": texts | scalars,
        "properties": properties | properties.map(OrderedDict) | properties.map(UserDict) | scalars,
        "timestamp": timestamps,
        "event_id": texts | scalars,
    },
)


def long_way(fields: Any) -> bytes:
    return msgspec.json.encode(Event.from_dict(fields, now=datetime.now(UTC)).to_dict())


def outcome(way: Callable[[Any], bytes], fields: Any) -> Any:
    """The fields that a worker reads, in order; or what the error says."""
    try:
        encoded = way(fields)
    except InvalidEvent as error:
        return error.field, repr(error.value), error.reason
    read = json.loads(encoded)
    event = Event.from_dict(read, now=datetime.now(UTC)).to_dict()
    if fields.get("timestamp") is None:
        assert abs(datetime.now(UTC) - datetime.fromisoformat(event.pop("timestamp"))) < A_WHILE
    return json.dumps(event, sort_keys=True)


A_WHILE = timedelta(minutes=2)


@given(fields_of_events)
@example({"event_type": "a", "properties": {"a": math.inf}})
@example({"event_type": "a", "properties": {"a": [{"b": math.nan}]}})
@example({"event_type": "a", "properties": {"a": "null", "b": None}})
@example({"event_type": "a", "properties": {"\x00": 1}})
@example({"event_type": "a", "properties": {1: "a", "1": "b"}})
@example({"event_type": "a", "properties": nested(100)})
@example({"event_type": "a", "properties": nested(101)})
@example({"event_type": "a", "properties": in_a_circle()})
@example({"event_type": "a", "properties": {"a": Text("\x00")}})
@example({"event_type": "a", "properties": {"a": "x" * 32_759}})
@example({"event_type": "a", "properties": {"a": "x" * 32_761}})
@example({"event_type": Colour.RED, "user_id": Text("u"), "event_id": Colour.RED})
@example({"event_type": "x" * 200, "user_id": "x" * 256, "event_id": "x" * 100})
@example({"event_type": "a", "event_id": "x" * 101})
@example({"event_type": "a", "timestamp": -62_135_596_800})
@example({"event_type": "a", "timestamp": datetime(9999, 12, 31, tzinfo=UTC)})
def test_the_short_cut_ends_where_the_long_way_does(fields: dict[str, Any]) -> None:
    assert outcome(lambda f: encode_event(**f), fields) == outcome(long_way, fields)


def test_a_usual_event_takes_the_short_cut() -> None:
    """Which shows in the form of its timestamp."""
    usual = encode_event("page_view", "u1", {"path": "/", "n": [1, 2.5, True]}, None, "e1")
    assert isinstance(json.loads(usual)["timestamp"], float)
    unusual = encode_event("page_view", "u1", {"path": None})
    assert isinstance(json.loads(unusual)["timestamp"], str)


@given(
    fields_of_events
    | st.dictionaries(st.sampled_from([*FIELDS, "userId"]) | names, scalars)
    | scalars
    | st.lists(scalars)
)
@example({})
@example({Text("event_type"): "a"})
@example(UserDict(event_type="a", user_id="u1"))
@example(UserDict(event_type="a", user_id=7))
@example({"event_type": "a", "timestamp": None, "user_id": None})
def test_fields_given_as_a_mapping_end_where_the_long_way_does(fields: Any) -> None:
    expected = outcome(long_way, fields)
    if isinstance(expected, tuple):
        field, value, reason = expected
        expected = f"events[7].{field}", value, reason
    assert outcome(lambda f: _encode_fields(f, 7), fields) == expected


@pytest.mark.parametrize(
    ("fields", "field", "value"),
    [
        ({"event_type": ""}, "event_type", ""),
        ({"event_type": "a", "user_id": 7.5}, "user_id", 7.5),
        ({"event_type": "a", "properties": [1]}, "properties", [1]),
        ({"event_type": "a", "properties": {"a": [math.inf]}}, "properties.a[0]", math.inf),
        ({"event_type": "a", "properties": {"a": nested(100)}}, "properties", "…"),
        ({"event_type": "a", "timestamp": "yesterday"}, "timestamp", "yesterday"),
        ({"event_type": "a", "event_id": True}, "event_id", True),
    ],
    ids=str,
)
def test_an_error_names_the_field_and_the_value(
    fields: dict[str, Any], field: str, value: object
) -> None:
    with pytest.raises(InvalidEvent) as caught:
        encode_event(**fields)
    assert (caught.value.field, caught.value.value) == (field, value)
