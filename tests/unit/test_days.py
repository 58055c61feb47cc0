"""Days, ranges and months: what is refused, and the ends of the calendar."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from pipeline.days import (
    begin_month,
    begin_next_month,
    bound_days,
    check_range,
    list_days,
    parse_day,
)


def test_a_day_is_read_from_its_one_spelling() -> None:
    assert parse_day("2026-01-31") == date(2026, 1, 31)


@pytest.mark.parametrize(
    "text", ["20260131", "2026-W05-6", "2026-02-30", "2026-01-31 ", "yesterday", "", "0000-01-01"]
)
def test_any_other_text_is_no_day(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_day(text)


def test_a_range_includes_both_of_its_days() -> None:
    first, last = date(2024, 2, 28), date(2024, 3, 1)

    assert list_days(first, last) == [first, date(2024, 2, 29), last]
    assert bound_days(first, last) == (
        datetime(2024, 2, 28, tzinfo=UTC),
        datetime(2024, 3, 2, tzinfo=UTC),
    )
    check_range(first, last, 3)


def test_a_range_that_ends_with_the_calendar_has_an_end() -> None:
    assert bound_days(date.max, date.max)[1] == datetime.max.replace(tzinfo=UTC)
    assert list_days(date.max, date.max) == [date.max]


def test_a_range_that_is_reversed_or_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="is after the last day, 2026-01-01"):
        check_range(date(2026, 1, 2), date(2026, 1, 1))
    with pytest.raises(ValueError, match="is 3 days before the end; ask for at most 2 days"):
        check_range(date(2026, 1, 1), date(2026, 1, 3), 2)


@pytest.mark.parametrize(
    ("day", "this", "following"),
    [
        (date(2026, 1, 31), date(2026, 1, 1), date(2026, 2, 1)),
        (date(2026, 12, 31), date(2026, 12, 1), date(2027, 1, 1)),
    ],
)
def test_months_begin_on_their_first_day(day: date, this: date, following: date) -> None:
    assert (begin_month(day), begin_next_month(day)) == (this, following)
