"""Conditions as SQL on `events.properties`; every name and value is a bind parameter.

No archived event makes a statement fail. Postgres cannot take apart what holds the escape of a NUL
or of half a surrogate pair, so what has a `\\u` in it (control characters, in the archive of this
program) is left to `pipeline.reading.conditions.matching`: `ODD`. Numbers are cast where they have
the form of a number that Postgres takes.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from pipeline.reading.conditions.language import Both, Comparison, Condition, Not, Value
from pipeline.reading.conditions.matching import MAX_NUMBER_CHARACTERS, NUMBER

ODD = r"(COALESCE(position('\u' IN CAST(properties AS TEXT)), 0) > 0)"
"""True of events that Postgres may not be able to take apart."""


class Binder:
    """Collects the values of a statement: with psycopg's placeholders, or those that `write` makes
    of a name."""

    def __init__(self, write: Callable[[str], str] = "%({})s".format) -> None:
        self.values: dict[str, Any] = {}
        self._write = write

    def bind(self, value: object, kind: str) -> str:
        """The placeholder of a value of this type."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f"CAST({self._write(name)} AS {kind})"


def write_condition(condition: Condition, binder: Binder) -> str:
    """The condition as an expression that is true or false, and never null; for events that are not
    `ODD`."""
    match condition:
        case Not(one):
            return f"(NOT {write_condition(one, binder)})"
        case Both(is_any, parts):
            word = " OR " if is_any else " AND "
            return f"({word.join(write_condition(part, binder) for part in parts)})"
        case Comparison():
            return _write_comparison(condition, binder)


def write_text(name: str, binder: Binder) -> str:
    """The text of a property's value, as it is counted; null where it is absent or null."""
    return f"(properties ->> {binder.bind(name, 'TEXT')})"


def _write_comparison(comparison: Comparison, binder: Binder) -> str:
    text = write_text(comparison.name, binder)
    match comparison.operator:
        case "exists":
            return f"({text} IS NOT NULL)"
        case "contains":
            sought = binder.bind(comparison.values[0], "TEXT")
            return f"COALESCE(position({sought} IN {text}) > 0, FALSE)"
        case "=" | "!=" | "in":
            equal = [_write_equal(comparison.name, value, binder) for value in comparison.values]
            found = f"({' OR '.join(equal)})"
            return f"(NOT {found})" if comparison.operator == "!=" else found
        case order:
            return _write_order(comparison.name, order, comparison.values[0], binder)


def _write_equal(name: str, value: Value, binder: Binder) -> str:
    if isinstance(value, bool):
        raw = _write_raw(name, binder)
        return f"COALESCE({raw} = {binder.bind(str(value).lower(), 'TEXT')}, FALSE)"
    if isinstance(value, Decimal):
        return _write_order(name, "=", value, binder)
    return f"COALESCE({write_text(name, binder)} = {binder.bind(value, 'TEXT')}, FALSE)"


def _write_order(name: str, order: str, value: Value, binder: Binder) -> str:
    raw = _write_raw(name, binder)
    if isinstance(value, Decimal):
        return (
            f"(CASE WHEN length({raw}) <= {MAX_NUMBER_CHARACTERS} AND {raw} ~ '{NUMBER}' "
            f"THEN CAST({raw} AS NUMERIC) {order} {binder.bind(value, 'NUMERIC')} ELSE FALSE END)"
        )
    sought = binder.bind(value, "TEXT")
    return (
        f"(CASE WHEN left({raw}, 1) = '\"' "
        f'THEN {write_text(name, binder)} COLLATE "C" {order} {sought} ELSE FALSE END)'
    )


def _write_raw(name: str, binder: Binder) -> str:
    """A value's JSON."""
    return f"CAST(properties -> {binder.bind(name, 'TEXT')} AS TEXT)"
