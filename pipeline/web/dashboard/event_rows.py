"""Raw events as pages list them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.event.model import Event
from pipeline.web.dashboard.formats import format_time
from pipeline.web.dashboard.paths import EVENT_TYPE, USER
from pipeline.web.dashboard.state import PageState

_LONGEST = 300
"""Characters of properties that are shown before a viewer asks for all."""


@dataclass(frozen=True)
class EventRow:
    """An event: its time for people and for programs, and where its type and its user lead."""

    time: str
    moment: str
    event_type: str
    type_url: str
    user_id: str
    user_url: str
    properties: str
    """JSON, cut where it is long."""
    rest: str
    """All of it, where it was cut."""


def list_event_rows(events: Iterable[Event], state: PageState, now: datetime) -> list[EventRow]:
    """The rows, in this order; times are of the page's zone."""
    plain = state.change(event_type="", of_property="", value="", search="", sort="count")
    return [_make_row(event, plain, now) for event in events]


def _make_row(event: Event, state: PageState, now: datetime) -> EventRow:
    properties = ""
    if event.properties:
        properties = json.dumps(event.properties, ensure_ascii=False, separators=(", ", ": "))
    is_long = len(properties) > _LONGEST
    user_id = event.user_id or ""
    return EventRow(
        format_time(event.timestamp, state.tz, now),
        event.timestamp.astimezone(UTC).isoformat(),
        event.event_type,
        state.url(EVENT_TYPE, event_type=event.event_type),
        user_id,
        state.url(USER, {"user": user_id}) if user_id else "",
        f"{properties[:_LONGEST]}…" if is_long else properties,
        properties if is_long else "",
    )
