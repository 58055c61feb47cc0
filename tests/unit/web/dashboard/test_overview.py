"""What the overview compares and leaves out, by the time of day."""

from __future__ import annotations

from datetime import UTC, date, datetime

from pipeline.reading.series.reader import CountedPeriod
from pipeline.web.dashboard.overview.reading import Events

NOON = datetime(2026, 3, 14, 12, 10, tzinfo=UTC)
TODAY = NOON.date()


def make_events(days: list[int], first: date, counts: list[int], before: list[int]) -> Events:
    def make(of: list[int]) -> CountedPeriod:
        named = [(f"{first.replace(day=day)}", n) for day, n in zip(days, of, strict=True)]
        return CountedPeriod(first.replace(day=days[0]), first.replace(day=days[-1]), named)

    return Events(make(counts), make(before), {}, {}, "day", TODAY)


def test_days_to_come_are_not_drawn_and_not_compared() -> None:
    events = make_events([13, 14, 15, 16], TODAY, [5, 2, 0, 0], [4, 4, 4, 4])
    assert [n for _, n in events.list_points(NOON)] == [5, 2, None, None]
    assert events.count_before(NOON) == 8
    assert events.note(NOON) == "until then"


def test_events_of_clocks_that_are_ahead_are_drawn() -> None:
    events = make_events([13, 14, 15, 16], TODAY, [5, 2, 1, 0], [4, 4, 4, 4])
    assert [n for _, n in events.list_points(NOON)] == [5, 2, 1, None]


def test_a_day_that_goes_on_says_that_it_is_compared_with_a_whole_one() -> None:
    assert make_events([14], TODAY, [2], [4]).note(NOON) == "from whole days"
    assert make_events([13], TODAY, [2], [4]).note(NOON) == ""
    assert make_events([12, 13, 14], TODAY, [2, 2, 2], [4, 4, 4]).note(NOON) == ""
