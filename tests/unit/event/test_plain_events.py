"""A worker reads usual events straight from JSON: it must find in them what the long way finds."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import InvalidEvent
from pipeline.event.model import Event, WireFields, decode_plain
from tests.helpers.support import NOW

LATEST = NOW + timedelta(hours=24)
PROPERTIES = {"path": "/", "n": 3, "price": 9.5, "paid": True}
USUAL = {"event_type": "page_view", "timestamp": NOW.timestamp(), "user_id": "u1"}
TAGGED = {"__type__": "uuid", "__value__": {"hex": "12345678123456781234567812345678"}}
read_fields = msgspec.json.Decoder(WireFields, strict=False).decode


def nested(levels: int, name: str = "{}") -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value} if name == "{}" else [value]
    return value


def encode(value: object, *, ascii_only: bool = False) -> bytes:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only)
    return text.encode(errors="replace")


def read_long_way(fields: Any) -> Event | None:
    try:
        return Event.from_wire(fields, now=NOW)
    except InvalidEvent:
        return None


def read_many(encoded: bytes) -> list[Event] | None:
    try:
        return decode_plain(encoded, LATEST)
    except (ValueError, RecursionError):
        return None


def read_one(fields: dict[str, Any]) -> Event | None:
    others = {name: value for name, value in fields.items() if name != "event_type"}
    event_type = fields.get("event_type")
    try:
        read = read_fields(encode(others))
    except (ValueError, RecursionError):
        return None
    if not isinstance(event_type, str):
        return None
    return read.to_event(event_type, encode([[event_type], others])[:-1], LATEST)


def assert_same(found: Event, expected: Event | None) -> None:
    assert expected is not None
    # The two round halves of a microsecond differently.
    assert abs(found.timestamp - expected.timestamp) <= timedelta(microseconds=1)
    assert msgspec.structs.replace(found, timestamp=expected.timestamp) == expected


texts = st.text(max_size=4) | st.sampled_from(
    [
        *("page_view", "", " a", "a b", "a ", "ä", "\u00ad", "\u200b", "\x7f", "null", '"', "\\"),
        *("x" * 101, "x" * 201, "x" * 257, "}", "],{},{", "},{"),
    ]
)
numbers = st.integers() | st.floats(allow_nan=True) | st.sampled_from([10**400, 2**64, 1e308])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts | st.just(TAGGED),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=5,
)
moments = st.timedeltas(timedelta(days=-20_000), timedelta(days=5)).map(
    lambda ago: (NOW + ago).replace(tzinfo=None).isoformat()
)
timestamps = (
    st.floats(0, NOW.timestamp() + 90_000)
    | numbers
    | moments
    | moments.map(lambda at: f"{at}Z")
    | st.from_regex(r"[0-9]{4,14}", fullmatch=True)
    | values
)
usual = st.fixed_dictionaries(
    {"event_type": st.just("page_view"), "timestamp": st.just(NOW.timestamp())},
    optional={"user_id": st.sampled_from(["u1", "u 2"]), "properties": st.just(PROPERTIES)},
)
odd = st.fixed_dictionaries(
    {"event_type": texts, "timestamp": timestamps},
    optional={
        "user_id": texts | values,
        "properties": st.dictionaries(texts, values, max_size=3) | values,
        "event_id": texts | values,
        "source": texts | values,
        "other": values,
    },
)


def with_fields(**fields: Any) -> list[dict[str, Any]]:
    """Three events, the one in the middle with these fields."""
    return [{**USUAL, "properties": PROPERTIES}, {**USUAL, **fields}, {**USUAL, "user_id": "u2"}]


@given(st.lists(usual | odd, min_size=1, max_size=4), st.booleans())
@example(with_fields(timestamp="20250314"), False)
@example(with_fields(timestamp="2025-03-14T10:00:00"), False)
@example(with_fields(timestamp="2025-03-14T10:00:00+01:00"), False)
@example(with_fields(timestamp=LATEST.timestamp() + 1), False)
@example(with_fields(timestamp="null"), False)
@example(with_fields(user_id=""), False)
@example(with_fields(user_id=" u1"), False)
@example(with_fields(user_id="u\u200b1"), False)
@example(with_fields(user_id="u\x7f1"), False)
@example(with_fields(user_id="x" * 257), False)
@example(with_fields(event_type="x" * 201), False)
@example(with_fields(event_id="x" * 101), False)
@example(with_fields(source="x" * 101), False)
@example(with_fields(source=" "), False)
@example(with_fields(properties="null"), False)
@example(with_fields(properties=None), False)
@example(with_fields(properties=[]), False)
@example(with_fields(properties={"id": TAGGED}), False)
@example([{**USUAL, "properties": {"id": TAGGED}}], False)
@example([{**USUAL, "properties": {"id": TAGGED}}, USUAL, USUAL, USUAL], False)
@example(with_fields(properties={"a": nested(99)}), False)
@example(with_fields(properties={"a": nested(100)}), False)
@example(with_fields(properties={"a": nested(100, "[]")}), False)
@example([*with_fields(properties={"a": nested(100)}), *[USUAL] * 100], False)
@example(with_fields(properties={"a": "x" * 32_761}), False)
@example(with_fields(properties={"a": "x" * 32_761, "b": [1]}), False)
@example(with_fields(properties={"a": ["},{"] * 8_000}), False)
@example(with_fields(properties={"a": "\x00"}), False)
@example(with_fields(other=1), False)
@example(with_fields(properties={"a": "\x00\ud800", "b": '"}{'}), True)
def test_a_quick_look_finds_what_the_long_way_finds(
    fields: list[dict[str, Any]], ascii_only: bool
) -> None:
    encoded = encode(fields, ascii_only=ascii_only)
    read = json.loads(encoded)
    found = read_many(encoded)
    for event, one in zip(found or (), read, strict=found is not None):
        assert_same(event, read_long_way(one))
    for one in read:
        event = read_one(one)
        if event is not None:
            assert_same(event, read_long_way(one))


@pytest.mark.parametrize("how_many", [1, 3, 1_000])
@pytest.mark.parametrize(
    "properties",
    [None, PROPERTIES, {}, {"a": "ä ]}"}, {"a": [1, {"b": 2}]}, {"a": "x" * 20_000}],
    ids=["none", "flat", "empty", "braces", "nested", "long"],
)
def test_usual_events_need_no_closer_look(how_many: int, properties: dict[str, Any] | None) -> None:
    other = {"event_type": "sign up", "timestamp": "2025-03-14T10:00:00Z", "event_id": "e"}
    fields: list[dict[str, Any]] = [{**USUAL, **other} for _ in range(how_many)]
    if properties is not None:
        fields[-1]["properties"] = properties
    assert read_many(encode(fields)) == [Event.from_wire(one, now=NOW) for one in fields]
    assert read_one(fields[-1]) == Event.from_wire(fields[-1], now=NOW)


def test_a_text_is_no_absence_of_properties() -> None:
    encoded = encode(with_fields(properties="null"))
    assert read_many(encoded) is None
    assert read_many(encoded.replace(b'"null"', rb'"nul\u006c"')) is None


def test_a_list_of_no_events_needs_a_closer_look() -> None:
    assert decode_plain(b"[]", LATEST) is None


def test_a_number_of_any_size_is_read_fast_enough() -> None:
    """A large list goes by way of Python's own floats, and finds the same in them."""
    properties = {"numbers": [1e308, 2.5, 1e-300] * 40}
    fields = [{**USUAL, "properties": properties} for _ in range(600)]
    found = read_many(encode(fields))
    assert found is not None
    assert found[-1].properties == properties
    assert found[-1].timestamp == datetime.fromtimestamp(NOW.timestamp(), UTC)
