"""The rules of the wire contract for each field of an event; a broken one raises `InvalidEvent`.

Pure. They word what is wrong with an event; `model.py` passes events without anything unusual by.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from decimal import Decimal
from typing import Any

from pipeline.contract import (
    MAX_AHEAD,
    MAX_EVENT_ID_CHARACTERS,
    MAX_EVENT_TYPE_CHARACTERS,
    MAX_PROPERTIES_BYTES,
    MAX_PROPERTIES_DEPTH,
    MAX_SOURCE_CHARACTERS,
    MAX_USER_ID_CHARACTERS,
)
from pipeline.days import UTC
from pipeline.errors import InvalidEvent
from pipeline.event import names, plain_values
from pipeline.event.times import read_time, read_unix_time

_CONTROL = re.compile("[\x00-\x1f]")
"""What the name of a property is cleaned of: JSON escapes these, so they are found at a glance."""


def check_event_type(value: object) -> str:
    """The event type, cleaned. Raises `InvalidEvent`."""
    text = names.clean_name(names.read_name("event_type", value))
    return _check_length("event_type", text, MAX_EVENT_TYPE_CHARACTERS)


def check_user_id(value: object) -> str:
    """The user id, cleaned; a whole number as text. Raises `InvalidEvent`."""
    text = names.clean_name(names.read_id("user_id", value))
    return _check_length("user_id", text, MAX_USER_ID_CHARACTERS)


def check_event_id(value: object) -> str:
    """The event id; a whole number as text. Raises `InvalidEvent`."""
    text = names.clean_id(names.read_id("event_id", value))
    return _check_length("event_id", text, MAX_EVENT_ID_CHARACTERS)


def _check_length(field: str, text: str, longest: int) -> str:
    if not 1 <= len(text) <= longest:
        reason = f"must have 1 to {longest} characters; this has {len(text)}"
        raise InvalidEvent(field, text, reason)
    return text


def check_source(value: object) -> str:
    """The source of an event's id; "" for the shared one. Raises `InvalidEvent`."""
    if value is None:
        return ""
    if not isinstance(value, str) or not value.isprintable() or len(value) > MAX_SOURCE_CHARACTERS:
        reason = f"must be text of at most {MAX_SOURCE_CHARACTERS} printable characters"
        raise InvalidEvent("source", value, f"{reason}; leave it out for the shared source")
    return str.__str__(value)


def check_timestamp(value: object, now: datetime) -> datetime:
    """The timestamp in UTC; `now` bounds how far ahead it may lie. Raises `InvalidEvent`."""
    at = _to_datetime(names.take_off_tag(value))
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


def _to_datetime(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        at = read_time(str(value))
        if at is not None:
            return at
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        try:
            return read_unix_time(float(value) if isinstance(value, Decimal) else value)
        except (OverflowError, OSError, ValueError) as error:
            raise InvalidEvent(
                "timestamp", value, "is no Unix time in seconds or milliseconds; correct it"
            ) from error
    raise InvalidEvent(
        "timestamp", value, "must be an aware datetime, ISO 8601 text with a zone, or Unix seconds"
    )


def check_properties(value: object) -> dict[str, Any]:
    """The properties as plain values of JSON. Raises `InvalidEvent`."""
    plain, encoded = plain_values.to_json(value)
    if len(encoded) > MAX_PROPERTIES_BYTES:
        raise InvalidEvent(
            "properties",
            value,
            f"takes {len(encoded)} bytes as JSON; at most {MAX_PROPERTIES_BYTES} are allowed",
        )
    if not _are_sound(plain):
        plain = _clean_values("properties", plain, MAX_PROPERTIES_DEPTH)
    return plain


def _are_sound(plain: dict[str, Any]) -> bool:
    """Whether `_clean_values` changes nothing: it takes ten times as long, to say where it is."""
    containers: list[Any] = [plain]
    for _ in range(MAX_PROPERTIES_DEPTH):
        inner: list[Any] = []
        for container in containers:
            items = container
            if type(container) is dict:
                if _CONTROL.search("".join(container)):
                    return False
                items = container.values()
            for item in items:
                kind = type(item)
                if kind in _CONTAINERS:
                    inner.append(item)
                elif kind is float and not math.isfinite(item):
                    return False
        if not inner:
            return True
        containers = inner
    raise _nested_too_deeply()


_CONTAINERS = frozenset({dict, list, tuple})


def _nested_too_deeply() -> InvalidEvent:
    reason = f"is nested more than {MAX_PROPERTIES_DEPTH} levels deep; flatten it"
    return InvalidEvent("properties", "…", reason)


def _clean_values(field: str, value: Any, levels: int) -> Any:
    """The value with the names of its properties cleaned; NaN, infinities and nesting beyond
    `levels` are refused. Text stays as it is, NUL included."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidEvent(field, value, "is not a finite number; send null or text")
    if isinstance(value, dict | list | tuple):
        if levels == 0:
            raise _nested_too_deeply()
        if isinstance(value, dict):
            # Where two names become one, the one that was clean has the say.
            ordered = sorted(value.items(), key=lambda item: bool(_CONTROL.search(item[0])))
            found: dict[str, Any] = {}
            for name, item in ordered:
                clean = names.clean_name(name) if _CONTROL.search(name) else name
                found.setdefault(clean, _clean_values(f"{field}.{clean}", item, levels - 1))
            return found
        return [
            _clean_values(f"{field}[{position}]", item, levels - 1)
            for position, item in enumerate(value)
        ]
    return value
