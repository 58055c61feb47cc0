"""Every field rule of the wire contract, at its boundaries."""

from __future__ import annotations

import collections
import enum
import json
import math
import types
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipeline.contract import MAX_PROPERTIES_BYTES, MAX_PROPERTIES_DEPTH
from pipeline.errors import InvalidEvent, PipelineError
from pipeline.event.model import Event
from tests.helpers.support import NOW


def create(event_type: object = "page_view", **fields: object) -> Event:
    return Event.create(event_type, now=NOW, **fields)


def refused(field: str, event_type: object = "page_view", **fields: object) -> InvalidEvent:
    with pytest.raises(InvalidEvent) as caught:
        create(event_type, **fields)
    assert caught.value.field.split(".")[0].split("[")[0] == field
    assert field in str(caught.value)
    return caught.value


def nested(levels: int, innermost: object = 1) -> dict[str, Any]:
    """Properties with so many levels of objects, the properties themselves being the first."""
    value: Any = {"innermost": innermost}
    for _ in range(levels - 1):
        value = {"a": value}
    return value  # type: ignore[no-any-return]


def of_size(size_bytes: int) -> dict[str, str]:
    return {"a": "x" * (size_bytes - len(b'{"a":""}'))}


class Kind(str, enum.Enum):  # noqa: UP042 - the form that Django's choices have
    VIEW = "page_view"


class Safe(str):
    """As templates mark text."""


class NoOffset(tzinfo):
    """A time zone that does not know its offset: such a time is naive."""

    def utcoffset(self, _: datetime | None) -> None:
        return None


# All fields


def test_an_event_with_a_type_alone_is_stamped_with_the_clock() -> None:
    assert create() == Event("page_view", NOW)


def test_an_event_keeps_all_its_fields() -> None:
    event = create(user_id="u1", properties={"path": "/"}, timestamp=NOW, event_id="e1")
    assert event == Event("page_view", NOW, "u1", {"path": "/"}, "e1")


def test_the_error_names_the_field_the_value_and_the_rule() -> None:
    error = refused("event_type", "")
    assert isinstance(error, ValueError)
    assert isinstance(error, PipelineError)
    assert str(error) == "event_type: must have 1 to 200 characters; this has 0 (got '')"


@pytest.mark.parametrize(
    "value",
    [[0] * 10_000, "\ud800" * 1_000, 10**5_000, nested(3_000), float("nan")],
    ids=["long", "surrogates", "thousands of digits", "nested beyond measure", "nan"],
)
def test_an_error_can_show_any_value(value: object) -> None:
    message = str(refused("event_type", value))
    assert len(message) < 250
    assert message.encode()


def test_an_error_can_show_any_field_name() -> None:
    name = "\ud800\x00" + "long" * 1_000
    with pytest.raises(InvalidEvent) as caught:
        Event.from_dict({"event_type": "a", name: 1}, now=NOW)
    assert caught.value.field == name
    message = str(caught.value)
    assert message.startswith("\\ud800\\x00longlong")
    assert len(message.encode()) < 250


# event_type, user_id, event_id

TEXT_FIELDS = [("event_type", 200), ("user_id", 256), ("event_id", 100)]


@pytest.mark.parametrize(("field", "longest"), TEXT_FIELDS)
@pytest.mark.parametrize("character", ["x", "ß", "語", "🎉"])
def test_a_text_may_be_as_long_as_the_contract_says_and_no_longer(
    field: str, longest: int, character: str
) -> None:
    text = character * longest
    event = create(**{"event_type": "a", field: text})
    assert getattr(event, field) == text
    error = refused(field, **{"event_type": "a", field: text + character})
    assert f"this has {longest + 1}" in error.reason


@pytest.mark.parametrize("field", ["event_type", "user_id", "event_id"])
@pytest.mark.parametrize(
    "value",
    [1.5, 2.0, True, Decimal(1), b"bytes", ["a"], {"a": 1}, date(2025, 1, 1), ""],
    ids=ascii,
)
def test_a_name_or_an_id_is_no_fraction_no_boolean_and_no_container(
    field: str, value: object
) -> None:
    refused(field, **{"event_type": "a", field: value})


@pytest.mark.parametrize(
    "text",
    ["a b", "a:b", "100%", "{a}", "\N{PARTY POPPER}", "\u0645\u200f", "\xa0", "__other__"],
)
def test_all_other_text_is_allowed_as_it_is(text: str) -> None:
    event = create(text, user_id=text, event_id=text)
    assert (event.event_type, event.user_id, event.event_id) == (text, text, text)


