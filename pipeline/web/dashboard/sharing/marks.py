"""Annotations as the marks of a chart."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from pipeline.sharing.annotations import Annotation, Annotations
from pipeline.web.dashboard.charts import line
from pipeline.web.dashboard.page import Asked, Sources

MOST_MARKS = 100
"""Of a chart: the latest."""


@dataclass(frozen=True)
class Marks:
    """The annotations of a range, the latest first, and where they stand in a chart."""

    annotations: Sequence[Annotation]

    def place(self, points: Sequence[str], tz: ZoneInfo) -> list[line.Annotation]:
        """One mark for each point that has any; points are named as series name them."""
        moments = [_find_moment(at, tz) for at in points]
        texts: dict[int, list[str]] = {}
        for one in reversed(self.annotations):
            # The first point of a longer step begins before the range.
            position = bisect_right(moments, one.at) - 1
            if position >= 0:
                texts.setdefault(position, []).append(one.text)
        return [line.Annotation(at, "; ".join(said)) for at, said in texts.items()]


def read_marks(sources: Sources, asked: Asked) -> Marks:
    """The annotations of the days that the page shows, in its time zone."""
    tz = asked.state.tz
    first, last = asked.state.days(asked.now)
    begin = datetime.combine(first, time(), tz)
    end = datetime.combine(last + timedelta(days=1), time(), tz)
    found = Annotations(sources.services.engine).list_newest(begin, end, most=MOST_MARKS)
    return Marks(found)


def _find_moment(at: str, tz: ZoneInfo) -> datetime:
    if "T" in at:
        return datetime.fromisoformat(at)
    return datetime.combine(date.fromisoformat(at), time(), tz)
