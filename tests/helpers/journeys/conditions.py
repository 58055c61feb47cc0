"""Conditions and properties at random, and conditions as text."""

from __future__ import annotations

import json
from decimal import Decimal

from hypothesis import strategies as st

from pipeline.reading.conditions.language import Both, Comparison, Condition, Not, Value

NAMES = ("plan", "total", "a b", 'q"\\', "not", "é", "x.y-$")
TEXTS = ("pro", "12", "true", "", "'\"\\", "1e400", "ü\uffff", '{"a":1}', "é")
NUMBERS = tuple(map(Decimal, ("0", "12", "12.5", "-3", "1e300", "-1e-300", "0.1")))
RAW = (
    "null",
    "true",
    "false",
    '"true"',
    "12",
    "12.0",
    "-0",
    "1.2e1",
    "0.1",
    "1e400",
    "-1e400",
    "1e5000",
    "1" * 1_500,
    '""',
    '"pro"',
    '"a\\u0000b"',
    '"\\ud800"',
    '"\\\\u0000"',
    '"x\uffff"',
    '{"a":1}',
    '["pro"]',
    '"' + "é" * 250 + '"',
)
"""Values of properties as JSON: what Postgres refuses to cast or to take apart among them."""

values: st.SearchStrategy[Value] = st.one_of(
    st.sampled_from(TEXTS), st.sampled_from(NUMBERS), st.booleans()
)
names = st.sampled_from(NAMES)
unordered = st.one_of(st.sampled_from(TEXTS), st.sampled_from(NUMBERS))
comparisons: st.SearchStrategy[Condition] = st.one_of(
    st.builds(Comparison, names, st.sampled_from(["=", "!="]), st.tuples(values)),
    st.builds(Comparison, names, st.sampled_from(["<", "<=", ">", ">="]), st.tuples(unordered)),
    st.builds(
        Comparison, names, st.just("in"), st.lists(values, min_size=1, max_size=3).map(tuple)
    ),
    st.builds(Comparison, names, st.just("contains"), st.tuples(st.sampled_from(TEXTS))),
    st.builds(Comparison, names, st.just("exists")),
)
conditions: st.SearchStrategy[Condition] = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(Both, st.booleans(), st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)
properties = st.one_of(
    st.none(),
    st.sampled_from(["null", "[]", "5", '"text"']),
    st.dictionaries(names, st.sampled_from(RAW), max_size=4).map(
        lambda found: "{" + ",".join(f"{json.dumps(k)}:{v}" for k, v in found.items()) + "}"
    ),
)


def write(condition: Condition) -> str:
    """The condition as its text, every part in parentheses."""
    match condition:
        case Not(one):
            return f"not ({write(one)})"
        case Both(is_any, parts):
            return (" or " if is_any else " AND ").join(f"({write(part)})" for part in parts)
        case Comparison(name, "exists", _):
            return f"{_quote(name)} exists"
        case Comparison(name, "in", listed):
            return f"{_quote(name)} in ({', '.join(map(_show, listed))})"
        case Comparison(name, word, (value,)):
            return f"{_quote(name)} {word} {_show(value)}"
    raise AssertionError(condition)


def _show(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return _quote(value) if isinstance(value, str) else str(value)


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
