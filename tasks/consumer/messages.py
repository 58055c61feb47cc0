"""Reading a Celery message of `track_event` or `track_events` without building Celery's objects.

What our own producers send is decoded straight into events. Everything else a Celery client may
send takes the longer way, which finds the same in it and words what is wrong. What is unusual (an
eta, an expiry, callbacks) is for Celery itself, and what cannot be read is a dead letter.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Container
from datetime import datetime
from typing import Any, cast

import msgspec

from pipeline.contract import (
    MAX_AHEAD,
    MAX_EVENTS_PER_MESSAGE,
    TAG_PREFIX,
    TRACK_EVENT,
    TRACK_EVENTS,
)
from pipeline.counting.batch import BadEvent, Delivery
from pipeline.event.model import Event, WireEvent, WireFields, decode_plain
from pipeline.event.numbers import parse_float
from tasks.consumer.arguments import read_event, read_events


class _Headers(msgspec.Struct, gc=False):
    task: str = ""
    id: str = ""
    eta: Any = None
    expires: Any = None
    compression: Any = None
    timelimit: tuple[Any, Any] | None = None
    analytics_plain_user_ids: Any = None


class _Properties(msgspec.Struct, gc=False):
    body_encoding: str | None = None


class _Message(msgspec.Struct, rename={"content_type": "content-type"}):
    body: str
    headers: _Headers
    properties: _Properties
    content_type: str = ""


class _UsualMessage(msgspec.Struct, rename={"content_type": "content-type"}, gc=False):
    body: bytes  # which msgspec reads from base64, three times as fast as binascii
    headers: _Headers
    properties: _Properties
    content_type: str = ""


class _Embedded(msgspec.Struct):
    callbacks: Any = None
    errbacks: Any = None
    chain: Any = None
    chord: Any = None


class _FirstProtocol(msgspec.Struct):
    """The body of a message in Celery's first protocol, which clients in other languages speak."""

    task: str
    id: str
    args: list[Any]
    kwargs: dict[str, Any]
    eta: Any = None
    expires: Any = None
    callbacks: Any = None
    errbacks: Any = None
    chord: Any = None


