from __future__ import annotations

from datetime import timedelta

import pytest

from pipeline.errors import InvalidQuestion
from pipeline.reading.conditions.language import Comparison
from pipeline.reading.journeys.steps import Step, parse_step, parse_steps, parse_window

PRO = Comparison("plan", "=", ("pro",))


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("signup", Step("signup")),
        (' signup[plan = "pro"] ', Step("signup", PRO)),
        ('"a [b]"', Step("a [b]")),
        ('"a \\"[b]"[plan="pro"]', Step('a "[b]', PRO)),
        ('x["a]" = "]"]', Step("x", Comparison("a]", "=", ("]",)))),
    ],
)
def test_a_step_is_a_type_with_conditions(text: str, step: Step) -> None:
    assert parse_step(text) == step


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a"], "2 to 8 steps; 1 are given"),
        (["a"] * 9, "9 are given"),
        (["a", ""], "step 2: the event type"),
        (["[x]", "a"], "step 1: character 1: an event type stands before [conditions]"),
        (["a[plan=1", "b"], "step 1: character 9: the [ of character 2 is open"),
        (["a[plan=pro]", "b"], "step 1: character 8: text stands in quotes"),
        (['"a"b', "c"], "step 1: character 4: after a type in quotes"),
    ],
)
def test_steps_that_cannot_be_read_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(InvalidQuestion) as refused:
        parse_steps(texts)

    assert message in str(refused.value)


def test_a_window_is_a_number_and_a_unit() -> None:
    assert [parse_window(text) for text in ("90s", "5m", "12h", "7d", "90d")] == [
        timedelta(seconds=90),
        timedelta(minutes=5),
        timedelta(hours=12),
        timedelta(days=7),
        timedelta(days=90),
    ]


@pytest.mark.parametrize(
    "text", ["", "7", "d", "-1d", "0s", "91d", "1.5h", "7 d", "999999999d", "٣d"]
)
def test_a_window_out_of_bounds_is_refused(text: str) -> None:
    with pytest.raises(InvalidQuestion, match="window: "):
        parse_window(text)
