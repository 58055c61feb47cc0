"""Numbers as whole numbers, exactly; and by size, at most 0.8 % off."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.event.scale import LARGEST, bin_of, bounds_of, middle_of, scale

EXACT = Context(prec=400, rounding=ROUND_HALF_UP)
DECIMALS = st.integers(0, 9)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**30), 10**30), DECIMALS)
def test_a_number_is_scaled_as_decimal_arithmetic_scales_it(number: Any, decimals: int) -> None:
    exact = Decimal(repr(number)).scaleb(decimals, EXACT).to_integral_value(context=EXACT)
    assert scale(number, decimals) == (int(exact) if abs(exact) < LARGEST else None)


@given(st.decimals(-(10**9), 10**9, places=2))
def test_decimal_text_is_the_number_that_it_spells(number: Decimal) -> None:
    assert scale(f"{number:f}", 2) == int(number * 100)


@pytest.mark.parametrize(
    ("value", "scaled"),
    [
        (12.345, 1235),  # half away from zero, as Postgres rounds
        (-12.345, -1235),
        (0.1 + 0.2, 30),
        (1e-300, 0),
        (-0.0, 0),
        (1e300, None),
        (float("inf"), None),
        (float("nan"), None),
        (10**400, None),
        (True, None),
        (None, None),
        ("12.50", 1250),
        ("-3", -300),
        ("1e5", None),
        ("12,5", None),
        ("", None),
        ("٣", None),
        ("1" * 41, None),
        ([1], None),
        ({"a": 1}, None),
    ],
)
def test_what_is_no_number_of_a_usual_size_is_none(value: object, scaled: int | None) -> None:
    assert scale(value, 2) == scaled


@given(st.integers(1, LARGEST - 1), DECIMALS)
def test_a_bin_stands_for_its_numbers_within_08_percent(scaled: int, decimals: int) -> None:
    number, x = bin_of(scaled, decimals), scaled / 10**decimals
    low, high = bounds_of(number)
    assert low <= x < high
    assert abs(middle_of(number) - x) <= 0.008 * x
    assert bin_of(-scaled, decimals) == -number
    assert bounds_of(-number) == (-high, -low)
    assert math.isclose(middle_of(-number), -middle_of(number))


@given(st.integers(-LARGEST + 1, LARGEST - 1), st.integers(-LARGEST + 1, LARGEST - 1))
def test_bins_are_in_the_order_of_their_numbers(one: int, other: int) -> None:
    if one <= other:
        assert bin_of(one, 2) <= bin_of(other, 2)


def test_zero_has_a_bin_of_its_own() -> None:
    assert (bin_of(0, 2), bounds_of(0), middle_of(0)) == (0, (0.0, 0.0), 0.0)
    assert bin_of(1, 9) > 0
