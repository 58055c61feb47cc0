"""An event: what it may hold, and the checks that every one passes, at the producer and again in
the worker.

Pure: no server, no clock of its own. The rules are those of the wire contract; a broken one raises
`InvalidEvent`, which names the field.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeGuard

import msgspec

from pipeline.contract import (
    CONTROL_OR_SURROGATE,
    MAX_AHEAD,
    MAX_EVENT_ID_CHARACTERS,
    MAX_EVENT_TYPE_CHARACTERS,
    MAX_PROPERTIES_BYTES,
    MAX_PROPERTIES_DEPTH,
    MAX_USER_ID_CHARACTERS,
    NUL_OR_SURROGATE,
)
from pipeline.errors import InvalidEvent

FIELDS = ("event_type", "user_id", "properties", "timestamp", "event_id")

_encode = msgspec.json.Encoder().encode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One valid event; `timestamp` is in UTC. Made by `Event.create` or `Event.from_dict`."""

    event_type: str
    timestamp: datetime
    user_id: str | None = None
    properties: dict[str, Any] | None = None
    event_id: str | None = None

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

        Raises `InvalidEvent` naming the first field that breaks a rule.
        """
        return cls(
            event_type=(
                event_type
                if _is_usual(event_type, MAX_EVENT_TYPE_CHARACTERS)
                else _event_type(event_type)
            ),
            timestamp=now if timestamp is None else _timestamp(timestamp, now),
            user_id=(
                user_id
                if user_id is None or _is_usual(user_id, MAX_USER_ID_CHARACTERS)
                else _user_id(user_id)
            ),
            properties=None if properties is None else _properties(properties),
            event_id=(
                event_id
                if event_id is None or _is_usual(event_id, MAX_EVENT_ID_CHARACTERS)
                else _event_id(event_id)
            ),
        )

    @classmethod
    def from_dict(cls, fields: object, *, now: datetime) -> Event:
        """The event that a mapping with the field names of the wire contract describes."""
        if not isinstance(fields, Mapping):
            raise InvalidEvent("event", fields, "must be an object with the field event_type")
        unknown = [name for name in fields if name not in FIELDS]
        if unknown:
            known = ", ".join(FIELDS)
            raise InvalidEvent(str(unknown[0]), fields[unknown[0]], f"unknown field; use {known}")
        if "event_type" not in fields:
            raise InvalidEvent("event_type", None, "is required; name what happened")
        return cls.create(**fields, now=now)

    def to_dict(self) -> dict[str, Any]:
        """The event as JSON-ready fields, the timestamp as ISO 8601 text in UTC; `from_dict` reads
        it back."""
        fields: dict[str, Any] = {"event_type": self.event_type}
        if self.user_id is not None:
            fields["user_id"] = self.user_id
        if self.properties is not None:
            fields["properties"] = self.properties
        fields["timestamp"] = f"{self.timestamp.replace(tzinfo=None).isoformat()}Z"
        if self.event_id is not None:
            fields["event_id"] = self.event_id
        return fields


def named_type(fields: object) -> str | None:
    """The event type that a bad event names, if that much of it is valid."""
    try:
        return _event_type(fields.get("event_type")) if isinstance(fields, Mapping) else None
    except InvalidEvent:
        return None


def encode_event(
    event_type: object,
    user_id: object = None,
    properties: object = None,
    timestamp: object = None,
    event_id: object = None,
) -> bytes:
    """The event as JSON, checked by the rules of `Event.create` and stamped with the time.

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
        event = _Stamped(event_type, at, user_id, properties, event_id)
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
    return _encode(checked.to_dict())


class _Stamped(msgspec.Struct, omit_defaults=True, gc=False):
    """An event on its way, its timestamp in Unix seconds, or a past time in UTC."""

    event_type: Any
    timestamp: Any
    user_id: Any = None
    properties: Any = None
    event_id: Any = None


