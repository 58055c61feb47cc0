"""The rules of the wire contract for each field of an event; a broken one raises `InvalidEvent`.

Pure. They word what is wrong with an event; `model.py` passes events without anything unusual by.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from pipeline.contract import (
    CONTROL_OR_SURROGATE,
    MAX_AHEAD,
    MAX_EVENT_ID_CHARACTERS,
    MAX_EVENT_TYPE_CHARACTERS,
    MAX_PROPERTIES_BYTES,
    MAX_PROPERTIES_DEPTH,
    MAX_SOURCE_CHARACTERS,
    MAX_USER_ID_CHARACTERS,
    NUL_OR_SURROGATE,
)
from pipeline.errors import InvalidEvent


def _check_text(field: str, value: object, longest: int, forbidden: re.Pattern[str]) -> str:
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


def check_event_type(value: object) -> str:
    """The event type. Raises `InvalidEvent`."""
    return _check_text("event_type", value, MAX_EVENT_TYPE_CHARACTERS, CONTROL_OR_SURROGATE)


def check_user_id(value: object) -> str:
    """The user id. Raises `InvalidEvent`."""
    return _check_text("user_id", value, MAX_USER_ID_CHARACTERS, NUL_OR_SURROGATE)


def check_event_id(value: object) -> str:
    """The event id. Raises `InvalidEvent`."""
    return _check_text("event_id", value, MAX_EVENT_ID_CHARACTERS, NUL_OR_SURROGATE)


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
    at = _to_datetime(value)
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


def check_properties(value: object) -> dict[str, Any]:
    """The properties as plain values of JSON. Raises `InvalidEvent`."""
    if not isinstance(value, Mapping):
        raise InvalidEvent("properties", value, "must be an object of names and values")
    try:
        plain: dict[str, Any] = msgspec.to_builtins(
            dict(value), str_keys=True, enc_hook=_to_builtin
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
    if not _are_sound(plain):
        _check_values("properties", plain, MAX_PROPERTIES_DEPTH)
    return plain


def _are_sound(plain: dict[str, Any]) -> bool:
    """Whether `_check_values` finds nothing: it takes ten times as long, to say where it is."""
    containers: list[Any] = [plain]
    for _ in range(MAX_PROPERTIES_DEPTH):
        inner: list[Any] = []
        for container in containers:
            items = container
            if type(container) is dict:
                if "\x00" in "".join(container):
                    return False
                items = container.values()
            for item in items:
                kind = type(item)
                if kind in _CONTAINERS:
                    inner.append(item)
                elif (kind is float and not math.isfinite(item)) or (
                    kind is str and "\x00" in item
                ):
                    return False
        if not inner:
            return True
        containers = inner
    raise _nested_too_deeply()


_CONTAINERS = frozenset({dict, list, tuple})


def _nested_too_deeply() -> InvalidEvent:
    reason = f"is nested more than {MAX_PROPERTIES_DEPTH} levels deep; flatten it"
    return InvalidEvent("properties", "…", reason)


def _to_builtin(value: object) -> str | int | float:
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