def test_a_missing_or_empty_type_is_refused() -> None:
    refused("event_type", None)
    with pytest.raises(InvalidEvent, match="is required"):
        Event.from_dict({"user_id": "u1"}, now=NOW)


def test_a_member_of_an_enumeration_counts_under_its_value() -> None:
    event = create(Kind.VIEW, user_id=Kind.VIEW, properties={"kind": Kind.VIEW, Kind.VIEW: 1})
    assert f"{event.event_type} {event.user_id}" == "page_view page_view"
    assert event.properties == {"kind": "page_view", "page_view": 1}


# properties


def test_properties_may_take_32_kib_and_no_more() -> None:
    assert create(properties=of_size(MAX_PROPERTIES_BYTES)).properties
    error = refused("properties", properties=of_size(MAX_PROPERTIES_BYTES + 1))
    assert "takes 32769 bytes as JSON; at most 32768" in error.reason


def test_the_size_of_properties_is_that_of_their_utf_8() -> None:
    refused("properties", properties={"a": "語" * (MAX_PROPERTIES_BYTES // 3)})


@pytest.mark.parametrize("value", ["text", b"bytes", 1, True, [["a", 1]], ("a",), [{}]], ids=ascii)
def test_properties_are_an_object(value: object) -> None:
    refused("properties", properties=value)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({}, {}),
        ({"a": None, "b": [None]}, {"a": None, "b": [None]}),
        ({"a": "null", "b": "\\u0000"}, {"a": "null", "b": "\\u0000"}),
        ({"a": 2**70, "b": -(2**70), "c": 1e308}, {"a": 2**70, "b": -(2**70), "c": 1e308}),
        ({1: "a", 2.5: "b"}, {"1": "a", "2.5": "b"}),
        ({"a": {"b": [1, "c", {"d": True}]}}, {"a": {"b": [1, "c", {"d": True}]}}),
        ({"a": (1, 2)}, {"a": [1, 2]}),
        ({"day": date(2025, 1, 2)}, {"day": "2025-01-02"}),
        ({"a": Safe("b"), Safe("c"): [Safe("d")]}, {"a": "b", "c": ["d"]}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (collections.ChainMap({"a": {"b": 1}}), {"a": {"b": 1}}),
    ],
    ids=ascii,
)
def test_properties_hold_whatever_json_can(value: Any, kept: dict[str, Any]) -> None:
    event = create(properties=value)
    assert json.loads(json.dumps(event.to_dict()))["properties"] == kept


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"a": math.nan}, "properties.a"),
        ({"a": math.inf}, "properties.a"),
        ({"a": [1, {"b": -math.inf}]}, "properties.a[1].b"),
        ({"a": (math.nan,)}, "properties.a[0]"),
        ({"a": 1j}, "properties"),
        ({(1, 2): 1}, "properties"),
    ],
    ids=ascii,
)
def test_properties_hold_nothing_that_json_or_postgres_cannot(value: Any, field: str) -> None:
    error = refused("properties", properties=value)
    assert error.field == field


def test_properties_may_be_nested_100_levels_deep_and_no_deeper() -> None:
    assert create(properties=nested(MAX_PROPERTIES_DEPTH)).properties
    refused("properties", properties=nested(MAX_PROPERTIES_DEPTH + 1))
    refused("properties", properties={"a": nested(MAX_PROPERTIES_DEPTH, innermost=[])})


@pytest.mark.parametrize("levels", [900, 990, 1_000, 3_000, 30_000])
def test_nesting_beyond_any_measure_is_refused_like_any_other(levels: int) -> None:
    error = refused("properties", properties=nested(levels, innermost=None))
    assert error.reason == "is nested more than 100 levels deep; flatten it"


def test_properties_that_contain_themselves_are_refused() -> None:
    value: dict[str, Any] = {}
    value["self"] = value
    refused("properties", properties=value)


def test_a_change_to_the_callers_properties_does_not_reach_the_event() -> None:
    properties: dict[str, Any] = {"a": 1}
    event = create(properties=properties)
    properties["a"] = math.nan
    assert event.properties == {"a": 1}


# timestamp


