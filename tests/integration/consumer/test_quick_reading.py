"""What our producers send has the form that a worker reads in one go. (In any other form it is read
as well, in twice the time.)"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from celery import Celery

from pipeline.contract import EVENTS_QUEUE, TRACK_EVENT, TRACK_EVENTS
from pipeline.event.model import Event, decode_plain, encode_event
from pipeline.producer.publisher import Envelope
from tasks.consumer import messages
from tests.helpers.support import NOW

LATEST = datetime.now(UTC) + timedelta(hours=1)


def body_of(raw: bytes) -> bytes:
    return messages._read_usual_message(raw).body


def test_a_message_of_many_events_is_read_in_one_go() -> None:
    envelope = Envelope(Celery(set_as_current=False), TRACK_EVENTS, EVENTS_QUEUE)
    events = [encode_event("page_view", "u1", {"path": "/"}), encode_event("sale", None)]
    body = body_of(envelope.message_of_events("id", "analytics/x/1", events))
    before, after = messages._BEFORE_MANY, messages._AFTER_MANY
    assert body.startswith(before)
    assert body.endswith(after)
    assert decode_plain(body[len(before) : -len(after)], LATEST) is not None


def test_a_message_of_one_event_is_read_in_one_go() -> None:
    envelope = Envelope(Celery(set_as_current=False), TRACK_EVENT, EVENTS_QUEUE)
    event = Event("page_view", NOW, "u1", {"path": "/"}, "e1")
    fields = event.to_dict()
    args = (fields.pop("event_type"),)
    body = body_of(envelope.message("id", "analytics/x/1", args, fields, "…"))
    _, read, _ = messages._read_plain_one(body)
    assert body.endswith(messages._AFTER_ONE)
    assert read.to_event("page_view", body.removesuffix(messages._AFTER_ONE), LATEST) == event
    assert msgspec.structs.asdict(read)["properties"] == {"path": "/"}