class _NoCallbacks(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    callbacks: None = None
    errbacks: None = None
    chain: None = None
    chord: None = None


class _Nothing(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """No keyword arguments."""


_read_usual_message = msgspec.json.Decoder(_UsualMessage).decode
_read_message = msgspec.json.Decoder(_Message).decode
_read_first_protocol = msgspec.json.Decoder(_FirstProtocol).decode
_read_body = msgspec.json.Decoder(tuple[list[Any], dict[str, Any], _Embedded]).decode
_read_usual_one = msgspec.json.Decoder(tuple[tuple[str], WireEvent, _NoCallbacks]).decode
_read_usual_many = msgspec.json.Decoder(
    tuple[tuple[list[WireEvent]], _Nothing, _NoCallbacks]
).decode
_PlainOne = tuple[tuple[str], WireFields, _NoCallbacks]
_read_plain_one = msgspec.json.Decoder(_PlainOne, strict=False).decode
_read_plain_large = msgspec.json.Decoder(_PlainOne, strict=False, float_hook=parse_float).decode
_LARGE = 512
"""Bytes of a body from which on numbers might make the decoder slow."""
_AFTER_ONE = b',{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
_BEFORE_MANY, _AFTER_MANY = b"[[", b"],{}" + _AFTER_ONE
"""What our producers write around their events."""
_PLAIN = _Embedded()


class Read(msgspec.Struct, frozen=True, gc=False):
    """A message read: its events, and what is needed to report it."""

    delivery: Delivery
    task: str = ""
    task_id: str = ""


def read_message(tag: str, raw: bytes, now: datetime, tasks: Container[str]) -> Read | None:
    """The events in a message, or None when it is for Celery itself.

    `tasks` are the names of the tasks there are. Raises whatever reading nonsense may raise.
    """
    try:
        message = _read_usual_message(raw)
    except (msgspec.DecodeError, UnicodeError):
        return _read_unusual(tag, raw, now, tasks)
    headers = message.headers
    usual = headers.task in tasks and not _is_for_celery(message)
    if usual and (events := _usual_events(message, now)) is not None:
        task_id = None if tag.startswith(TAG_PREFIX) else headers.id or tag
        plain = bool(headers.analytics_plain_user_ids)
        return Read(Delivery(events, (), tag, task_id, raw, plain), headers.task, headers.id)
    return _read_unusual(tag, raw, now, tasks)


def _is_for_celery(message: _Message | _UsualMessage) -> bool:
    """Whether something in the message's head asks for more than to count it now."""
    headers = message.headers
    return (
        bool(headers.compression)
        or headers.eta is not None
        or headers.expires is not None
        or headers.task not in (TRACK_EVENT, TRACK_EVENTS)
        or message.content_type != "application/json"
    )


def _read_unusual(tag: str, raw: bytes, now: datetime, tasks: Container[str]) -> Read | None:
    try:
        message = _read_message(raw)
    except (msgspec.DecodeError, UnicodeError) as error:
        return unreadable(tag, raw, f"is not a Celery message: {error}")
    if not message.headers.task:
        message = _second_protocol(message)
    headers = message.headers
    if headers.task not in tasks:
        return unreadable(tag, raw, f"there is no task {headers.task!r}")
    if message.content_type != "application/json":
        reason = f"content type {message.content_type!r} is not accepted; send JSON"
        return unreadable(tag, raw, reason)
    return None if _is_for_celery(message) else _read_arguments(tag, raw, message, now)


def _read_arguments(tag: str, raw: bytes, message: _Message, now: datetime) -> Read | None:
    headers = message.headers
    try:
        args, kwargs, embedded = _arguments(message)
    except (ValueError, TypeError, RecursionError) as error:
        return unreadable(tag, raw, f"the arguments cannot be read: {error}")
    if embedded != _PLAIN:
        return None
    read = read_event if headers.task == TRACK_EVENT else read_events
    task_id = None if tag.startswith(TAG_PREFIX) else headers.id or tag
    delivery = msgspec.structs.replace(
        read(args, kwargs, task_id, now),
        tag=tag,
        raw=raw,
        plain_user_ids=bool(headers.analytics_plain_user_ids),
    )
    return Read(delivery, headers.task, headers.id)


def unreadable(tag: str, raw: bytes, reason: str) -> Read:
    """A message that is a dead letter as it is."""
    bad = BadEvent(raw, f"message: {reason}", kind="message")
    return Read(Delivery((), [bad], tag=tag))


def _usual_events(message: _UsualMessage, now: datetime) -> list[Event] | None:
    """The events of a message without anything unusual about it; None for all others."""
    if message.properties.body_encoding != "base64":
        return None
    body, latest = message.body, now + MAX_AHEAD
    if message.headers.task == TRACK_EVENTS:
        return _usual_many(body, now, latest)
    try:
        (event_type,), fields, _ = (_read_plain_one if len(body) < _LARGE else _read_plain_large)(
            body
        )
        event = fields.to_event(event_type, body.removesuffix(_AFTER_ONE), latest)
    except (ValueError, RecursionError):
        event = None
    return _usual_one(body, now, latest) if event is None else [event]


def _usual_one(body: bytes, now: datetime, latest: datetime) -> list[Event] | None:
    """What `_usual_events` says of an event that is not quite as our producers write it."""
    try:
        (event_type,), wire, _ = _read_usual_one(body)
    except (ValueError, RecursionError):
        return None
    if wire.event_type:
        return None  # given twice
    wire.event_type = event_type
    event = wire.to_event(now, latest)
    return None if event is None else [event]


def _usual_many(body: bytes, now: datetime, latest: datetime) -> list[Event] | None:
    """What `_usual_events` says of a message of many events."""
    try:
        if body.startswith(_BEFORE_MANY) and body.endswith(_AFTER_MANY):
            plain = decode_plain(body[len(_BEFORE_MANY) : -len(_AFTER_MANY)], latest)
            if plain is not None:
                return plain if len(plain) <= MAX_EVENTS_PER_MESSAGE else None
    except (ValueError, RecursionError):
        pass  # a number or a time in another form
    try:
        ((wires,), _, _) = _read_usual_many(body)
    except (ValueError, RecursionError):
        return None
    if len(wires) > MAX_EVENTS_PER_MESSAGE:
        return None
    events = [wire.to_event(now, latest) for wire in wires]
    return None if None in events else cast("list[Event]", events)


def _arguments(message: _Message) -> tuple[list[Any], dict[str, Any], _Embedded]:
    body = _body(message)
    try:
        return _read_body(body)
    except (msgspec.DecodeError, UnicodeError):
        # What the standard library's JSON takes besides (NaN, long numbers, lone surrogates) is
        # for the rules of an event to judge.
        args, kwargs, embedded = json.loads(body)
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise TypeError("they must be a list, an object and an object") from None
        return args, kwargs, _Embedded(**(embedded or {}))


def _body(message: _Message) -> bytes:
    encoded = message.properties.body_encoding == "base64"
    return b64decode(message.body, validate=True) if encoded else message.body.encode()


def _second_protocol(message: _Message) -> _Message:
    """A message of the first protocol in the form of the second; any other as it is."""
    try:
        old = _read_first_protocol(_body(message))
    except ValueError:
        return message
    embedded = _Embedded(old.callbacks, old.errbacks, chord=old.chord)
    return _Message(
        msgspec.json.encode([old.args, old.kwargs, embedded]).decode(),
        _Headers(old.task, old.id, old.eta, old.expires),
        _Properties(),
        message.content_type,
    )
