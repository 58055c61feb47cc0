"""An event, made at the producer and again in the worker: what is usual is recognised here at a
glance, and all else goes by the rules.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeGuard

import msgspec

from pipeline.contract import (
    MAX_EVENT_ID_CHARACTERS,
    MAX_EVENT_TYPE_CHARACTERS,
    MAX_PROPERTIES_BYTES,
    MAX_PROPERTIES_DEPTH,
    MAX_SOURCE_CHARACTERS,
    MAX_USER_ID_CHARACTERS,
)
from pipeline.days import UTC
from pipeline.errors import InvalidEvent
from pipeline.event import rules
from pipeline.event.numbers import parse_float
from pipeline.event.plain_values import TAG

FIELDS = ("event_type", "user_id", "properties", "timestamp", "event_id")
_KNOWN = frozenset(FIELDS)

_encode = msgspec.json.Encoder().encode
_decode_small = msgspec.json.Decoder(dict[str, Any]).decode
_decode_large = msgspec.json.Decoder(dict[str, Any], float_hook=parse_float).decode
_SMALL = 256
"""Bytes of properties of which no numbers make a decoder slow enough to matter."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One valid event; `timestamp` is in UTC. Made by `Event.create`, `Event.from_dict` or, where
    it comes from the queue, `Event.from_wire` or `decode_plain`."""

    event_type: str
    timestamp: datetime
    user_id: str | None = None
    properties: dict[str, Any] | None = None
    event_id: str | None = None
    source: str = ""
    """Within what, beside the event type, the event id is unique. The collector names one for what
    pages send; all that an owner's servers send shares the source ""."""

    @classmethod
    def create(
        cls,
        event_type: object,
        user_id: object = None,
        properties: object = None,
        timestamp: object = None,
        event_id: object = None,
        *,
        now: datetime,
    ) -> Event:
        """Check the fields and return the event, stamped with `now` when it brings no timestamp.
        Raises `InvalidEvent` naming the first field that breaks a rule."""
        if not _is_usual(event_type, MAX_EVENT_TYPE_CHARACTERS):
            event_type = rules.check_event_type(event_type)
        if user_id is not None and not _is_usual(user_id, MAX_USER_ID_CHARACTERS):
            user_id = rules.check_user_id(user_id)
        if event_id is not None and not _is_usual(event_id, MAX_EVENT_ID_CHARACTERS):
            event_id = rules.check_event_id(event_id)
        at = now if timestamp is None else rules.check_timestamp(timestamp, now)
        checked = None if properties is None else _check_properties(properties)
        return cls(event_type, at, user_id, checked, event_id)

    @classmethod
    def from_dict(cls, fields: object, *, now: datetime) -> Event:
        """The event that a mapping with the field names of the wire contract describes."""
        if not isinstance(fields, Mapping):
            raise InvalidEvent("event", fields, "must be an object with the field event_type")
        if not fields.keys() <= _KNOWN:
            unknown = next(name for name in fields if name not in FIELDS)
            known = ", ".join(FIELDS)
            raise InvalidEvent(str(unknown), fields[unknown], f"unknown field; use {known}")
        if "event_type" not in fields:
            raise InvalidEvent("event_type", None, "is required; name what happened")
        return cls.create(**fields, now=now)

    @classmethod
    def from_wire(cls, fields: object, *, now: datetime) -> Event:
        """The event that an object in a message describes: its fields, and `source`."""
        if not isinstance(fields, dict) or "source" not in fields:
            return cls.from_dict(fields, now=now)
        source = rules.check_source(fields["source"])
        others = {name: value for name, value in fields.items() if name != "source"}
        return msgspec.structs.replace(cls.from_dict(others, now=now), source=source)

    def to_dict(self) -> dict[str, Any]:
        """The event as JSON-ready fields, which `from_dict` reads back."""
        fields: dict[str, Any] = {"event_type": self.event_type}
        if self.user_id is not None:
            fields["user_id"] = self.user_id
        if self.properties is not None:
            fields["properties"] = self.properties
        fields["timestamp"] = _encode(self.timestamp)[1:-1].decode()
        if self.event_id is not None:
            fields["event_id"] = self.event_id
        return fields

    def to_wire(self) -> dict[str, Any]:
        """The event as an object in a message, which `from_wire` reads back."""
        return self.to_dict() | ({"source": self.source} if self.source else {})


def named_type(fields: object) -> str | None:
    """The event type that a bad event names, if that much of it is valid."""
    try:
        return (
            rules.check_event_type(fields.get("event_type"))
            if isinstance(fields, Mapping)
            else None
        )
    except InvalidEvent:
        pass
    return None


