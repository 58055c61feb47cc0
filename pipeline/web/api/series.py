"""A series of counts as the stats API answers it: the query, its limits, and the response."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from pipeline.days import count_days
from pipeline.errors import CountedByHour, UnsuitableTimeZone
from pipeline.reading.series.periods import find_zone
from pipeline.reading.series.reader import CountedPeriod, SeriesRequest, limit_days
from pipeline.reading.stats import Stats
from pipeline.web.api.queries import SeriesQuery
from pipeline.web.errors import InvalidParameter, RequestRefused

_MOST_HOURLY_DAYS = 400
"""For a point each hour: the points are the answer."""


class Series:
    """The series that a query asks for. With `compare` it has two periods."""

    def __init__(self, query: SeriesQuery) -> None:
        """Costs little, however long the series is. Raises `InvalidParameter` for a wrong range or
        time zone."""
        try:
            first, last = _find_range(query, find_zone(query.time_zone))
            self._wanted = SeriesRequest(
                query.event_type, first, last, query.granularity, query.time_zone, query.compare
            )
            self._wanted.ranges()
        except UnsuitableTimeZone as error:
            raise InvalidParameter("time_zone", str(error)) from error
        except OverflowError as error:
            raise InvalidParameter(
                "compare", "there is no period before that; ask without it"
            ) from error

    def count_counters(self) -> int:
        """How many counters a read looks up, at most."""
        return self._wanted.count_counters()

    def read(self, stats: Stats) -> tuple[dict[str, Any], list[tuple[object, ...]]]:
        """The content of the response, and its rows as a table. One read, hence of one instant.

        Raises `InvalidParameter` for a time zone without exact counts, and `RequestRefused` where a
        part of an hour is asked for that was counted as a whole.
        """
        wanted = self._wanted
        try:
            found = stats.read_series(wanted)
        except UnsuitableTimeZone as error:
            raise InvalidParameter("time_zone", str(error)) from error
        except CountedByHour as error:
            raise RequestRefused(409, "counted_by_hour", str(error), field="from") from error
        content = {
            "event_type": wanted.event_type,
            "granularity": wanted.granularity,
            "time_zone": wanted.time_zone,
            **_describe(found[-1]),
            "previous": _describe(found[0]) if wanted.compared else None,
        }
        names = [("previous",), ("current",)] if wanted.compared else [()]
        rows = [
            (*name, at, n)
            for name, period in zip(names, found, strict=True)
            for at, n in period.points
        ]
        return content, rows


def _find_range(query: SeriesQuery, zone: ZoneInfo) -> tuple[date, date]:
    """The days, today's of the zone where none are given."""
    today = datetime.now(zone).date()
    most = limit_days(query.granularity, query.time_zone)
    if query.granularity not in {"quarter_hour", "hour"}:
        return query.range(most, today) or (today, today)
    most = min(most, _MOST_HOURLY_DAYS)
    days = query.range(end=today) or (today, today)
    if (n := count_days(*days)) > most:
        step = query.granularity.replace("_", " ")
        raise InvalidParameter(
            "from",
            f"{days[0]} is {n} days before the end; ask for at most {most} days at a time by "
            f"{step}, or for granularity=day",
        )
    return days


def _describe(period: CountedPeriod) -> dict[str, Any]:
    return {
        "from": period.first,
        "to": period.last,
        "count": period.count,
        "series": [{"at": at, "count": n} for at, n in period.points],
    }
