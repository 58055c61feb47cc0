"""The values of Python programs as plain values of JSON. Pure.

What stock Celery's JSON takes is taken, and becomes what a reader of JSON expects; see
docs/reference/what-is-accepted.md for the table.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Set
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

from pipeline.errors import InvalidEvent
from pipeline.event.names import find_lazy_text, mend_surrogates, take_off_tags

TAG = b'"__type__"'
"""In JSON of stock Celery's serialiser, before a value that JSON does not know."""
_SPELLED = {None: "null", True: "true", False: "false"}


def to_json(value: object) -> tuple[dict[str, Any], bytes]:
    """Properties as plain values, and as JSON; an empty list, which is PHP's empty array, is an
    empty object. Raises `InvalidEvent`."""
    if not isinstance(value, Mapping):
        if isinstance(value, list | tuple) and not value:
            return {}, b"{}"
        raise InvalidEvent("properties", value, "must be an object of names and values")
    try:
        plain = _to_plain(dict(value))
        try:
            encoded = msgspec.json.encode(plain)
        except UnicodeEncodeError:
            plain = _mend(plain)
            encoded = msgspec.json.encode(plain)
        if TAG not in encoded:
            return plain, encoded
        plain = {name: take_off_tags(item) for name, item in plain.items()}
        return plain, msgspec.json.encode(plain)
    except RecursionError as error:
        raise InvalidEvent(
            "properties", "…", "is nested more than 100 levels deep; flatten it"
        ) from error
    except (TypeError, ValueError, OverflowError) as error:
        reason = f"is not JSON: {error}; use plain values"
        raise InvalidEvent("properties", value, reason) from error


def _to_plain(value: dict[Any, Any]) -> dict[str, Any]:
    plain: dict[str, Any]
    try:
        plain = msgspec.to_builtins(value, str_keys=True, enc_hook=_convert)
    except TypeError:  # it may be about names that JSON can write, and msgspec does not
        plain = msgspec.to_builtins(_spell_names(value), str_keys=True, enc_hook=_convert)
    return plain


def _spell_names(value: Any) -> Any:
    """The value with names of properties that are None, True or False as the text of JSON."""
    if isinstance(value, Mapping):
        return {
            _SPELLED[name] if name is None or isinstance(name, bool) else name: _spell_names(item)
            for name, item in value.items()
        }
    return [_spell_names(item) for item in value] if isinstance(value, list | tuple) else value


def _convert(value: object) -> Any:  # noqa: PLR0911 - a table of types
    """A value that msgspec does not know, as one that it knows, or that holds such."""
    if isinstance(value, str) and issubclass(type(value), str):  # such as a template's safe string
        return str.__str__(value)
    if callable(reducer := getattr(value, "__json__", None)):
        return reducer()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, int | float):
        number = int if isinstance(value, int) else float
        # A lazy object has the class of its value, and not its methods.
        return number(value if issubclass(type(value), number) else str(value))
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, type(None)):  # a lazy object
        return None
    if isinstance(value, Set | deque | list | tuple):
        return list(value)
    text = find_lazy_text(value)
    if text is not None:
        return text
    if type(value).__module__.partition(".")[0] == "numpy":
        return value.tolist()  # type: ignore[attr-defined]
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _mend(value: Any) -> Any:
    """The value without lone surrogates."""
    if isinstance(value, str):
        return mend_surrogates(value)
    if isinstance(value, dict):
        return {mend_surrogates(name): _mend(item) for name, item in value.items()}
    return [_mend(item) for item in value] if isinstance(value, list | tuple) else value