def encode_event(
    event_type: object,
    user_id: object = None,
    properties: object = None,
    timestamp: object = None,
    event_id: object = None,
    source: str = "",
) -> bytes:
    """The event as JSON, checked by the rules of `Event.create` and stamped with the time. `source`
    is that of `Event`, and not checked.

    An event of the usual kind takes a third of the time; whatever else there is goes the long way,
    which also words the errors. Raises `InvalidEvent`.
    """
    if (
        (timestamp is None or _is_past(timestamp))
        and _is_usual(event_type, MAX_EVENT_TYPE_CHARACTERS)
        and (user_id is None or _is_usual(user_id, MAX_USER_ID_CHARACTERS))
        and (event_id is None or _is_usual(event_id, MAX_EVENT_ID_CHARACTERS))
        and (properties is None or type(properties) is dict)
    ):
        at = time.time() if timestamp is None else timestamp
        event = _Stamped(event_type, at, user_id, properties, event_id, source)
        try:
            encoded = _encode(event)
        except (TypeError, ValueError, OverflowError, RecursionError):
            pass
        else:
            if properties is None or _is_harmless(encoded):
                return encoded
    checked = Event.create(
        event_type, user_id, properties, timestamp, event_id, now=datetime.now(UTC)
    )
    return _encode(msgspec.structs.replace(checked, source=source).to_wire())


class _Stamped(msgspec.Struct, omit_defaults=True, gc=False):
    """An event on its way, its timestamp in Unix seconds, or a past time in UTC."""

    event_type: Any
    timestamp: Any
    user_id: Any = None
    properties: Any = None
    event_id: Any = None
    source: str = ""


