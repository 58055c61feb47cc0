"""Segment's HTTP tracking API: from its calls to our events. Pure.

| call       | event type     | properties                            | user            |
| ---------- | -------------- | ------------------------------------- | --------------- |
| `track`    | its `event`    | `properties`, `path`                  | `userId`, else  |
| `page`     | `page_view`    | `properties`, `name`, `category`, `path` | `anonymousId`   |
| `screen`   | `screen_view`  | `properties`, `name`, `category`      |                 |
| `identify` | `identify`     | `traits`                              |                 |
| `group`    | `group`        | `traits`, `group_id`                  |                 |
| `alias`    | `alias`        | `previous_id`                         |                 |

`path` is `context.page.path`. What properties hold already stays as it is. `messageId` is the
event's id, and `context.userAgent` says whether a bot did it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from pipeline.contract import MAX_EVENTS_PER_MESSAGE
from pipeline.errors import InvalidEvent
from pipeline.web.answers import Refused
from pipeline.web.collector.arrivals import (
    MAX_EVENT_BYTES,
    Arrivals,
    Rejected,
    Sender,
    at_utc,
    too_many,
)

CALLS = ("track", "page", "screen", "identify", "group", "alias")
_TYPES = {"page": "page_view", "screen": "screen_view"}
_LONGEST_PATH = 1_000
_LONGEST_FIELD = 200

Id = str | int | float | None
Time = float | datetime | None


class _Context(msgspec.Struct, rename="camel", gc=False):
    user_agent: Any = None
    page: Any = None


class _Call(msgspec.Struct, rename="camel", gc=False):
    """One call; `write_key` and `sent_at` stand in it when it comes alone."""

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
    context: _Context | None = None
    timestamp: Time = None
    sent_at: Time = None
    write_key: str | None = None


class _Batch(msgspec.Struct, rename="camel", gc=False):
    batch: list[_Call]
    sent_at: Time = None
    write_key: str | None = None


class _RawBatch(msgspec.Struct, rename="camel", gc=False):
    batch: list[msgspec.Raw]
    sent_at: Time = None
    write_key: str | None = None


class _Key(msgspec.Struct, rename="camel"):
    write_key: str = ""


_decode_call = msgspec.json.Decoder(_Call).decode
_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_raw_batch = msgspec.json.Decoder(_RawBatch).decode
_decode_key = msgspec.json.Decoder(_Key).decode

# How an event's fields are called in a call.
_NAMES = {"event_type": "event", "user_id": "userId", "event_id": "messageId"}
_PLACE = re.compile(r" - at `\$\.?([^`]*)`$")


def single(call_type: str, body: bytes, sender: Sender) -> Arrivals:
    """The event of a call that came alone, to `/v1/{call_type}`.

    Raises `Refused` when the body is no call, or its event is none.
    """
    try:
        call = _decode_call(body)
        shift = _clock_error(call.sent_at, sender)
        event = _event(call, call_type, shift, sender)
    except Exception as error:
        field, reason = _explained(error)
        raise Refused(400, "invalid_event", reason, field=field or None) from None
    return Arrivals([event], write_key=call.write_key or "")


def batch(body: bytes, sender: Sender) -> Arrivals:
    """The events of a batch; what is no call, or no event, is told by its place.

    Raises `Refused` when the body is no batch, or is empty.
    """
    try:
        if len(body) <= MAX_EVENT_BYTES:
            found = _decode_batch(body)
            return _arrivals(found.batch, found, sender)
    except (msgspec.ValidationError, RecursionError):
        pass  # which of them it is, is found out below
    except ValueError as error:
        raise _no_batch(error) from None
    try:
        raw = _decode_raw_batch(body)
    except (ValueError, RecursionError) as error:
        raise _no_batch(error) from None
    return _arrivals(raw.batch, raw, sender)


def write_key(body: bytes) -> str:
    """The key in a body, also where the rest is no call and no batch; empty if it has none."""
    try:
        return _decode_key(body).write_key
    except (ValueError, RecursionError):
        return ""


def _no_batch(error: Exception) -> Refused:
    field, reason = _explained(error)
    return Refused(400, "invalid_batch", reason, field=field or None)


def _arrivals(
    items: Sequence[_Call | msgspec.Raw], whole: _Batch | _RawBatch, sender: Sender
) -> Arrivals:
    arrivals = Arrivals(write_key=whole.write_key or "")
    if len(items) > MAX_EVENTS_PER_MESSAGE:
        raise too_many(len(items))
    if not items:
        raise Refused(400, "invalid_batch", "has no events; send at least one", field="batch")
    try:
        shift = _clock_error(whole.sent_at, sender)
    except InvalidEvent as error:
        raise _no_batch(error) from None
    for index, item in enumerate(items):
        try:
            call = item if isinstance(item, _Call) else _decoded(item)
            if call.type not in _KNOWN:
                known = ", ".join(CALLS)
                raise InvalidEvent("type", call.type, f"must be one of: {known}")
            arrivals.events.append(_event(call, call.type, shift, sender))
        except Exception as error:
            arrivals.rejected.append(Rejected(index, *_explained(error)))
    return arrivals


_KNOWN = frozenset(CALLS)


def _decoded(item: msgspec.Raw) -> _Call:
    if len(bytes(item)) > MAX_EVENT_BYTES:
        reason = f"takes {len(bytes(item))} bytes; at most {MAX_EVENT_BYTES} are allowed"
        raise InvalidEvent("", "…", reason)
    return _decode_call(item)


def _clock_error(sent_at: Time, sender: Sender) -> timedelta | None:
    """How far the client's clock is behind: between sending and receiving hardly any time passes.
    None when nothing tells."""
    at = at_utc(sent_at, "sentAt")
    return None if at is None else sender.received_at - at


def _event(call: _Call, call_type: str, shift: timedelta | None, sender: Sender) -> bytes:
    at = at_utc(call.timestamp, "timestamp")
    if at is not None and shift is not None:
        try:
            at += shift
        except OverflowError as error:
            raise InvalidEvent("timestamp", call.timestamp, "is no time; check sentAt") from error
    context = call.context or _NO_CONTEXT
    event_type = call.event if call_type == "track" else _TYPES.get(call_type, call_type)
    if event_type is None:
        raise InvalidEvent("event", None, "is required; name what happened")
    return sender.encoded(
        event_type,
        _text(call.user_id) or _text(call.anonymous_id) or None,
        _properties(call, call_type, context, sender),
        at,
        _text(call.message_id) or None,
        context.user_agent,
    )


_NO_CONTEXT = _Context()


def _properties(
    call: _Call, call_type: str, context: _Context, sender: Sender
) -> dict[str, Any] | None:
    if call_type in _WITH_TRAITS:
        properties = call.traits or {}
        if call_type == "group" and call.group_id is not None:
            properties.setdefault("group_id", call.group_id)
        if call_type == "alias" and call.previous_id is not None:
            properties["previous_id"] = sender.pseudonym(_text(call.previous_id))
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


_WITH_TRAITS = frozenset({"identify", "group", "alias"})


def _text(given: Id) -> str:
    if given is None or isinstance(given, str):
        return given or ""
    return str(given)


def _explained(error: Exception) -> tuple[str, str]:
    """The field, in Segment's words, and the reason, of what went wrong with a call."""
    if isinstance(error, InvalidEvent):
        first, dot, rest = error.field.partition(".")
        return (_NAMES.get(first, first) + dot + rest)[:_LONGEST_FIELD], error.reason
    if isinstance(error, RecursionError):
        return "", "is nested too deeply; flatten it"
    if isinstance(error, ValueError):  # msgspec's among them, and what is no UTF-8
        said = str(error)
        place = _PLACE.search(said)
        reason = _PLACE.sub("", said)
        return (place[1][:_LONGEST_FIELD] if place else ""), f"{reason[:200]}; correct it"
    raise error
