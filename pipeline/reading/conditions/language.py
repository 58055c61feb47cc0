"""The language of conditions on the properties of an event. Pure.

    plan = "pro" and not (country in ("DE", "FR") or total < 10) and coupon exists

`or` binds weakest, then `and`, then `not`. Names stand bare, or in quotes where they hold other
characters than letters, digits, `_`, `.`, `-` and `$`, or are a word of the language. Values are
text in quotes, numbers, `true` and `false`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from pipeline.errors import InvalidCondition
from pipeline.reading.conditions.tokens import Token, tokenize

MAX_DEPTH = 20
"""Of parentheses and `not`, one within another."""
MAX_COMPARISONS = 50
MAX_VALUES = 100
"""In the list of one `in`."""
_OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
_KNOWN_OPERATORS = "=, !=, <, <=, >, >=, in, contains or exists"

Value = str | Decimal | bool


@dataclass(frozen=True)
class Comparison:
    """A property and what is said of it; `values` are one value, those of `in`, or none."""

    name: str
    operator: str
    values: tuple[Value, ...] = ()


@dataclass(frozen=True)
class Not:
    """True where `one` is not."""

    one: Condition


@dataclass(frozen=True)
class Both:
    """True where all of `parts` are (`is_any` false), or any of them (true)."""

    is_any: bool
    parts: tuple[Condition, ...]


Condition = Comparison | Not | Both


def parse_condition(text: str) -> Condition:
    """The condition that the text says.

    Raises `InvalidCondition` with the position of what is wrong, and the remedy.
    """
    return _Parser(tokenize(text)).parse()


class _Parser:
    """Recursive descent, its depth bounded."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens, self._at, self._comparisons = tokens, 0, 0

    def parse(self) -> Condition:
        if self._next.kind == "end":
            raise _refuse(self._next, 'no condition is given; write one such as plan = "pro"')
        found = self._parse_any(0)
        if self._next.kind != "end":
            if self._next.value == ")":
                raise _refuse(self._next, "this parenthesis was never opened; leave it out")
            raise _refuse(self._next, "a condition ends before this; join two with and, or or")
        return found

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._next
        self._at += token.kind != "end"
        return token

    def _take_if(self, value: str) -> bool:
        """Take a keyword or symbol, if it is next."""
        if self._next.kind not in ("keyword", "symbol") or self._next.value != value:
            return False
        self._at += 1
        return True

    def _parse_any(self, depth: int) -> Condition:
        return self._join("or", depth, self._parse_all)

    def _parse_all(self, depth: int) -> Condition:
        return self._join("and", depth, self._parse_one)

    def _join(self, word: str, depth: int, parse: Callable[[int], Condition]) -> Condition:
        parts = [parse(depth)]
        while self._take_if(word):
            parts.append(parse(depth))
        return parts[0] if len(parts) == 1 else Both(word == "or", tuple(parts))

    def _parse_one(self, depth: int) -> Condition:
        begin = self._next
        if depth > MAX_DEPTH:
            raise _refuse(begin, f"conditions nest at most {MAX_DEPTH} deep; write it flatter")
        if self._take_if("not"):
            return Not(self._parse_one(depth + 1))
        if self._take_if("("):
            found = self._parse_any(depth + 1)
            if not self._take_if(")"):
                raise _refuse(
                    self._next, f"the parenthesis of character {begin.position} is open; add )"
                )
            return found
        return self._parse_comparison()

    def _parse_comparison(self) -> Condition:
        self._comparisons += 1
        name = self._take()
        if self._comparisons > MAX_COMPARISONS:
            raise _refuse(name, f"a condition compares at most {MAX_COMPARISONS} times; use in (…)")
        if name.kind == "keyword":
            raise _refuse(
                name, f"a property is due here; one that is called {name.value} needs quotes"
            )
        if name.kind not in ("word", "text") or not name.value:
            raise _refuse(name, f"the name of a property is due here, not {_show(name)}")
        operator = self._take()
        text, word = str(name.value), str(operator.value)
        if operator.kind == "symbol" and word in _OPERATORS:
            return self._compare(text, word)
        if operator.kind == "keyword" and word == "exists":
            return Comparison(text, word)
        if operator.kind == "keyword" and word == "contains":
            return Comparison(text, word, (self._parse_text(),))
        if operator.kind == "keyword" and word == "in":
            return Comparison(text, word, self._parse_list())
        if word == "not":
            raise _refuse(operator, 'not stands before the property: not country in ("DE")')
        raise _refuse(operator, f"{_KNOWN_OPERATORS} is due here, not {_show(operator)}")

    def _compare(self, name: str, operator: str) -> Comparison:
        token = self._next
        value = self._parse_value()
        if isinstance(value, bool) and operator not in ("=", "!="):
            raise _refuse(
                token, f"true and false have no order; compare them with = or !=, not {operator}"
            )
        return Comparison(name, operator, (value,))

    def _parse_value(self) -> Value:
        token = self._take()
        if token.kind == "text":
            return str(token.value)
        if isinstance(token.value, Decimal):
            return token.value
        if token.value in ("true", "false") and token.kind == "keyword":
            return token.value == "true"
        if token.kind == "word":
            raise _refuse(token, f'text stands in quotes; write "{token.value}"')
        raise _refuse(
            token,
            f"a value is due here (text in quotes, a number, true or false), not {_show(token)}",
        )

    def _parse_text(self) -> str:
        token = self._next
        value = self._parse_value()
        if not isinstance(value, str):
            raise _refuse(token, f'contains takes text; write "{_show(token)}"')
        return value

    def _parse_list(self) -> tuple[Value, ...]:
        if not self._take_if("("):
            raise _refuse(self._next, 'in takes a list in parentheses; write in ("DE", "FR")')
        values = [self._parse_value()]
        while self._take_if(","):
            values.append(self._parse_value())
        if len(values) > MAX_VALUES:
            raise _refuse(self._next, f"in takes at most {MAX_VALUES} values; split it with or")
        if not self._take_if(")"):
            raise _refuse(self._next, f"a comma or ) is due here, not {_show(self._next)}")
        return tuple(values)


def _show(token: Token) -> str:
    text = str(token.value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _refuse(token: Token, reason: str) -> InvalidCondition:
    return InvalidCondition(token.position, reason)
