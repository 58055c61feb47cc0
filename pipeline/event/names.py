"""Names and ids as text: read from what stands for text, and cleaned. Pure.

A usual text never comes here: `model.py` recognises it.
"""

from __future__ import annotations

import re
from collections import UserString
from contextlib import suppress
from enum import Enum
from operator import index
from typing import Any
from uuid import UUID

from pipeline.errors import InvalidEvent

_CONTROL_SPACE = re.compile("[\t-\r\x1c-\x1f\x85]+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TAGGED = {"__type__", "__value__"}
_TOO_LARGE = 10**256


def mend_surrogates(text: str) -> str:
    """The text with U+FFFD in place of every lone surrogate; two halves that follow each other
    become the character that they are."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def clean_name(text: str) -> str:
    """A name without control characters, which no screen shows: those that separate words, such as
    a line feed, become a space. Spaces at its ends go too, lone surrogates become U+FFFD."""
    text = _CONTROL_SPACE.sub(" ", mend_surrogates(text))
    return _CONTROL.sub("", text).strip(" ")


def clean_id(text: str) -> str:
    """An event's id as it is, since two that differ are two events; only what Postgres cannot
    hold, NUL and lone surrogates, becomes U+FFFD."""
    return mend_surrogates(text).replace("\x00", "\ufffd")


def read_name(field: str, value: object) -> str:
    """The text that a value is: text itself, a member of an enumeration by its value, or a lazy
    text. Raises `InvalidEvent`."""
    text = _find_text(value)
    if text is None:
        raise InvalidEvent(field, value, "must be text; convert it with str()")
    return text


def read_id(field: str, value: object) -> str:
    """The text that an id is: what `read_name` takes, a whole number or a UUID. Raises
    `InvalidEvent` for booleans and fractions: 1 and 1.0 would be two users."""
    if isinstance(value, Enum) and not isinstance(value, str | int):
        value = value.value
    text = _find_text(value)
    if text is None and isinstance(value, UUID):
        text = str(value)
    if text is None and not isinstance(value, bool):
        text = _write_whole(field, value)
    if text is None:
        raise InvalidEvent(
            field, value, "must be text or a whole number; give the id itself, such as str(user.pk)"
        )
    return text


def find_lazy_text(value: object) -> str | None:
    """The text of an object that stands for one without being one, such as Django's lazy
    translations, Babel's and Werkzeug's proxies, `UserString`; None for all others.

    They pass on the methods of text, which nothing else has.
    """
    try:
        folded = value.casefold()  # type: ignore[attr-defined]
    except Exception:  # an object's own code, which may raise anything
        return None
    return str(value) if isinstance(folded, str | UserString) else None


def take_off_tag(value: Any) -> Any:
    """The value without what stock Celery's serialiser puts around a value that JSON does not know:
    `{"__type__": "uuid", "__value__": {"hex": …}}` and its like."""
    if not isinstance(value, dict) or value.keys() != _TAGGED:
        return value
    inner = value["__value__"]
    if isinstance(inner, dict) and inner.keys() == {"hex"}:
        with suppress(ValueError):
            return str(UUID(str(inner["hex"])))
    return inner


def take_off_tags(value: Any) -> Any:
    """The value without such tags anywhere in it. Raises RecursionError."""
    value = take_off_tag(value)
    if isinstance(value, dict):
        return {name: take_off_tags(item) for name, item in value.items()}
    return [take_off_tags(item) for item in value] if isinstance(value, list | tuple) else value


def _find_text(value: object) -> str | None:
    value = take_off_tag(value)
    if isinstance(value, Enum) and isinstance(value.value, str):
        value = value.value
    if issubclass(type(value), str):
        # A subclass may format as something else: an enumeration's member as its name.
        return str.__str__(value)
    return find_lazy_text(value)


def _is_lazy_number(value: object) -> bool:
    return isinstance(value, int) and not issubclass(type(value), int)


def _write_whole(field: str, value: object) -> str | None:
    try:
        # A lazy object has the class of its value, and not its methods.
        number = int(str(value)) if _is_lazy_number(value) else index(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # Python writes no number of thousands of digits
        return None
    if abs(number) < _TOO_LARGE:
        return str(number)
    raise InvalidEvent(field, number, "has more than 256 digits; shorten it")
