"""A series of counts, of one event type or of all, as the stats API answers it: the query, its
limits, and the response."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from pipeline.days import count_days
from pipeline.errors import CountedByHour, UnsuitableTimeZone
from pipeline.reading.series.periods import find_zone
from pipeline.reading.series.reader import CountedPeriod, SeriesRequest, limit_days
from pipeline.reading.stats import Stats
from pipeline.web.api.queries import OverviewQuery, SeriesQuery, StepsQuery
from pipeline.web.errors import InvalidParameter, RequestRefused

_MOST_HOURLY_DAYS = 400
"""For a point each hour: the points are the answer."""
_Found = TypeVar("_Found")


class Series:
    """The series that a query asks for. With `compare` it has two periods."""

    def __init__(self, query: SeriesQuery) -> None:
        """Costs little, however long the series is. Raises `InvalidParameter` for a wrong range or
        time zone."""
        self._wanted = _make_request(query.event_type, query)

    def count_counters(self) -> int:
        """How many counters a read looks up, at most."""
        return self._wanted.count_counters()

    def read(self, stats: Stats) -> tuple[dict[str, Any], list[tuple[object, ...]]]:
        """The content of the response, and its rows as a table. One read, hence of one instant.

        Raises `InvalidParameter` for a time zone without exact counts, and `RequestRefused` where a
        part of an hour is asked for that was counted as a whole.
        """
        wanted = self._wanted
        found = _explain_refusal(lambda: stats.read_series(wanted))
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


class Overview:
    """All event types in a range. With `compare`, in two."""

    def __init__(self, query: OverviewQuery) -> None:
        """Raises `InvalidParameter` for a wrong range or time zone."""
        self._wanted, self._limit = _make_request("", query), query.limit

    def read(self, stats: Stats) -> tuple[dict[str, Any], list[tuple[object, ...]]]:
        """The content of the response, and its types as a table: name, events and, where periods
        are compared, those of the period before. One read, hence of one instant.

        Raises as `Series.read` does.
        """
        wanted = self._wanted
        found = _explain_refusal(
            lambda: stats.read_all_types(wanted.ranges(), wanted.granularity, wanted.time_zone)
        )
        before = found.types[0] if wanted.compared else None
        types = {**found.types[-1], **{name: found.types[-1].get(name, 0) for name in before or ()}}
        rows: list[tuple[object, ...]] = [
            (name, n) if before is None else (name, n, before.get(name, 0))
            for name, n in list(types.items())[: self._limit]
        ]
        content = {
            "granularity": wanted.granularity,
            "time_zone": wanted.time_zone,
            **_describe(found.periods[-1]),
            "previous": _describe(found.periods[0]) if wanted.compared else None,
            "types": [
                {"event_type": name, "count": n, "previous": rest[0] if rest else None}
                for name, n, *rest in rows
            ],
            "more": max(0, len(types) - self._limit),
        }
        return content, rows


def _make_request(event_type: str, query: StepsQuery) -> SeriesRequest:
    try:
        first, last = _find_range(query, find_zone(query.time_zone))
        wanted = SeriesRequest(
            event_type, first, last, query.granularity, query.time_zone, query.compare
        )
        wanted.ranges()
    except UnsuitableTimeZone as error:
        raise InvalidParameter("time_zone", str(error)) from error
    except OverflowError as error:
        raise InvalidParameter(
            "compare", "there is no period before that; ask without it"
        ) from error
    return wanted


def _explain_refusal(read: Callable[[], _Found]) -> _Found:
    try:
        return read()
    except UnsuitableTimeZone as error:
        raise InvalidParameter("time_zone", str(error)) from error
    except CountedByHour as error:
        raise RequestRefused(409, "counted_by_hour", str(error), field="from") from error


def _find_range(query: StepsQuery, zone: ZoneInfo) -> tuple[date, date]:
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
