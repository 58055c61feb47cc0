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
from typing import Any, TypeVar

import msgspec

from pipeline.errors import InvalidEvent
from pipeline.event.names import clean_name
from pipeline.event.times import read_time
from pipeline.web.collector.formats.event_encoder import EventEncoder, convert_to_utc
from pipeline.web.collector.visits.context import NO_CONTEXT, Context

CALLS = ("track", "page", "screen", "identify", "group", "alias")
_WITH_TRAITS = frozenset({"identify", "group", "alias"})
_EVENT_TYPES = {"page": "page_view", "screen": "screen_view"}
_LONGEST_PATH = 1_000
_PLAUSIBLE = timedelta(days=366)
"""How wrong a client's clock may be."""
_TIMES = ("timestamp", "originalTimestamp")

Id = str | int | float | None
Time = float | datetime | None
# PHP writes an object without members as an empty array.
Properties = dict[str, Any] | list[Any] | None


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
    properties: Properties = None
    traits: Properties = None
    context: Context | list[Any] | None = None
    timestamp: Time = None
    original_timestamp: Time = None
    """RudderStack's name for `timestamp`."""
    sent_at: Any = None


_T = TypeVar("_T", bound=msgspec.Struct)


def convert_fields(fields: dict[str, Any], kind: type[_T]) -> _T:
    """The call of a kind that these fields describe, its times in whatever form. Raises
    `InvalidEvent` and msgspec.ValidationError."""
    names = {field.encode_name for field in msgspec.structs.fields(kind)}
    known = {name: value for name, value in fields.items() if name in names}
    for name in _TIMES:
        if isinstance(text := known.get(name), str):
            known[name] = read_time(text)
            if known[name] is None:
                raise InvalidEvent("timestamp", text, "is no time; send ISO 8601 text")
    return msgspec.convert(known, kind)


class ClientClock:
    """The clock of a client that says when it sent a request: between sending and receiving hardly
    any time passes.

    A `sentAt` that is years away says nothing about the clock, unless an event is of the same
    years: then both are by a clock that was never set.
    """

    def __init__(self, sent_at: datetime, received_at: datetime) -> None:
        self._sent_at, self._error = sent_at, received_at - sent_at
        self._is_plausible = abs(self._error) <= _PLAUSIBLE

    def correct(self, at: datetime) -> datetime:
        """The time by our clock. Raises `InvalidEvent`."""
        if not self._is_plausible and abs(self._sent_at - at) > _PLAUSIBLE:
            return at
        try:
            return at + self._error
        except OverflowError as error:
            raise InvalidEvent("timestamp", at, "is no time; check when it was sent") from error


def read_clock(sent_at: object, encoder: EventEncoder) -> ClientClock | None:
    """The client's clock; None where `sent_at` cannot be read."""
    at = None
    try:
        if isinstance(sent_at, str):
            at = convert_to_utc(read_time(sent_at), "sentAt")
        elif isinstance(sent_at, int | float) and not isinstance(sent_at, bool):
            at = convert_to_utc(sent_at, "sentAt")
    except InvalidEvent:
        pass
    return None if at is None else ClientClock(at, encoder.received_at)


def encode_call(
    call: Call, call_type: str, clock: ClientClock | None, encoder: EventEncoder
) -> bytes:
    """The event of a call as JSON. Raises `InvalidEvent`."""
    given = call.original_timestamp if call.timestamp is None else call.timestamp
    at = convert_to_utc(given, "timestamp")
    if at is not None and clock is not None:
        at = clock.correct(at)
    context = call.context if isinstance(call.context, Context) else NO_CONTEXT
    event_type = call.event if call_type == "track" else _EVENT_TYPES.get(call_type, call_type)
    if event_type is None:
        raise InvalidEvent("event", None, "is required; name what happened")
    return encoder.encode(
        event_type,
        _find_user(call),
        _collect_properties(call, call_type, context, encoder),
        at,
        to_text(call.message_id) or None,
        context,
    )


def _collect_properties(
    call: Call, call_type: str, context: Context, encoder: EventEncoder
) -> dict[str, Any] | None:
    if call_type in _WITH_TRAITS:
        properties = check_object("traits", call.traits or {})
        if call_type == "identify" and isinstance(context.traits, dict):
            # Where RudderStack's libraries have them. Elsewhere they are those of the user too, and
            # not the event's.
            properties = context.traits | properties
        if call_type == "group" and call.group_id is not None:
            properties.setdefault("group_id", call.group_id)
        if call_type == "alias" and call.previous_id is not None:
            properties["previous_id"] = encoder.pseudonymise(to_text(call.previous_id))
        return properties or None
    properties = check_object("properties", call.properties or {})
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


def _find_user(call: Call) -> str | None:
    user_id = to_text(call.user_id)
    if user_id < "!" and not clean_name(user_id):  # nothing, or nothing that can be seen
        return to_text(call.anonymous_id) or None
    return user_id


def check_object(field: str, given: dict[str, Any] | list[Any]) -> dict[str, Any]:
    """What must be an object. Raises `InvalidEvent`."""
    if isinstance(given, list):
        raise InvalidEvent(field, given, "must be an object of names and values")
    return given


def to_text(given: Id) -> str:
    """An id as text, "" for none."""
    if given is None or isinstance(given, str):
        return given or ""
    return str(given)
