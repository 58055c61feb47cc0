"""What a user did in a range, exact and live."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from pipeline.days import count_days, list_days
from pipeline.web.dashboard.charts.bars import BarChart
from pipeline.web.dashboard.charts.chart import Chart
from pipeline.web.dashboard.formats import format_day

_MOST_BARS_OF_DAYS = 92


@dataclass(frozen=True)
class UserCounts:
    """Events of a user by day and by type, most first; days are those of UTC."""

    first: date
    last: date
    by_day: Mapping[date, int]
    by_type: Sequence[tuple[str, int]]

    @property
    def count(self) -> int:
        """All of them."""
        return sum(self.by_day.values())

    @property
    def first_day(self) -> date | None:
        """The first day with events, in the range."""
        return min(self.by_day, default=None)

    @property
    def last_day(self) -> date | None:
        """The last day with events, in the range."""
        return max(self.by_day, default=None)

    def draw(self) -> Chart:
        """Events by day, or by week where the range is long."""
        begins = {day: day for day in list_days(self.first, self.last)}
        step = "day"
        if count_days(self.first, self.last) > _MOST_BARS_OF_DAYS:
            begins, step = {day: day - timedelta(days=day.weekday()) for day in begins}, "week"
        bars = dict.fromkeys(begins.values(), 0)
        for day, n in self.by_day.items():
            bars[begins[day]] += n
        named = [(format_day(day, self.last), float(n)) for day, n in bars.items()]
        return BarChart("days-chart", f"Events by {step}", named, step.capitalize()).draw()


def add_up(counts: Mapping[str, Mapping[date, int]], first: date, last: date) -> UserCounts:
    """The counts of `Stats.counts_of_user` by day and by type."""
    by_day: Counter[date] = Counter()
    by_type: Counter[str] = Counter()
    for event_type, days in counts.items():
        by_day.update(days)
        by_type[event_type] = sum(days.values())
    ordered = sorted(by_type.items(), key=lambda one: (-one[1], one[0]))
    return UserCounts(first, last, dict(sorted(by_day.items())), ordered)
