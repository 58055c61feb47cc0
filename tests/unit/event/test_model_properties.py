"""Events of every kind, made by Hypothesis."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import InvalidEvent
from pipeline.event.model import FIELDS, Event
from tests.helpers.support import NOW, json_values_of

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=20,
)
event_like = st.dictionaries(
    st.sampled_from(FIELDS) | st.text(), json_values
) | st.fixed_dictionaries(
    {"event_type": st.text(min_size=1)},
    optional={
        "user_id": json_values | st.text(min_size=1),
        "properties": json_values,
        "timestamp": json_values | st.datetimes().map(str) | st.integers(0, 2**31),
        "event_id": json_values,
    },
)

texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=100)
names = texts.map(lambda text: f"a{text}b"[:100])  # spaces at the ends are trimmed
values = json_values_of(texts)
valid_events = st.builds(
    Event.create,
    names,
    st.none() | names,
    st.none() | st.dictionaries(texts, values, max_size=5),
    st.none()
    | st.datetimes(max_value=(NOW + timedelta(hours=24)).replace(tzinfo=None)).map(
        lambda at: at.replace(tzinfo=UTC)
    ),
    st.none() | texts,
    now=st.just(NOW),
)


@given(valid_events)
@example(Event("a", datetime(1, 1, 1, tzinfo=UTC)))
def test_every_valid_event_survives_the_wire(event: Event) -> None:
    sent = json.dumps(event.to_dict())
    assert Event.from_dict(json.loads(sent), now=NOW + timedelta(days=1)) == event


@given(json_values | event_like)
@example({"event_type": "a", "timestamp": 10**400})
@example({"event_type": "a", "timestamp": "\ud800"})
@example({"event_type": "a", "\ud800": 1})
def test_any_json_is_an_event_or_an_invalid_event_and_nothing_else(value: Any) -> None:
    try:
        event = Event.from_dict(value, now=NOW)
    except InvalidEvent as error:
        str(error).encode()
    else:
        json.dumps(event.to_dict(), allow_nan=False).encode()
