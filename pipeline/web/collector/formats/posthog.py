"""What PostHog's libraries for servers and apps send: an event alone, or a batch. Pure.

| event                              | event type     | properties                            |
| ---------------------------------- | -------------- | ------------------------------------- |
| `$pageview`                        | `page_view`    | as they come, with `path`             |
| `$screen`                          | `screen_view`  | as they come, with `name`             |
| `$identify`, `$set`, `$set_once`   | `identify`     | the traits: `$set_once`, then `$set`  |
| `$groupidentify`                   | `group`        | `$group_set`, with `group_id`         |
| `$create_alias`                    | `alias`        | `previous_id`                         |
| any other                          | its own        | as they come, with `path`             |

`uuid` is the event id, `distinct_id` the user, and `$raw_user_agent` says whether a bot did it.
`path` is `$pathname`, else that of `$current_url`. Access key and user are no properties.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec

from pipeline.errors import InvalidEvent
from pipeline.web.collector.formats.event_encoder import EventEncoder, convert_to_utc
from pipeline.web.collector.formats.parsed_events import ParsedEvents, ParsingSteps
from pipeline.web.collector.formats.segment import (
    BatchShape,
    explain,
    parse_batch_in_steps,
    read_event,
)
from pipeline.web.collector.formats.segment_calls import (
    ClientClock,
    Id,
    Properties,
    Time,
    check_object,
    read_clock,
    to_text,
)
from pipeline.web.collector.formats.tolerant import find_any_key
from pipeline.web.collector.visits.context import NO_CONTEXT, Context
from pipeline.web.errors import EventRefused

_EVENT_TYPES = {
    "$pageview": "page_view",
    "$screen": "screen_view",
    "$identify": "identify",
    "$set": "identify",
    "$set_once": "identify",
    "$groupidentify": "group",
    "$create_alias": "alias",
}
_NO_PROPERTIES = ("api_key", "token", "distinct_id", "$user_id")
_USER_AGENTS = ("$raw_user_agent", "$useragent", "$user_agent")
_LONGEST_PATH = 1_000


class _Event(msgspec.Struct, rename={"set_": "$set", "set_once": "$set_once"}, gc=False):
    """One event; only one that comes alone has `sent_at`."""

    event: str | None = None
    uuid: Id = None
    distinct_id: Id = None
    properties: Properties = None
    set_: Properties = None
    set_once: Properties = None
    timestamp: Time = None
    sent_at: Any = None


class _Batch(msgspec.Struct, gc=False):
    batch: list[_Event]
    sent_at: Any = None


class _RawBatch(msgspec.Struct, gc=False):
    batch: list[msgspec.Raw]
    sent_at: Any = None


class _Outline(msgspec.Struct):
    """Whether a body is a batch."""

    batch: msgspec.Raw | None = None


class _KeyProperties(msgspec.Struct):
    token: str | None = None
    api_key: str | None = None


class _Key(msgspec.Struct):
    api_key: str | None = None
    token: str | None = None
    properties: _KeyProperties | None = None


# Python's own floats: msgspec takes nine microseconds for each 1e308.
_decode_event = msgspec.json.Decoder(_Event, float_hook=float).decode
_decode_outline = msgspec.json.Decoder(_Outline).decode
_decode_key = msgspec.json.Decoder(_Key).decode


def parse_events(body: bytes, encoder: EventEncoder) -> ParsedEvents | ParsingSteps:
    """The events of a body, be it a batch or an event alone: PostHog takes either by every path.

    Raises `RequestRefused` when the body is neither, or no event of it is good.
    """
    try:
        if _decode_outline(body).batch is None:
            return _parse_alone(body, encoder)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # What is wrong with it is found out below.
        if b'"batch"' not in body:
            return _parse_alone(body, encoder)
    return parse_batch_in_steps(body, encoder, _POSTHOG)


def find_api_key(body: bytes) -> str:
    """The access key in a body: `api_key`, `token`, or either among the properties of an event that
    comes alone; empty if it has none."""
    try:
        found = _decode_key(body)
    except (ValueError, RecursionError):
        return find_any_key(body, "api_key", "token")
    inner = found.properties or _KeyProperties()
    return found.api_key or found.token or inner.token or inner.api_key or ""


def _parse_alone(body: bytes, encoder: EventEncoder) -> ParsedEvents:
    try:
        event = read_event(body, _POSTHOG)
        encoded = _encode_event(event, read_clock(event.sent_at, encoder), encoder)
    except Exception as error:
        field, reason = explain(error, _POSTHOG.names)
        raise EventRefused(reason, field or None) from None
    return ParsedEvents([encoded])


def _encode_event(event: _Event, clock: ClientClock | None, encoder: EventEncoder) -> bytes:
    if event.event is None:
        raise InvalidEvent("event_type", None, "is required; name what happened")
    given = check_object("properties", event.properties or {})
    event_type = _EVENT_TYPES.get(event.event, event.event)
    at = convert_to_utc(event.timestamp, "timestamp")
    if at is not None and clock is not None and not given.get("$ignore_sent_at"):
        at = clock.correct(at)
    user_id = to_text(event.distinct_id) or given.get("distinct_id")
    agent = next((given[name] for name in _USER_AGENTS if name in given), None)
    context = NO_CONTEXT if agent is None else Context(user_agent=agent, ip=given.get("$ip"))
    return encoder.encode(
        event_type,
        str(user_id) if user_id else None,
        _collect_properties(event, given, event_type, encoder) or None,
        at,
        to_text(event.uuid) or None,
        context,
    )


def _collect_properties(
    event: _Event, given: dict[str, Any], event_type: str, encoder: EventEncoder
) -> dict[str, Any]:
    match event_type:
        case "identify":
            parts = (given.get("$set_once"), event.set_once, given.get("$set"), event.set_)
            return {
                name: value
                for part in parts
                if isinstance(part, dict)
                for name, value in part.items()
            }
        case "group":
            traits, key = given.get("$group_set"), given.get("$group_key")
            group = {} if key is None else {"group_id": key}
            return {**traits, **group} if isinstance(traits, dict) else group
        case "alias":
            alias = given.get("alias")
            return {} if alias is None else {"previous_id": encoder.pseudonymise(str(alias))}
    for name, value in (("$set", event.set_), ("$set_once", event.set_once)):
        if value:
            given.setdefault(name, value)
    for name in _NO_PROPERTIES:
        given.pop(name, None)
    if event_type == "screen_view" and "$screen_name" in given:
        given.setdefault("name", given["$screen_name"])
    path = given.get("$pathname") or _find_path(given.get("$current_url"))
    if isinstance(path, str) and path:
        given.setdefault("path", path[:_LONGEST_PATH])
    return given


def _find_path(url: object) -> str:
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        return ""
    return (parts.path or "/") if parts and parts.scheme else ""


_POSTHOG = BatchShape(
    msgspec.json.Decoder(_Batch, float_hook=float).decode,
    msgspec.json.Decoder(_RawBatch).decode,
    _decode_event,
    _Event,
    _encode_event,
    {"event_type": "event", "user_id": "distinct_id", "event_id": "uuid"},
)
