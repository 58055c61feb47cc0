"""Routes of the stats API that count events: count, hourly, series, top, values of properties."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from pipeline.errors import UnsuitableTimeZone
from pipeline.reading.stats import Ranking, Stats
from pipeline.services import Services
from pipeline.web.api import periods
from pipeline.web.api.models import (
    TABLE,
    CountAnswer,
    HourlyAnswer,
    PropertyAnswer,
    SeriesAnswer,
    TopAnswer,
    documented,
)
from pipeline.web.api.periods import Point
from pipeline.web.api.queries import (
    MOST_DAYS,
    MOST_DAYS_BY_HOUR,
    OfType,
    OneDay,
    PropertyInPath,
    PropertyQuery,
    SeriesQuery,
    TopQuery,
    ValueInPath,
    invalid,
    today,
)
from pipeline.web.api.reads import Reads
from pipeline.web.api.tables import ALWAYS_ASK, FOR_SECONDS, Table, answer


def count_routes(stats: Stats, reads: Reads, services: Services) -> APIRouter:
    """The routes, which read `stats`; `services` flushes where a fresh ranking is asked for."""
    router = APIRouter(tags=["counts"], responses=TABLE | documented(422))

    @router.get("/stats/count", response_model=CountAnswer)
    async def count(request: Request, query: Annotated[OfType, Query()]) -> Response:
        """How often an event happened: today, or in a range of days."""
        first, last = query.days()
        counted = await reads.quick(stats.count, query.event_type, first, last)
        found = {"event_type": query.event_type, "from": first, "to": last, "count": counted}
        return answer(request, found, Table("count", list(found), [list(found.values())]))

    @router.get("/stats/hourly", response_model=HourlyAnswer)
    async def hourly(request: Request, query: Annotated[OneDay, Query()]) -> Response:
        """How often an event happened in each hour (UTC) of a day."""
        day = query.date or today()
        counts = await reads.quick(stats.hourly_counts, query.event_type, day)
        rows = [(f"{hour:02}:00", n) for hour, n in enumerate(counts)]
        found = {"event_type": query.event_type, "date": day, "counts": counts}
        return answer(request, found, Table("hourly", ("hour", "count"), rows))

    @router.get("/stats/series", response_model=SeriesAnswer)
    async def series(request: Request, query: Annotated[SeriesQuery, Query()]) -> Response:
        """How often an event happened, hour by hour, day by day, week by week or month by month."""
        wanted = _Series(query)
        found, rows = await reads.quick(wanted.read, stats)
        columns = ("period", "at", "count") if query.compare else ("at", "count")
        return answer(request, found, Table("series", columns, rows))

    @router.get("/stats/top", response_model=TopAnswer)
    async def top(request: Request, query: Annotated[TopQuery, Query()]) -> Response:
        """The users, or values of a property, with the most events, as of the last flush."""
        if query.fresh:
            await reads.work(services.flush)
        ranking = await reads.slow(_top, stats, query)
        found = {
            "event_type": query.event_type,
            "of": query.of,
            "as_of": ranking.as_of,
            "top": [{"value": value, "count": n} for value, n in ranking.top],
        }
        table = Table("top", ("value", "count"), ranking.top)
        return answer(request, found, table, ALWAYS_ASK if query.fresh else FOR_SECONDS)

    @router.get("/properties/{name}/{value:path}/counts", response_model=PropertyAnswer)
    async def values(
        request: Request,
        name: Annotated[PropertyInPath, Path(description="Name of the property")],
        value: Annotated[ValueInPath, Path(description="Its value; a `/` in it as `%2F`")],
        query: Annotated[PropertyQuery, Query()],
    ) -> Response:
        """How often a property of an event had a value, by day."""
        first, last = query.days()
        event_type = query.event_type
        days = await reads.quick(stats.property_counts, event_type, name, value, first, last)
        found = {
            "event_type": event_type,
            "property": name,
            "value": value,
            "from": first,
            "to": last,
            "count": sum(n for _, n in days),
            "days": [{"date": day, "count": n} for day, n in days],
            "counted": name in services.options.counters.count_by.get(event_type, ()),
        }
        return answer(request, found, Table("values", ("date", "count"), days))

    return router


def _top(stats: Stats, query: TopQuery) -> Ranking:
    first, last = query.range() or (None, None)
    return stats.top(query.event_type, query.of, first, last, query.limit)


class _Series:
    """A series that was asked for: which points, and of which counters they are the sums."""

    def __init__(self, query: SeriesQuery) -> None:
        """Raises `Refused` for a range or zone of which there are no exact counts."""
        self._query = query
        try:
            self._zone = periods.zone(query.time_zone)
            self._by_hour = query.granularity == "hour" or query.time_zone != "UTC"
            most = MOST_DAYS_BY_HOUR if self._by_hour else MOST_DAYS
            days = query.range(most) or (today(), today())
            self._ranges = [days]
            if query.compare:
                self._ranges.insert(0, periods.before(*days))
            self._points = [self._of(*one) for one in self._ranges]
        except UnsuitableTimeZone as error:
            raise invalid("time_zone", str(error)) from error
        except OverflowError as error:
            raise invalid("compare", "there is no period before that; ask without it") from error

    def _of(self, first: Any, last: Any) -> list[Point]:
        return periods.points(first, last, self._query.granularity, self._zone)

    def read(self, stats: Stats) -> tuple[dict[str, Any], list[tuple[object, ...]]]:
        """The answer, and its rows as a table. One read, and so of one instant."""
        every = [point for points in self._points for point in points]
        first, last = periods.utc_days(every)
        step = timedelta(hours=1) if self._by_hour else timedelta(days=1)
        by = "hour" if self._by_hour else "day"
        counts = [n for _, n in stats.series(self._query.event_type, first, last, by)]  # type: ignore[arg-type]
        found = dict(zip(every, periods.sums(every, first, step, counts), strict=True))
        answers = [
            self._period(days, points, found)
            for days, points in zip(self._ranges, self._points, strict=True)
        ]
        previous = answers[0] if self._query.compare else None
        query = self._query
        rows: list[tuple[object, ...]] = [
            (*(["previous" if one is previous else "current"] if previous else []), *point.values())
            for one in answers
            for point in one["series"]
        ]
        head = {
            "event_type": query.event_type,
            "granularity": query.granularity,
            "time_zone": query.time_zone,
        }
        return head | answers[-1] | {"previous": previous}, rows

    @staticmethod
    def _period(days: Any, points: list[Point], found: dict[Point, int]) -> dict[str, Any]:
        first, last = days
        return {
            "from": first,
            "to": last,
            "count": sum(found[point] for point in points),
            "series": [{"at": point.at, "count": found[point]} for point in points],
        }
