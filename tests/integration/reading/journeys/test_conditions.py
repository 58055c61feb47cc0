"""Conditions on the archive: what Postgres says of each event is what the page says, and no event
makes a statement fail."""

from __future__ import annotations

import json
from datetime import date

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.counting.increments import decode_value
from pipeline.reading.conditions.counted_values import read_counted
from pipeline.reading.conditions.language import Condition, parse_condition
from pipeline.reading.conditions.matching import matches, split_properties
from pipeline.reading.journeys.breakdown import BreakdownQuestion, find_breakdown
from pipeline.services import Services
from tests.helpers.journeys.archive import clear, put
from tests.helpers.journeys.conditions import NAMES, RAW, conditions, properties, write
from tests.helpers.support import NOW, TODAY

SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@SHARED
@given(st.lists(properties, max_size=12), conditions, st.sampled_from(NAMES), st.integers(1, 4))
def test_postgres_counts_as_python_does(
    services: Services, archived: list[str | None], condition: Condition, name: str, limit: int
) -> None:
    clear(services)
    put(services, [("sale", NOW, f"u{n % 5}", text) for n, text in enumerate(archived)])
    found = [(f"u{n % 5}", split_properties(text)) for n, text in enumerate(archived)]
    met = [one for one in found if matches(condition, one[1])]
    values = [read_counted(own.get(name)) for _, own in met]
    counts = {value: values.count(value) for value in values if value is not None}

    def ask(by: str | None) -> dict[str, object]:
        question = BreakdownQuestion("sale", TODAY, TODAY, by, write(condition), limit)
        return find_breakdown(services.engine, question).describe()

    assert ask(None) == {"count": len(met), "users": len({user for user, _ in met}), "as_of": None}
    largest = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:limit]
    assert ask(name) == {
        "breakdown": [{"value": decode_value(value), "count": n} for value, n in largest],
        "count": len(met),
        "others": sum(counts.values()) - sum(n for _, n in largest),
        "without": values.count(None),
        "as_of": None,
    }


@pytest.mark.parametrize(
    "where",
    [
        f"p {order} {number}"
        for order in ("=", "<", ">=")
        for number in ("0", "12", "1e300", "-1e-300")
    ]
    + ['p = "12"', 'p < "pro"', 'p contains "1"', "p = true", "not p exists", 'p in ("", 0.1)'],
)
def test_no_value_makes_a_condition_fail_or_mean_something_else(
    services: Services, where: str
) -> None:
    huge = ("1e200000", "1e-200000", "0." + "1" * 20_000, "1e0000000005", "1E+3", "-1E400")
    texts = [f'{{"p":{raw}}}' for raw in (*RAW, *huge)]
    put(services, [("sale", NOW, f"u{n}", text) for n, text in enumerate(texts)])

    found = find_breakdown(services.engine, BreakdownQuestion("sale", TODAY, TODAY, where=where))

    condition = parse_condition(where)
    assert found.count == sum(matches(condition, split_properties(text)) for text in texts)


def test_a_value_is_broken_down_as_it_is_counted(services: Services) -> None:
    odd = {"é" * 300: 1, "a\x00b": 2, "\uffff0": 3}
    put(
        services,
        [
            ("sale", NOW, None, json.dumps({"p": value}, ensure_ascii=False))
            for value, n in odd.items()
            for _ in range(n)
        ],
    )

    found = find_breakdown(services.engine, BreakdownQuestion("sale", TODAY, TODAY, "p"))

    assert found.values == [("\uffff0", 3), ("a\x00b", 2), ("é" * 200 + "…", 1)]


def test_days_are_those_asked_for(services: Services) -> None:
    put(services, [("sale", NOW, "u1", None), ("sale", NOW.replace(day=13), "u2", None)])

    question = BreakdownQuestion("sale", date(2025, 3, 13), date(2025, 3, 13))

    assert find_breakdown(services.engine, question).describe() == {
        "count": 1,
        "users": 1,
        "as_of": None,
    }
