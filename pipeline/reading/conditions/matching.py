"""What a condition says of an event, in Python: for the few events whose properties Postgres does
not take apart, and as the reference for the SQL of all others. Pure.

A property that is absent, or null, equals nothing, contains nothing and has no order; every
comparison is either true or false, and `!=` is the opposite of `=`. Text is compared with a value's
text as it is counted (`12`, `true`, `{"a":1}`), numbers with numbers, true and false with
themselves; `<` and its like compare text with text by code points.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from pipeline.reading.conditions.language import Both, Comparison, Condition, Not, Value

NUMBER = r"^-?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]{1,3})?$"
"""A number that is compared, as JSON has it; one that is longer than `MAX_NUMBER_CHARACTERS` or has
a larger exponent matches no comparison."""
MAX_NUMBER_CHARACTERS = 1_000
_is_number = re.compile(NUMBER).match
_ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode

Properties = Mapping[str, str]
"""A property's name -> its value's JSON as it stands in the archive."""


def split_properties(text: str | None) -> Properties:
    """The properties of an archived event, whatever stands there; empty for what is no object."""
    if text is None:
        return {}
    try:
        found = _decode_raw(text)
        return {} if found is None else {name: bytes(raw).decode() for name, raw in found.items()}
    except (msgspec.DecodeError, UnicodeError):
        pass
    try:
        # Half a pair of surrogates, which msgspec refuses and an archive of others may hold.
        parsed = json.loads(text, parse_int=_Verbatim, parse_float=_Verbatim)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(parsed, dict):
        return {}
    return {name: _encode(value) for name, value in parsed.items()}


def read_text(raw: str | None) -> str | None:
    """The text of a value's JSON, as it is counted; None for null and what is absent."""
    if raw is None or raw == "null":
        return None
    return str(json.loads(raw)) if raw.startswith('"') else raw


def matches(condition: Condition, properties: Properties) -> bool:
    """Whether the condition is true of an event with these properties."""
    match condition:
        case Not(one):
            return not matches(one, properties)
        case Both(is_any, parts):
            found = (matches(part, properties) for part in parts)
            return any(found) if is_any else all(found)
        case Comparison(name, word, values):
            return _compare(properties.get(name), word, values)


def _compare(raw: str | None, word: str, values: tuple[Value, ...]) -> bool:
    text = read_text(raw)
    if word == "exists":
        return text is not None
    if word == "!=":
        return not _compare(raw, "=", values)
    if raw is None or text is None:
        return False
    if word == "contains":
        return str(values[0]) in text
    if word in _ORDERS:
        return _is_ordered(raw, text, word, values[0])
    return any(_equals(raw, text, value) for value in values)


def _equals(raw: str, text: str, value: Value) -> bool:
    if isinstance(value, bool):
        return raw == str(value).lower()
    if isinstance(value, str):
        return text == value
    return _is_comparable(raw) and Decimal(raw) == value


def _is_ordered(raw: str, text: str, word: str, value: Value) -> bool:
    if isinstance(value, Decimal):
        return _is_comparable(raw) and bool(_ORDERS[word](Decimal(raw), value))
    # In their UTF-8, as Postgres compares; that order is the one of code points.
    return raw.startswith('"') and bool(_ORDERS[word](text, value))


def _is_comparable(raw: str) -> bool:
    return len(raw) <= MAX_NUMBER_CHARACTERS and _is_number(raw) is not None


class _Verbatim(str):
    """A number as it is written."""

    __slots__ = ()


def _encode(value: Any) -> str:
    if isinstance(value, _Verbatim):
        return str(value)
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))
