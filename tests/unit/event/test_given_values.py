"""What programs give for names, ids and values, and what is counted of it."""

from __future__ import annotations

import collections
import dataclasses
import enum
import json
from collections import UserString
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy
import pytest
import wrapt
from kombu.utils.json import dumps
from werkzeug.local import LocalProxy

from pipeline.errors import InvalidEvent
from pipeline.event.model import Event, encode_event
from tests.helpers.support import NOW


def create(event_type: object = "page_view", **fields: object) -> Event:
    return Event.create(event_type, now=NOW, **fields)


def refused(field: str, event_type: object = "page_view", **fields: object) -> InvalidEvent:
    with pytest.raises(InvalidEvent) as caught:
        create(event_type, **fields)
    assert caught.value.field == field
    return caught.value


class Kind(enum.StrEnum):
    VIEW = "page_view"


class Number(enum.IntEnum):
    ONE = 1


class Name(enum.Enum):
    U1 = "u1"


@dataclasses.dataclass
class Point:
    x: int
    y: Decimal


class Serialised:
    """What says itself what it is in JSON, as stock Celery's serialiser asks."""

    def __json__(self) -> dict[str, str]:
        return {"is": "json"}


class Lazy:
    """A translation made when it is shown, which passes on all that text can do."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._text, name)


# Names and ids


@pytest.mark.parametrize(
    ("given", "clean"),
    [
        ("a\x00b", "ab"),
        ("\x00page_view\x1f", "page_view"),
        ("Order\nCompleted", "Order Completed"),
        ("a\t\r\n b", "a  b"),
        ("  Signed Up ", "Signed Up"),
        ("a\x7f\x80\x9fb", "ab"),
        ("a\ud800b", "a\ufffdb"),
        ("\ud83d\ude00", "\N{GRINNING FACE}"),
        ("\xa0a\u2028", "\xa0a\u2028"),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("field", ["event_type", "user_id"])
def test_names_are_trimmed_and_cleaned(field: str, given: str, clean: str) -> None:
    event = create(**{"event_type": "a", field: given})
    assert getattr(event, field) == clean


@pytest.mark.parametrize("blank", ["", " ", "\x00", "\n\t ", "\x7f"], ids=ascii)
@pytest.mark.parametrize("field", ["event_type", "user_id"])
def test_a_name_of_which_nothing_is_left_is_refused(field: str, blank: str) -> None:
    assert "this has 0" in refused(field, **{"event_type": "a", field: blank}).reason


@pytest.mark.parametrize(
    ("given", "kept"),
    [("\n", "\n"), (" a ", " a "), ("\x7f", "\x7f"), ("a\x00", "a\ufffd"), ("\ud800", "\ufffd")],
    ids=ascii,
)
def test_an_event_id_stays_as_it_is_but_for_what_postgres_cannot_hold(
    given: str, kept: str
) -> None:
    assert create(event_id=given).event_id == kept


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (42, "42"),
        (0, "0"),
        (-7, "-7"),
        (2**70, str(2**70)),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (numpy.int64(5), "5"),
        (wrapt.ObjectProxy(42), "42"),
        (Number.ONE, "1"),
    ],
)
@pytest.mark.parametrize("field", ["user_id", "event_id"])
def test_a_whole_number_or_a_uuid_is_an_id_as_text(field: str, given: object, text: str) -> None:
    assert getattr(create(**{field: given}), field) == text


@pytest.mark.parametrize("given", [10**5_000, numpy.float64(1), numpy.bool_(True)], ids=type)
def test_a_number_that_is_no_id_is_refused(given: object) -> None:
    refused("user_id", user_id=given)


@pytest.mark.parametrize(
    "lazy",
    [wrapt.ObjectProxy("u1"), LocalProxy(lambda: "u1"), UserString("u1"), Lazy("u1"), Name.U1],
    ids=lambda lazy: type(lazy).__name__,
)
def test_a_lazy_text_counts_as_what_it_stands_for(lazy: Any) -> None:
    event = create(lazy, user_id=lazy, event_id=lazy, properties={"a": lazy, "b": [lazy]})
    texts = [event.event_type, event.user_id, event.event_id, *(event.properties or {}).values()]
    assert texts == ["u1", "u1", "u1", "u1", ["u1"]]
    assert {type(text) for text in texts} == {str, list}


def test_a_lazy_object_that_is_no_text_is_refused_by_name() -> None:
    assert "must be text" in refused("user_id", user_id=wrapt.ObjectProxy(object())).reason
    assert "must be text" in refused("event_type", wrapt.ObjectProxy(5)).reason


# Values


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([], {}),
        ((), {}),
        ({"a": "x\x00y\x1f\n"}, {"a": "x\x00y\x1f\n"}),
        ({"a": {"b": ["x\x00"]}}, {"a": {"b": ["x\x00"]}}),
        ({"a\x00": 1, " b\n": {"\x1fc\td ": 2}}, {"a": 1, "b": {"c d": 2}}),
        ({"a\x00": 1, "a": 2}, {"a": 2}),
        ({None: 1, "a": [{True: 2}]}, {"null": 1, "a": [{"true": 2}]}),
        ({"a": wrapt.ObjectProxy(None), "b": wrapt.ObjectProxy([1])}, {"a": None, "b": [1]}),
        ({" a ": 1}, {" a ": 1}),
        ({"a": "\ud800b", "\udfff": "\ud83d\ude00"}, {"a": "\ufffdb", "\ufffd": "\U0001f600"}),
        ({"day": date(2025, 1, 2), "at": time(1, 2)}, {"day": "2025-01-02", "at": "01:02:00"}),
        ({"at": datetime(2025, 1, 2, tzinfo=UTC)}, {"at": "2025-01-02T00:00:00Z"}),
        ({"a": UUID(int=1), "b": Decimal("1.10")}, {"a": str(UUID(int=1)), "b": "1.10"}),
        ({"a": Number.ONE, "b": Name.U1, "c": Kind.VIEW}, {"a": 1, "b": "u1", "c": "page_view"}),
        ({"a": Point(1, Decimal("2.5"))}, {"a": {"x": 1, "y": "2.5"}}),
        ({"a": {1}, "b": collections.deque([2])}, {"a": [1], "b": [2]}),
        ({"a": numpy.int64(1), "b": numpy.array([1.5])}, {"a": 1, "b": [1.5]}),
        ({"a": wrapt.ObjectProxy(5), "b": Serialised()}, {"a": 5, "b": {"is": "json"}}),
    ],
)
def test_values_are_kept_exactly_and_as_plain_json(given: Any, kept: dict[str, Any]) -> None:
    assert create(properties=given).properties == kept
    assert json.loads(encode_event("a", properties=given)).get("properties") == kept


def test_a_value_without_a_form_in_json_is_refused_by_its_type() -> None:
    assert "complex has no form in JSON" in refused("properties", properties={"a": 1j}).reason
    assert "object has no form" in refused("properties", properties={"a": [object()]}).reason


def test_what_a_stock_celery_client_sends_is_read_without_its_tags() -> None:
    at = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
    values = {"id": UUID(int=1), "price": Decimal("9.90"), "days": [date(2025, 1, 2)], "at": at}
    fields = {"event_type": "sale", "properties": values, "timestamp": at, "user_id": UUID(int=2)}
    event = Event.from_wire(json.loads(dumps({**fields, "event_id": UUID(int=3)})), now=NOW)
    assert (event.timestamp, event.user_id) == (at, str(UUID(int=2)))
    assert event.event_id == str(UUID(int=3))
    assert event.properties == {
        "id": str(UUID(int=1)),
        "price": "9.90",
        "days": ["2025-01-02"],
        "at": "2025-01-02T03:04:05+00:00",
    }
    assert json.loads(encode_event("a", properties=json.loads(dumps(values))))["properties"] == (
        event.properties
    )
