"""The source of an event's id, which a message names and a client does not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from pipeline.errors import InvalidEvent
from pipeline.event.model import Event, WireEvent, encode_event
from tasks.consumer.arguments import read_event, read_events
from tests.helpers.support import NOW


def from_wire(**fields: Any) -> Event:
    return Event.from_wire({"event_type": "a", "event_id": "e", **fields}, now=NOW)


@pytest.mark.parametrize("source", ["page", "x" * 100, "ä b", None, ""])
def test_a_source_is_read_from_a_message_and_written_to_one(source: str | None) -> None:
    event = from_wire(source=source)
    assert event.source == (source or "")
    assert Event.from_wire(event.to_wire(), now=NOW) == event
    assert "source" not in event.to_dict()
    assert ("source" in event.to_wire()) == bool(source)


@pytest.mark.parametrize("source", [7, ["a"], "x" * 101, "a\nb", "\x00", "\ud800", True], ids=ascii)
def test_a_source_that_breaks_the_rule_is_refused(source: object) -> None:
    with pytest.raises(InvalidEvent, match="at most 100 printable characters") as caught:
        from_wire(source=source)
    assert caught.value.field == "source"
    encoded = msgspec.json.encode({"event_type": "a", "source": "a\tb"})
    wire = msgspec.json.decode(encoded, type=WireEvent)
    assert wire.to_event(NOW, NOW + timedelta(days=1)) is None, "needs a closer look"


def test_what_a_worker_decodes_has_the_source_too() -> None:
    encoded = msgspec.json.encode(from_wire(source="page").to_wire())
    wire = msgspec.json.decode(encoded, type=WireEvent)
    assert wire.to_event(NOW, NOW + timedelta(days=1)) == from_wire(source="page")


@pytest.mark.parametrize("path", ["/", None], ids=["short cut", "long way"])
def test_the_collector_encodes_the_source(path: str | None) -> None:
    encoded = encode_event("a", "u", {"path": path}, None, "e", "page")
    assert Event.from_wire(json.loads(encoded), now=datetime.now(UTC)).source == "page"
    assert b"source" not in encode_event("a", "u", {"path": path}, None, "e")


@pytest.mark.parametrize("timestamp", ["2025-03-14T15:00:00Z", "2025-03-14T15:00:00+01:00"])
def test_a_worker_reads_the_source_of_usual_and_of_unusual_events(timestamp: str) -> None:
    items = [{"event_type": "a", "source": source, "timestamp": timestamp} for source in ("", "p")]
    assert [one.source for one in read_events([items], {}, None, NOW).events] == ["", "p"]
    [one] = read_event(["a"], {"source": "p", "timestamp": timestamp}, None, NOW).events
    assert one.source == "p"


def test_a_client_names_no_source() -> None:
    with pytest.raises(InvalidEvent, match="unknown field; use event_type, user_id"):
        Event.from_dict({"event_type": "a", "source": ""}, now=NOW)
    with pytest.raises(InvalidEvent, match="unknown field"):
        from_wire(source="page", colour="red")