class WireFields(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What a message has of one event beside its type, as a decoder takes it that reads numbers as
    times."""

    timestamp: datetime
    user_id: str | None = None
    properties: dict[str, Any] | None = None
    event_id: str | None = None
    source: str = ""

    def to_event(self, event_type: str, encoded: bytes, latest: datetime) -> Event | None:
        """The event, when no rule can be broken by it; None when it needs a closer look. `encoded`
        is the JSON that this was in, `latest` the last moment that is not too far ahead."""
        at = self.timestamp
        if (
            at.tzinfo is not UTC
            or not _EARLIEST <= at <= latest
            or not _is_usual(event_type, MAX_EVENT_TYPE_CHARACTERS)
            or not (self.user_id is None or _is_usual(self.user_id, MAX_USER_ID_CHARACTERS))
            or not (self.event_id is None or _is_usual(self.event_id, MAX_EVENT_ID_CHARACTERS))
            or not (not self.source or _is_usual(self.source, MAX_SOURCE_CHARACTERS))
            or not (_is_flat(encoded, 1, self.properties is None) or _is_harmless(encoded))
        ):
            return None
        return Event(event_type, at, self.user_id, self.properties, self.event_id, self.source)


def decode_plain(encoded: bytes, latest: datetime) -> list[Event] | None:
    """The events of a JSON list, when no rule can be broken by any of them; None when they need a
    closer look. `latest` is the last moment that is not too far ahead.

    To look at all of them together takes a fifth of the time of one after the other. Raises
    ValueError or RecursionError.
    """
    events = (_decode_events if len(encoded) <= _SMALL_LIST else _decode_large_list)(encoded)
    if not events:
        return None
    rows = map(msgspec.structs.astuple, events)
    types, times, users, properties, ids, sources = zip(*rows, strict=True)
    usual = (
        all(at.tzinfo is UTC for at in times)
        and min(times) >= _EARLIEST
        and max(times) <= latest
        and _are_usual({*types}, MAX_EVENT_TYPE_CHARACTERS)
        and _are_usual({*users} - {None}, MAX_USER_ID_CHARACTERS)
        and _are_usual({*ids} - {None}, MAX_EVENT_ID_CHARACTERS)
        and _are_usual({*sources} - {""}, MAX_SOURCE_CHARACTERS)
        and _are_harmless(encoded, len(events), properties.count(None))
    )
    return events if usual else None


class WireEvent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An event as it arrives, its types checked by the decoder and nothing else.

    `event_type` may come beside the other fields; `properties` is the JSON as it came.
    """

    event_type: str = ""
    user_id: str | None = None
    properties: msgspec.Raw = msgspec.Raw()
    timestamp: float | datetime | None = None
    event_id: str | None = None
    source: str = ""

    def to_event(self, now: datetime, latest: datetime) -> Event | None:
        """The event, when no rule can be broken by it; None when it needs a closer look. `now`
        stamps what has no timestamp, `latest` is the last moment that is not too far ahead."""
        if not (
            _is_usual(self.event_type, MAX_EVENT_TYPE_CHARACTERS)
            and (self.user_id is None or _is_usual(self.user_id, MAX_USER_ID_CHARACTERS))
            and (self.event_id is None or _is_usual(self.event_id, MAX_EVENT_ID_CHARACTERS))
            and (not self.source or _is_usual(self.source, MAX_SOURCE_CHARACTERS))
        ):
            return None
        properties = None
        try:
            at = now if self.timestamp is None else self.timestamp
            if not isinstance(at, datetime):
                at = datetime.fromtimestamp(at, UTC)
            if raw := bytes(self.properties):
                if not _is_harmless(raw):
                    return None
                properties = (_decode_small if len(raw) <= _SMALL else _decode_large)(raw)
        except (ValueError, OverflowError, OSError, RecursionError):
            return None
        if at.tzinfo is not UTC or at > latest:
            return None
        return Event(self.event_type, at, self.user_id, properties, self.event_id, self.source)


_EARLIEST = datetime.fromtimestamp(10**8, UTC)
"""A decoder that reads numbers as times reads `"20250314"` as one too. It is of 1970 then."""
_decode_events = msgspec.json.Decoder(list[Event], strict=False).decode
_decode_large_list = msgspec.json.Decoder(list[Event], strict=False, float_hook=parse_float).decode
_SMALL_LIST = 1_000 * _SMALL
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _is_past(timestamp: object) -> bool:
    """Whether this is a time in UTC that is over."""
    if type(timestamp) is not datetime or timestamp.tzinfo is not UTC:
        return False
    return timestamp <= _past or timestamp <= _read_clock()


# When the clock was read last: to read it for each of many past events takes a tenth of their time.
_past = datetime.now(UTC)


def _read_clock() -> datetime:
    global _past  # noqa: PLW0603
    _past = datetime.now(UTC)
    return _past


def _is_usual(text: object, longest: int) -> TypeGuard[str]:
    """Whether this is text without any character that a rule could be about."""
    if type(text) is not str or not 0 < len(text) <= longest or not text.isprintable():
        return False
    return " " not in text or text == text.strip(" ")


def _are_usual(texts: set[str], longest: int) -> bool:
    """Whether all of these are such text."""
    joined = "".join(texts)
    return (
        "" not in texts
        and joined.isprintable()
        and (" " not in joined or all(text == text.strip(" ") for text in texts))
        and max(map(len, texts), default=0) <= longest
    )


def _check_properties(properties: object) -> dict[str, Any]:
    """The properties; at once where they are plain, and no rule can be broken by them."""
    if (
        type(properties) is dict
        and _TEXT.issuperset(map(type, properties))
        and _PLAIN.issuperset(map(type, properties.values()))
    ):
        try:
            if _is_harmless(_encode(properties)):
                return dict(properties)
        except (TypeError, ValueError, OverflowError):
            pass
    return rules.check_properties(properties)


_TEXT = frozenset({str})
_PLAIN = frozenset({str, int, float, bool, type(None)})


def _is_harmless(encoded: bytes) -> bool:
    """Whether this JSON breaks no rule about properties. (A search by number or find is fast.)"""
    return (
        len(encoded) <= MAX_PROPERTIES_BYTES
        and _BACKSLASH not in encoded  # which may be an escaped NUL
        and encoded.find(b"null") < 0  # which may have been NaN
        and encoded.find(TAG) < 0
        and encoded.count(b"{") + (_BRACKET in encoded and encoded.count(b"["))
        <= MAX_PROPERTIES_DEPTH
    )


def _are_harmless(encoded: bytes, events: int, without_properties: int) -> bool:
    """Whether this JSON of events, some of them without properties, breaks no rule about those."""
    if _is_flat(encoded, events, without_properties):
        return True
    return all(_is_harmless(bytes(event)) for event in _split(encoded))


def _is_flat(encoded: bytes, events: int, without_properties: int) -> bool:
    """Whether no properties of these events have an object or a list in them, nor anything else
    that a rule could be about, and none are too long. One or two brackets begin the JSON."""
    return (
        encoded.count(b"{") == 2 * events - without_properties
        and encoded.rfind(b"[") < 2
        # Some decoders take the text `null` for none, in whatever spelling.
        and not (without_properties and (b"null" in encoded or _BACKSLASH in encoded))
        and (len(encoded) <= MAX_PROPERTIES_BYTES or _are_short(encoded))
    )


def _are_short(encoded: bytes) -> bool:
    """Whether none of several events is too long, whose properties have no objects in them."""
    at = 0
    while len(encoded) - at > MAX_PROPERTIES_BYTES:
        at = encoded.rfind(b"},{", at + 1, at + MAX_PROPERTIES_BYTES)
        if at < 0:
            return False
    return True


_BACKSLASH, _BRACKET = b"\\["