class WireEvent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An event as it arrives, its types checked by the decoder and nothing else.

    `event_type` may come beside the other fields; `properties` is the JSON as it came.
    """

    event_type: str = ""
    user_id: str | None = None
    properties: msgspec.Raw = msgspec.Raw()
    timestamp: float | datetime | None = None
    event_id: str | None = None

    def to_event(self, now: datetime, latest: datetime) -> Event | None:
        """The event, when no rule can be broken by it; None when it needs a closer look.

        `now` stamps what has no timestamp, `latest` is the last moment that is not too far ahead.
        """
        if not (
            _is_usual(self.event_type, MAX_EVENT_TYPE_CHARACTERS)
            and (self.user_id is None or _is_usual(self.user_id, MAX_USER_ID_CHARACTERS))
            and (self.event_id is None or _is_usual(self.event_id, MAX_EVENT_ID_CHARACTERS))
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
                properties = _decode_object(raw)
        except (ValueError, OverflowError, OSError, RecursionError):
            return None
        if at.tzinfo is not UTC or at > latest:
            return None
        return Event(self.event_type, at, self.user_id, properties, self.event_id)


def _is_past(timestamp: object) -> bool:
    """Whether this is a time in UTC that is over."""
    return (
        type(timestamp) is datetime and timestamp.tzinfo is UTC and timestamp <= datetime.now(UTC)
    )


def _is_usual(text: object, longest: int) -> TypeGuard[str]:
    """Whether this is text without any character that a rule could be about."""
    return type(text) is str and 0 < len(text) <= longest and text.isprintable()


def _is_harmless(encoded: bytes) -> bool:
    """Whether no rule about properties can be broken by this JSON."""
    return (
        len(encoded) <= MAX_PROPERTIES_BYTES
        and b"\\" not in encoded  # which may be an escaped NUL
        and b"null" not in encoded  # which may have been NaN
        and encoded.count(b"{") + encoded.count(b"[") <= MAX_PROPERTIES_DEPTH
    )


def _text(field: str, value: object, longest: int, forbidden: re.Pattern[str]) -> str:
    if not isinstance(value, str):
        raise InvalidEvent(field, value, "must be text; convert it with str()")
    if not 1 <= len(value) <= longest:
        raise InvalidEvent(
            field, value, f"must have 1 to {longest} characters; this has {len(value)}"
        )
    bad = forbidden.search(value)
    if bad:
        raise InvalidEvent(field, value, f"must not contain {bad.group()!a}; remove the character")
    # An enumeration's member is text too, but formats as its name: count it under its value.
    return str.__str__(value)


def _event_type(value: object) -> str:
    return _text("event_type", value, MAX_EVENT_TYPE_CHARACTERS, CONTROL_OR_SURROGATE)


def _user_id(value: object) -> str:
    return _text("user_id", value, MAX_USER_ID_CHARACTERS, NUL_OR_SURROGATE)


def _event_id(value: object) -> str:
    return _text("event_id", value, MAX_EVENT_ID_CHARACTERS, NUL_OR_SURROGATE)


def _timestamp(value: object, now: datetime) -> datetime:
    at = _as_datetime(value)
    if at.utcoffset() is None:
        raise InvalidEvent(
            "timestamp", value, "has no time zone; add one, such as Z or tzinfo=timezone.utc"
        )
    try:
        at = at.astimezone(UTC)
    except OverflowError as error:
        raise InvalidEvent("timestamp", value, "is outside the years 1 to 9999 in UTC") from error
    if at - now > MAX_AHEAD:
        raise InvalidEvent("timestamp", value, "is more than 24 hours ahead; check the clock")
    return at


def _as_datetime(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return datetime.fromtimestamp(value, UTC)
        except (OverflowError, OSError, ValueError) as error:
            raise InvalidEvent(
                "timestamp", value, "is no Unix time in seconds; milliseconds divide by 1000"
            ) from error
    raise InvalidEvent(
        "timestamp", value, "must be an aware datetime, ISO 8601 text with a zone, or Unix seconds"
    )


def _properties(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidEvent("properties", value, "must be an object of names and values")
    try:
        plain: dict[str, Any] = (
            dict(value)
            if type(value) is dict  # as msgspec would leave it: the usual case, and quick to see
            and _TEXT.issuperset(map(type, value))
            and _PLAIN.issuperset(map(type, value.values()))
            else msgspec.to_builtins(dict(value), str_keys=True, enc_hook=_builtin)
        )
        encoded = msgspec.json.encode(plain)
    except UnicodeEncodeError as error:
        raise InvalidEvent(
            "properties", value, "contains a lone surrogate; send valid Unicode"
        ) from error
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidEvent(
            "properties", value, f"is not JSON: {error}; use plain values"
        ) from error
    except RecursionError as error:
        raise _nested_too_deeply() from error
    if len(encoded) > MAX_PROPERTIES_BYTES:
        raise InvalidEvent(
            "properties",
            value,
            f"takes {len(encoded)} bytes as JSON; at most {MAX_PROPERTIES_BYTES} are allowed",
        )
    if not _is_harmless(encoded):
        _check_values("properties", plain, MAX_PROPERTIES_DEPTH)
    return plain


def _nested_too_deeply() -> InvalidEvent:
    reason = f"is nested more than {MAX_PROPERTIES_DEPTH} levels deep; flatten it"
    return InvalidEvent("properties", "…", reason)


_TEXT = frozenset({str})
_PLAIN = frozenset({str, int, float, bool, type(None)})


def _builtin(value: object) -> str | int | float:
    """A value of a subclass, such as a template's safe string, as what it is in JSON."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _check_values(field: str, value: object, levels: int) -> None:
    """Refuse what JSON or Postgres cannot hold: NUL characters, NaN and infinities; and nesting
    beyond `levels`."""
    if isinstance(value, str):
        if "\x00" in value:
            raise InvalidEvent(field, value, "contains a NUL character; remove it")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidEvent(field, value, "is not a finite number; send null or text")
    elif isinstance(value, dict | list | tuple):
        if levels == 0:
            raise _nested_too_deeply()
        if isinstance(value, dict):
            for name, item in value.items():
                _check_values(field, name, levels)
                _check_values(f"{field}.{name}", item, levels - 1)
        else:
            for position, item in enumerate(value):
                _check_values(f"{field}[{position}]", item, levels - 1)