@pytest.mark.parametrize(
    "value",
    [
        NOW,
        NOW.astimezone(timezone(timedelta(hours=-9, minutes=-30))),
        "2025-03-14T15:09:26Z",
        "2025-03-14 15:09:26+00:00",
        "2025-03-14T16:09:26+01:00",
        "20250314T150926Z",
        "2025-W11-5T15:09:26Z",
        "2025-03-14 15:09:26 +0000 UTC",
        "2025-03-14 08:09:26 -0700",
        "2025-03-14T15:09:26.0000000z",
        "Fri, 14 Mar 2025 15:09:26 GMT",
        1741964966,
        1741964966.0,
        1741964966_000,
        "1741964966000000",
        Decimal(1741964966),
    ],
    ids=str,
)
def test_one_moment_may_be_written_in_many_ways(value: object) -> None:
    at = create(timestamp=value).timestamp
    assert at == NOW
    assert at.tzinfo is UTC


@pytest.mark.parametrize("value", ["2025-03-14T15:09:26.123456Z", 1741964966.123456])
def test_fractions_of_a_second_are_kept(value: object) -> None:
    assert create(timestamp=value).timestamp == NOW.replace(microsecond=123456)


@pytest.mark.parametrize(
    "value",
    [
        NOW.replace(tzinfo=None),
        NOW.replace(tzinfo=NoOffset()),
        "2025-03-14T15:09:26",
        "2025-03-14",
    ],
    ids=str,
)
def test_a_time_without_a_zone_is_refused(value: object) -> None:
    assert "has no time zone" in refused("timestamp", timestamp=value).reason


@pytest.mark.parametrize(
    "value",
    [
        *["", "yesterday", "2025-13-01T00:00:00Z", "2025-03-14T25:00:00Z", "\ud800", "\x00"],
        *[True, [], {}, b"2025-03-14T15:09:26Z", date(2025, 3, 14), timedelta(1)],
    ],
    ids=ascii,
)
def test_what_is_no_time_is_refused(value: object) -> None:
    refused("timestamp", timestamp=value)


@pytest.mark.parametrize("value", [-(10**20), 10**400, 1e300, math.inf, math.nan], ids=ascii)
def test_a_number_that_is_no_unix_time_is_refused(value: object) -> None:
    assert "milliseconds" in refused("timestamp", timestamp=value).reason


def test_an_event_may_lie_24_hours_ahead_and_no_further() -> None:
    tomorrow = NOW + timedelta(hours=24)
    assert create(timestamp=tomorrow).timestamp == tomorrow
    error = refused("timestamp", timestamp=tomorrow + timedelta(microseconds=1))
    assert "24 hours ahead" in error.reason


@pytest.mark.parametrize(
    "value", ["0001-01-01T00:00:00Z", -62135596800, datetime(1, 1, 1, tzinfo=UTC)], ids=str
)
def test_an_event_may_be_of_any_age(value: object) -> None:
    assert create(timestamp=value).timestamp == datetime(1, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("value", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_time_outside_the_years_1_to_9999_in_utc_is_refused(value: str) -> None:
    assert "years 1 to 9999" in refused("timestamp", timestamp=value).reason


def test_the_year_9999_is_too_far_ahead_except_for_those_who_live_then() -> None:
    end = datetime.max.replace(tzinfo=UTC)
    refused("timestamp", timestamp=end)
    assert Event.create("a", timestamp=end, now=end).to_dict()["timestamp"].startswith("9999-12-31")


# Mappings


def test_an_event_is_read_back_from_its_mapping() -> None:
    fields = {"event_type": "a", "user_id": "u", "properties": {"p": [1]}, "event_id": "e"}
    event = Event.from_dict(fields, now=NOW)
    assert event.to_dict() == fields | {"timestamp": "2025-03-14T15:09:26Z"}


@pytest.mark.parametrize("value", [None, "text", 1, [], [["event_type", "a"]]], ids=ascii)
def test_what_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(InvalidEvent, match="must be an object"):
        Event.from_dict(value, now=NOW)


@pytest.mark.parametrize("name", ["userId", "now", "type", "", 1, None])
def test_an_unknown_field_is_refused_by_its_name(name: object) -> None:
    with pytest.raises(InvalidEvent, match="unknown field; use event_type, user_id") as caught:
        Event.from_dict({"event_type": "a", name: "u"}, now=NOW)
    assert caught.value.field == str(name)


def test_absent_fields_and_null_are_the_same() -> None:
    nulls = {"user_id": None, "properties": None, "timestamp": None, "event_id": None}
    assert Event.from_dict({"event_type": "a", **nulls}, now=NOW) == create("a")


def test_an_event_encodes_to_json_that_only_holds_what_it_has() -> None:
    assert msgspec.json.decode(msgspec.json.encode(create("a"))) == {
        "event_type": "a",
        "timestamp": "2025-03-14T15:09:26Z",
    }
