"""Samples become numbers by stretch of time, and rates."""

from __future__ import annotations

import pytest

from pipeline.upkeep.condition.history import (
    Sample,
    Stretches,
    find_backlog,
    measure_rate,
    spread,
)

MINUTES = Stretches(begin_s=1_000.0, each_s=60.0, number=3)


def samples(field: str, *numbers: tuple[float, int]) -> list[Sample]:
    return [Sample(at_s, {field: number}) for at_s, number in numbers]


def test_a_total_grows_within_stretches_and_a_sample_before_begins_it() -> None:
    found = samples("counted", (985, 100), (1_000, 110), (1_030, 120), (1_060, 150), (1_075, 151))
    assert spread(found, "counted", MINUTES) == [40, 1, None]


def test_a_total_without_a_sample_before_says_nothing_of_its_first() -> None:
    assert spread(samples("counted", (1_030, 500)), "counted", MINUTES) == [None] * 3


def test_a_total_that_shrank_says_nothing() -> None:
    found = samples("counted", (1_010, 500), (1_070, 20), (1_130, 25))
    assert spread(found, "counted", MINUTES) == [None, None, 5]


def test_of_what_waits_the_most_counts() -> None:
    found = samples("queued", (1_010, 5), (1_025, 9), (1_040, 0), (1_130, 0))
    assert spread(found, "queued", MINUTES) == [9, None, 0]


def test_a_field_that_is_not_known_says_nothing() -> None:
    found = [Sample(1_010, {"counted": 1})]
    assert spread(found, "queued", MINUTES) == [None] * 3
    assert measure_rate(found, "queued") is None


def test_the_rate_is_of_the_last_minute() -> None:
    found = samples("counted", (900, 0), (1_000, 1_000), (1_045, 1_450), (1_060, 1_600))
    assert measure_rate(found, "counted") == 10


def test_what_waits_may_become_less_and_a_total_may_not() -> None:
    falling = ((1_000, 90), (1_030, 60))
    assert measure_rate(samples("queued", *falling), "queued") == -1
    assert measure_rate(samples("counted", *falling), "counted") is None
    assert measure_rate(samples("counted", falling[0]), "counted") is None


@pytest.mark.parametrize(
    ("queued", "backlog"),
    [
        ((1_000, 1_500, 1_400, 2_000), (1_000, 2_000)),
        ((2_000, 2_500, 2_100, 1_900), (2_000, 1_900)),
        ((900, 1_500, 1_800, 2_000), None),
        ((1_000, 2_000, 3_000), None),  # of less than a minute
    ],
)
def test_a_queue_that_is_long_for_a_minute_is_a_backlog(
    queued: tuple[int, ...], backlog: tuple[int, int] | None
) -> None:
    samples = [Sample(15.0 * at, {"queued": number}) for at, number in enumerate(queued)]
    assert find_backlog(samples, "queued", 1_000) == backlog
