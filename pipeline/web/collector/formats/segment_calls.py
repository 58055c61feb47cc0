"""The calls of Segment's HTTP tracking API, and the event that each of them is. Pure.

| call       | event type     | properties                            | user            |
| ---------- | -------------- | ------------------------------------- | --------------- |
| `track`    | its `event`    | `properties`, `path`                  | `userId`, else  |
| `page`     | `page_view`    | `properties`, `name`, `category`, `path` | `anonymousId`   |
| `screen`   | `screen_view`  | `properties`, `name`, `category`      |                 |
| `identify` | `identify`     | `traits`                              |                 |
| `group`    | `group`        | `traits`, `group_id`                  |                 |
| `alias`    | `alias`        | `previous_id`                         |                 |

`path` is `context.page.path`. What properties hold already stays as it is. `messageId` is the
event id, and `context.userAgent` says whether a bot did it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from pipeline.errors import InvalidEvent
from pipeline.web.collector.formats.event_encoder import EventEncoder, convert_to_utc

CALLS = ("track", "page", "screen", "identify", "group", "alias")
_WITH_TRAITS = frozenset({"identify", "group", "alias"})
_EVENT_TYPES = {"page": "page_view", "screen": "screen_view"}
_LONGEST_PATH = 1_000

Id = str | int | float | None
Time = float | datetime | None


class Context(msgspec.Struct, rename="camel", gc=False):
    """What a call says about the page and the visitor."""

    user_agent: Any = None
    page: Any = None
    traits: Any = None


class Call(msgspec.Struct, rename="camel", gc=False):
    """One call; only one that comes alone has `write_key` and `sent_at`."""

    type: str | None = None
    event: str | None = None
    message_id: Id = None
    user_id: Id = None
    anonymous_id: Id = None
    previous_id: Id = None
    group_id: Id = None
    name: str | None = None
    category: str | None = None
    properties: dict[str, Any] | None = None
    traits: dict[str, Any] | None = None
    context: Context | None = None
    timestamp: Time = None
    original_timestamp: Time = None
    """RudderStack's name for `timestamp`."""
    sent_at: Time = None
    write_key: str | None = None


_NO_CONTEXT = Context()


def measure_clock_error(sent_at: Time, encoder: EventEncoder) -> timedelta | None:
    """How far the client's clock is behind: between sending and receiving hardly any time passes.
    None when `sentAt` is absent. Raises `InvalidEvent`."""
    at = convert_to_utc(sent_at, "sentAt")
    return None if at is None else encoder.received_at - at


def correct_clock(at: datetime, shift: timedelta) -> datetime:
    """The time by our clock. Raises `InvalidEvent`."""
    try:
        return at + shift
    except OverflowError as error:
        raise InvalidEvent("timestamp", at, "is no time; check when it was sent") from error


def encode_call(
    call: Call, call_type: str, shift: timedelta | None, encoder: EventEncoder
) -> bytes:
    """The event of a call as JSON; `shift` corrects the clock. Raises `InvalidEvent`."""
    given = call.original_timestamp if call.timestamp is None else call.timestamp
    at = convert_to_utc(given, "timestamp")
    if at is not None and shift is not None:
        at = correct_clock(at, shift)
    context = call.context or _NO_CONTEXT
    event_type = call.event if call_type == "track" else _EVENT_TYPES.get(call_type, call_type)
    if event_type is None:
        raise InvalidEvent("event", None, "is required; name what happened")
    return encoder.encode(
        event_type,
        to_text(call.user_id) or to_text(call.anonymous_id) or None,
        _collect_properties(call, call_type, context, encoder),
        at,
        to_text(call.message_id) or None,
        context.user_agent,
    )


def _collect_properties(
    call: Call, call_type: str, context: Context, encoder: EventEncoder
) -> dict[str, Any] | None:
    if call_type in _WITH_TRAITS:
        properties = call.traits or {}
        if call_type == "identify" and isinstance(context.traits, dict):
            # Where RudderStack's libraries have them. Elsewhere they are those of the user too, and
            # not the event's.
            properties = context.traits | properties
        if call_type == "group" and call.group_id is not None:
            properties.setdefault("group_id", call.group_id)
        if call_type == "alias" and call.previous_id is not None:
            properties["previous_id"] = encoder.pseudonymise(to_text(call.previous_id))
        return properties or None
    properties = call.properties or {}
    if call_type != "track":
        if call.name:
            properties.setdefault("name", call.name)
        if call.category:
            properties.setdefault("category", call.category)
    if context.page is not None and "path" not in properties:
        path = context.page.get("path") if isinstance(context.page, dict) else None
        if isinstance(path, str):
            properties["path"] = path[:_LONGEST_PATH]
    return properties or None


def to_text(given: Id) -> str:
    """An id as text, "" for none."""
    if given is None or isinstance(given, str):
        return given or ""
    return str(given)
