"""The words of a condition, each with its position. Pure."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple

from pipeline.errors import InvalidCondition

MAX_CHARACTERS = 4_000
MAX_DIGITS = 100
"""Of a number, everything counted."""
MAX_EXPONENT = 300
KEYWORDS = frozenset({"and", "or", "not", "in", "contains", "exists", "true", "false"})
_WORD = re.compile(r"[^\W\d][\w.$-]*|\$[\w.$-]+")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_SYMBOL = re.compile(r"!=|<=|>=|[=<>(),]")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_REFUSED = re.compile("[\x00\ud800-\udfff]")
_MISTAKEN = {"==": "=", "<>": "!=", "&&": "and", "||": "or", "!": "not", "&": "and", "|": "or"}


class Token(NamedTuple):
    """A word. `kind` is word, keyword, text, number, symbol or end; `value` is what it says."""

    kind: str
    value: str | Decimal
    position: int
    """Of its first character, from 1 on."""


def tokenize(text: str) -> list[Token]:
    """The words of a condition, the last of them `end`. Raises `InvalidCondition`."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidCondition(
            MAX_CHARACTERS + 1, f"a condition has at most {MAX_CHARACTERS:,} characters; shorten it"
        )
    if refused := _REFUSED.search(text):
        raise InvalidCondition(
            refused.start() + 1, "no text of an event holds this character; leave it out"
        )
    tokens, at = list[Token](), 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        token, at = _read(text, at)
        tokens.append(token)
    return [*tokens, Token("end", "the end", len(text) + 1)]


def _read(text: str, at: int) -> tuple[Token, int]:
    """The word that begins there, and where it ends."""
    position = at + 1
    if text[at] in "\"'":
        quoted = _QUOTED.match(text, at)
        if quoted is None:
            raise InvalidCondition(position, f"this text has no end; add the closing {text[at]}")
        return Token("text", _unescape(quoted, position), position), quoted.end()
    for mistaken, right in _MISTAKEN.items():
        if text.startswith(mistaken, at) and not text.startswith("!=", at):
            raise InvalidCondition(position, f"{mistaken} is not known here; write {right}")
    if symbol := _SYMBOL.match(text, at):
        return Token("symbol", symbol[0], position), symbol.end()
    if number := _NUMBER.match(text, at):
        return Token("number", _read_number(number[0], position), position), number.end()
    if word := _WORD.match(text, at):
        folded = word[0].lower()
        if folded in KEYWORDS:
            return Token("keyword", folded, position), word.end()
        return Token("word", word[0], position), word.end()
    raise InvalidCondition(
        position, f"{text[at]!r} is not known here; put quotes around names and text that hold it"
    )


def _unescape(quoted: re.Match[str], position: int) -> str:
    inner = quoted[1] if quoted[1] is not None else quoted[2]
    for escaped in _ESCAPED.finditer(inner):
        if escaped[1] not in "\\\"'":
            raise InvalidCondition(
                position + 1 + escaped.start(),
                "a backslash stands before a quote or another backslash only; write \\\\ for one",
            )
    return _ESCAPED.sub(r"\1", inner)


def _read_number(text: str, position: int) -> Decimal:
    exponent = text.lower().partition("e")[2]
    if len(text) > MAX_DIGITS or abs(int(exponent or 0)) > MAX_EXPONENT:
        raise InvalidCondition(
            position,
            f"a number has at most {MAX_DIGITS} characters and an exponent of at most "
            f"{MAX_EXPONENT}; write a smaller one",
        )
    return Decimal(text)
