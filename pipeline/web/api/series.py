"""A series of counts: the points of a query, and their counts from one exact read."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import islice
from typing import Any

from pipeline.days import MOST_DAYS, count_days, today
from pipeline.errors import UnsuitableTimeZone
from pipeline.reading import periods
from pipeline.reading.periods import Point
from pipeline.reading.stats import Stats
from pipeline.web.api.queries import MAX_DAYS_BY_HOUR, MOST_HOURLY_DAYS, SeriesQuery
from pipeline.web.errors import InvalidParameter

_Range = tuple[date, date]


class Series:
    """The series that a query asks for: its points, and whether they are sums of days or of hours.

    With `compare` it has two periods, the previous one first.
    """

    def __init__(self, query: SeriesQuery) -> None:
        """Costs little, however long the series is. Raises `InvalidParameter` for a wrong range or
        time zone."""
        self._query = query
        self._by_hour = query.granularity == "hour" or query.time_zone != "UTC"
        try:
            self._zone = periods.find_zone(query.time_zone)
            self._ranges = [_find_range(query, self._by_hour)]
            days = self._ranges[0]
            if query.compare:
                self._ranges.insert(0, periods.find_previous_range(*days))
        except UnsuitableTimeZone as error:
            raise InvalidParameter("time_zone", str(error)) from error
        except OverflowError as error:
            raise InvalidParameter(
                "compare", "there is no period before that; ask without it"
            ) from error

    def count_counters(self) -> int:
        """How many counters a read looks up, about."""
        days = sum(count_days(*one) for one in self._ranges)
        return days * 24 if self._by_hour else days

    def read(self, stats: Stats) -> tuple[dict[str, Any], list[tuple[object, ...]]]:
        """The content of the response, and its rows as a table. One read, hence of one instant.

        Raises `InvalidParameter` for a time zone without exact counts.
        """
        query, listed = self._query, self._list_points()
        found = [
            _describe(*one)
            for one in zip(self._ranges, listed, self._count_points(stats, listed), strict=True)
        ]
        content = {
            "event_type": query.event_type,
            "granularity": query.granularity,
            "time_zone": query.time_zone,
            **found[-1],
            "previous": found[0] if query.compare else None,
        }
        names = [("previous",), ("current",)] if query.compare else [()]
        rows = [
            (*name, *point.values())
            for name, period in zip(names, found, strict=True)
            for point in period["series"]
        ]
        return content, rows

    def _list_points(self) -> list[list[Point]]:
        try:
            return [
                periods.list_points(*one, self._query.granularity, self._zone)
                for one in self._ranges
            ]
        except UnsuitableTimeZone as error:
            raise InvalidParameter("time_zone", str(error)) from error

    def _count_points(self, stats: Stats, listed: list[list[Point]]) -> list[list[int]]:
        """The counts of the points of each range."""
        every = [point for points in listed for point in points]
        first, last = periods.find_utc_days(every)
        step = timedelta(hours=1) if self._by_hour else timedelta(days=1)
        by = "hour" if self._by_hour else "day"
        counts = [n for _, n in stats.series(self._query.event_type, first, last, by)]  # type: ignore[arg-type]
        sums = iter(periods.sum_points(every, first, step, counts))
        return [list(islice(sums, len(points))) for points in listed]


def _find_range(query: SeriesQuery, by_hour: bool) -> _Range:
    if query.granularity != "hour":
        days = query.range(MAX_DAYS_BY_HOUR if by_hour else MOST_DAYS)
    elif (days := query.range()) and (n := count_days(*days)) > MOST_HOURLY_DAYS:
        raise InvalidParameter(
            "from",
            f"{days[0]} is {n} days before the end; ask for at most {MOST_HOURLY_DAYS} days at a "
            "time by hour, or for granularity=day",
        )
    return days or (today(), today())


def _describe(days: _Range, points: list[Point], counts: list[int]) -> dict[str, Any]:
    first, last = days
    return {
        "from": first,
        "to": last,
        "count": sum(counts),
        "series": [{"at": point.at, "count": n} for point, n in zip(points, counts, strict=True)],
    }
