from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InvalidCondition
from pipeline.reading.conditions.language import Both, Comparison, Condition, Not, parse_condition
from pipeline.reading.conditions.matching import matches, split_properties
from tests.helpers.journeys.conditions import conditions, write

PRO = Comparison("plan", "=", ("pro",))


@given(conditions)
def test_a_condition_is_read_as_it_is_written(condition: Condition) -> None:
    assert parse_condition(write(condition)) == condition


def test_or_binds_weaker_than_and_and_not_binds_strongest() -> None:
    found = parse_condition(
        'not plan = "pro" and total < 10 or coupon exists and "a b" contains "x"'
    )

    assert found == Both(
        True,
        (
            Both(False, (Not(PRO), Comparison("total", "<", (Decimal(10),)))),
            Both(False, (Comparison("coupon", "exists"), Comparison("a b", "contains", ("x",)))),
        ),
    )


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("", 1, "no condition"),
        ("plan", 5, "is due here"),
        ("plan = pro", 8, 'write "pro"'),
        ('plan == "pro"', 6, "write ="),
        ('plan <> "pro"', 6, "write !="),
        ('a = "x" && b = 1', 9, "write and"),
        ('plan = "pro', 8, "closing"),
        ('plan = "pro" country = "DE"', 14, "join two"),
        ('(plan = "pro"', 14, "add )"),
        ('plan = "pro")', 13, "never opened"),
        ("in = 1", 1, "needs quotes"),
        ('country not in ("DE")', 9, "stands before"),
        ('country in "DE"', 12, "in parentheses"),
        ('country in ("DE" "FR")', 18, "a comma or )"),
        ("a contains 5", 12, "takes text"),
        ("a < true", 5, "no order"),
        ("a = 1e301", 5, "exponent"),
        ("a = " + "1" * 101, 5, "100 characters"),
        ('a = "\\n"', 6, "backslash"),
        ("a = 5%", 6, "is not known"),
        ('a = "\x00"', 6, "holds this character"),
        ("(" * 22 + "a = 1" + ")" * 22, 22, "20 deep"),
        ("not " * 22 + "a = 1", 85, "20 deep"),
        (" or ".join(["a = 1"] * 51), 451, "50 times"),
        (f"a in ({', '.join(['1'] * 101)})", 308, "100 values"),
        ("a" * 4_001, 4_001, "4,000 characters"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_position(
    text: str, position: int, reason: str
) -> None:
    with pytest.raises(InvalidCondition, match=r"^character \d+: ") as refused:
        parse_condition(text)

    assert reason in str(refused.value)
    assert refused.value.position == position


@given(st.text(st.sampled_from("ab =<>!()\"'\\,.-0123456789eE\x00é\ud800andornotincontainsexists")))
def test_any_text_is_read_or_refused(text: str) -> None:
    condition = None
    with suppress(InvalidCondition):
        condition = parse_condition(text)

    assert condition is None or matches(condition, {}) in (True, False)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('plan = "pro"', True),
        ('plan != "free"', True),
        ('missing != "free"', True),
        ('missing = "free"', False),
        ("missing exists", False),
        ("nothing exists", False),
        ("total = 12.50", True),
        ("total > 12 and total <= 12.5", True),
        ('total = "12.5"', True),
        ("text = 12.5", False),
        ("huge > 1e300", True),
        ('day >= "2026-01-02" and day < "2026-02"', True),
        ("day > 5", False),
        ('list contains "DE"', True),
        ('country in ("FR", "DE")', False),
        ("paid = true", True),
        ('paid = "true"', True),
        ("text = true", False),
    ],
)
def test_conditions_mean_what_the_page_says(text: str, wanted: bool) -> None:
    properties = split_properties(
        '{"plan":"pro","nothing":null,"total":12.5,"text":"12.50","huge":1e400,'
        '"day":"2026-01-31","list":["DE"],"paid":true,"country":"de"}'
    )

    assert matches(parse_condition(text), properties) is wanted
