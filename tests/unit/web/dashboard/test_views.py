"""What the pages of a type, a user and raw events compute without a server."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.event.model import Event
from pipeline.event.scale import bounds_of
from pipeline.reading.sums import Distribution
from pipeline.web.dashboard.event_rows import list_event_rows
from pipeline.web.dashboard.event_type.properties import join_bins
from pipeline.web.dashboard.explore.search import bound_range
from pipeline.web.dashboard.state import PageState
from pipeline.web.dashboard.user.reading import add_up

NOW = datetime(2026, 3, 14, 12, tzinfo=UTC)


@given(st.dictionaries(st.integers(-5_000, 9_000), st.integers(1, 10**6), max_size=80))
def test_bars_hold_all_numbers_and_lie_side_by_side(bins: dict[int, int]) -> None:
    bars = join_bins(Distribution(bins), 24)
    assert sum(n for _, _, n in bars) == sum(bins.values())
    assert len(bars) <= 24
    for one, following in pairwise(bars):
        assert one[0] < one[1] <= following[0]
    if bins:
        assert bars[0][0] == bounds_of(min(bins))[0]
        assert bars[-1][1] == bounds_of(max(bins))[1]


def test_a_user_is_added_up_by_day_and_by_type() -> None:
    days = [date(2026, 3, day) for day in (2, 3, 9)]
    found = add_up({"a": {days[0]: 1, days[2]: 2}, "b": {days[0]: 4}}, days[0], days[2])
    assert found.count == 7
    assert found.by_day == {days[0]: 5, days[2]: 2}
    assert found.by_type == [("b", 4), ("a", 3)]
    assert (found.first_day, found.last_day) == (days[0], days[2])
    assert [row[1] for row in found.draw().table.rows] == ["5", "0", "0", "0", "0", "0", "0", "2"]


def test_long_ranges_are_drawn_by_week() -> None:
    first, last = date(2026, 1, 1), date(2026, 12, 31)
    chart = add_up({"a": {date(2026, 1, 4): 1, date(2026, 1, 5): 2}}, first, last).draw()
    assert chart.title == "Events by week"
    assert [row[1] for row in chart.table.rows[:3]] == ["1", "2", "0"]


def test_a_user_without_events_has_no_days() -> None:
    found = add_up({}, date(2026, 1, 1), date(2026, 1, 2))
    assert (found.count, found.first_day, found.last_day) == (0, None, None)


@pytest.mark.parametrize(
    ("zone", "hours"), [("UTC", 24), ("Europe/Berlin", 23), ("America/New_York", 24)]
)
def test_a_day_of_a_zone_is_as_long_as_it_is(zone: str, hours: int) -> None:
    day = date(2026, 3, 29)  # clocks go forward in Berlin
    begin, end = bound_range((day, day), ZoneInfo(zone))
    assert end - begin == timedelta(hours=hours)


def test_rows_of_events_lead_to_their_type_and_user_and_cut_long_properties() -> None:
    event = Event.create("a&b", "u/1", now=NOW, properties={"long": "x" * 1_000})
    [row] = list_event_rows([event], PageState(zone="Asia/Tokyo", event_type="other"), NOW)
    assert row.time == "21:00:00"
    assert row.moment == "2026-03-14T12:00:00+00:00"
    assert row.type_url == "/dashboard/type?zone=Asia%2FTokyo&type=a%26b"
    assert row.user_url == "/dashboard/user?zone=Asia%2FTokyo&user=u%2F1"
    assert row.properties.endswith("…")
    assert len(row.properties) == 301
    assert row.rest.endswith('x"}')
