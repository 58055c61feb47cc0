"""Reading a Celery message of `track_event` or `track_events` without building Celery's objects.

What our own producers send is decoded straight into events. Everything else a Celery client may
send takes the longer way, which finds the same in it, and more (an eta, an expiry, callbacks), and
words what is wrong. What cannot be read is a dead letter.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec
from celery.exceptions import InvalidTaskError
from kombu.compression import decompress

from pipeline.contract import (
    MAX_AHEAD,
    MAX_DELAY,
    MAX_EVENTS_PER_MESSAGE,
    TAG_PREFIX,
    TRACK_EVENT,
    TRACK_EVENTS,
)
from pipeline.counting.batch import BadEvent, Delivery
from pipeline.event.model import Event, WireEvent, WireFields, decode_plain
from pipeline.event.numbers import parse_float
from tasks.consumer.arguments import read_event, read_events
from tasks.worker.checked_task import check_callbacks


class _Headers(msgspec.Struct, gc=False):
    task: str = ""
    id: str = ""
    eta: Any = None
    expires: Any = None
    compression: Any = None
    analytics_plain_user_ids: Any = None


class _AllHeaders(_Headers, gc=False):
    root_id: str | None = None


class _Properties(msgspec.Struct, gc=False):
    body_encoding: str | None = None


class _Message(msgspec.Struct, rename={"content_type": "content-type"}):
    body: str
    headers: _AllHeaders
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
_EVENT_TASKS = (TRACK_EVENT, TRACK_EVENTS)
_JSON = "application/json"
_LONGEST_DELAY = MAX_DELAY + timedelta(days=1)  # the producer's clock may be ahead
_LARGE = 512
"""Bytes of a body from which on numbers might make the decoder slow."""
_AFTER_ONE = b',{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
_BEFORE_MANY, _AFTER_MANY = b"[[", b"],{}" + _AFTER_ONE
"""What our producers write around their events."""


class Callbacks(msgspec.Struct, frozen=True):
    """What Celery's clients attach to a task, to be sent when it is done: the signatures of `link`,
    and the rest of a chain, last one first."""

    link: Sequence[dict[str, Any]]
    chain: Sequence[dict[str, Any]]
    root_id: str


class Read(msgspec.Struct, frozen=True, gc=False):
    """A message read: its events, what is needed to report it, when it is due (Unix seconds) if it
    has an eta, and what to send when it is counted."""

    delivery: Delivery
    task: str = ""
    task_id: str = ""
    due_s: float | None = None
    callbacks: Callbacks | None = None


def read_message(tag: str, raw: bytes, now: datetime) -> Read:
    """The events in a message. Raises whatever reading nonsense may raise."""
    try:
        message = _read_usual_message(raw)
    except (msgspec.DecodeError, UnicodeError):
        return _read_unusual(tag, raw, now)
    headers = message.headers
    if not _is_unusual(message) and (events := _usual_events(message, now)) is not None:
        task_id = None if tag.startswith(TAG_PREFIX) else headers.id or tag
        plain = bool(headers.analytics_plain_user_ids)
        return Read(Delivery(events, (), tag, task_id, raw, plain), headers.task, headers.id)
    return _read_unusual(tag, raw, now)


def _is_unusual(message: _UsualMessage) -> bool:
    """Whether something in the message's head asks for more than to count it now."""
    headers = message.headers
    return (
        bool(headers.compression)
        or headers.eta is not None
        or headers.expires is not None
        or headers.task not in _EVENT_TASKS
        or message.content_type != _JSON
    )


def _read_unusual(tag: str, raw: bytes, now: datetime) -> Read:
    try:
        message = _read_message(raw)
    except (msgspec.DecodeError, UnicodeError) as error:
        return unreadable(tag, raw, f"is not a Celery message: {error}")
    if not message.headers.task:
        message = _second_protocol(message)
    headers = message.headers
    if headers.task not in _EVENT_TASKS:
        return unreadable(tag, raw, f"there is no task {headers.task!r} in this queue")
    if message.content_type != _JSON:
        reason = f"content type {message.content_type!r} is not accepted; send JSON"
        return unreadable(tag, raw, reason)
    try:
        due, expires = _read_when("eta", headers.eta), _read_when("expires", headers.expires)
    except ValueError as error:
        return unreadable(tag, raw, str(error))
    if due is not None and due > now + _LONGEST_DELAY:
        return unreadable(tag, raw, f"eta {headers.eta!r} is more than {MAX_DELAY.days} days ahead")
    read = _read_arguments(tag, raw, message, now)
    if due is not None:
        read = msgspec.structs.replace(read, due_s=due.timestamp())
    return expire(read) if expires is not None and expires <= now else read


def expire(read: Read) -> Read:
    """The message as one that came too late: its events are not counted, nor callbacks sent."""
    delivery = msgspec.structs.replace(read.delivery, is_expired=True)
    return msgspec.structs.replace(read, delivery=delivery, due_s=None, callbacks=None)


def _read_when(name: str, given: Any) -> datetime | None:
    """A time as Celery's clients write it, UTC where it names no zone. Raises ValueError."""
    if not given:
        return None
    try:
        found = datetime.fromisoformat(given)
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} {given!r:.100} is not a time in ISO 8601") from error


def _read_arguments(tag: str, raw: bytes, message: _Message, now: datetime) -> Read:
    headers = message.headers
    try:
        args, kwargs, embedded = _arguments(message)
        check_callbacks(msgspec.structs.asdict(embedded))
    except InvalidTaskError as error:
        return unreadable(tag, raw, str(error))
    except Exception as error:  # each compression has errors of its own
        return unreadable(tag, raw, f"the arguments cannot be read: {error}")
    read = read_event if headers.task == TRACK_EVENT else read_events
    task_id = headers.id or tag.partition("~")[0] or tag
    has_callbacks = bool(embedded.callbacks or embedded.chain)
    is_numbered = tag.startswith(TAG_PREFIX) and not has_callbacks
    delivery = msgspec.structs.replace(
        read(args, kwargs, None if is_numbered else task_id, now),
        tag=tag,
        raw=raw,
        plain_user_ids=bool(headers.analytics_plain_user_ids),
    )
    found = Read(delivery, headers.task, headers.id)
    if not has_callbacks or not delivery.events:
        return found
    root_id = headers.root_id or task_id
    callbacks = Callbacks(embedded.callbacks or (), embedded.chain or (), root_id)
    return msgspec.structs.replace(found, callbacks=callbacks)


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
    body = b64decode(message.body, validate=True) if encoded else message.body.encode()
    name = message.headers.compression
    return cast("bytes", decompress(body, name)) if name else body


def _second_protocol(message: _Message) -> _Message:
    """A message of the first protocol in the form of the second; any other as it is."""
    try:
        old = _read_first_protocol(_body(message))
    except Exception:  # each compression has errors of its own
        return message
    embedded = _Embedded(old.callbacks, old.errbacks, chord=old.chord)
    return _Message(
        msgspec.json.encode([old.args, old.kwargs, embedded]).decode(),
        _AllHeaders(old.task, old.id, old.eta, old.expires),
        _Properties(),
        message.content_type,
    )
