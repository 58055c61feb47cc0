"""Sums and distributions are exact, live and stored, whatever the values are."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import ceil
from typing import Any

import pytest

from pipeline.errors import TooManyValues
from pipeline.event.model import Event
from pipeline.reading import sums as reading_sums
from pipeline.reading.sums import PropertySum
from pipeline.services import Services
from tests.conftest import MakeServices
from tests.helpers.support import NOW, TODAY, count_events, event

SUMS = {"sale": {"total": 2, "tax": 0}}
YESTERDAY = TODAY - timedelta(days=1)


@pytest.fixture
def services(make_services: MakeServices) -> Services:
    return make_services(sum=SUMS, count_by={"sale": ["plan", "plan+country"]})


def sale(total: object = None, at: datetime = NOW, **more: Any) -> Event:
    properties = more if total is None else {"total": total, **more}
    return event("sale", properties=properties, timestamp=at)


def live(_: Services) -> None:
    """Counted, not flushed."""


def claimed(services: Services) -> None:
    services.claims.claim("b1", 10_000, (0, 0))


def flushed(services: Services) -> None:
    services.flush()


MOMENTS = pytest.mark.parametrize("until", [live, claimed, flushed], ids=lambda one: one.__name__)
Until = Callable[[Services], None]


@MOMENTS
def test_sums_are_exact_at_every_moment_of_a_flush(services: Services, until: Until) -> None:
    count_events(services, sale(0.1), sale(0.2), sale("12.345"), sale(-3), sale("x"), sale({}))
    count_events(services, sale(1, NOW + timedelta(minutes=15)), sale(5, NOW - timedelta(days=1)))
    until(services)
    count_events(services, sale(10))

    sums = services.stats.sums
    total = sums.read_sum("sale", "total", YESTERDAY, TODAY)
    assert total == PropertySum(Decimal("25.65"), 7, 2)
    assert f"{total.sum:f}" == "25.65"
    assert f"{total.average:f}" == "3.664286"
    days = sums.read_daily_sums("sale", "total", YESTERDAY, TODAY)
    assert {day: one.sum for day, one in days.items()} == {
        YESTERDAY: Decimal("5.00"),
        TODAY: Decimal("20.65"),
    }
    quarters = sums.read_quarter_sums("sale", "total", TODAY, TODAY)
    assert {f"{at:%H:%M}": one.sum for at, one in quarters.items()} == {
        "15:00": Decimal("19.65"),
        "15:15": Decimal("1.00"),
    }
    assert next(iter(quarters)).tzinfo is UTC
    assert sums.read_sum("sale", "tax", TODAY, TODAY) == PropertySum()
    assert sums.read_sum("sal", "total", TODAY, TODAY) == PropertySum()


@MOMENTS
def test_sums_by_value_go_where_their_values_are_counted(
    make_services: MakeServices, until: Until
) -> None:
    services = make_services(sum=SUMS, count_by={"sale": ["plan"]}, values_cap=2)
    plans = ["pro", "free", "pro", "late", "later", "__other__", "pro:x", "a%b"]
    count_events(services, *[sale(n + 0.5, plan=plan) for n, plan in enumerate(plans)])
    count_events(services, sale("x", plan="pro"), sale(plan="pro"), sale("y", plan="later"))
    until(services)

    found = services.stats.sums.read_value_sums(("sale", "total", "plan"), TODAY, TODAY)
    assert found == {
        "__other__": PropertySum(Decimal("27.50"), 5, 1),
        "pro": PropertySum(Decimal("3.00"), 2, 1),
        "free": PropertySum(Decimal("1.50"), 1, 0),
    }
    counts = services.stats.property_counts("sale", "plan", "__other__", TODAY, TODAY)
    assert counts == [(TODAY, 6)]
    assert sum((one.sum for one in found.values()), Decimal()) == Decimal("32.00")


@MOMENTS
def test_large_and_negative_numbers_are_summed_with_all_their_digits(
    services: Services, until: Until
) -> None:
    rng = random.Random(7)
    numbers = [rng.randint(-(10**18), 10**18) for _ in range(300)]
    numbers += [10**19 - 1] * 300
    for first in range(0, len(numbers), 100):
        count_events(services, *[sale(one) for one in numbers[first : first + 100]])
    count_events(services, sale(10**19), sale(-(10**30)), sale(1e300))
    until(services)

    found = services.stats.sums.read_sum("sale", "total", TODAY, TODAY)
    assert found == PropertySum(Decimal(sum(numbers)), len(numbers), 3)
    assert services.status()["dead_letters"] == 0


@MOMENTS
def test_percentiles_are_within_one_percent_of_the_nearest_rank(
    services: Services, until: Until
) -> None:
    rng = random.Random(3)
    numbers = [round(rng.lognormvariate(3, 2) * rng.choice([1, 1, -1]), 2) for _ in range(2_000)]
    numbers += [0, 0, 3]
    for first in range(0, len(numbers), 500):
        count_events(services, *[sale(one) for one in numbers[first : first + 500]])
    until(services)

    found = services.stats.sums.read_distribution("sale", "total", TODAY, TODAY)
    ordered = sorted(numbers)
    assert found.count == len(numbers)
    for percent in (0.1, 1, 25, 50, 75, 90, 95, 99, 100):
        right = ordered[max(1, ceil(percent / 100 * len(ordered))) - 1]
        shown = found.find_percentile(percent)
        assert shown is not None
        assert abs(shown - right) <= 0.0081 * abs(right)
    bars = found.list_bars()
    for low, high, n in bars:
        held = [
            x for x in numbers if 0 < low <= x < high or low < x <= high < 0 or x == low == high
        ]
        assert len(held) == n
    assert sum(n for _, _, n in bars) == len(numbers)


def test_a_percentile_of_small_whole_numbers_is_one_of_them(services: Services) -> None:
    count_events(services, *[sale(tax=n) for n in (1, 2, 2, 3, 7, 30)])
    count_events(services, *[sale(tax=-n) for n in (5,)])
    found = services.stats.sums.read_distribution("sale", "tax", TODAY, TODAY)
    assert [found.find_percentile(p) for p in (1, 20, 50, 75, 90, 100)] == [-5, 1, 2, 7, 30, 30]
    assert services.stats.sums.read_distribution("sale", "x", TODAY, TODAY).count == 0


@MOMENTS
def test_values_that_are_counted_together_are_exact(services: Services, until: Until) -> None:
    both = [("pro", "DE"), ("pro", "DE"), ("free", "FR"), ("a+b", "c\\")]
    count_events(services, *[sale(plan=plan, country=country) for plan, country in both])
    count_events(services, sale(plan="pro"), sale(country="DE"), sale(plan="pro", country=None))
    until(services)

    def count(value: str) -> int:
        return services.stats.property_count("sale", "plan+country", value, TODAY, TODAY)

    assert [count("pro+DE"), count("free+FR"), count(r"a\+b+c\\")] == [2, 1, 1]
    services.flush()
    top = services.stats.top("sale", "plan+country").top
    assert top == [("pro+DE", 2), (r"a\+b+c\\", 1), ("free+FR", 1)]


def test_a_property_with_a_plus_in_its_name_is_counted_as_itself(
    make_services: MakeServices,
) -> None:
    services = make_services(count_by={"sale": ["a+b"]})
    count_events(services, sale(**{"a+b": "x", "a": 1, "b": 2}), sale(a=1, b=2))
    for value in ("x", "1+2"):
        assert services.stats.property_count("sale", "a+b", value, TODAY, TODAY) == 1


def test_more_values_than_one_answer_adds_up_are_refused(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_sums, "MOST_PARTS_OF_VALUES", 5)
    count_events(services, sale(1, plan="a"), sale(2, plan="b"))
    services.flush()
    names = ("sale", "total", "plan")
    assert len(services.stats.sums.read_value_sums(names, TODAY, TODAY)) == 2

    count_events(services, sale(3, plan="c"))
    services.flush()

    with pytest.raises(TooManyValues, match="plan has more values from"):
        services.stats.sums.read_value_sums(names, TODAY, TODAY)
